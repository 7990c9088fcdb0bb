//! A notification to each of its channels, side by side: a broken one holds up no other.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use huntaze_domain::env::Env;
use huntaze_domain::notification::Channel;
use reqwest::Client;

use crate::delivery::{Clock, Deliveries, Sent, Step, Undelivered};
use crate::email::EmailQueue;
use crate::message::{EmailJob, Told};
use crate::slack::Slack;
use crate::sns::Topic;

/// The channels. One that is not configured is passed over, and that is recorded.
pub struct Fanout {
    deliveries: Deliveries,
    slack: Option<Slack>,
    topic: Option<Topic>,
    email: EmailQueue,
}

/// A notification that has to come again. What was delivered of it is not delivered again.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// Another process is at the rest.
    #[error("another process is at it")]
    Busy {
        /// When to look again.
        after: Duration,
    },
    /// Some of its channels failed.
    #[error("{faults}")]
    Failed {
        /// When the last of them wants to be tried again, where one says so.
        after: Option<Duration>,
        /// Which, and how.
        faults: Faults,
    },
}

/// Channels, and how each failed.
#[derive(Debug)]
pub struct Faults(Vec<(&'static str, Undelivered)>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.0.iter().map(|(channel, fault)| match fault {
            Undelivered::Record(cause) => format!("{channel}: {fault}: {cause}"),
            _ => format!("{channel}: {fault}"),
        });
        f.write_str(&faults.collect::<Vec<_>>().join("; "))
    }
}

impl Fanout {
    /// The channels that the environment configures.
    #[must_use]
    pub fn from_env(
        env: &Env,
        http: Client,
        dynamodb: aws_sdk_dynamodb::Client,
        sns: aws_sdk_sns::Client,
        sqs: aws_sdk_sqs::Client,
    ) -> Self {
        Self {
            deliveries: Deliveries::from_env(env, dynamodb),
            slack: Slack::from_env(env, http),
            topic: Topic::from_env(env, sns),
            email: EmailQueue::from_env(env, sqs),
        }
    }

    /// Delivers it over each of its channels that it has not been delivered over.
    ///
    /// # Errors
    /// [`Unfinished`]
    pub async fn deliver(&self, told: &Told, clock: &Clock) -> Result<(), Unfinished> {
        let channels = told.channels.iter().map(async |&channel| {
            let step = step(channel);
            (step.as_str(), self.deliveries.once(&told.id, step, clock, self.tell(channel, told)).await)
        });
        let ends = join_all(channels).await;
        combined(ends.into_iter().filter_map(|(channel, end)| Some((channel, end.err()?))).collect())
    }

    async fn tell(&self, channel: Channel, told: &Told) -> Result<Sent, crate::fault::Fault> {
        match channel {
            Channel::Slack => match &self.slack {
                Some(slack) => slack.tell(&told.content).await.map(|()| Sent::Told),
                None => Ok(Sent::Skipped("not configured")),
            },
            Channel::Sns => match &self.topic {
                Some(topic) => topic.publish(told).await.map(|()| Sent::Told),
                None => Ok(Sent::Skipped("not configured")),
            },
            Channel::Email => {
                let (id, to, content) = (told.id.clone(), told.audience.clone(), told.content.clone());
                self.email.put(&EmailJob { id, to, content }).await.map(|()| Sent::Told)
            }
            // What the app shows is read from where the sender keeps it.
            Channel::InApp => Ok(Sent::Told),
        }
    }
}

fn step(channel: Channel) -> Step {
    match channel {
        Channel::Slack => Step::Slack,
        Channel::Sns => Step::Sns,
        Channel::Email => Step::EmailJob,
        Channel::InApp => Step::InApp,
    }
}

/// One end of several: a failure counts more than waiting for another process.
fn combined(left: Vec<(&'static str, Undelivered)>) -> Result<(), Unfinished> {
    let busy = left.iter().filter_map(|(_, end)| match end {
        Undelivered::Busy { after } => Some(*after),
        _ => None,
    });
    let busy = busy.max();
    let faults: Vec<_> = left.into_iter().filter(|(_, end)| !matches!(end, Undelivered::Busy { .. })).collect();
    if !faults.is_empty() {
        let after = faults.iter().filter_map(|(_, end)| end.wait()).max();
        return Err(Unfinished::Failed { after, faults: Faults(faults) });
    }
    busy.map_or(Ok(()), |after| Err(Unfinished::Busy { after }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn busy(seconds: u64) -> Undelivered {
        Undelivered::Busy { after: Duration::from_secs(seconds) }
    }

    fn limited(seconds: u64) -> Undelivered {
        Fault::Limited { after: Some(Duration::from_secs(seconds)) }.into()
    }

    #[test]
    fn a_notification_comes_again_when_the_last_of_its_channels_may_be_tried() {
        assert!(combined(Vec::new()).is_ok());
        let waiting = combined(vec![("sns", busy(3)), ("slack", busy(7))]).unwrap_err();
        assert!(matches!(waiting, Unfinished::Busy { after } if after.as_secs() == 7));
        let failed = combined(vec![("sns", busy(90)), ("slack", limited(7)), ("email_job", limited(9))]).unwrap_err();
        assert!(matches!(&failed, Unfinished::Failed { after: Some(after), .. } if after.as_secs() == 9));
        let record = Undelivered::Record(Fault::Timeout);
        let failed = combined(vec![("slack", Fault::Failed("500".to_owned()).into()), ("sns", record)]).unwrap_err();
        assert!(matches!(failed, Unfinished::Failed { after: None, .. }));
        assert_eq!(failed.to_string(), "slack: it failed: 500; sns: the record of deliveries: no answer in time");
    }
}
