//! Every file of `events/` is a request that its function takes as it stands.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use huntaze_tests::{App, Post, Response, load_event};

use crate::support::accounts;

/// What each event is answered with; 0 where the function has no HTTP status.
pub(crate) const EXPECTED: &[(&str, &str, u16)] = &[
    ("ai-processing-dlq", "given_up", 0),
    ("ai-processing-dlq", "hint", 0),
    ("ai-processing-dlq", "unread", 0),
    ("campaigns-hybrid", "another_users_id", 403),
    ("campaigns-hybrid", "campaign_execution", 200),
    ("campaigns-hybrid", "content_planning", 200),
    ("campaigns-hybrid", "content_validation", 200),
    ("campaigns-hybrid", "expired_session", 401),
    ("campaigns-hybrid", "foreign_origin", 403),
    ("campaigns-hybrid", "invalid_fields", 400),
    ("campaigns-hybrid", "invalid_utf8", 400),
    ("campaigns-hybrid", "message_generation", 200),
    ("campaigns-hybrid", "no_session", 401),
    ("campaigns-hybrid", "respond_async", 202),
    ("campaigns-status", "another_users_id", 403),
    ("campaigns-status", "bad_limit", 400),
    ("campaigns-status", "cancel_nothing", 400),
    ("campaigns-status", "cancel_unknown", 404),
    ("campaigns-status", "list", 200),
    ("campaigns-status", "no_session", 401),
    ("campaigns-status", "unknown_workflow", 404),
    ("canary-guard", "schedule", 0),
    ("circuits", "list", 200),
    ("circuits", "list_by_a_user", 403),
    ("circuits", "no_session", 401),
    ("compliance-check", "blocked", 200),
    ("compliance-check", "fine", 200),
    ("compliance-check", "invalid_fields", 400),
    ("compliance-check", "no_session", 401),
    ("compliance-check", "unknown_account", 404),
    ("compliance-report", "bad_days", 400),
    ("compliance-report", "by_a_user", 403),
    ("compliance-report", "month", 200),
    ("compliance-report", "no_session", 401),
    ("cost-daily-report", "earlier_day", 0),
    ("cost-daily-report", "schedule", 0),
    ("cost-threshold-check", "schedule", 0),
    ("costs-alerts", "another_users_id", 403),
    ("costs-alerts", "bad_severity", 400),
    ("costs-alerts", "custom", 201),
    ("costs-alerts", "custom_by_a_user", 403),
    ("costs-alerts", "invalid_fields", 400),
    ("costs-alerts", "list", 200),
    ("costs-alerts", "list_of_everyone", 200),
    ("costs-alerts", "no_session", 401),
    ("costs-alerts", "unknown_alert", 404),
    ("costs-breakdown", "another_users_id", 403),
    ("costs-breakdown", "bad_range", 400),
    ("costs-breakdown", "csv", 200),
    ("costs-breakdown", "month", 200),
    ("costs-breakdown", "no_session", 401),
    ("costs-breakdown", "too_long", 400),
    ("costs-budgets", "another_users_id", 403),
    ("costs-budgets", "invalid_fields", 400),
    ("costs-budgets", "lift", 200),
    ("costs-budgets", "list", 200),
    ("costs-budgets", "no_session", 401),
    ("costs-budgets", "set", 200),
    ("costs-budgets", "set_by_a_user", 403),
    ("costs-stats", "another_users_id", 403),
    ("costs-stats", "bad_flag", 400),
    ("costs-stats", "no_session", 401),
    ("costs-stats", "own", 200),
    ("costs-stats", "users_without_role", 403),
    ("costs-thresholds", "another_users_id", 403),
    ("costs-thresholds", "change_by_a_user", 403),
    ("costs-thresholds", "create", 201),
    ("costs-thresholds", "create_for_everyone", 201),
    ("costs-thresholds", "invalid_fields", 400),
    ("costs-thresholds", "list", 200),
    ("costs-thresholds", "no_session", 401),
    ("costs-thresholds", "operators_channel", 403),
    ("costs-thresholds", "unknown_threshold", 404),
    ("dead-letters", "bad_status", 400),
    ("dead-letters", "list", 200),
    ("dead-letters", "list_by_a_user", 403),
    ("dead-letters", "no_session", 401),
    ("dead-letters", "redrive_invalid", 400),
    ("dead-letters", "redrive_unknown", 404),
    ("email", "bounce", 0),
    ("email", "job", 0),
    ("experiments", "list", 200),
    ("experiments", "list_by_a_user", 403),
    ("feature-flags", "change_unknown", 404),
    ("feature-flags", "create", 201),
    ("feature-flags", "evaluate", 200),
    ("feature-flags", "faulty", 400),
    ("feature-flags", "history", 200),
    ("feature-flags", "list", 200),
    ("feature-flags", "list_by_a_user", 403),
    ("feature-flags", "no_session", 401),
    ("feature-flags", "raise", 200),
    ("feature-flags", "raise_stale", 412),
    ("feature-flags", "raise_unread", 428),
    ("feature-flags", "retire", 200),
    ("health", "get", 200),
    ("ledger-corrections", "correction_by_a_user", 403),
    ("ledger-corrections", "invalid_fields", 400),
    ("ledger-corrections", "list", 200),
    ("ledger-corrections", "no_session", 401),
    ("ledger-corrections", "unknown_attempt", 404),
    ("ledger-sweeper", "schedule", 0),
    ("legacy-campaigns", "action", 200),
    ("legacy-campaigns", "faulty", 400),
    ("legacy-campaigns", "no_session", 401),
    ("legacy-campaigns", "plan", 200),
    ("message-dlq", "given_up", 0),
    ("message-dlq", "unreadable", 0),
    ("message-sender", "hint", 0),
    ("message-sweeper", "schedule", 0),
    ("migrate", "deploy", 0),
    ("notifications", "cost_alert", 0),
    ("notifications", "poisoned", 0),
    ("onlyfans-accounts", "another_users_id", 403),
    ("onlyfans-accounts", "create", 201),
    ("onlyfans-accounts", "invalid_fields", 400),
    ("onlyfans-accounts", "limits", 200),
    ("onlyfans-accounts", "limits_by_a_user", 403),
    ("onlyfans-accounts", "list", 200),
    ("onlyfans-accounts", "no_session", 401),
    ("onlyfans-accounts", "pause", 200),
    ("onlyfans-accounts", "refused_session", 400),
    ("onlyfans-messages", "another_users_account", 403),
    ("onlyfans-messages", "another_users_id", 403),
    ("onlyfans-messages", "approve_unknown", 404),
    ("onlyfans-messages", "bad_status", 400),
    ("onlyfans-messages", "cancel_unknown", 404),
    ("onlyfans-messages", "invalid_fields", 400),
    ("onlyfans-messages", "list", 200),
    ("onlyfans-messages", "no_session", 401),
    ("onlyfans-messages", "reject_unknown", 404),
    ("onlyfans-messages", "resend_invalid", 400),
    ("onlyfans-messages", "scheduled", 202),
    ("onlyfans-messages", "send", 202),
    ("onlyfans-messages", "unknown_account", 404),
    ("onlyfans-messages", "unknown_message", 404),
    ("onlyfans-stats", "another_users_id", 403),
    ("onlyfans-stats", "bad_flag", 400),
    ("onlyfans-stats", "everyone", 200),
    ("onlyfans-stats", "no_session", 401),
    ("onlyfans-stats", "own", 200),
    ("reviews", "bad_status", 400),
    ("reviews", "claim_unknown", 404),
    ("reviews", "list", 200),
    ("reviews", "list_by_a_user", 403),
    ("reviews", "no_session", 401),
    ("reviews", "order_invalid", 400),
    ("workflow-consumer", "hint", 0),
    ("workflow-sweeper", "schedule", 0),
];

