//! Alerts: somebody is told, once, that costs have reached what they were to be told of.
//!
//! What can raise alerts (a threshold, a budget, the rule for spikes) is a *source*. A source and a period are one state machine,
//! shared by all instances:
//!
//! | state | what happens | then | what is done |
//! |---|---|---|---|
//! | armed | the costs are below | armed | nothing |
//! | armed | the costs are reached, and the source's last alert is 30 minutes old or there was none | fired | the alert is written, and told |
//! | armed | the costs are reached, and the source's last alert is younger | armed | nothing; a later check fires it, if they still are |
//! | fired, acknowledged | the costs are reached | the same | nothing |
//! | fired | acknowledged | acknowledged | who and when is written |
//! | acknowledged | taken back | fired | that is removed |
//! | fired, acknowledged | the next period begins | armed | nothing: it is another period's machine |
//!
//! *Fired* is an alert's item, whose id is made of source and period; *when the source last fired* is an item of the source's own.
//! Both are written in one transaction on the condition that [`decide`] says, so of any number of instances that find the
//! costs reached, one fires.
//!
//! Clocks of instances differ. The period is not theirs: it is that of the roll-up which is reached. The silence is measured between two
//! instances' clocks, so it is as much shorter or longer as they differ (milliseconds, where Lambda keeps them), and a last alert from
//! a future further away than [`SKEW`] is no reason to be silent: no broken clock silences a source for ever.

mod store;

use std::time::Duration;

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::json::read_object;
use huntaze_domain::money::Usd;
use huntaze_domain::notification::{Channel, Fact, Notification, Severity, is_text};
use huntaze_domain::provider::Provider;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use self::store::ALERT;
pub use self::store::{Alerts, Firing, ListQuery, Page, Summary};
use crate::body::{AMOUNT, amount, user_id};
use crate::budget::Refusal;
use crate::owner::Owner;
use crate::threshold::{Crossing, SEVERITY, ThresholdKind};
use huntaze_dynamodb::ALL_PROVIDERS;

/// Clocks that differ by more are broken.
pub const SKEW: Duration = Duration::from_secs(300);
const KIND: &str = "one of `daily_threshold`, `monthly_threshold`, `hourly_threshold`, `request_threshold`, \
                    `spike_detection`, `budget_exceeded`";
/// The longest message, in characters.
const MAX_MESSAGE: usize = 500;
const MESSAGE: &str = "a text of 1 to 500 characters, none of them a control character";

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    /// A day's threshold.
    DailyThreshold,
    /// A month's threshold.
    MonthlyThreshold,
    /// An hour's threshold.
    HourlyThreshold,
    /// The threshold of one request.
    RequestThreshold,
    /// A day that is far above those before it.
    SpikeDetection,
    /// A request was refused, because a budget is used up.
    BudgetExceeded,
}

impl AlertKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::DailyThreshold,
        Self::MonthlyThreshold,
        Self::HourlyThreshold,
        Self::RequestThreshold,
        Self::SpikeDetection,
        Self::BudgetExceeded,
    ];

    /// The name on the wire and in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DailyThreshold => "daily_threshold",
            Self::MonthlyThreshold => "monthly_threshold",
            Self::HourlyThreshold => "hourly_threshold",
            Self::RequestThreshold => "request_threshold",
            Self::SpikeDetection => "spike_detection",
            Self::BudgetExceeded => "budget_exceeded",
        }
    }

    /// Reads the name.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The notification's first line.
    fn title(self) -> &'static str {
        match self {
            Self::DailyThreshold => "Daily cost threshold reached",
            Self::MonthlyThreshold => "Monthly cost threshold reached",
            Self::HourlyThreshold => "Hourly cost threshold reached",
            Self::RequestThreshold => "A request reached its cost threshold",
            Self::SpikeDetection => "Costs are far above those of the last days",
            Self::BudgetExceeded => "A budget is used up",
        }
    }
}

