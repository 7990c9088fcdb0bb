//! Waiting for what happens elsewhere.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep, timeout_at};

const INTERVAL: Duration = Duration::from_millis(20);

/// Runs `probe` until it succeeds, and gives what it found.
///
/// # Errors
/// What the last probe said, if none succeeded within `bound`.
pub async fn eventually<T>(bound: Duration, mut probe: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let end = Instant::now() + bound;
    let mut last = None;
    loop {
        match timeout_at(end, probe()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(reason)) => last = Some(reason),
            Err(_) => {}
        }
        if Instant::now() >= end {
            let reason = last.unwrap_or_else(|| anyhow::anyhow!("the first probe has not ended"));
            return Err(reason).with_context(|| format!("not so within {bound:?}"));
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[tokio::test]
    async fn it_gives_what_the_first_successful_probe_found() {
        let mut left = 3;
        let found = eventually(Duration::from_secs(5), async || {
            left -= 1;
            ensure!(left == 0, "{left} left");
            Ok("found")
        });
        assert_eq!(found.await.unwrap(), "found");
    }

    #[tokio::test]
    async fn it_ends_with_the_last_reason() {
        let error = eventually(Duration::from_millis(30), async || -> anyhow::Result<()> { anyhow::bail!("not yet") });
        assert_eq!(error.await.unwrap_err().root_cause().to_string(), "not yet");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_is_cut() {
        let hanging =
            eventually(Duration::from_millis(30), async || -> anyhow::Result<()> { std::future::pending().await });
        assert!(hanging.await.is_err());
    }
}
