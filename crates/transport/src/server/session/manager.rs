//! The table of live sessions, over a [`SessionStore`].

use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::revision::Binding;
use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_proto::tunnel::News;
use thinpipe_store::{SessionStore, StoreError, Versioned};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alike::Alike;
use super::ended::Ended;
use super::slot::{Place, SessionSlot};
use super::stranger::Endpoints;
use super::stream::StreamSession;
use super::taking::Taking;
use super::unclaimed::Unclaimed;
use super::{Session, SessionEnd, SessionError};
use crate::Random;
use crate::io::now;
use crate::server::Handler;
use crate::server::event_log::LogWriter;
use crate::server::history::{History, MAX_HISTORY};
use crate::server::nodes::Nodes;

/// How many sessions there may be and how long they last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions at one time. Default: 10,000. Where several nodes use one store, each has so many at one time; those
    /// that any of them serves are not lost when they give way to others.
    pub max: usize,
    /// A session that nobody uses ends after this. Default: 30 min.
    pub idle: Duration,
    /// A session ends at this age as soon as nobody uses it. Where several nodes use one store, and any of them
    /// serves it, that is when none of them has found anything of it running for as long as `idle`. Default: 24 h.
    pub age: Duration,
    /// How often ended sessions are looked for. Default: 60 s.
    pub sweep: Duration,
    /// Bytes of messages that the streams of all sessions together keep for clients that resume. Default: 256 MiB;
    /// the oldest go first.
    pub max_history: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            max: 10_000,
            idle: Duration::from_secs(30 * 60),
            age: Duration::from_secs(24 * 3600),
            sweep: Duration::from_secs(60),
            max_history: MAX_HISTORY,
        }
    }
}

impl SessionLimits {
    /// Idle time allowed when `used` places are taken (F11): the fuller, the shorter, so that room
    /// is made for who is there by who is not. Never below 5 min, unless `idle` itself is.
    #[must_use]
    pub fn idle_under_pressure(&self, used: usize) -> Duration {
        let percent = used.saturating_mul(100) / self.max.max(1);
        let floor = Duration::from_secs(5 * 60).min(self.idle);
        match percent {
            0..75 => self.idle,
            75..85 => (self.idle / 2).max(floor),
            85..95 => (self.idle / 4).max(floor),
            _ => floor,
        }
    }
}

/// Figures about the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStats {
    /// Live now.
    pub live: usize,
    /// The limit.
    pub max: usize,
}

/// Opens, finds and ends sessions. Cheap to clone. A handler of them keeps it [weak](Self::downgrade).
#[derive(Clone)]
pub struct SessionManager {
    pub(super) inner: Arc<Inner>,
}

/// By ids that were drawn here or by another node: nobody can choose them so that they collide. Where the ids are the
/// same, so is the order.
type Live = papaya::HashMap<SessionId, Arc<Session>, BuildHasherDefault<DefaultHasher>>;

pub(super) struct Inner {
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) live: Live,
    pub(super) limits: SessionLimits,
    pub(super) places: Arc<AtomicUsize>,
    pub(super) epoch: Instant,
    /// From when on room may be made again, in ms after `epoch`.
    pub(super) room_at_ms: AtomicU64,
    /// Until when all sessions are taken to be in use, in ms after `epoch`.
    pub(super) in_use_until_ms: AtomicU64,
    pub(super) tasks: TaskTracker,
    pub(super) history: History,
    /// What sessions have in common.
    pub(super) alike: Alike,
    /// `None`: no other node uses the store.
    pub(super) nodes: Option<Nodes>,
    /// Sessions that are being taken over from another node.
    pub(super) taking: Taking,
    /// Sessions that have ended here, while their records say that they are here.
    pub(super) ended: Ended,
    /// Cancellations that other nodes have told of, of sessions that are not live here.
    pub(super) unclaimed: Unclaimed,
    /// Where sessions are opened here.
    pub(super) endpoints: Endpoints,
    /// For ids of sessions and streams.
    pub(super) random: Random,
    /// Nobody is told of the end of sessions any more.
    cut_off: CancellationToken,
}

impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManager")
            .field("stats", &self.stats())
            .finish()
    }
}

impl SessionManager {
    /// A manager over a store. Tasks it starts (telling handlers that sessions ended) run on `tasks`.
    #[must_use]
    pub fn new(store: Arc<dyn SessionStore>, limits: SessionLimits, tasks: TaskTracker) -> Self {
        Self::among(None, store, limits, tasks, Random::default())
    }

