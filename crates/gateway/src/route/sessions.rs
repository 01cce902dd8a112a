//! 2025-03-26 to 2025-11-25: messages, streams and the end of a session.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use thinpipe_proto::classify::is_read_only_method;
use thinpipe_proto::rpc::{Kind, Message};
use thinpipe_proto::session::{EventId, UpstreamSessionId};
use thinpipe_transport::server::{Answer, Session, SessionEnd};
use thinpipe_transport::upstream::{UpstreamRequest, UpstreamResponse};

use super::{Incoming, Intercepted, Relayed, Route, answer, now, short};
use crate::config::SessionLost;
use crate::failure::{Failure, Reason};
use crate::headers;
use crate::interceptor::{Carrier, Direction, MessageContext, Rejection};
use crate::relay::Purpose;
use crate::relay::inspect::rejection_message;
use crate::session::{Contended, SessionState};

impl Route {
    /// Revisions with sessions: a request, notification or response.
    pub(super) async fn in_session(
        self: &Arc<Self>,
        call: Incoming,
        message: Message,
        session: Option<Arc<Session>>,
    ) -> Result<Answer, Failure> {
        let context = self.context(&call, session.as_ref(), &message);
        let message = match self.intercept_now(&context, message) {
            Intercepted::Passes(message) => message,
            Intercepted::Later(future) => match future.await {
                Ok(message) => message,
                Err((message, rejection)) => {
                    let refused =
                        self.refuse_in_session(&call, session.as_ref(), &message, &rejection);
                    return Box::pin(refused).await;
                }
            },
        };
        if let Some(session) = &session {
            self.note(session, &context, &message);
        }
        // Only a session that may be opened anew ever needs the client's headers again.
        let reestablishes = self.spec.session_lost == SessionLost::Reestablish;
        let again = reestablishes.then(|| Box::new(call.clone()));
        let request = self.request_in_session(call, &context, session.as_ref(), &message)?;
        // Two boxes below a kilobyte are cheaper than one above.
        let sent = Box::pin(self.upstream.send(request)).await;
        let response = sent.map_err(|e| self.unsent(&e))?;
        if response.status == StatusCode::NOT_FOUND {
            return Box::pin(self.not_found(again, context, session, message)).await;
        }
        let line = self.line(session, purpose_of(&message));
        match self.relay_now(response, line, context, None) {
            Relayed::Now(answer) => answer,
            Relayed::Later(future) => future.await,
        }
    }

    pub(super) fn request_in_session(
        &self,
        call: Incoming,
        context: &MessageContext,
        session: Option<&Arc<Session>>,
        message: &Message,
    ) -> Result<UpstreamRequest, Failure> {
        let upstream_session = session.and_then(|s| s.upstream_session());
        let mut headers = headers::end_to_end(call.headers);
        headers::for_post(&mut headers);
        headers::for_session(&mut headers, call.revision, upstream_session.as_ref());
        self.edit_headers(context, &mut headers)?;
        Ok(UpstreamRequest {
            method: Method::POST,
            headers,
            body: message.source().clone(),
            repeatable: message.method().is_some_and(is_read_only_method),
        })
    }

    /// The upstream answered 404: its session is gone, or it is not where it should be.
    pub(super) async fn not_found(
        self: &Arc<Self>,
        again: Option<Box<Incoming>>,
        context: MessageContext,
        session: Option<Arc<Session>>,
        message: Message,
    ) -> Result<Answer, Failure> {
        let session = session.filter(|s| s.upstream_session().is_some());
        let Some(session) = session else {
            let text = format!("{} answers 404 at its configured URL", self.name());
            return Err(Failure::new(Reason::NotFound, text));
        };
        self.counters.session_lost();
        let own = usize::from(message.kind() == Kind::Request);
        let again = again.filter(|_| session.in_flight() <= own);
        if let Some(call) = again
            && self.reestablish(&session).await
        {
            // A 404 to a session id proves that the request did not run.
            let request = self.request_in_session(*call, &context, Some(&session), &message)?;
            let response = self
                .upstream
                .send(request)
                .await
                .map_err(|e| self.unsent(&e))?;
            if response.status != StatusCode::NOT_FOUND {
                let line = self.line(Some(session), purpose_of(&message));
                return self.relay(response, line, context).await;
            }
        }
        self.end_session(&session, SessionEnd::UpstreamGone).await;
        Ok(answer::session_gone(message.id()))
    }

