//! Counters that are limits: a permit is a guard, and lives exactly as long as what it stands for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A bounded number of something, exact under concurrency.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// One of a [`Budget`]; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    used: Arc<AtomicUsize>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            used: Arc::default(),
            limit,
        }
    }

    /// A permit, unless all are taken. Never waits: who comes too late is told so at once.
    pub(crate) fn take(&self) -> Option<Permit> {
        let more = |n| (n < self.limit).then_some(n + 1);
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(Permit {
            used: Arc::clone(&self.used),
        })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the server side has counted since it started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) answers: [AtomicU64; 5],
    pub(crate) streams: AtomicU64,
    pub(crate) stalled: AtomicU64,
    pub(crate) detached: AtomicU64,
    pub(crate) keep_alives: AtomicU64,
}

impl Counters {
    pub(crate) fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        add(&self.answers[class]);
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Figures of a running server; reading them changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerStats {
    /// Connections accepted since the start.
    pub connections: u64,
    /// Connections refused because all places were taken.
    pub connections_refused: u64,
    /// Connections open now.
    pub connections_open: usize,
    /// Requests since the start.
    pub requests: u64,
    /// Requests being answered now.
    pub requests_open: usize,
    /// Answers since the start, by class of status: 1xx, 2xx, 3xx, 4xx, 5xx.
    pub answers: [u64; 5],
    /// Bytes held whole now: see [`Limits::max_buffered`](crate::server::Limits::max_buffered).
    pub buffered_bytes: usize,
    /// Event streams since the start.
    pub streams: u64,
    /// Event streams being written now.
    pub streams_open: usize,
    /// Clients disconnected because they did not read.
    pub stalled: u64,
    /// Answers run to their end after their client had left, since the start.
    pub detached: u64,
    /// Keep-alive comments written.
    pub keep_alives: u64,
    /// Sessions now.
    pub sessions: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I4: there is no room in them for a lock, and reading them is reading them.
    #[test]
    fn i4_counters_are_nothing_but_atomics() {
        assert_eq!(size_of::<Counters>(), 12 * size_of::<AtomicU64>());
        let counters = Counters::default();
        counters.answered(http::StatusCode::NOT_FOUND);
        counters.answered(http::StatusCode::ACCEPTED);
        let read = || {
            let answers = counters.answers.iter();
            answers
                .map(|c| c.load(Ordering::Relaxed))
                .collect::<Vec<_>>()
        };
        assert_eq!((read(), read()), (vec![0, 1, 0, 1, 0], vec![0, 1, 0, 1, 0]));
    }

    /// B6, T13: the cap is exact when many ask at once.
    #[test]
    fn b10_budget_is_exact_under_concurrency() {
        let budget = Budget::new(100);
        let taken: Vec<_> = std::thread::scope(|scope| {
            let ask = || (0..50).filter_map(|_| budget.take()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect()
        });
        assert_eq!(taken.len(), 100);
        assert!(budget.take().is_none());
        drop(taken);
        assert_eq!(budget.used(), 0);
    }
}
