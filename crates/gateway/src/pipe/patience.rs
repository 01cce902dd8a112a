//! How long the clients of a shared session wait for one of them that does not read.

use std::time::{Duration, Instant};

/// So long at once: then a client loses the stream that is full, and what it does not read holds up nobody.
const MOST: Duration = Duration::from_secs(5);

/// Of the time after that so much, one part of as many: who has many streams that it does not read holds the others up
/// no longer than who has one.
const SHARE: u32 = 10;

/// What is left of it for one client.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
    at: Instant,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: MOST,
            at: now,
        }
    }

    /// How long it may be waited for now.
    pub(super) fn left(&mut self, now: Instant) -> Duration {
        let regained = now.saturating_duration_since(self.at) / SHARE;
        self.left = MOST.min(self.left + regained);
        self.at = now;
        self.left
    }

    /// It was waited for in vain until now, for as long as [`left`](Self::left) has said. Who reads before that, however
    /// slowly, has as much as before.
    pub(super) fn spent(&mut self, now: Instant) {
        self.left = Duration::ZERO;
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F6: others wait for a client that does not read once, however many streams it has, and a tenth of the time at
    /// most after that. What is waited for and comes costs nothing.
    #[test]
    fn f6_who_is_waited_for_has_a_share_of_the_time() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut patience = Patience::new(begin);
        assert_eq!(patience.left(at(100)), MOST);
        assert_eq!(patience.left(at(104)), MOST);
        patience.spent(at(109));
        assert_eq!(patience.left(at(109)), Duration::ZERO);
        assert_eq!(patience.left(at(115)), Duration::from_millis(600));
        patience.spent(at(116));
        assert_eq!(patience.left(at(116)), Duration::ZERO);
        assert_eq!(patience.left(at(136)), Duration::from_secs(2));
        assert_eq!(patience.left(at(1_000)), MOST);
    }
}
