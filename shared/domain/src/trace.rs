//! The trace that a request belongs to, as the headers of two worlds name it.
//!
//! [W3C Trace Context](https://www.w3.org/TR/trace-context/) says `traceparent: 00-<32 hex>-<16 hex>-<flags>`, AWS X-Ray says
//! `X-Amzn-Trace-Id: Root=1-<8 hex>-<24 hex>;Parent=<16 hex>;Sampled=0|1`. The two ids are the same 32 digits, parted elsewhere.

use std::fmt;

/// A trace's id and whether it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    id: String,
    sampled: bool,
}

impl Trace {
    /// A trace of this id, which is not recorded unless somebody upstream says so.
    ///
    /// `None` unless the id is 32 lower-case hexadecimal digits that are not all zero.
    #[must_use]
    pub fn new(id: impl Into<String>, sampled: bool) -> Option<Self> {
        Some(Self { id: id.into(), sampled }).filter(|trace| is_hex(&trace.id, 32))
    }

    /// A trace that begins here, of sixteen random bytes; not recorded. The id that is all zero is no id.
    #[must_use]
    pub fn begin(random: u128) -> Self {
        Self { id: format!("{:032x}", random.max(1)), sampled: false }
    }

    /// Reads `traceparent`. Later versions may add parts behind the flags; version `ff` is none.
    #[must_use]
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (known, flags) = (byte(version)? < 255, byte(flags)?);
        let whole = version != "00" || parts.next().is_none();
        if known && whole && is_hex(parent, 16) { Self::new(id, flags & 1 == 1) } else { None }
    }

    /// Reads `X-Amzn-Trace-Id`.
    #[must_use]
    pub fn from_xray(header: &str) -> Option<Self> {
        let part = |name: &str| header.split(';').find_map(|part| part.trim().strip_prefix(name));
        let (epoch, unique) = part("Root=1-")?.split_once('-')?;
        let parted = epoch.len() == 8 && unique.len() == 24;
        Self::new(format!("{epoch}{unique}"), part("Sampled=") == Some("1")).filter(|_| parted)
    }

    /// The id: 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The `traceparent` of a call made in this trace, by the span of that call.
    #[must_use]
    pub fn traceparent(&self, span: SpanId) -> String {
        format!("00-{}-{span}-{:02x}", self.id, u8::from(self.sampled))
    }

    /// The `X-Amzn-Trace-Id` of a call made in this trace.
    #[must_use]
    pub fn xray(&self) -> String {
        let (epoch, unique) = self.id.split_at(8);
        format!("Root=1-{epoch}-{unique};Sampled={}", u8::from(self.sampled))
    }
}

/// The id of one call in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(u64);

impl SpanId {
    /// Of eight random bytes. The id that is all zero is no id.
    #[must_use]
    pub fn new(random: u64) -> Self {
        Self(random.max(1))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Two hexadecimal digits; `from_str_radix` alone would take a sign for the first.
fn byte(text: &str) -> Option<u8> {
    let is_hex = text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit());
    u8::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

fn is_hex(id: &str, digits: usize) -> bool {
    id.len() == digits && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) && id.bytes().any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5759e988bd862e3fe1be46a994272793";

    #[test]
    fn both_headers_name_the_same_trace() {
        let w3c = Trace::from_traceparent(&format!("00-{ID}-53995c3f42cd8ad8-01")).unwrap();
        let xray =
            Trace::from_xray("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1").unwrap();
        assert_eq!((w3c.id(), &w3c), (ID, &xray));
        assert_eq!(Trace::from_traceparent(&w3c.traceparent(SpanId::new(7))), Some(w3c.clone()));
        assert_eq!(Trace::from_xray(&w3c.xray()), Some(w3c));
        let unsampled = Trace::from_xray("Sampled=0; Root=1-5759e988-bd862e3fe1be46a994272793").unwrap();
        assert_eq!(unsampled.traceparent(SpanId::new(0)), format!("00-{ID}-0000000000000001-00"));
    }

    #[test]
    fn what_is_no_trace_is_not_taken() {
        let span = "53995c3f42cd8ad8";
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("00-{ID}-{span}"),
            format!("ff-{ID}-{span}-01"),
            format!("+0-{ID}-{span}-01"),
            format!("00-{ID}-{span}-+1"),
            format!("00-{ID}-{span}-1"),
            format!("00-{ID}-{span}-01-more"),
            format!("00-{ID}-0000000000000000-01"),
            format!("00-{}-{span}-01", ID.to_uppercase()),
            format!("00-{}-{span}-01", "0".repeat(32)),
            "Root=1-a-b".to_owned(),
            format!("Root=1-{ID}"),
        ] {
            assert_eq!(Trace::from_traceparent(&bad).or_else(|| Trace::from_xray(&bad)), None, "{bad}");
        }
        assert!(Trace::from_traceparent(&format!("01-{ID}-{span}-01-more")).is_some());
    }
}
