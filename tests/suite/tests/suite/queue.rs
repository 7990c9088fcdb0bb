//! A function behind a queue: what one record does is no other's business, and what is not done comes again.

use std::time::Duration;

use anyhow::{Result, ensure};
use huntaze_tests::post::{batch, consume};
use huntaze_tests::{App, Function, InvokeError, Post, eventually};
use serde_json::{Value, json};

use crate::support::text;

const BOUND: Duration = Duration::from_secs(20);
const DONE: &str = r#"{"do": "nothing"}"#;

fn probe(app: &App) -> Result<Function> {
    app.function_with("edge-probe", "PROBE_IS", "queue")
}

/// The lines of one invocation: they are all there once its metrics are, which come last.
async fn lines(function: &Function) -> Result<Vec<Value>> {
    let written = eventually(BOUND, async || {
        let stdout = function.stdout();
        ensure!(stdout.contains("\"Requests\""), "{}", function.logs());
        Ok(stdout)
    });
    Ok(written.await?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[tokio::test]
async fn what_one_record_does_keeps_no_other_from_being_done() -> Result<()> {
    let app = App::start().await?;
    let function = probe(&app)?;
    let secret = r#"{"do": "panic", "words": "a fan's words"}"#;
    let large = format!("\"{}\"", "x".repeat(300 * 1024));
    let records = [
        ("good", DONE),
        ("no-json", "a fan's words"),
        ("panics", secret),
        ("rejected", r#"{"do": "reject"}"#),
        ("retried", r#"{"do": "retry"}"#),
        ("later", r#"{"do": "later"}"#),
        ("large", &large),
        ("good-too", DONE),
    ];
    let mut again = consume(&function, &batch(records, 2)).await?.unwrap();
    again.sort();
    assert_eq!(again, ["large", "later", "no-json", "panics", "rejected", "retried"]);

    let lines = lines(&function).await?;
    let counts = lines.iter().find(|line| line.get("Records").is_some()).unwrap();
    assert_eq!(
        (&counts["Records"], &counts["RecordsFailed"], &counts["RecordsRejected"]),
        (&json!(2), &json!(2), &json!(3))
    );
    assert_eq!(lines.last().unwrap()["Errors"], 0);
    // Each record's line bears the id of the record, and nothing that stood in it.
    let said = |message: &str| -> Vec<_> {
        let mut ids: Vec<_> =
            lines.iter().filter(|line| line["message"] == message).map(|line| text(&line["request"])).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(said("rejected"), ["large", "no-json", "rejected"]);
    assert_eq!((said("panic"), said("comes again")), (vec!["panics"], vec!["retried"]));
    assert!(!function.logs().contains("a fan's words"), "{}", function.logs());
    Ok(())
}

#[tokio::test]
async fn a_batch_of_which_nothing_went_well_is_a_failed_invocation_and_one_that_waits_is_not() -> Result<()> {
    let app = App::start().await?;
    let function = probe(&app)?;
    let bad = [("a", r#"{"do": "retry"}"#), ("b", "[]"), ("c", r#"{"do": "panic"}"#)];
    assert_eq!(consume(&function, &batch(bad, 1)).await?, None);
    assert_eq!(lines(&function).await?.last().unwrap()["Errors"], 1);
    let waits = batch([("a", r#"{"do": "later"}"#)], 1);
    assert_eq!(consume(&function, &waits).await?, Some(vec!["a".to_owned()]));
    assert_eq!(consume(&function, &json!({"Records": []})).await?, Some(Vec::new()));
    assert_eq!(consume(&function, &json!({"not": "a batch"})).await?, None);
    // The process lives through all of it.
    assert_eq!(consume(&function, &batch([("a", DONE)], 1)).await?, Some(Vec::new()));
    Ok(())
}

#[tokio::test]
async fn a_record_that_hangs_is_cut_before_the_invocation_is_and_the_others_are_done() -> Result<()> {
    let app = App::start().await?;
    let function = probe(&app)?;
    let records = [("hangs", r#"{"do": "hang"}"#), ("good", DONE)];
    let answer = function.invoke(&batch(records, 1), Duration::from_secs(4)).await?;
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "hangs"}]}));
    // With less than its margin left, nothing is begun that could not be ended.
    let late = function.invoke(&batch([("good", DONE)], 1), Duration::from_secs(2)).await;
    assert!(matches!(late, Err(InvokeError::Failed { .. })), "{late:?}");
    // What a process has written is read a moment later.
    let said = async || {
        ensure!(function.logs().to_string().contains("not begun"), "{}", function.logs());
        Ok(())
    };
    eventually(BOUND, said).await
}

#[tokio::test]
async fn what_is_not_done_is_on_the_queue_again_when_the_record_says_so() -> Result<()> {
    let (app, post) = Post::open(App::start().await?).await?;
    let function = probe(&app)?;
    // At once, after a backoff of at most eight seconds, after a second.
    for does in ["reject", "retry", "later"] {
        post.put_email_job(&json!({"do": does}).to_string()).await?;
        // Received, it is hidden for ten minutes.
        let taken = post.email_batch().await?.unwrap();
        assert_eq!(post.visible_jobs().await?, 0, "{does}");
        consume(&function, &taken).await?;
        eventually(BOUND, async || {
            ensure!(post.visible_jobs().await? == 1, "{does}: not there yet");
            Ok(())
        })
        .await?;
        assert!(post.email_batch().await?.is_some(), "{does}");
    }
    assert!(!function.logs().contains("the queue's own time-out"), "{}", function.logs());
    Ok(())
}

#[tokio::test]
async fn a_rejected_record_does_not_spin_on_a_queue_without_a_dead_letter_queue() -> Result<()> {
    let (app, post) = Post::open(App::start().await?).await?;
    let function = probe(&app)?;
    post.put_email_job(r#"{"do": "reject"}"#).await?;
    let mut taken = post.email_batch().await?.unwrap();
    taken["Records"][0]["attributes"]["ApproximateReceiveCount"] = json!("1000");
    consume(&function, &taken).await?;
    assert_eq!(post.visible_jobs().await?, 0, "it comes again after some minutes");
    Ok(())
}

#[tokio::test]
async fn records_that_are_rejected_do_not_slow_down_the_others_of_their_queue() -> Result<()> {
    let app = App::start().await?;
    let function = probe(&app)?;
    let rejected = batch([("a", r#"{"do": "reject"}"#), ("b", "no JSON")], 1);
    assert_eq!(consume(&function, &rejected).await?.map(|again| again.len()), Some(2), "the invocation went well");
    assert_eq!(lines(&function).await?.last().unwrap()["Errors"], 0);
    Ok(())
}
