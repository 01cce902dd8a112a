//! What a session needs beside its exchanges: memory, and its end from any side.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use thinpipe_proto::bridge::cancelled;
use thinpipe_proto::revision::Binding;
use thinpipe_proto::rpc::{Kind, Message, RequestId};
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{Answer, Session, SessionEnd, SessionManager, WeakSessionManager};

use super::piped::piped;
use super::reestablish::store_failed;
use super::replica::runs_alone;
use super::send::{bodiless, posted};
use super::{Incoming, Route, purpose_of};
use crate::attachment::{Attached, attached, upstream_session};
use crate::config::SessionLost;
use crate::failure::{Failure, Reason};
use crate::group::To;
use crate::headers;
use crate::interceptor::{Direction, MessageContext, Rejection};
use crate::relay::inspect::rejection_message;
use crate::session::{Call, SessionState};

/// How long the cancellations of a client that left may take before its session is ended all the same.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long a client that has ended its session waits for the server to hear of it. It has ended before.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

impl Route {
    /// The upstream answered 404: its session, in which that was sent, is gone, or it is not where it should be.
    pub(super) async fn not_found(
        self: &Arc<Self>,
        again: Option<Box<Incoming>>,
        context: MessageContext,
        of: Option<(Arc<Session>, Arc<Attached>)>,
        message: Message,
    ) -> Result<Answer, Failure> {
        let of = of.filter(|(_, sent_in)| sent_in.upstream_session.is_some());
        let Some((session, lost)) = of else {
            return Err(self.nothing_there());
        };
        self.counters.session_lost();
        self.warn_of_stranger(&session);
        let runs = !runs_alone(&session, &message);
        if let Some(call) = again
            && self.is_there_again((&session, runs), &lost, None).await?
        {
            // A 404 to a session id proves that the request did not run.
            let sent = self.send_again(*call, context, &session, &message).await;
            if let Some(answer) = sent.transpose() {
                return answer;
            }
        }
        self.end_session(&session, SessionEnd::UpstreamGone).await;
        Err(Failure::session_gone())
    }

    /// Sends a request that did not run in the session that was opened anew. `None`: that one is lost, too.
    pub(super) async fn send_again(
        self: &Arc<Self>,
        call: Incoming,
        context: MessageContext,
        session: &Arc<Session>,
        message: &Message,
    ) -> Result<Option<Answer>, Failure> {
        let sent_in = attached(session).unwrap_or_default();
        let request = self.request_in_session(call, Some(&*sent_in), message);
        let response = self.send_in(session, &context, request).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let line = self.line(Some(Arc::clone(session)), purpose_of(message));
        self.relay(response, line, context).await.map(Some)
    }

    /// Nobody can tell what the session was to its server: to its client it has ended.
    pub(super) async fn unknown_here(&self, session: &Arc<Session>) -> Failure {
        let upstream = self.name();
        tracing::warn!(session = ?session.id(), upstream, "a session's attachment cannot be read");
        self.end_session(session, SessionEnd::UpstreamGone).await;
        Failure::session_gone()
    }

    /// 404 from an upstream that has no session which could be gone. To the client it would mean that its
    /// own is (R193).
    pub(super) fn nothing_there(&self) -> Failure {
        // The URL is not for clients: some hold a key in their path.
        let text = format!(
            "{} answers 404 at its configured URL, which the gateway's log names",
            self.name()
        );
        Failure::new(Reason::NotFound, text)
    }

    pub(super) async fn refuse_in_session(
        self: &Arc<Self>,
        call: &Incoming,
        context: &MessageContext,
        session: Option<&Arc<Session>>,
        refused: (&Message, &Rejection),
    ) -> Result<Answer, Failure> {
        let (message, rejection) = refused;
        match message.kind() {
            Kind::Request => Ok(Answer::json(rejection_message(message, rejection))),
            Kind::Notification => Ok(Answer::accepted()),
            // The server waits for an answer; it gets the refusal instead.
            Kind::Response | Kind::ErrorResponse => {
                let body = rejection_message(message, rejection);
                let id = session.and_then(|s| upstream_session(s));
                let mut headers = call.headers.clone();
                headers::for_post(&mut headers);
                headers::for_session(&mut headers, call.revision, id.as_ref());
                let request = posted(headers, body);
                match session {
                    Some(session) => self.send_in(session, context, request).await?,
                    None => self.send(context, To::Any, request).await?,
                };
                Ok(Answer::accepted())
            }
        }
    }