impl From<ThresholdKind> for AlertKind {
    fn from(kind: ThresholdKind) -> Self {
        match kind {
            ThresholdKind::Hourly => Self::HourlyThreshold,
            ThresholdKind::Daily => Self::DailyThreshold,
            ThresholdKind::Monthly => Self::MonthlyThreshold,
            ThresholdKind::PerRequest => Self::RequestThreshold,
        }
    }
}

/// Who or what a good part of the costs came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contributor {
    /// `user` or `provider`.
    pub kind: String,
    /// Which one.
    pub name: String,
    /// What came from there.
    pub cost: Usd,
}

/// A reason for an alert, found by one of any number of checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occasion {
    /// What raises it: the name of a threshold, a budget or a rule among everyone's.
    pub source: String,
    /// In which period: an hour, a day, a month, a request.
    pub period: String,
    /// Whose costs.
    pub owner: Owner,
    /// What about.
    pub kind: AlertKind,
    /// How much it matters.
    pub severity: Severity,
    /// What was not to be reached.
    pub threshold: Usd,
    /// What the costs are.
    pub current: Usd,
    /// For a person.
    pub message: String,
    /// How somebody is told.
    pub channels: Vec<Channel>,
    /// One provider's costs, or all.
    pub provider: Option<Provider>,
    /// The largest first.
    pub contributors: Vec<Contributor>,
}

impl Occasion {
    /// The alert's id, the same wherever it is found.
    #[must_use]
    pub fn alert_id(&self) -> String {
        let hash = Sha256::new().chain_update(&self.source).chain_update([0]).chain_update(&self.period).finalize();
        let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{ALERT}{hex}")
    }
}

impl From<Crossing<'_>> for Occasion {
    fn from(Crossing { threshold, period, current }: Crossing<'_>) -> Self {
        let whose = whose(&threshold.owner, threshold.provider);
        let (limit, now) = (dollars(threshold.amount), dollars(current));
        let message = match threshold.kind {
            ThresholdKind::Hourly => format!("{whose} cost {now} in the hour {period}, the threshold is {limit}."),
            ThresholdKind::Daily => format!("{whose} cost {now} on {period}, the threshold is {limit}."),
            ThresholdKind::Monthly => format!("{whose} cost {now} in {period}, the threshold is {limit}."),
            ThresholdKind::PerRequest => format!("One request cost {now}, the threshold is {limit}."),
        };
        Self {
            source: threshold.source(),
            period,
            owner: threshold.owner.clone(),
            kind: threshold.kind.into(),
            severity: threshold.severity,
            threshold: threshold.amount,
            current,
            message,
            channels: threshold.channels.clone(),
            provider: threshold.provider,
            contributors: Vec::new(),
        }
    }
}

impl From<&Refusal> for Occasion {
    fn from(budget: &Refusal) -> Self {
        let (name, resets_at) = (budget.period.as_str(), budget.resets_at());
        let provider = budget.provider.map_or(ALL_PROVIDERS, Provider::as_str);
        Self {
            source: format!("{}#budget:{name}:{provider}", budget.owner.key()),
            // A period is told by its end, which is when the next one begins.
            period: format!("until {resets_at}"),
            owner: budget.owner.clone(),
            kind: AlertKind::BudgetExceeded,
            severity: Severity::Critical,
            threshold: budget.limit,
            current: budget.committed(),
            message: format!(
                "{} may cost {} a {name}, and {} of it is spent or reserved. Requests that do not fit are refused until {}.",
                whose(&budget.owner, budget.provider),
                dollars(budget.limit),
                dollars(budget.committed()),
                resets_at
            ),
            channels: budget.owner.channels().to_vec(),
            provider: budget.provider,
            contributors: Vec::new(),
        }
    }
}

/// What is known of a source and a period before a check of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The period's alert is there.
    pub fired: bool,
    /// When the source last fired, in whichever period.
    pub last_fired: Option<Timestamp>,
}

/// What a check comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The alert is written and told.
    Fire,
    /// It was before.
    Fired,
    /// It is too soon after the source's last one.
    Silent,
}

