//! What a client has set up in a session that any process serves: it is in the session's record, so that whichever
//! process opens the server's session anew makes it what it was, and whichever one the client listens at tells it
//! what to read again (protocol notes 5.8).

use std::sync::Arc;

use thinpipe_proto::rpc::Message;
use thinpipe_store::StoreError;
use thinpipe_transport::server::{Session, SessionError};

use super::Route;
use super::opening::capabilities;
use super::reestablish::list_notices;
use crate::attachment::{Attached, attached};
use crate::config::SessionLost;
use crate::failure::{Failure, Reason};
use crate::held::{Facts, Over};
use crate::session::{SessionState, Setup};

/// How often a record is read again that others change at the same time.
const ROUNDS: usize = 8;

impl Route {
    /// Whether what is set up in a session is kept in its record.
    pub(super) fn shares_setup(&self, session: &Session) -> bool {
        self.reestablishes() && !self.sees_all_of(session)
    }

    fn reestablishes(&self) -> bool {
        self.spec.session_lost == SessionLost::Reestablish
    }

    /// What is attached to the record of a session that begins, whose server has offered these capabilities.
    pub(super) fn with_setup(&self, attached: Attached, offered: &[u8]) -> Attached {
        if !self.reestablishes() || !self.has_nodes() {
            return attached;
        }
        let state = SessionState::default();
        state.note_offered(offered.to_vec().into());
        Attached {
            held: Facts::of(&state, Over::Streams).encode(),
            ..attached
        }
    }

    /// Keeps what this message sets up, before the server is asked for it.
    pub(super) async fn store_setup(&self, session: &Arc<Session>, message: &Message) {
        let with_it = |now: &Attached| {
            // Of what is not known whole nothing more has to be known.
            let facts = Facts::decode(now.held.as_deref())?.with(message);
            let changed = Attached {
                held: facts.encode(),
                ..now.clone()
            };
            if !changed.is_whole() {
                self.tell_unknown(Some(session));
            }
            Some(changed)
        };
        if let Err(error) = self.amend(session, with_it).await {
            let upstream = self.name();
            tracing::warn!(session = ?session.id(), upstream, %error, "what a client has set up is not kept");
            if let Some(state) = session.state(SessionState::default) {
                state.lose_setup();
            }
        }
    }

    /// What is to be set up in a session that is opened anew.
    ///
    /// # Errors
    /// That is not known.
    pub(super) fn setup_of(
        &self,
        session: &Session,
        state: &SessionState,
    ) -> Result<Setup, Failure> {
        let known = state.setup();
        let setup = match self.shares_setup(session) {
            false => Some(known),
            true if known.is_incomplete => None,
            true => {
                let stored = attached(session).unwrap_or_default();
                Facts::decode(stored.held.as_deref()).map(|facts| {
                    let state = SessionState::default();
                    facts.remember(&state);
                    state.setup()
                })
            }
        };
        setup.filter(|setup| !setup.is_incomplete).ok_or_else(|| {
            let text = "more was set up in the session than is remembered";
            Failure::new(Reason::Invalid, text)
        })
    }

    /// The session of the server at which a client listens now is another one than before: what it has to read again
    /// it is told on the stream that begins, if it was not yet.
    pub(super) async fn begin_listening(&self, session: &Arc<Session>, state: &SessionState) {
        let now = attached(session).unwrap_or_default();
        state.note_listening_to(Arc::clone(&now));
        let renewed = |now: &Attached| {
            let facts = Facts::decode(now.held.as_deref());
            facts.filter(Facts::is_renewed)
        };
        if !self.shares_setup(session) || renewed(&now).is_none() {
            return;
        }
        let told = |now: &Attached| {
            Some(Attached {
                held: renewed(now)?.told().encode(),
                ..now.clone()
            })
        };
        match self.amend(session, told).await {
            Ok(true) => {
                let facts = renewed(&now).map(|facts| capabilities(&facts.offered()));
                state.queue_notices(list_notices(&facts.unwrap_or_default()));
            }
            Ok(false) => {}
            Err(error) => {
                // The next stream tells it.
                tracing::debug!(session = ?session.id(), %error, "notices have to wait");
            }
        }
    }

    /// Another process has changed the record. A stream of a session that the server has lost says nothing any more:
    /// it ends, so that its client opens it anew.
    pub(super) fn changed(session: &Session) {
        let state = session.existing_state::<SessionState>();
        if let (Some(state), Ok(now)) = (state, attached(session)) {
            state.stop_listening_elsewhere(&now);
        }
    }

    /// Changes what is attached to the record, whoever else does at the same time. `false`: there was nothing to
    /// change, or the session has ended.
    pub(super) async fn amend(
        &self,
        session: &Arc<Session>,
        change: impl Fn(&Attached) -> Option<Attached>,
    ) -> Result<bool, SessionError> {
        let Some(sessions) = self.sessions() else {
            return Ok(false);
        };
        for _ in 0..ROUNDS {
            let before = session.attachment();
            let now = Attached::decode(&before).ok();
            let Some(changed) = now.and_then(|now| change(&now)) else {
                return Ok(false);
            };
            let stored = sessions.replace_attachment(session, &before, changed.encode());
            match stored.await {
                Ok(()) => return Ok(true),
                Err(SessionError::Store(StoreError::Conflict)) => {
                    if !sessions.refresh(session).await? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict.into())
    }
}
