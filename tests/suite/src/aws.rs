//! The few AWS calls that the tests make themselves, in the services' JSON protocol. Not the SDK: what the functions do
//! with it is under test.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::{Client, Method, Response, Url};
use serde_json::{Map, Value, json};

const BOUND: Duration = Duration::from_secs(30);

/// Pages of a scan: more than any test writes.
const MOST_PAGES: usize = 100;

#[derive(Clone, Debug)]
pub(crate) struct Aws {
    client: Client,
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

impl Aws {
    pub(crate) fn new(
        endpoint: String,
        region: String,
        access_key: String,
        secret_key: String,
    ) -> anyhow::Result<Self> {
        // The second and later calls are told that there is a provider already, which is all that is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { client: client()?, endpoint, region, access_key, secret_key })
    }

    /// The same, with connections of its own.
    pub(crate) fn reconnected(&self) -> anyhow::Result<Self> {
        Ok(Self { client: client()?, ..self.clone() })
    }

    /// Calls an operation. The emulator reads account and region from the signature's scope and checks no more of it.
    pub(crate) async fn call(&self, service: &str, target: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self
            .client
            .post(&self.endpoint)
            .header("authorization", self.authorization(service))
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .body(body.to_string())
            .send()
            .await
            .with_context(|| format!("{target} at {}", self.endpoint))?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{target}: {status}: {text}");
        if text.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_str(&text).with_context(|| format!("{target}: {text}"))
        }
    }

