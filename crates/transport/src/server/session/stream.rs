//! What a session of HTTP+SSE has beside others: its one stream, and how far it has come.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use thinpipe_proto::revision::Revision;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Session, SessionEnd, lock};
use crate::server::SseObserver;
use crate::server::event_buffer::EventBuffer;

/// The stream side of a session. It lives exactly as long as the connection that carries the stream.
pub(crate) struct SessionStream {
    buffer: EventBuffer,
    /// Requests that may run at one time.
    max_requests: usize,
    /// Who is told that `initialize` was answered.
    observer: Option<Arc<dyn SseObserver>>,
    stage: Mutex<Stage>,
    /// Somebody reads the buffer.
    is_up: AtomicBool,
    /// The handler was asked for what it has to say unasked.
    listens: AtomicBool,
    /// Exchanges that run; what says nothing until its session ends is not among them.
    running: TaskTracker,
}

/// A session of HTTP+SSE, with its stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamSession {
    pub(crate) session: Arc<Session>,
    pub(crate) stream: Arc<SessionStream>,
}

impl StreamSession {
    /// `None`: it is a session of another binding.
    pub(super) fn of(session: Arc<Session>) -> Option<Self> {
        let stream = session.stream.clone()?;
        Some(Self { session, stream })
    }
}

/// How far a session has come.
enum Stage {
    /// The stream is open, nothing is negotiated.
    Connected,
    /// `initialize` is being answered.
    Opening,
    Open(Revision),
    /// With the revision, if it had come so far.
    Ended(Option<Revision>, SessionEnd),
}

impl SessionStream {
    pub(crate) fn new(
        buffer: EventBuffer,
        max_requests: usize,
        observer: Option<Arc<dyn SseObserver>>,
    ) -> Self {
        Self {
            buffer,
            max_requests,
            observer,
            stage: Mutex::new(Stage::Connected),
            is_up: AtomicBool::new(false),
            listens: AtomicBool::new(false),
            running: TaskTracker::new(),
        }
    }

    pub(crate) fn buffer(&self) -> &EventBuffer {
        &self.buffer
    }

    pub(crate) fn max_requests(&self) -> usize {
        self.max_requests
    }

    pub(super) fn observer(&self) -> Option<&dyn SseObserver> {
        self.observer.as_deref()
    }

    /// The negotiated revision.
    pub(super) fn revision(&self) -> Option<Revision> {
        match *lock(&self.stage) {
            Stage::Open(revision) => Some(revision),
            Stage::Ended(revision, _) => revision,
            Stage::Connected | Stage::Opening => None,
        }
    }

    /// Whether `initialize` was answered, and the session has not ended.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*lock(&self.stage), Stage::Open(_))
    }

    /// Whether the client has yet to send `initialize`.
    pub(crate) fn awaits_initialize(&self) -> bool {
        matches!(*lock(&self.stage), Stage::Connected)
    }

    pub(super) fn begin_opening(&self) -> bool {
        let mut stage = lock(&self.stage);
        let may = matches!(*stage, Stage::Connected);
        if may {
            *stage = Stage::Opening;
        }
        may
    }

    /// `initialize` was refused; the client may try again.
    pub(super) fn give_up_opening(&self) {
        let mut stage = lock(&self.stage);
        if matches!(*stage, Stage::Opening) {
            *stage = Stage::Connected;
        }
    }

    /// `false`: it has ended.
    pub(super) fn open(&self, revision: Revision) -> bool {
        let mut stage = lock(&self.stage);
        let may = matches!(*stage, Stage::Opening);
        if may {
            *stage = Stage::Open(revision);
        }
        may
    }

    /// The session has ended. `true`: it was open, so its handler knows it.
    pub(super) fn end(&self, why: SessionEnd) -> bool {
        let mut stage = lock(&self.stage);
        let revision = match *stage {
            Stage::Open(revision) => Some(revision),
            Stage::Connected | Stage::Opening => None,
            // The first reason is the reason; who ends a session is one only.
            Stage::Ended(..) => return false,
        };
        *stage = Stage::Ended(revision, why);
        drop(stage);
        self.buffer.close();
        revision.is_some()
    }

    /// Why it has ended.
    pub(crate) fn why_ended(&self) -> Option<SessionEnd> {
        match *lock(&self.stage) {
            Stage::Ended(_, why) => Some(why),
            Stage::Connected | Stage::Opening | Stage::Open(_) => None,
        }
    }

    /// The connection has begun to write the stream.
    pub(crate) fn set_up(&self) {
        self.is_up.store(true, Ordering::Release);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    /// `true` for the first who asks.
    pub(crate) fn begin_listening(&self) -> bool {
        !self.listens.swap(true, Ordering::AcqRel)
    }

    /// Held while an exchange of the session runs.
    pub(crate) fn run(&self) -> TaskTrackerToken {
        self.running.token()
    }

    /// Until no exchange runs.
    pub(crate) fn idle(&self) -> impl Future<Output = ()> + Send + 'static {
        self.running.close();
        let running = self.running.clone();
        async move { running.wait().await }
    }
}

impl fmt::Debug for SessionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStream")
            .field("buffer", &self.buffer)
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}
