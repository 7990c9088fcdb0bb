//! A text that was made before, and what it had cost.

use std::time::Duration;

use huntaze_costs::attempt::{AttemptIntent, Settlement};
use huntaze_domain::money::Usd;
use huntaze_domain::provider::Provider;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::answer::CallEnd;

/// Nothing larger is kept: the longest permitted output is some tens of kilobytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// A text that may stand in for a call: whole, looked at by its provider's filter, no refusal. It is made of nothing but a call's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cached {
    text: String,
    maker: Maker,
}

/// Who made a text, when, and what it had cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Maker {
    provider: Provider,
    model: String,
    price_version: String,
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    cost: Usd,
    made_at: Timestamp,
}

impl Cached {
    /// What may be kept of a call that ended at `made_at`: nothing of one that failed or was refused, whose text was cut short, or whose
    /// text no filter has looked at.
    #[must_use]
    pub fn of(end: &CallEnd, attempt: &AttemptIntent, settlement: Settlement, made_at: Timestamp) -> Option<Self> {
        if end.truncated || end.unfiltered || end.cached.is_some() {
            return None;
        }
        let maker = Maker {
            provider: attempt.provider,
            model: attempt.model.clone(),
            price_version: attempt.price.version.clone(),
            cost: settlement.cost,
            made_at,
        };
        Some(Self { text: end.result.as_ref().ok()?.clone(), maker })
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Who made it.
    #[must_use]
    pub fn maker(&self) -> &Maker {
        &self.maker
    }

    /// As it is kept for `kept`: that time in milliseconds, `:`, and JSON. `None` where it is too large.
    pub(super) fn written(&self, kept: Duration) -> Option<String> {
        let json = serde_json::to_string(self).ok()?;
        Some(format!("{}:{json}", kept.as_millis())).filter(|value| value.len() <= MAX_BYTES)
    }

    /// Reads the JSON.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

impl Maker {
    /// Who was called.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The model that made it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The price that the call was booked at.
    #[must_use]
    pub fn price_version(&self) -> &str {
        &self.price_version
    }

    /// What was booked for the call that made it, and is saved where the text stands in for another.
    #[must_use]
    pub fn cost(&self) -> Usd {
        self.cost
    }

    /// How old it is, by the clock of whoever asks; never negative. For show: whether it is fresh, Redis' clock decides.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        now.duration_since(self.made_at).try_into().unwrap_or(Duration::ZERO)
    }

    /// What an answer says of it: its age in whole seconds, what it saved in dollars, and who made it.
    #[must_use]
    pub fn to_json(&self, now: Timestamp) -> Value {
        json!({
            "ageSeconds": self.age(now).as_secs(),
            "savedCost": self.cost.to_json_number(),
            "provider": self.provider,
            "model": self.model,
        })
    }
}

fn as_text<S: Serializer>(amount: &Usd, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
    Usd::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use huntaze_costs::attempt::{Billing, Outcome};
    use huntaze_costs::price::Catalogue;
    use huntaze_domain::ids::{AttemptId, UserId, WorkflowId};
    use huntaze_domain::provider::TokenUsage;

    use super::*;
    use crate::answer::Failure;

    fn attempt() -> AttemptIntent {
        let (workflow_id, at) = (WorkflowId::parse("wf").unwrap(), Timestamp::UNIX_EPOCH);
        AttemptIntent {
            id: AttemptId::of(&workflow_id, 1),
            workflow_id,
            sequence: 1,
            user_id: UserId::parse("ana").unwrap(),
            step: "plan".to_owned(),
            request_type: "content_planning",
            provider: Provider::OpenAi,
            model: "gpt-4o".to_owned(),
            price: Catalogue::built_in().unwrap().price(Provider::OpenAi, "gpt-4o", at).unwrap().clone(),
            bound: TokenUsage { input_tokens: 1_000, cached_input_tokens: 0, output_tokens: 900 },
            trace_id: String::new(),
            started_at: at,
        }
    }

    fn ended(text: &str) -> CallEnd {
        let usage = TokenUsage { input_tokens: 900, cached_input_tokens: 0, output_tokens: 700 };
        let billing = Billing::Usage(usage);
        CallEnd { result: Ok(text.to_owned()), http_status: Some(200), ..CallEnd::failed(Failure::Server, billing) }
    }

    fn kept(end: &CallEnd) -> Option<Cached> {
        let attempt = attempt();
        let made_at = "2026-11-21T10:00:00Z".parse().unwrap();
        Cached::of(end, &attempt, attempt.settle(end.outcome(), end.billing), made_at)
    }

    #[test]
    fn design_neither_error_nor_refusal_nor_half_a_text_is_kept() {
        assert!(kept(&ended("A plan.")).is_some());
        for failure in Failure::ALL {
            for billing in [Billing::Nothing, Billing::Unknown] {
                assert_eq!(kept(&CallEnd::failed(failure, billing)), None, "{failure:?}");
            }
        }
        assert_eq!(kept(&CallEnd { truncated: true, ..ended("A pl") }), None);
        assert_eq!(kept(&CallEnd { unfiltered: true, ..ended("A plan.") }), None);
    }

    #[test]
    fn it_says_its_age_and_what_it_saved_to_the_last_digit() {
        let end = ended("A plan.");
        let (cached, attempt) = (kept(&end).unwrap(), attempt());
        let cost = attempt.settle(Outcome::Succeeded, end.billing).cost;
        let maker = cached.maker();
        assert!(cost > Usd::ZERO && maker.cost() == cost && maker.price_version() == attempt.price.version);
        let at = |now: &str| maker.to_json(now.parse().unwrap());
        let shown =
            json!({"ageSeconds": 61, "savedCost": cost.to_json_number(), "provider": "openai", "model": "gpt-4o"});
        assert_eq!(at("2026-11-21T10:01:01.9Z"), shown);
        assert_eq!(at("2026-11-21T09:59:59Z")["ageSeconds"], 0, "a clock that is behind");
    }

    #[test]
    fn what_is_written_is_read_and_what_is_too_large_is_not_written() {
        let cached = kept(&ended("Zoë said: \"sure\"\n\u{1}🙂")).unwrap();
        let written = cached.written(Duration::from_secs(60)).unwrap();
        assert_eq!(Cached::read(written.strip_prefix("60000:").unwrap().as_bytes()), Some(cached));
        let longest = (0..).map(|short| MAX_BYTES - short).find_map(|length| {
            let cached = kept(&ended(&"a".repeat(length))).unwrap();
            cached.written(Duration::from_secs(60))
        });
        assert_eq!(longest.map(|written| written.len()), Some(MAX_BYTES));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let whole = serde_json::to_value(kept(&ended("A plan.")).unwrap()).unwrap();
        let maker = serde_json::to_value(kept(&ended("A plan.")).unwrap().maker()).unwrap();
        assert!(Cached::read(whole.to_string().as_bytes()).is_some());
        for name in whole.as_object().unwrap().keys() {
            let mut cut = whole.clone();
            cut.as_object_mut().unwrap().remove(name);
            assert_eq!(Cached::read(cut.to_string().as_bytes()), None, "without {name}");
            cut[name] = json!([1]);
            assert_eq!(Cached::read(cut.to_string().as_bytes()), None, "{name} of another type");
        }
        for name in maker.as_object().unwrap().keys() {
            let mut cut = whole.clone();
            cut["maker"][name] = json!([1]);
            assert_eq!(Cached::read(cut.to_string().as_bytes()), None, "{name} of another type");
        }
        for garbage in [&b""[..], b"null", b"{", b"\xff\xfe", br#""A plan.""#] {
            assert_eq!(Cached::read(garbage), None);
        }
    }
}
