//! What the gateway keeps for a session beside its record: which streams are live, and what
//! re-establishing it would need. Nothing of it outlives the process.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::rpc::{Kind, Message, RequestId};
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::server::Session;
use thinpipe_transport::server::conversation::Contention;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::attachment::{Attached, Read};
use crate::failure::Failure;
use crate::interceptor::{Chain, Direction, MessageContext};
use crate::pipe::Attachment;
use crate::sync::lock;

mod calls;
mod refusals;
mod setup;
mod storing;

pub(crate) use calls::Call;
use calls::Calls;
pub(crate) use refusals::{MAX_REFUSALS, Origin};
pub(crate) use setup::{MAX_SETUP, Setup};
use storing::Storing;

/// Ids remembered of each live stream, to know it again when its client resumes it.
const REMEMBERED_IDS: usize = 16;

/// The gateway's part of a session.
#[derive(Debug, Default)]
pub(crate) struct SessionState {
    /// What was read of the record.
    pub(crate) read: Read,
    streams: Mutex<Streams>,
    /// The upstream session, if it is a pipe.
    pipe: OnceLock<Attachment>,
    /// Whether the server said that it may log.
    declares_logging: AtomicBool,
    /// There are thousands of sessions that nobody uses just now, and most of them never have any of this.
    seldom: OnceLock<Box<Seldom>>,
}

/// What only some sessions have, as their messages and their upstream demand it.
#[derive(Debug, Default)]
struct Seldom {
    /// The client's requests, for responses that come on another stream.
    calls: Mutex<Calls>,
    /// The server's requests.
    asked: Mutex<Calls>,
    setup: Mutex<Setup>,
    /// The capabilities that the server has offered, where another process may go on with the session.
    offered: OnceLock<Bytes>,
    storing: Mutex<Storing>,
    /// Messages for the next standalone stream.
    notices: Mutex<Vec<Bytes>>,
    /// Places for refusals on their way to the upstream.
    refusals: OnceLock<Arc<Semaphore>>,
    reestablishing: Reestablishing,
    /// The client's `initialize`, which is never cancelled.
    opened_by: OnceLock<RequestId>,
    /// The headers of its client's DELETE, of which nobody knows whether the store has done it.
    farewell: Mutex<Option<HeaderMap>>,
}

/// How a session's upstream session is opened anew.
#[derive(Debug, Default)]
pub(crate) struct Reestablishing {
    /// One at a time.
    pub(crate) turn: tokio::sync::Mutex<Undecided>,
    /// Those that failed: whoever waited for one shares what came of it.
    pub(crate) failed: AtomicUsize,
}

/// What is left of the last time.
#[derive(Debug, Default)]
pub(crate) struct Undecided {
    /// The store failed: the session is not lost.
    pub(crate) failure: Option<Failure>,
    /// The session of the server that was opened, of which nobody knows whether the store has it in the place of the
    /// lost one.
    pub(crate) opened: Option<Opened>,
}

/// A session of the server, and the replica at which it is.
pub(crate) type Opened = (usize, Option<UpstreamSessionId>);

/// The streams of a session. Most sessions just now have none, and this takes next to nothing then.
#[derive(Debug, Default)]
struct Streams(Option<Box<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// Those that are relayed now: few at one time, and none of most sessions.
    live: Vec<Arc<Live>>,
    standalone: Option<Arc<Live>>,
    /// The session of the server that it is of, once that has opened it.
    listens_to: Option<Arc<Attached>>,
    /// `None`: nobody has taken the standalone stream over yet.
    contention: Option<Box<Contention>>,
    /// Another node has opened the standalone stream since this one did.
    is_elsewhere: bool,
}

/// Those of a session that has none.
static NONE: Open = Open {
    live: Vec::new(),
    standalone: None,
    listens_to: None,
    contention: None,
    is_elsewhere: false,
};

impl Deref for Streams {
    type Target = Open;