/// What is done where costs are reached: the rule of the table above. The store's transaction has it as its conditions.
#[must_use]
pub fn decide(standing: Standing, now: Timestamp, silence: Duration) -> Decision {
    let (now, silence) = (i128::from(now.as_millisecond()), i128::try_from(silence.as_millis()).unwrap_or(i128::MAX));
    let skew = i128::try_from(SKEW.as_millis()).unwrap_or(0);
    let heard = |last: Timestamp| {
        let last = i128::from(last.as_millisecond());
        last <= now.saturating_sub(silence) || last > now + skew
    };
    match standing {
        Standing { fired: true, .. } => Decision::Fired,
        Standing { last_fired, .. } if last_fired.is_none_or(heard) => Decision::Fire,
        Standing { .. } => Decision::Silent,
    }
}

/// An alert that fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its name.
    pub id: String,
    /// Whose costs.
    pub owner: Owner,
    /// What about.
    pub kind: AlertKind,
    /// How much it matters.
    pub severity: Severity,
    /// What was not to be reached.
    pub threshold: Usd,
    /// What the costs were when it fired.
    pub current: Usd,
    /// For a person.
    pub message: String,
    /// When it fired.
    pub timestamp: Timestamp,
    /// In which period.
    pub period: String,
    /// What raised it: see [`Occasion::source`]; `custom` for an administrator's own.
    pub source: String,
    /// How somebody is told.
    pub channels: Vec<Channel>,
    /// One provider's costs, or all.
    pub provider: Option<Provider>,
    /// The largest first.
    pub contributors: Vec<Contributor>,
    /// Somebody has seen it.
    pub acknowledged: bool,
    /// Who was the first.
    pub acknowledged_by: Option<UserId>,
    /// When.
    pub acknowledged_at: Option<Timestamp>,
    /// When it was handed over to be told.
    pub notified_at: Option<Timestamp>,
}

impl Alert {
    /// The alert of an occasion.
    #[must_use]
    pub fn of(occasion: Occasion, now: Timestamp) -> Self {
        Self {
            id: occasion.alert_id(),
            owner: occasion.owner,
            kind: occasion.kind,
            severity: occasion.severity,
            threshold: occasion.threshold,
            current: occasion.current,
            message: occasion.message,
            timestamp: now,
            period: occasion.period,
            source: occasion.source,
            channels: occasion.channels,
            provider: occasion.provider,
            contributors: occasion.contributors,
            acknowledged: false,
            acknowledged_by: None,
            acknowledged_at: None,
            notified_at: None,
        }
    }

    /// An administrator's own alert. It fires as it is made; `current` is what its type's period costs.
    #[must_use]
    pub fn custom(new: NewAlert, current: Usd, now: Timestamp) -> Self {
        let owner = Owner::from(new.user_id);
        let channels = owner.channels().to_vec();
        let occasion = Occasion {
            source: "custom".to_owned(),
            period: now.to_string(),
            owner,
            kind: new.kind,
            severity: new.severity,
            threshold: new.threshold,
            current,
            message: new.message,
            channels,
            provider: None,
            contributors: Vec::new(),
        };
        Self { id: format!("{ALERT}{}", Uuid::now_v7().simple()), ..Self::of(occasion, now) }
    }

