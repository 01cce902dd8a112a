//! The heartbeat: as long as it is heard, this node is alive for the others.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Nodes;
use crate::io::now;
use crate::server::Shared;

/// How often this node says that it is alive.
const EVERY: Duration = Duration::from_secs(1);

/// After so long without a word a node counts as dead.
const TTL: Duration = Duration::from_secs(3);

/// Whether the others take this node for alive.
pub(super) struct Pulse {
    cut_off: AtomicBool,
    watch: Notify,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            // Nobody has heard of it yet.
            cut_off: AtomicBool::new(true),
            watch: Notify::new(),
        }
    }
}

impl Pulse {
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    /// Something is open with another node.
    pub(super) fn watch(&self) {
        self.watch.notify_one();
    }

    pub(super) async fn something_to_watch(&self) {
        self.watch.notified().await;
    }
}

/// Beats until it is dropped, or the server is.
pub(super) async fn beat(nodes: Nodes, shared: Weak<Shared>) {
    let mut heard_at: Option<Instant> = None;
    loop {
        let began = now();
        // Also when the process was not running for a while: the others have not waited.
        if heard_at.is_none_or(|at| began >= at + TTL) {
            nodes.cut_off();
        }
        if nodes.is_cut_off() {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            // Before anybody may ask for them again: others may have taken them meanwhile.
            if let Err(error) = shared.sessions.reconcile().await {
                tracing::debug!(%error, "the store is still out of reach");
                drop(shared);
                tokio::time::sleep(EVERY).await;
                continue;
            }
        }
        match tokio::time::timeout(EVERY, nodes.inner.inbox.beat(nodes.this(), TTL)).await {
            Ok(Ok(())) => {
                heard_at = Some(began);
                nodes.inner.pulse.cut_off.store(false, Ordering::Release);
            }
            // Once it is cut off that has been said.
            Ok(Err(error)) if nodes.is_cut_off() => {
                tracing::debug!(%error, "this node still cannot say that it is alive");
            }
            Err(_) if nodes.is_cut_off() => {}
            Ok(Err(error)) => tracing::warn!(%error, "this node cannot say that it is alive"),
            Err(_) => tracing::warn!("this node cannot say that it is alive: no answer"),
        }
        if shared.strong_count() == 0 {
            return;
        }
        tokio::time::sleep_until((began + EVERY).into()).await;
    }
}

impl Nodes {
    /// The others take this node for dead: they have given up what is open with it, and so does it.
    fn cut_off(&self) {
        let was = self.inner.pulse.cut_off.swap(true, Ordering::AcqRel);
        if !was {
            tracing::warn!("the store was out of reach for too long; others take over");
        }
        self.let_go_of(|_| true);
    }
}
