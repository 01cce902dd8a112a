//! Several processes behind one address (protocol notes 5.8): who they are, how they reach each other, and what
//! one of them does for another.
//!
//! Most sessions belong to nobody: any node takes them up from their record. What lives in one process, its
//! *owner* (an HTTP+SSE stream, a child process, a conversation), is named in the record, and a request for it
//! that comes to another node is carried to the owner whole: there it is handled as if its client had come there,
//! and the answer comes back in pieces, of which a bounded number may be on their way.
//!
//! With one node and a store of its own nothing of this is there.

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::HeaderName;
use thinpipe_proto::session::NodeId;
use thinpipe_proto::tunnel::News;
use thinpipe_store::{EventLog, Inbox, SessionStore, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::Shared;
use crate::server::event_log::LogWriter;
use crate::server::permit::Budget;
use asking::Exchanges;
use cancellations::Cancellations;
use outbox::Outbox;
use pulse::{Pulse, Standing};
use serving::Served;

mod answer;
mod asking;
mod cancellations;
mod dropped;
mod forward;
mod inbox;
mod news;
mod outbox;
mod over;
mod pulse;
mod serving;
mod watch;

pub(crate) use answer::Tail;
pub(crate) use asking::NotAnswered;
pub use forward::ForwardError;
pub(crate) use watch::{outcome_unknown, shutting_down_message};

/// Exchanges of other nodes that one node answers at one time. One more gets 503.
const MAX_TUNNELLED: usize = 4096;

/// Where a server keeps what outlives its connections.
#[derive(Clone)]
pub struct Stores {
    /// Its sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// What it shares with other nodes that use the same store. `None`: it is the only one.
    pub shared: Option<SharedStores>,
}

/// What nodes share beside sessions.
#[derive(Clone)]
pub struct SharedStores {
    /// The history of streams.
    pub log: Arc<dyn EventLog>,
    /// How they reach each other.
    pub inbox: Arc<dyn Inbox>,
}

/// This node among others. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Nodes {
    inner: Arc<Inner>,
}

/// Figures of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeStats {
    /// Requests that other nodes answer for this one now.
    pub asked: usize,
    /// Requests that this node answers for others now.
    pub served: usize,
    /// The store could not be reached for so long that the others take this node for dead: it does nothing for
    /// them, and asks nothing of them.
    pub is_cut_off: bool,
}

struct Inner {
    this: NodeId,
    log: Arc<dyn EventLog>,
    inbox: Arc<dyn Inbox>,
    /// Headers of requests that go along to other nodes, beside those that always do.
    carried_headers: Box<[HeaderName]>,
    /// What others answer for this node.
    asked: Exchanges,
    /// What this node answers for others.
    served: Served,
    room: Budget,
    outbox: Outbox,
    cancellations: Cancellations,
    pulse: Pulse,
    tasks: TaskTracker,
    /// Nothing is done for others any more.
    stopped: CancellationToken,
}

impl Nodes {
    pub(super) fn new(
        stores: SharedStores,
        this: NodeId,
        carried_headers: Vec<HeaderName>,
    ) -> Self {
        let SharedStores { log, inbox } = stores;
        Self {
            inner: Arc::new(Inner {
                this,
                log,
                inbox,
                carried_headers: carried_headers.into(),
                asked: Exchanges::default(),
                served: Served::default(),
                room: Budget::new(MAX_TUNNELLED),
                outbox: Outbox::default(),
                cancellations: Cancellations::default(),
                pulse: Pulse::default(),
                tasks: TaskTracker::new(),
                stopped: CancellationToken::new(),
            }),
        }
    }

    /// Begins to be there for others.
    pub(super) fn start(&self, shared: &Arc<Shared>) {
        let weak = Arc::downgrade(shared);
        let (log, stop) = (Arc::clone(self.log()), self.inner.stopped.clone());
        let (node, random) = (self.this().clone(), shared.sessions.random().clone());
        let writer = LogWriter::start(log, node, &self.inner.tasks, stop, random);
        // The first writer stays.
        shared.sessions.log_to(writer);
        self.run(pulse::beat(self.clone(), Weak::clone(&weak)));
        self.run(pulse::come_back(self.clone(), Weak::clone(&weak)));
        self.run(inbox::read(self.clone(), weak));
        self.run(outbox::write(self.clone()));
        self.run(watch::watch(self.clone()));
    }

    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.inner.stopped.clone();
        self.inner.tasks.spawn(async move {
            // Cancel-safe: what is dropped here is dropped for good.
            let _ = stopped.run_until_cancelled(task).await;
        });
    }

    /// Leaves: nobody has to find out that this node is gone. What is still asked of it did not run, and those
    /// who ask are told so.
    pub(super) async fn stop(&self) {
        self.inner.stopped.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        inbox::turn_away(self).await;
        if let Err(error) = self.inner.inbox.leave(&self.inner.this).await {
            tracing::debug!(%error, "the other nodes find out by themselves that this one is gone");
        }
    }

    /// The name of this process among the nodes. It is drawn when the server is built.
    #[must_use]
    pub fn this(&self) -> &NodeId {
        &self.inner.this
    }

    /// The history of streams, which other nodes read too.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn EventLog> {
        &self.inner.log
    }

    /// The nodes that are alive, this one among them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn live(&self) -> Result<Vec<NodeId>, StoreError> {
        self.inner.inbox.nodes().await
    }

    /// A secret that all nodes share: the one that is kept under this name, or else `proposed`, which is kept
    /// from now on.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn secret(&self, name: &str, proposed: Bytes) -> Result<Bytes, StoreError> {
        self.inner.inbox.secret(name, proposed).await
    }

    /// Tells all other nodes that are alive. It may be lost: whoever needs it looks into the store as well.
    pub(crate) fn tell(&self, news: News) {
        match news {
            News::Cancelled(session, request) => self.inner.cancellations.put(session, request),
            news => self.inner.outbox.tell(news),
        }
    }

    /// Figures of this node; reading them changes nothing.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        NodeStats {
            asked: self.inner.asked.len(),
            served: self.inner.served.len(),
            is_cut_off: self.is_cut_off(),
        }
    }

    /// Whether the store could not be reached for so long that the others take this node for dead.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.inner.pulse.standing() != Standing::In
    }

    /// Until it is known which of the sessions that this node holds are its own still, or that it cannot be known.
    pub(crate) async fn decided(&self) {
        self.inner.pulse.decided().await;
    }

    /// Whether that need not be waited for.
    pub(crate) fn is_decided(&self) -> bool {
        self.inner.pulse.standing() != Standing::Returning
    }

    /// Whether a node that is not heard of is dead.
    fn is_steady(&self) -> bool {
        self.inner.pulse.is_steady()
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes")
            .field("this", &self.inner.this)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("is_shared", &self.shared.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStores").finish_non_exhaustive()
    }
}
