//! What a server says in one session with `initialize`, and on which of the session's streams.
//!
//! A message belongs on the stream of the request that it is about, else on the standalone stream (GET),
//! and on exactly one of them (2025-11-25, "Sending Messages to the Server"; B20). Over HTTP+SSE there is one
//! stream for everything, and what is said there stays in order.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::session::StreamId;
use tokio::sync::Notify;

use super::event_buffer::{EventBuffer, NotPushed};
use super::history::{Charge, History, Registered};
use crate::io::now;
use crate::server::Session;

mod ask;
mod config;
mod contention;
mod exchange;
mod held;
mod listen;
mod logged;
pub(crate) mod notice;

pub use ask::Unanswered;
pub use config::ConversationConfig;
pub use contention::Contention;
pub use exchange::{First, Inlet, Outlet};

use ask::{Asked, is_for_the_client};
use exchange::Stream;
use held::Held;
use logged::{Log, buffer};

/// The standalone stream is one logical stream for as long as the session lives.
const STANDALONE: StreamId = StreamId(0);

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It is on a stream that a client reads, or can resume.
    Delivered,
    /// It waits for a stream.
    Held,
    /// There is no stream for it, and it is not worth waiting for one (protocol notes 5.2).
    Dropped,
}

/// Why a GET is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Two clients fight over the standalone stream (409, R111).
    #[error("other connections open this session's stream again and again")]
    Contended,
    /// What came after this event cannot be given (400; never 404, which would end the session).
    #[error("the stream cannot be resumed after this event")]
    UnknownEvent,
    /// The log in which other nodes keep their streams does not answer, or the session has just left this node (503):
    /// later there may be an answer, here or elsewhere.
    #[error("the stream cannot be had now")]
    Unavailable,
}

/// The streams of one session.
pub struct Conversation {
    config: ConversationConfig,
    /// Event streams have a priming event, with this `retry`.
    primes: Option<Option<Duration>>,
    only: Option<Only>,
    inner: Mutex<Inner>,
    asked: Asked,
    /// What looks after what its streams keep.
    history: Option<Registered>,
    /// Where they are written for other nodes.
    log: Option<Log>,
    on_held: OnceLock<Arc<Notify>>,
}

/// HTTP+SSE: the one stream.
struct Only {
    stream: EventBuffer,
    /// Whether responses come out of their inlets, instead of going on it too.
    answers: bool,
}

struct Inner {
    next: u64,
    /// Of requests that are being answered, in the order in which they came.
    open: BTreeMap<StreamId, Arc<Stream>>,
    finished: Vec<(Arc<Stream>, Instant)>,
    standalone: EventBuffer,
    contention: Contention,
    held: Held,
    closed: bool,
}

/// Where a message goes.
enum Target {
    Exchange(Arc<Stream>),
    Buffer(EventBuffer),
    Nowhere(Said),
}

impl Conversation {
    /// That of a session over Streamable HTTP of this revision.
    #[must_use]
    pub fn new(config: ConversationConfig, revision: Revision) -> Arc<Self> {
        Self::build(config, revision.primes_streams(), None, (None, None))
    }

    /// That of this session over Streamable HTTP. What its streams keep is swept with the session, and counts
    /// together with what those of other sessions of the same [`SessionManager`](crate::server::SessionManager)
    /// keep: 256 MiB, of which the oldest goes first. If that manager has a [log](crate::server::SessionManager::log_to), they are
    /// written to it, and streams of nodes that are gone are read from it.
    #[must_use]
    pub fn in_session(config: ConversationConfig, session: &Session) -> Arc<Self> {
        let history = config.resumes().then(|| session.history().clone());
        let log = history.as_ref().and_then(|history| {
            let writer = history.log()?.clone();
            Some(Log::new(writer, session.id().clone()))
        });
        let primes = session.revision().primes_streams();
        Self::build(config, primes, None, (history, log))
    }

    /// That of a session of 2025-11-25 with a log.
    #[cfg(test)]
    pub(in crate::server) fn logged(
        config: ConversationConfig,
        writer: super::event_log::LogWriter,
        session: thinpipe_proto::session::SessionId,
    ) -> Arc<Self> {
        let log = Log::new(writer, session);
        Self::build(config, true, None, (None, Some(log)))
    }

