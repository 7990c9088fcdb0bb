//! A notification to each of its channels, side by side: a broken one holds up no other.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use huntaze_domain::env::Env;
use huntaze_domain::notification::Channel;
use reqwest::Client;

use crate::delivery::{Deliveries, Receive, Sent, Step, Undelivered};
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

/// A notification that is not delivered. What was delivered of it is not delivered again.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// None of what is left of it is due.
    #[error("nothing of it is due")]
    Busy {
        /// When the first of its channels is.
        after: Duration,
    },
    /// Some of its channels failed.
    #[error("{faults}")]
    Failed {
        /// When the first of its channels may be tried again, where each says so.
        after: Option<Duration>,
        /// Which failed, and how.
        faults: Faults,
    },
    /// What is left of it was tried as often as it is: by these channels.
    #[error("tried for the last time: {}", .0.join(" "))]
    Exhausted(Vec<&'static str>),
}

/// Channels, and how each failed.
#[derive(Debug)]
pub struct Faults(Vec<(&'static str, Undelivered)>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.0.iter().map(|(channel, fault)| match fault {
            Undelivered::Record(cause) => format!("{channel}: {fault}: {cause}"),
            Undelivered::Failed { fault, .. } => format!("{channel}: {fault}"),
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
    pub async fn deliver(&self, told: &Told, receive: &Receive) -> Result<(), Unfinished> {
        let channels = told.channels.iter().map(async |&channel| {
            let step = step(channel);
            (step.as_str(), self.deliveries.once(&told.id, step, receive, self.tell(channel, told)).await)
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

/// One end of several. While any channel may be tried again, the notification comes when the first of them may: those that are
/// not due then are left alone.
fn combined(left: Vec<(&'static str, Undelivered)>) -> Result<(), Unfinished> {
    let (exhausted, open): (Vec<_>, Vec<_>) =
        left.into_iter().partition(|(_, end)| matches!(end, Undelivered::Exhausted));
    // None, which is the least, where a record could not be read: the queue's backoff stands for its wait.
    let Some(after) = open.iter().map(|(_, end)| end.wait()).min() else {
        let channels: Vec<_> = exhausted.into_iter().map(|(channel, _)| channel).collect();
        return if channels.is_empty() { Ok(()) } else { Err(Unfinished::Exhausted(channels)) };
    };
    let is_busy = |end: &Undelivered| matches!(end, Undelivered::Busy { .. });
    let faults: Vec<_> = open.into_iter().filter(|(_, end)| !is_busy(end)).collect();
    match after {
        Some(after) if faults.is_empty() => Err(Unfinished::Busy { after }),
        after => Err(Unfinished::Failed { after, faults: Faults(faults) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn busy(seconds: u64) -> Undelivered {
        Undelivered::Busy { after: Duration::from_secs(seconds) }
    }

    fn failed(seconds: u64) -> Undelivered {
        Undelivered::Failed { after: Duration::from_secs(seconds), fault: Fault::Failed("500".to_owned()) }
    }

    fn after(left: Vec<(&'static str, Undelivered)>) -> Option<u64> {
        match combined(left).unwrap_err() {
            Unfinished::Busy { after } => Some(after.as_secs()),
            Unfinished::Failed { after, .. } => Some(after?.as_secs()),
            Unfinished::Exhausted(_) => None,
        }
    }

    #[test]
    fn a_notification_comes_again_when_the_first_of_its_channels_may_be_tried() {
        assert!(combined(Vec::new()).is_ok());
        assert_eq!(after(vec![("sns", busy(3)), ("slack", busy(7))]), Some(3));
        assert_eq!(after(vec![("sns", failed(9)), ("slack", failed(900))]), Some(9));
        assert_eq!(
            after(vec![("sns", busy(8)), ("slack", failed(900)), ("email_job", Undelivered::Exhausted)]),
            Some(8)
        );
        // The queue's own backoff: nobody knows when the topic may be tried.
        let record = || Undelivered::Record(Fault::Timeout);
        assert_eq!(after(vec![("slack", failed(900)), ("sns", record())]), None);
        let unfinished = combined(vec![("slack", failed(9)), ("sns", record()), ("email_job", busy(1))]).unwrap_err();
        let said = "slack: it failed: 500; sns: the record of deliveries: no answer in time";
        assert_eq!(unfinished.to_string(), said);
    }

    #[test]
    fn a_notification_is_exhausted_when_nothing_of_it_can_be_tried_again() {
        let left = vec![("slack", Undelivered::Exhausted), ("sns", Undelivered::Exhausted)];
        let unfinished = combined(left).unwrap_err();
        assert!(matches!(&unfinished, Unfinished::Exhausted(channels) if channels == &["slack", "sns"]));
        assert_eq!(unfinished.to_string(), "tried for the last time: slack sns");
    }
}
