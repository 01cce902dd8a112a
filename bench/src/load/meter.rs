//! What workers share with whoever measures them.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// Counters of one run.
#[derive(Default)]
pub(crate) struct Meter {
    phase: AtomicU8,
    /// Requests or events, whichever the run is about.
    operations: AtomicU64,
    /// `tools/call` requests answered.
    calls: AtomicU64,
    broken: AtomicU64,
}

impl Meter {
    pub(crate) fn measure(&self) {
        self.phase.store(MEASURING, Relaxed);
    }

    pub(crate) fn stop(&self) {
        self.phase.store(STOPPED, Relaxed);
    }

    pub(crate) fn is_measuring(&self) -> bool {
        self.phase.load(Relaxed) == MEASURING
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.phase.load(Relaxed) == STOPPED
    }

    pub(crate) fn operation(&self, count: u64) {
        self.operations.fetch_add(count, Relaxed);
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations.load(Relaxed)
    }

    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub(crate) fn broke(&self) {
        self.broken.fetch_add(1, Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed) > 0
    }
}

const MEASURING: u8 = 1;
const STOPPED: u8 = 2;
