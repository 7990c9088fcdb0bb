//! What the layers say.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::layer::{Bound, Layer, Of};

/// What one layer says. Of a permit that was granted: behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerVerdict {
    /// Which.
    pub layer: &'static Layer,
    /// No more than so many in any window.
    pub limit: u32,
    /// The window.
    pub window: Duration,
    /// How many more it lets through now.
    pub remaining: u32,
    /// When that is one more; zero where nothing counts. A call under way may end now: so soon it may be, and somewhat later
    /// it is.
    pub reset: Duration,
    /// Whether it has no room.
    pub denied: bool,
}

impl LayerVerdict {
    /// When to ask again, where it has no room.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.denied.then_some(self.reset)
    }
}

/// What all layers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// When it was said, by the limiter's own clock, in microseconds: no two are said at once.
    pub at: u64,
    /// The attempt had a permit before.
    pub repeated: bool,
    /// Each layer's.
    pub layers: Vec<LayerVerdict>,
}

impl Verdict {
    pub(super) fn new(at: u64, repeated: bool, bounds: &[Bound], said: Vec<(u32, u64, bool)>) -> Self {
        let layers = bounds.iter().zip(said).map(|(bound, (remaining, reset, denied))| LayerVerdict {
            layer: bound.layer,
            limit: bound.limit,
            window: bound.window,
            remaining,
            reset: Duration::from_micros(reset),
            denied,
        });
        Self { at, repeated, layers: layers.collect() }
    }

    /// The layers that have no room.
    pub fn denied(&self) -> impl Iterator<Item = &LayerVerdict> {
        self.layers.iter().filter(|layer| layer.denied)
    }

    /// Whether a layer has no room.
    #[must_use]
    pub fn throttled(&self) -> bool {
        self.denied().next().is_some()
    }

    /// Of some layers the one that lets the fewest more through; of several the one that takes longest to let one more.
    #[must_use]
    pub fn tightest(&self, of: impl Fn(Of) -> bool) -> Option<&LayerVerdict> {
        let layers = self.layers.iter().filter(|layer| of(layer.layer.of));
        layers.min_by_key(|layer| (layer.remaining, std::cmp::Reverse(layer.reset)))
    }
}

/// Which memory a permit was granted by: each log's generation. PostgreSQL takes the permit as long as they are current.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generations(pub(super) BTreeMap<String, i64>);

impl Generations {
    /// As `orchestrator.permits_hold` reads them.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!(self.0)
    }
}
