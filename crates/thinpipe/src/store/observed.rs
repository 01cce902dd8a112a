//! A store that is watched: how often each operation is done, how long it takes, and whether the store is there.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId};
use thinpipe_store::{
    BoxFuture, DeliverError, EventLog, Inbox, LogEntry, LogError, LogPage, SessionRecord,
    SessionStore, StoreError, StreamHead, StreamKey, Version, Versioned,
};

use crate::causes::with_causes;
use crate::metrics::BOUNDS;

/// A store, and what was seen of it.
#[derive(Debug)]
pub(super) struct Observed<S> {
    store: S,
    seen: Observations,
}

/// What was seen of a store. Reading it changes nothing.
#[derive(Debug)]
pub(crate) struct Observations {
    /// The last operation was answered.
    is_up: AtomicBool,
    /// One was, some time.
    was_reached: AtomicBool,
    /// It was said that the store is down, and not yet that it is there again.
    is_told: AtomicBool,
    told_at: Mutex<Option<Instant>>,
    /// How many processes share it, as far as was asked last.
    nodes: AtomicUsize,
    cells: [Cell; OPERATIONS.len()],
}

#[derive(Debug, Default)]
struct Cell {
    failed: AtomicU64,
    micros: AtomicU64,
    /// Of those that took no longer than each of [`BOUNDS`], and of all others.
    counts: [AtomicU64; BOUNDS.len() + 1],
}

/// How one operation fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OperationStats {
    pub(crate) operation: &'static str,
    /// Those that failed because the store could not be reached, or was late.
    pub(crate) failed: u64,
    /// How long all of them took together.
    pub(crate) total: Duration,
    /// By how long they took, as [`BOUNDS`] has it; the last are those beyond.
    pub(crate) counts: [u64; BOUNDS.len() + 1],
}

/// How often it is told at most that a store is down.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What a store does. Waiting for messages takes as long as there are none, and is not here.
const OPERATIONS: [&str; 20] = [
    "create", "get", "get_many", "update", "touch", "delete", "count", "list", "open", "append",
    "finish", "read", "forget", "beat", "leave", "nodes", "dead", "deliver", "withdraw", "secret",
];

/// Failures of operations because of the store, as its three sides tell them.
trait Fails {
    fn outage(&self) -> Option<&StoreError>;
}

impl Fails for StoreError {
    fn outage(&self) -> Option<&StoreError> {
        self.is_transient().then_some(self)
    }
}

impl Fails for LogError {
    fn outage(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => error.outage(),
            _ => None,
        }
    }
}

impl Fails for DeliverError {
    fn outage(&self) -> Option<&StoreError> {
        match self {
            Self::Refused(error) | Self::Store(error) => error.outage(),
            _ => None,
        }
    }
}

impl<S> Observed<S> {
    pub(super) fn new(store: S) -> Self {
        Self {
            store,
            seen: Observations::default(),
        }
    }

    /// The store itself, for what is not counted.
    pub(super) fn inner(&self) -> &S {
        &self.store
    }

    pub(super) fn observations(&self) -> &Observations {
        &self.seen
    }
}

impl Default for Observations {
    fn default() -> Self {
        Self {
            is_up: AtomicBool::new(false),
            was_reached: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            told_at: Mutex::default(),
            nodes: AtomicUsize::new(0),
            cells: std::array::from_fn(|_| Cell::default()),
        }
    }
}

impl Observations {
    /// Whether the last operation was answered.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Whether one was at any time.
    pub(crate) fn was_reached(&self) -> bool {
        self.was_reached.load(Ordering::Relaxed)
    }

    /// How many processes were alive in it when that was asked last, this one among them; 0 if nobody could tell.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.load(Ordering::Relaxed)
    }

    /// How the operations fared that there were.
    pub(crate) fn operations(&self) -> Vec<OperationStats> {
        let cells = OPERATIONS.into_iter().zip(&self.cells);
        let all = cells.map(|(operation, cell)| cell.stats(operation));
        all.filter(|stats| stats.count() > 0).collect()
    }

    /// Does an operation, and sees how it fares. One that is given up is not counted.
    fn watched<'a, T, E: Fails>(
        &'a self,
        operation: &'static str,
        future: impl Future<Output = Result<T, E>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, E>> {
        Box::pin(async move {
            let begun = Instant::now();
            let result = future.await;
            let outage = result.as_ref().err().and_then(Fails::outage);
            let known = OPERATIONS.iter().position(|name| *name == operation);
            if let Some(cell) = known.and_then(|index| self.cells.get(index)) {
                cell.record(begun.elapsed(), outage.is_some());
            }
            self.see(outage);
            result
        })
    }

    fn see(&self, outage: Option<&StoreError>) {
        self.is_up.store(outage.is_none(), Ordering::Relaxed);
        match outage {
            None => {
                self.was_reached.store(true, Ordering::Relaxed);
                if self.is_told.swap(false, Ordering::Relaxed) {
                    tracing::info!("the store is reached again");
                }
            }
            // The start tells of one that was never reached, with what to do about it.
            Some(_) if !self.was_reached() => {}
            Some(error) if !self.is_told.load(Ordering::Relaxed) && self.is_due() => {
                self.is_told.store(true, Ordering::Relaxed);
                let error = with_causes(error);
                tracing::warn!(error, "the store does not do what it is asked");
            }
            Some(_) => {}
        }
    }

    /// Whether it may be told now that the store is down: one that comes and goes is no flood of lines.
    fn is_due(&self) -> bool {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told_at.is_none_or(|at| at.elapsed() >= TOLD_EVERY);
        if is_due {
            *told_at = Some(Instant::now());
        }
        is_due
    }
}

