//! What a route has counted; plain atomics, so that counting costs one instruction.

use std::sync::atomic::{AtomicU64, Ordering};

mod latency;

pub use latency::MethodStats;
pub(crate) use latency::{Latencies, MethodClass};

/// Counters of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    exchanges: AtomicU64,
    passed: AtomicU64,
    inspected: AtomicU64,
    failed: AtomicU64,
    rate_limited: AtomicU64,
    resumed: AtomicU64,
    lost: AtomicU64,
    sessions_opened: AtomicU64,
    sessions_lost: AtomicU64,
    reestablished: AtomicU64,
}

/// Figures of one upstream since the start; reading them changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteStats {
    /// Exchanges handled.
    pub exchanges: u64,
    /// Answers that no interceptor read.
    pub passed: u64,
    /// Answers that interceptors read.
    pub inspected: u64,
    /// Exchanges answered with an error of the gateway's own.
    pub failed: u64,
    /// Messages refused because there were too many in their time.
    pub rate_limited: u64,
    /// Times an upstream's stream was resumed (attempts count once).
    pub streams_resumed: u64,
    /// Streams that ended before their response and could not be resumed.
    pub streams_lost: u64,
    /// Upstream sessions that were opened, each by an `initialize`; those opened anew are not counted.
    pub sessions_opened: u64,
    /// Upstream sessions that requests of 2026-07-28 share, now.
    pub sessions_pooled: u64,
    /// Calls of 2026-07-28 that wait for their client to come back with an answer, now.
    pub calls_parked: u64,
    /// Upstream sessions that were gone when they were needed.
    pub sessions_lost: u64,
    /// Upstream sessions that were opened anew for a client that did not notice.
    pub sessions_reestablished: u64,
}

impl Counters {
    pub(crate) fn exchange(&self) {
        add(&self.exchanges);
    }

    pub(crate) fn passed(&self) {
        add(&self.passed);
    }

    pub(crate) fn inspected(&self) {
        add(&self.inspected);
    }

    pub(crate) fn failed(&self) {
        add(&self.failed);
    }

    pub(crate) fn rate_limited(&self, messages: u64) {
        self.rate_limited.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn resumed(&self) {
        add(&self.resumed);
    }

    pub(crate) fn streams_lost(&self) {
        add(&self.lost);
    }

    pub(crate) fn session_opened(&self) {
        add(&self.sessions_opened);
    }

    pub(crate) fn session_lost(&self) {
        add(&self.sessions_lost);
    }

    pub(crate) fn reestablished(&self) {
        add(&self.reestablished);
    }

    /// What was counted; what is there now is not here to be known.
    pub(crate) fn snapshot(&self) -> RouteStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RouteStats {
            exchanges: get(&self.exchanges),
            passed: get(&self.passed),
            inspected: get(&self.inspected),
            failed: get(&self.failed),
            rate_limited: get(&self.rate_limited),
            streams_resumed: get(&self.resumed),
            streams_lost: get(&self.lost),
            sessions_opened: get(&self.sessions_opened),
            sessions_lost: get(&self.sessions_lost),
            sessions_reestablished: get(&self.reestablished),
            ..RouteStats::default()
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// I4: there is no room in them for a lock.
    #[test]
    fn i4_counters_are_nothing_but_atomics() {
        assert_eq!(size_of::<Counters>(), 10 * size_of::<AtomicU64>());
        assert_eq!(size_of::<Latencies>(), size_of::<Box<[AtomicU64]>>());
    }
}
