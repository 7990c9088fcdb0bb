//! Which circuit a call belongs to, what its end says of that, and how circuits are shown.

use std::time::Duration;

use huntaze_breaker::{Asked, Breaker, Denied, Keeper, Name, Peeked, Permit, Report, Standing, State, Token};
use huntaze_domain::provider::Provider;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::answer::{CallEnd, Failure};
use crate::route::{Candidate, Roles};

/// So much of a pace is sat out.
const EARLY: Duration = Duration::from_millis(500);

/// What a circuit says of a call: it is let through, or not. `None`: nobody is asked.
pub(crate) type Verdict = Option<Result<Permit, Denied>>;

/// A circuit that the end of a call opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: Name,
    /// Whose it is.
    pub provider: Provider,
    /// It was opened, or else closed.
    pub opened: bool,
}

/// The circuit of a provider's model, over all instances.
#[must_use]
pub fn name(candidate: &Candidate) -> Option<Name> {
    Name::parse(&format!("{}:{}", candidate.provider.as_str(), candidate.deployment)).ok()
}

/// Asks for a call of a candidate.
pub(crate) async fn ask(breaker: Option<&Breaker>, candidate: &Candidate) -> Verdict {
    let (breaker, name) = breaker.zip(name(candidate))?;
    let token = Token::random();
    let Asked { mut permit, .. } = breaker.ask(&name, token).await;
    // Whoever waited as long as a provider said is early by what it took to tell the others.
    if let Err(Denied::Paced { retry_after }) = permit
        && retry_after <= EARLY
    {
        sleep(retry_after).await;
        Asked { permit, .. } = breaker.ask(&name, token).await;
    }
    Some(permit)
}

/// Gives back what was let through and is not called. Only a probe is missed by anybody, and its circuit stays as it is.
pub(crate) async fn give_back(breaker: Option<&Breaker>, verdict: Verdict) {
    if let (Some(breaker), Some(Ok(permit))) = (breaker, verdict)
        && permit.is_probe()
    {
        let _ = tell(breaker, &permit, Report::NotMade).await;
    }
}

/// Tells how a call ended that was let through. Gives what that changed.
pub(crate) async fn tell(breaker: &Breaker, permit: &Permit, report: Report) -> Option<Change> {
    let told = breaker.report(permit, report).await;
    let told = told.inspect_err(|fault| {
        tracing::warn!(%fault, circuit = %permit.name(), "how a call ended is not told");
    });
    let standing = told.ok().filter(|told| told.changed)?.standing;
    tracing::warn!(circuit = %permit.name(), state = ?standing.state, "circuit");
    let provider = permit.name().as_str().split_once(':').and_then(|(name, _)| Provider::from_name(name))?;
    Some(Change { name: permit.name().clone(), provider, opened: standing.state != State::Closed })
}

/// Why a call is not let through, as a failure of the call.
pub(crate) fn failure(denied: Denied) -> Failure {
    match denied {
        Denied::Open { .. } => Failure::CircuitOpen,
        Denied::Paced { .. } => Failure::Paced,
    }
}

/// What a call's end says of the service.
pub(crate) fn report(end: &CallEnd) -> Report {
    match end.result {
        Ok(_) => Report::Success,
        Err(failure) => match failure {
            // It gave a text; what we think of that is no matter of the service.
            Failure::Blocked => Report::Success,
            Failure::RateLimited => Report::RateLimited { retry_after: end.retry_after },
            // It is there, and has an opinion. Nor does one user's request speak for all others.
            Failure::Rejected | Failure::Filtered | Failure::Declined | Failure::NoText => Report::Neither,
            Failure::NotSent
            | Failure::OverBudget
            | Failure::NotConfigured
            | Failure::CircuitOpen
            | Failure::Paced
            | Failure::NotKept => Report::NotMade,
            // A wrong key, or nothing left to spend, is as good as an outage to whoever would call next.
            Failure::Connect
            | Failure::Connection
            | Failure::Timeout
            | Failure::Server
            | Failure::QuotaExhausted
            | Failure::Misconfigured
            | Failure::InvalidAnswer => Report::Failure,
        },
    }
}

/// Every configured candidate's circuit, as an administrator is shown it: `{keeper, circuits}`. `callable`: who has a key.
pub async fn view(breaker: &Breaker, roles: &Roles, callable: &[Provider]) -> Value {
    let circuits = circuits(roles, callable);
    shown(&circuits, &peek(breaker, &circuits).await)
}

/// Of whom a configured candidate's circuit is open or half-open. Where Redis is away: as far as this process knows.
pub async fn disturbed(breaker: &Breaker, roles: &Roles, callable: &[Provider]) -> Vec<Provider> {
    let circuits = circuits(roles, callable);
    let peeked = peek(breaker, &circuits).await;
    let stands = circuits.iter().zip(peeked.standings);
    stands.filter(|(_, stands)| stands.state != State::Closed).map(|((candidate, _), _)| candidate.provider).collect()
}

