//! Opening a session: a place for it first, then what its handler has negotiated.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_store::{SessionRecord, StoreError, Version, Versioned};

use super::stream::{SessionStream, StreamSession};
use super::{Negotiated, Session, SessionError, SessionManager, unix_ms};
use crate::NoRandom;
use crate::server::Handler;

/// One of the places for sessions; given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    places: Option<Arc<AtomicUsize>>,
}

impl Place {
    pub(super) fn new(places: &Arc<AtomicUsize>) -> Self {
        Self {
            places: Some(Arc::clone(places)),
        }
    }

    pub(super) fn keep(mut self) {
        self.places = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = &self.places {
            places.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A place reserved for a session that is being opened; dropping it gives the place back.
///
/// A session of HTTP+SSE is there since its stream was opened. Its slot stands for what is still to be
/// negotiated, and dropping it lets the client try `initialize` again.
pub struct SessionSlot {
    manager: SessionManager,
    target: Target,
}

enum Target {
    New(Place, Arc<dyn Handler>, Arc<str>, Principal),
    Stream(Negotiating),
}

impl fmt::Debug for SessionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = match &self.target {
            Target::New(_, _, endpoint, _) => endpoint,
            Target::Stream(negotiating) => negotiating.of.session.endpoint(),
        };
        f.debug_struct("SessionSlot")
            .field("endpoint", endpoint)
            .finish()
    }
}

impl SessionSlot {
    pub(super) fn new(
        manager: SessionManager,
        place: Place,
        owner: Arc<dyn Handler>,
        endpoint: Arc<str>,
        principal: Principal,
    ) -> Self {
        Self {
            manager,
            target: Target::New(place, owner, endpoint, principal),
        }
    }

    /// The slot of a session of HTTP+SSE whose client has sent `initialize`; `None` if it is not the
    /// time for that: there is an answer already, or one is being worked on.
    pub(crate) fn of_stream(manager: SessionManager, of: &StreamSession) -> Option<Self> {
        of.stream.begin_opening().then(|| Self {
            manager,
            target: Target::Stream(Negotiating { of: of.clone() }),
        })
    }

