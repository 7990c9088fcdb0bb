//! Thresholds: amounts that somebody wants to be told of when they are reached. They warn, they block nothing.
//!
//! A threshold belongs to a user, or to all users together. An owner who has none of a type that has a default has the
//! default; having one of it, also one that is off or of one provider only, takes its place. So a default is switched off with a
//! threshold of its type that is not enabled.

mod store;

use huntaze_domain::error::FieldFault;
use huntaze_domain::ids::UserId;
use huntaze_domain::json::{Fields, read_object};
use huntaze_domain::money::Usd;
use huntaze_domain::notification::{Channel, Severity};
use huntaze_domain::provider::Provider;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

pub use self::store::{CreateError, MAX_THRESHOLDS, Thresholds};
use crate::body::{AMOUNT, amount, provider, user_id};
use crate::owner::Owner;
use huntaze_dynamodb::ALL_PROVIDERS;

const KIND: &str = "one of `hourly`, `daily`, `monthly`, `per_request`";
const CHANNEL: &str = "one of `email`, `slack`, `sns`, `in_app`";
const CHANNELS: &str = "a list of 1 to 4 of `email`, `slack`, `sns`, `in_app`";
pub(crate) const SEVERITY: &str = "one of `info`, `warning`, `critical`";
const THRESHOLD_ID: &str = "a threshold's id: a text of 1 to 200 characters";

/// What an amount is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThresholdKind {
    /// What an hour (UTC) cost so far.
    Hourly,
    /// What a day (UTC) cost so far.
    Daily,
    /// What a month (UTC) cost so far.
    Monthly,
    /// What one request cost, over all its calls.
    PerRequest,
}

impl ThresholdKind {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 4] = [Self::Hourly, Self::Daily, Self::Monthly, Self::PerRequest];

    /// The name on the wire and in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Monthly => "monthly",
            Self::PerRequest => "per_request",
        }
    }

    /// Reads the name.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The name of the period that a moment lies in, as the roll-ups have it; a request is its own period.
    #[must_use]
    pub fn period(self, at: Timestamp, request: &str) -> String {
        let moment = at.to_string();
        let length = match self {
            Self::Hourly => 13,
            Self::Daily => 10,
            Self::Monthly => 7,
            Self::PerRequest => return request.to_owned(),
        };
        moment[..length].to_owned()
    }
}

/// A threshold's name: `thr_<UUID>`, and `~<user id>` behind it for a user's. So its owner is known without a look-up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThresholdId(String);

impl ThresholdId {
    /// A new id, ordered by time.
    #[must_use]
    pub fn generate(owner: &Owner) -> Self {
        let id = format!("thr_{}", Uuid::now_v7().simple());
        Self(owner.user().map_or_else(|| id.clone(), |user| format!("{id}~{user}")))
    }