impl Cell {
    fn record(&self, took: Duration, failed: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.failed.fetch_add(failed.into(), Ordering::Relaxed);
        let bucket = BOUNDS.iter().position(|bound| took <= *bound);
        if let Some(count) = self.counts.get(bucket.unwrap_or(BOUNDS.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn stats(&self, operation: &'static str) -> OperationStats {
        OperationStats {
            operation,
            failed: self.failed.load(Ordering::Relaxed),
            total: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
            counts: std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed)),
        }
    }
}

impl OperationStats {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl<S: SessionStore> SessionStore for Observed<S> {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.seen.watched("create", self.store.create(record, ttl))
    }

    fn get<'a>(
        &'a self,
        id: &'a SessionId,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        self.seen.watched("get", self.store.get(id))
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Option<Versioned>>, StoreError>> {
        self.seen.watched("get_many", self.store.get_many(ids))
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        let updating = self.store.update(record, expected);
        self.seen.watched("update", updating)
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.seen.watched("touch", self.store.touch(id, ttl))
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.seen.watched("delete", self.store.delete(id))
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.seen.watched("count", self.store.count())
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        self.seen.watched("list", self.store.list(after, limit))
    }
}

impl<S: EventLog> EventLog for Observed<S> {
    fn open<'a>(
        &'a self,
        key: &'a StreamKey,
        head: &'a StreamHead,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        self.seen.watched("open", self.store.open(key, head))
    }

    fn append<'a>(
        &'a self,
        key: &'a StreamKey,
        owner: &'a NodeId,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<(), LogError>> {
        let appending = self.store.append(key, owner, entries);
        self.seen.watched("append", appending)
    }

    fn finish<'a>(
        &'a self,
        key: &'a StreamKey,
        message: Bytes,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        self.seen.watched("finish", self.store.finish(key, message))
    }

    fn read<'a>(
        &'a self,
        key: &'a StreamKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<LogPage, LogError>> {
        self.seen
            .watched("read", self.store.read(key, after, limit))
    }

    fn forget<'a>(&'a self, session: &'a SessionId) -> BoxFuture<'a, Result<(), LogError>> {
        self.seen.watched("forget", self.store.forget(session))
    }
}

impl<S: Inbox> Inbox for Observed<S> {
    fn beat<'a>(
        &'a self,
        node: &'a NodeId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.seen.watched("beat", self.store.beat(node, ttl))
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), StoreError>> {
        self.seen.watched("leave", self.store.leave(node))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeId>, StoreError>> {
        let asking = self.seen.watched("nodes", self.store.nodes());
        Box::pin(async move {
            let nodes = asking.await;
            let count = nodes.as_ref().map_or(0, Vec::len);
            self.seen.nodes.store(count, Ordering::Relaxed);
            nodes
        })
    }

    fn dead<'a>(&'a self, among: &'a [NodeId]) -> BoxFuture<'a, Result<Vec<NodeId>, StoreError>> {
        let asking = self.store.dead(among);
        match among {
            // Nothing is asked, and nothing is learned of the store.
            [] => asking,
            _ => self.seen.watched("dead", asking),
        }
    }

    fn deliver<'a>(
        &'a self,
        to: &'a NodeId,
        message: Bytes,
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        self.seen
            .watched("deliver", self.store.deliver(to, message))
    }

    fn withdraw<'a>(
        &'a self,
        to: &'a NodeId,
        message: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        let withdrawing = self.store.withdraw(to, message);
        self.seen.watched("withdraw", withdrawing)
    }

    fn take<'a>(
        &'a self,
        node: &'a NodeId,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        self.store.take(node, limit, wait)
    }

    fn secret<'a>(
        &'a self,
        name: &'a str,
        proposed: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.seen
            .watched("secret", self.store.secret(name, proposed))
    }
}

#[cfg(test)]
mod tests;