    fn authorization(&self, service: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/{}/{service}/aws4_request, SignedHeaders=host, Signature=0",
            self.access_key, self.region
        )
    }

    /// Calls an operation of SNS, which speaks the older protocol of forms and XML.
    async fn sns(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut form = Url::parse(&self.endpoint)?;
        form.query_pairs_mut().append_pair("Action", action).append_pair("Version", "2010-03-31");
        form.query_pairs_mut().extend_pairs(parameters);
        let request = self.client.post(&self.endpoint).header("authorization", self.authorization("sns"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(form.query().unwrap_or_default().to_owned()).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{action}: {status}: {text}");
        Ok(text)
    }

    /// Makes a topic and gives its ARN.
    pub(crate) async fn create_topic(&self, name: &str) -> anyhow::Result<String> {
        let answer = self.sns("CreateTopic", &[("Name", name)]).await?;
        let arn = answer.split_once("<TopicArn>").and_then(|(_, rest)| rest.split_once("</TopicArn>"));
        Ok(arn.context("a topic without an ARN")?.0.to_owned())
    }

    /// Has a queue get what is published on a topic.
    pub(crate) async fn subscribe(&self, topic: &str, queue_arn: &str) -> anyhow::Result<()> {
        let parameters = [("TopicArn", topic), ("Protocol", "sqs"), ("Endpoint", queue_arn)];
        self.sns("Subscribe", &parameters).await.map(drop)
    }

    /// Has SES take e-mails from an address.
    pub(crate) async fn verify_sender(&self, address: &str) -> anyhow::Result<()> {
        let url = format!("{}/v2/email/identities", self.endpoint);
        let request = self.client.post(url).header("authorization", self.authorization("ses"));
        let response = request.json(&json!({ "EmailIdentity": address })).send().await?;
        let status = response.status();
        ensure!(status.is_success(), "{status}: {}", response.text().await?);
        Ok(())
    }

    /// The e-mails that SES took from a sender.
    pub(crate) async fn sent_emails(&self, from: &str) -> anyhow::Result<Vec<Value>> {
        let all: Value =
            self.client.get(format!("{}/_ministack/ses/messages", self.endpoint)).send().await?.json().await?;
        let accounts = all["messages"].as_object().context("no e-mails")?;
        let emails = accounts.values().filter_map(Value::as_array).flatten();
        Ok(emails.filter(|email| email["Source"] == from).cloned().collect())
    }

    /// Receives what a queue holds, up to ten messages, which nobody else gets for `hidden` seconds.
    pub(crate) async fn receive(&self, url: &str, hidden: u32) -> anyhow::Result<Vec<Value>> {
        let body = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": hidden });
        let received = self.call("sqs", "AmazonSQS.ReceiveMessage", &body).await?;
        Ok(received["Messages"].as_array().cloned().unwrap_or_default())
    }

    /// Puts a message on a queue.
    pub(crate) async fn send(&self, url: &str, body: &str) -> anyhow::Result<()> {
        let message = json!({ "QueueUrl": url, "MessageBody": body });
        self.call("sqs", "AmazonSQS.SendMessage", &message).await.map(drop)
    }

    /// Makes a table with the keys of the user's own: `id` and `timestamp`.
    pub(crate) async fn create_costs_table(&self, table: &str) -> anyhow::Result<()> {
        self.create_table(table, &["id", "timestamp"], &[]).await
    }

    pub(crate) async fn create_thresholds_table(&self, table: &str) -> anyhow::Result<()> {
        self.create_table(table, &["owner", "id"], &[]).await
    }

    /// With the user's own key, `id`, and the indexes of the template.
    pub(crate) async fn create_alerts_table(&self, table: &str) -> anyhow::Result<()> {
        let indexes = [("byOwner", ["owner", "timestamp"]), ("byMonth", ["month", "timestamp"])];
        self.create_table(table, &["id"], &indexes).await
    }

    pub(crate) async fn create_of_sessions_table(&self, table: &str) -> anyhow::Result<()> {
        self.create_table(table, &["accountId"], &[]).await
    }

    /// Makes a table; keys are text, hash before range, and indexes have everything.
    pub(crate) async fn create_table(
        &self,
        table: &str,
        key: &[&str],
        indexes: &[(&str, [&str; 2])],
    ) -> anyhow::Result<()> {
        let schema = |key: &[&str]| -> Value {
            let kinds = key.iter().zip(["HASH", "RANGE"]);
            kinds.map(|(name, kind)| json!({ "AttributeName": name, "KeyType": kind })).collect()
        };
        let names: BTreeSet<_> = key.iter().chain(indexes.iter().flat_map(|(_, key)| key)).collect();
        let attribute = |name: &&&str| json!({ "AttributeName": name, "AttributeType": "S" });
        let index = |(name, key): &(&str, [&str; 2])| json!({ "IndexName": name, "KeySchema": schema(key), "Projection": { "ProjectionType": "ALL" } });
        let mut body = json!({
            "TableName": table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": names.iter().map(attribute).collect::<Vec<_>>(),
            "KeySchema": schema(key),
        });
        if !indexes.is_empty() {
            body["GlobalSecondaryIndexes"] = indexes.iter().map(index).collect();
        }
        self.call("dynamodb", "DynamoDB_20120810.CreateTable", &body).await.map(drop)
    }

    pub(crate) async fn delete_table(&self, table: &str) -> anyhow::Result<()> {
        self.call("dynamodb", "DynamoDB_20120810.DeleteTable", &json!({ "TableName": table })).await.map(drop)
    }

    /// Every item of a table.
    pub(crate) async fn scan(&self, table: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
        let mut body = json!({ "TableName": table, "ConsistentRead": true });
        let mut items = Vec::new();
        for _ in 0..MOST_PAGES {
            let page = self.call("dynamodb", "DynamoDB_20120810.Scan", &body).await?;
            let found = page["Items"].as_array().context("a scan without items")?;
            items.extend(found.iter().filter_map(Value::as_object).map(plain_map));
            match page.get("LastEvaluatedKey") {
                Some(last) if !last.is_null() => body["ExclusiveStartKey"] = last.clone(),
                _ => return Ok(items),
            }
        }
        bail!("{table} has more than {MOST_PAGES} pages of items")
    }

    /// Writes items, each attribute with its type, 25 at once.
    pub(crate) async fn put(&self, table: &str, items: &[Map<String, Value>]) -> anyhow::Result<()> {
        for batch in items.chunks(25) {
            let puts: Vec<_> = batch.iter().map(|item| json!({ "PutRequest": { "Item": item } })).collect();
            let body = json!({ "RequestItems": { table: puts } });
            let answer = self.call("dynamodb", "DynamoDB_20120810.BatchWriteItem", &body).await?;
            let left = answer["UnprocessedItems"].as_object().map_or(0, Map::len);
            ensure!(left == 0, "items were left out: {answer}");
        }
        Ok(())
    }

    /// Calls S3, whose buckets and objects are paths.
    async fn s3(&self, method: Method, path: &str) -> anyhow::Result<Response> {
        let request = self.client.request(method, format!("{}/{path}", self.endpoint));
        let response = request.header("authorization", self.authorization("s3")).send().await?;
        let status = response.status();
        ensure!(status.is_success(), "{path}: {status}: {}", response.text().await?);
        Ok(response)
    }

    pub(crate) async fn create_bucket(&self, bucket: &str) -> anyhow::Result<()> {
        self.s3(Method::PUT, bucket).await.map(drop)
    }

    /// The keys of a bucket's objects, in order.
    pub(crate) async fn object_keys(&self, bucket: &str) -> anyhow::Result<Vec<String>> {
        let list = self.s3(Method::GET, &format!("{bucket}?list-type=2")).await?.text().await?;
        ensure!(!list.contains("<IsTruncated>true"), "{bucket} has more objects than a page");
        let keys = list.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        Ok(keys.map(|(key, _)| key.to_owned()).collect())
    }

    /// An object's content type, and its text.
    pub(crate) async fn object(&self, bucket: &str, key: &str) -> anyhow::Result<(String, String)> {
        let response = self.s3(Method::GET, &format!("{bucket}/{key}")).await?;
        let kind = response.headers().get("content-type").context("an object without a type")?.to_str()?.to_owned();
        Ok((kind, response.text().await?))
    }

    /// Deletes a bucket with all that it has.
    pub(crate) async fn delete_bucket(&self, bucket: &str) -> anyhow::Result<()> {
        for key in self.object_keys(bucket).await? {
            self.s3(Method::DELETE, &format!("{bucket}/{key}")).await?;
        }
        self.s3(Method::DELETE, bucket).await.map(drop)
    }

    /// Makes a queue and gives its URL.
    pub(crate) async fn create_queue(&self, queue: &str) -> anyhow::Result<String> {
        let made = self.call("sqs", "AmazonSQS.CreateQueue", &json!({ "QueueName": queue })).await?;
        made["QueueUrl"].as_str().map(str::to_owned).context("a queue without a URL")
    }

    /// Takes every message that a queue has; their bodies are JSON.
    pub(crate) async fn take_messages(&self, url: &str) -> anyhow::Result<Vec<Value>> {
        let receive = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600 });
        let mut bodies = Vec::new();
        for _ in 0..MOST_PAGES {
            let page = self.call("sqs", "AmazonSQS.ReceiveMessage", &receive).await?;
            let messages = page["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                return Ok(bodies);
            }
            for message in messages {
                let delete = json!({ "QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"] });
                self.call("sqs", "AmazonSQS.DeleteMessage", &delete).await?;
                let body = message["Body"].as_str().context("a message without a body")?;
                bodies.push(serde_json::from_str(body).with_context(|| body.to_owned())?);
            }
        }
        bail!("{url} has more than {MOST_PAGES} pages of messages")
    }

    pub(crate) async fn delete_queue(&self, url: &str) -> anyhow::Result<()> {
        self.call("sqs", "AmazonSQS.DeleteQueue", &json!({ "QueueUrl": url })).await.map(drop)
    }
}

fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().timeout(BOUND).build()
}

fn plain_map(item: &Map<String, Value>) -> Map<String, Value> {
    item.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
}

/// An attribute as JSON. A number stays text, as DynamoDB sends it: its digits are what tests compare.
fn plain(attribute: &Value) -> Value {
    let Some((kind, value)) = attribute.as_object().and_then(|typed| typed.iter().next()) else {
        return Value::Null;
    };
    match (kind.as_str(), value) {
        ("M", Value::Object(members)) => Value::Object(plain_map(members)),
        ("L", Value::Array(items)) => items.iter().map(plain).collect(),
        ("NULL", _) => Value::Null,
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_become_json_with_their_digits() {
        let item = json!({ "id": { "S": "a" }, "cost": { "N": "0.000000000123" }, "gone": { "NULL": true },
            "deep": { "M": { "list": { "L": [{ "BOOL": true }, { "N": "7" }] } } } });
        let plain = Value::Object(plain_map(item.as_object().unwrap()));
        assert_eq!(
            plain,
            json!({ "id": "a", "cost": "0.000000000123", "gone": null, "deep": { "list": [true, "7"] } })
        );
    }
}
