//! `initialize`: our session is opened with what the upstream answered, before the client learns of
//! either.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use thinpipe_proto::revision::Binding;
use thinpipe_proto::rpc::{self, Message, code};
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::server::{Answer, Negotiated, Session, SessionError, SessionSlot};
use thinpipe_transport::upstream::UpstreamResponse;

use super::opening::{capabilities, declared, negotiated};
use super::pinned::{Question, Seems};
use super::send::{bodiless, posted};
use super::{Incoming, Route, answer};
use crate::config::SessionLost;
use crate::failure::{Failure, Reason};
use crate::group::To;
use crate::headers;
use crate::interceptor::{Direction, MessageContext};
use crate::relay::Line;
use crate::session::SessionState;

impl Route {
    pub(super) async fn initialize(
        self: &Arc<Self>,
        call: Incoming,
        message: Message,
        slot: SessionSlot,
    ) -> Result<Answer, Failure> {
        let context = self.context(&call, None, &message);
        let message = match self.intercept(&context, message).await {
            Ok(message) => message,
            Err((message, rejection)) => {
                let body = crate::relay::inspect::rejection_message(&message, &rejection);
                return Ok(Answer::json(body));
            }
        };
        if self.holds_sessions().await {
            return self.initialize_piped(call, context, message, slot).await;
        }
        if self.era().is_modern_only() {
            return self.initialize_upgraded(call, context, message, slot).await;
        }
        let again = call.clone();
        let mut headers = headers::without_session(call.headers);
        headers::for_post(&mut headers);
        let request = posted(headers, message.source().clone());
        let answered = self
            .send_for_session(&context, To::Opening, request)
            .await?;
        let (response, replica) = (answered.response, answered.replica);
        let mut unused = Unused {
            route: Arc::clone(self),
            context: context.clone(),
            to: To::Only(replica),
            id: response.session_id().unwrap_or_default(),
        };
        if !response.status.is_success() {
            if may_be_a_pipe(response.status) && self.turns_out_a_pipe().await {
                // It did not run: who refuses it so does not know the endpoint.
                return self.initialize_piped(again, context, message, slot).await;
            }
            if self.refuses_sessions(response.status).await {
                drop(response);
                return self
                    .initialize_upgraded(again, context, message, slot)
                    .await;
            }
            let refused = (response, replica);
            return self.refused_initialize(refused, context, &message).await;
        }
        self.stats().session_opened();
        let session_id = self.session_id_of(&response)?;
        let mut context = MessageContext {
            direction: Direction::ToClient,
            ..context
        };
        let extra = self.client_headers(&context, &response)?;
        let opening = self.read_opening(response, message.id()).await?;
        let revision = negotiated(&opening.message)?;
        if revision.is_none()
            && is_unknown_here(&opening.message)
            && self.turns_out_modern_only().await
        {
            context.direction = Direction::ToUpstream;
            return self
                .initialize_upgraded(again, context, message, slot)
                .await;
        }
        context.revision = revision.unwrap_or(context.revision);
        unused.context.revision = context.revision;
        let declared = declared(&opening.message);
        let opening = opening.heard(|message| self.heard(message, Question::Initialize));
        let judged = self
            .judge_opening(opening, context, (To::Only(replica), session_id.clone()))
            .await;
        // What the client must not see the answer of, it must not use either.
        let session = match revision.filter(|_| judged.is_shown()) {
            None => None,
            Some(revision) => {
                let negotiated = Negotiated {
                    revision,
                    initialize_params: message.params().unwrap_or_default(),
                    attachment: self
                        .with_setup(self.attached_at(replica, session_id), &declared)
                        .encode(),
                    held: false,
                };
                let session = self.open_session(slot, negotiated, &declared).await?;
                self.has_sessions();
                unused.id = None;
                if session.binding() == Binding::HttpSse
                    && let (Some(state), Some(id)) =
                        (session.state(SessionState::default), message.id())
                {
                    state.note_opened_by(id);
                }
                Some(session)
            }
        };
        let answer = self.opening_answer(judged, session, message.id());
        Ok(answer::with_headers(answer, extra))
    }