async fn peek(breaker: &Breaker, circuits: &[(&Candidate, Name)]) -> Peeked {
    let names: Vec<_> = circuits.iter().map(|(_, name)| name.clone()).collect();
    breaker.peek(&names).await
}

/// The candidates of every role by their circuits, each once.
fn circuits<'a>(roles: &'a Roles, callable: &[Provider]) -> Vec<(&'a Candidate, Name)> {
    let mut found: Vec<(&Candidate, Name)> = Vec::new();
    for candidate in roles.all().filter(|candidate| callable.contains(&candidate.provider)) {
        if let Some(name) = name(candidate)
            && found.iter().all(|(_, known)| *known != name)
        {
            found.push((candidate, name));
        }
    }
    found
}

/// `peeked` is of the same circuits, in the same order.
fn shown(circuits: &[(&Candidate, Name)], peeked: &Peeked) -> Value {
    let keeper = match peeked.by {
        Keeper::Redis => "redis",
        Keeper::Process => "process",
    };
    let circuits = circuits.iter().zip(&peeked.standings);
    let circuits: Vec<_> = circuits.map(|((candidate, name), standing)| one(candidate, name, standing)).collect();
    json!({"keeper": keeper, "circuits": circuits})
}

fn one(candidate: &Candidate, name: &Name, standing: &Standing) -> Value {
    let after = |left: Duration| {
        let at = i64::try_from(standing.at).ok()?;
        Timestamp::from_millisecond(at).ok()?.checked_add(left).ok()
    };
    let (state, until) = match standing.state {
        State::Closed => ("closed", None),
        State::Open { left } => ("open", Some(("openUntil", left))),
        // Without a probe that is under way the next who asks is one.
        State::HalfOpen { left } => ("half_open", Some(("probeUntil", left)).filter(|_| !left.is_zero())),
    };
    let mut shown = json!({
        "name": name.as_str(), "provider": candidate.provider, "model": candidate.model, "state": state,
        "failures": standing.failures, "epoch": standing.epoch,
    });
    let paced = Some(("pacedUntil", standing.paced)).filter(|(_, left)| !left.is_zero());
    for (member, left) in until.into_iter().chain(paced) {
        shown[member] = json!(after(left));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(text: &str) -> Candidate {
        Candidate::parse(text).unwrap()
    }

    #[test]
    fn a_circuit_of_several_roles_is_shown_once_and_one_that_is_never_called_not_at_all() {
        let (azure, openai) = (candidate("azure:ours=gpt-4o"), candidate("openai:gpt-4o"));
        let roles = Roles {
            planner: vec![azure.clone(), openai.clone()],
            short_message: vec![openai, candidate("openai:gpt-4o-mini")],
            validator: vec![azure],
        };
        let names = |callable: &[Provider]| -> Vec<_> {
            circuits(&roles, callable).into_iter().map(|(_, name)| name.to_string()).collect()
        };
        assert_eq!(names(&Provider::ALL), ["azure:ours", "openai:gpt-4o", "openai:gpt-4o-mini"]);
        assert_eq!(names(&[Provider::Azure]), ["azure:ours"]);
    }

    #[test]
    fn a_circuit_is_shown_by_the_clock_of_its_keeper() {
        let candidate = candidate("azure:ours=gpt-4o");
        let circuits = [(&candidate, name(&candidate).unwrap())];
        let stands = |state, paced: u64| Peeked {
            standings: vec![Standing {
                at: 1_795_256_430_456,
                state,
                epoch: 7,
                failures: 5,
                calls: 0,
                paced: Duration::from_millis(paced),
            }],
            by: Keeper::Redis,
        };
        let left = Duration::from_secs(30);
        let mut open = shown(&circuits, &stands(State::Open { left }, 1_000));
        let expected = json!({
            "name": "azure:ours", "provider": "azure", "model": "gpt-4o", "state": "open", "failures": 5, "epoch": 7,
            "openUntil": "2026-11-21T10:21:00.456Z", "pacedUntil": "2026-11-21T10:20:31.456Z",
        });
        assert_eq!((open["keeper"].take(), open["circuits"][0].take()), (json!("redis"), expected));
        let probed = shown(&circuits, &stands(State::HalfOpen { left }, 0));
        assert_eq!(probed["circuits"][0]["probeUntil"], "2026-11-21T10:21:00.456Z");
        let free = shown(&circuits, &stands(State::HalfOpen { left: Duration::ZERO }, 0))["circuits"][0].take();
        assert_eq!((&free["state"], free.get("probeUntil"), free.get("pacedUntil")), (&json!("half_open"), None, None));
    }
}
