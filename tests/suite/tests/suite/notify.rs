//! Notifications: over each of its channels once, whatever fails, whoever is told of it how often.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use huntaze_tests::post::{OPERATORS, batch, batch_of, consume};
use huntaze_tests::{App, Function, Post, eventually};
use huntaze_world::{Fault, Provider, SLACK_TOKEN};
use serde_json::{Value, json};

use crate::support::{closed_port, text};

const BOUND: Duration = Duration::from_secs(30);
const DONE: Option<&[String]> = Some(&[]);

async fn open() -> Result<(App, Post)> {
    Post::open(App::start().await?).await
}

fn notification(id: &str, audience: &Value, channels: &[&str]) -> String {
    json!({
        "id": id,
        "kind": "cost_alert",
        "severity": "critical",
        "audience": audience,
        "channels": channels,
        "title": "Today's costs passed $50",
        "text": "Everyone together spent $50.01 today.",
        "facts": [{"name": "Spent", "value": "$50.01"}],
        "timestamp": "2026-11-22T04:05:06Z",
    })
    .to_string()
}

fn to_operators(id: &str) -> String {
    notification(id, &json!("operators"), &["email", "slack", "sns", "in_app"])
}

/// E-mails, messages to Slack, publications.
async fn told(app: &App, post: &Post) -> Result<[usize; 3]> {
    Ok([post.emails().await?.len(), app.world.slack_messages().len(), post.publications().await?.len()])
}

/// What a function said at a level.
fn said(function: &Function, level: &str) -> Vec<String> {
    let lines = function.stdout();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["level"] == level).map(|line| text(&line["message"]).to_owned()).collect()
}

/// Has the e-mail jobs that there are written, by a process of its own.
async fn write_emails(app: &App, post: &Post) -> Result<Function> {
    let email = app.function("email")?;
    while let Some(batch) = post.email_batch().await? {
        assert_eq!(consume(&email, &batch).await?.as_deref(), DONE, "{}", email.logs());
    }
    Ok(email)
}

#[tokio::test]
async fn a_notification_goes_over_each_of_its_channels() -> Result<()> {
    let (app, post) = open().await?;
    let notifications = app.function("notifications")?;
    assert_eq!(consume(&notifications, &batch_of(&to_operators("n1"), 1)).await?.as_deref(), DONE);
    write_emails(&app, &post).await?;

    let emails = post.emails().await?;
    let [email] = &emails[..] else { panic!("{emails:?}") };
    assert_eq!((&email["To"], text(&email["Subject"])), (&json!([OPERATORS]), "Today's costs passed $50"));
    assert!(
        text(&email["BodyHtml"]).contains("width=device-width") && text(&email["BodyHtml"]).contains("$50.01</td>")
    );
    assert!(text(&email["BodyText"]).contains("Spent: $50.01"));
    let slack = app.world.slack_messages();
    assert_eq!((slack.len(), &slack[0].body["blocks"][0]["type"]), (1, &json!("header")));
    let published = post.publications().await?;
    let document: Value = serde_json::from_str(text(&published[0]["Message"]))?;
    assert_eq!((published.len(), &document["id"]), (1, &json!("n1")));
    assert_eq!(text(&published[0]["Subject"]), "[critical] Today's costs passed $50");
    for channel in ["email_job", "email", "slack", "sns", "in_app"] {
        assert_eq!(post.delivery(&format!("n1#{channel}")).await?, ("sent".to_owned(), 1), "{channel}");
    }
    Ok(())
}

#[tokio::test]
async fn a_notification_that_comes_often_to_several_processes_at_once_is_told_once_a_channel() -> Result<()> {
    let (app, post) = open().await?;
    let fleet = app.fleet("notifications", 4).await?;
    let body = to_operators("n1");
    // Four processes, three records each.
    let batch = batch([("m1", body.as_str()), ("m2", &body), ("m3", &body)], 1);
    eventually(BOUND, async || {
        let ends = try_join_all(fleet.functions().iter().map(|function| consume(function, &batch))).await?;
        // What another is at comes again until it is done.
        ensure!(ends.iter().all(|end| end.as_deref() == DONE), "{ends:?}");
        Ok(())
    })
    .await?;
    // The job itself twice, as SQS may deliver it, to two processes.
    let jobs = post.email_batch().await?.unwrap();
    let writers = app.fleet("email", 2).await?;
    eventually(BOUND, async || {
        let ends = try_join_all(writers.functions().iter().map(|function| consume(function, &jobs))).await?;
        ensure!(ends.iter().all(|end| end.as_deref() == DONE), "{ends:?}");
        Ok(())
    })
    .await?;
    assert_eq!(post.email_batch().await?, None, "one job for one e-mail");
    assert_eq!(told(&app, &post).await?, [1, 1, 1]);
    Ok(())
}

