//! Which node has a session: found here, taken up from its record, held by another node, or taken over from one
//! that is dead (protocol notes 5.8).

use std::sync::Arc;

use thinpipe_proto::revision::Binding;
use thinpipe_proto::session::{NodeId, Principal, SessionId};
use thinpipe_proto::tunnel::News;
use thinpipe_store::{SessionRecord, StoreError, Version, Versioned};

use super::manager::belongs;
use super::stored::Stored;
use super::{Session, SessionEnd, SessionError, SessionManager, lock};
use crate::io::now;
use crate::server::Handler;
use crate::server::nodes::Nodes;

/// How often a session is looked for that changes its node just then.
const ROUNDS: usize = 4;

/// Records read at once after the store was out of reach.
const PAGE: usize = 100;

/// Where a session is.
#[derive(Debug)]
pub(crate) enum Located {
    /// Here, from now on if it was not before.
    Here(Arc<Session>),
    /// On another node.
    Elsewhere(NodeId),
    /// There is none, or it is somebody else's.
    Nowhere,
}

/// Who looks for a session.
#[derive(Clone, Copy)]
pub(crate) struct Seeker<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) endpoint: &'a Arc<str>,
    pub(crate) handler: &'a Arc<dyn Handler>,
}

impl SessionManager {
    /// The session with this id, if it belongs to this principal and endpoint; anything else, and one
    /// of HTTP+SSE, is a session that does not exist. One that is only in the store is taken up, unless another
    /// node holds it.
    ///
    /// # Errors
    /// [`SessionError::Store`], [`SessionError::Full`], [`SessionError::PutOff`].
    pub async fn find(
        &self,
        id: &SessionId,
        principal: &Principal,
        endpoint: &Arc<str>,
        owner: &Arc<dyn Handler>,
    ) -> Result<Option<Arc<Session>>, SessionError> {
        let seeker = Seeker {
            principal,
            endpoint,
            handler: owner,
        };
        match self.locate(id, seeker, None).await? {
            Located::Here(session) => Ok(Some(session)),
            Located::Elsewhere(_) | Located::Nowhere => Ok(None),
        }
    }

