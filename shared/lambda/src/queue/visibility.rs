//! When a record that is not done comes again.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use tokio::sync::Mutex;

use super::MOST_RECEIVES;
use super::batch::Record;

/// The first wait is at most this long, and each further one at most twice as long as the one before.
const FIRST: Duration = Duration::from_secs(8);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(300);
/// Nobody waits for a record that is rejected, so it comes a few times an hour at last.
const LONGEST_REJECTION: Duration = Duration::from_secs(15 * 60);
/// SQS hides no message for longer.
const SQS_LONGEST: Duration = Duration::from_secs(12 * 60 * 60);

/// A wait by how often the record was received: anywhere between a second and the bound, which doubles. Full jitter, because
/// what fails together would otherwise come back together.
pub(super) fn backoff(received: u32, random: u64) -> Duration {
    let bound = FIRST.saturating_mul(1 << received.saturating_sub(1).min(10)).min(LONGEST);
    Duration::from_secs(1 + random % bound.as_secs())
}

/// When a record comes again that is on its way to the dead-letter queue: at once, until it has been received as often as a
/// queue of the template hands one out. One that still comes is on a queue without a dead-letter queue, where it would come for
/// as long as that keeps it; a wait that doubles, half of it jitter, keeps it from spinning.
pub(super) fn after_rejection(received: u32, random: u64) -> Duration {
    let beyond = received.saturating_sub(MOST_RECEIVES);
    if beyond == 0 {
        return Duration::ZERO;
    }
    let bound = FIRST.saturating_mul(1 << (beyond - 1).min(10)).min(LONGEST_REJECTION).as_secs();
    Duration::from_secs(bound / 2 + random % (bound / 2 + 1))
}

/// Sets when records come again.
pub(super) struct Visibility {
    sqs: Client,
    /// Each queue's URL, asked for once an environment.
    urls: Mutex<HashMap<String, String>>,
}

impl Visibility {
    pub(super) fn new(sqs: Client) -> Self {
        Self { sqs, urls: Mutex::default() }
    }

    /// Has the record come again after this time. Where that cannot be said it comes after the queue's own time-out.
    pub(super) async fn set(&self, record: &Record<'_>, wait: Duration) {
        if let Err(error) = self.try_set(record, wait).await {
            tracing::warn!(error, "the queue's own time-out decides when it comes again");
        }
    }

    async fn try_set(&self, record: &Record<'_>, wait: Duration) -> Result<(), String> {
        let wait = wait.min(SQS_LONGEST);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let change = self.sqs.change_message_visibility().receipt_handle(&record.receipt_handle);
        let change = change.queue_url(self.url(&record.queue_arn).await?);
        let change = change.visibility_timeout(i32::try_from(seconds).unwrap_or(i32::MAX));
        change.send().await.map(|_| ()).map_err(|error| DisplayErrorContext(error).to_string())
    }

    async fn url(&self, arn: &str) -> Result<String, String> {
        let mut urls = self.urls.lock().await;
        if let Some(url) = urls.get(arn) {
            return Ok(url.clone());
        }
        let mut parts = arn.split(':').skip(4);
        let (Some(account), Some(name)) = (parts.next(), parts.next()) else { return Err("no queue's ARN".into()) };
        let answer = self.sqs.get_queue_url().queue_name(name).queue_owner_aws_account_id(account).send().await;
        let url = answer.map_err(|error| DisplayErrorContext(error).to_string())?.queue_url.unwrap_or_default();
        urls.insert(arn.to_owned(), url.clone());
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_under_full_jitter_and_are_bounded() {
        let bounds = [(0, 8), (1, 8), (2, 16), (3, 32), (4, 64), (5, 128), (6, 256), (7, 300), (40, 300)];
        for (received, bound) in bounds {
            assert_eq!(backoff(received, bound - 1).as_secs(), bound, "{received}");
            assert_eq!(backoff(received, bound).as_secs(), 1, "{received}");
        }
    }

    #[test]
    fn a_rejected_record_comes_at_once_until_a_queue_with_a_dead_letter_queue_would_have_moved_it() {
        for received in [0, 1, 5, MOST_RECEIVES] {
            assert_eq!(after_rejection(received, 7), Duration::ZERO, "{received}");
        }
        for (beyond, bound) in [(1, 8), (2, 16), (7, 512), (8, 900), (1_000, 900)] {
            assert_eq!(after_rejection(MOST_RECEIVES + beyond, 0).as_secs(), bound / 2, "{beyond}");
            assert_eq!(after_rejection(MOST_RECEIVES + beyond, bound / 2).as_secs(), bound, "{beyond}");
        }
    }
}
