//! Where a user stands in a rollout.

use std::io::Cursor;

use huntaze_domain::ids::UserId;

/// A share of users in whole percent, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percentage(u8);

impl Percentage {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self(100);

    /// `None` above 100.
    #[must_use]
    pub fn new(percent: u64) -> Option<Self> {
        u8::try_from(percent).ok().filter(|percent| *percent <= 100).map(Self)
    }

    /// 0 to 100.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

/// One of 100 parts of all users, 1 to 100. A user's is the same for ever, and is another one in another group: so one
/// rollout says nothing of who is in the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    /// `murmur3_x86_32(group + ":" + user) mod 100 + 1`, as the Unleash SDKs have it.
    #[must_use]
    pub fn of(group: &str, user: &UserId) -> Self {
        let hash = hash(0, format!("{group}:{user}").as_bytes());
        Self(u8::try_from(hash % 100).unwrap_or_default() + 1)
    }

    /// 1 to 100.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// Whether it is in the share. It stays in every larger one.
    #[must_use]
    pub fn is_in(self, share: Percentage) -> bool {
        self.0 <= share.0
    }
}

pub(crate) fn hash(seed: u32, bytes: &[u8]) -> u32 {
    #[expect(clippy::expect_used, reason = "it reads from memory, which does not fail")]
    murmur3::murmur3_32(&mut Cursor::new(bytes), seed).expect("memory is read")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../vectors.json")).unwrap()
    }

    fn users(count: u32) -> impl Iterator<Item = UserId> {
        (0..count).map(|n| UserId::parse(&format!("user-{n}")).unwrap())
    }

    /// How many of 200,000 it is so of, in tenths of a percent.
    fn tenths(is_so: impl Fn(&UserId) -> bool) -> u64 {
        users(200_000).filter(is_so).count() as u64 / 200
    }

    #[test]
    fn buckets_are_those_of_the_published_vectors() {
        for vector in vectors()["buckets"].as_array().unwrap() {
            let user = UserId::parse(vector["id"].as_str().unwrap()).unwrap();
            let bucket = Bucket::of(vector["group"].as_str().unwrap(), &user);
            assert_eq!(u64::from(bucket.get()), vector["bucket"].as_u64().unwrap(), "{vector}");
        }
        for vector in vectors()["murmur3_x86_32_seed_0"].as_array().unwrap() {
            let key = vector["key"].as_str().unwrap();
            assert_eq!(u64::from(hash(0, key.as_bytes())), vector["hash"].as_u64().unwrap(), "{vector}");
        }
    }

    #[test]
    fn each_step_holds_its_share_of_200_000_users() {
        for percent in [1, 5, 25, 50, 99, 100, 0] {
            let share = Percentage::new(percent).unwrap();
            let tenths = tenths(|user| Bucket::of("hybrid-orchestrator", user).is_in(share));
            assert!(tenths.abs_diff(percent * 10) < 3, "{percent} % are {tenths} in 1,000");
        }
    }

    #[test]
    fn two_groups_are_independent() {
        let half = Percentage::new(50).unwrap();
        let both = tenths(|user| ["a", "b"].iter().all(|group| Bucket::of(group, user).is_in(half)));
        assert!(both.abs_diff(250) < 3, "{both} in 1,000 are in both halves");
    }

    #[test]
    fn more_than_everybody_is_no_share() {
        assert_eq!(Percentage::new(100), Some(Percentage::ALL));
        for odd in [101, 256, u64::MAX] {
            assert_eq!(Percentage::new(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn design_raising_the_percentage_never_takes_a_user_out(
            group in "[ -~]{0,40}", id in "[!-~]{1,128}", low in 0_u64..=100, high in 0_u64..=100,
        ) {
            let (low, high) = (low.min(high), low.max(high));
            let bucket = Bucket::of(&group, &UserId::parse(&id).unwrap());
            prop_assert!((1..=100).contains(&bucket.get()));
            let is_in = |percent| bucket.is_in(Percentage::new(percent).unwrap());
            prop_assert!(!is_in(low) || is_in(high));
            prop_assert!(!is_in(0) && is_in(100));
        }
    }
}