    /// Where a session is. One that belonged to `dead` is taken over.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub(crate) async fn locate(
        &self,
        id: &SessionId,
        seeker: Seeker<'_>,
        dead: Option<&NodeId>,
    ) -> Result<Located, SessionError> {
        for _ in 0..ROUNDS {
            if let Some(located) = self.settled(id, seeker).await? {
                return Ok(located);
            }
            let Some((record, version)) = self.stored(id).await? else {
                return Ok(Located::Nowhere);
            };
            // The stream of a session of HTTP+SSE is where it was opened.
            if !is_of(&record, Binding::Sessions, seeker) {
                self.warn_of_stranger(&record, seeker);
                return Ok(Located::Nowhere);
            }
            let owner = match (&record.owner, self.nodes()) {
                (None, _) => return self.take_up(record, version, seeker).await,
                // Of a time when there were several nodes.
                (Some(_), None) => return Ok(Located::Nowhere),
                (Some(owner), Some(_)) => owner,
            };
            if self.is_this(owner) {
                if !self.is_settled(id) {
                    continue;
                }
                if self.has_ended_here(id).await? {
                    return Ok(Located::Nowhere);
                }
                // It is here by its record only, and goes on like that of a node that is gone.
            } else if !owner.is_nobody() && Some(owner) != dead {
                return Ok(Located::Elsewhere(owner.clone()));
            }
            if self.inner.taking.is_closed() {
                return Err(SessionError::PutOff);
            }
            // Whoever is taking it over has a place for it.
            let attempt = match self.inner.taking.of(id) {
                Some(attempt) => attempt,
                None => {
                    let place = self.place_for_known().await?;
                    self.take_over(record, version, seeker, place)
                }
            };
            attempt.over().await?;
        }
        Err(SessionError::Store(StoreError::Conflict))
    }

    /// The node that has the stream of a session of HTTP+SSE which is not open here.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub(crate) async fn locate_stream(
        &self,
        id: &SessionId,
        seeker: Seeker<'_>,
    ) -> Result<Option<NodeId>, SessionError> {
        let found = self.stored(id).await?;
        let record = found.map(|(record, _)| record);
        if let Some(record) = &record {
            self.warn_of_stranger(record, seeker);
        }
        let record = record.filter(|record| is_of(record, Binding::HttpSse, seeker));
        let owner = record.and_then(|record| record.owner);
        Ok(owner.filter(|owner| !self.is_this(owner)))
    }

    /// Deletes the record of a session of HTTP+SSE whose node is dead, and its stream with it.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub(crate) async fn bury(&self, id: &SessionId) -> Result<(), SessionError> {
        self.inner.store.delete(id).await?;
        Ok(())
    }

    /// What is stored of a session. A record that is damaged is none: it is deleted, and its client, which gets 404,
    /// opens another session.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`]: whoever can read it goes on with it. [`StoreError::Unavailable`].
    pub(super) async fn stored(&self, id: &SessionId) -> Result<Option<Versioned>, StoreError> {
        match self.inner.store.get(id).await {
            Err(error @ StoreError::Damaged(_)) => {
                warn_of_damage(id, &error);
                if let Err(error) = self.inner.store.delete(id).await {
                    tracing::debug!(session = ?id, %error, "the record is left to expire");
                }
                if let Some(nodes) = self.nodes() {
                    nodes.tell(News::Ended(id.clone()));
                }
                Ok(None)
            }
            found => found,
        }
    }

    fn is_this(&self, node: &NodeId) -> bool {
        self.nodes().is_some_and(|nodes| nodes.this() == node)
    }

    /// Whether what another node asks in a session is answered here, as that is live here, or as who asks would be told
    /// the same there. If not, the record says where it is by now, and no more that it is here.
    ///
    /// # Errors
    /// [`SessionError::PutOff`], [`SessionError::Store`].
    pub(crate) async fn held_here(
        &self,
        id: &SessionId,
        seeker: Seeker<'_>,
    ) -> Result<bool, SessionError> {
        for _ in 0..ROUNDS {
            if self.settled(id, seeker).await?.is_some() {
                return Ok(true);
            }
            let Some((mut record, version)) = self.stored(id).await? else {
                return Ok(false);
            };
            let is_this = record.owner.as_ref().is_some_and(|it| self.is_this(it));
            if !is_this || !is_of(&record, Binding::Sessions, seeker) {
                return Ok(false);
            }
            if !self.is_settled(id) {
                // It is being taken over again since then.
                continue;
            }
            if self.has_ended_here(id).await? {
                return Ok(false);
            }
            // It is here by its record only: whoever asks has more use for it.
            record.owner = Some(NodeId::nobody());
            match self.inner.store.update(&record, version).await {
                // Somebody was quicker.
                Err(StoreError::Conflict | StoreError::NotFound) => {}
                given_up => return Ok(given_up.map(|_| false)?),
            }
        }
        Err(SessionError::PutOff)
    }

    /// Whether a session has ended here that is here by its record. Then that is deleted, which it could not be before.
    async fn has_ended_here(&self, id: &SessionId) -> Result<bool, SessionError> {
        if !self.inner.ended.has(id) {
            return Ok(false);
        }
        self.inner.store.delete(id).await?;
        self.inner.ended.remove(id);
        Ok(true)
    }

    /// Deletes the record of a session that has ended here. Until that is done, nobody goes on with it here, and what
    /// other nodes ask for it here is told that it has ended.
    pub(super) async fn delete_ended(&self, session: &Session) -> Result<(), StoreError> {
        let id = session.id();
        // Any other is not looked for here by its record, or taken up from that all the same.
        if self.nodes().is_some() && session.is_held() && session.binding() == Binding::Sessions {
            self.inner.ended.add(id);
        }
        self.inner.store.delete(id).await?;
        self.inner.ended.remove(id);
        Ok(())
    }

    /// Where a session is that is live here, when nobody is taking it over any more; `None`: its record says where.
    /// To whom it does not belong it is nowhere, and nothing else is waited for, or said, first.
    async fn settled(
        &self,
        id: &SessionId,
        seeker: Seeker<'_>,
    ) -> Result<Option<Located>, SessionError> {
        if let Some(attempt) = self.inner.taking.of(id) {
            if !attempt.is_of(seeker) {
                return Ok(Some(Located::Nowhere));
            }
            attempt.over().await?;
        }
        let located = self.live_for(id, seeker);
        if let Some(Located::Here(session)) = &located
            && let Some(nodes) = self.nodes().filter(|_| session.is_held())
        {
            nodes.decided().await;
            return Ok(self.live_for(id, seeker));
        }
        Ok(located)
    }

    /// The session with this id that is live here, if it is this seeker's.
    fn live_for(&self, id: &SessionId, seeker: Seeker<'_>) -> Option<Located> {
        let session = self.live_here(id)?;
        let (principal, endpoint) = (seeker.principal, seeker.endpoint);
        Some(
            match belongs(&session, Binding::Sessions, principal, endpoint) {
                true => Located::Here(session),
                false => Located::Nowhere,
            },
        )
    }

    /// Whether it need not be waited for who has a session that is live here.
    pub(crate) fn is_decided(&self, session: &Session) -> bool {
        let nodes = self.nodes().filter(|_| session.is_held());
        nodes.is_none_or(Nodes::is_decided)
    }

    /// Whether a session that this node holds may by now be another one's, too, which cannot be found out: the store
    /// is out of reach, and for the others this node is dead. What is live here goes on, as that may be all there is;
    /// what is not known here is not said to be nowhere.
    #[must_use]
    pub fn may_be_elsewhere(&self, session: &Session) -> bool {
        // Nobody goes on with a stream of HTTP+SSE.
        let may_move = session.binding() == Binding::Sessions && session.is_held();
        let nodes = self.nodes().filter(|_| may_move);
        nodes.is_some_and(Nodes::is_cut_off)
    }

    fn is_settled(&self, id: &SessionId) -> bool {
        // In this order: who takes it over puts it among the live ones, and only then says that it is done.
        self.inner.taking.of(id).is_none() && self.live_here(id).is_none()
    }

    /// The session with this id that is live here, whosever it is.
    pub(crate) fn live_here(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.inner.live.pin().get(id).cloned()
    }

    async fn take_up(
        &self,
        record: SessionRecord,
        version: Version,
        seeker: Seeker<'_>,
    ) -> Result<Located, SessionError> {
        let place = self.place_for_known().await?;
        let session = self.session_of(record, version, seeker);
        if self.nodes().is_some() && !self.is_old(&session, now()) {
            // Nobody else may do so any more.
            self.inner.store.touch(session.id(), self.ttl()).await?;
        }
        let session = self.publish(session, place);
        self.claim(&session);
        Ok(Located::Here(session))
    }

    pub(super) fn session_of(
        &self,
        mut record: SessionRecord,
        version: Version,
        seeker: Seeker<'_>,
    ) -> Arc<Session> {
        record.initialize_params = self.kept_params(&record.initialize_params);
        Arc::new(Session::new(
            (record, version),
            Arc::clone(seeker.handler),
            Arc::clone(seeker.endpoint),
            (None, self.inner.history.clone()),
        ))
    }

    /// Reads the record of a session again: another node may have changed it. One that is gone, or that another
    /// node holds by now, ends here. `false`: it has ended.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub async fn refresh(&self, session: &Arc<Session>) -> Result<bool, SessionError> {
        let found = self.stored(session.id()).await?;
        Ok(self.compare(session, found) && !session.is_ended())
    }

    /// The same, with what was found. `false`: by its record it is not this node's, or not any more.
    pub(super) fn compare(&self, session: &Arc<Session>, found: Option<Versioned>) -> bool {
        let Some((mut record, version)) = found else {
            self.ended_elsewhere(session);
            return false;
        };
        let is_here = record
            .owner
            .as_ref()
            .is_none_or(|owner| self.is_this(owner));
        if !is_here {
            self.forget(session);
            return false;
        }
        let is_news = {
            let mut known = lock(&session.stored);
            let is_news = version > known.version;
            if is_news {
                record.initialize_params = self.kept_params(&record.initialize_params);
                *known = Stored::of((record, version));
            }
            is_news
        };
        if is_news {
            session.handler().changed_elsewhere(session);
        }
        true
    }

    /// A session that has ended on another node ends here too.
    pub(crate) fn ended_elsewhere(&self, session: &Arc<Session>) {
        drop(self.close(session, SessionEnd::Deleted));
    }

    /// Lets go of a session on this node only.
    pub(crate) fn forget(&self, session: &Arc<Session>) {
        drop(self.close(session, SessionEnd::Forgotten));
    }

    /// Compares all sessions with their records, after the store was out of reach: what others have ended or
    /// taken meanwhile is let go of.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub(crate) async fn reconcile(&self) -> Result<(), SessionError> {
        let sessions = self.list();
        for page in sessions.chunks(PAGE) {
            let ids: Vec<_> = page.iter().map(|session| session.id().clone()).collect();
            let found = match self.inner.store.get_many(&ids).await {
                Err(StoreError::Unreadable(_) | StoreError::Damaged(_)) => {
                    self.reconcile_each(page).await?;
                    continue;
                }
                found => found?,
            };
            for (session, found) in page.iter().zip(found) {
                self.compare(session, found);
            }
        }
        Ok(())
    }

    /// The same of sessions of which some have records that cannot be read: those are left to whoever can.
    async fn reconcile_each(&self, sessions: &[Arc<Session>]) -> Result<(), SessionError> {
        for session in sessions {
            match self.stored(session.id()).await {
                Err(error @ StoreError::Unreadable(_)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(session = ?session.id(), error, "a session is let go of");
                    self.forget(session);
                }
                found => {
                    self.compare(session, found?);
                }
            }
        }
        Ok(())
    }
}

fn warn_of_damage(id: &SessionId, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(session = ?id, error, "a session has ended: nobody can go on with it");
}

/// To another principal, or on another endpoint, a session does not exist.
fn is_of(record: &SessionRecord, binding: Binding, seeker: Seeker<'_>) -> bool {
    record.endpoint == *seeker.endpoint
        && record.principal == *seeker.principal
        && record.binding == binding
}