    /// As the contract shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let always = [
            ("id", json!(self.id)),
            ("type", json!(self.kind.as_str())),
            ("severity", json!(self.severity)),
            ("threshold", json!(self.threshold.to_json_number())),
            ("currentValue", json!(self.current.to_json_number())),
            ("message", json!(self.message)),
            ("timestamp", json!(self.timestamp)),
            ("acknowledged", json!(self.acknowledged)),
            ("period", json!(self.period)),
            ("provider", json!(self.provider.map_or(ALL_PROVIDERS, Provider::as_str))),
            ("notificationChannels", json!(self.channels)),
        ];
        let contributors = self.contributors.iter().map(|contributor| {
            json!({"type": contributor.kind, "name": contributor.name, "cost": contributor.cost.to_json_number()})
        });
        let contributors: Vec<_> = contributors.collect();
        let optional = [
            ("userId", self.owner.user().map(|user| json!(user))),
            ("contributors", (!contributors.is_empty()).then(|| json!(contributors))),
            ("acknowledgedBy", self.acknowledged_by.as_ref().map(|user| json!(user))),
            ("acknowledgedAt", self.acknowledged_at.map(|at| json!(at))),
            ("notifiedAt", self.notified_at.map(|at| json!(at))),
        ];
        let there = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        always.into_iter().chain(there).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// How it is told. Told twice under its id, it is delivered once.
    #[must_use]
    pub fn notification(&self) -> Notification {
        let provider = self.provider.map_or("all", provider_name);
        let figures = [
            ("Threshold", dollars(self.threshold)),
            ("Current", dollars(self.current)),
            ("Period", self.period.clone()),
            ("Provider", provider.to_owned()),
        ];
        let fact = |name: &str, value: String| Fact { name: name.to_owned(), value };
        // Where operators are told of a user's costs, they are told whose.
        let user = self.owner.user().map(|user| fact("User", user.to_string())).into_iter();
        let contributors = self.contributors.iter();
        // A name is the user's own or the operator's, and as long as they like.
        let contributors =
            contributors.map(|one| fact("From", format!("{} {}: {}", one.kind, one.name, dollars(one.cost))));
        Notification {
            id: self.id.clone(),
            kind: "cost_alert".to_owned(),
            severity: self.severity,
            audience: self.owner.audience(),
            channels: self.channels.clone(),
            title: self.kind.title().to_owned(),
            text: self.message.clone(),
            facts: user.chain(figures.map(|(name, value)| fact(name, value))).chain(contributors).collect(),
            link: None,
            timestamp: self.timestamp,
        }
    }
}

/// An alert that an administrator raises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlert {
    /// Whose costs; everyone's where nobody is named.
    pub user_id: Option<UserId>,
    /// What about.
    pub kind: AlertKind,
    /// How much it matters.
    pub severity: Severity,
    /// What was not to be reached.
    pub threshold: Usd,
    /// For a person.
    pub message: String,
}

impl NewAlert {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        read_object(body, |fields| {
            let kind = fields.required("type", KIND, |v| v.as_str().and_then(AlertKind::from_name));
            let threshold = fields.required("threshold", AMOUNT, amount);
            // As people write it, and as it can be told over every channel.
            let message = fields.required("message", MESSAGE, |v| {
                let text = v.as_str()?.replace("\r\n", "\n").replace('\r', "\n");
                let text = text.trim();
                (text.chars().count() <= MAX_MESSAGE && is_text(text)).then(|| text.to_owned())
            });
            let severity = fields.optional("severity", SEVERITY, |v| v.as_str().and_then(Severity::from_name));
            Some(Self {
                user_id: user_id(fields),
                severity: severity.unwrap_or(Severity::Warning),
                kind: kind?,
                threshold: threshold?,
                message: message?,
            })
        })
    }
}

/// Whether an alert was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Which alert, as it was named.
    pub id: String,
    /// Seen, or not after all.
    pub acknowledged: bool,
}

impl Acknowledgement {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        read_object(body, |fields| {
            let expected = "an alert's id: a text of 1 to 128 characters";
            let id = fields
                .required("alertId", expected, |v| v.as_str().filter(|id| (1..=128).contains(&id.chars().count())));
            let acknowledged = fields.required("acknowledged", "true or false", Value::as_bool);
            Some(Self { id: id?.to_owned(), acknowledged: acknowledged? })
        })
    }
}

/// What costs, as the subject of a sentence.
pub(crate) fn whose(owner: &Owner, provider: Option<Provider>) -> String {
    let requests = match owner {
        Owner::Everyone => "The requests of all users together",
        Owner::User(_) => "Your requests",
    };
    provider.map_or_else(|| requests.to_owned(), |provider| format!("{requests} to {}", provider_name(provider)))
}

