//! The heartbeat: as long as it is heard, this node is alive for the others.

use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use thinpipe_store::StoreError;
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
#[derive(Default)]
pub(super) struct Pulse {
    watch: Notify,
    /// It is heard again: its sessions are to be compared with their records.
    heard_again: Notify,
    /// It is back, or not even heard.
    decided: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None`: nobody has heard of this node yet.
    rhythm: Option<Rhythm>,
    /// The store has not taken the last beat.
    has_failed: bool,
    /// How often it was not heard for as long as [`TTL`].
    lapses: u64,
    /// Since the last time its sessions have been compared with their records: others may have taken them.
    is_back: bool,
    /// The log has it that it is cut off.
    is_told: bool,
}

/// Beats that the store took, none further from the one before than [`GAP`].
#[derive(Clone, Copy)]
struct Rhythm {
    /// When the first of them was taken.
    since: Instant,
    /// When the last of them began.
    last: Instant,
}

/// What a node is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Alive: what it holds is its own.
    In,
    /// It was not heard for so long that they may have taken it for dead. Which of its sessions they have taken is
    /// being found out.
    Returning,
    /// The same, and the store is out of reach.
    Out,
}

impl State {
    fn is_heard(&self) -> bool {
        // By the clock, and not only when the next beat is due: the process may not have been running for a while.
        self.rhythm.is_some_and(|rhythm| now() < rhythm.last + TTL)
    }

    fn standing(&self) -> Standing {
        match (self.is_heard(), self.is_back) {
            (true, true) => Standing::In,
            (true, false) => Standing::Returning,
            (false, _) if self.has_failed => Standing::Out,
            (false, _) => Standing::Returning,
        }
    }
}

impl Pulse {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self) -> Standing {
        self.lock().standing()
    }

    /// The same, when it is decided whether this node is back; no later than a node is found to be dead.
    pub(super) async fn decided(&self) -> Standing {
        let deciding = async {
            loop {
                let mut changed = std::pin::pin!(self.decided.notified());
                // What comes between this look and the wait counts.
                changed.as_mut().enable();
                if self.standing() != Standing::Returning {
                    return;
                }
                changed.await;
            }
        };
        // Late or not, what counts is how it stands then.
        let _ = tokio::time::timeout(TTL, deciding).await;
        self.standing()
    }

    /// The store has taken a beat that began then. `false`: others may have taken this node for dead before.
    fn beaten(&self, began: Instant) -> bool {
        let mut state = self.lock();
        // Taken before the last one had expired, it left no moment between them.
        if !state.is_heard() {
            state.lapses += 1;
            state.is_back = false;
        }
        let before = state.rhythm.filter(|rhythm| began < rhythm.last + GAP);
        state.rhythm = Some(Rhythm {
            since: before.map_or_else(now, |rhythm| rhythm.since),
            last: began,
        });
        state.has_failed = false;
        state.is_back
    }

    fn failed(&self) {
        self.lock().has_failed = true;
        self.decided.notify_waiters();
    }

    /// Its sessions were compared with their records, of which that began after so many lapses.
    fn back(&self, lapses: u64) {
        let mut state = self.lock();
        if state.lapses == lapses {
            state.is_back = true;
            state.is_told = false;
        }
        drop(state);
        self.decided.notify_waiters();
    }

    /// After how many lapses it is heard again without being back.
    fn is_returning(&self) -> Option<u64> {
        let state = self.lock();
        (state.is_heard() && !state.is_back).then_some(state.lapses)
    }

    /// Whether a node that is not heard of is dead. When the store comes back after an outage, nobody is heard of at
    /// first, and each node needs a moment to say that it is alive: so long none is taken for dead.
    pub(super) fn is_steady(&self) -> bool {
        let (rhythm, now) = (self.lock().rhythm, now());
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
    let pulse = &nodes.inner.pulse;
    loop {
        let began = now();
        // Also when the process was not running for a while: the others have not waited.
        if !pulse.lock().is_heard() {
            nodes.cut_off();
        }
        match tokio::time::timeout(EVERY, nodes.inner.inbox.beat(nodes.this(), TTL)).await {
            Ok(Ok(())) if pulse.beaten(began) => {}
            Ok(Ok(())) => pulse.heard_again.notify_one(),
            Ok(Err(error)) => nodes.missed(Some(&error)),
            Err(_) => nodes.missed(None),
        }
        if shared.strong_count() == 0 {
            // It was dropped without having been shut down: nothing that runs for it has anything to do any more.
            nodes.inner.stopped.cancel();
            return;
        }
        tokio::time::sleep_until((began + EVERY).into()).await;
    }
}

/// Brings this node back, each time that it is heard again, until it is dropped, or the server is.
///
/// Its sessions are compared with their records *after* it was heard: who takes one over before that is found there,
/// and who does so later knows that this node is there to be told.
pub(super) async fn come_back(nodes: Nodes, shared: Weak<Shared>) {
    let pulse = &nodes.inner.pulse;
    loop {
        pulse.heard_again.notified().await;
        while let Some(lapses) = pulse.is_returning() {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            match shared.sessions.reconcile().await {
                Ok(()) => pulse.back(lapses),
                Err(error) => {
                    tracing::debug!(%error, "the records of this node's sessions cannot be read");
                    drop(shared);
                    tokio::time::sleep(EVERY).await;
                }
            }
        }
    }
}

impl Nodes {
    /// The store has not taken a beat; without an error it did not answer.
    fn missed(&self, error: Option<&StoreError>) {
        self.inner.pulse.failed();
        let error = error.map(tracing::field::display);
        if self.is_cut_off() {
            // That has been said.
            tracing::debug!(error, "this node still cannot say that it is alive");
        } else {
            tracing::warn!(error, "this node cannot say that it is alive");
        }
    }

    /// The others take this node for dead: they have given up what is open with it, and so does it.
    fn cut_off(&self) {
        let mut state = self.inner.pulse.lock();
        // What nobody has heard of yet is not cut off.
        let is_news = state.rhythm.is_some() && !std::mem::replace(&mut state.is_told, true);
        drop(state);
        if is_news {
            tracing::warn!("the store was out of reach for too long; others take over");
        }
        self.let_go_of(|_| true, End::CutOff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5.8.6: what counts is the clock: a process that was not running for a while does not take itself for alive
    /// until its next beat is due.
    #[tokio::test(start_paused = true)]
    async fn f17_a_node_is_cut_off_as_soon_as_others_may_think_so() {
        let pulse = Pulse::default();
        assert_eq!(pulse.standing(), Standing::Returning);
        assert!(!pulse.beaten(now()));
        pulse.back(pulse.is_returning().unwrap());
        assert_eq!(pulse.standing(), Standing::In);
        tokio::time::advance(TTL - EVERY).await;
        pulse.failed();
        assert_eq!(pulse.standing(), Standing::In, "others have to wait");
        assert!(pulse.beaten(now()), "there was no moment without it");
        tokio::time::advance(TTL).await;
        assert_eq!(pulse.standing(), Standing::Returning);
        pulse.failed();
        assert_eq!(pulse.decided().await, Standing::Out);
    }

    /// 5.8.6: nor does it when it was not heard again while it read the records.
    #[tokio::test(start_paused = true)]
    async fn f17_who_was_missed_twice_reads_the_records_twice() {
        let pulse = Pulse::default();
        assert!(!pulse.beaten(now()));
        let first = pulse.is_returning().unwrap();
        tokio::time::advance(TTL).await;
        assert!(!pulse.beaten(now()));
        pulse.back(first);
        assert_eq!(pulse.standing(), Standing::Returning);
        pulse.back(pulse.is_returning().unwrap());
        assert_eq!(pulse.decided().await, Standing::In);
    }
}
