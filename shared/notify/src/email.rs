//! E-mail: jobs on a queue, and what becomes of one. No address travels in the queue; it is looked up where it is written to.

mod address;
mod render;
mod suppression;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sesv2::config::retry::RetryConfig;
use aws_sdk_sesv2::config::timeout::TimeoutConfig;
use aws_sdk_sesv2::types::{Body, Content as Part, Destination, EmailContent, Message};
use futures_util::future::try_join_all;
use huntaze_domain::env::Env;
use huntaze_domain::ids::UserId;
use huntaze_domain::notification::Audience;
use tokio::sync::OnceCell;

pub use self::address::{Address, NoAddress};
pub use self::suppression::Suppressions;
use crate::delivery::{Deliveries, PATIENCE, Receive, Sent, Step, Undelivered};
use crate::fault::Fault;
use crate::message::EmailJob;

/// SES takes at most 50 recipients.
const MAX_OPERATORS: usize = 50;
/// SES's errors that mean this e-mail.
const REFUSALS: &[&str] = &["MessageRejected", "BadRequestException"];

/// The queue of jobs.
#[derive(Debug)]
pub struct EmailQueue {
    client: aws_sdk_sqs::Client,
    /// Its name, or its URL.
    queue: String,
    url: OnceCell<String>,
}

impl EmailQueue {
    /// The queue that `SQS_EMAIL_QUEUE` names, by its name or its URL.
    #[must_use]
    pub fn from_env(env: &Env, client: aws_sdk_sqs::Client) -> Self {
        Self { client, queue: env.or("SQS_EMAIL_QUEUE", "huntaze-email"), url: OnceCell::new() }
    }

    /// Puts a job.
    ///
    /// # Errors
    /// [`Fault`]
    pub async fn put(&self, job: &EmailJob) -> Result<(), Fault> {
        let url = self.url.get_or_try_init(|| self.find()).await?;
        let body = serde_json::to_string(job).map_err(|_| Fault::Refused("unwritable".to_owned()))?;
        let sent = self.client.send_message().queue_url(url).message_body(body).send().await;
        sent.map(|_| ()).map_err(|error| Fault::of_aws(&error, &[]))
    }

    async fn find(&self) -> Result<String, Fault> {
        if self.queue.starts_with("http") {
            return Ok(self.queue.clone());
        }
        let found = self.client.get_queue_url().queue_name(&self.queue).send().await;
        found.map(|found| found.queue_url.unwrap_or_default()).map_err(|error| Fault::of_aws(&error, &[]))
    }
}

/// Writes the e-mails of jobs.
pub struct Mailer {
    deliveries: Deliveries,
    suppressions: Suppressions,
    users: Users,
    ses: aws_sdk_sesv2::Client,
    from: Option<Address>,
    operators: Vec<Address>,
    configuration_set: Option<String>,
}

/// Where users' addresses are.
struct Users {
    client: aws_sdk_dynamodb::Client,
    table: String,
}

impl Mailer {
    /// As the environment has it: `SES_FROM_EMAIL`, `SES_CONFIGURATION_SET`, `COST_ALERT_EMAIL` (one or several, by commas)
    /// and `DYNAMODB_USERS_TABLE`.
    #[must_use]
    pub fn from_env(
        env: &Env,
        suppressions: Suppressions,
        dynamodb: aws_sdk_dynamodb::Client,
        ses: aws_sdk_sesv2::Client,
    ) -> Self {
        let address = |variable: &str, text: &str| env.check(variable, Address::parse(text));
        let operators: Vec<_> =
            env.list("COST_ALERT_EMAIL").iter().filter_map(|text| address("COST_ALERT_EMAIL", text)).collect();
        if operators.len() > MAX_OPERATORS {
            env.fault("COST_ALERT_EMAIL", "names more than 50 addresses");
        }
        Self {
            deliveries: Deliveries::from_env(env, dynamodb.clone()),
            suppressions,
            users: Users { client: dynamodb, table: env.or("DYNAMODB_USERS_TABLE", "huntaze-users") },
            ses,
            from: env.optional("SES_FROM_EMAIL").and_then(|text| address("SES_FROM_EMAIL", text.trim())),
            operators,
            configuration_set: env.optional("SES_CONFIGURATION_SET"),
        }
    }

    /// Sends the e-mail of a job, once.
    ///
    /// # Errors
    /// [`Undelivered`] where the job has to come again, or to the dead-letter queue.
    pub async fn deliver(&self, job: &EmailJob, receive: &Receive) -> Result<(), Undelivered> {
        self.deliveries.once(&job.id, Step::Email, receive, self.send(job)).await
    }

    async fn send(&self, job: &EmailJob) -> Result<Sent, Fault> {
        let Some(from) = &self.from else { return Ok(Sent::Skipped("no sender is configured")) };
        let named = match &job.to {
            Audience::Operators if self.operators.is_empty() => {
                return Ok(Sent::Skipped("no operators' address is configured"));
            }
            Audience::Operators => self.operators.clone(),
            Audience::User(user) => match self.users.address(user).await? {
                Some(address) => vec![address],
                None => return Ok(Sent::Skipped("the user has no address")),
            },
        };
        let count = named.len();
        let checks = named.into_iter().map(async |address| {
            let suppressed = self.suppressions.has(&address).await?;
            Ok::<_, Fault>((!suppressed).then_some(address))
        });
        let to: Vec<_> = try_join_all(checks).await?.into_iter().flatten().collect();
        if to.is_empty() {
            return Ok(Sent::Skipped("suppressed"));
        }
        if to.len() < count {
            tracing::warn!(suppressed = count - to.len(), "not written to all of the operators");
        }
        self.write(from, &to, job).await.map(|()| Sent::Told)
    }

    /// The SDK's own retries are off: a second e-mail is counted as an attempt.
    async fn write(&self, from: &Address, to: &[Address], job: &EmailJob) -> Result<(), Fault> {
        let unwritable = |_| Fault::Refused("unwritable".to_owned());
        let part = |text: String| Part::builder().data(text).charset("UTF-8").build().map_err(unwritable);
        let (html, text) = (part(job.content.html())?, part(job.content.plain())?);
        let body = Body::builder().html(html).text(text).build();
        let message = Message::builder().subject(part(job.content.title.clone())?).body(body).build();
        let to = to.iter().map(|address| address.as_str().to_owned()).collect();
        let once = aws_sdk_sesv2::config::Builder::new()
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(PATIENCE).build());
        let sent = self
            .ses
            .send_email()
            .from_email_address(from.as_str())
            .destination(Destination::builder().set_to_addresses(Some(to)).build())
            .content(EmailContent::builder().simple(message).build())
            .set_configuration_set_name(self.configuration_set.clone())
            .customize()
            .config_override(once)
            .send()
            .await;
        sent.map(|_| ()).map_err(|error| Fault::of_aws(&error, REFUSALS))
    }
}

impl Users {
    /// A user's address; `None` where there is none that can be written to.
    async fn address(&self, user: &UserId) -> Result<Option<Address>, Fault> {
        let get = self.client.get_item().table_name(&self.table).projection_expression("email");
        let found = get.key("id", AttributeValue::S(user.as_str().to_owned())).send().await;
        let item = found.map_err(|error| Fault::of_aws(&error, &[]))?.item.unwrap_or_default();
        Ok(item.get("email").and_then(|email| Address::parse(email.as_s().ok()?.trim()).ok()))
    }
}
