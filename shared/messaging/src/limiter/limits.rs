//! How much may be sent: the configuration, and what is another for an account.

use std::collections::BTreeMap;
use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::error::FieldFault;
use huntaze_domain::json::Fields;
use serde_json::{Map, Value};

use super::Subject;
use super::layer::{Bound, LAYERS, Layer, Of, Span};

/// No limit is higher: a log has a member for each message of its longest window, and is read as a whole.
pub const MAX_LIMIT: u32 = 5_000;
const MAX_SHARDS: u32 = 64;

/// What becomes of a message that a layer has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It waits.
    Enforce,
    /// It is sent, and what enforcing would have done is told.
    Monitor,
}

/// The limits of the configuration.
#[derive(Debug, Clone)]
pub struct Limits {
    pub(super) mode: Mode,
    /// Over so many shards the accounts are spread.
    pub(super) shards: u16,
    /// By the layer's name.
    of: BTreeMap<&'static str, u32>,
    windows: [Duration; 4],
}

impl Limits {
    /// Reads `RATE_LIMIT_MODE`, `RATE_LIMIT_SHARDS`, each layer's own variable, and the windows.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let mode = match env.or("RATE_LIMIT_MODE", "enforce").trim() {
            "monitor" => Mode::Monitor,
            "enforce" => Mode::Enforce,
            _ => {
                env.fault("RATE_LIMIT_MODE", "must be `enforce` or `monitor`");
                Mode::Enforce
            }
        };
        let of = LAYERS.iter().filter_map(|layer| Some((layer.name, limit(env, layer)?))).collect();
        let mut limits = Self { mode, shards: 1, of, windows: windows(env) };
        limits.shards = limits.shards(env);
        limits
    }

    /// Each shard has its share of what everyone together may send, and that is at least one.
    fn shards(&self, env: &Env) -> u16 {
        let everyone =
            LAYERS.iter().filter(|layer| layer.of == Of::Everyone).filter_map(|layer| self.of.get(layer.name));
        let most = everyone.copied().fold(MAX_SHARDS, u32::min);
        let shards = env.parsed("RATE_LIMIT_SHARDS", 1);
        if !(1..=most).contains(&shards) {
            let fault = format!("must be 1 to {MAX_SHARDS}, and no more than everyone's messages a second");
            env.fault("RATE_LIMIT_SHARDS", fault);
        }
        u16::try_from(shards.max(1)).unwrap_or(1)
    }

    /// The layers that say something of a subject, with what an account's overrides make of them.
    pub(super) fn of(&self, subject: &Subject<'_>) -> Vec<Bound> {
        let applies = |layer: &&Layer| match layer.of {
            Of::Recipient => subject.recipient.is_some(),
            Of::Type(kind) => subject.kind.is_none_or(|asked| asked == kind),
            _ => true,
        };
        let bound = |layer: &'static Layer| {
            let limit = *subject.overrides.0.get(layer.name).or_else(|| self.of.get(layer.name))?;
            let limit = if layer.of == Of::Everyone { limit / u32::from(self.shards) } else { limit };
            Some(Bound { layer, limit, window: self.window(layer.span) })
        };
        LAYERS.iter().filter(applies).filter_map(bound).collect()
    }

    pub(super) fn window(&self, span: Span) -> Duration {
        self.windows[span as usize]
    }
}

fn limit(env: &Env, layer: &Layer) -> Option<u32> {
    let read = |text: &str| text.trim().parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    match env.optional(layer.variable) {
        None => layer.default,
        Some(text) => {
            env.check(layer.variable, read(&text).ok_or(format!("must be a whole number from 1 to {MAX_LIMIT}")))
        }
    }
}

/// The windows: the contract's, or shorter ones for tests.
fn windows(env: &Env) -> [Duration; 4] {
    const WINDOWS: [(&str, u64); 4] = [
        ("RATE_LIMIT_SECOND_MS", 1_000),
        ("RATE_LIMIT_MINUTE_MS", 60_000),
        ("RATE_LIMIT_HOUR_MS", 3_600_000),
        ("RATE_LIMIT_DAY_MS", 86_400_000),
    ];
    let mut shorter = 1;
    WINDOWS.map(|(name, longest)| {
        let millis = env.parsed(name, longest);
        if !(shorter..=longest).contains(&millis) {
            env.fault(name, format!("must be at most {longest} milliseconds, and no less than the window before it"));
        }
        shorter = millis;
        Duration::from_millis(millis)
    })
}

/// An account's own limits, by the names of their layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(BTreeMap<&'static str, u32>);

