//! JSON lines on standard output, one event each. `LOG_LEVEL` chooses the least level (`info`).
//!
//! Every line that is written while a request is handled says which: `request`, `trace` and, once it is known,
//! `workflow`, whatever spans a library has opened in between.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_serde::fields::AsMap;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::scope;

/// What holds unless `LOG_LEVEL` itself names these:
/// - the request's span is there at every level, for its ids;
/// - the runtime does not repeat a failure that was logged here, nor the words of a panic, which may be a user's;
/// - hyper's connections are driven by tasks of their own, whose lines belong to no request.
const ALWAYS: &str = "huntaze::request=error,lambda_runtime::layers::panic=off,hyper_util=info";

/// Starts logging, of panics too. The first call counts.
pub fn init() {
    #[expect(clippy::disallowed_methods, reason = "logging starts before the configuration, to report its faults")]
    let level = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(format!("{ALWAYS},{level}"));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(format!("{ALWAYS},info")));
    let subscriber = tracing_subscriber::fmt().fmt_fields(JsonFields::new()).event_format(Line).with_env_filter(filter);
    if subscriber.try_init().is_err() {
        tracing::debug!("logging had been started already");
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        tracing::error!(location, "panic");
    }));
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
    use tracing::Span;

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
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(Line)
            .with_env_filter(EnvFilter::new(format!("{ALWAYS},huntaze_lambda::logs=info")))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), || {
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
}