pub(crate) fn provider_name(provider: Provider) -> &'static str {
    match provider {
        Provider::Azure => "Azure OpenAI",
        Provider::OpenAi => "OpenAI",
    }
}

/// An amount for a person: exact, with two decimals at the least.
pub(crate) fn dollars(amount: impl std::fmt::Display) -> String {
    let text = amount.to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    format!("${whole}.{decimals:0<2}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Period;
    use crate::threshold::Threshold;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn millis(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn daily(owner: &Owner, current: &str) -> Occasion {
        let threshold = Threshold::default_of(owner, ThresholdKind::Daily).unwrap();
        Crossing::of(&threshold, "2026-11-21".to_owned(), usd(current)).unwrap().into()
    }

    #[test]
    fn one_source_and_period_is_one_alert() {
        let (ana, bob) = (Owner::from(UserId::parse("ana").ok()), Owner::from(UserId::parse("bob").ok()));
        let (first, later) = (daily(&ana, "5"), daily(&ana, "6.5"));
        assert_eq!(first.alert_id(), later.alert_id());
        let next = Occasion { period: "2026-11-22".to_owned(), ..first.clone() };
        for other in [next, daily(&bob, "5"), daily(&Owner::Everyone, "50")] {
            assert_ne!(first.alert_id(), other.alert_id());
        }
        assert!(first.alert_id().starts_with("alr_") && first.alert_id().len() == 36);
    }

    #[test]
    fn a_notification_says_what_happened_to_whom_it_concerns() {
        let ana = Owner::from(UserId::parse("ana").ok());
        let told = Alert::of(daily(&ana, "5.0012"), at("2026-11-21T10:20:30Z")).notification();
        assert_eq!(told.text, "Your requests cost $5.0012 on 2026-11-21, the threshold is $5.00.");
        assert_eq!((told.audience, told.channels), (ana.audience(), vec![Channel::InApp, Channel::Email]));
        let fact = |name: &str, value: &str| Fact { name: name.to_owned(), value: value.to_owned() };
        assert!([fact("User", "ana"), fact("Current", "$5.0012")].iter().all(|one| told.facts.contains(one)));
    }

    #[test]
    fn a_budget_is_told_by_its_end() {
        let budget = Refusal {
            owner: Owner::Everyone,
            period: Period::Day,
            provider: Some(Provider::Azure),
            limit: usd("20"),
            spent: usd("19"),
            reserved: usd("0.9995"),
            needed: usd("0.01"),
            starts_on: "2026-11-21".parse().unwrap(),
        };
        let told = Occasion::from(&budget);
        assert_eq!(
            told.message,
            "The requests of all users together to Azure OpenAI may cost $20.00 a day, and $19.9995 of it is spent or \
             reserved. Requests that do not fit are refused until 2026-11-22T00:00:00Z."
        );
        let more = Refusal { reserved: usd("1"), ..budget.clone() };
        assert_eq!(Occasion::from(&more).alert_id(), told.alert_id());
        let next = Refusal { starts_on: "2026-11-22".parse().unwrap(), ..budget };
        assert_ne!(Occasion::from(&next).alert_id(), told.alert_id());
    }

    #[test]
    fn an_administrators_words_are_told_as_they_can_be() {
        let read = |message: &str| {
            let body = json!({"type": "budget_exceeded", "threshold": 1, "message": message});
            NewAlert::parse(body.to_string().as_bytes()).map(|new| new.message)
        };
        assert_eq!(read(" line 1\r\nline 2 "), Ok("line 1\nline 2".to_owned()));
        for odd in ["   ", "a\tb", "x\u{202e}y", &"m".repeat(501)] {
            assert!(read(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn the_faults_of_a_body_are_named() {
        let pointers = |body: Value| -> Vec<String> {
            let faults = NewAlert::parse(body.to_string().as_bytes()).expect_err("faulty");
            faults.into_iter().map(|fault| fault.pointer).collect()
        };
        assert_eq!(pointers(json!({})), ["/type", "/threshold", "/message"]);
        let odd = json!({"type": "x", "threshold": -1, "message": "m".repeat(501), "severity": "x", "userId": ""});
        assert_eq!(pointers(odd), ["/type", "/threshold", "/message", "/severity", "/userId"]);
        let empty = Acknowledgement::parse(b"{}").expect_err("faulty");
        assert_eq!(empty.into_iter().map(|fault| fault.pointer).collect::<Vec<_>>(), ["/alertId", "/acknowledged"]);
    }

    #[test]
    fn the_silence_is_over_when_it_has_passed_and_no_broken_clock_prolongs_it() {
        let silence = Duration::from_secs(1_800);
        let decided = |last: i64, now: i64| {
            decide(Standing { fired: false, last_fired: Some(millis(last)) }, millis(now), silence)
        };
        let last = 1_000_000_000_000;
        assert_eq!(decided(last, last + 1_799_999), Decision::Silent);
        assert_eq!(decided(last, last + 1_800_000), Decision::Fire);
        // The other instance's clock is ahead: by what clocks may differ, and by what they may not.
        assert_eq!(decided(last, last - 300_000), Decision::Silent);
        assert_eq!(decided(last, last - 300_001), Decision::Fire);
        assert_eq!(decide(Standing { fired: true, last_fired: None }, millis(last), silence), Decision::Fired);
    }

    proptest! {
        #[test]
        fn whoever_it_is_about_the_consumer_takes_it(user in "[!-~]{1,128}", names in proptest::collection::vec("[!-~]{1,128}", 0..8)) {
            let whose = Owner::from(UserId::parse(&user).ok());
            let threshold = Threshold::default_of(&whose, ThresholdKind::Daily).unwrap();
            let crossing = Crossing::of(&threshold, "2026-11-21".to_owned(), usd("7.000000000001")).unwrap();
            let contributor = |name: String| Contributor { kind: "user".to_owned(), name, cost: usd("999999.123456789012") };
            let contributors = names.into_iter().map(contributor).collect();
            let alert = Alert::of(Occasion { contributors, ..crossing.into() }, at("2026-11-21T12:00:00Z"));
            prop_assert!(alert.notification().fits(), "{:?}", alert.notification());
        }

        /// Whatever the totals and the times are: a period fires at most once and not before it is reached, two alerts of a
        /// source are the silence apart, and one that is still reached fires when the silence is over.
        #[test]
        fn no_course_of_checks_breaks_a_promise(
            checks in proptest::collection::vec((0_i64..7_200_000, 0_u32..3, any::<bool>()), 1..60),
        ) {
            let silence = Duration::from_secs(1_800);
            let (mut now, mut fired, mut last) = (0, std::collections::BTreeSet::new(), None::<i64>);
            for (wait, period, reached) in checks {
                now += wait;
                if !reached {
                    continue;
                }
                let standing = Standing { fired: fired.contains(&period), last_fired: last.map(millis) };
                let quiet = last.is_some_and(|last| now - last < 1_800_000);
                match decide(standing, millis(now), silence) {
                    Decision::Fire => {
                        prop_assert!(fired.insert(period) && !quiet);
                        last = Some(now);
                    }
                    Decision::Fired => prop_assert!(fired.contains(&period)),
                    Decision::Silent => prop_assert!(quiet && !fired.contains(&period)),
                }
            }
        }

        #[test]
        fn an_amount_for_a_person_is_exact(picos in 0_i64..10_i64.pow(15)) {
            let amount = Usd::try_from(rust_decimal::Decimal::new(picos, 12)).unwrap();
            let told = dollars(amount);
            prop_assert_eq!(Usd::parse(told.trim_start_matches('$')), Ok(amount));
            prop_assert!(told.split_once('.').unwrap().1.len() >= 2);
        }
    }
}
