//! The store as one node reaches it: late, failing, cut off.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thinpipe_proto::session::SessionId;
use thinpipe_store::{BoxFuture, MemoryStore, SessionRecord, SessionStore, StoreError, Version};
use thinpipe_testkit::network::Rng;

/// How long an operation takes at most before it is given up, as with a store across a network.
const OPERATION: Duration = Duration::from_secs(1);

/// What stands between a node and the store.
#[derive(Clone)]
pub(crate) struct Gate {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: Rng,
    way: Way,
    delay: Duration,
    /// In so many of a thousand cases an operation fails: before it was done, or after.
    failing: u64,
}

/// Whether there is a way to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Operations take their time and fail.
    Cut,
    /// The node is dead: nothing it still tries has any effect.
    Dead,
}

/// What becomes of one operation.
enum Passage {
    Done,
    FailsBefore,
    FailsAfter,
}

impl Gate {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                rng,
                way: Way::Open,
                delay: Duration::from_millis(2),
                failing: 0,
            })),
        }
    }

    /// A dead node stays dead.
    pub(crate) fn set(&self, way: Way) {
        let mut inner = self.inner.lock().unwrap();
        if inner.way != Way::Dead {
            inner.way = way;
        }
    }

    pub(crate) fn fail(&self, failing: u64) {
        self.inner.lock().unwrap().failing = failing;
    }

    /// Runs one operation as the way is. It is done at one moment, or not at all.
    pub(crate) async fn pass<T, E: From<StoreError>>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (there, back, passage) = self.draw();
        tokio::time::sleep(there).await;
        let way = self.inner.lock().unwrap().way;
        if way == Way::Cut {
            tokio::time::sleep(OPERATION).await;
        }
        if way != Way::Open || matches!(passage, Passage::FailsBefore) {
            return Err(unavailable().into());
        }
        let done = operation.await;
        tokio::time::sleep(back).await;
        match passage {
            Passage::FailsAfter => Err(unavailable().into()),
            _ => done,
        }
    }

    fn draw(&self) -> (Duration, Duration, Passage) {
        let mut inner = self.inner.lock().unwrap();
        let (delay, failing) = (inner.delay, inner.failing);
        let passage = match inner.rng.below(1000) {
            case if case < failing / 2 => Passage::FailsBefore,
            case if case < failing => Passage::FailsAfter,
            _ => Passage::Done,
        };
        (inner.rng.up_to(delay), inner.rng.up_to(delay), passage)
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable(Box::new(io::Error::from(io::ErrorKind::TimedOut)))
}

/// The store that all nodes share, behind the gate of one.
pub(crate) struct GatedStore {
    pub(crate) gate: Gate,
    pub(crate) store: Arc<MemoryStore>,
}

type Stored = Option<(SessionRecord, Version)>;

impl SessionStore for GatedStore {
    fn create<'a>(
        &'a self,
        record: &'a SessionRecord,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.create(record, ttl).await }),
        )
    }

    fn get<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<Stored, StoreError>> {
        Box::pin(self.gate.pass(async move { self.store.get(id).await }))
    }

    fn get_many<'a>(
        &'a self,
        ids: &'a [SessionId],
    ) -> BoxFuture<'a, Result<Vec<Stored>, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.get_many(ids).await }),
        )
    }

    fn update<'a>(
        &'a self,
        record: &'a SessionRecord,
        expected: Version,
    ) -> BoxFuture<'a, Result<Version, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.update(record, expected).await }),
        )
    }

    fn touch<'a>(
        &'a self,
        id: &'a SessionId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.touch(id, ttl).await }),
        )
    }

    fn delete<'a>(&'a self, id: &'a SessionId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.gate.pass(async move { self.store.delete(id).await }))
    }

    fn count(&self) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(self.gate.pass(async move { self.store.count().await }))
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a SessionId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<SessionId>, StoreError>> {
        Box::pin(
            self.gate
                .pass(async move { self.store.list(after, limit).await }),
        )
    }
}