    /// Reads an id and whose threshold it names. `None` for what this program never made.
    #[must_use]
    pub fn parse(text: &str) -> Option<(Self, Owner)> {
        let (id, user) = text.split_once('~').map_or((text, None), |(id, user)| (id, Some(user)));
        let hex = id.strip_prefix("thr_")?;
        let made = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let owner = user.map(UserId::parse).transpose().ok()?;
        made.then(|| (Self(text.to_owned()), Owner::from(owner)))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An amount, and who is told when it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threshold {
    /// Whose costs.
    pub owner: Owner,
    /// `None` for a default of the contract, which nobody made.
    pub id: Option<ThresholdId>,
    /// What it is held against.
    pub kind: ThresholdKind,
    /// Reached when the costs are as much or more.
    pub amount: Usd,
    /// How much it matters.
    pub severity: Severity,
    /// How somebody is told.
    pub channels: Vec<Channel>,
    /// Whose costs are counted: one provider's, or all.
    pub provider: Option<Provider>,
    /// Whether it is looked at.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
}

impl Threshold {
    /// The default of a type, where it has one.
    #[must_use]
    pub fn default_of(owner: &Owner, kind: ThresholdKind) -> Option<Self> {
        let dollars = match (owner, kind) {
            (Owner::User(_), ThresholdKind::Daily) => "5",
            (Owner::User(_), ThresholdKind::Monthly) => "100",
            (Owner::Everyone, ThresholdKind::Daily) => "50",
            (Owner::Everyone, ThresholdKind::Monthly) => "500",
            (_, ThresholdKind::Hourly | ThresholdKind::PerRequest) => return None,
        };
        Some(Self {
            owner: owner.clone(),
            id: None,
            kind,
            amount: Usd::parse(dollars).ok()?,
            severity: Severity::Warning,
            channels: owner.channels().to_vec(),
            provider: None,
            enabled: true,
            created_at: None,
            updated_at: None,
        })
    }

    /// What an owner's alerts go by: the owner's own thresholds, and the defaults of the types that those leave out.
    #[must_use]
    pub fn in_force(owner: &Owner, own: Vec<Self>) -> Vec<Self> {
        let missing = ThresholdKind::ALL.into_iter().filter(|kind| own.iter().all(|threshold| threshold.kind != *kind));
        let defaults: Vec<_> = missing.filter_map(|kind| Self::default_of(owner, kind)).collect();
        own.into_iter().chain(defaults).collect()
    }

    /// The nearest of these that are held against all that a period costs: what is reached first.
    #[must_use]
    pub fn nearest(thresholds: &[Self], kind: ThresholdKind) -> Option<Usd> {
        let whole = thresholds.iter().filter(|one| one.kind == kind && one.enabled && one.provider.is_none());
        whole.map(|one| one.amount).min()
    }

    /// Its name, unique among its owner's.
    #[must_use]
    pub fn name(&self) -> String {
        self.id.as_ref().map_or_else(|| format!("default:{}", self.kind.as_str()), |id| id.as_str().to_owned())
    }

    /// Its name among everyone's, by which its alerts are told from others.
    #[must_use]
    pub fn source(&self) -> String {
        format!("{}#{}", self.owner.key(), self.name())
    }

    /// Whether costs of this provider count.
    #[must_use]
    pub fn counts(&self, provider: Provider) -> bool {
        self.provider.is_none_or(|only| only == provider)
    }

    /// As the contract shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let optional = [
            ("userId", self.owner.user().map(|user| json!(user))),
            ("createdAt", self.created_at.map(|at| json!(at))),
            ("updatedAt", self.updated_at.map(|at| json!(at))),
        ];
        let always = [
            ("id", json!(self.name())),
            ("type", json!(self.kind.as_str())),
            ("threshold", json!(self.amount.to_json_number())),
            ("severity", json!(self.severity)),
            ("notificationChannels", json!(self.channels)),
            ("provider", json!(self.provider.map_or(ALL_PROVIDERS, Provider::as_str))),
            ("enabled", json!(self.enabled)),
            ("default", json!(self.id.is_none())),
        ];
        let there = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        always.into_iter().chain(there).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A threshold whose amount is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing<'a> {
    /// Which one.
    pub threshold: &'a Threshold,
    /// In which period.
    pub period: String,
    /// What the period comes to.
    pub current: Usd,
}

impl<'a> Crossing<'a> {
    /// Whether a threshold that is on is reached by `current`.
    #[must_use]
    pub fn of(threshold: &'a Threshold, period: String, current: Usd) -> Option<Self> {
        (threshold.enabled && current >= threshold.amount).then_some(Self { threshold, period, current })
    }
}

/// What somebody wants to be told of from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewThreshold {
    /// Whose costs, where it is said.
    pub user_id: Option<UserId>,
    /// What it is held against.
    pub kind: ThresholdKind,
    /// When it is reached.
    pub amount: Usd,
    /// How much it matters.
    pub severity: Severity,
    /// How somebody is told.
    pub channels: Vec<Channel>,
    /// One provider, or all.
    pub provider: Option<Provider>,
    /// Whether it is looked at.
    pub enabled: bool,
}

impl NewThreshold {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        read_object(body, |fields| {
            let kind = fields.required("type", KIND, |v| v.as_str().and_then(ThresholdKind::from_name));
            let amount = fields.required("threshold", AMOUNT, amount);
            let severity = fields.required("severity", SEVERITY, |v| v.as_str().and_then(Severity::from_name));
            let channels = fields.required("notificationChannels", CHANNELS, Value::as_array);
            let channels = channels.and_then(|list| read_channels(list, fields));
            Some(Self {
                user_id: user_id(fields),
                enabled: fields.optional("enabled", "true or false", Value::as_bool).unwrap_or(true),
                provider: provider(fields),
                kind: kind?,
                amount: amount?,
                severity: severity?,
                channels: channels?,
            })
        })
    }

    /// What a plain user may not choose: Slack and SNS are the operators' own. Each with its JSON pointer.
    #[must_use]
    pub fn operators_channels(&self) -> Vec<FieldFault> {
        let theirs = |channel: &Channel| matches!(channel, Channel::Slack | Channel::Sns);
        let fault = |(index, channel): (usize, &Channel)| FieldFault {
            pointer: format!("/notificationChannels/{index}"),
            detail: format!("`{}` is for administrators", channel.as_str()),
        };
        self.channels.iter().enumerate().filter(|(_, channel)| theirs(channel)).map(fault).collect()
    }
}

