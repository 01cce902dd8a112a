//! Sessions of the server side: opened by `initialize`, bound to a principal and an endpoint.

use std::any::Any;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_store::{SessionRecord, StoreError, Versioned};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use handover::HandOver;
pub use manager::{SessionLimits, SessionManager, SessionStats};
pub(crate) use ownership::{Located, Seeker};
pub use requests::NotBegun;
pub use slot::SessionSlot;
pub use weak::WeakSessionManager;

use crate::io::now;
use crate::server::Handler;
use crate::server::event_buffer::EventBuffer;
use crate::server::history::History;
use requests::Requests;
use stored::Stored;
use stream::SessionStream;

mod alike;
mod ended;
mod handover;
mod keeping;
mod manager;
mod ownership;
mod requests;
mod slot;
mod stored;
mod stranger;
pub(crate) mod stream;
mod sweeping;
mod taking;
mod told;
mod unclaimed;
mod weak;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client sent DELETE, and the handler has answered it.
    Deleted,
    /// The client left before it learned the session's id: nobody will ever use it.
    Abandoned,
    /// Nobody used it for too long, or it grew too old.
    Expired,
    /// The upstream does not know its session any more.
    UpstreamGone,
    /// The server shuts down and the session cannot outlive it.
    ShutDown,
    /// The stream of a session of HTTP+SSE is gone, and the session with it.
    Disconnected,
    /// Only this process has let go of it. It lives on in the store, for other nodes and for whoever comes back:
    /// what is kept of it here goes, and nobody else is told.
    Forgotten,
}

/// Why a session cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// All places are taken.
    #[error("all {limit} sessions are in use")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The store failed.
    #[error("the session store failed")]
    Store(#[from] StoreError),
    /// Its node is gone, and it cannot go on here just now.
    #[error("the session cannot go on here just now")]
    PutOff,
    /// The client has left, and the session with it.
    #[error("the session has ended")]
    Ended,
    /// No random number could be drawn for the id.
    #[error("the system gives no random numbers")]
    Random,
}

/// A live session.
pub struct Session {
    id: SessionId,
    principal: Principal,
    endpoint: Arc<str>,
    /// Until a session of HTTP+SSE has negotiated, what its binding was made for.
    revision: Revision,
    stream: Option<Arc<SessionStream>>,
    stored: Mutex<Stored>,
    owner: Arc<dyn Handler>,
    history: History,
    state: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Made when somebody waits for something of it.
    waited_for: OnceLock<Box<WaitedFor>>,
    ended: AtomicBool,
    requests: Mutex<Requests>,
    active: AtomicU32,
    /// As the record says.
    created_ms: u64,
    epoch: Instant,
    /// How old it was at `epoch`: more than nothing if it was taken up from the store.
    age_before_ms: u64,
    last_used_ms: AtomicU64,
}

/// What others wait for.
#[derive(Default)]
struct WaitedFor {
    /// The end of the session.
    closed: CancellationToken,
    /// Told when nothing is active any more.
    at_rest: Notify,
}

impl Session {
    fn new(
        (record, version): Versioned,
        owner: Arc<dyn Handler>,
        endpoint: Arc<str>,
        (stream, history): (Option<Arc<SessionStream>>, History),
    ) -> Self {
        Self {
            id: record.id.clone(),
            principal: record.principal.clone(),
            endpoint,
            revision: record.revision,
            stream,
            created_ms: record.created_ms,
            age_before_ms: unix_ms().saturating_sub(record.created_ms),
            stored: Mutex::new(Stored::of((record, version))),
            owner,
            history,
            state: OnceLock::new(),
            waited_for: OnceLock::new(),
            ended: AtomicBool::new(false),
            requests: Mutex::default(),
            active: AtomicU32::new(0),
            epoch: now(),
            last_used_ms: AtomicU64::new(0),
        }
    }

