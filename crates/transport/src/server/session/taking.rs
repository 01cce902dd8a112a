//! Sessions that are being taken over from a node that is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_proto::tunnel::News;
use thinpipe_store::{SessionRecord, StoreError, Version};
use tokio_util::sync::CancellationToken;

use super::ownership::Seeker;
use super::slot::Place;
use super::{SessionError, SessionManager};
use crate::server::Adoption;

/// Sessions that are being taken over: whoever asks for one meanwhile waits for that.
#[derive(Default)]
pub(super) struct Taking {
    open: Mutex<HashMap<SessionId, Arc<Attempt>>>,
    /// None is begun any more.
    is_closed: AtomicBool,
}

/// One of them.
pub(super) struct Attempt {
    /// Whose session it is, and of which endpoint.
    principal: Principal,
    endpoint: Arc<str>,
    over: CancellationToken,
    is_put_off: AtomicBool,
}

impl Taking {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Attempt>>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, id: &SessionId) -> Option<Arc<Attempt>> {
        self.lock().get(id).cloned()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

impl Attempt {
    fn new(seeker: Seeker<'_>) -> Self {
        Self {
            principal: seeker.principal.clone(),
            endpoint: Arc::clone(seeker.endpoint),
            over: CancellationToken::new(),
            is_put_off: AtomicBool::new(false),
        }
    }

    /// Whether the session is there for whoever looks for it.
    pub(super) fn is_of(&self, seeker: Seeker<'_>) -> bool {
        self.principal == *seeker.principal && self.endpoint == *seeker.endpoint
    }

    /// Until it is over: where the session is now is to be looked for again.
    ///
    /// # Errors
    /// [`SessionError::PutOff`].
    pub(super) async fn over(&self) -> Result<(), SessionError> {
        self.over.cancelled().await;
        match self.is_put_off.load(Ordering::Acquire) {
            true => Err(SessionError::PutOff),
            false => Ok(()),
        }
    }
}

/// A session that is being taken over; dropping it tells those who wait.
pub(super) struct Taken {
    sessions: SessionManager,
    id: SessionId,
    attempt: Arc<Attempt>,
}

impl Taken {
    /// Begins it for whoever needs it, whose session it is, unless that has begun.
    fn begin(
        sessions: &SessionManager,
        id: SessionId,
        seeker: Seeker<'_>,
    ) -> Result<Self, Arc<Attempt>> {
        let attempt = Arc::new(Attempt::new(seeker));
        {
            let mut taking = sessions.inner.taking.lock();
            if let Some(begun) = taking.get(&id) {
                return Err(Arc::clone(begun));
            }
            taking.insert(id.clone(), Arc::clone(&attempt));
        }
        Ok(Self {
            sessions: sessions.clone(),
            id,
            attempt,
        })
    }

    pub(super) fn attempt(&self) -> Arc<Attempt> {
        Arc::clone(&self.attempt)
    }

    /// Whoever waits is told that it cannot go on here just now.
    pub(super) fn put_off(&self) {
        self.attempt.is_put_off.store(true, Ordering::Release);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.sessions.inner.taking.lock().remove(&self.id);
        self.attempt.over.cancel();
    }
}

impl SessionManager {
    /// Takes no session over any more: this node stops, and whoever has one taken over elsewhere has it for longer.
    pub(crate) fn take_nothing_over(&self) {
        self.inner.taking.is_closed.store(true, Ordering::Release);
    }

    /// Begins to take a session over whose node is gone, unless that has begun. It goes on without the client
    /// who asked for it: half of it would be worse than none.
    pub(super) fn take_over(
        &self,
        record: SessionRecord,
        version: Version,
        seeker: Seeker<'_>,
        place: Place,
    ) -> Arc<Attempt> {
        let taken = match Taken::begin(self, record.id.clone(), seeker) {
            Ok(taken) => taken,
            Err(begun) => return begun,
        };
        let attempt = taken.attempt();
        let (sessions, handler) = (self.clone(), Arc::clone(seeker.handler));
        let (principal, endpoint) = (seeker.principal.clone(), Arc::clone(seeker.endpoint));
        self.spawn(async move {
            let seeker = Seeker {
                principal: &principal,
                endpoint: &endpoint,
                handler: &handler,
            };
            let adopted = sessions.adopt(record, version, seeker, place).await;
            if let Err(SessionError::PutOff) = adopted {
                taken.put_off();
            } else if let Err(error) = adopted {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "a session of a node that is gone cannot be taken over"
                );
            }
        });
        attempt
    }

    async fn adopt(
        &self,
        mut record: SessionRecord,
        version: Version,
        seeker: Seeker<'_>,
        place: Place,
    ) -> Result<(), SessionError> {
        let Some(nodes) = self.nodes() else {
            return Ok(());
        };
        record.owner = Some(nodes.this().clone());
        // Since it ended here, if it did, it was another node's.
        self.inner.ended.remove(&record.id);
        let version = match self.inner.store.update(&record, version).await {
            // Another node was quicker: whoever waits looks again.
            Err(StoreError::Conflict | StoreError::NotFound) => return Ok(()),
            version => version?,
        };
        // From here on it is this node's. Its record lasts a while as it is, and a sweep makes that longer.
        if let Err(error) = self.inner.store.touch(&record.id, self.ttl()).await {
            tracing::debug!(session = ?record.id, %error, "a session is taken over as it is");
        }
        // Who held it may be alive all the same, and only have been out of reach.
        nodes.tell(News::Changed(record.id.clone()));
        let session = self.session_of(record, version, seeker);
        let adopting = Arc::clone(seeker.handler).adopt(Arc::clone(&session));
        let adopted = adopting.await;
        if adopted == Adoption::Done {
            let session = self.publish(session, place);
            if !session.is_ended() {
                tracing::info!(session = ?session.id(), "a session goes on here: its node is gone");
            }
            return Ok(());
        }
        if session.ended.swap(true, Ordering::AcqRel) {
            // Whoever has ended it meanwhile sees to its record.
            return Ok(());
        }
        session.closed().cancel();
        if adopted == Adoption::PutOff {
            // Should the store fail just then, the record names this node: whoever asks next takes it over from there.
            if let Err(error) = self.release(&session).await {
                tracing::debug!(session = ?session.id(), %error, "a session that is put off is nobody's later");
            }
            return Err(SessionError::PutOff);
        }
        tracing::info!(session = ?session.id(), "a session has ended with its node");
        self.delete_ended(&session).await?;
        // Nobody else forgets its streams: who wrote them is gone.
        if let Err(error) = nodes.log().forget(session.id()).await {
            tracing::debug!(session = ?session.id(), %error, "its streams are kept until they are old");
        }
        Ok(())
    }
}
