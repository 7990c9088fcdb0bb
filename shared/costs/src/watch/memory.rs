//! What a process knows of alerts: costs that stay over a threshold would else be a refused write with every request.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::alert::{Firing, Occasion, Standing};

/// More is forgotten, all of it: the table knows.
const MOST: usize = 4_096;

/// Alerts that are there, and when sources last fired, as far as this process was told. It is never ahead of the table: a period
/// fires once, and the silence after a source's last alert lasts at least until the one that is known here ends.
#[derive(Debug, Default)]
pub(super) struct Memory {
    fired: HashSet<String>,
    last: HashMap<String, Timestamp>,
}

impl Memory {
    /// What is known of an occasion.
    pub(super) fn standing(&self, occasion: &Occasion) -> Standing {
        Standing {
            fired: self.fired.contains(&occasion.alert_id()),
            last_fired: self.last.get(&occasion.source).copied(),
        }
    }

    /// Remembers what became of an occasion.
    pub(super) fn learn(&mut self, occasion: &Occasion, firing: &Firing, now: Timestamp) {
        match firing {
            Firing::Fired(_) => {
                self.there(occasion.alert_id());
                self.last_fired(&occasion.source, now);
            }
            Firing::Already => self.there(occasion.alert_id()),
            Firing::Silent(last) => last.iter().for_each(|last| self.last_fired(&occasion.source, *last)),
        }
    }

    /// Remembers that an alert is there.
    pub(super) fn there(&mut self, id: String) {
        if self.fired.len() >= MOST {
            self.fired.clear();
        }
        self.fired.insert(id);
    }

    fn last_fired(&mut self, source: &str, at: Timestamp) {
        if self.last.len() >= MOST {
            self.last.clear();
        }
        self.last.insert(source.to_owned(), at);
    }
}

#[cfg(test)]
mod tests {
    use huntaze_domain::money::Usd;

    use super::*;
    use crate::owner::Owner;
    use crate::threshold::{Crossing, Threshold, ThresholdKind};

    fn occasion(period: &str) -> Occasion {
        let threshold = Threshold::default_of(&Owner::Everyone, ThresholdKind::Daily).unwrap();
        Crossing::of(&threshold, period.to_owned(), Usd::parse("50").unwrap()).unwrap().into()
    }

    #[test]
    fn what_it_was_told_is_known_and_it_is_bounded() {
        let mut memory = Memory::default();
        let at = Timestamp::UNIX_EPOCH;
        memory.learn(&occasion("today"), &Firing::Already, at);
        assert_eq!(memory.standing(&occasion("today")), Standing { fired: true, last_fired: None });
        memory.learn(&occasion("tomorrow"), &Firing::Silent(Some(at)), at);
        assert_eq!(memory.standing(&occasion("tomorrow")), Standing { fired: false, last_fired: Some(at) });
        (0..MOST).for_each(|n| memory.there(n.to_string()));
        assert!(memory.fired.len() <= MOST && !memory.standing(&occasion("today")).fired);
    }
}