    /// DELETE: the upstream's session ends too. That it knows no DELETE, or is down, is no reason to
    /// keep ours.
    pub(super) async fn terminate(
        self: &Arc<Self>,
        call: Incoming,
        session: Arc<Session>,
    ) -> Result<Answer, Failure> {
        if let Some(id) = upstream_session(&session).filter(|_| piped(&session).is_none()) {
            // Its record first: as long as that is there, it goes on, at its server as well.
            if let Some(sessions) = self.sessions() {
                let state = session.state(SessionState::default);
                if let Some(state) = state {
                    state.take_farewell();
                }
                if let Err(error) = sessions.end(&session, SessionEnd::Deleted).await {
                    // The store may have done it, or do it yet.
                    if let Some(state) = state {
                        state.leave_farewell(call.headers);
                    }
                    return Err(store_failed(&error));
                }
            }
            let route = Arc::clone(self);
            let telling = self.tasks().spawn(async move {
                route.delete_upstream(call.headers, &session, &id).await;
            });
            if tokio::time::timeout(TOLD_WITHIN, telling).await.is_err() {
                tracing::debug!(upstream = self.name(), "DELETE is not waited for");
            }
        }
        let body = thinpipe_transport::body::Body::Empty;
        let content = thinpipe_transport::server::Content::Other(None);
        Ok(Answer::new(StatusCode::OK, content, body))
    }

    /// The end of a session, as far as its server has to learn of it.
    pub(super) fn ended(self: Arc<Self>, session: Arc<Session>, why: SessionEnd) -> BoxFuture<()> {
        // A DELETE has told the upstream already; a session it lost needs no telling, nor does one that goes on
        // in another process.
        let goes_on = why == SessionEnd::Forgotten;
        let told = matches!(why, SessionEnd::Deleted | SessionEnd::UpstreamGone) || goes_on;
        let attachment = piped(&session);
        match attachment {
            Some(attachment) if goes_on => attachment.leave(),
            Some(attachment) => attachment.detach(),
            None => {}
        }
        // Over a pipe it is the bridge that cancels, and the pipe that ends the server's session.
        let is_passed = attachment.is_none();
        // Its client wanted it to end, and was told that this failed: it has ended all the same.
        let farewell = match why {
            SessionEnd::Deleted => session
                .existing_state::<SessionState>()
                .and_then(SessionState::take_farewell),
            _ => None,
        };
        let told = told && farewell.is_none();
        let id = upstream_session(&session).filter(|_| !told && is_passed);
        let left = session.binding() == Binding::HttpSse && why != SessionEnd::UpstreamGone;
        let left = left && is_passed && !goes_on;
        tracing::debug!(session = ?session.id(), upstream = self.name(), ?why, "a session ended");
        Box::pin(async move {
            if left {
                self.cancel_running(&session).await;
            }
            if let Some(id) = id {
                let headers = farewell.unwrap_or_default();
                self.delete_upstream(headers, &session, &id).await;
            }
        })
    }

