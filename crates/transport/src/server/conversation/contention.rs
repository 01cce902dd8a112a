//! Who opens a session's standalone stream takes it from whoever had it; but not without end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Standalone streams may replace each other so often within [`WINDOW`]; then two clients fight over one
/// session, and the next is told 409.
const MAX_REPLACEMENTS: usize = 3;
const WINDOW: Duration = Duration::from_secs(10);

/// How often the standalone stream was taken over lately (protocol notes 6.4, R111).
#[derive(Debug, Default)]
pub struct Contention {
    replaced: VecDeque<Instant>,
}

impl Contention {
    /// Whether it may be taken over once more, which then counts.
    pub fn replace(&mut self, now: Instant) -> bool {
        let may = self.may_replace(now);
        if may {
            self.replaced.push_back(now);
        }
        may
    }

    /// Whether it may be taken over once more.
    pub fn may_replace(&mut self, now: Instant) -> bool {
        self.replaced
            .retain(|at| now.saturating_duration_since(*at) < WINDOW);
        self.replaced.len() < MAX_REPLACEMENTS
    }

    /// It was taken over, which nobody here could have refused.
    pub fn note(&mut self, now: Instant) {
        if !self.replace(now) {
            self.replaced.pop_front();
            self.replaced.push_back(now);
        }
    }
}