    fn deref(&self) -> &Open {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Streams {
    fn deref_mut(&mut self) -> &mut Open {
        self.0.get_or_insert_default()
    }
}

#[derive(Debug)]
struct Live {
    stop: CancellationToken,
    gone: CancellationToken,
    ids: Mutex<VecDeque<u64>>,
}

/// Whether the server of a session of HTTP+SSE said in its answer to `initialize` that it may log: then the
/// gateway may send a log message there as well.
pub(crate) fn declares_logging(session: &Session) -> bool {
    let state = session.existing_state::<SessionState>();
    state.is_some_and(|state| state.declares_logging.load(Ordering::Relaxed))
}

/// Remembers a request of the server, of this context, for the client's response to it, if anybody looks
/// at those. It is only known where what the server sends is read.
pub(crate) fn note_asked(
    session: &Session,
    chain: &Chain,
    context: &MessageContext,
    message: &Message,
) {
    if message.kind() == Kind::Request
        && chain.wants_any(Direction::ToUpstream)
        && let Some(state) = session.state(SessionState::default)
        && let (Some(id), Some(call)) = (message.id(), context.call())
    {
        lock(&state.seldom().asked).remember(id, call);
    }
}

/// A stream that is being relayed; it is no longer live when this is dropped.
#[derive(Debug)]
pub(crate) struct LiveStream {
    live: Arc<Live>,
    owner: Option<Arc<Session>>,
}

/// The standalone stream may not be opened now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contended;

impl SessionState {
    fn seldom(&self) -> &Seldom {
        self.seldom.get_or_init(Box::default)
    }

    /// How the upstream session is opened anew.
    pub(crate) fn reestablishing(&self) -> &Reestablishing {
        &self.seldom().reestablishing
    }

    /// What attaches the session to an upstream session that is a pipe.
    pub(crate) fn attachment(&self) -> Option<&Attachment> {
        self.pipe.get()
    }

    /// Keeps it; `None` if there is another one, which cannot be replaced.
    pub(crate) fn attach(&self, attachment: Attachment) -> Option<&Attachment> {
        self.pipe.set(attachment).ok()?;
        self.pipe.get()
    }

    /// The session's places for refusals on their way to the upstream.
    pub(crate) fn refusals(&self) -> Arc<Semaphore> {
        let places = || Arc::new(Semaphore::new(MAX_REFUSALS));
        Arc::clone(self.seldom().refusals.get_or_init(places))
    }

    /// Registers a stream.
    pub(crate) fn open(
        &self,
        owner: Option<Arc<Session>>,
        stop: CancellationToken,
        standalone: bool,
    ) -> LiveStream {
        lock(&self.streams).open(owner, stop, standalone)
    }

    /// Takes the place of the standalone stream, before its upstream has been asked: of several that
    /// are opened at the same time, the newest wins. Stops the one that had the place and returns when
    /// it is gone, and whether there was one. The fourth replacement within ten seconds is refused
    /// (R111).
    pub(crate) async fn replace_standalone(
        &self,
        owner: Option<Arc<Session>>,
        token: CancellationToken,
        now: Instant,
    ) -> Result<(LiveStream, bool), Contended> {
        let (place, old) = {
            let mut streams = lock(&self.streams);
            let old = streams.standalone.clone();
            let may = match &old {
                Some(_) => streams.contention().replace(now),
                // Who has it there counts it; too many it cannot refuse.
                None => streams.may_open(now),
            };
            if !may {
                return Err(Contended);
            }
            (streams.open(owner, token, true), old)
        };
        if let Some(old) = &old {
            stop(old).await;
        }
        Ok((place, old.is_some()))
    }

    /// Stops the live stream that carried this event id, if one did: its client is back on another
    /// connection. Returns when it is gone.
    pub(crate) async fn replace_carrier_of(&self, event_id: &[u8]) -> bool {
        let wanted = hash(event_id);
        let old = {
            let streams = lock(&self.streams);
            let carries = |live: &&Arc<Live>| lock(&live.ids).contains(&wanted);
            streams.live.iter().find(carries).cloned()
        };
        match old {
            Some(old) => {
                stop(&old).await;
                true
            }
            None => false,
        }
    }

    /// Stops every standalone stream, so that its client opens it anew.
    pub(crate) fn stop_standalone(&self) {
        if let Some(live) = &lock(&self.streams).standalone {
            live.stop.cancel();
        }
    }

    /// Another node has opened the standalone stream: the one here ends. Whether there is one; that counts (R111).
    pub(crate) fn outlistened(&self, now: Instant) -> bool {
        let mut streams = lock(&self.streams);
        streams.is_elsewhere = true;
        let standalone = streams.standalone.clone();
        let Some(live) = standalone.filter(|live| !live.stop.is_cancelled()) else {
            return false;
        };
        live.stop.cancel();
        streams.contention().note(now);
        true
    }

    /// The standalone stream was replaced on another node (R111).
    pub(crate) fn note_replaced(&self, now: Instant) {
        lock(&self.streams).contention().note(now);
    }

    /// The server has opened the standalone stream, in this session.
    pub(crate) fn note_listening_to(&self, at: Arc<Attached>) {
        lock(&self.streams).listens_to = Some(at);
    }

    /// Stops the standalone stream if it is of another session of the server than this.
    pub(crate) fn stop_listening_elsewhere(&self, now: &Attached) {
        let is_old = {
            let streams = lock(&self.streams);
            streams.listens_to.as_ref().is_some_and(|at| !at.is_at(now))
        };
        if is_old {
            self.stop_standalone();
        }
    }

    /// Messages for the next standalone stream.
    pub(crate) fn queue_notices(&self, notices: Vec<Bytes>) {
        *lock(&self.seldom().notices) = notices;
    }

    /// Takes what [`queue_notices`](Self::queue_notices) left.
    pub(crate) fn take_notices(&self) -> Vec<Bytes> {
        let seldom = self.seldom.get();
        seldom.map_or_else(Vec::new, |seldom| {
            std::mem::take(&mut lock(&seldom.notices))
        })
    }

    /// Remembers a request of the client, for responses that come on another stream, also when they
    /// come a second time.
    pub(crate) fn remember_call(&self, id: &RequestId, call: Call) {
        lock(&self.seldom().calls).remember(id, call);
    }

    pub(crate) fn call_of(&self, id: &RequestId) -> Option<Call> {
        lock(&self.seldom.get()?.calls).of(id)
    }

    pub(crate) fn asked_by_server(&self, id: &RequestId) -> Option<Call> {
        lock(&self.seldom.get()?.asked).of(id)
    }

    /// Remembers which request opened the session.
    pub(crate) fn note_opened_by(&self, id: &RequestId) {
        // A session is opened once.
        let _ = self.seldom().opened_by.set(id.clone());
    }

    pub(crate) fn is_opened_by(&self, id: &RequestId) -> bool {
        let seldom = self.seldom.get();
        seldom.and_then(|seldom| seldom.opened_by.get()) == Some(id)
    }

    /// Remembers a DELETE that may have ended the session: should it turn out to be gone, the server hears of it.
    pub(crate) fn leave_farewell(&self, headers: HeaderMap) {
        *lock(&self.seldom().farewell) = Some(headers);
    }

    /// Takes what [`leave_farewell`](Self::leave_farewell) left.
    pub(crate) fn take_farewell(&self) -> Option<HeaderMap> {
        lock(&self.seldom.get()?.farewell).take()
    }

    /// Remembers that the server may log.
    pub(crate) fn note_logging(&self) {
        self.declares_logging.store(true, Ordering::Relaxed);
    }
}

impl Streams {
    /// A stream has ended.
    fn close(&mut self, live: &Arc<Live>) {
        let Some(open) = &mut self.0 else {
            return;
        };
        open.close(live);
        if open.says_nothing() {
            // A session that waits holds nothing it does not need.
            self.0 = None;
        }
    }
}

impl Open {
    fn open(
        &mut self,
        owner: Option<Arc<Session>>,
        stop: CancellationToken,
        standalone: bool,
    ) -> LiveStream {
        let live = Arc::new(Live {
            stop,
            gone: CancellationToken::new(),
            ids: Mutex::new(VecDeque::new()),
        });
        if self.live.is_empty() {
            self.live.reserve_exact(1);
        }
        self.live.push(Arc::clone(&live));
        if standalone {
            self.standalone = Some(Arc::clone(&live));
            self.listens_to = None;
            self.is_elsewhere = false;
        }
        LiveStream { live, owner }
    }

    /// Whether the standalone stream may be opened where there is none.
    fn may_open(&mut self, now: Instant) -> bool {
        let contention = self.contention.as_mut();
        !self.is_elsewhere || contention.is_none_or(|contention| contention.may_replace(now))
    }

    fn contention(&mut self) -> &mut Contention {
        self.contention.get_or_insert_default()
    }

    fn says_nothing(&self) -> bool {
        let is_quiet = self.live.is_empty() && self.standalone.is_none();
        is_quiet && self.listens_to.is_none() && self.contention.is_none() && !self.is_elsewhere
    }

    fn close(&mut self, live: &Arc<Live>) {
        self.live.retain(|open| !Arc::ptr_eq(open, live));
        if self.live.is_empty() {
            self.live = Vec::new();
        }
        self.standalone.take_if(|open| Arc::ptr_eq(open, live));
    }
}

impl LiveStream {
    /// Ends when the stream is to end.
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.live.stop.clone()
    }

    /// A stream outside of any session: nobody resumes or replaces it.
    pub(crate) fn unregistered() -> Self {
        let live = Live {
            stop: CancellationToken::new(),
            gone: CancellationToken::new(),
            ids: Mutex::default(),
        };
        Self {
            live: Arc::new(live),
            owner: None,
        }
    }

    /// Remembers the last id the stream carried.
    pub(crate) fn note_id(&self, id: Option<&[u8]>) {
        let Some(id) = id.filter(|_| self.owner.is_some()) else {
            return;
        };
        let id = hash(id);
        let mut ids = lock(&self.live.ids);
        if ids.back() == Some(&id) {
            return;
        }
        if ids.len() >= REMEMBERED_IDS {
            ids.pop_front();
        }
        ids.push_back(id);
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        if let Some(session) = &self.owner
            && let Some(state) = session.state(SessionState::default)
        {
            lock(&state.streams).close(&self.live);
        }
        self.live.gone.cancel();
    }
}

/// Stops a stream and waits until its upstream connection is closed. A connection that is stuck in
/// a write is not waited for longer than a moment: it is closing.
async fn stop(live: &Live) {
    live.stop.cancel();
    let gone = live.gone.cancelled();
    if tokio::time::timeout(Duration::from_secs(1), gone)
        .await
        .is_err()
    {
        tracing::debug!("a replaced stream is slow to close");
    }
}

/// Enough of a session's id to follow it in a log, too little to use it.
pub(crate) fn short(session: &Session) -> Arc<str> {
    let id = session.id().as_str();
    id[..id.len().min(6)].into()
}

fn hash(id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