#[tokio::test]
async fn one_broken_channel_holds_up_no_other_and_is_tried_again_alone() -> Result<()> {
    for fault in [Fault::status(503), Fault::Hang, Fault::Reset] {
        let (app, post) = open().await?;
        app.world.fault(fault.clone().on(Provider::Slack).times(2));
        let notifications = app.function("notifications")?;
        let body = to_operators("n1");
        assert_eq!(consume(&notifications, &batch_of(&body, 1)).await?, None, "{fault:?}");
        write_emails(&app, &post).await?;
        assert_eq!((post.emails().await?.len(), post.publications().await?.len()), (1, 1), "{fault:?}");
        assert_eq!(post.delivery("n1#slack").await?, ("waiting".to_owned(), 1), "{fault:?}");
        // Before its time it is left alone, which is no attempt.
        assert_eq!(consume(&notifications, &batch_of(&body, 2)).await?, Some(vec!["m1".to_owned()]), "{fault:?}");
        assert_eq!(post.delivery("n1#slack").await?, ("waiting".to_owned(), 1), "{fault:?}");
        post.run_out("n1#slack").await?;
        assert_eq!(consume(&notifications, &batch_of(&body, 3)).await?, None);
        post.run_out("n1#slack").await?;
        assert_eq!(consume(&notifications, &batch_of(&body, 4)).await?.as_deref(), DONE);
        assert_eq!(post.delivery("n1#slack").await?, ("sent".to_owned(), 3), "{fault:?}");
        write_emails(&app, &post).await?;
        assert_eq!((post.emails().await?.len(), post.publications().await?.len()), (1, 1), "{fault:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_notification_comes_again_when_the_first_of_its_channels_is_due() -> Result<()> {
    let (app, post) = open().await?;
    // Slack wants ten minutes, the topic is tried again after at most 15 seconds.
    app.world.fault(Fault::rate_limited(600).on(Provider::Slack));
    let notifications =
        app.function_with("notifications", "AWS_ENDPOINT_URL_SNS", &format!("http://{}", closed_port()?))?;
    // Whichever queue it is on.
    post.put_email_job(&notification("n1", &json!("operators"), &["slack", "sns"])).await?;
    let taken = post.email_batch().await?.unwrap();
    assert_eq!(consume(&notifications, &taken).await?, None);
    eventually(BOUND, async || {
        ensure!(post.visible_jobs().await? == 1, "not there yet");
        Ok(())
    })
    .await?;
    let mended = app.function("notifications")?;
    post.run_out("n1#sns").await?;
    let again = post.email_batch().await?.unwrap();
    assert_eq!(consume(&mended, &again).await?.map(|again| again.len()), Some(1), "Slack is still to be told");
    assert_eq!(post.delivery("n1#sns").await?, ("sent".to_owned(), 2));
    assert_eq!(post.delivery("n1#slack").await?, ("waiting".to_owned(), 1));
    assert_eq!(app.world.slack_messages().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_channel_that_does_not_come_back_sends_its_message_to_the_dead_letter_queue_and_is_tried_again_from_there()
-> Result<()> {
    let (app, post) = open().await?;
    let refused = format!("http://{}/services/T/B/{SLACK_TOKEN}", closed_port()?);
    let broken = app.function_with("notifications", "SLACK_WEBHOOK_URL", &refused)?;
    let body = notification("n1", &json!("operators"), &["slack", "sns"]);
    for received in 1..10 {
        assert_eq!(consume(&broken, &batch_of(&body, received)).await?, None, "{received}");
        post.run_out("n1#slack").await?;
    }
    let rejected = Some(vec!["m1".to_owned()]);
    assert_eq!(consume(&broken, &batch_of(&body, 10)).await?, rejected);
    assert_eq!(post.delivery("n1#slack").await?, ("exhausted".to_owned(), 10));
    // What a process has written is read a moment later.
    let said = async || {
        let logs = broken.logs().to_string();
        ensure!(logs.contains("tried for the last time: slack") && logs.contains("\"RecordsRejected\":1"), "{logs}");
        Ok(())
    };
    eventually(BOUND, said).await?;
    // On its way it is not tried, by whichever process, though the channel works by now.
    let mended = app.function("notifications")?;
    assert_eq!(consume(&mended, &batch_of(&body, 11)).await?, rejected);
    assert_eq!(app.world.slack_messages().len(), 0);

    // Put back, it is another message, with all its attempts.
    let put_back = |received| batch([("m2", body.as_str())], received);
    assert_eq!(consume(&broken, &put_back(1)).await?, None);
    assert_eq!(post.delivery("n1#slack").await?, ("waiting".to_owned(), 11));
    post.run_out("n1#slack").await?;
    assert_eq!(consume(&mended, &put_back(2)).await?.as_deref(), DONE);
    assert_eq!(post.delivery("n1#slack").await?, ("sent".to_owned(), 12));
    assert_eq!(post.delivery("n1#sns").await?, ("sent".to_owned(), 1));
    assert_eq!((app.world.slack_messages().len(), post.publications().await?.len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn an_email_that_ses_does_not_take_goes_to_the_dead_letter_queue_and_is_written_from_there() -> Result<()> {
    let (app, post) = open().await?;
    let broken = app.function_with("email", "AWS_ENDPOINT_URL_SESV2", &format!("http://{}", closed_port()?))?;
    let job = to_operators("n1").replace("audience", "to");
    for received in 1..10 {
        assert_eq!(consume(&broken, &batch_of(&job, received)).await?, None, "{received}");
        post.run_out("n1#email").await?;
    }
    assert_eq!(consume(&broken, &batch_of(&job, 10)).await?, Some(vec!["m1".to_owned()]));
    assert_eq!(post.delivery("n1#email").await?, ("exhausted".to_owned(), 10));
    let mended = app.function("email")?;
    assert_eq!(consume(&mended, &batch([("m2", job.as_str())], 1)).await?.as_deref(), DONE);
    assert_eq!((post.delivery("n1#email").await?, post.emails().await?.len()), (("sent".to_owned(), 11), 1));
    Ok(())
}

#[tokio::test]
async fn slacks_own_wait_is_kept_and_its_refusal_is_final() -> Result<()> {
    let (app, post) = open().await?;
    app.world.fault(Fault::rate_limited(600).on(Provider::Slack));
    let notifications = app.function("notifications")?;
    let only_slack = |id: &str| notification(id, &json!("operators"), &["slack"]);
    assert_eq!(consume(&notifications, &batch_of(&only_slack("n1"), 1)).await?, None);
    // Told again before its time, by whoever, it is not asked: that is no failure.
    let again = consume(&notifications, &batch_of(&only_slack("n1"), 2)).await?;
    assert_eq!((again, app.world.slack_messages().len()), (Some(vec!["m1".to_owned()]), 1));
    post.run_out("n1#slack").await?;
    assert_eq!(consume(&notifications, &batch_of(&only_slack("n1"), 3)).await?.as_deref(), DONE);
    assert_eq!(app.world.slack_messages().len(), 2);

    app.world.fault(Fault::status(404).on(Provider::Slack));
    assert_eq!(consume(&notifications, &batch_of(&only_slack("n2"), 1)).await?.as_deref(), DONE);
    assert_eq!(post.delivery("n2#slack").await?, ("failed".to_owned(), 1));
    assert_eq!(said(&notifications, "ERROR"), ["given up"]);
    Ok(())
}

#[tokio::test]
async fn what_a_killed_process_had_claimed_is_taken_over_when_its_lease_is_over() -> Result<()> {
    let (app, post) = open().await?;
    app.world.fault(Fault::Gate.on(Provider::Slack));
    let body = notification("n1", &json!("operators"), &["slack"]);
    let first = app.function("notifications")?;
    let _lost = first.start_invoke(&batch_of(&body, 1), BOUND);
    app.world.wait_for_slack(1, BOUND).await?;
    first.kill().await?;
    assert_eq!(post.delivery("n1#slack").await?, ("claimed".to_owned(), 1));

    let second = app.function("notifications")?;
    assert_eq!(consume(&second, &batch_of(&body, 2)).await?, Some(vec!["m1".to_owned()]), "another holds it");
    assert_eq!(app.world.slack_messages().len(), 1);
    post.run_out("n1#slack").await?;
    assert_eq!(consume(&second, &batch_of(&body, 3)).await?.as_deref(), DONE);
    assert_eq!(post.delivery("n1#slack").await?, ("sent".to_owned(), 2));
    assert_eq!(app.world.slack_messages().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_poisoned_record_keeps_none_of_its_batch_from_being_told() -> Result<()> {
    let (app, post) = open().await?;
    let notifications = app.function("notifications")?;
    let good = notification("n1", &json!("operators"), &["slack"]);
    let pigeon = notification("n2", &json!("operators"), &["pigeon-in-person"]);
    let header = good.replace("Today's", "ana-in-person\\r\\nBcc: eve@mail.example");
    let records = [("text", "ana-in-person"), ("pigeon", &pigeon), ("good", &good), ("header", &header)];
    let mut again = consume(&notifications, &batch(records, 1)).await?.unwrap();
    again.sort();
    assert_eq!(again, ["header", "pigeon", "text"]);
    assert_eq!(app.world.slack_messages().len(), 1);
    assert_eq!(post.deliveries().await?.len(), 1);
    let logs = notifications.logs();
    assert!(logs.contains("faulty: /channels") && logs.contains("faulty: /title"), "{logs}");
    assert!(!logs.contains("in-person"), "{logs}");

    let email = app.function("email")?;
    let records =
        [("text", "ana-in-person"), ("good", r#"{"Type": "Notification", "Message": "{\"eventType\": \"Send\"}"}"#)];
    assert_eq!(consume(&email, &batch(records, 1)).await?, Some(vec!["text".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn a_user_is_written_to_at_the_address_that_the_store_has_now() -> Result<()> {
    let (app, post) = open().await?;
    post.add_user("ana", "ana@mail.example").await?;
    post.add_user("eve", "eve@mail.example\r\nBcc: all@mail.example").await?;
    let notifications = app.function("notifications")?;
    for user in ["ana", "bob", "eve"] {
        let body = notification(user, &json!({"user": user}), &["email", "in_app"]);
        assert_eq!(consume(&notifications, &batch_of(&body, 1)).await?.as_deref(), DONE);
    }
    write_emails(&app, &post).await?;
    let to: Vec<_> = post.emails().await?.into_iter().map(|email| email["To"].clone()).collect();
    assert_eq!(to, [json!(["ana@mail.example"])]);
    for (user, state) in [("ana", "sent"), ("bob", "skipped"), ("eve", "skipped")] {
        assert_eq!(post.delivery(&format!("{user}#email")).await?, (state.to_owned(), 1), "{user}");
    }
    // What goes to a user goes to no channel of the operators' that it does not name.
    assert_eq!((app.world.slack_messages().len(), post.publications().await?.len()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_permanent_bounce_and_a_complaint_suppress_an_address_and_a_passing_one_does_not() -> Result<()> {
    let (app, post) = open().await?;
    let app = app.set("SUPPRESSION_KEY", "a key of this test");
    let feedback = |event: Value| json!({"Type": "Notification", "Message": event.to_string()}).to_string();
    let bounce = |kind: &str, address: &str| {
        let recipients = json!([{"emailAddress": address}]);
        feedback(json!({"notificationType": "Bounce", "bounce": {"bounceType": kind, "bouncedRecipients": recipients}}))
    };
    let complaint = feedback(json!({"eventType": "Complaint",
        "complaint": {"complainedRecipients": [{"emailAddress": "angry@mail.example"}], "complaintFeedbackType": "abuse"}}));
    let records = [
        ("gone", bounce("Permanent", "GONE@mail.example")),
        ("full", bounce("Transient", "full@mail.example")),
        ("angry", complaint),
    ];
    let email = app.function("email")?;
    let records = records.iter().map(|(id, body)| (*id, body.as_str()));
    assert_eq!(consume(&email, &batch(records, 1)).await?.as_deref(), DONE);
    let kept = post.deliveries().await?;
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|item| !item.contains_key("expiresAt")), "{kept:?}");
    assert!(!format!("{kept:?}{}", email.logs()).contains("mail.example"), "{kept:?}");

    for user in ["gone", "full", "angry"] {
        post.add_user(user, &format!("{user}@mail.example")).await?;
        let job = notification(user, &json!({"user": user}), &["email"]).replace("audience", "to");
        assert_eq!(consume(&email, &batch_of(&job, 1)).await?.as_deref(), DONE);
    }
    let to: Vec<_> = post.emails().await?.into_iter().map(|email| email["To"].clone()).collect();
    assert_eq!(to, [json!(["full@mail.example"])]);
    assert_eq!(post.delivery("gone#email").await?.0, "skipped");
    Ok(())
}

#[tokio::test]
async fn that_an_operator_is_not_written_to_is_a_warning_without_the_address() -> Result<()> {
    let (app, post) = open().await?;
    let bounce = json!({"bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": OPERATORS}]});
    let bounce = json!({"notificationType": "Bounce", "bounce": bounce}).to_string();
    let feedback = json!({"Type": "Notification", "Message": bounce}).to_string();
    let both = app.function_with("email", "COST_ALERT_EMAIL", &format!("{OPERATORS}, second@mail.example"))?;
    assert_eq!(consume(&both, &batch_of(&feedback, 1)).await?.as_deref(), DONE);
    let job = |id: &str| to_operators(id).replace("audience", "to");
    assert_eq!(consume(&both, &batch_of(&job("n1"), 1)).await?.as_deref(), DONE);
    assert_eq!(post.emails().await?[0]["To"], json!(["second@mail.example"]));
    let one = app.function("email")?;
    assert_eq!(consume(&one, &batch_of(&job("n2"), 1)).await?.as_deref(), DONE);
    let none = app.function_with("email", "COST_ALERT_EMAIL", "")?;
    assert_eq!(consume(&none, &batch_of(&job("n3"), 1)).await?.as_deref(), DONE);
    for (function, warning) in [(&both, "not written to all of the operators"), (&one, "skipped"), (&none, "skipped")] {
        assert_eq!(said(function, "WARN"), [warning], "{}", function.logs());
        assert!(!function.logs().contains("mail.example"), "{}", function.logs());
    }
    assert_eq!(post.emails().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_not_configured_is_passed_over_and_recorded() -> Result<()> {
    let (app, post) = open().await?;
    let app =
        ["SLACK_WEBHOOK_URL", "COST_ALERTS_SNS_TOPIC", "SES_FROM_EMAIL"].iter().fold(app, |app, name| app.unset(name));
    let notifications = app.function("notifications")?;
    assert_eq!(consume(&notifications, &batch_of(&to_operators("n1"), 1)).await?.as_deref(), DONE);
    let email = write_emails(&app, &post).await?;
    assert_eq!((said(&notifications, "WARN").len(), said(&email, "WARN").len()), (2, 1));
    for (channel, state) in [("slack", "skipped"), ("sns", "skipped"), ("email", "skipped"), ("in_app", "sent")] {
        assert_eq!(post.delivery(&format!("n1#{channel}")).await?.0, state, "{channel}");
    }
    assert_eq!(told(&app, &post).await?, [0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn what_a_sender_writes_is_text_in_an_email_and_no_markup() -> Result<()> {
    let (app, post) = open().await?;
    let email = app.function("email")?;
    let job = to_operators("n1").replace("audience", "to").replace("Everyone", "<script>alert(1)</script> Everyone");
    assert_eq!(consume(&email, &batch_of(&job, 1)).await?.as_deref(), DONE);
    let emails = post.emails().await?;
    let html = text(&emails[0]["BodyHtml"]);
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(1)"), "{html}");
    Ok(())
}

#[tokio::test]
async fn no_webhook_address_user_or_text_is_in_a_log() -> Result<()> {
    let (app, post) = open().await?;
    // Everything that can be logged, of what goes well and of what does not.
    let app = app.set("LOG_LEVEL", "trace,aws_smithy_runtime=trace,hyper_util=trace");
    post.add_user("ana-in-person", "ana-in-person@mail.example").await?;
    let mut functions = Vec::new();
    let refused = format!("http://{}/services/T/B/{SLACK_TOKEN}", closed_port()?);
    for (id, slack) in [("n1", app.world.slack_webhook_url()), ("n2", refused)] {
        let notifications = app.function_with("notifications", "SLACK_WEBHOOK_URL", &slack)?;
        for audience in [json!("operators"), json!({"user": "ana-in-person"})] {
            let id = format!("{id}-ana-in-person-{}", audience.is_string());
            let body = notification(&id, &audience, &["email", "slack", "sns"]);
            consume(&notifications, &batch_of(&body, 1)).await?;
        }
        functions.push(notifications);
    }
    functions.push(write_emails(&app, &post).await?);
    // A sender that SES does not know: its answer names the address.
    let unknown = app.function_with("email", "SES_FROM_EMAIL", "sender-in-person@mail.example")?;
    let job = to_operators("n3").replace("audience", "to");
    assert_eq!(consume(&unknown, &batch_of(&job, 1)).await?.as_deref(), DONE);
    assert_eq!(post.delivery("n3#email").await?, ("failed".to_owned(), 1));
    functions.push(unknown);
    assert!(post.emails().await?.len() >= 2);

    for function in functions {
        let logs = function.logs();
        assert!(logs.contains("\"Requests\"") && function.stderr().is_empty(), "{logs}");
        for secret in [SLACK_TOKEN, "in-person", "mail.example", "$50", "Everyone together"] {
            let line = logs.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
    }
    Ok(())
}
