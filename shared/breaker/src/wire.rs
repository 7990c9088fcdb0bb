//! What the scripts are told and say.

use std::time::Duration;

use crate::machine::{Calls, Circuit, Denied, Grant, Phase, Report};
use crate::rules::Rules;
use crate::token::Token;

/// When, state, epoch, since, probe, paced, failures, calls; `lua/circuit.lua` says what they are.
pub(crate) type Fields = (u64, String, u64, u64, String, u64, String, String);

/// The circuit, as it stands at the moment that it was shown.
pub(crate) fn circuit((at, state, epoch, since, probe, paced, failures, calls): Fields) -> Circuit {
    let phase = match state.as_str() {
        "open" => Phase::Open,
        "half" => Phase::HalfOpen { probe: Token::parse(&probe) },
        _ => Phase::Closed,
    };
    let failures = failures.split_whitespace().filter_map(failure).collect();
    let calls = calls.split_whitespace().filter_map(part).collect();
    Circuit { phase, epoch, since, paced, failures, calls, at }
}

/// What `ask.lua` decided.
pub(crate) fn asked(circuit: &Circuit, token: Token, decision: &str, wait: u64) -> Result<Grant, Denied> {
    let retry_after = Duration::from_millis(wait);
    match decision {
        "granted" => Ok(Grant { epoch: circuit.epoch, token, probe: circuit.phase != Phase::Closed }),
        "paced" => Err(Denied::Paced { retry_after }),
        _ => Err(Denied::Open { retry_after }),
    }
}

/// What `report.lua` calls a call's end, and for how long that paces, in milliseconds.
pub(crate) fn report(rules: &Rules, report: Report) -> (&'static str, u64) {
    match report {
        Report::Success => ("success", 0),
        Report::Failure => ("failure", 0),
        Report::RateLimited { retry_after } => ("limited", rules.pace(retry_after)),
        Report::Neither => ("neither", 0),
        Report::NotMade => ("not_made", 0),
    }
}

fn failure(entry: &str) -> Option<(u64, Token)> {
    let (at, token) = entry.split_once(':')?;
    Some((at.parse().ok()?, Token::parse(token)?))
}

fn part(entry: &str) -> Option<Calls> {
    let (since, counts) = entry.split_once(':')?;
    let (succeeded, failed) = counts.split_once(':')?;
    Some(Calls { since: since.parse().ok()?, succeeded: succeeded.parse().ok()?, failed: failed.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_is_read_as_it_was_written() {
        let token = Token::from(0xab);
        let shown = |state: &str, probe: &str, failures: &str, calls: &str| {
            circuit((9, state.into(), 7, 8, probe.into(), 11, failures.into(), calls.into()))
        };
        let plain = Circuit { epoch: 7, since: 8, paced: 11, at: 9, ..Circuit::default() };
        assert_eq!(shown("open", "", "", ""), Circuit { phase: Phase::Open, ..plain.clone() });
        let half = |probe: Option<Token>| Circuit { phase: Phase::HalfOpen { probe }, ..plain.clone() };
        assert_eq!(shown("half", &token.to_string(), "", ""), half(Some(token)));
        assert_eq!(shown("half", "", "", ""), half(None));
        let calls = [Calls { since: 3, succeeded: 4, failed: 5 }];
        assert_eq!(
            shown("closed", "", &format!("1:{token} 2:00000000000000ac "), "3:4:5 "),
            Circuit { failures: vec![(1, token), (2, Token::from(0xac))], calls: calls.into(), ..plain }
        );
    }
}
