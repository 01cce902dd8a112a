//! Batches (2025-03-26): split, run side by side, joined again. A handler never sees an array.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use thinpipe_proto::classify;
use thinpipe_proto::rpc::{self, Kind, Message, RequestId, code};
use thinpipe_proto::sse;

use crate::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use crate::server::Shared;
use crate::server::dispatch::{Envelope, Prepared, begin, invalid, legacy_revision};
use crate::server::exchange::{Answer, Content, Inbound};
use crate::server::session::{InFlight, Session};

/// Bytes of one element's JSON answer.
const MAX_ELEMENT: usize = 16 << 20;

/// Splits a batch into exchanges of its handler.
pub(crate) fn prepare(
    shared: &Shared,
    envelope: Envelope,
    messages: Vec<Message>,
    session: Option<Arc<Session>>,
) -> Result<Prepared, Answer> {
    let revision = legacy_revision(&envelope.headers, session.as_ref())?;
    classify::batch_allowed(revision).map_err(|refusal| Answer::refused(&refusal))?;
    // More than this never fits, in a session or outside of one: trying again would not help.
    let limit = shared.config.limits.max_requests_per_session;
    let requests = messages.iter().filter(|m| m.kind() == Kind::Request);
    if requests.count() > limit {
        let text = format!("a batch has at most {limit} requests");
        return Err(invalid(None, &text));
    }
    let mut parts = Vec::with_capacity(messages.len());
    for message in messages {
        let is_request = message.kind() == Kind::Request;
        let running = match &session {
            Some(session) if is_request => Some(begin(shared, session, &message)?),
            _ => None,
        };
        let id = message.id().filter(|_| is_request).cloned();
        let handler = Arc::clone(&envelope.endpoint.handler);
        let inbound = Inbound::Message(message, session.clone());
        let future = handler.handle(envelope.exchange(inbound, revision));
        parts.push(Part {
            id,
            state: State::Waiting(future),
            _running: running,
        });
    }
    Ok(Prepared::in_session(Box::pin(run(parts)), session))
}

/// One element of a batch.
struct Part {
    /// Its id, if it is a request and so must be answered.
    id: Option<RequestId>,
    state: State,
    _running: Option<InFlight>,
}

enum State {
    Waiting(BoxFuture<Answer>),
    Events(Box<dyn BodyStream>),
    Message(Box<dyn BodyStream>, Vec<u8>),
    Whole(Vec<u8>),
    Done,
}

impl State {
    fn of(answer: Answer) -> Self {
        match (answer.content, answer.body) {
            (Content::EventStream, Body::Stream(stream)) => Self::Events(stream),
            (_, Body::Stream(stream)) => Self::Message(stream, Vec::new()),
            (_, Body::Full(bytes)) => Self::Whole(bytes.to_vec()),
            (_, Body::Empty) => Self::Whole(Vec::new()),
        }
    }
}

impl Part {
    /// Moves on until there is something to write; `Ready` when events or the whole answer wait.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Waiting(future) => {
                    let answer = std::task::ready!(future.as_mut().poll(cx));
                    self.state = State::of(answer);
                    self.check_whole();
                }
                State::Message(stream, buffer) => {
                    let filled = std::task::ready!(stream.poll_fill(cx, buffer));
                    let too_large = buffer.len() > MAX_ELEMENT;
                    match filled {
                        Ok(Filled::More) if !too_large => {}
                        Ok(Filled::End) if !too_large => {
                            self.state = State::Whole(std::mem::take(buffer));
                            self.check_whole();
                        }
                        _ => self.state = State::Whole(self.broken()),
                    }
                }
                State::Events(_) | State::Whole(_) | State::Done => return Poll::Ready(()),
            }
        }
    }

    /// Whatever is no response to its request would spoil the array for all the others.
    fn check_whole(&mut self) {
        let (Some(id), State::Whole(bytes)) = (&self.id, &self.state) else {
            return;
        };
        let message = Message::parse(Bytes::copy_from_slice(bytes));
        let answers = message.is_ok_and(|m| {
            matches!(m.kind(), Kind::Response | Kind::ErrorResponse) && m.id() == Some(id)
        });
        if !answers {
            self.state = State::Whole(self.broken());
        }
    }

    fn broken(&self) -> Vec<u8> {
        let text = "the answer broke off";
        let data = br#"{"reason":"upstream_stream_lost"}"#;
        rpc::error_response(self.id.as_ref(), code::INTERNAL_ERROR, text, Some(data)).to_vec()
    }

    /// What an answered element adds to the array; nothing for a notification.
    fn take_whole(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Whole(bytes) if self.id.is_some() => Some(bytes),
            _ => None,
        }
    }
}

