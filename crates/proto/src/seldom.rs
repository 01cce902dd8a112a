//! What is done once in a time at the most, however often there is reason to: a warning that would drown the log.

use std::time::{Duration, Instant};

/// Remembers when something was done last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    /// Something that was never done.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Whether it was not done for so long. If so, it counts as done at `now`.
    pub fn is_due(&mut self, now: Instant, every: Duration) -> bool {
        let is_due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= every);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}