/// What is to be different about a threshold. At least one field is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdChange {
    /// Which one, as it was named.
    pub id: String,
    /// Whether it is looked at.
    pub enabled: Option<bool>,
    /// When it is reached.
    pub amount: Option<Usd>,
    /// How somebody is told.
    pub channels: Option<Vec<Channel>>,
}

impl ThresholdChange {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Every fault that was found, each with its JSON pointer.
    pub fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        let change = read_object(body, |fields| {
            let id = fields.required("thresholdId", THRESHOLD_ID, |v| {
                v.as_str().filter(|id| (1..=200).contains(&id.chars().count()))
            });
            let enabled = fields.optional("enabled", "true or false", Value::as_bool);
            let amount = fields.optional("threshold", AMOUNT, amount);
            let channels = fields.optional("notificationChannels", CHANNELS, Value::as_array);
            let channels = channels.map(|list| read_channels(list, fields));
            Some(Self { id: id?.to_owned(), enabled, amount, channels: channels.flatten() })
        })?;
        if (change.enabled, change.amount, &change.channels) == (None, None, &None) {
            let detail = "must change something: `enabled`, `threshold` or `notificationChannels`".to_owned();
            return Err(vec![FieldFault { pointer: String::new(), detail }]);
        }
        Ok(change)
    }
}