    /// The id the client knows.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Whose session it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Name of the endpoint it was opened on.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    /// The negotiated revision. Of a session of HTTP+SSE whose `initialize` has not been answered yet:
    /// 2024-11-05.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let negotiated = self.stream().and_then(SessionStream::revision);
        negotiated.unwrap_or(self.revision)
    }

    /// How its messages are framed.
    #[must_use]
    pub fn binding(&self) -> Binding {
        match self.stream {
            Some(_) => Binding::HttpSse,
            None => Binding::Sessions,
        }
    }

    /// The one stream of a session of HTTP+SSE, for a handler that writes to it itself. A request that it
    /// answers there is answered [`Answer::on_stream`](super::Answer::on_stream); one that is answered with
    /// any other 202 gets an error.
    #[must_use]
    pub fn outlet(&self) -> Option<EventBuffer> {
        self.stream().map(|stream| stream.buffer().clone())
    }

    pub(crate) fn stream(&self) -> Option<&SessionStream> {
        self.stream.as_deref()
    }

    /// Who answers in it.
    pub(crate) fn handler(&self) -> &Arc<dyn Handler> {
        &self.owner
    }

    /// Whether it lives in one process, of several that use its store.
    #[must_use]
    pub fn is_held(&self) -> bool {
        lock(&self.stored).is_held()
    }

    /// What streams of all sessions keep.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The client's `initialize` params.
    #[must_use]
    pub fn initialize_params(&self) -> Bytes {
        lock(&self.stored).initialize_params.clone()
    }

    /// What the handler stored with it, for whoever goes on with it elsewhere.
    #[must_use]
    pub fn attachment(&self) -> Bytes {
        lock(&self.stored).attachment.clone()
    }

    /// A copy of what is stored of it.
    #[must_use]
    pub fn record(&self) -> SessionRecord {
        self.versioned().0
    }

    /// What the handler keeps for it, made at the first call. A handler uses one type only; asking
    /// for another gives `None`.
    pub fn state<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.state.get_or_init(|| Box::new(make())).downcast_ref()
    }

    /// What the handler keeps for it, if it is there and of this type.
    #[must_use]
    pub fn existing_state<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.state.get()?.downcast_ref()
    }

    /// Cancelled when the session ends: its streams close then.
    #[must_use]
    pub fn closed(&self) -> &CancellationToken {
        // Whoever ends the session makes it as well, so that nobody waits for one that is never cancelled.
        &self.waited_for().closed
    }

    fn waited_for(&self) -> &WaitedFor {
        self.waited_for.get_or_init(Box::default)
    }

    /// Marks the session as in use until the guard is dropped; idle time counts from then.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Activity {
        self.active.fetch_add(1, Ordering::Relaxed);
        Activity {
            session: Arc::clone(self),
        }
    }

    /// Registers a request until the guard is dropped.
    ///
    /// # Errors
    /// One with this id is running, or `limit` are.
    pub fn begin(self: &Arc<Self>, id: &RequestId, limit: usize) -> Result<InFlight, NotBegun> {
        lock(&self.requests).begin(id, limit, now())?;
        Ok(InFlight {
            session: Arc::clone(self),
            id: id.clone(),
        })
    }

    /// The requests that are running; of a session that has ended, those that ran then.
    #[must_use]
    pub fn running_ids(&self) -> Vec<RequestId> {
        let requests = lock(&self.requests);
        let running = requests.running.iter();
        running.map(|running| running.id.clone()).collect()
    }

    /// Remembers that the client has cancelled a request: nobody waits for its answer any more. `false`: it is not
    /// running here. Then it may come yet, and is cancelled from the beginning if it does so within
    /// [`EARLY_CANCEL_AGE`]; or, as one of a session that any node serves, it runs on another one
    /// ([`SessionManager::note_cancelled`]).
    ///
    /// [`EARLY_CANCEL_AGE`]: thinpipe_proto::bridge::EARLY_CANCEL_AGE
    pub fn note_cancelled(&self, id: &RequestId) -> bool {
        lock(&self.requests).cancel(id, now())
    }

    /// Whether this request is running and its client has cancelled it, as far as
    /// [`note_cancelled`](Self::note_cancelled) was told.
    #[must_use]
    pub fn is_cancelled(&self, id: &RequestId) -> bool {
        let requests = lock(&self.requests);
        let mut running = requests.running.iter();
        running.any(|running| running.is_cancelled && running.id == *id)
    }

    /// How many requests are running.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        lock(&self.requests).running.len()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether nothing of it runs and no stream of it is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.active.load(Ordering::Relaxed) == 0
    }

    /// Until nothing of it runs and no stream of it is open, or it has ended. Cancel-safe: it only waits.
    pub(crate) async fn rested(&self) {
        let WaitedFor { at_rest, closed } = self.waited_for();
        loop {
            let mut told = pin!(at_rest.notified());
            told.as_mut().enable();
            // A write: whoever is the last to leave has left before it, or finds out that it is waited for.
            if self.active.fetch_add(0, Ordering::AcqRel) == 0 {
                return;
            }
            tokio::select! {
                // Cancel-safe: what was told is seen in what is active.
                () = told => {}
                // Cancel-safe: a token stays cancelled.
                () = closed.cancelled() => return,
            }
        }
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch) + Duration::from_millis(self.age_before_ms)
    }

    fn idle_for(&self, now: Instant) -> Option<Duration> {
        if self.active.load(Ordering::Relaxed) > 0 {
            return None;
        }
        Some(now.saturating_duration_since(self.last_used()))
    }

    /// When it was used last.
    pub(crate) fn last_used(&self) -> Instant {
        self.epoch + Duration::from_millis(self.last_used_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn touch(&self) {
        let since = now().saturating_duration_since(self.epoch).as_millis();
        self.last_used_ms
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("endpoint", &self.endpoint)
            .finish()
    }
}

/// Keeps a session from expiring.
#[derive(Debug)]
pub struct Activity {
    session: Arc<Session>,
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.session.touch();
        if self.session.active.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(waited_for) = self.session.waited_for.get()
        {
            waited_for.at_rest.notify_waiters();
        }
    }
}

/// A running request of a session.
#[derive(Debug)]
pub struct InFlight {
    session: Arc<Session>,
    id: RequestId,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.session.is_ended() {
            // Cut off: whoever is told of the end learns of it.
            return;
        }
        lock(&self.session.requests).end(&self.id);
    }
}

/// What a handler learned when a session was negotiated.
#[derive(Clone)]
pub struct Negotiated {
    /// The revision both sides agreed on.
    pub revision: Revision,
    /// The client's `initialize` params, as JSON text.
    pub initialize_params: Bytes,
    /// What the handler stores with the session, for whoever goes on with it elsewhere; may be empty.
    pub attachment: Bytes,
    /// The session lives in this process: its handler keeps what cannot be had from the record (a conversation,
    /// a child process). Of several nodes that use one store, the others send what comes for it here. `false`:
    /// whatever node is asked goes on with it.
    pub held: bool,
}

impl fmt::Debug for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Negotiated")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// A poisoned lock means a panic elsewhere; what it guards here is valid at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F16: there are thousands of them at one time, of which most wait.
    #[test]
    fn f16_a_session_is_small() {
        assert!(size_of::<Session>() <= 320, "{}", size_of::<Session>());
    }
}
