//! Calls to a server of 2026-07-28 over HTTP: a POST for each.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use thinpipe_proto::header::MediaType;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Kind, Message, RequestId, meta_key};
use thinpipe_proto::sse::{Decoder, Item};
use thinpipe_transport::Reserved;
use thinpipe_transport::body::{BodyStream, BoxFuture, Filled};
use thinpipe_transport::upstream::{UpstreamRequest, UpstreamResponse};

use super::multiplex::DISCOVER;
use super::pinned::{Seems, is_denial};
use super::{Route, body_failure};
use crate::failure::{Failure, Reason};
use crate::group::To;
use crate::headers;
use crate::health::{is_of_sessions, is_refusal};
use crate::modern::{CallError, CallStream, Messages, ModernCall, ModernServer, Single};
use crate::relay::source::into_stream;

#[cfg(test)]
mod tests;

/// The server of a route, asked over HTTP.
pub(crate) struct OverHttp {
    route: Arc<Route>,
}

impl OverHttp {
    pub(crate) fn new(route: Arc<Route>) -> Self {
        Self { route }
    }

    async fn ask(&self, call: ModernCall) -> Result<CallStream, CallError> {
        let ModernCall {
            message,
            mut headers,
            repeatable,
            // Each POST has a stream of its own.
            principal: _,
        } = call;
        let not_asked = |text| CallError::undelivered(Failure::new(Reason::Invalid, text));
        let id = message.id().filter(|_| message.kind() == Kind::Request);
        let id = id.ok_or_else(|| not_asked("a call that is no request"))?;
        let claim = message.meta_text(meta_key::PROTOCOL_VERSION);
        let claim = claim.as_deref().unwrap_or(Revision::NEWEST.as_str());
        let revision = HeaderValue::from_str(claim);
        let revision = revision.map_err(|_| not_asked("a claim that is no revision"))?;
        headers::for_post(&mut headers);
        headers::for_stateless(&mut headers, &revision, &message, &message);
        let request = UpstreamRequest {
            method: http::Method::POST,
            headers,
            body: message.source().clone(),
            repeatable,
        };
        let group = self.route.http().map_err(CallError::undelivered)?;
        let sent = group.send(To::Any, request).await;
        let response = sent
            .map(|answered| answered.response)
            .map_err(|error| CallError {
                failure: self.route.unsent(&error),
                undelivered: error.is_unsent(),
            })?;
        let denies = message.method() == Some(DISCOVER) && is_denial(response.status);
        let answered = self.answered(response, id).await;
        answered.map_err(|error| match denies {
            true => CallError {
                failure: self.route.doubted(error.failure, Seems::Other),
                ..error
            },
            false => error,
        })
    }

    /// What a response holds: a stream, one message, or nothing that is MCP.
    async fn answered(
        &self,
        response: UpstreamResponse,
        id: &RequestId,
    ) -> Result<CallStream, CallError> {
        let status = response.status;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let name = self.route.name();
            let text = format!("{name} answers {status}: its credentials are wrong");
            return Err(CallError::delivered(Failure::new(Reason::Auth, text)));
        }
        match response.media_type {
            MediaType::EventStream if status.is_success() => {
                Ok(CallStream::new(self.events(response, id.clone())))
            }
            MediaType::Json => {
                let message = self
                    .read(response, id)
                    .await
                    .map_err(CallError::delivered)?;
                Ok(CallStream::new(Single::new(message)))
            }
            _ => Err(CallError::delivered(self.no_answer(status))),
        }
    }

    fn events(&self, response: UpstreamResponse, id: RequestId) -> Events {
        Events {
            body: Some(into_stream(response.into_body())),
            decoder: Decoder::new(self.route.spec().max_message),
            room: self.route.buffered().empty(),
            input: Vec::new(),
            id,
            upstream: Arc::clone(self.route.spec().name()),
            answered: false,
            has_heard: true,
        }
    }

    /// The response in a JSON body. On an error status it is about this request, under whatever id.
    async fn read(&self, response: UpstreamResponse, id: &RequestId) -> Result<Message, Failure> {
        let status = response.status;
        let (limit, budget) = (self.route.spec().max_message, self.route.buffered());
        let body = response.collect(limit, budget).await;
        let body = body.map_err(|error| body_failure(&error))?;
        let name = self.route.name();
        let invalid = |what: &str| Failure::new(Reason::Invalid, format!("{name} answered {what}"));
        let message = match Message::parse(body) {
            Ok(message) => message,
            Err(error) if status.is_success() => {
                return Err(invalid(&format!("no JSON-RPC message: {error}")));
            }
            Err(_) => return Err(self.no_answer(status)),
        };
        if is_of_sessions(status, &message) {
            self.route.era().contradicted();
        }
        match message.kind() {
            Kind::Response | Kind::ErrorResponse if message.id() == Some(id) => Ok(message),
            Kind::ErrorResponse if !status.is_success() || message.id().is_none() => {
                let named = Message::parse(message.with_id(id));
                named.map_err(|error| invalid(&format!("no JSON-RPC message: {error}")))
            }
            Kind::Response | Kind::ErrorResponse => Err(invalid("another request than this one")),
            Kind::Request | Kind::Notification => Err(invalid("with a message of its own")),
        }
    }

    /// The failure of an answer without a JSON-RPC message.
    fn no_answer(&self, status: StatusCode) -> Failure {
        let name = self.route.name();
        if is_refusal(status) {
            // No server of 2026-07-28 answers so: what is known of it is asked anew.
            self.route.era().contradicted();
        }
        let reason = match status.as_u16() {
            404 => Reason::NotFound,
            429 | 503 => Reason::Overloaded,
            500.. => Reason::Unavailable,
            _ => Reason::Invalid,
        };
        let run = match reason {
            Reason::Unavailable => "; the call may have run",
            _ => "",
        };
        let text = format!("{name} answers {status} without a JSON-RPC message{run}");
        Failure::new(reason, text)
    }
}

