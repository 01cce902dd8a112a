//! `initialize`: our session is opened with what the upstream answered, before the client learns of
//! either.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use thinpipe_proto::header::MediaType;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{self, Kind, Message, RequestId, code};
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_proto::sse::{Decoder, Item};
use thinpipe_transport::body::{BodyStream, Filled};
use thinpipe_transport::server::{Answer, Negotiated, Session, SessionSlot};
use thinpipe_transport::upstream::UpstreamResponse;

use super::answer::body_failure;
use super::send::{bodiless, posted};
use super::{Incoming, Route};
use crate::config::SessionLost;
use crate::failure::{Failure, Reason};
use crate::headers;
use crate::interceptor::{Direction, MessageContext, Outcome, Step};
use crate::relay::into_stream;
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
        let mut headers = headers::without_session(call.headers.clone());
        headers::for_post(&mut headers);
        let request = posted(headers, message.source().clone());
        let response = self.send(&context, request).await?;
        let upstream_session = response.session_id.clone();
        let mut unused = Unused {
            route: Arc::clone(self),
            context: context.clone(),
            id: upstream_session.clone(),
        };
        if !response.status.is_success() {
            return self.refused_initialize(response, context, &message).await;
        }
        let answer = self.initialize_answer(response, message.id()).await?;
        let Some(revision) = negotiated(&answer.message)? else {
            let refused = if is_unknown_here(&answer.message) {
                self.refuse_legacy(&message).await
            } else {
                None
            };
            return Ok(refused.unwrap_or_else(|| answer.relay(None)));
        };
        unused.context.revision = revision;
        let context = MessageContext {
            direction: Direction::ToClient,
            revision,
            ..context
        };
        let answer = match self.inspect_initialize(&context, answer).await {
            Ok(answer) => answer,
            // What the client must not see the answer of, it must not use either.
            Err(body) => return Ok(Answer::json(body)),
        };
        let negotiated = Negotiated {
            revision,
            initialize_params: message.params().unwrap_or_default(),
            upstream_session,
        };
        let opened = slot.open(negotiated).await;
        let session =
            opened.map_err(|error| Failure::new(Reason::Overloaded, error.to_string()))?;
        unused.id = None;
        if self.spec().session_lost == SessionLost::Reestablish
            && let Some(state) = session.state(SessionState::default)
        {
            state.note_capabilities(capabilities(&answer.message));
        }
        tracing::debug!(session = ?session.id(), upstream = self.name(), %revision, "a session began");
        Ok(answer.relay(Some(&session)))
    }

    /// The upstream refused: its status and error go through, but never a 404, which would end a
    /// session that does not exist.
    async fn refused_initialize(
        self: &Arc<Self>,
        response: UpstreamResponse,
        context: MessageContext,
        message: &Message,
    ) -> Result<Answer, Failure> {
        // Statuses with which a server without sessions refuses them.
        if matches!(response.status.as_u16(), 400 | 404 | 405)
            && let Some(refused) = self.refuse_legacy(message).await
        {
            return Ok(refused);
        }
        if response.status == StatusCode::NOT_FOUND {
            let text = format!("{} answers 404 at its configured URL", self.name());
            return Err(Failure::new(Reason::NotFound, text));
        }
        let line = self.line(None, crate::relay::Purpose::Resumed);
        self.relay(response, line, context).await
    }

    /// Reads the answer as far as the response: its head decides about ours.
    pub(super) async fn initialize_answer(
        &self,
        response: UpstreamResponse,
        id: Option<&RequestId>,
    ) -> Result<Initialized, Failure> {
        match response.media_type {
            MediaType::Json => {
                let body = response.collect(self.max_message()).await;
                let body = body.map_err(|error| body_failure(&error))?;
                let message = Message::parse(body).map_err(|error| self.no_answer(&error))?;
                Ok(Initialized {
                    message,
                    events: None,
                    changed: false,
                })
            }
            MediaType::EventStream => {
                let body = into_stream(response.into_body());
                let limit = self.upstream().config().request_timeout;
                let read = read_response(body, self.max_message(), id);
                let read = tokio::time::timeout(limit, read).await;
                read.map_err(|_| {
                    Failure::new(Reason::Timeout, "initialize was not answered in time")
                })?
            }
            MediaType::Other => {
                let text = format!(
                    "{} answers initialize with neither JSON nor events",
                    self.name()
                );
                Err(Failure::new(Reason::Invalid, text))
            }
        }
    }

    fn no_answer(&self, error: &rpc::MessageError) -> Failure {
        let text = format!("{} answered no JSON-RPC message: {error}", self.name());
        Failure::new(Reason::Invalid, text)
    }

    /// `Err`: the answer is refused, and this is the error that takes its place.
    async fn inspect_initialize(
        &self,
        context: &MessageContext,
        mut answer: Initialized,
    ) -> Result<Initialized, Bytes> {
        if !self
            .chain()
            .wants(Direction::ToClient, context.method.as_deref())
        {
            return Ok(answer);
        }
        let outcome = match self.chain().run(context, answer.message.clone()) {
            Step::Done(outcome) => outcome,
            Step::Wait(future) => future.await,
        };
        match outcome {
            Outcome::Forward(_) => {}
            Outcome::Changed(message) => {
                answer.message = message;
                answer.changed = true;
            }
            Outcome::Rejected(rejection) => {
                let message = &answer.message;
                return Err(crate::relay::inspect::rejection_message(
                    message, &rejection,
                ));
            }
        }
        Ok(answer)
    }

    pub(super) fn discard_upstream_session(
        self: &Arc<Self>,
        context: MessageContext,
        id: Option<UpstreamSessionId>,
    ) {
        let Some(id) = id else { return };
        let route = Arc::clone(self);
        self.tasks().spawn(async move {
            let mut headers = HeaderMap::new();
            headers::for_session(&mut headers, context.revision, Some(&id));
            let request = bodiless(Method::DELETE, headers);
            let sent = route.send(&context, request).await;
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
    /// `None` once it is in use.
    id: Option<UpstreamSessionId>,
}

impl Drop for Unused {
    fn drop(&mut self) {
        if self.id.is_some() && tokio::runtime::Handle::try_current().is_ok() {
            let id = self.id.take();
            let context = self.context.clone();
            self.route.discard_upstream_session(context, id);
        }
    }
}

/// The answer to `initialize`, read as far as the response.
pub(super) struct Initialized {
    pub(super) message: Message,
    /// What came as events: the raw bytes up to the response, and what may still follow.
    events: Option<Replayed>,
    changed: bool,
}

impl Initialized {
    fn relay(self, session: Option<&Arc<Session>>) -> Answer {
        let mut answer = match self.events {
            Some(events) if !self.changed => Answer::events(events),
            _ => Answer::json(self.message.source().clone()),
        };
        answer.session = session.map(|s| s.id().clone());
        answer
    }
}

/// Events that were read already, then the rest of their stream.
struct Replayed {
    raw: Vec<u8>,
    rest: Option<Box<dyn BodyStream>>,
}

impl BodyStream for Replayed {
    fn poll_fill(
        &mut self,
        cx: &mut std::task::Context<'_>,
        out: &mut Vec<u8>,
    ) -> std::task::Poll<Result<Filled, thinpipe_transport::body::BodyError>> {
        if !self.raw.is_empty() {
            out.append(&mut self.raw);
            self.raw = Vec::new();
            return std::task::Poll::Ready(Ok(Filled::More));
        }
        let Some(rest) = &mut self.rest else {
            return std::task::Poll::Ready(Ok(Filled::End));
        };
        match std::task::ready!(rest.poll_fill(cx, out)) {
            Ok(Filled::More) => std::task::Poll::Ready(Ok(Filled::More)),
            // The response has passed: how the stream ends tells nothing more.
            Ok(Filled::End) | Err(_) => {
                self.rest = None;
                std::task::Poll::Ready(Ok(Filled::End))
            }
        }
    }
}

async fn read_response(
    mut body: Box<dyn BodyStream>,
    max: usize,
    id: Option<&RequestId>,
) -> Result<Initialized, Failure> {
    let mut decoder = Decoder::new(max);
    let mut raw = Vec::new();
    loop {
        while let Some(item) = next_item(&mut decoder)? {
            let event = match item {
                Item::Comment(bytes) => {
                    raw.extend_from_slice(&bytes);
                    continue;
                }
                Item::Event(event) => event,
            };
            raw.extend_from_slice(&event.raw);
            if raw.len() > max {
                return Err(Failure::new(
                    Reason::TooLarge,
                    "initialize was answered at length",
                ));
            }
            let data = event.data.filter(|data| !data.is_empty());
            let message = data.and_then(|data| Message::parse(data).ok());
            let message = message.filter(|m| m.kind().is_response());
            if let Some(message) = message.filter(|m| id.is_none() || m.id() == id) {
                let rest = trailing(decoder, body)?;
                return Ok(Initialized {
                    message,
                    events: Some(Replayed { raw, rest }),
                    changed: false,
                });
            }
        }
        let mut chunk = Vec::new();
        let filled = poll_fn(|cx| body.poll_fill(cx, &mut chunk)).await;
        let filled = filled.map_err(|error| body_failure(&error))?;
        if !chunk.is_empty() {
            decoder.push(Bytes::from(chunk));
        } else if filled == Filled::End {
            let text = "the stream ended before initialize was answered";
            return Err(Failure::new(Reason::StreamLost, text));
        }
    }
}

/// The stream after the response. Its unfinished rest in the decoder is not wanted by anybody: a
/// response is the last message of its stream.
fn trailing(
    decoder: Decoder,
    body: Box<dyn BodyStream>,
) -> Result<Option<Box<dyn BodyStream>>, Failure> {
    Ok((decoder.pending() == 0).then_some(body))
}

fn next_item(decoder: &mut Decoder) -> Result<Option<Item>, Failure> {
    decoder
        .next_item()
        .map_err(|error| Failure::new(Reason::TooLarge, error.to_string()))
}

/// The revision of a successful answer; `None` if it is an error.
pub(super) fn negotiated(message: &Message) -> Result<Option<Revision>, Failure> {
    if message.kind() != Kind::Response {
        return Ok(None);
    }
    let result = message.result().unwrap_or_default();
    let version: Option<String> = rpc::members(&result).ok().and_then(|members| {
        let (_, value) = members
            .into_iter()
            .find(|(name, _)| name == "protocolVersion")?;
        serde_json::from_slice(&value).ok()
    });
    let known = version
        .as_deref()
        .and_then(|v| Revision::from_bytes(v.as_bytes()));
    match known.filter(|revision| !revision.is_modern()) {
        Some(revision) => Ok(Some(revision)),
        None => {
            let text = format!("the upstream negotiated revision {version:?}, which is not known");
            Err(Failure::new(Reason::Invalid, text))
        }
    }
}

pub(super) fn capabilities(answer: &Message) -> serde_json::Value {
    let result = answer.result().unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&result)
        .map(|result| result["capabilities"].clone())
        .unwrap_or_default()
}

/// Whether an error says that the server does not know `initialize`.
fn is_unknown_here(answer: &Message) -> bool {
    let error = answer.error().unwrap_or_default();
    let code = rpc::member(&error, "code");
    let code = code.and_then(|code| std::str::from_utf8(&code).ok()?.parse().ok());
    code.is_some_and(|code: i32| matches!(code, code::UNSUPPORTED_VERSION | code::METHOD_NOT_FOUND))
}

/// The error for a client whose binding the upstream does not speak.
pub(crate) fn unsupported(
    message: &Message,
    text: &str,
    supported: &[Revision],
    requested: &str,
) -> Answer {
    let supported: Vec<_> = supported.iter().map(|r| r.as_str()).collect();
    let data = serde_json::json!({
        "supported": supported, "requested": requested, "reason": Reason::Binding.as_str(),
    });
    let status = StatusCode::BAD_REQUEST;
    Answer::error(
        status,
        message.id(),
        code::UNSUPPORTED_VERSION,
        text,
        Some(&data.to_string()),
    )
}
