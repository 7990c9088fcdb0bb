//! JSON from outside: bounded, and every fault named by its JSON pointer (RFC 6901).

use serde_json::{Map, Value};

use crate::error::FieldFault;

/// The largest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
/// How deep objects and lists may nest. A brief is flat; 32 is ample, and far below what would strain a stack.
pub const MAX_DEPTH: usize = 32;

/// Reads a JSON object.
///
/// # Errors
/// The faults: too large, not UTF-8, not JSON, not an object, nested deeper than [`MAX_DEPTH`], or a text with a NUL
/// character, which the stores cannot keep.
pub fn parse_object(body: &[u8]) -> Result<Map<String, Value>, Vec<FieldFault>> {
    let root = |detail: String| vec![FieldFault { pointer: String::new(), detail }];
    if body.len() > MAX_BODY_BYTES {
        return Err(root(format!("must be at most {MAX_BODY_BYTES} bytes")));
    }
    let text = std::str::from_utf8(body)
        .map_err(|fault| root(format!("must be UTF-8; the fault is at byte {}", fault.valid_up_to())))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value: Value = serde_path_to_error::deserialize(&mut deserializer).map_err(|fault| {
        vec![FieldFault { pointer: pointer_of(fault.path()), detail: format!("is not JSON: {}", fault.inner()) }]
    })?;
    deserializer.end().map_err(|fault| root(format!("is not JSON: {fault}")))?;
    let mut faults = Vec::new();
    check_tree(&value, &mut String::new(), 0, &mut faults);
    match value {
        Value::Object(map) if faults.is_empty() => Ok(map),
        Value::Object(_) => Err(faults),
        _ => Err(root("must be an object".to_owned())),
    }
}

/// Reads the fields of a body; what was read counts if nothing is wrong with any.
///
/// # Errors
/// Every fault that was found, each with its JSON pointer.
pub fn read_object<T>(body: &[u8], read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Vec<FieldFault>> {
    let map = parse_object(body)?;
    let mut faults = Vec::new();
    match read(&mut Fields::new(&map, "", &mut faults)) {
        Some(value) if faults.is_empty() => Ok(value),
        _ => Err(faults),
    }
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter().take(MAX_DEPTH) {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } => push(&mut pointer, key),
            Segment::Enum { .. } | Segment::Unknown => break,
        }
    }
    pointer
}

/// Adds one reference token to a pointer, escaped and cut to a length that an answer can carry. A NUL character, which no store
/// or log keeps, is replaced.
fn push(pointer: &mut String, token: &str) {
    pointer.push('/');
    pointer.extend(token.chars().take(64).flat_map(|c| match c {
        '~' => vec!['~', '0'],
        '/' => vec!['~', '1'],
        '\0' => vec![char::REPLACEMENT_CHARACTER],
        other => vec![other],
    }));
}