/// Waits until every element is answered whole, or one of them streams.
async fn run(mut parts: Vec<Part>) -> Answer {
    if parts.iter().all(|p| p.id.is_none()) {
        return run_silent(parts).await;
    }
    let streams = poll_fn(|cx| {
        let mut waiting = false;
        for part in &mut parts {
            waiting |= part.poll_answer(cx).is_pending();
            if matches!(part.state, State::Events(_)) {
                return Poll::Ready(true);
            }
        }
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(false)
        }
    });
    if streams.await {
        return Answer::events(Joined {
            parts,
            inside: None,
        });
    }
    let mut array = BytesMut::from(&b"["[..]);
    for bytes in parts.iter_mut().filter_map(Part::take_whole) {
        if array.len() > 1 {
            array.extend_from_slice(b",");
        }
        array.extend_from_slice(&bytes);
    }
    array.extend_from_slice(b"]");
    Answer::json(array.freeze())
}

/// Only notifications and responses: 202, or the first refusal.
async fn run_silent(parts: Vec<Part>) -> Answer {
    let mut refusal = None;
    for part in parts {
        if let State::Waiting(future) = part.state {
            let answer = future.await;
            if !answer.status.is_success() && refusal.is_none() {
                refusal = Some(answer);
            }
        }
    }
    match refusal {
        Some(mut answer) => {
            if answer.status.is_server_error() || answer.status == StatusCode::NOT_FOUND {
                return answer;
            }
            answer.status = StatusCode::BAD_REQUEST;
            answer
        }
        None => Answer::accepted(),
    }
}

/// The event stream of a batch: the elements' events interleaved, whole answers as events.
struct Joined {
    parts: Vec<Part>,
    /// The element whose unfinished event is being written; nothing else may come between.
    inside: Option<usize>,
}

impl Joined {
    fn poll_part(
        &mut self,
        at: usize,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<(), BodyError>> {
        let part = &mut self.parts[at];
        std::task::ready!(part.poll_answer(cx));
        if let State::Events(stream) = &mut part.state {
            let filled = std::task::ready!(stream.poll_fill(cx, out))?;
            self.inside = (!stream.at_boundary()).then_some(at);
            if filled == Filled::End {
                part.state = State::Done;
                self.inside = None;
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(bytes) = part.take_whole() {
            let mut event = BytesMut::new();
            sse::encode(&mut event, None, None, None, Some(&bytes));
            out.extend_from_slice(&event);
        }
        Poll::Ready(Ok(()))
    }

    fn is_done(&self) -> bool {
        self.parts.iter().all(|p| matches!(p.state, State::Done))
    }
}

impl BodyStream for Joined {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        let range = self.inside.map_or(0..self.parts.len(), |at| at..at + 1);
        for at in range {
            if matches!(self.parts[at].state, State::Done) {
                continue;
            }
            if let Poll::Ready(Err(error)) = self.poll_part(at, cx, out) {
                return Poll::Ready(Err(error));
            }
            if self.inside.is_some() {
                break;
            }
        }
        if self.is_done() {
            return Poll::Ready(Ok(Filled::End));
        }
        if out.len() > before {
            return Poll::Ready(Ok(Filled::More));
        }
        if self
            .parts
            .iter()
            .any(|p| matches!(p.state, State::Whole(_)))
        {
            // A silent element ended without a byte; look at the others again at once.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn at_boundary(&self) -> bool {
        self.inside.is_none()
    }

    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        let rest: Vec<BoxFuture<()>> = self.parts.into_iter().filter_map(leave).collect();
        if rest.is_empty() {
            return None;
        }
        Some(Box::pin(async move {
            for future in rest {
                future.await;
            }
        }))
    }
}

/// What an element still has to do when the client has left.
fn leave(part: Part) -> Option<BoxFuture<()>> {
    match part.state {
        State::Waiting(future) => Some(Box::pin(async move {
            if let Body::Stream(stream) = future.await.body
                && let Some(rest) = stream.abandon()
            {
                rest.await;
            }
        })),
        State::Events(stream) | State::Message(stream, _) => stream.abandon(),
        State::Whole(_) | State::Done => None,
    }
}
