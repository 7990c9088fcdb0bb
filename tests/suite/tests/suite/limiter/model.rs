//! The limiter as the design says it, without a thought of speed: what its scripts are held against. And the question that both
//! answer to: how many messages can have arrived in a window at most?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use huntaze_domain::ids::UserId;
use huntaze_domain::intent::MessageType;
use huntaze_messaging::limiter::{Bound, Of};

/// What a layer says: how many more, microseconds until that is one more, whether it denies.
pub(crate) type Said = (u32, u64, bool);

/// Whether it is granted, whether there was a permit, and what each layer says.
pub(crate) type Decision = (bool, bool, Vec<Said>);

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap()
}

/// Who sends to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) account: String,
    pub(crate) user: UserId,
    pub(crate) recipient: String,
    pub(crate) kind: MessageType,
}

impl Who {
    /// Whether a message of another counts for a layer that this one is asked about.
    pub(crate) fn shares(&self, other: &Self, of: Of) -> bool {
        let account = self.account == other.account;
        match of {
            Of::Account | Of::Recipients => account,
            Of::Recipient => account && self.recipient == other.recipient,
            Of::Type(kind) => account && other.kind == kind,
            Of::User => self.user == other.user,
            Of::Everyone => true,
        }
    }
}

/// Every permit, by its account and its id: whose it is, and until when its call may reach the fan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model(BTreeMap<String, BTreeMap<String, (Who, u64)>>);

impl Model {
    /// Decides, as `acquire.lua` does: whether it grants, whether there was a permit, and what each layer says. Where it is known what was
    /// decided, that is what is done.
    pub(crate) fn acquire(
        &mut self,
        now: u64,
        id: &str,
        who: &Who,
        hold: u64,
        bounds: &[Bound],
        known: Option<bool>,
    ) -> Decision {
        let before = self.0.entry(who.account.clone()).or_default().remove(id);
        // One that has counted out is none.
        let widest = bounds.iter().map(|bound| micros(bound.window)).max().unwrap_or_default();
        let before = before.filter(|(_, until)| until + widest > now);
        let repeated = before.is_some();
        let mut said: Vec<_> = bounds.iter().map(|bound| self.say(now, who, bound)).collect();
        let granted = !said.iter().any(|(_, _, denied)| *denied);
        let until = before.as_ref().map_or(0, |(_, until)| *until);
        let kept = if known.unwrap_or(granted) { Some((who.clone(), until.max(now + hold))) } else { before };
        let log = self.0.entry(who.account.clone()).or_default();
        log.extend(kept.map(|permit| (id.to_owned(), permit)));
        if granted {
            // What is left behind it; it is not denied itself where that is nothing.
            let left = bounds.iter().map(|bound| self.say(now, who, bound));
            said = left.map(|(left, reset, _)| (left, reset, false)).collect();
        }
        (granted, repeated, said)
    }

    /// The call of an account's message has ended.
    pub(crate) fn ended(&mut self, now: u64, account: &str, id: &str) {
        if let Some((_, until)) = self.0.get_mut(account).and_then(|log| log.get_mut(id)) {
            *until = now.min(*until);
        }
    }

    /// The ids that have a permit.
    pub(crate) fn ids(&self) -> BTreeSet<&str> {
        self.0.values().flat_map(|log| log.keys().map(String::as_str)).collect()
    }

