//! How long which texts are kept.

use std::time::Duration;

use huntaze_domain::env::Env;
use huntaze_domain::intent::WorkflowType;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Nothing is kept for longer: what a model wrote a month ago is no answer of today.
const LONGEST: u64 = 30 * DAY;

/// How long a text is good for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// For so long it is served in a call's place. Zero: never.
    pub fresh: Duration,
    /// For so long it is kept, and stands in where no provider answers. No shorter; zero: it is not kept.
    pub kept: Duration,
}

/// The times of each type of workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    planning: Times,
    message: Times,
    validation: Times,
    campaign: Times,
}

impl Rules {
    /// Reads `CACHE_FRESH_SECONDS_<TYPE>` and `CACHE_KEPT_SECONDS_<TYPE>`, 0 to 30 days each, for the four types of workflow.
    ///
    /// A message is not served twice by default: a creator who asks again wants another one.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        Self {
            planning: times(env, WorkflowType::ContentPlanning, HOUR / 6, DAY),
            message: times(env, WorkflowType::MessageGeneration, 0, HOUR),
            validation: times(env, WorkflowType::ContentValidation, HOUR, DAY),
            campaign: times(env, WorkflowType::CampaignExecution, HOUR / 6, DAY),
        }
    }

    /// The times of one type.
    #[must_use]
    pub fn of(&self, kind: WorkflowType) -> Times {
        match kind {
            WorkflowType::ContentPlanning => self.planning,
            WorkflowType::MessageGeneration => self.message,
            WorkflowType::ContentValidation => self.validation,
            WorkflowType::CampaignExecution => self.campaign,
        }
    }
}

fn times(env: &Env, kind: WorkflowType, fresh: u64, kept: u64) -> Times {
    let kind = kind.as_str().to_ascii_uppercase();
    let [fresh, kept] = [("FRESH", fresh), ("KEPT", kept)].map(|(time, default)| {
        let name = format!("CACHE_{time}_SECONDS_{kind}");
        let seconds = env.parsed(&name, default);
        if seconds > LONGEST {
            env.fault(&name, format!("must be 0 to {LONGEST} seconds"));
        }
        seconds
    });
    if kept < fresh {
        let fault = format!("must be no less than CACHE_FRESH_SECONDS_{kind}: what is not kept cannot be served");
        env.fault(&format!("CACHE_KEPT_SECONDS_{kind}"), fault);
    }
    Times { fresh: Duration::from_secs(fresh), kept: Duration::from_secs(kept) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn faults(pairs: &[(&str, &str)]) -> Vec<String> {
        let env = env(pairs);
        let rules = Rules::from_env(&env);
        env.finish(Some(rules)).unwrap_err().0
    }

    fn seconds(rules: &Rules, kind: WorkflowType) -> (u64, u64) {
        let Times { fresh, kept } = rules.of(kind);
        (fresh.as_secs(), kept.as_secs())
    }

    #[test]
    fn each_type_has_its_times_and_a_message_is_not_served_twice() {
        let rules = Rules::from_env(&env(&[]));
        assert_eq!(seconds(&rules, WorkflowType::ContentPlanning), (600, 86_400));
        assert_eq!(seconds(&rules, WorkflowType::MessageGeneration), (0, 3_600));
        assert_eq!(seconds(&rules, WorkflowType::ContentValidation), (3_600, 86_400));
        assert_eq!(seconds(&rules, WorkflowType::CampaignExecution), (600, 86_400));
    }

    #[test]
    fn times_are_set_a_type_and_may_be_zero() {
        let off = [("CACHE_FRESH_SECONDS_CONTENT_PLANNING", "0"), ("CACHE_KEPT_SECONDS_CONTENT_PLANNING", "0")];
        let env = env(&[&off[..], &[("CACHE_FRESH_SECONDS_MESSAGE_GENERATION", "3600")]].concat());
        let rules = env.finish(Some(Rules::from_env(&env))).unwrap();
        assert_eq!(seconds(&rules, WorkflowType::ContentPlanning), (0, 0));
        assert_eq!(seconds(&rules, WorkflowType::MessageGeneration), (3_600, 3_600));
        assert_eq!(seconds(&rules, WorkflowType::CampaignExecution), (600, 86_400));
    }

    #[test]
    fn every_fault_of_the_times_is_named() {
        let named = |pairs: &[(&str, &str)]| -> Vec<String> {
            faults(pairs).iter().filter_map(|fault| Some(fault.split_once(':')?.0.to_owned())).collect()
        };
        for kind in ["CONTENT_PLANNING", "MESSAGE_GENERATION", "CONTENT_VALIDATION", "CAMPAIGN_EXECUTION"] {
            let (fresh, kept) = (format!("CACHE_FRESH_SECONDS_{kind}"), format!("CACHE_KEPT_SECONDS_{kind}"));
            assert_eq!(named(&[(&fresh, "700"), (&kept, "699")]), [kept.as_str()]);
            assert_eq!(named(&[(&kept, "2592001")]), [kept.as_str()]);
            assert_eq!(named(&[(&fresh, "2592001"), (&kept, "2592000")]), [fresh.as_str(), &kept]);
            for bad in ["-1", "ten", "1.5"] {
                assert_eq!(named(&[(&fresh, bad), (&kept, bad)]), [fresh.as_str(), &kept], "{bad}");
            }
        }
    }
}
