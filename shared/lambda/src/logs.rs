//! JSON lines on standard output, one event each. `LOG_LEVEL` chooses the least level (`info`).

use tracing_subscriber::EnvFilter;

/// Starts logging. The first call counts.
pub fn init() {
    #[expect(clippy::disallowed_methods, reason = "logging starts before the configuration, to report its faults")]
    let level = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    // The Lambda service stamps each line with its own time.
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .without_time()
        .with_env_filter(filter)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging had been started already");
    }
}
