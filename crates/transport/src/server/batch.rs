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
use crate::byte_budget::{ByteBudget, Gathering, NoRoom};
use crate::server::Shared;
use crate::server::dispatch::{Envelope, Prepared, begin, invalid, legacy_revision};
use crate::server::exchange::{Answer, Content, Inbound};
use crate::server::session::{InFlight, Session};

/// Why an answer is not given that may have to be whole: its call may have run.
const NO_ROOM: &str = "too many bytes of messages are held; the call may have run";
const BUFFER_FULL: &str = reason!("buffer_full");

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
            budget: shared.buffered.clone(),
            _running: running,
        });
    }
    let answer = run(parts, shared.buffered.clone());
    Ok(Prepared::in_session(Box::pin(answer), session))
}

/// One element of a batch.
struct Part {
    /// Its id, if it is a request and so must be answered.
    id: Option<RequestId>,
    state: State,
    budget: ByteBudget,
    _running: Option<InFlight>,
}

enum State {
    Waiting(BoxFuture<Answer>),
    Events(Box<dyn BodyStream>),
    Message(Box<dyn BodyStream>, Gathering),
    Whole(Bytes),
    Done,
}

impl State {
    fn of(answer: Answer, budget: &ByteBudget) -> Result<Self, NoRoom> {
        Ok(match (answer.content, answer.body) {
            (Content::EventStream, Body::Stream(stream)) => Self::Events(stream),
            (_, Body::Stream(stream)) => {
                let length = stream.remaining().and_then(|n| usize::try_from(n).ok());
                let whole = match length.filter(|n| *n <= MAX_ELEMENT) {
                    Some(length) => Gathering::of_length(budget, length)?,
                    None => Gathering::up_to(budget, MAX_ELEMENT),
                };
                Self::Message(stream, whole)
            }
            (_, Body::Full(bytes)) => Self::Whole(bytes),
            (_, Body::Empty) => Self::Whole(Bytes::new()),
        })
    }
}

impl Part {
    /// Moves on until there is something to write; `Ready` when events or the whole answer wait.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Waiting(future) => {
                    let answer = std::task::ready!(future.as_mut().poll(cx));
                    match State::of(answer, &self.budget) {
                        Ok(state) => self.state = state,
                        Err(NoRoom { .. }) => self.state = State::Whole(self.no_room()),
                    }
                    self.check_whole();
                }
                State::Message(stream, whole) => {
                    let filled = std::task::ready!(stream.poll_fill(cx, &mut whole.bytes));
                    let too_large = whole.bytes.len() > MAX_ELEMENT;
                    if whole.grown().is_err() {
                        self.state = State::Whole(self.no_room());
                        continue;
                    }
                    match filled {
                        Ok(Filled::More) if !too_large => {}
                        Ok(Filled::End) if !too_large => {
                            if let State::Message(_, whole) = self.take() {
                                self.state = State::Whole(whole.finish());
                            }
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
        let message = Message::parse(bytes.clone());
        let answers = message.is_ok_and(|m| {
            matches!(m.kind(), Kind::Response | Kind::ErrorResponse) && m.id() == Some(id)
        });
        if !answers {
            self.state = State::Whole(self.broken());
        }
    }

    fn broken(&self) -> Bytes {
        let text = "the answer broke off";
        let data = br#"{"reason":"upstream_stream_lost"}"#;
        rpc::error_response(self.id.as_ref(), code::INTERNAL_ERROR, text, Some(data))
    }

    fn no_room(&self) -> Bytes {
        let id = self.id.as_ref();
        rpc::error_response(
            id,
            code::INTERNAL_ERROR,
            NO_ROOM,
            Some(BUFFER_FULL.as_bytes()),
        )
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Done)
    }

    /// What an answered element adds to the array; nothing for a notification.
    fn take_whole(&mut self) -> Option<Bytes> {
        match self.take() {
            State::Whole(bytes) if self.id.is_some() => Some(bytes),
            _ => None,
        }
    }
}

/// Waits until every element is answered whole, or one of them streams.
async fn run(mut parts: Vec<Part>, budget: ByteBudget) -> Answer {
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
            writing: Vec::new(),
        });
    }
    let elements: Vec<_> = parts.iter_mut().filter_map(Part::take_whole).collect();
    array_of(&elements, &budget).unwrap_or_else(|NoRoom { .. }| {
        let (status, code) = (StatusCode::BAD_GATEWAY, code::INTERNAL_ERROR);
        Answer::error(status, None, code, NO_ROOM, Some(BUFFER_FULL))
    })
}

fn array_of(elements: &[Bytes], budget: &ByteBudget) -> Result<Answer, NoRoom> {
    let length: usize = elements.iter().map(|element| element.len() + 1).sum();
    let mut array = Gathering::of_length(budget, length + 1)?;
    array.bytes.push(b'[');
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            array.bytes.push(b',');
        }
        array.bytes.extend_from_slice(element);
    }
    array.bytes.push(b']');
    Ok(Answer::json(array.finish()))
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
    /// Whole answers handed over last: they keep their place in the budget until they are written.
    writing: Vec<Bytes>,
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
            self.writing.push(bytes);
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
        // Who asks for more has written what there was.
        self.writing.clear();
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
