//! Lists in pages: how many entries, and behind which one they begin.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use huntaze_domain::ids::MAX_ID_BYTES;
use jiff::{SignedDuration, Timestamp};

use crate::api::Call;
use crate::problem::Problem;

/// No page is larger.
pub const MAX_LIMIT: u8 = 100;

/// A place in a list that is ordered by time: an entry's moment, and its id among those of the same moment.
pub type Place = (Timestamp, String);

impl Call {
    /// `limit`: how many entries a page has at the most.
    ///
    /// # Errors
    /// 400
    pub fn limit(&self, default: u8) -> Result<u8, Problem> {
        let Some(text) = self.parameter("limit")? else { return Ok(default) };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| Problem::invalid_field("limit", format!("must be a whole number from 1 to {MAX_LIMIT}")))
    }

    /// `cursor`: the entry behind which the page begins.
    ///
    /// # Errors
    /// 400
    pub fn cursor(&self) -> Result<Option<Place>, Problem> {
        let read = |text| {
            read(text).ok_or_else(|| Problem::invalid_field("cursor", "must be the `nextCursor` of an earlier answer"))
        };
        self.parameter("cursor")?.map(read).transpose()
    }

    /// `days`: the moment since which is asked, so many days ago.
    ///
    /// # Errors
    /// 400
    pub fn since(&self, default: i64, most: i64) -> Result<Timestamp, Problem> {
        let days = self.parameter("days")?.map_or(Some(default), |text| text.parse().ok());
        let days = days.filter(|days| (1..=most).contains(days));
        let days =
            days.ok_or_else(|| Problem::invalid_field("days", format!("must be a whole number from 1 to {most}")))?;
        Ok(self.now - SignedDuration::from_hours(24 * days))
    }
}

/// The cursor that leads behind an entry.
#[must_use]
pub fn cursor((at, id): &Place) -> String {
    BASE64.encode(format!("{at} {id}"))
}

fn read(text: &str) -> Option<Place> {
    let text = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
    let (at, id) = text.split_once(' ')?;
    // The times of some stores begin later than the parser's.
    let at = at.parse().ok().filter(|at| *at >= Timestamp::UNIX_EPOCH)?;
    let fits = (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| (at, id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let place = ("2026-11-21T12:00:00.123Z".parse().unwrap(), "wf_1".to_owned());
        assert_eq!(read(&cursor(&place)), Some(place));
        for odd in ["x", "2026-11-21T12:00:00Z", "-009998-01-01T00:00:00Z wf_x", "2026-11-21T12:00:00Z a b"] {
            assert_eq!(read(&BASE64.encode(odd)), None, "{odd}");
        }
        assert_eq!(read("!!"), None);
    }
}
