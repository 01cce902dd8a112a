//! The store as one node reaches it: late, failing, cut off.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thinpipe_proto::session::{SessionId, StreamId};
use thinpipe_store::{
    EventLog, Inbox, LogLimits, MemoryInbox, MemoryLog, MemoryStore, SessionStore, StoreError,
    StreamKey,
};
use thinpipe_testkit::network::Rng;
use thinpipe_transport::server::{SharedStores, Stores};
use tokio::time::Instant;

mod inbox;
mod log;
mod sessions;

/// What all nodes share.
#[derive(Clone)]
pub(crate) struct Store {
    sessions: Arc<MemoryStore>,
    log: Arc<MemoryLog>,
    inbox: Arc<MemoryInbox>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let clock = || Instant::now().into_std();
        let limits = LogLimits {
            age: Duration::from_secs(60),
            ..LogLimits::default()
        };
        Self {
            sessions: Arc::new(MemoryStore::with_clock(clock)),
            log: Arc::new(MemoryLog::with_clock(limits, clock)),
            inbox: Arc::new(MemoryInbox::with_clock(clock)),
        }
    }

    /// The same behind a gate; alone, or with what several nodes need.
    pub(crate) fn behind(&self, gate: &Gate, is_shared: bool) -> Stores {
        let sessions = sessions::Gated {
            gate: gate.clone(),
            store: Arc::clone(&self.sessions),
        };
        let shared = is_shared.then(|| SharedStores {
            log: Arc::new(log::Gated {
                gate: gate.clone(),
                log: Arc::clone(&self.log),
            }),
            inbox: Arc::new(inbox::Gated {
                gate: gate.clone(),
                inbox: Arc::clone(&self.inbox),
            }),
        });
        Stores {
            sessions: Arc::new(sessions),
            shared,
        }
    }

    /// What is in it, in words; `None`: nothing.
    pub(crate) async fn residue(&self) -> Option<String> {
        let records = self.sessions.count().await.unwrap_or(usize::MAX);
        // Asked for anything it drops what is old; what it says of itself is its limits and how much there is.
        let nothing = StreamKey {
            session: SessionId::from_random([0; 16]),
            stream: StreamId(0),
        };
        let _ = self.log.read(&nothing, 0, 1).await;
        let log = format!("{:?}", self.log);
        let is_empty = records == 0 && log.contains("bytes: 0,");
        (!is_empty).then(|| format!("{records} records, {log}"))
    }

    /// The nodes that count as alive.
    pub(crate) async fn nodes(&self) -> usize {
        self.inbox
            .nodes()
            .await
            .map_or(usize::MAX, |nodes| nodes.len())
    }
}

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
