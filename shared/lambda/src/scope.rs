//! What every invocation runs in: a span whose ids stand on each of its log lines, its trace, and a net under panics.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use http::HeaderValue;
use huntaze_domain::trace::Trace;
use tracing::{Span, field};
use uuid::Uuid;

/// The target of the span, by which the log's format and its filter know it.
pub(crate) const TARGET: &str = "huntaze::request";

tokio::task_local! {
    static TRACE: Trace;
}

/// The handler panicked. Where is in the log already.
pub(crate) struct Panicked;

/// The span of one invocation. `workflow` is recorded by whoever learns it. An error's span is open at every level.
pub(crate) fn span(request: &str, trace: &Trace) -> Span {
    tracing::error_span!(target: TARGET, "request", request, trace = trace.id(), workflow = field::Empty)
}

/// The trace that Lambda gave the invocation, or one that begins here.
pub(crate) fn trace_of_lambda(xray: Option<&str>) -> Trace {
    xray.and_then(Trace::from_xray).unwrap_or_else(|| Trace::begin(Uuid::now_v7().as_u128()))
}

/// Runs a handler in its trace. The process outlives its panic: what a handler shares with the next request is behind
/// locks that are not poisoned.
pub(crate) async fn run<T>(trace: &Trace, handler: impl Future<Output = T>) -> Result<T, Panicked> {
    TRACE.scope(trace.clone(), AssertUnwindSafe(handler).catch_unwind()).await.map_err(|_| Panicked)
}

/// `X-Amzn-Trace-Id` for a call to AWS: the invocation's trace, whatever the SDK (`sdks`) took from Lambda. `None` where
/// the SDK's own is right, or outside of an invocation.
pub(crate) fn xray_header(sdks: Option<&HeaderValue>) -> Option<HeaderValue> {
    let sdks = sdks.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let header = TRACE.try_with(|trace| continued(trace, sdks)).ok().flatten()?;
    HeaderValue::from_str(&header).ok()
}

/// Lambda tells recursive loops by `Lineage`, which is kept.
fn continued(trace: &Trace, sdks: &str) -> Option<String> {
    if Trace::from_xray(sdks).is_some_and(|lambdas| lambdas.id() == trace.id()) {
        return None;
    }
    let lineage = sdks.split(';').find(|part| part.trim().starts_with("Lineage="));
    Some([Some(trace.xray().as_str()), lineage].into_iter().flatten().collect::<Vec<_>>().join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_to_aws_carries_the_invocations_trace_and_lambdas_lineage() {
        let trace = Trace::new("5759e988bd862e3fe1be46a994272793", true).unwrap();
        let ours = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1";
        let other = "Root=1-00000000-111111111111111111111111;Parent=53995c3f42cd8ad8;Sampled=0;Lineage=1:a:0";
        assert_eq!(continued(&trace, "").as_deref(), Some(ours));
        assert_eq!(continued(&trace, other), Some(format!("{ours};Lineage=1:a:0")));
        assert_eq!(continued(&trace, &format!("{ours};Parent=53995c3f42cd8ad8;Lineage=1:a:0")), None);
        assert_eq!(xray_header(None), None, "outside of an invocation");
    }
}
