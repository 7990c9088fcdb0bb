//! What a request asks the orchestrator for, by its headers and body.

use std::time::Duration;

use http::header;
use huntaze_domain::ids::UserId;
use huntaze_domain::intent::{Preference, WorkflowIntent};
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::Call;
use huntaze_lambda::problem::Problem;
use huntaze_orchestrator::run::Request;
use huntaze_orchestrator::workflow::Reuse;
use huntaze_rollout::choice::Choice;
use huntaze_rollout::old;

use crate::Campaigns;

/// What is kept of the time for what follows the last call: its settlement.
const SETTLEMENT: Duration = Duration::from_millis(1_500);

impl Campaigns {
    /// Reads a body of the new route.
    pub(crate) fn read(&self, call: &Call, body: &[u8], principal: &Principal) -> Result<Request, Problem> {
        let refused = |problem| unread(call, principal, problem);
        let idempotency_key = call.idempotency_key().map_err(refused)?;
        let parsed = WorkflowIntent::parse(body).map_err(|faults| refused(Problem::invalid(faults)))?;
        let owner = principal.acting_for(parsed.intent.user_id.as_ref())?.clone();
        Ok(Request {
            owner,
            requested_by: principal.user_id.clone(),
            parsed,
            idempotency_key,
            request_id: call.request_id.clone(),
            trace: call.trace.clone(),
            now: call.now,
            accepted_at: call.started,
            deadline: (call.deadline - SETTLEMENT).min(call.started + self.patience),
            // Its client waits no longer than the deadline.
            longest_wait: self.patience,
            later: prefers_async(call),
            reuse: reuse(call),
        })
    }
}

/// Why a request that cannot be read is refused: it may be passed on all the same, but not in somebody else's name.
pub(crate) fn unread(call: &Call, principal: &Principal, problem: Problem) -> Problem {
    let may = |user: &UserId| principal.acting_for(Some(user)).map(drop);
    old::users(&call.body).iter().try_for_each(may).map_or_else(Problem::from, |()| problem)
}

/// Gives a request what its user is dealt of an experiment.
pub(crate) fn deal(request: &mut Request, choice: &Choice) {
    let Some((dealt, provider)) = choice.deal(&request.owner) else { return };
    let intent = &mut request.parsed.intent;
    // The client's own wish counts for more.
    if intent.preferred_provider == Preference::Auto {
        intent.preferred_provider = provider.map_or(Preference::Auto, Preference::from);
    }
    intent.dealt = Some(dealt);
}

/// RFC 7240: preferences are separated by commas, parameters by semicolons.
fn prefers_async(call: &Call) -> bool {
    let preferences = call.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut names = preferences.flat_map(|line| line.split(',')).filter_map(|part| part.split(';').next());
    names.any(|name| name.trim().eq_ignore_ascii_case("respond-async"))
}

/// RFC 9111: `no-cache` wants a new one, `no-store` that nothing of it is kept either.
fn reuse(call: &Call) -> Reuse {
    let directives = call.headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let names: Vec<_> =
        directives.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
    let says = |name: &str| names.iter().any(|one| one == name);
    match () {
        () if says("no-store") => Reuse::Never,
        () if says("no-cache") => Reuse::Last,
        () => Reuse::Fresh,
    }
}
