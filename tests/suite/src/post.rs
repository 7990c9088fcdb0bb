//! What a test of notifications needs beside its stores: queues, a topic that somebody listens to, the tables of deliveries and
//! users, and a sender's address of its own, by which its e-mails are told from those of other tests.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use crate::app::App;
use crate::aws::Aws;
use crate::runtime::{Function, InvokeError};

const BOUND: Duration = Duration::from_secs(30);
/// What a consumer of the template is given.
const DEADLINE: Duration = Duration::from_secs(30);
/// The address of operators.
pub const OPERATORS: &str = "operators-in-person@mail.example";

/// The post office of one test.
#[derive(Debug)]
pub struct Post {
    aws: Aws,
    deliveries: String,
    users: String,
    email_queue: Named,
    /// Listens to the topic.
    listener: Named,
    topic: String,
    from: String,
}

#[derive(Debug)]
struct Named {
    url: String,
    arn: String,
}

impl Post {
    /// Opens one, and makes it known to the functions of an app.
    ///
    /// # Errors
    /// If the emulator refuses.
    pub async fn open(app: App) -> anyhow::Result<(App, Self)> {
        let post = timeout(BOUND, Self::make(app.stores.aws().clone())).await.context("no post office in time")??;
        let Self { deliveries, users, email_queue, topic, from, .. } = &post;
        let slack = app.world.slack_webhook_url();
        let app = app
            .set("DYNAMODB_DELIVERIES_TABLE", deliveries)
            .set("DYNAMODB_USERS_TABLE", users)
            .set("SQS_EMAIL_QUEUE", &email_queue.url)
            .set("COST_ALERTS_SNS_TOPIC", topic)
            .set("SES_FROM_EMAIL", from)
            .set("COST_ALERT_EMAIL", OPERATORS)
            .set("SLACK_WEBHOOK_URL", slack);
        Ok((app, post))
    }

    async fn make(aws: Aws) -> anyhow::Result<Self> {
        let suffix = Uuid::new_v4().simple().to_string();
        let name = |kind: &str| format!("{kind}-{suffix}");
        let (deliveries, users) = (name("deliveries"), name("users"));
        let (from, alerts) = (format!("alerts-{suffix}@mail.example"), name("alerts"));
        let ((), (), email_queue, listener, topic, ()) = tokio::try_join!(
            aws.create_table(&deliveries, &["id"], &[]),
            aws.create_table(&users, &["id"], &[]),
            queue(&aws, name("email")),
            queue(&aws, name("listener")),
            aws.create_topic(&alerts),
            aws.verify_sender(&from),
        )?;
        aws.subscribe(&topic, &listener.arn).await?;
        Ok(Self { aws, deliveries, users, email_queue, listener, topic, from })
    }

