//! Tags of HTML, which whoever reads a text may not see: `tele<b></b>gram`.

/// The longest tag, in bytes: a longer one hides too little.
const LONGEST: usize = 200;

/// The text with nothing that is seen in place of its tags, byte for byte; `None` where there is none.
pub(crate) fn without(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut rest = text.to_owned().into_bytes();
    let (mut at, mut is_other) = (0, false);
    while let Some(from) = bytes[at..].iter().position(|byte| *byte == b'<').map(|found| at + found) {
        at = from + 1;
        if let Some(length) = tag(&bytes[from..bytes.len().min(from + LONGEST)]) {
            rest[from..from + length].fill(0x7F);
            (at, is_other) = (from + length, true);
        }
    }
    String::from_utf8(rest).ok().filter(|_| is_other)
}

/// How long the tag is that begins here.
fn tag(bytes: &[u8]) -> Option<usize> {
    let name = bytes.get(1).filter(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!'));
    let end = bytes.iter().position(|byte| *byte == b'>').filter(|_| name.is_some())?;
    Some(end + 1)
}

#[cfg(test)]
mod tests {
    use huntaze_domain::intent::ComplianceLevel;

    use super::*;
    use crate::judge::judge;

    #[test]
    fn a_tag_hides_nothing_that_is_around_it_or_in_it() {
        for text in [
            "my tele<b></b>gram channel",
            "my te<i class=\"é\">le</i>gr<!-- x -->am channel",
            "<my telegram channel>",
            "I <3 you, my tele<b>gram</b> channel",
        ] {
            let found = judge(text, ComplianceLevel::Strict).findings;
            assert!(found.iter().any(|found| found.category == "contact"), "{text}: {found:?}");
        }
        assert_eq!([without("1 < 2 > 0"), without("I <3 you"), without("a < b")], [None, None, None]);
        assert_eq!(without("a<br>b").as_deref(), Some("a\u{7f}\u{7f}\u{7f}\u{7f}b"));
    }
}
