//! What is asked for: the range, whose costs, which page of users, and in which form.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::{HeaderMap, header};
use huntaze_costs::owner::Owner;
use huntaze_costs::range::Range;
use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::money::Usd;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::Call;
use huntaze_lambda::problem::Problem;

const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// A request that is valid.
pub(crate) struct Query {
    pub(crate) owner: Owner,
    pub(crate) range: Range,
    pub(crate) page: Page,
    pub(crate) csv: bool,
}

/// A page of the users, who are ordered by what they spent.
pub(crate) struct Page {
    after: Option<(Usd, UserId)>,
    limit: usize,
}

impl Query {
    pub(crate) fn read(call: &Call, principal: &Principal) -> Result<Self, Problem> {
        let owner = call.owner_or_everyone(principal)?.into();
        let (start, end) = (call.parameter("startDate")?, call.parameter("endDate")?);
        let (after, limit) = (call.parameter("cursor")?, call.parameter("limit")?);
        let after =
            after.map(|text| read_cursor(text).ok_or(("cursor", "is not a `nextCursor` of this list".to_owned())));
        let limit = limit.map_or(Ok(DEFAULT_LIMIT), |text| {
            let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
            limit.ok_or(("limit", format!("must be a whole number from 1 to {MAX_LIMIT}")))
        });
        match (Range::parse(start, end), after.transpose(), limit) {
            (Ok(range), Ok(after), Ok(limit)) => {
                Ok(Self { owner, range, page: Page { after, limit }, csv: wants_csv(&call.headers) })
            }
            (range, after, limit) => {
                let others = [after.err(), limit.err()].into_iter().flatten();
                let others = others.map(|(name, detail)| FieldFault { pointer: name.to_owned(), detail });
                Err(Problem::invalid(range.err().into_iter().flatten().chain(others).collect()))
            }
        }
    }
}

impl Page {
    /// Its part of the list, dearest first, and the cursor of the next page.
    pub(crate) fn of(&self, users: Vec<(UserId, Usd)>) -> (Vec<(UserId, Usd)>, Option<String>) {
        // As the list is ordered: less spent, or the same and a later id.
        let is_behind = |(user, cost): &(UserId, Usd)| {
            self.after.as_ref().is_none_or(|(after, id)| cost < after || (cost == after && user > id))
        };
        let mut page: Vec<_> = users.into_iter().filter(is_behind).collect();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        let next = page.last().filter(|_| more).map(|(user, cost)| BASE64.encode(format!("{cost} {user}")));
        (page, next)
    }
}

fn read_cursor(text: &str) -> Option<(Usd, UserId)> {
    let text = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
    let (cost, user) = text.split_once(' ')?;
    Some((Usd::parse(cost).ok()?, UserId::parse(user).ok()?))
}

/// Whether `Accept` names CSV, and JSON not as gladly. What else it names is answered with JSON.
fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (mut csv, mut json) = (0, 0);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = weight.map_or(1_000, thousandths);
        if media_type.eq_ignore_ascii_case("text/csv") {
            csv = csv.max(weight);
        } else if media_type.eq_ignore_ascii_case("application/json") {
            json = json.max(weight);
        }
    }
    csv > json
}

/// A weight of RFC 9110: 0 to 1 with at most three decimals. Anything else weighs nothing.
fn thousandths(weight: &str) -> u32 {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|digit| digit.is_ascii_digit());
    match whole {
        "0" if digits => format!("{decimals:0<3}").parse().unwrap_or(0),
        "1" if digits => 1_000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_answered_where_it_is_liked_better_than_json() {
        let wants = |accept: &str| wants_csv(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]));
        for csv in
            ["text/csv", "Text/CSV; charset=utf-8", "text/csv, */*;q=0.1", "application/json;q=0.5,text/csv;q=0.51"]
        {
            assert!(wants(csv), "{csv}");
        }
        for json in [
            "",
            "*/*",
            "text/*",
            "text/csv;q=0",
            "application/json, text/csv",
            "text/csv;q=0.9,application/json",
            "text/csv;q=x",
        ] {
            assert!(!wants(json), "{json}");
        }
        assert!(!wants_csv(&HeaderMap::new()));
    }

    #[test]
    fn pages_of_users_are_whole_and_meet() {
        let user = |id: &str, cost: &str| (UserId::parse(id).unwrap(), Usd::parse(cost).unwrap());
        let all = vec![user("a", "3"), user("b", "2"), user("c", "2"), user("d", "2"), user("e", "0.1")];
        let (mut seen, mut after) = (Vec::new(), None);
        for _ in 0..3 {
            let (page, next) = Page { after: after.take(), limit: 2 }.of(all.clone());
            seen.extend(page);
            after = next.map(|cursor| read_cursor(&cursor).unwrap());
        }
        assert_eq!((seen, after), (all, None));
        for bad in ["", "!", "YQ", "YSBi", &BASE64.encode("1 "), &BASE64.encode("x ana")] {
            assert_eq!(read_cursor(bad), None, "{bad}");
        }
    }
}