    /// Until nobody waits for the session any more: the client of an HTTP+SSE session has left, and with it
    /// all that was asked for. Never for other sessions, whose `initialize` runs to its end.
    pub fn abandoned(&self) -> impl Future<Output = ()> + Send + use<> {
        let closed = match &self.target {
            Target::New(..) => None,
            Target::Stream(negotiating) => Some(negotiating.of.session.closed().clone()),
        };
        async move {
            match closed {
                Some(closed) => closed.cancelled_owned().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Opens the session. Its id is fresh and random, and stored before anybody can learn of it.
    ///
    /// # Errors
    /// [`SessionError::Store`], [`SessionError::Random`], and [`SessionError::Ended`] if the client of
    /// an HTTP+SSE session has left meanwhile.
    pub async fn open(self, negotiated: Negotiated) -> Result<Arc<Session>, SessionError> {
        let Self { manager, target } = self;
        match target {
            Target::New(place, owner, endpoint, principal) => {
                let template = Template {
                    binding: Binding::Sessions,
                    negotiated,
                };
                let stored = template.store(&manager, &endpoint, principal).await?;
                let own = (None, manager.history().clone());
                let session = Session::new(stored, owner, endpoint, own);
                let session = manager.publish(Arc::new(session), place);
                session.touch();
                Ok(session)
            }
            Target::Stream(negotiating) => negotiating.finish(&manager, negotiated).await,
        }
    }

    /// Opens a session of HTTP+SSE, of which nothing is negotiated yet.
    pub(crate) async fn open_stream(
        self,
        stream: SessionStream,
    ) -> Result<StreamSession, SessionError> {
        let Self { manager, target } = self;
        let Target::New(place, owner, endpoint, principal) = target else {
            return Err(SessionError::Ended);
        };
        let template = Template {
            binding: Binding::HttpSse,
            negotiated: Negotiated {
                revision: Revision::V2024_11_05,
                initialize_params: Bytes::new(),
                attachment: Bytes::new(),
                held: true,
            },
        };
        let stored = template.store(&manager, &endpoint, principal).await?;
        let stream = Arc::new(stream);
        let own = (Some(Arc::clone(&stream)), manager.history().clone());
        let session = Session::new(stored, owner, endpoint, own);
        let session = manager.publish(Arc::new(session), place);
        session.touch();
        Ok(StreamSession { session, stream })
    }
}

/// What a new record is made of.
struct Template {
    binding: Binding,
    negotiated: Negotiated,
}

impl Template {
    async fn store(
        self,
        manager: &SessionManager,
        endpoint: &Arc<str>,
        principal: Principal,
    ) -> Result<Versioned, SessionError> {
        let random = manager.inner.random.bytes();
        let random = random.map_err(|NoRandom| SessionError::Random)?;
        let nodes = manager.nodes().filter(|_| self.negotiated.held);
        let record = SessionRecord {
            id: SessionId::from_random(random),
            principal,
            endpoint: Arc::clone(endpoint),
            binding: self.binding,
            revision: self.negotiated.revision,
            initialize_params: manager.kept_params(&self.negotiated.initialize_params),
            attachment: self.negotiated.attachment,
            owner: nodes.map(|nodes| nodes.this().clone()),
            created_ms: unix_ms(),
        };
        manager.store().create(&record, manager.ttl()).await?;
        Ok((record, Version(1)))
    }
}

/// A session of HTTP+SSE between `initialize` and its answer.
struct Negotiating {
    of: StreamSession,
}

impl Negotiating {
    async fn finish(
        self,
        manager: &SessionManager,
        negotiated: Negotiated,
    ) -> Result<Arc<Session>, SessionError> {
        let StreamSession { session, stream } = &self.of;
        let (mut record, version) = session.versioned();
        record.revision = negotiated.revision;
        record.initialize_params = manager.kept_params(&negotiated.initialize_params);
        record.attachment = negotiated.attachment;
        let updated = manager.store().update(&record, version).await;
        let version = updated.map_err(|error| match error {
            // Whoever ended the session has deleted it.
            StoreError::NotFound => SessionError::Ended,
            error => error.into(),
        })?;
        session.set_stored((record, version));
        if !stream.open(negotiated.revision) {
            return Err(SessionError::Ended);
        }
        session.touch();
        // Here, where nobody has the answer yet: a client that has it may leave at once.
        if let Some(observer) = stream.observer() {
            observer.negotiated(session);
        }
        Ok(Arc::clone(session))
    }
}

impl Drop for Negotiating {
    fn drop(&mut self) {
        self.of.stream.give_up_opening();
    }
}

#[cfg(test)]
mod tests {
    use thinpipe_store::MemoryStore;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::body::BoxFuture;
    use crate::server::{Answer, Exchange, SessionEnd, SessionLimits};

    struct Accepting;

    impl Handler for Accepting {
        fn handle(self: Arc<Self>, _: Exchange) -> BoxFuture<Answer> {
            Box::pin(std::future::ready(Answer::accepted()))
        }
    }

    fn session(manager: &SessionManager) -> Arc<Session> {
        let record = SessionRecord {
            id: SessionId::from_random([7; 16]),
            principal: Principal::Anonymous,
            endpoint: "sample".into(),
            binding: Binding::Sessions,
            revision: Revision::NEWEST_LEGACY,
            initialize_params: Bytes::new(),
            attachment: Bytes::new(),
            owner: None,
            created_ms: unix_ms(),
        };
        let own = (None, manager.history().clone());
        let (owner, endpoint) = (Arc::new(Accepting), "sample".into());
        Arc::new(Session::new((record, Version(1)), owner, endpoint, own))
    }

    /// C2: a session has a place as long as it is in the table, whether it ends before it is there or after.
    #[tokio::test]
    async fn c2_a_session_gives_its_place_back_once() {
        let (store, limits) = (Arc::new(MemoryStore::new()), SessionLimits::default());
        let manager = SessionManager::new(store, limits, TaskTracker::new());
        for ends_before in [true, false] {
            let (session, place) = (session(&manager), manager.place_or_full().unwrap());
            let end = || drop(manager.close(&session, SessionEnd::Expired));
            if ends_before {
                end();
            }
            assert_eq!(manager.stats().live, 1);
            manager.publish(Arc::clone(&session), place);
            end();
            assert_eq!((manager.stats().live, manager.inner.live.len()), (0, 0));
        }
    }

    /// The end of one is not that of another which is there by the same id.
    #[tokio::test]
    async fn c2_a_session_takes_no_other_out_of_the_table() {
        let (store, limits) = (Arc::new(MemoryStore::new()), SessionLimits::default());
        let manager = SessionManager::new(store, limits, TaskTracker::new());
        let (before, session) = (session(&manager), session(&manager));
        manager.publish(Arc::clone(&session), manager.place_or_full().unwrap());
        drop(manager.close(&before, SessionEnd::Expired));
        assert_eq!((manager.stats().live, manager.inner.live.len()), (1, 1));
        assert!(!session.is_ended());
    }
}
