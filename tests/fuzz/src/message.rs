//! The form of an input that has headers: a first line, a header a line, an empty line, a body. It can be read and written by
//! hand, and with a line more or less it is an input again.

use http::{HeaderMap, HeaderName, HeaderValue};

/// An input, taken apart. What is missing is empty.
pub(crate) struct Message<'a> {
    pub(crate) first_line: &'a str,
    pub(crate) headers: Vec<(HeaderName, &'a [u8])>,
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// A line that is no header is left out.
    pub(crate) fn read(data: &'a [u8]) -> Self {
        let (first_line, mut rest) = line(data);
        let mut headers = Vec::new();
        while !rest.is_empty() {
            let (header, after) = line(rest);
            rest = after;
            if header.is_empty() {
                break;
            }
            let Some(colon) = header.iter().position(|byte| *byte == b':') else { continue };
            if let Ok(name) = HeaderName::from_bytes(&header[..colon]) {
                headers.push((name, header[colon + 1..].trim_ascii()));
            }
        }
        Self { first_line: str::from_utf8(first_line).unwrap_or_default(), headers, body: rest }
    }

    /// The headers with values of `value`'s making. What no header can hold is left out.
    pub(crate) fn header_map(&self, mut value: impl FnMut(&[u8]) -> Vec<u8>) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, text) in &self.headers {
            if let Ok(value) = HeaderValue::from_bytes(&value(text)) {
                map.append(name, value);
            }
        }
        map
    }
}

/// The first line and what is behind it.
fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_line_headers_and_a_body() {
        let message = Message::read(b"POST\nOrigin: a: b \nno header\nx-empty:\n\nbody\n\nmore");
        assert_eq!((message.first_line, message.body), ("POST", &b"body\n\nmore"[..]));
        let headers: Vec<_> = message.headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(headers, [("origin", &b"a: b"[..]), ("x-empty", b"")]);
        assert!(Message::read(b"").headers.is_empty());
    }
}
