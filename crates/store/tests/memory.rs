//! What is kept in memory against the suites that everything must pass.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use thinpipe_store::{MemoryInbox, MemoryLog, MemoryStore, conformance};

/// F1, F3: one suite for all stores.
#[tokio::test(flavor = "multi_thread")]
async fn f1_memory_store_passes_the_conformance_suite() {
    let clock = Clock::new();
    let store = MemoryStore::with_clock(clock.reader());
    conformance::sessions(Arc::new(store), clock.advance()).await;
}

/// F20, F23: one suite for all logs.
#[tokio::test(flavor = "multi_thread")]
async fn f20_memory_log_passes_the_conformance_suite() {
    let clock = Clock::new();
    let log = MemoryLog::with_clock(conformance::LIMITS, clock.reader());
    conformance::event_log(Arc::new(log), clock.advance()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_inbox_passes_the_conformance_suite() {
    let clock = Clock::new();
    let inbox = MemoryInbox::with_clock(clock.reader());
    conformance::inbox(Arc::new(inbox), clock.advance()).await;
}

/// A clock that stands still until it is told to go on, for runtimes of several threads.
#[derive(Clone)]
struct Clock(Arc<Mutex<Instant>>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn reader(&self) -> impl Fn() -> Instant + Send + Sync + 'static {
        let clock = self.clone();
        move || *clock.0.lock().expect("nobody panics with it")
    }

    fn advance(&self) -> impl Fn(Duration) -> std::future::Ready<()> {
        let clock = self.clone();
        move |by| {
            *clock.0.lock().expect("nobody panics with it") += by;
            std::future::ready(())
        }
    }
}
