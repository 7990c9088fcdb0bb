//! OpenAI's moderation endpoint: one question, one opinion. It costs nothing, and is no call of the ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use huntaze_compliance::opinion::Opinion;
use huntaze_domain::env::Env;
use reqwest::Client;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

/// No answer is read further: one of thirteen categories has 2 KiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const TIME_MS: u64 = 2_000;

/// Where it is asked.
pub struct Moderation {
    http: Client,
    url: String,
    api_key: String,
    organization: Option<String>,
    model: String,
    time: Duration,
}

impl Moderation {
    /// Reads `MODERATION_MODEL`; where there is none nobody is asked. `OPENAI_API_KEY` is needed with it.
    #[must_use]
    pub fn from_env(env: &Env, http: Client) -> Option<Self> {
        let model = env.optional("MODERATION_MODEL")?;
        let base = env.or("OPENAI_BASE_URL", "https://api.openai.com/v1");
        Some(Self {
            http,
            url: format!("{}/moderations", base.trim_end_matches('/')),
            api_key: env.required("OPENAI_API_KEY"),
            organization: env.optional("OPENAI_ORG_ID"),
            model,
            time: env.millis("MODERATION_TIME_MS", TIME_MS),
        })
    }

    /// Asks about a text. Whatever does not answer by then, or not as it should, has said nothing.
    pub(crate) async fn ask(&self, text: &str, by: Instant) -> Opinion {
        let by = by.min(Instant::now() + self.time);
        let asked = async {
            let request =
                self.http.post(&self.url).bearer_auth(&self.api_key).json(&json!({"model": self.model, "input": text}));
            let request = match &self.organization {
                Some(organization) => request.header("OpenAI-Organization", organization),
                None => request,
            };
            let response = request.send().await.map_err(|error| error.without_url().to_string())?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("answered {status}"));
            }
            let body = huntaze_http::read(response, MAX_ANSWER_BYTES).await.map_err(|error| error.to_string())?;
            read(&body).ok_or_else(|| "its answer cannot be read".to_owned())
        };
        let answer = timeout_at(by, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        answer.unwrap_or_else(|error| {
            tracing::warn!(error, "no second opinion");
            Opinion::Missing
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Result>,
}

/// Some categories are optional, and older models leave out or empty what they do not know.
#[derive(Deserialize)]
struct Result {
    flagged: bool,
    categories: BTreeMap<String, Option<bool>>,
    #[serde(default)]
    category_scores: BTreeMap<String, Option<f64>>,
}

/// Reads an answer: one result, with categories; of one that is flagged for none, that it is.
fn read(body: &[u8]) -> Option<Opinion> {
    let Answer { results } = serde_json::from_slice(body).ok()?;
    let [Result { flagged, categories, category_scores }] = <[Result; 1]>::try_from(results).ok()?;
    if categories.is_empty() {
        return None;
    }
    let score =
        |name: &str| category_scores.get(name).copied().flatten().filter(|score| score.is_finite()).unwrap_or(0.0);
    let named = flagged && !categories.values().any(|is| *is == Some(true));
    let mut known: Vec<_> =
        categories.iter().map(|(name, is)| (name.clone(), score(name), *is == Some(true))).collect();
    known.extend(named.then(|| ("flagged".to_owned(), 1.0, true)));
    Some(Opinion::Given(known))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_text(body: &str) -> Option<Opinion> {
        read(body.as_bytes())
    }

    #[test]
    fn categories_may_be_missing_or_empty() {
        let body = r#"{"id":"modr-1","model":"omni-moderation-latest","results":[{"flagged":true,
            "categories":{"sexual":true,"violence":false,"illicit":null},"category_scores":{"sexual":0.9,"violence":1e-5,"illicit":null}}]}"#;
        let expected = [("illicit", 0.0, false), ("sexual", 0.9, true), ("violence", 1e-5, false)];
        let expected = expected.map(|(name, score, flagged)| (name.to_owned(), score, flagged)).to_vec();
        assert_eq!(read_text(body), Some(Opinion::Given(expected)));
    }

    #[test]
    fn flagged_for_nothing_that_is_named_is_flagged() {
        let opinion = read_text(r#"{"results":[{"flagged":true,"categories":{"hate":false}}]}"#).unwrap();
        assert_eq!(opinion.as_str(), "flagged");
    }

    #[test]
    fn what_is_no_answer_is_no_opinion() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"results":[]}"#,
            r#"{"results":[{"flagged":false,"categories":{}}]}"#,
            r#"{"results":[{"categories":{"hate":false}}]}"#,
            r#"{"results":[{"flagged":"no","categories":{"hate":false}}]}"#,
            r#"{"results":[{"flagged":false,"categories":{"hate":false}},{"flagged":true,"categories":{"hate":true}}]}"#,
            r#"{"error":{"message":"rate limited"}}"#,
        ] {
            assert_eq!(read_text(body), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_can_be_read(body in proptest::collection::vec(any::<u8>(), 0..256)) {
            prop_assert_eq!(read(&body), None);
        }
    }
}
