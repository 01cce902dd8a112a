//! A session that the upstream has lost is opened anew, for a client that does not notice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_store::StoreError;
use thinpipe_transport::server::{Session, SessionError};
use thinpipe_transport::upstream::UpstreamResponse;
use tokio::time::{Instant, timeout_at};

use super::Route;
use super::answer::body_failure;
use super::opening::{capabilities, declared, negotiated};
use super::send::posted;
use crate::attachment::{Attached, attached};
use crate::config::SessionLost;
use crate::failure::{Failure, Reason};
use crate::group::To;
use crate::headers;
use crate::held::Facts;
use crate::session::{Opened, SessionState, Setup, Undecided};

pub(super) const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Whoever opens a session anew is its standalone stream, which needs no stopping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own;

/// Which session of the server is in the place of the lost one.
enum Reopened {
    /// One that was opened before, by whichever gateway.
    Before,
    Now,
}

/// Why the upstream's new session is not in the place of the lost one.
enum NotAdopted {
    /// It is not: nobody uses it.
    Refused(Failure),
    /// The store failed, and others may be using it.
    Unknown(Failure),
}

impl Route {
    /// Whether a session that its server has lost is there again: in the place of this one another was opened before, by
    /// whichever gateway, or is now, unless something else `runs` that would be cut off with that.
    ///
    /// # Errors
    /// The store fails: the session may be there again, and is not lost.
    pub(super) async fn is_there_again(
        self: &Arc<Self>,
        (session, runs): (&Arc<Session>, bool),
        lost: &Attached,
        own: Option<Own>,
    ) -> Result<bool, Failure> {
        if self.spec().session_lost != SessionLost::Reestablish {
            return Ok(false);
        }
        let Some(state) = session.state(SessionState::default) else {
            return Ok(false);
        };
        if !runs {
            return self.reestablish((session, state), lost, own).await;
        }
        // Whoever does it now is waited for.
        let _one_at_a_time = state.reestablishing().turn.lock().await;
        Ok(!session.is_ended() && self.is_replaced(session, lost).await?)
    }

    /// Opens the upstream's session anew for a client that does not notice. Only if its capabilities
    /// are what they were; what the client must read again it is told by notifications. It is over within
    /// the time that the upstream has for one request, whoever else waits for it.
    async fn reestablish(
        self: &Arc<Self>,
        (session, state): (&Arc<Session>, &SessionState),
        lost: &Attached,
        own: Option<Own>,
    ) -> Result<bool, Failure> {
        let deadline = Instant::now() + self.request_timeout();
        let reestablishing = state.reestablishing();
        let failed = || reestablishing.failed.load(Ordering::Relaxed);
        let failed_before = failed();
        // Whoever has it now is done before this deadline.
        let mut turn = reestablishing.turn.lock().await;
        if session.is_ended() {
            return Ok(false);
        }
        // Who failed while this one waited has yet to end the session, or leaves it as it is.
        if failed() != failed_before {
            return match &turn.failure {
                Some(failure) => Err(failure.clone()),
                None => self.is_replaced(session, lost).await,
            };
        }
        let reopened = self.reopen_once(session, state, (lost, deadline), &mut turn);
        let reopened = reopened.await;
        turn.failure = None;
        match reopened {
            Ok(Reopened::Before) => Ok(true),
            Ok(Reopened::Now) => {
                if own.is_none() {
                    state.stop_standalone();
                }
                self.stats().reestablished();
                tracing::info!(session = ?session.id(), upstream = self.name(), "session reopened");
                Ok(true)
            }
            Err(failure) => {
                reestablishing.failed.fetch_add(1, Ordering::Relaxed);
                let error = &failure.text;
                if failure.reason == Reason::StoreUnavailable {
                    // What fails there is in the log, and concerns all sessions.
                    tracing::debug!(session = ?session.id(), upstream = self.name(), %error, "a lost session has to wait");
                    turn.failure = Some(failure.clone());
                    return Err(failure);
                }
                tracing::warn!(session = ?session.id(), upstream = self.name(), %error, "session lost");
                Ok(false)
            }
        }
    }