    /// A client of HTTP+SSE has left, and with it its session: to a server of Streamable HTTP a POST that
    /// is closed cancels nothing, so it is told (protocol notes 5.2, R044).
    async fn cancel_running(&self, session: &Session) {
        let context = self.context_in(session, Some("notifications/cancelled"));
        let id = upstream_session(session);
        let is_opening = |request: &RequestId| {
            let state = session.existing_state::<SessionState>();
            state.is_some_and(|state| state.is_opened_by(request))
        };
        let running = session.running_ids().into_iter();
        let mut telling: Vec<_> = running
            .filter(|request| !is_opening(request))
            .map(|request| {
                let mut headers = HeaderMap::new();
                headers::for_post(&mut headers);
                headers::for_session(&mut headers, session.revision(), id.as_ref());
                let notice = cancelled(&request, "the client has left");
                Box::pin(self.send_in(session, &context, posted(headers, notice)))
            })
            .collect();
        // Side by side, and the end of the session waits only so long for them.
        let told = poll_fn(|cx| {
            telling.retain_mut(|telling| match telling.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(_)) => false,
                Poll::Ready(Err(failure)) => {
                    let error = &*failure.text;
                    tracing::debug!(upstream = self.name(), error, "a cancellation failed");
                    false
                }
            });
            if telling.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        if tokio::time::timeout(LAST_WORDS, told).await.is_err() {
            let upstream = self.name();
            tracing::debug!(upstream, "cancellations were not taken in time");
        }
    }

    pub(super) async fn delete_upstream(
        &self,
        mut headers: HeaderMap,
        session: &Session,
        id: &UpstreamSessionId,
    ) {
        headers::for_session(&mut headers, session.revision(), Some(id));
        let request = bodiless(Method::DELETE, headers);
        let context = self.context_in(session, None);
        match self.send_in(session, &context, request).await {
            Ok(response) if response.status.is_success() => {}
            Ok(response) => {
                let status = response.status.as_u16();
                tracing::debug!(upstream = self.name(), status, "DELETE was not accepted");
            }
            Err(failure) => {
                tracing::debug!(upstream = self.name(), error = %failure.text, "DELETE failed");
            }
        }
    }

    /// Remembers what later exchanges of the session need to know of this one.
    pub(super) fn note(&self, session: &Arc<Session>, context: &MessageContext, message: &Message) {
        super::cancelled::note(|| self.sessions(), session, message);
        let reestablishes = self.spec.session_lost == SessionLost::Reestablish;
        let reads = self.chain.wants_any(Direction::ToClient) && self.sees_all_of(session);
        if !reestablishes && !reads {
            return;
        }
        let Some(state) = session.state(SessionState::default) else {
            return;
        };
        if reestablishes && !self.shares_setup(session) {
            state.note_setup(message);
        }
        if let (true, Some(id), Some(method)) = (reads, message.id(), &context.method) {
            state.remember_call(id, (Arc::clone(method), context.name.clone()));
        }
    }

    /// Whether all messages of the session pass here. Of one that any process serves, another one may have passed a
    /// request with an id that is known here as that of another request: then nothing is sure that ids say.
    pub(super) fn sees_all_of(&self, session: &Session) -> bool {
        session.is_held() || !self.has_nodes()
    }

    /// The server's request that a client's response answers.
    pub(super) fn asked(&self, session: &Session, message: &Message) -> Option<Call> {
        if !self.chain.wants_any(Direction::ToUpstream) || !self.sees_all_of(session) {
            return None;
        }
        session
            .state(SessionState::default)?
            .asked_by_server(message.id()?)
    }

    pub(crate) async fn end_session(&self, session: &Arc<Session>, why: SessionEnd) {
        let Some(sessions) = self.sessions() else {
            return;
        };
        if let Err(error) = sessions.end(session, why).await {
            tracing::warn!(session = ?session.id(), %error, "a session's record stays behind");
        }
    }

    /// The manager of the sessions this route takes part in; set when it is mounted.
    pub(crate) fn attach(&self, sessions: &SessionManager) {
        // A route is mounted once; a second server would have sessions of its own to end.
        let first = self.sessions.set(sessions.downgrade()).is_ok();
        debug_assert!(first, "a route belongs to one server");
    }

    /// The manager of the sessions; `None`: its server is gone, or not there yet.
    pub(crate) fn sessions(&self) -> Option<SessionManager> {
        self.sessions.get()?.upgrade()
    }

    /// Whether other processes may have to go on with the sessions.
    pub(super) fn has_nodes(&self) -> bool {
        let sessions = self.sessions.get();
        sessions.is_some_and(WeakSessionManager::has_nodes)
    }
}
