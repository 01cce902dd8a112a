//! Clients of 2026-07-28 in front of a program of that revision (protocol notes 5.5, group D over stdio).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use thinpipe_proto::bridge::shape::{error_code, modern_status};
use thinpipe_proto::classify::is_read_only_method;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::sse;
use thinpipe_transport::body::{BodyError, BodyStream, Filled};
use thinpipe_transport::server::Answer;

use super::versions::narrowed;
use super::{Incoming, Route};
use crate::failure::{Failure, Reason};
use crate::interceptor::{Direction, MessageContext};
use crate::modern::{CallError, CallStream, ModernCall};
use crate::relay::{Line, Purpose};
use crate::sealing::Sealing;
use crate::session::Origin;

/// How long the first message is waited for. What comes later is a stream, which shows its client that
/// somebody is at work (protocol notes 2.3.2).
const COMMIT_AFTER: Duration = Duration::from_secs(15);

/// What describes a server.
pub(super) const DISCOVER: &str = "server/discover";

/// Bytes written by one poll, unless one message is larger.
const BATCH: usize = 24 << 10;

impl Route {
    /// A request that interceptors have let pass: JSON, unless a notification comes before the response.
    /// What has a state in it goes through `sealing`.
    pub(super) async fn stateless_on_program(
        self: &Arc<Self>,
        call: Incoming,
        mut context: MessageContext,
        message: Message,
        sealing: Option<Sealing>,
    ) -> Result<Answer, Failure> {
        let Some(id) = message.id().cloned() else {
            return Ok(Answer::accepted());
        };
        context.direction = Direction::ToClient;
        let line = Line {
            edit: self.shown(&message),
            ..self.line(None, purpose_of(&message, id.clone()))
        };
        let asked = ModernCall {
            headers: HeaderMap::new(),
            principal: call.principal,
            repeatable: message.method().is_some_and(is_read_only_method),
            message,
        };
        let (first, calls) = match self.begin_call(&asked).await {
            // It certainly did not run, and another program may take it.
            Err(error) if error.undelivered && error.failure.reason == Reason::StreamLost => {
                self.begin_call(&asked).await
            }
            begun => begun,
        }
        .map_err(|error| error.failure)?;
        if let Some(response) = first.as_ref().filter(|first| first.kind().is_response()) {
            let response = sealed(sealing.as_ref(), response.clone());
            let answer = self.whole(response, &context, &line).await?;
            return self.with_own_headers(&context, answer);
        }
        let events = CallEvents {
            first,
            calls,
            id,
            sealing,
            route: Arc::clone(self),
        };
        let answer = self.events(Box::new(events), line, context.clone(), None, None);
        self.with_own_headers(&context, answer)
    }

    /// Calls, and waits for the first message for a while.
    async fn begin_call(
        self: &Arc<Self>,
        asked: &ModernCall,
    ) -> Result<(Option<Message>, CallStream), CallError> {
        let mut calls = self.modern_server().call(asked.clone()).await?;
        match tokio::time::timeout(COMMIT_AFTER, calls.next()).await {
            Ok(Some(first)) => Ok((Some(first?), calls)),
            Ok(None) => {
                let text = "the program said nothing to a call; it may have run";
                let failure = Failure::new(Reason::StreamLost, text);
                Err(CallError::delivered(failure))
            }
            Err(_) => Ok((None, calls)),
        }
    }

    /// The response as a body of its own, with the status that goes with it.
    async fn whole(
        self: &Arc<Self>,
        response: Message,
        context: &MessageContext,
        line: &Line,
    ) -> Result<Answer, Failure> {
        let response = self.with_versions(response);
        let mut origin = Origin::default();
        let body = self
            .inspect_body(&response, context, line, &mut origin)
            .await?;
        let body = body.unwrap_or_default();
        let status = status_of(&response, &body);
        let mut answer = Answer::json(body);
        answer.status = status.unwrap_or(answer.status);
        Ok(answer)
    }

    /// A message in which the revisions are those that are served here.
    pub(super) fn with_versions(&self, message: Message) -> Message {
        let edited = narrowed(&message, self.spec.clients.served());
        let edited = edited.and_then(|edited| Message::parse(edited).ok());
        edited.unwrap_or(message)
    }
}

/// What the stream of a request of 2026-07-28 is for.
pub(super) fn purpose_of(message: &Message, id: RequestId) -> Purpose {
    match message.method() {
        Some("subscriptions/listen") => Purpose::Subscription(id),
        _ => Purpose::Stateless(id),
    }
}

/// The status that goes with a body, if it is an error: that of `response`, or what was made of it.
fn status_of(response: &Message, body: &Bytes) -> Option<StatusCode> {
    let error = if body == response.source() {
        response.error()
    } else {
        Message::parse(body.clone()).ok()?.error()
    };
    let code = error_code(&error?)?;
    StatusCode::from_u16(modern_status(code)).ok()
}

/// The messages of a call as events.
struct CallEvents {
    /// It was read to know that there is a stream.
    first: Option<Message>,
    calls: CallStream,
    id: RequestId,
    sealing: Option<Sealing>,
    route: Arc<Route>,
}

/// A message with its state sealed, if it has one and states are.
fn sealed(sealing: Option<&Sealing>, message: Message) -> Message {
    let sealed = sealing.and_then(|sealing| Message::parse(sealing.seal(&message)?).ok());
    sealed.unwrap_or(message)
}

impl BodyStream for CallEvents {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        while out.len() - before < BATCH {
            let next = match self.first.take() {
                Some(first) => Poll::Ready(Some(Ok(first))),
                None => self.calls.poll_next(cx),
            };
            match next {
                Poll::Ready(Some(Ok(message))) => {
                    let message = self.route.with_versions(message);
                    let message = sealed(self.sealing.as_ref(), message);
                    let mut event = BytesMut::with_capacity(message.source().len() + 16);
                    sse::encode(&mut event, None, None, None, Some(message.source()));
                    out.extend_from_slice(&event);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.route.stats().streams_lost();
                    out.extend_from_slice(&error.failure.event(&self.id, self.route.name()));
                    return Poll::Ready(Ok(Filled::End));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(Filled::End)),
                Poll::Pending if out.len() > before => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(Filled::More))
    }
}
