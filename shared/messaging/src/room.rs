//! What the limits leave of an account, and when a message is expected to go.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::limiter::{Bound, LayerVerdict, Limiter, Mode, Of, Subject, Verdict};

/// How many messages of the account go before one, by what the limits count of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    /// All that have no permit yet.
    pub messages: u32,
    /// Those to the same fan.
    pub to_the_fan: u32,
    /// Those of the same type.
    pub of_the_type: u32,
    /// The other fans they go to.
    pub other_fans: u32,
}

impl Ahead {
    /// How many of them a layer counts. What other accounts send is not known.
    fn counted(&self, of: Of) -> u32 {
        match of {
            Of::Account | Of::User | Of::Everyone => self.messages,
            Of::Recipient => self.to_the_fan,
            Of::Recipients => self.other_fans,
            Of::Type(_) => self.of_the_type,
        }
    }
}

/// The limits of a subject, and what is left of them where that is known.
#[derive(Debug, Clone)]
pub struct Room {
    mode: Mode,
    bounds: Vec<Bound>,
    verdict: Option<Verdict>,
}

impl Room {
    /// Asks the limiter; nothing is consumed.
    pub async fn of(limiter: &Limiter, subject: &Subject<'_>) -> Self {
        Self { mode: limiter.mode(), bounds: limiter.limits(subject), verdict: limiter.peek(subject).await }
    }

    /// The account's own layer that lets the fewest more through.
    #[must_use]
    pub fn of_the_account(&self) -> Option<&LayerVerdict> {
        self.verdict.as_ref()?.tightest(|of| of == Of::Account)
    }

    /// As the API shows it: every layer, and at the top the one that lets the fewest more through. What everybody together
    /// sends is no measure of this account's, so that layer is never at the top.
    #[must_use]
    pub fn to_json(&self, now: Timestamp) -> Value {
        let mode = match self.mode {
            Mode::Enforce => "enforce",
            Mode::Monitor => "monitor",
        };
        let Some(verdict) = &self.verdict else {
            // Taken as not used, as for what is expected of a message; and said to be so.
            let layers = self.bounds.iter().map(|bound| json!({"name": bound.layer.name, "limit": bound.limit}));
            let own = self.bounds.iter().filter(|bound| bound.layer.of != Of::Everyone);
            return json!({
                "unknown": true, "mode": mode, "layers": layers.collect::<Vec<_>>(), "throttled": false,
                "remaining": own.map(|bound| bound.limit).min(), "resetTime": now,
            });
        };
        let layers = verdict.layers.iter().map(|layer| {
            json!({
                "name": layer.layer.name,
                "limit": layer.limit,
                "remaining": layer.remaining,
                "reset": after(now, layer.reset),
                "throttled": layer.denied,
            })
        });
        let mut shown = json!({"mode": mode, "throttled": verdict.throttled(), "layers": layers.collect::<Vec<_>>()});
        if let Some(tightest) = verdict.tightest(|of| of != Of::Everyone) {
            shown["tightest"] = json!(tightest.layer.name);
            shown["remaining"] = json!(tightest.remaining);
            shown["resetTime"] = json!(after(now, tightest.reset));
        }
        shown
    }

    /// How long the limits hold up whoever comes behind so many others: at least so long, and with what is sent beside them or
    /// tried again longer. Where nothing is known they are taken as not used.
    #[must_use]
    pub fn wait(&self, ahead: &Ahead) -> Duration {
        if self.mode == Mode::Monitor {
            return Duration::ZERO;
        }
        let wait = |bound: &Bound| {
            let said = self.verdict.as_ref().and_then(|v| v.layers.iter().find(|said| said.layer == bound.layer));
            let (remaining, reset) = said.map_or((bound.limit, Duration::ZERO), |said| (said.remaining, said.reset));
            turn(ahead.counted(bound.layer.of), remaining, reset, bound)
        };
        self.bounds.iter().map(wait).max().unwrap_or_default()
    }
}