    /// That of a session over HTTP+SSE, whose stream this is. All goes on it, responses too; the requests are
    /// answered [`Answer::on_stream`](crate::server::Answer::on_stream).
    #[must_use]
    pub fn over(config: ConversationConfig, only: EventBuffer) -> Arc<Self> {
        let (stream, answers) = (only, false);
        Self::build(config, false, Some(Only { stream, answers }), (None, None))
    }

    /// The same, but for responses: they are what requests are answered with, and the server side puts them on
    /// the stream, or in the response to the POST where [`inline_json`](super::SseConfig::inline_json) says so.
    #[must_use]
    pub fn beside(config: ConversationConfig, only: EventBuffer) -> Arc<Self> {
        let (stream, answers) = (only, true);
        Self::build(config, false, Some(Only { stream, answers }), (None, None))
    }

    fn build(
        config: ConversationConfig,
        primes: bool,
        only: Option<Only>,
        (history, log): (Option<History>, Option<Log>),
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| {
            let history = history.map(|history| history.register(this, config.max_kept));
            let charge = charge(history.as_ref());
            let inner = Inner {
                next: 1,
                open: BTreeMap::new(),
                finished: Vec::new(),
                standalone: buffer(log.as_ref(), config.buffer, STANDALONE, None, charge),
                contention: Contention::default(),
                held: Held::default(),
                closed: false,
            };
            Self {
                asked: Asked::new(config.max_asked, config.questions_after),
                config,
                primes: (primes && config.resumes()).then(|| log.is_some().then_some(config.retry)),
                only,
                inner: Mutex::new(inner),
                history,
                log,
                on_held: OnceLock::new(),
            }
        })
    }

    /// Begins the answer to a request: where it is said, and where it comes out.
    pub fn begin(self: &Arc<Self>, request: &RequestId) -> (Outlet, Inlet) {
        if let Some(only) = &self.only {
            return exchange::over(request, only);
        }
        let mut inner = self.lock();
        let (id, log) = inner.number(self.log.as_ref());
        let charge = charge(self.history.as_ref());
        let buffer = buffer(log, self.config.buffer, id, Some(request), charge);
        if inner.closed {
            buffer.close();
        }
        let (stream, inlet) = exchange::pair(request, buffer, &self.config, self.primes);
        inner.open.insert(id, Arc::clone(&stream));
        inner
            .held
            .flush_requests(|message| stream.try_put(None, message).is_ok());
        (Outlet::new(stream, Some(Arc::clone(self))), inlet.of(self))
    }

    /// Says something about a request, or (`None`) about none. Waits while the stream it goes on is full. A
    /// change notice is said once while it waits to be read: the client reads anew after it in any case.
    pub async fn say(&self, message: &Message, related: Option<&RequestId>) -> Said {
        let (key, source) = (notice::key(message), message.source());
        let key = key.as_deref();
        let mut related = related;
        loop {
            let pushed = match self.target(message, related) {
                Target::Nowhere(said) => return said,
                Target::Buffer(buffer) => buffer.put(key, source.clone()).await,
                Target::Exchange(stream) => stream.put(key, source.clone()).await,
            };
            match pushed {
                Ok(()) => return Said::Delivered,
                Err(_) if self.asks_elsewhere(message) => related = None,
                Err(_) => return Said::Dropped,
            }
        }
    }

    /// Says what it can of these notifications about a request, in their order and without waiting: as many as its
    /// stream has room for, up to a change notice. They are taken out, and their reader sees them at once. What is
    /// left is for [`say`](Self::say).
    pub fn say_some(&self, notices: &mut VecDeque<Message>, request: &RequestId) {
        let is_change = |notice: &Message| notice::key(notice).is_some();
        let most = notices
            .iter()
            .take_while(|notice| !is_change(notice))
            .count();
        if most == 0 {
            return;
        }
        match &self.only {
            Some(only) => only.stream.put_some(notices, most),
            None => {
                let stream = self.lock().open_for(request);
                if let Some(stream) = stream.filter(|stream| stream.is_open()) {
                    stream.put_some(notices, most);
                }
            }
        }
    }

    /// As [`say`](Self::say), for whoever cannot wait for one client because others would wait with it.
    ///
    /// # Errors
    /// [`NotPushed::Full`] if the stream it goes on is full: end that stream or that session, since nothing
    /// may be missing in it. [`NotPushed::Closed`] never. For a change notice there is no error: a client for
    /// whom more of them wait than it could have subscribed to gets no more, and a warning is logged.
    pub fn try_say(
        &self,
        message: &Message,
        related: Option<&RequestId>,
    ) -> Result<Said, NotPushed> {
        let (key, source) = (notice::key(message), message.source());
        let key = key.as_deref();
        let mut related = related;
        loop {
            let pushed = match self.target(message, related) {
                Target::Nowhere(said) => return Ok(said),
                Target::Buffer(buffer) => buffer.try_put(key, source.clone()),
                Target::Exchange(stream) => stream.try_put(key, source.clone()),
            };
            match pushed {
                Ok(()) => return Ok(Said::Delivered),
                Err(NotPushed::Full) if key.is_some() => {
                    tracing::warn!("too many change notices wait to be read; one is dropped");
                    return Ok(Said::Dropped);
                }
                Err(NotPushed::Full) => return Err(NotPushed::Full),
                Err(NotPushed::Closed(_)) if self.asks_elsewhere(message) => related = None,
                Err(NotPushed::Closed(_)) => return Ok(Said::Dropped),
            }
        }
    }

    /// Takes the standalone stream from a client that does not read it. What it has not read waits there for
    /// its next GET.
    pub fn end_standalone(&self) {
        // The newest reader is the only one, and this one reads nothing.
        let newest = self.lock().standalone.reader();
        drop(newest);
    }

    fn target(&self, message: &Message, related: Option<&RequestId>) -> Target {
        match &self.only {
            Some(only) => Target::Buffer(only.stream.clone()),
            None => {
                let target = self.lock().target(message, related, &self.config);
                if matches!(target, Target::Nowhere(Said::Held)) {
                    self.note_held();
                }
                target
            }
        }
    }

    /// Has this notified whenever something begins to wait for a stream, also when it was said on one that its
    /// client has left: the [`deadline`](Self::deadline) may have changed. Only the first call counts.
    pub fn notify_held(&self, notify: Arc<Notify>) {
        // Whoever serves the session does so once.
        let _ = self.on_held.set(notify);
    }

    fn note_held(&self) {
        if let Some(notify) = self.on_held.get() {
            notify.notify_one();
        }
    }

    /// The earliest time at which [`undeliverable`](Self::undeliverable) has something to tell.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.lock().held.deadline()
    }

    /// The server's requests for which no stream was opened in time; they are forgotten here.
    pub fn undeliverable(&self) -> Vec<RequestId> {
        self.lock().held.expired(now())
    }

    /// Forgets a server's request that still waits for a stream; `true` if there was one.
    pub fn withdraw(&self, id: &RequestId) -> bool {
        self.lock().held.withdraw(id)
    }

    /// Ends all streams behind what was said, and every wait for an answer of the client. Nobody will come back to
    /// them: what a log has of them is forgotten, unless the session was [handed over](Self::hand_over).
    pub fn close(&self) {
        self.end_streams(false);
    }

    fn end_streams(&self, are_handed_over: bool) {
        let mut inner = self.lock();
        let was_closed = std::mem::replace(&mut inner.closed, true);
        inner.held = Held::default();
        inner.standalone.close();
        for stream in inner.open.values() {
            if are_handed_over {
                stream.buffer().leave_unended();
                stream.close();
            } else {
                stream.break_off();
            }
        }
        drop(inner);
        self.asked.close();
        if !was_closed && !are_handed_over {
            self.forget_log();
        }
    }

    /// Forgets what is older than it is to be kept.
    pub(super) fn sweep(&self) {
        let mut inner = self.lock();
        inner.sweep(&self.config);
        inner.standalone.sweep();
        for stream in inner.open.values() {
            stream.buffer().sweep();
        }
    }

    /// Evicts the oldest of what its streams keep, if that is too much.
    pub(super) fn make_room(&self) {
        if let Some(history) = &self.history {
            history.make_room(&self.buffers());
        }
    }

    /// All its streams.
    pub(super) fn buffers(&self) -> Vec<EventBuffer> {
        let inner = self.lock();
        let finished = inner.finished.iter().map(|(stream, _)| stream);
        let streams = inner.open.values().chain(finished);
        let buffers = streams.map(|stream| stream.buffer().clone());
        buffers.chain([inner.standalone.clone()]).collect()
    }

    /// The answer to a request is complete, or will never be.
    fn finished(&self, stream: &Arc<Stream>) {
        let mut inner = self.lock();
        if inner.open.remove(&stream.id()).is_some()
            && self.config.resumes()
            && stream.is_streaming()
        {
            inner.finished.push((Arc::clone(stream), now()));
            inner.sweep(&self.config);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A poisoned lock means a panic elsewhere; what it guards is valid at every step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Chooses the stream of a message (protocol notes 5.2, "server request / notification").
    fn target(
        &mut self,
        message: &Message,
        related: Option<&RequestId>,
        config: &ConversationConfig,
    ) -> Target {
        let of_request = related.and_then(|id| self.open_for(id));
        match of_request {
            Some(stream) if stream.is_open() => return Target::Exchange(stream),
            // Its client has left. What it is asked can be asked elsewhere, what it is told cannot.
            Some(_) if !is_for_the_client(message) => return Target::Nowhere(Said::Dropped),
            _ if self.closed => return Target::Nowhere(Said::Dropped),
            _ => {}
        }
        if self.standalone.is_attached() {
            // What waits comes first.
            self.flush_standalone();
            return Target::Buffer(self.standalone.clone());
        }
        if !is_for_the_client(message) {
            if self.standalone.awaits_return() {
                return Target::Buffer(self.standalone.clone());
            }
            return Target::Nowhere(self.held.keep_notice(message));
        }
        // There is one client, so nobody guesses whom this is for.
        if let Some(stream) = self.open.values().find(|stream| stream.is_open()) {
            return Target::Exchange(Arc::clone(stream));
        }
        Target::Nowhere(self.held.keep_request(message, now() + config.hold))
    }

    fn open_for(&self, request: &RequestId) -> Option<Arc<Stream>> {
        let mut open = self.open.values();
        open.find(|stream| stream.request() == request).cloned()
    }

    fn buffer_of(&self, id: StreamId) -> Option<EventBuffer> {
        if id == STANDALONE {
            return Some(self.standalone.clone());
        }
        let finished = self.finished.iter().map(|(stream, _)| stream);
        let mut streams = self.open.values().chain(finished).map(|s| s.buffer());
        // What another node has answered is in the log alone.
        let found = streams.find(|buffer| buffer.is_known_as(id) && !buffer.is_fenced());
        let found = found.or_else(|| Some(&self.standalone).filter(|s| s.is_known_as(id)));
        found.cloned()
    }

    fn flush_standalone(&mut self) {
        let standalone = &self.standalone;
        self.held
            .flush(|key, message| standalone.try_put(key, message).is_ok());
    }

    /// Forgets finished streams that are too old, and the oldest if they are too large together.
    fn sweep(&mut self, config: &ConversationConfig) {
        let now = now();
        let is_young = |at: &Instant| now.saturating_duration_since(*at) < config.finished_for;
        self.finished
            .retain(|(stream, at)| is_young(at) && !stream.buffer().sweep());
        let mut bytes: usize = self.finished.iter().map(|(s, _)| s.buffer().bytes()).sum();
        while bytes > config.max_kept && !self.finished.is_empty() {
            let (oldest, _) = self.finished.remove(0);
            bytes -= oldest.buffer().bytes();
        }
    }
}

fn charge(history: Option<&Registered>) -> Charge {
    history.map_or_else(Charge::default, Registered::charge)
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Conversation")
            .field("open", &inner.open.len())
            .field("finished", &inner.finished.len())
            .field("asked", &self.asked.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