    async fn reopen_once(
        self: &Arc<Self>,
        session: &Arc<Session>,
        state: &SessionState,
        (lost, deadline): (&Attached, Instant),
        turn: &mut Undecided,
    ) -> Result<Reopened, Failure> {
        // Another node may have opened it anew, or this one, and the store had not said so.
        let is_replaced = self.is_replaced(session, lost).await?;
        if let Some(opened) = turn.opened.take() {
            self.discard_unless_stored(session, opened);
        }
        if is_replaced {
            return Ok(Reopened::Before);
        }
        match self.reopen(session, state, (lost, deadline), turn).await {
            Ok(()) => Ok(Reopened::Now),
            // At the same time as this one: what came first holds.
            Err(failure) if failure.reason != Reason::StoreUnavailable => {
                match self.is_replaced(session, lost).await? {
                    true => Ok(Reopened::Before),
                    false => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether the session has another upstream session by now, or the same at another replica, than the one that
    /// was lost.
    ///
    /// # Errors
    /// The store fails.
    async fn is_replaced(&self, session: &Arc<Session>, lost: &Attached) -> Result<bool, Failure> {
        let is_another = || attached(session).is_ok_and(|now| !now.is_at(lost));
        if is_another() {
            return Ok(true);
        }
        let Some(sessions) = self.sessions().filter(|sessions| sessions.has_nodes()) else {
            return Ok(false);
        };
        match sessions.refresh(session).await {
            Ok(is_there) => Ok(is_there && is_another()),
            Err(error) => Err(store_failed(&error)),
        }
    }

    /// Of a session that was opened when the store failed it is known by now whether somebody uses it.
    fn discard_unless_stored(self: &Arc<Self>, session: &Session, (replica, id): Opened) {
        let opened = self.attached_at(replica, id.clone());
        if !attached(session).is_ok_and(|now| now.is_at(&opened)) {
            self.discard(session, (replica, id));
        }
    }

    async fn reopen(
        self: &Arc<Self>,
        session: &Arc<Session>,
        state: &SessionState,
        (lost, deadline): (&Attached, Instant),
        turn: &mut Undecided,
    ) -> Result<(), Failure> {
        let setup = self.setup_of(session, state)?;
        let params = session.initialize_params();
        let mut request = BytesMut::from(
            &br#"{"jsonrpc":"2.0","id":"thinpipe","method":"initialize","params":"#[..],
        );
        request.extend_from_slice(&params);
        request.extend_from_slice(b"}");
        let mut headers = HeaderMap::new();
        headers::for_post(&mut headers);
        let context = self.context_in(session, Some("initialize"));
        let request = posted(headers, request.freeze());
        let sent = timeout_at(
            deadline,
            self.send_for_session(&context, To::Opening, request),
        )
        .await;
        let answered = sent.unwrap_or_else(|_| Err(too_late()))?;
        let (response, replica) = (answered.response, answered.replica);
        if !response.status.is_success() {
            let text = format!("initialize was answered {}", response.status);
            return Err(Failure::new(Reason::Invalid, text));
        }
        let id = self.session_id_of(&response)?;
        let place = (To::Only(replica), id.as_ref());
        let set_up = timeout_at(deadline, self.set_up(session, setup, place, response)).await;
        let failure = match set_up.unwrap_or_else(|_| Err(too_late())) {
            Ok(answer) => {
                let replaced = (lost, self.attached_at(replica, id.clone()));
                match self.adopt(session, state, replaced, &answer).await {
                    Ok(()) => return Ok(()),
                    Err(NotAdopted::Unknown(failure)) => {
                        turn.opened = Some((replica, id));
                        return Err(failure);
                    }
                    Err(NotAdopted::Refused(failure)) => failure,
                }
            }
            Err(failure) => failure,
        };
        // Nobody will ever use the session the upstream has just opened.
        self.discard(session, (replica, id));
        Err(failure)
    }

    fn discard(self: &Arc<Self>, session: &Session, (replica, id): Opened) {
        let context = self.context_in(session, None);
        self.discard_upstream_session(context, To::Only(replica), id);
    }

    /// Makes the upstream's new session what the lost one was, if it is its equal: gives its answer to
    /// `initialize`.
    async fn set_up(
        &self,
        session: &Session,
        setup: Setup,
        place: (To, Option<&UpstreamSessionId>),
        response: UpstreamResponse,
    ) -> Result<Message, Failure> {
        let answer = self.read_opening(response, None).await?;
        if negotiated(&answer.message)? != Some(session.revision()) {
            return Err(Failure::new(
                Reason::Invalid,
                "another revision was negotiated",
            ));
        }
        if setup
            .capabilities
            .is_some_and(|before| before != capabilities(&declared(&answer.message)))
        {
            return Err(Failure::new(
                Reason::Invalid,
                "the server's capabilities have changed",
            ));
        }
        let initialized = Bytes::from_static(INITIALIZED);
        self.tell(session, place, initialized).await?;
        for message in setup
            .log_level
            .into_iter()
            .chain(setup.subscriptions.into_values())
        {
            self.tell(session, place, message).await?;
        }
        Ok(answer.message)
    }

    /// Puts the upstream's new session in the place of the lost one.
    async fn adopt(
        &self,
        session: &Arc<Session>,
        state: &SessionState,
        (lost, new): (&Attached, Attached),
        answer: &Message,
    ) -> Result<(), NotAdopted> {
        // What the client sets up meanwhile stays.
        let in_its_place = |now: &Attached| {
            let facts = Facts::decode(now.held.as_deref());
            now.is_at(lost).then(|| Attached {
                held: facts.and_then(|facts| facts.renewed().encode()),
                ..new.clone()
            })
        };
        match self.amend(session, in_its_place).await {
            Ok(true) => {}
            Ok(false) | Err(SessionError::Store(StoreError::NotFound)) => {
                let text = "the session was opened anew by another, or has ended";
                let failure = Failure::new(Reason::Unavailable, text);
                return Err(NotAdopted::Refused(failure));
            }
            Err(error) => self.is_adopted(session, &new, &error).await?,
        }
        if !self.shares_setup(session) {
            state.queue_notices(refresh_notices(answer));
        }
        Ok(())
    }

    /// Finds out whether the store has the upstream's new session all the same, although it failed.
    async fn is_adopted(
        &self,
        session: &Arc<Session>,
        new: &Attached,
        error: &SessionError,
    ) -> Result<(), NotAdopted> {
        let Some(sessions) = self.sessions() else {
            return Err(NotAdopted::Refused(store_failed(error)));
        };
        match sessions.refresh(session).await {
            Ok(_) if attached(session).is_ok_and(|now| now.is_at(new)) => Ok(()),
            Ok(_) => Err(NotAdopted::Refused(store_failed(error))),
            Err(_) => Err(NotAdopted::Unknown(store_failed(error))),
        }
    }

    /// Sends a message whose answer nobody waits for but us. The answer itself says nothing that the client
    /// has not been told before.
    async fn tell(
        &self,
        session: &Session,
        (to, id): (To, Option<&UpstreamSessionId>),
        message: Bytes,
    ) -> Result<(), Failure> {
        let asked = Message::parse(message.clone()).ok();
        let mut headers = HeaderMap::new();
        headers::for_post(&mut headers);
        headers::for_session(&mut headers, session.revision(), id);
        let request = posted(headers, message);
        let context = self.context_in(session, None);
        let response = self.send(&context, to, request).await?;
        if !response.status.is_success() {
            let text = format!(
                "a message of the session's set-up was answered {}",
                response.status
            );
            return Err(Failure::new(Reason::Invalid, text));
        }
        if response.is_event_stream() {
            // It may go on for ever: a response is all there is to wait for, and a notification has none.
            return match asked.as_ref().and_then(Message::id) {
                Some(id) => self.read_stream(response, Some(id)).await.map(drop),
                None => Ok(()),
            };
        }
        let read = response.collect(self.max_message(), self.buffered()).await;
        read.map(drop).map_err(|error| body_failure(&error))
    }
}

/// The store failed: what became of a session is not known, and nobody is told that it is lost.
pub(super) fn store_failed(error: &SessionError) -> Failure {
    Failure::new(Reason::StoreUnavailable, error.to_string())
}

pub(super) fn too_late() -> Failure {
    let text = "the server took longer over the session than it may over a request";
    Failure::new(Reason::Timeout, text)
}

/// What a client must read again after its session was opened anew.
fn refresh_notices(answer: &Message) -> Vec<Bytes> {
    list_notices(&capabilities(&declared(answer)))
}

/// Of each list whose changes a server with these capabilities tells of.
pub(super) fn list_notices(capabilities: &serde_json::Value) -> Vec<Bytes> {
    ["tools", "prompts", "resources"]
        .into_iter()
        .filter(|kind| capabilities[kind]["listChanged"] == true)
        .map(|kind| {
            let method = format!("notifications/{kind}/list_changed");
            Bytes::from(serde_json::json!({ "jsonrpc": "2.0", "method": method }).to_string())
        })
        .collect()
}