    /// Gives a user an address.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn add_user(&self, id: &str, email: &str) -> anyhow::Result<()> {
        let item = json!({ "id": { "S": id }, "email": { "S": email } });
        let put = json!({ "TableName": self.users, "Item": item });
        self.aws.call("dynamodb", "DynamoDB_20120810.PutItem", &put).await.map(drop)
    }

    /// Every record of a delivery or a suppression.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn deliveries(&self) -> anyhow::Result<Vec<Map<String, Value>>> {
        self.aws.scan(&self.deliveries).await
    }

    /// How one delivery stands: its state, and its attempts.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delivery(&self, id: &str) -> anyhow::Result<(String, u32)> {
        let all = self.deliveries().await?;
        let item = all.iter().find(|item| item["id"] == id).with_context(|| format!("no {id} in {all:?}"))?;
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
        Ok((text("state").to_owned(), text("attempts").parse()?))
    }

    /// Lets the lease or the wait of a delivery be over.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn run_out(&self, id: &str) -> anyhow::Result<()> {
        let update = json!({
            "TableName": self.deliveries,
            "Key": { "id": { "S": id } },
            "UpdateExpression": "SET heldUntil = :then",
            "ConditionExpression": "attribute_exists(heldUntil)",
            "ExpressionAttributeValues": { ":then": { "N": "0" } },
        });
        self.aws.call("dynamodb", "DynamoDB_20120810.UpdateItem", &update).await.map(drop)
    }

    /// What was published on the topic so far, as its listener got it.
    ///
    /// # Errors
    /// If SQS refuses.
    pub async fn publications(&self) -> anyhow::Result<Vec<Value>> {
        let received = self.aws.receive(&self.listener.url, 0).await?;
        received.iter().map(|message| Ok(serde_json::from_str(body_of(message))?)).collect()
    }

    /// The e-mails that SES took from this test's sender.
    ///
    /// # Errors
    /// If the emulator does not say.
    pub async fn emails(&self) -> anyhow::Result<Vec<Value>> {
        self.aws.sent_emails(&self.from).await
    }

    /// Puts a message on the e-mail queue.
    ///
    /// # Errors
    /// If SQS refuses.
    pub async fn put_email_job(&self, body: &str) -> anyhow::Result<()> {
        self.aws.send(&self.email_queue.url, body).await
    }

    /// Takes the jobs that are on the e-mail queue as the batch that Lambda makes of them; `None` if there are none.
    ///
    /// # Errors
    /// If SQS refuses.
    pub async fn email_batch(&self) -> anyhow::Result<Option<Value>> {
        let received = self.aws.receive(&self.email_queue.url, 600).await?;
        let records: Vec<_> = received.iter().map(|message| record(&self.email_queue.arn, message)).collect();
        Ok((!records.is_empty()).then(|| json!({ "Records": records })))
    }

    /// How many messages of the e-mail queue can be received now.
    ///
    /// # Errors
    /// If SQS refuses.
    pub async fn visible_jobs(&self) -> anyhow::Result<usize> {
        Ok(self.aws.receive(&self.email_queue.url, 0).await?.len())
    }

    /// Has every job that is on the e-mail queue done by a process of `email`; gives its answer.
    ///
    /// # Errors
    /// If there is none, or the function fails.
    pub async fn work_off(&self, email: &Function) -> anyhow::Result<Value> {
        let batch = self.email_batch().await?.context("no job on the queue")?;
        Ok(email.invoke(&batch, DEADLINE).await?)
    }
}

/// A batch of one record, received for the `received`-th time.
#[must_use]
pub fn batch_of(body: &str, received: u32) -> Value {
    batch([("m1", body)], received)
}

/// A batch of records with these ids and bodies.
#[must_use]
pub fn batch<'a>(records: impl IntoIterator<Item = (&'a str, &'a str)>, received: u32) -> Value {
    let records = records.into_iter().map(|(id, body)| {
        json!({
            "messageId": id,
            "receiptHandle": "not-a-handle",
            "body": body,
            "attributes": { "ApproximateReceiveCount": received.to_string() },
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:not-a-queue",
            "awsRegion": "us-east-1",
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}

/// Gives a consumer a batch; the ids of the records that come again. `None` where the invocation failed: all of them do.
///
/// # Errors
/// If the process ends or takes too long.
pub async fn consume(function: &Function, batch: &Value) -> anyhow::Result<Option<Vec<String>>> {
    match function.invoke(batch, DEADLINE).await {
        Ok(answer) => {
            let failures = answer["batchItemFailures"].as_array().context("no list of failures")?;
            let id = |failure: &Value| failure["itemIdentifier"].as_str().unwrap_or_default().to_owned();
            Ok(Some(failures.iter().map(id).collect()))
        }
        Err(InvokeError::Failed { .. }) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

async fn queue(aws: &Aws, name: String) -> anyhow::Result<Named> {
    let url = aws.create_queue(&name).await?;
    Ok(Named { url, arn: format!("arn:aws:sqs:{}:000000000000:{name}", aws.region) })
}

fn body_of(message: &Value) -> &str {
    message["Body"].as_str().unwrap_or_default()
}

/// A received message as Lambda shows it.
pub(crate) fn record(arn: &str, message: &Value) -> Value {
    json!({
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": { "ApproximateReceiveCount": "1" },
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": "us-east-1",
    })
}
