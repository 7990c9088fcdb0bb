//! How long a flag takes to decide: the largest that there may be, for users whom none of its lists has, so that every rule is asked.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Context as _;
use huntaze_domain::ids::UserId;
use huntaze_rollout::evaluate::{Subject, Switches};
use huntaze_rollout::flag::Flag;
use serde_json::json;

use crate::stats::Sample;

const USERS: usize = 2_000;
/// Decisions that are timed together: one is quicker than the clock.
const TOGETHER: u32 = 20;

/// The time of one decision, over many users.
pub(crate) fn decisions() -> anyhow::Result<Sample> {
    let listed = |kind: &str| (0..500).map(|n| format!("{kind}-{n}")).collect::<Vec<_>>();
    let values: Vec<_> = (0..50).map(|n| format!("value-{n}")).collect();
    let flag = json!({
        "name": "bench", "enabled": true, "rolloutPercentage": 50,
        "userWhitelist": listed("white"), "userBlacklist": listed("black"),
        "conditions": {"userTier": values, "accountAge": 30, "region": values, "platform": values},
    });
    let flag = Flag::parse(flag.to_string().as_bytes()).ok().context("it is no flag")?;
    let platforms = ["value-3".to_owned(), "value-7".to_owned()];
    let users = (0..USERS).map(|n| UserId::parse(&format!("user_{n:0>24}")));
    let users = users.collect::<Result<Vec<_>, _>>()?;
    let timed = users.iter().map(|user| {
        let (tier, region) = (Some("value-49"), Some("value-25"));
        let subject = Subject { user, tier, account_age_days: Some(31), region, platforms: &platforms };
        let started = Instant::now();
        for _ in 0..TOGETHER {
            black_box(black_box(&flag).decide(black_box(&subject), Switches::default()));
        }
        started.elapsed() / TOGETHER
    });
    Ok(timed.collect())
}