    pub(super) async fn refuse_in_session(
        self: &Arc<Self>,
        call: &Incoming,
        session: Option<&Arc<Session>>,
        message: &Message,
        rejection: &Rejection,
    ) -> Result<Answer, Failure> {
        match message.kind() {
            Kind::Request => Ok(Answer::json(rejection_message(message, rejection))),
            Kind::Notification => Ok(Answer::accepted()),
            // The server waits for an answer; it gets the refusal instead.
            Kind::Response | Kind::ErrorResponse => {
                let body = rejection_message(message, rejection);
                let upstream_session = session.and_then(|s| s.upstream_session());
                let mut headers = headers::end_to_end(call.headers.clone());
                headers::for_post(&mut headers);
                headers::for_session(&mut headers, call.revision, upstream_session.as_ref());
                self.send(Method::POST, headers, body, false).await?;
                Ok(Answer::accepted())
            }
        }
    }

    /// GET: the standalone stream, or another stream of the session after an event.
    pub(super) async fn listen(
        self: &Arc<Self>,
        call: Incoming,
        session: Arc<Session>,
        last: Option<EventId>,
    ) -> Result<Answer, Failure> {
        let Some(state) = session.state(SessionState::default) else {
            return Err(Failure::new(
                Reason::Invalid,
                "the session belongs to another handler",
            ));
        };
        let replaced = match &last {
            Some(id) => state.replace_carrier_of(id.as_bytes()).await,
            None => match state.replace_standalone(now()).await {
                Ok(replaced) => replaced,
                Err(Contended) => return Ok(answer::contended()),
            },
        };
        let response = self
            .open_listen(&call, &session, last.as_ref(), replaced)
            .await?;
        if response.status == StatusCode::NOT_FOUND && session.upstream_session().is_some() {
            self.counters.session_lost();
            let reopens = self.spec.session_lost == SessionLost::Reestablish;
            if !reopens || session.in_flight() > 0 || !self.reestablish(&session).await {
                self.end_session(&session, SessionEnd::UpstreamGone).await;
                return Ok(answer::session_gone(None));
            }
            let response = self.open_listen(&call, &session, None, true).await?;
            return self.relay_listen(response, &call, session, None).await;
        }
        self.relay_listen(response, &call, session, last).await
    }

    pub(super) async fn relay_listen(
        self: &Arc<Self>,
        response: UpstreamResponse,
        call: &Incoming,
        session: Arc<Session>,
        last: Option<EventId>,
    ) -> Result<Answer, Failure> {
        let purpose = if last.is_some() {
            Purpose::Resumed
        } else {
            Purpose::Standalone
        };
        let context = MessageContext {
            direction: Direction::ToClient,
            carrier: Carrier::Event,
            revision: call.revision,
            upstream: Arc::clone(&self.spec.client.name),
            principal: call.principal.clone(),
            session: Some(short(&session)),
            method: None,
            name: None,
            sequence: 0,
        };
        self.relay_stream(response, self.line(Some(session), purpose), context, last)
            .await
    }

    /// DELETE: the upstream's session ends too. That it knows no DELETE, or is down, is no reason to
    /// keep ours.
    pub(super) async fn terminate(
        &self,
        call: Incoming,
        session: Arc<Session>,
    ) -> Result<Answer, Failure> {
        if let Some(id) = session.upstream_session() {
            let headers = headers::end_to_end(call.headers.clone());
            self.delete_upstream(headers, &session, &id).await;
        }
        let body = thinpipe_transport::body::Body::Empty;
        let content = thinpipe_transport::server::Content::Other(None);
        Ok(Answer::new(StatusCode::OK, content, body))
    }

    pub(super) async fn delete_upstream(
        &self,
        mut headers: HeaderMap,
        session: &Session,
        id: &UpstreamSessionId,
    ) {
        headers::for_session(&mut headers, session.revision(), Some(id));
        match self.send(Method::DELETE, headers, Bytes::new(), true).await {
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
}

fn purpose_of(message: &Message) -> Purpose {
    match message.id().filter(|_| message.kind() == Kind::Request) {
        Some(id) => Purpose::Request(id.clone()),
        None => Purpose::Resumed,
    }
}