#[tokio::test]
async fn every_event_file_is_answered_as_expected() -> Result<()> {
    let (app, _post) = Post::open(App::start().await?).await?;
    accounts(&app, &[("acc-ana", "user_ana_001"), ("acc-bob", "user_bob_002")]).await?;
    let mut by_function: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (function, case, status) in EXPECTED {
        by_function.entry(*function).or_default().push((*case, *status));
    }
    for (name, cases) in by_function {
        let function = app.function(name)?;
        for (case, status) in cases {
            let event = load_event(&format!("{name}/{case}.json"))?;
            let answer = function.invoke(&event, Duration::from_secs(30)).await?;
            if status == 0 {
                assert!(answer.is_object(), "{name}/{case}: {answer}");
            } else {
                let response = Response::parse(&answer)?;
                assert_eq!(response.status, status, "{name}/{case}: {}", response.body);
            }
        }
    }
    Ok(())
}

#[test]
fn every_event_file_has_an_expectation() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let mut found = Vec::new();
    for folder in fs::read_dir(&root)? {
        let folder = folder?;
        for file in fs::read_dir(folder.path())? {
            let case = file?.path().file_stem().unwrap().to_string_lossy().into_owned();
            found.push((folder.file_name().to_string_lossy().into_owned(), case));
        }
    }
    found.sort();
    let expected: Vec<_> = EXPECTED.iter().map(|(f, c, _)| ((*f).to_owned(), (*c).to_owned())).collect();
    assert_eq!(found, expected);
    Ok(())
}
