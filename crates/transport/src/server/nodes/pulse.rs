//! The heartbeat: as long as it is heard, this node is alive for the others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Nodes;
use super::asking::End;
use crate::io::now;
use crate::server::Shared;

/// How often this node says that it is alive.
const EVERY: Duration = Duration::from_secs(1);

/// After so long without a word a node counts as dead.
pub(super) const TTL: Duration = Duration::from_secs(3);

/// Two beats that lie no further apart had a store between them that nobody missed for as long as [`TTL`].
const GAP: Duration = EVERY.saturating_mul(2);

/// Whether the others take this node for alive.
pub(super) struct Pulse {
    cut_off: AtomicBool,
    watch: Notify,
    /// `None`: nobody has heard of this node yet.
    rhythm: Mutex<Option<Rhythm>>,
}

/// Beats that the store took, none further from the one before than [`GAP`].
#[derive(Clone, Copy)]
struct Rhythm {
    /// When the first of them was taken.
    since: Instant,
    /// When the last of them began.
    last: Instant,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            // Nobody has heard of it yet.
            cut_off: AtomicBool::new(true),
            watch: Notify::new(),
            rhythm: Mutex::new(None),
        }
    }
}

impl Pulse {
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    fn rhythm(&self) -> MutexGuard<'_, Option<Rhythm>> {
        // Nothing panics while it is held.
        self.rhythm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store has taken a beat that began then.
    fn beaten(&self, began: Instant) {
        let mut rhythm = self.rhythm();
        let before = rhythm.filter(|rhythm| began < rhythm.last + GAP);
        *rhythm = Some(Rhythm {
            since: before.map_or_else(now, |rhythm| rhythm.since),
            last: began,
        });
        drop(rhythm);
        self.cut_off.store(false, Ordering::Release);
    }

    /// Whether a node that is not heard of is dead. When the store comes back after an outage, nobody is heard of at
    /// first, and each node needs a moment to say that it is alive: so long none is taken for dead.
    pub(super) fn is_steady(&self) -> bool {
        let (rhythm, now) = (*self.rhythm(), now());
        rhythm.is_some_and(|rhythm| now >= rhythm.since + TTL && now < rhythm.last + GAP)
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
                nodes.inner.pulse.beaten(began);
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
        self.let_go_of(|_| true, End::CutOff);
    }
}