impl ModernServer for OverHttp {
    fn call(self: Arc<Self>, call: ModernCall) -> BoxFuture<Result<CallStream, CallError>> {
        Box::pin(async move { self.ask(call).await })
    }
}

/// The event stream that answers one request.
struct Events {
    /// `None`: it has ended.
    body: Option<Box<dyn BodyStream>>,
    decoder: Decoder,
    /// For the event in the decoder.
    room: Reserved,
    /// Bytes on their way into the decoder.
    input: Vec<u8>,
    id: RequestId,
    upstream: Arc<str>,
    answered: bool,
    /// Something has come since that was last asked.
    has_heard: bool,
}

impl Events {
    /// The next message of what has been read; `None`: more has to be read.
    fn decoded(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            let event = match self.decoder.next_item() {
                Ok(None) => return Ok(None),
                Ok(Some(Item::Comment(_))) => continue,
                Ok(Some(Item::Event(event))) => event,
                Err(error) => return Err(Failure::new(Reason::TooLarge, error.to_string())),
            };
            let is_message = event.kind.as_deref().is_none_or(|kind| kind == b"message");
            let data = event.data.filter(|data| !data.is_empty() && is_message);
            if let Some(message) = data.and_then(|data| self.message(data)) {
                return Ok(Some(message));
            }
        }
    }

    /// A message of this call; what is none is said and skipped.
    fn message(&self, data: Bytes) -> Option<Message> {
        let upstream = &self.upstream;
        let message = match Message::parse(data) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%upstream, %error, "an event is no message; skipped");
                return None;
            }
        };
        match message.kind() {
            Kind::Notification => return Some(message),
            Kind::Response | Kind::ErrorResponse if message.id() == Some(&self.id) => {
                return Some(message);
            }
            Kind::Response | Kind::ErrorResponse => {
                tracing::warn!(%upstream, "a response to another request; skipped");
            }
            Kind::Request => {
                let method = message.method().unwrap_or_default();
                tracing::warn!(%upstream, method, "a request to a client that answers none; skipped");
            }
        }
        None
    }

    /// Reads on. `Ok(false)`: the stream has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Failure>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Ok(false));
        };
        self.input.clear();
        let filled = ready!(body.poll_fill(cx, &mut self.input));
        self.has_heard |= !self.input.is_empty();
        if !matches!(filled, Ok(Filled::More)) {
            self.body = None;
        }
        match filled {
            Err(error) if self.input.is_empty() => Poll::Ready(Err(body_failure(&error))),
            _ => Poll::Ready(Ok(true)),
        }
    }

    fn make_room(&mut self) -> Result<(), Failure> {
        let room = self.room.resize(self.decoder.pending());
        room.map_err(|error| Failure::no_room(&error))
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Failure>> {
        while !self.answered {
            if let Some(message) = self.decoded()? {
                self.answered = message.kind().is_response();
                return Poll::Ready(Ok(Some(message)));
            }
            self.make_room()?;
            if !ready!(self.poll_read(cx))? {
                let text = "the upstream's stream ended before the response; the call may have run";
                return Poll::Ready(Err(Failure::new(Reason::StreamLost, text)));
            }
            let input = std::mem::take(&mut self.input);
            self.decoder.push(Bytes::from(input));
        }
        // Nothing counts after the response, and nobody waits for it. But a connection whose stream was read
        // to its end serves again, and the end is mostly there by now.
        if let Some(mut body) = self.body.take() {
            self.input.clear();
            let _ = body.poll_fill(cx, &mut self.input);
        }
        Poll::Ready(Ok(None))
    }
}

impl Messages for Events {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, CallError>>> {
        let polled = ready!(self.poll_message(cx));
        Poll::Ready(polled.map_err(CallError::delivered).transpose())
    }

    fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.has_heard)
    }
}