/// The channels, each once. A place in the list is a place in what is read, so that a fault can name it.
fn read_channels(list: &[Value], fields: &mut Fields<'_>) -> Option<Vec<Channel>> {
    if !(1..=Channel::ALL.len()).contains(&list.len()) {
        fields.fault("notificationChannels", format!("must be {CHANNELS}"));
        return None;
    }
    let mut channels = Vec::new();
    for (index, item) in list.iter().enumerate() {
        match item.as_str().and_then(Channel::from_name) {
            Some(channel) if channels.contains(&channel) => {
                fields.fault_at("notificationChannels", index, "must be there once");
            }
            Some(channel) => channels.push(channel),
            None => fields.fault_at("notificationChannels", index, format!("must be {CHANNEL}")),
        }
    }
    Some(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ana() -> Owner {
        Owner::from(UserId::parse("ana~1").ok())
    }

    fn body() -> Value {
        json!({"type": "daily", "threshold": 0.01, "severity": "critical", "notificationChannels": ["email"]})
    }

    fn pointers<T: std::fmt::Debug>(read: Result<T, Vec<FieldFault>>) -> Vec<String> {
        read.expect_err("faulty").into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn an_id_says_whose_threshold_it_is() {
        for owner in [Owner::Everyone, ana()] {
            let id = ThresholdId::generate(&owner);
            assert_eq!(ThresholdId::parse(id.as_str()), Some((id, owner)));
        }
        let hex = "0".repeat(32);
        for odd in ["", "default:daily", "thr_", &format!("thr_{hex}~"), &format!("thr_{}", "A".repeat(32)), &hex] {
            assert_eq!(ThresholdId::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_default_is_there_where_an_owner_has_none_of_its_type() {
        let defaults = |owner: &Owner, own| {
            let all = Threshold::in_force(owner, own);
            all.iter().map(|t| format!("{} {} {}", t.name(), t.amount, t.enabled)).collect::<Vec<_>>()
        };
        assert_eq!(defaults(&ana(), vec![]), ["default:daily 5 true", "default:monthly 100 true"]);
        assert_eq!(defaults(&Owner::Everyone, vec![]), ["default:daily 50 true", "default:monthly 500 true"]);
        // One that is off, and of one provider only, takes its place all the same.
        let own = Threshold {
            enabled: false,
            provider: Some(Provider::Azure),
            id: Some(ThresholdId("thr_x".to_owned())),
            ..Threshold::default_of(&ana(), ThresholdKind::Daily).unwrap()
        };
        assert_eq!(defaults(&ana(), vec![own]), ["thr_x 5 false", "default:monthly 100 true"]);
    }

    #[test]
    fn the_nearest_is_the_smallest_that_is_on_and_counts_everything() {
        let daily = |dollars: &str, enabled: bool, provider: Option<Provider>| Threshold {
            amount: Usd::parse(dollars).unwrap(),
            enabled,
            provider,
            ..Threshold::default_of(&ana(), ThresholdKind::Daily).unwrap()
        };
        let all = [
            daily("4", true, None),
            daily("3", true, None),
            daily("2", false, None),
            daily("1", true, Some(Provider::Azure)),
        ];
        assert_eq!(Threshold::nearest(&all, ThresholdKind::Daily), Usd::parse("3").ok());
        assert_eq!(Threshold::nearest(&all, ThresholdKind::Monthly), None);
    }

    #[test]
    fn a_threshold_is_reached_at_its_amount() {
        let threshold = Threshold::default_of(&ana(), ThresholdKind::Daily).unwrap();
        let reached = |dollars: &str| Crossing::of(&threshold, String::new(), Usd::parse(dollars).unwrap()).is_some();
        assert_eq!([reached("4.999999999999"), reached("5"), reached("6")], [false, true, true]);
        let off = Threshold { enabled: false, ..threshold.clone() };
        assert_eq!(Crossing::of(&off, String::new(), Usd::parse("6").unwrap()), None);
    }

    #[test]
    fn a_period_is_that_of_the_roll_ups() {
        let at = "2026-11-21T10:20:30.456Z".parse().unwrap();
        let named = ThresholdKind::ALL.map(|kind| kind.period(at, "wf_1"));
        assert_eq!(named, ["2026-11-21T10", "2026-11-21", "2026-11", "wf_1"]);
    }

    #[test]
    fn a_body_is_read_with_the_defaults_of_the_contract() {
        let new = NewThreshold::parse(body().to_string().as_bytes()).unwrap();
        assert_eq!(
            (new.amount.to_string().as_str(), new.enabled, new.provider, new.user_id),
            ("0.01", true, None, None)
        );
    }

    #[test]
    fn every_fault_of_a_body_is_named() {
        let odd = json!({"type": "yearly", "threshold": 0, "severity": "fatal", "notificationChannels": ["email", "sms", 1],
            "provider": "aws", "enabled": "yes", "userId": "a b"});
        let mut found = pointers(NewThreshold::parse(odd.to_string().as_bytes()));
        found.sort();
        let expected = [
            "/enabled",
            "/notificationChannels/1",
            "/notificationChannels/2",
            "/provider",
            "/severity",
            "/threshold",
            "/type",
            "/userId",
        ];
        assert_eq!(found, expected);
        assert_eq!(pointers(NewThreshold::parse(b"{}")), ["/type", "/threshold", "/severity", "/notificationChannels"]);
        for odd in [json!([]), json!(["email", "email"]), json!(["email", "sns", "slack", "in_app", "email"])] {
            let mut body = body();
            body["notificationChannels"] = odd;
            assert_eq!(pointers(NewThreshold::parse(body.to_string().as_bytes())).len(), 1, "{body}");
        }
    }

    #[test]
    fn the_operators_channels_are_named_by_their_place() {
        let mut body = body();
        body["notificationChannels"] = json!(["email", "slack", "in_app", "sns"]);
        let new = NewThreshold::parse(body.to_string().as_bytes()).unwrap();
        let found: Vec<_> = new.operators_channels().into_iter().map(|fault| fault.pointer).collect();
        assert_eq!(found, ["/notificationChannels/1", "/notificationChannels/3"]);
    }

    #[test]
    fn a_change_changes_something() {
        let change = |body: Value| ThresholdChange::parse(body.to_string().as_bytes());
        let read = change(json!({"thresholdId": "thr_1", "enabled": false, "threshold": null})).unwrap();
        assert_eq!((read.enabled, read.amount, read.channels), (Some(false), None, None));
        assert_eq!(pointers(change(json!({"thresholdId": "thr_1"}))), [""]);
        assert_eq!(pointers(change(json!({"enabled": true}))), ["/thresholdId"]);
        assert_eq!(pointers(change(json!({"thresholdId": "t", "threshold": -1}))), ["/threshold"]);
        assert_eq!(
            pointers(change(json!({"thresholdId": "t", "notificationChannels": []}))),
            ["/notificationChannels"]
        );
    }
}