impl Overrides {
    /// Reads an object of layers' names and limits, from a request or from the account's row. `pointer` is where it stands.
    ///
    /// # Errors
    /// Every fault: a name that is none of an account's layers, a limit that is not 1 to [`MAX_LIMIT`].
    pub fn parse(limits: &Map<String, Value>, pointer: &str) -> Result<Self, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let mut fields = Fields::new(limits, pointer, &mut faults);
        let own = || LAYERS.iter().filter(|layer| layer.of.is_the_accounts());
        for name in limits.keys().filter(|name| own().all(|layer| layer.name != name.as_str())) {
            fields.fault(name, "is no limit of an account");
        }
        let expected = format!("a whole number from 1 to {MAX_LIMIT}");
        let read = |value: &Value| value.as_u64()?.try_into().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        let limits =
            own().filter_map(|layer| Some((layer.name, fields.optional(layer.name, &expected, read)?))).collect();
        if faults.is_empty() { Ok(Self(limits)) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use huntaze_domain::ids::{AccountId, UserId};
    use huntaze_domain::intent::MessageType;
    use serde_json::json;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn faults(pairs: &[(&str, &str)]) -> Vec<String> {
        let env = env(pairs);
        let limits = Limits::from_env(&env);
        env.finish(Some(limits)).unwrap_err().0
    }

    fn overrides(limits: Value) -> Result<Overrides, Vec<FieldFault>> {
        Overrides::parse(limits.as_object().unwrap(), "/limits")
    }

    fn bounds(
        pairs: &[(&str, &str)],
        recipient: Option<&str>,
        kind: Option<MessageType>,
        overrides: &Overrides,
    ) -> Vec<(&'static str, u32, u64)> {
        let (account, user) = (AccountId::parse("acc").unwrap(), UserId::parse("ana").unwrap());
        let env = env(pairs);
        let limits = env.finish(Some(Limits::from_env(&env))).unwrap();
        let bounds = limits.of(&Subject { account: &account, user: &user, recipient, kind, overrides });
        bounds.iter().map(|bound| (bound.layer.name, bound.limit, bound.window.as_secs())).collect()
    }

    #[test]
    fn the_limits_are_the_contracts_unless_they_are_set() {
        let none = Overrides::default();
        let own = [
            ("account_minute", 10, 60),
            ("account_hour", 100, 3_600),
            ("account_day", 500, 86_400),
            ("recipient_minute", 2, 60),
            ("recipient_hour", 10, 3_600),
            ("recipients_hour", 50, 3_600),
        ];
        let global = ("global_second", 5, 1);
        for (kind, layer) in [
            (MessageType::Welcome, ("welcome_hour", 20, 3_600)),
            (MessageType::FollowUp, ("follow_up_hour", 30, 3_600)),
            (MessageType::Promotional, ("promotional_day", 50, 86_400)),
            (MessageType::Custom, ("custom_minute", 5, 60)),
        ] {
            assert_eq!(bounds(&[], Some("fan"), Some(kind), &none), [&own[..], &[layer, global]].concat());
        }
        let set = [("RATE_LIMIT_USER_PER_HOUR", "70"), ("RATE_LIMIT_ACCOUNT_PER_MINUTE", "3")];
        let set = bounds(&set, Some("fan"), Some(MessageType::Custom), &none);
        assert_eq!((set[0].1, set[7]), (3, ("user_hour", 70, 3_600)));
        let names: Vec<_> = bounds(&[], None, None, &none).into_iter().map(|bound| bound.0).collect();
        assert_eq!(names.len(), 9, "without a fan and a type: the account's, each type's and everyone's: {names:?}");
    }

    #[test]
    fn everyones_limit_is_shared_by_the_shards() {
        let pairs = [("RATE_LIMIT_SHARDS", "3"), ("RATE_LIMIT_GLOBAL_PER_SECOND", "11")];
        let bounds = bounds(&pairs, None, None, &Overrides::default());
        assert_eq!(bounds.last(), Some(&("global_second", 3, 1)));
    }

    #[test]
    fn every_fault_of_the_configuration_is_named() {
        for layer in LAYERS {
            for bad in ["0", "5001", "-1", "ten"] {
                let [fault] = &faults(&[(layer.variable, bad)])[..] else { panic!("{bad}") };
                assert!(fault.starts_with(layer.variable), "{fault}");
            }
        }
        let all = faults(&[
            ("RATE_LIMIT_MODE", "off"),
            ("RATE_LIMIT_MINUTE_MS", "60001"),
            ("RATE_LIMIT_DAY_MS", "0"),
            ("RATE_LIMIT_SHARDS", "6"),
        ]);
        let named: Vec<_> = all.iter().filter_map(|fault| Some(fault.split_once(':')?.0)).collect();
        assert_eq!(named, ["RATE_LIMIT_MODE", "RATE_LIMIT_MINUTE_MS", "RATE_LIMIT_DAY_MS", "RATE_LIMIT_SHARDS"]);
        assert_eq!(faults(&[("RATE_LIMIT_MINUTE_MS", "500")]).len(), 1, "a minute shorter than a second");
    }

    #[test]
    fn an_account_may_have_limits_of_its_own() {
        let own = overrides(json!({"account_minute": 2, "promotional_day": 5_000, "custom_minute": null})).unwrap();
        let bounds = bounds(&[], Some("fan"), Some(MessageType::Promotional), &own);
        assert_eq!((bounds[0], bounds[6]), (("account_minute", 2, 60), ("promotional_day", 5_000, 86_400)));
        assert_eq!(bounds[1].1, 100, "and otherwise everybody's");
    }

    #[test]
    fn the_faults_of_an_accounts_limits_are_named() {
        let odd = json!({"account_minute": 0, "account_day": 5_001, "account_hour": "9", "recipient_hour": 1.5, "user_hour": 9,
                         "global_second": 9, "account_week": 9});
        let mut pointers: Vec<_> = overrides(odd).unwrap_err().into_iter().map(|fault| fault.pointer).collect();
        pointers.sort_unstable();
        let expected = [
            "account_day",
            "account_hour",
            "account_minute",
            "account_week",
            "global_second",
            "recipient_hour",
            "user_hour",
        ];
        assert_eq!(pointers, expected.map(|name| format!("/limits/{name}")));
    }
}
