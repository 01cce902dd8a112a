//! The log of streams that other nodes can read: written here, by one task for all streams of a server, and
//! read when a client comes back to a stream whose node is gone.
//!
//! An event is stored before any reader sees it (protocol notes 6.2). What waits to be stored waits in the
//! buffers of its streams, which are bounded; here is only a list of them. The worker appends what has come
//! together in a stream at once, and to many streams side by side, so there are as many appends as the log takes,
//! however many events there are.
//!
//! A log that does not answer holds up a stream for a second. Then its readers go on, and the log is to catch up
//! when it is back. Until it has, what was read meanwhile has ids that other nodes refuse.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thinpipe_proto::session::{NodeId, SessionId, StreamId};
use thinpipe_store::EventLog;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::event_buffer::{EventBuffer, Writer, random_stream};
use crate::Random;
use worker::Worker;

mod failed;
mod replay;
mod worker;
mod write;

pub(super) use replay::{Lost, Replayed, begun, earlier, replay};

/// Writes the streams of one server to a log. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    log: Arc<dyn EventLog>,
    node: NodeId,
    random: Random,
    queue: Mutex<Queue>,
    wake: Notify,
    counts: Counts,
}

/// What the worker has not seen yet.
#[derive(Default)]
struct Queue {
    /// Each of them once, so there are no more than streams.
    waiting: Vec<EventBuffer>,
    /// Sessions that are over, each of them once.
    ended: Vec<SessionId>,
    /// The worker has stopped.
    is_closed: bool,
}

#[derive(Default)]
struct Counts {
    appends: AtomicU64,
    events: AtomicU64,
    failures: AtomicU64,
    behind: AtomicU64,
}

/// Figures about a [`LogWriter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStats {
    /// Batches that were stored.
    pub appends: u64,
    /// Events in them.
    pub events: u64,
    /// Times that the log did not do what it was asked.
    pub failures: u64,
    /// Streams that now go on without the log, until it has caught up.
    pub behind: u64,
}

impl LogWriter {
    /// Writes to this log in the name of this node, in one task on `tasks`, until `stop` is cancelled: then what
    /// waits is still written, for a second at most, and streams go on without the log. Has to be called in a
    /// runtime of tokio, on which the task runs. From `random` come the numbers of streams.
    #[must_use]
    pub fn start(
        log: Arc<dyn EventLog>,
        node: NodeId,
        tasks: &TaskTracker,
        stop: CancellationToken,
        random: Random,
    ) -> Self {
        let shared = Arc::new(Shared {
            log,
            node,
            random,
            queue: Mutex::default(),
            wake: Notify::new(),
            counts: Counts::default(),
        });
        tasks.spawn(Worker::new(Arc::clone(&shared)).run(stop));
        Self { shared }
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let counts = &self.shared.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LogStats {
            appends: read(&counts.appends),
            events: read(&counts.events),
            failures: read(&counts.failures),
            behind: read(&counts.behind),
        }
    }

    pub(super) fn log(&self) -> &dyn EventLog {
        &*self.shared.log
    }

    /// Forgets what is stored of a session that is over.
    pub(super) fn forget(&self, session: SessionId) {
        // Without a worker, what is stored goes by its age.
        self.tell(|queue| queue.ended.push(session));
    }

    fn tell(&self, what: impl FnOnce(&mut Queue)) -> bool {
        let mut queue = self.shared.queue();
        if queue.is_closed {
            return false;
        }
        what(&mut queue);
        drop(queue);
        self.shared.wake.notify_one();
        true
    }
}

impl Writer for LogWriter {
    fn take(&self, buffer: &EventBuffer) -> bool {
        self.tell(|queue| queue.waiting.push(buffer.clone()))
    }

    fn draw_stream(&self) -> Option<StreamId> {
        random_stream(&self.shared.random)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter")
            .field("node", &self.shared.node)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
