//! A session that the upstream has lost is opened anew, for a client that does not notice.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::server::Session;
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
use crate::session::{SessionState, Setup};

pub(super) const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Whoever opens a session anew is its standalone stream, which needs no stopping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own;

impl Route {
    /// Whether a session that its server has lost is there again: in the place of this one another was opened before, by
    /// whichever gateway, or is now, unless something else `runs` that would be cut off with that.
    pub(super) async fn is_there_again(
        self: &Arc<Self>,
        (session, runs): (&Arc<Session>, bool),
        lost: &Attached,
        own: Option<Own>,
    ) -> bool {
        if self.spec().session_lost != SessionLost::Reestablish {
            return false;
        }
        let Some(state) = session.state(SessionState::default) else {
            return false;
        };
        if !runs {
            return self.reestablish((session, state), lost, own).await;
        }
        // Whoever does it now is waited for.
        let _one_at_a_time = state.reestablishing().turn.lock().await;
        !session.is_ended() && self.is_replaced(session, lost).await
    }

    /// Opens the upstream's session anew for a client that does not notice. Only if its capabilities
    /// are what they were; what the client must read again it is told by notifications. It is over within
    /// the time that the upstream has for one request, whoever else waits for it.
    async fn reestablish(
        self: &Arc<Self>,
        (session, state): (&Arc<Session>, &SessionState),
        lost: &Attached,
        own: Option<Own>,
    ) -> bool {
        let deadline = Instant::now() + self.request_timeout();
        let reestablishing = state.reestablishing();
        let failed = || reestablishing.failed.load(Ordering::Relaxed);
        let failed_before = failed();
        // Whoever has it now is done before this deadline.
        let _one_at_a_time = reestablishing.turn.lock().await;
        // Who failed while this one waited has yet to end the session, or leaves it as it is.
        if session.is_ended() || failed() != failed_before {
            return false;
        }
        // Another node may have opened it anew.
        if self.is_replaced(session, lost).await {
            return true;
        }
        match self.reopen(session, state, (lost, deadline)).await {
            Ok(()) => {
                if own.is_none() {
                    state.stop_standalone();
                }
                self.stats().reestablished();
                tracing::info!(session = ?session.id(), upstream = self.name(), "session reopened");
                true
            }
            // At the same time as this one: what came first holds.
            Err(_) if self.is_replaced(session, lost).await => true,
            Err(failure) => {
                reestablishing.failed.fetch_add(1, Ordering::Relaxed);
                let error = failure.text;
                tracing::warn!(session = ?session.id(), upstream = self.name(), %error, "session lost");
                false
            }
        }
    }

    /// Whether the session has another upstream session by now, or the same at another replica, than the one that
    /// was lost.
    async fn is_replaced(&self, session: &Arc<Session>, lost: &Attached) -> bool {
        let is_another = || attached(session).is_ok_and(|now| !now.is_at(lost));
        if is_another() {
            return true;
        }
        let Some(sessions) = self.sessions().filter(|sessions| sessions.has_nodes()) else {
            return false;
        };
        match sessions.refresh(session).await {
            Ok(is_there) => is_there && is_another(),
            Err(error) => {
                tracing::debug!(session = ?session.id(), %error, "its record cannot be read");
                false
            }
        }
    }

    async fn reopen(
        self: &Arc<Self>,
        session: &Arc<Session>,
        state: &SessionState,
        (lost, deadline): (&Attached, Instant),
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
        let adopted = match set_up.unwrap_or_else(|_| Err(too_late())) {
            Ok(answer) => {
                let replaced = (lost, self.attached_at(replica, id.clone()));
                self.adopt(session, state, replaced, &answer).await
            }
            Err(failure) => Err(failure),
        };
        if adopted.is_err() {
            // Nobody will ever use the session the upstream has just opened.
            let context = self.context_in(session, None);
            self.discard_upstream_session(context, To::Only(replica), id);
        }
        adopted
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
    ) -> Result<(), Failure> {
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
            Ok(false) => {
                let text = "the session was opened anew by another, or has ended";
                return Err(Failure::new(Reason::Unavailable, text));
            }
            Err(error) => return Err(Failure::new(Reason::Unavailable, error.to_string())),
        }
        if !self.shares_setup(session) {
            state.queue_notices(refresh_notices(answer));
        }
        Ok(())
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
