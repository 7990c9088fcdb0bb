//! JSON lines on standard output, one event each. `LOG_LEVEL` chooses the least level (`info`), also by targets.
//!
//! Every line that is written while a request is handled says which: `request`, `trace` and, once it is known,
//! `workflow`, whatever spans a library has opened in between.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_serde::fields::AsMap;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::scope;

/// What holds unless `LOG_LEVEL` itself names these:
/// - errors are logged, of whatever it does not speak;
/// - the request's span is there at every level, for its ids;
/// - the runtime does not repeat a failure that was logged here, nor the words of a panic, which may be a user's;
/// - hyper's connections are driven by tasks of their own, whose lines belong to no request.
const ALWAYS: &str = "error,huntaze::request=error,lambda_runtime::layers::panic=off,hyper_util=info";

/// Starts logging, of panics too. The first call counts.
pub fn init() {
    #[expect(clippy::disallowed_methods, reason = "logging starts before the configuration, to report its faults")]
    let told = filter(&std::env::var("LOG_LEVEL").unwrap_or_default());
    let is_readable = told.is_some();
    let filter = told.or_else(|| filter("info")).unwrap_or_default();
    if subscriber(filter, std::io::stdout).try_init().is_err() {
        tracing::debug!("logging had been started already");
        return;
    }
    if !is_readable {
        // Its text is not repeated: something else may have been put there.
        tracing::warn!("LOG_LEVEL is neither a level nor a list of targets; `info` stands in");
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        tracing::error!(location, "panic");
    }));
}

/// What `LOG_LEVEL` asks for; blank, it asks for `info`. `None` where it cannot be read.
///
/// A word alone has to be a level, `error` or more: the library would take any other for a target and log nothing else. Spans and
/// fields, in brackets, are not filtered by: that takes regular expressions, of which nothing else in a function has need.
fn filter(told: &str) -> Option<Targets> {
    let parts = told.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parts = parts.map(|part| if part.eq_ignore_ascii_case("warning") { "warn" } else { part }).collect::<Vec<_>>();
    let is_level = |part: &str| part.parse::<LevelFilter>().is_ok_and(|level| level >= LevelFilter::ERROR);
    if !parts.iter().all(|part| (part.contains('=') && !part.contains('[')) || is_level(part)) {
        return None;
    }
    let told = if parts.is_empty() { "info".to_owned() } else { parts.join(",") };
    format!("{ALWAYS},{told}").parse().ok()
}

/// Below `debug` a library writes down what it handles: events, whole requests and answers, and what is signed. Prompts and
/// tokens are in there, so no filter brings that back; our own crates have nothing of the kind.
fn subscriber<W>(filter: Targets, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let most = Targets::new().with_default(LevelFilter::DEBUG).with_target("huntaze", LevelFilter::TRACE);
    let format = tracing_subscriber::fmt::layer().fmt_fields(JsonFields::new()).event_format(Line);
    tracing_subscriber::registry().with(format.with_writer(writer)).with(filter).with(most)
}

/// One event as one line. It has no time: the Lambda service stamps each line with its own.
struct Line;

impl<S: Subscriber + for<'span> LookupSpan<'span>> FormatEvent<S, JsonFields> for Line {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        if let Ok(Value::Object(fields)) = serde_json::to_value(event.field_map()) {
            line.extend(fields);
        }
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        // Last: an event's own field of the same name does not hide which request it belongs to.
        let span =
            context.event_scope().and_then(|mut spans| spans.find(|span| span.metadata().target() == scope::TARGET));
        if let Some(span) = span
            && let Some(ids) = span.extensions().get::<FormattedFields<JsonFields>>()
        {
            line.extend(serde_json::from_str::<Map<_, _>>(ids).unwrap_or_default());
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use huntaze_domain::trace::Trace;
    use serde_json::json;
    use tracing::{Level, Span};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_of_a_nested_span_carries_the_requests_ids_and_nothing_else_of_any_span() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(filter("huntaze_lambda::logs=info").unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("before");
            let trace = Trace::new("5759e988bd862e3fe1be46a994272793", true).unwrap();
            scope::span("req-\"7\"", &trace).in_scope(|| {
                Span::current().record("workflow", "wf_1");
                tracing::info_span!(target: "huntaze_lambda::logs", "invoke", secret = "of a library").in_scope(|| {
                    tracing::warn!(status = 7, request = "hidden", "it\nhappened");
                });
            });
        });
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines,
            [
                json!({"level": "INFO", "target": "huntaze_lambda::logs::tests", "message": "before"}),
                json!({
                    "level": "WARN", "target": "huntaze_lambda::logs::tests", "message": "it\nhappened", "status": 7,
                    "request": "req-\"7\"", "trace": "5759e988bd862e3fe1be46a994272793", "workflow": "wf_1"
                })
            ]
        );
    }

    /// The most that is logged of a target.
    macro_rules! most {
        ($target:literal) => {{
            assert!(tracing::enabled!(target: $target, Level::ERROR));
            [
                (tracing::enabled!(target: $target, Level::TRACE), Level::TRACE),
                (tracing::enabled!(target: $target, Level::DEBUG), Level::DEBUG),
                (tracing::enabled!(target: $target, Level::INFO), Level::INFO),
                (tracing::enabled!(target: $target, Level::WARN), Level::WARN),
            ]
            .into_iter()
            .find_map(|(logged, level)| logged.then_some(level))
            .unwrap_or(Level::ERROR)
        }};
    }

    /// The most that is logged of a crate of ours and of a library, or `None` where the variable cannot be read.
    fn levels(told: &str) -> Option<[Level; 2]> {
        let subscriber = subscriber(filter(told)?, std::io::sink);
        let most = || [most!("huntaze_costs"), most!("lambda_runtime::layers::api_response")];
        Some(tracing::subscriber::with_default(subscriber, most))
    }

    #[test]
    fn a_level_is_read_in_any_case_and_nothing_turns_errors_off_or_brings_a_librarys_traces_back() {
        for blank in ["", " ", ","] {
            assert_eq!(levels(blank), Some([Level::INFO; 2]));
        }
        assert_eq!(levels("Info"), Some([Level::INFO; 2]));
        assert_eq!(levels(" WARNING"), Some([Level::WARN; 2]));
        assert_eq!(levels("error"), Some([Level::ERROR; 2]));
        assert_eq!(levels("huntaze_costs=debug"), Some([Level::DEBUG, Level::ERROR]));
        assert_eq!(levels("Warn, huntaze_costs=debug"), Some([Level::DEBUG, Level::WARN]));
        for all in ["trace", "TRACE", "trace,lambda_runtime::layers::api_response=trace"] {
            assert_eq!(levels(all), Some([Level::TRACE, Level::DEBUG]), "{all}");
        }
        for unreadable in ["inof", "off", "info,huntaze_costs", "huntaze_costs=inof", "[request]=trace", "a[{b}]=info"]
        {
            assert_eq!(levels(unreadable), None, "{unreadable}");
        }
    }
}