    /// Everything was so much earlier.
    pub(crate) fn age(&mut self, by: u64) {
        for (_, until) in self.0.values_mut().flat_map(BTreeMap::values_mut) {
            *until -= by;
        }
    }

    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }

    /// The permits that can count for a layer.
    fn permits(&self, who: &Who, of: Of) -> impl Iterator<Item = &(Who, u64)> + Clone {
        let all = matches!(of, Of::User | Of::Everyone);
        self.0.iter().filter(move |(account, _)| all || **account == who.account).flat_map(|(_, log)| log.values())
    }

    fn say(&self, now: u64, who: &Who, bound: &Bound) -> Said {
        let window = micros(bound.window);
        let of = bound.layer.of;
        let counting = self.permits(who, of).filter(|(other, until)| until + window > now && who.shares(other, of));
        let mut ends: Vec<u64> = counting.clone().map(|(_, until)| *until).collect();
        let mut known = false;
        if of == Of::Recipients {
            let mut latest = BTreeMap::new();
            for (other, until) in counting {
                let end = latest.entry(&other.recipient).or_insert(*until);
                *end = (*end).max(*until);
            }
            known = latest.contains_key(&who.recipient);
            ends = latest.into_values().collect();
        }
        ends.sort_unstable();
        let (limit, count) = (bound.limit as usize, ends.len());
        // A call under way may end now.
        let reset = ends.get(count - count.min(limit)).map_or(0, |end| end.min(&now) + window - now);
        (u32::try_from(limit.saturating_sub(count)).unwrap(), reset, count >= limit && !known)
    }
}

/// A message that a fan got at some moment from the first to the last.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) who: Who,
    pub(crate) granted: u64,
    pub(crate) ended: u64,
}

/// The most messages, or different fans, that any window can have seen, whenever within its bounds each has arrived: the windows
/// that end right before the end of each grant are enough, for others see no more.
pub(crate) fn most_in_a_window(arrivals: &[Arrival], bound: &Bound) -> usize {
    let window = micros(bound.window);
    let of = bound.layer.of;
    // A type's layer is no other type's business.
    let asked = arrivals.iter().filter(|last| !matches!(of, Of::Type(kind) if kind != last.who.kind));
    let seen = asked.map(|last| {
        let seen = arrivals.iter().filter(|other| {
            last.who.shares(&other.who, of) && other.granted <= last.granted && other.ended + window > last.granted
        });
        if of == Of::Recipients {
            seen.map(|other| &other.who.recipient).collect::<BTreeSet<_>>().len()
        } else {
            seen.count()
        }
    });
    seen.max().unwrap_or_default()
}