    /// The same, over a store that other nodes use too.
    pub(crate) fn among(
        nodes: Option<Nodes>,
        store: Arc<dyn SessionStore>,
        limits: SessionLimits,
        tasks: TaskTracker,
        random: Random,
    ) -> Self {
        let places = Arc::new(AtomicUsize::new(0));
        let live = Live::default();
        Self {
            inner: Arc::new(Inner {
                store,
                live,
                limits,
                places,
                epoch: now(),
                room_at_ms: AtomicU64::new(0),
                in_use_until_ms: AtomicU64::new(0),
                tasks,
                history: History::new(limits.max_history),
                alike: Alike::default(),
                nodes,
                taking: Taking::default(),
                ended: Ended::default(),
                unclaimed: Unclaimed::default(),
                endpoints: Endpoints::default(),
                random,
                cut_off: CancellationToken::new(),
            }),
        }
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &SessionLimits {
        &self.inner.limits
    }

    /// Figures about the sessions.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        let live = self.inner.places.load(Ordering::Relaxed);
        SessionStats {
            live,
            max: self.inner.limits.max,
        }
    }

    /// Has what can be resumed in sessions written to a log, too, so that other nodes have it when this one is gone. For
    /// streams of sessions that are opened or taken up from now on; only the first call counts, and `false` is
    /// any other.
    pub fn log_to(&self, writer: LogWriter) -> bool {
        self.inner.history.log_to(writer)
    }

    /// Where ids of sessions and streams come from.
    pub(crate) fn random(&self) -> &Random {
        &self.inner.random
    }

