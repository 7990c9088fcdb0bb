//! Finds the experiments that are asked for, and shows what came of their variants.

use http::Method;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use huntaze_orchestrator::experiment::outcomes;
use huntaze_rollout::flag::FlagName;
use huntaze_rollout::store::Kept;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::App;

const DEFAULT_DAYS: i64 = 30;
const MOST_DAYS: i64 = 90;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        call.administrator(&self.sessions, &self.limit).await?;
        if call.method != Method::GET {
            return Err(Problem::no_such_route());
        }
        let since = call.since(DEFAULT_DAYS, MOST_DAYS)?;
        let named = call.parameter("name")?.map(|name| {
            let invalid = || Problem::invalid_field("name", "must be the name of an experiment");
            FlagName::parse(name).ok_or_else(invalid)
        });
        let flags = self.flags.all().await.map_err(|error| Problem::internal(&error))?;
        let names: Vec<_> = match named.transpose()? {
            // Also one that has ended.
            Some(name) => vec![name],
            None => flags.iter().filter_map(|kept| Some(kept.flag.experiment.as_ref()?.name.clone())).collect(),
        };
        let mut shown = Vec::new();
        for name in &names {
            shown.push(self.show(name, &flags, since).await?);
        }
        Ok(Reply::ok(call.envelope(json!({"since": since, "experiments": shown}))))
    }
}

impl App {
    async fn show(&self, name: &FlagName, flags: &[Kept], since: Timestamp) -> Result<Value, Problem> {
        let running = flags.iter().find_map(|kept| {
            let experiment = kept.flag.experiment.as_ref().filter(|experiment| experiment.name == *name)?;
            Some((kept.flag.name.as_str(), experiment))
        });
        let mut outcomes =
            outcomes(&self.database, name.as_str(), since).await.map_err(|error| Problem::internal(&error))?;
        let mut variants = Vec::new();
        for variant in running.iter().flat_map(|(_, experiment)| &experiment.variants) {
            let outcome = outcomes.remove(variant.name.as_str());
            let mut outcome = outcome.unwrap_or_else(|| json!({"users": 0, "requests": 0, "metrics": {}}));
            outcome["name"] = json!(variant.name.as_str());
            outcome["weight"] = json!(variant.weight);
            variants.push(outcome);
        }
        // Of one that has ended nothing else is known.
        variants.extend(outcomes.into_iter().map(|(name, mut outcome)| {
            outcome["name"] = json!(name);
            outcome
        }));
        Ok(json!({
            "name": name.as_str(),
            "flag": running.map(|(flag, _)| flag),
            "running": running.is_some(),
            "confidence": 0.95,
            "variants": variants,
        }))
    }
}