/// The earliest turn of whoever has so many before it. As many as remain go at once. Behind them one goes when the first of those that
/// count leaves the window, and all of a limit later, whoever is next has to see those go that went now: a window each.
fn turn(before: u32, remaining: u32, reset: Duration, bound: &Bound) -> Duration {
    if before < remaining {
        Duration::ZERO
    } else if before < bound.limit {
        reset
    } else {
        bound.window * (before / bound.limit.max(1))
    }
}

/// A moment so much later.
#[must_use]
pub fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::LAYERS;

    const MINUTE: Duration = Duration::from_secs(60);

    fn room(name: &str, limit: u32, left: Option<(u32, u64)>) -> Room {
        let layer = LAYERS.iter().find(|layer| layer.name == name).unwrap();
        let said = |(remaining, reset)| LayerVerdict {
            layer,
            limit,
            window: MINUTE,
            remaining,
            reset: Duration::from_secs(reset),
            denied: remaining == 0,
        };
        let verdict = left.map(|left| Verdict { at: 0, repeated: false, layers: vec![said(left)] });
        Room { mode: Mode::Enforce, bounds: vec![Bound { layer, limit, window: MINUTE }], verdict }
    }

    fn waits(room: &Room) -> Vec<u64> {
        let of = |messages| room.wait(&Ahead { messages, ..Ahead::default() }).as_secs();
        [0, 1, 2, 3, 4, 5, 6, 9].map(of).to_vec()
    }

    #[test]
    fn a_message_waits_for_those_before_it_and_for_the_window() {
        // Three a minute, of which one is left; the first of the others leaves in 7 s.
        assert_eq!(waits(&room("account_minute", 3, Some((1, 7)))), [0, 7, 7, 60, 60, 60, 120, 180]);
        assert_eq!(waits(&room("account_minute", 3, Some((0, 7)))), [7, 7, 7, 60, 60, 60, 120, 180]);
        assert_eq!(waits(&room("account_minute", 3, Some((3, 0)))), [0, 0, 0, 60, 60, 60, 120, 180]);
        // Nobody knows: as if nothing had been sent.
        assert_eq!(waits(&room("account_minute", 3, None)), [0, 0, 0, 60, 60, 60, 120, 180]);
    }

    #[test]
    fn a_layer_counts_what_it_is_about() {
        let ahead = Ahead { messages: 9, to_the_fan: 1, of_the_type: 2, other_fans: 3 };
        let wait = |name: &str, remaining| room(name, 10, Some((remaining, 5))).wait(&ahead).as_secs();
        let layers = [
            ("account_hour", 9),
            ("recipient_minute", 1),
            ("custom_minute", 2),
            ("recipients_hour", 3),
            ("user_hour", 9),
        ];
        for (name, count) in layers {
            assert_eq!((wait(name, count), wait(name, count + 1)), (5, 0), "{name}");
        }
        let watched = Room { mode: Mode::Monitor, ..room("account_hour", 10, Some((0, 5))) };
        assert_eq!(watched.wait(&ahead), Duration::ZERO, "who only watches holds up nobody");
    }

    #[test]
    fn what_everybody_sends_is_never_at_the_top() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let mut all = room("account_minute", 10, Some((4, 30)));
        let everyone = room("global_second", 5, Some((0, 1)));
        all.verdict.as_mut().unwrap().layers.extend(everyone.verdict.unwrap().layers);
        let shown = all.to_json(now);
        assert_eq!(
            (&shown["tightest"], &shown["remaining"], &shown["resetTime"], &shown["throttled"]),
            (&json!("account_minute"), &json!(4), &json!("2026-11-22T10:00:30Z"), &json!(true))
        );
        assert_eq!(all.of_the_account().unwrap().remaining, 4);
        let unknown = room("account_minute", 10, None);
        assert_eq!((&unknown.to_json(now)["unknown"], unknown.of_the_account()), (&json!(true), None));
    }
}
