//! Counts what is dropped, and says now and then how much that is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use thinpipe_proto::seldom::Seldom;

/// How often is warned of what is dropped: there may be as much of it as there are messages.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What was dropped of one kind.
#[derive(Default)]
pub(super) struct Dropped(Mutex<Since>);

#[derive(Default)]
struct Since {
    warned: Seldom,
    /// Since that.
    count: u64,
}

impl Dropped {
    /// One more; gives how many there were since it gave that the last time, if that is long ago.
    pub(super) fn add(&self, now: Instant) -> Option<u64> {
        // Nothing panics while it is held.
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.count += 1;
        let is_due = since.warned.is_due(now, WARN_EVERY);
        is_due.then(|| std::mem::take(&mut since.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A13: thousands that are dropped are a few lines in the log, which say how many they were.
    #[test]
    fn a13_what_is_dropped_is_told_now_and_then() {
        let (dropped, begun) = (Dropped::default(), Instant::now());
        assert_eq!(dropped.add(begun), Some(1));
        for _ in 0..1_000 {
            assert_eq!(dropped.add(begun + WARN_EVERY / 2), None);
        }
        assert_eq!(dropped.add(begun + WARN_EVERY), Some(1_001));
    }
}