    /// All live sessions, in no order.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Session>> {
        let live = self.inner.live.pin();
        live.values().filter(|s| !s.is_ended()).cloned().collect()
    }

    /// Reserves a place for a session that is being opened. The cap is exact: concurrent calls never
    /// get more places than there are.
    ///
    /// # Errors
    /// [`SessionError::Full`]. Sessions that have expired are ended before, to make room, but not more
    /// often than once a second: in between, one more is refused at once.
    pub async fn reserve(
        &self,
        owner: Arc<dyn Handler>,
        endpoint: Arc<str>,
        principal: Principal,
    ) -> Result<SessionSlot, SessionError> {
        let place = match self.place() {
            Some(place) => place,
            None => {
                self.make_room().await;
                self.place_or_full()?
            }
        };
        Ok(SessionSlot::new(
            self.clone(),
            place,
            owner,
            endpoint,
            principal,
        ))
    }

    /// The session of HTTP+SSE with this id whose stream is open here, if it belongs to this principal
    /// and endpoint.
    pub(crate) fn live_stream(
        &self,
        id: &[u8],
        principal: &Principal,
        endpoint: &Arc<str>,
    ) -> Option<StreamSession> {
        let session = self.inner.live.pin().get(id).cloned()?;
        if !belongs(&session, Binding::HttpSse, principal, endpoint) {
            return None;
        }
        StreamSession::of(session).filter(|of| !of.stream.buffer().is_closed())
    }

    /// The session with this id that is live here, if it belongs to this principal and endpoint; never
    /// one of HTTP+SSE. Costs no allocation and does not ask the store.
    #[must_use]
    pub fn live(
        &self,
        id: &[u8],
        principal: &Principal,
        endpoint: &Arc<str>,
    ) -> Option<Arc<Session>> {
        let session = self.inner.live.pin().get(id).cloned()?;
        belongs(&session, Binding::Sessions, principal, endpoint).then_some(session)
    }

    /// Ends a session: its streams close, its record goes, its handler is told. Only the first call
    /// does anything.
    ///
    /// # Errors
    /// [`SessionError::Store`] if the record could not be deleted. A session that its client ends
    /// ([`SessionEnd::Deleted`]) lives on then; any other has ended here all the same.
    pub async fn end(&self, session: &Arc<Session>, why: SessionEnd) -> Result<(), SessionError> {
        if why == SessionEnd::Deleted && !session.is_ended() {
            // It ends everywhere or nowhere: who has its record would go on with it.
            self.inner.store.delete(session.id()).await?;
            self.tell_ended(session);
            self.ended_elsewhere(session);
            return Ok(());
        }
        let Some(_leaving) = self.close(session, why) else {
            return Ok(());
        };
        self.delete_ended(session).await?;
        self.tell_ended(session);
        Ok(())
    }

    fn tell_ended(&self, session: &Session) {
        // One that is held is held by one node only.
        if let Some(nodes) = self.nodes().filter(|_| !session.is_held()) {
            nodes.tell(News::Ended(session.id().clone()));
        }
    }

    /// Ends a session on this node; `None`: it has ended. It stays in the table, where nobody gets it any more,
    /// until what is given back is dropped: until its record is gone, or else whoever asks for it meanwhile would
    /// take the record up again.
    pub(super) fn close<'a>(
        &'a self,
        session: &'a Arc<Session>,
        why: SessionEnd,
    ) -> Option<Leaving<'a>> {
        if session.ended.swap(true, Ordering::AcqRel) {
            return None;
        }
        let leaving = Leaving {
            inner: &self.inner,
            session,
        };
        // Its stream takes nothing more before what runs for it is dropped.
        let was_open = session.stream().is_none_or(|stream| stream.end(why));
        session.closed().cancel();
        // A handler is told of the end of what it has opened.
        if was_open {
            let told = Arc::clone(&session.owner).session_ended(Arc::clone(session), why);
            self.spawn(told);
        }
        Some(leaving)
    }

    /// Runs a task that [`cut_off`](Self::cut_off) may drop.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut_off = self.inner.cut_off.clone();
        self.inner.tasks.spawn(async move {
            // Cancel-safe: what is dropped here is dropped for good.
            if cut_off.run_until_cancelled(task).await.is_none() {
                tracing::warn!("the end of a session could not be told in time");
            }
        });
    }

    /// Drops what still runs about sessions that ended.
    pub(crate) fn cut_off(&self) {
        self.inner.cut_off.cancel();
    }

    /// Stores something else with a session than its handler did when it was opened.
    ///
    /// # Errors
    /// [`SessionError::Store`]; [`StoreError::Conflict`](thinpipe_store::StoreError::Conflict) in it if another
    /// node has changed the record meanwhile: [`refresh`](Self::refresh) reads it again.
    pub async fn set_attachment(
        &self,
        session: &Session,
        attachment: Bytes,
    ) -> Result<(), SessionError> {
        let stored = session.versioned();
        self.attach(session, stored, attachment).await
    }

    /// The same, if what is stored is still `expected`.
    ///
    /// # Errors
    /// As [`set_attachment`](Self::set_attachment): another node, or another request, was quicker.
    pub async fn replace_attachment(
        &self,
        session: &Session,
        expected: &Bytes,
        attachment: Bytes,
    ) -> Result<(), SessionError> {
        let stored = session.versioned();
        if stored.0.attachment != expected {
            return Err(StoreError::Conflict.into());
        }
        self.attach(session, stored, attachment).await
    }

    async fn attach(
        &self,
        session: &Session,
        (mut record, version): Versioned,
        attachment: Bytes,
    ) -> Result<(), SessionError> {
        record.attachment = attachment;
        let version = self.inner.store.update(&record, version).await?;
        session.set_stored((record, version));
        if let Some(nodes) = self.nodes().filter(|_| !session.is_held()) {
            nodes.tell(News::Changed(session.id().clone()));
        }
        Ok(())
    }

    /// Whether other nodes use the same store, so that what goes on here may have to go on there.
    #[must_use]
    pub fn has_nodes(&self) -> bool {
        self.inner.nodes.is_some()
    }

    pub(super) fn nodes(&self) -> Option<&Nodes> {
        self.inner.nodes.as_ref()
    }

    pub(super) fn publish(&self, session: Arc<Session>, place: Place) -> Arc<Session> {
        let live = self.inner.live.pin();
        match live.try_insert(session.id().clone(), Arc::clone(&session)) {
            Ok(_) => {
                // A write: who has ended it before is found out here, and who does so later finds it in the table.
                let has_ended = session.ended.fetch_or(false, Ordering::AcqRel);
                if !(has_ended && self.inner.take_out(&session)) {
                    place.keep();
                }
                session
            }
            // Another request took it up at the same time; `place` goes back.
            Err(taken) => Arc::clone(taken.current),
        }
    }

    pub(super) fn history(&self) -> &History {
        &self.inner.history
    }

    /// What a client has said in `initialize`, as a session is to keep it.
    pub(super) fn kept_params(&self, params: &[u8]) -> Bytes {
        self.inner.alike.share(params)
    }

    pub(super) fn store(&self) -> &dyn SessionStore {
        &*self.inner.store
    }

    /// How long a record lasts without a touch.
    pub(super) fn ttl(&self) -> Duration {
        self.inner.limits.idle + 2 * self.inner.limits.sweep
    }

    pub(super) fn place_or_full(&self) -> Result<Place, SessionError> {
        let limit = self.inner.limits.max;
        self.place().ok_or(SessionError::Full { limit })
    }

    fn place(&self) -> Option<Place> {
        let limit = self.inner.limits.max;
        self.inner
            .places
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < limit).then_some(n + 1)
            })
            .ok()
            .map(|_| Place::new(&self.inner.places))
    }
}

/// To another principal, or on another endpoint, a session does not exist.
pub(super) fn belongs(
    session: &Session,
    binding: Binding,
    principal: &Principal,
    endpoint: &Arc<str>,
) -> bool {
    session.binding() == binding
        && session.principal() == principal
        && session.endpoint() == endpoint
        && !session.is_ended()
}

impl Inner {
    /// Takes a session out of the table. `false`: it is not there, or not any more, and neither is its place.
    fn take_out(&self, session: &Arc<Session>) -> bool {
        let live = self.live.pin();
        let taken = live.remove_if(session.id(), |_, it| Arc::ptr_eq(it, session));
        matches!(taken, Ok(Some(_)))
    }
}

/// An ended session that is still in the table; dropping it takes it out and gives its place back. One that is being
/// taken over is not in it yet: whoever does that has its place.
pub(super) struct Leaving<'a> {
    inner: &'a Inner,
    session: &'a Arc<Session>,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if self.inner.take_out(self.session) {
            self.inner.places.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
