//! Who is denied until when, as this process was told.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use huntaze_domain::ids::UserId;
use jiff::Timestamp;

/// So many users are remembered, some 200 bytes each. Who is forgotten is asked about again, no more.
const MAX_USERS: usize = 1_000;

/// The denials that stand. By the wall clock: the other may stand still while the environment is frozen.
#[derive(Default)]
pub(super) struct Denials(Mutex<HashMap<UserId, Range<Timestamp>>>);

impl Denials {
    /// A denial was told, that stands for so long.
    pub(super) fn remember(&self, user: &UserId, since: Timestamp, wait: Duration) {
        let Ok(until) = since.checked_add(wait) else { return };
        let mut denials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if denials.len() >= MAX_USERS {
            denials.retain(|_, stands| stands.contains(&since));
        }
        if denials.len() >= MAX_USERS {
            denials.clear();
        }
        denials.insert(user.clone(), since..until);
    }

    /// How much longer this user is denied. A clock that was set back to before the denial says nothing about it.
    pub(super) fn left(&self, user: &UserId, now: Timestamp) -> Option<Duration> {
        let denials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = denials.get(user).filter(|stands| stands.contains(&now))?;
        stands.end.duration_since(now).try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(2_500);

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000_000_000 + millis).unwrap()
    }

    #[test]
    fn a_denial_counts_down_stands_to_its_end_and_is_nobody_elses() {
        let (denials, ana) = (Denials::default(), user("ana"));
        denials.remember(&ana, at(0), WAIT);
        let left = |millis: i64| denials.left(&ana, at(millis)).map(|left| left.as_millis());
        assert_eq!([0, 1, 2_499].map(left), [Some(2_500), Some(2_499), Some(1)]);
        assert_eq!([2_500, 60_000, -1].map(left), [None; 3], "after its end, and on a clock that was set back");
        assert_eq!(denials.left(&user("bob"), at(1)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (denials, names) = (Denials::default(), |n: usize| user(&format!("user-{n}")));
        let known = || denials.0.lock().unwrap().len();
        for n in 0..MAX_USERS {
            denials.remember(&names(n), at(0), if n % 2 == 0 { WAIT } else { WAIT * 2 });
        }
        assert_eq!(known(), MAX_USERS);
        // First those go whose denial is over.
        denials.remember(&user("ana"), at(3_000), WAIT);
        assert_eq!((known(), denials.left(&names(1), at(3_000)).is_some()), (MAX_USERS / 2 + 1, true));
        for n in 0..=MAX_USERS {
            denials.remember(&names(n), at(3_000), WAIT);
        }
        assert!(known() <= MAX_USERS && denials.left(&names(MAX_USERS), at(3_000)).is_some());
    }
}
