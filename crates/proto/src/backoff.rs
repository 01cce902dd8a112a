//! Delays between reconnections (G1): 200 ms, doubled, 30 s cap, full jitter, a 5 min window; what
//! the server says (`retry`, `Retry-After`) wins.

use std::time::Duration;

/// A schedule of delays. Time and chance come in as arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    attempt: u32,
    spent: Duration,
}

impl Backoff {
    /// The first step.
    pub const BASE: Duration = Duration::from_millis(200);
    /// The largest step.
    pub const CAP: Duration = Duration::from_secs(30);
    /// The time after which it gives up.
    pub const WINDOW: Duration = Duration::from_secs(300);

    /// A fresh schedule.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attempt: 0,
            spent: Duration::ZERO,
        }
    }

    /// The next delay, or `None` when the window is spent. `random` is a number drawn from the whole
    /// range of `u64`; `told` is what the server asked for, which is then kept exactly, with up to a
    /// tenth added so that clients do not return together (G6).
    pub fn next_delay(&mut self, random: u64, told: Option<Duration>) -> Option<Duration> {
        let _ = (random, told);
        unimplemented!()
    }

    /// Starts anew; call it on real progress only (an event arrived), never on a mere connection (G7).
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}
