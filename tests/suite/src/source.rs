//! The event source of a queue: what is on it is handed to a function, and deleted where that has done it, as Lambda does.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::post::record;

/// A queue whose messages a function is given.
#[derive(Clone, Debug)]
pub struct Source {
    aws: Aws,
    url: String,
    arn: String,
}

impl Source {
    pub(crate) fn new(aws: Aws, name: &str, url: &str) -> Self {
        let arn = format!("arn:aws:sqs:{}:000000000000:{name}", aws.region);
        Self { aws, url: url.to_owned(), arn }
    }

    /// Receives up to ten messages as the batch that Lambda makes of them; nobody else gets them for `hidden` seconds. `None`
    /// if there are none.
    ///
    /// # Errors
    /// If SQS refuses.
    pub async fn receive(&self, hidden: u32) -> anyhow::Result<Option<Value>> {
        let received = self.aws.receive(&self.url, hidden).await?;
        let records: Vec<_> = received.iter().map(|message| record(&self.arn, message)).collect();
        Ok((!records.is_empty()).then(|| json!({ "Records": records })))
    }

    /// Deletes what a function has done of a batch: all but what its answer names. A function that failed has no answer, and all
    /// of it comes again.
    ///
    /// # Errors
    /// If SQS refuses.
    pub async fn delete_done(&self, batch: &Value, answer: &Value) -> anyhow::Result<()> {
        let failures = answer["batchItemFailures"].as_array().context("no list of failures")?;
        let is_done = |record: &&Value| !failures.iter().any(|one| one["itemIdentifier"] == record["messageId"]);
        for record in batch["Records"].as_array().into_iter().flatten().filter(is_done) {
            let delete = json!({ "QueueUrl": self.url, "ReceiptHandle": record["receiptHandle"] });
            let deleted = self.aws.call("sqs", "AmazonSQS.DeleteMessage", &delete).await;
            // Whoever took longer than the message was hidden finds that it was handed out again: it comes again, as with Lambda.
            if let Err(error) = deleted.map(drop)
                && !error.to_string().contains("ReceiptHandleIsInvalid")
            {
                return Err(error);
            }
        }
        Ok(())
    }
}