    pub(super) async fn open_session(
        &self,
        slot: SessionSlot,
        negotiated: Negotiated,
        declared: &[u8],
    ) -> Result<Arc<Session>, Failure> {
        let opened = slot.open(negotiated).await;
        let session = opened.map_err(|error| {
            let reason = match error {
                SessionError::Store(_) => Reason::StoreUnavailable,
                _ => Reason::Overloaded,
            };
            Failure::new(reason, error.to_string())
        })?;
        // Only clients of HTTP+SSE are told anything by the gateway itself.
        if session.binding() == Binding::HttpSse
            && capabilities(declared)["logging"].is_object()
            && let Some(state) = session.state(SessionState::default)
        {
            state.note_logging();
        }
        if self.spec().session_lost == SessionLost::Reestablish
            && let Some(state) = session.state(SessionState::default)
        {
            state.note_capabilities(capabilities(declared));
        }
        let (name, revision) = (self.name(), session.revision());
        tracing::debug!(session = ?session.id(), upstream = name, %revision, "a session began");
        Ok(session)
    }

    /// The upstream's id of the session it has opened. Who cannot say that id back is not in that
    /// session, and must not go on as if there were none.
    pub(super) fn session_id_of(
        &self,
        response: &UpstreamResponse,
    ) -> Result<Option<UpstreamSessionId>, Failure> {
        response.session_id().map_err(|error| {
            let text = format!(
                "the Mcp-Session-Id of {} cannot be one: {error}",
                self.name()
            );
            Failure::new(Reason::Invalid, text)
        })
    }

    /// The upstream refused: its status and error go through, but never a 404, which would end a
    /// session that does not exist.
    async fn refused_initialize(
        self: &Arc<Self>,
        (response, replica): (UpstreamResponse, usize),
        context: MessageContext,
        message: &Message,
    ) -> Result<Answer, Failure> {
        if response.status == StatusCode::NOT_FOUND {
            self.warn_of_replica(replica);
            return Err(self.doubted(self.nothing_there(), Seems::Other));
        }
        // It may say that the pin is wrong.
        if let Some(denied) = self.denied(&response) {
            return Err(denied);
        }
        let line = Line {
            edit: self.refusing(),
            ..self.line(None, super::purpose_of(message))
        };
        self.relay(response, line, context).await
    }

    pub(super) fn discard_upstream_session(
        self: &Arc<Self>,
        context: MessageContext,
        to: To,
        id: Option<UpstreamSessionId>,
    ) {
        let Some(id) = id else { return };
        let route = Arc::clone(self);
        self.tasks().spawn(async move {
            let mut headers = HeaderMap::new();
            headers::for_session(&mut headers, context.revision, Some(&id));
            let request = bodiless(Method::DELETE, headers);
            let sent = route.send(&context, to, request).await;
            if let Err(failure) = sent {
                tracing::debug!(error = %failure.text, "an unused session stays at the upstream");
            }
        });
    }
}

/// A session the upstream has just opened, and nobody uses: it is given back when this is dropped.
struct Unused {
    route: Arc<Route>,
    /// That of the `initialize` which opened it.
    context: MessageContext,
    /// Who has opened it.
    to: To,
    /// `None` once it is in use.
    id: Option<UpstreamSessionId>,
}

impl Drop for Unused {
    fn drop(&mut self) {
        if self.id.is_some() && tokio::runtime::Handle::try_current().is_ok() {
            let id = self.id.take();
            let context = self.context.clone();
            self.route.discard_upstream_session(context, self.to, id);
        }
    }
}

/// Statuses with which a server of HTTP+SSE may answer a POST to its stream (protocol notes 1.3).
fn may_be_a_pipe(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 408 | 425 | 429)
}

/// Whether an error says that the server does not know `initialize`.
pub(super) fn is_unknown_here(answer: &Message) -> bool {
    let error = answer.error().unwrap_or_default();
    let code = rpc::member(&error, "code");
    let code = code.and_then(|code| std::str::from_utf8(&code).ok()?.parse().ok());
    code.is_some_and(|code: i32| matches!(code, code::UNSUPPORTED_VERSION | code::METHOD_NOT_FOUND))
}
