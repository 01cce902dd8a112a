//! The memory store against the suite that every store must pass.

use std::time::Duration;

use thinpipe_store::{MemoryStore, conformance};

/// F1, F3: one suite for all stores.
#[tokio::test(start_paused = true)]
async fn f1_memory_store_passes_the_conformance_suite() {
    let store = MemoryStore::with_clock(|| tokio::time::Instant::now().into_std());
    conformance::run(&store, |by: Duration| tokio::time::advance(by)).await;
}