/// A bucket that holds so many tokens and gets as many in each window, full at first, fed with the same arrivals: those that it lets
/// through, and the most of them in a window.
pub(crate) fn token_bucket(asked: &[u64], size: u64, window: u64) -> usize {
    let (mut tokens, mut filled_at) = (size * window, asked.first().copied().unwrap_or_default());
    let mut passed: Vec<u64> = Vec::new();
    for &at in asked {
        tokens = (tokens + (at - filled_at) * size).min(size * window);
        filled_at = at;
        if tokens >= window {
            tokens -= window;
            passed.push(at);
        }
    }
    passed
        .iter()
        .map(|last| passed.iter().filter(|at| *at <= last && *at + window > *last).count())
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use huntaze_messaging::limiter::LAYERS;
    use proptest::prelude::*;

    use super::*;

    const HOLD: u64 = 400;

    impl Model {
        /// What is there and has not counted out.
        fn counting(&self, now: u64) -> Vec<(&String, u64)> {
            let permits = self.0.values().flatten().map(|(id, (_, until))| (id, *until));
            permits.filter(|(_, until)| until + 900 > now).collect()
        }
    }

    /// What happens next: so much later a message is asked about, or the call of one that was granted ends.
    #[derive(Debug, Clone)]
    enum Step {
        Ask { later: u64, account: u8, recipient: u8, kind: MessageType, id: u16 },
        End { later: u64, which: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let later = prop_oneof![3 => 0..20u64, 1 => 90..=110u64, 1 => 0..600u64];
        let ask = (
            later.clone(),
            0..3u8,
            0..4u8,
            proptest::sample::select(super::super::watching::KINDS.to_vec()),
            0..400u16,
        );
        let ask =
            ask.prop_map(|(later, account, recipient, kind, id)| Step::Ask { later, account, recipient, kind, id });
        let end = (later, any::<prop::sample::Index>());
        let end = end.prop_map(|(later, which)| Step::End { later, which: which.index(1 << 20) });
        proptest::collection::vec(prop_oneof![4 => ask, 2 => end], 1..150)
    }

    fn bounds(kind: MessageType) -> Vec<Bound> {
        let one = |n: usize, limit: u32, window: u64| {
            let layer = &LAYERS[n];
            let applies = !matches!(layer.of, Of::Type(of) if of != kind);
            applies.then_some(Bound { layer, limit, window: Duration::from_micros(window) })
        };
        let all = [
            one(0, 4, 100),
            one(1, 8, 400),
            one(2, 14, 900),
            one(3, 2, 100),
            one(4, 3, 400),
            one(5, 3, 400),
            one(6, 3, 400),
            one(7, 4, 400),
            one(8, 5, 900),
            one(9, 2, 100),
            one(10, 10, 400),
            one(11, 3, 50),
        ];
        all.into_iter().flatten().collect()
    }

    fn who(account: u8, recipient: u8, kind: MessageType) -> Who {
        Who {
            account: format!("account{account}"),
            user: UserId::parse(&format!("user{}", account / 2)).unwrap(),
            recipient: format!("fan{recipient}"),
            kind,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn no_course_of_events_passes_a_limit_and_what_is_told_of_waiting_is_exact(steps in steps()) {
            let (mut model, mut now) = (Model::default(), 1_000_000);
            let (mut calls, mut arrivals): (BTreeSet<String>, BTreeMap<String, Arrival>) = Default::default();
            for step in steps {
                match step {
                    Step::Ask { later, account, recipient, kind, id } => {
                        now += later + 1;
                        let (id, who, bounds) = (format!("m{id}"), who(account, recipient, kind), bounds(kind));
                        // A message that is there keeps whom it is for.
                        let who = arrivals.get(&id).map_or(who, |arrival| arrival.who.clone());
                        if who.kind != kind {
                            continue;
                        }
                        let before = model.clone();
                        let (granted, _, said) = model.acquire(now, &id, &who, HOLD, &bounds, None);
                        if granted && (calls.contains(&id) || !arrivals.contains_key(&id)) {
                            // It calls from now on, the first time or because it has not yet: the answer was lost.
                            let _ = (calls.insert(id.clone()), arrivals.insert(id, Arrival { who, granted: now, ended: now + HOLD }));
                        } else if !granted {
                            prop_assert_eq!(model.counting(now), before.counting(now), "a denial changes something");
                            let wait = said.iter().filter(|said| said.2).map(|said| said.1).max().unwrap();
                            // Where all calls end now and nobody else asks, it is granted then, and not sooner.
                            let mut quiet = model.clone();
                            for (_, until) in quiet.0.values_mut().flat_map(BTreeMap::values_mut) {
                                *until = (*until).min(now);
                            }
                            prop_assert!(!quiet.clone().acquire(now + wait - 1, &id, &who, HOLD, &bounds, None).0);
                            prop_assert!(quiet.acquire(now + wait, &id, &who, HOLD, &bounds, None).0);
                        }
                    }
                    Step::End { later, which } => {
                        now += later + 1;
                        let Some(id) = calls.iter().nth(which % calls.len().max(1)).cloned() else { continue };
                        let _ = calls.remove(&id);
                        // No call takes longer than its hold.
                        let arrival = arrivals.get_mut(&id).unwrap();
                        if now <= arrival.ended {
                            arrival.ended = now;
                            model.ended(now, &arrival.who.account, &id);
                        }
                    }
                }
            }
            let arrivals: Vec<_> = arrivals.into_values().collect();
            for kind in [MessageType::Welcome, MessageType::FollowUp, MessageType::Promotional, MessageType::Custom] {
                for bound in bounds(kind) {
                    let most = most_in_a_window(&arrivals, &bound);
                    prop_assert!(most <= bound.limit as usize, "{}: {most}", bound.layer.name);
                }
            }
        }
    }

    #[test]
    fn a_token_bucket_lets_nearly_twice_as_many_through() {
        let asked: Vec<_> = (0..60_000).map(|n| n * 1_000).collect();
        assert_eq!(token_bucket(&asked, 10, 60_000_000), 19);
    }
}