fn check_tree(value: &Value, pointer: &mut String, depth: usize, faults: &mut Vec<FieldFault>) {
    if faults.len() >= MAX_FAULTS {
        return;
    }
    let length = pointer.len();
    match value {
        Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => {
            add(faults, pointer, format!("is nested deeper than {MAX_DEPTH} levels"));
        }
        Value::String(text) if text.contains('\0') => {
            add(faults, pointer, "must not contain a NUL character".to_owned());
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                push(pointer, &index.to_string());
                check_tree(item, pointer, depth + 1, faults);
                pointer.truncate(length);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                push(pointer, key);
                if key.contains('\0') {
                    add(faults, pointer, "must not have a name with a NUL character".to_owned());
                }
                check_tree(item, pointer, depth + 1, faults);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// No answer lists more faults than this.
const MAX_FAULTS: usize = 50;

/// Adds a fault, if there is room for it.
fn add(faults: &mut Vec<FieldFault>, pointer: &str, detail: String) {
    if faults.len() < MAX_FAULTS {
        faults.push(FieldFault { pointer: pointer.to_owned(), detail });
    }
}

/// Reads the fields of one object and collects what is wrong with them.
///
/// A field that is `null` counts as absent, as JavaScript clients send it.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    faults: &'a mut Vec<FieldFault>,
}

impl<'a> Fields<'a> {
    /// Reads an object; `pointer` is where it stands in the body.
    #[must_use]
    pub fn new(map: &'a Map<String, Value>, pointer: &str, faults: &'a mut Vec<FieldFault>) -> Self {
        Self { map, pointer: pointer.to_owned(), faults }
    }

    /// Adds a fault of a field.
    pub fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.add(&[name], detail.into());
    }

    /// A fault of one item of a list.
    pub fn fault_at(&mut self, name: &str, index: usize, detail: impl Into<String>) {
        self.add(&[name, &index.to_string()], detail.into());
    }

    fn add(&mut self, tokens: &[&str], detail: String) {
        let mut pointer = self.pointer.clone();
        tokens.iter().for_each(|token| push(&mut pointer, token));
        add(self.faults, &pointer, detail);
    }

    /// Whether the field is there, also as `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Whether the field is there as `null`.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_null)
    }

    /// The field read by `read`; a value that it does not take is a fault. `None` if absent or faulty.
    pub fn optional<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        let taken = read(value);
        if taken.is_none() {
            self.fault(name, format!("must be {expected}"));
        }
        taken
    }

    /// The field's own fields, read by `read`. `None` if absent or no object.
    pub fn within<T>(&mut self, name: &str, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Option<T> {
        let map = self.optional(name, "an object", Value::as_object)?;
        let mut pointer = self.pointer.clone();
        push(&mut pointer, name);
        read(&mut Fields { map, pointer, faults: self.faults })
    }

    /// As [`Self::within`], of one item of a list. `None` if there is none, or it is no object.
    pub fn within_list<T>(
        &mut self,
        name: &str,
        index: usize,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<T> {
        let item = self.map.get(name)?.as_array()?.get(index)?;
        let Some(map) = item.as_object() else {
            self.fault_at(name, index, "must be an object");
            return None;
        };
        let mut pointer = self.pointer.clone();
        [name, &index.to_string()].iter().for_each(|token| push(&mut pointer, token));
        read(&mut Fields { map, pointer, faults: self.faults })
    }

    /// As [`Self::optional`], and its absence is a fault as well.
    pub fn required<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        if self.map.get(name).is_none_or(Value::is_null) {
            self.fault(name, format!("is required: {expected}"));
            return None;
        }
        self.optional(name, expected, read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointers(body: &[u8]) -> Vec<String> {
        parse_object(body).expect_err("faulty").into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn each_fault_is_named_by_its_pointer() {
        assert_eq!(pointers(br#"{"a": {"b": [1, NaN]}}"#), ["/a/b/1"]);
        assert_eq!(pointers(br#"{"a/b": "x\u0000", "c~": ["\u0000"]}"#), ["/a~1b", "/c~0/0"]);
        for body in [&b""[..], b"[]", b"null", b"{} {}", b"{\"a\": \"\xff\"}", b"\xef\xbb\xbf{}"] {
            assert_eq!(pointers(body), [""], "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn no_pointer_has_a_nul_character() {
        assert_eq!(pointers(br#"{"a\u0000": {"b": "\u0000"}}"#), ["/a\u{fffd}", "/a\u{fffd}/b"]);
        assert_eq!(pointers(br#"{"a\u0000": NaN}"#), ["/a\u{fffd}"]);
    }

    #[test]
    fn faults_are_bounded() {
        let many = |entry: fn(usize) -> String| (0..MAX_FAULTS * 2).map(entry).collect::<Vec<_>>().join(",");
        for body in [
            format!("{{{}}}", many(|n| format!(r#""{n}\u0000": 1"#))),
            format!(r#"{{"a": [{}]}}"#, many(|_| r#""\u0000""#.to_owned())),
        ] {
            assert_eq!(pointers(body.as_bytes()).len(), MAX_FAULTS, "{body}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert!(parse_object(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(pointers(nested(MAX_DEPTH + 1).as_bytes()), ["/a".repeat(MAX_DEPTH)]);
        assert_eq!(pointers(nested(100_000 / 6).as_bytes()), ["/a".repeat(MAX_DEPTH)]);
        let padded = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
        assert!(parse_object(padded(MAX_BODY_BYTES).as_bytes()).is_ok());
        assert_eq!(pointers(padded(MAX_BODY_BYTES + 1).as_bytes()), [""]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse_object(&bytes);
        }
    }
}
