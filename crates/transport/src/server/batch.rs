//! Batches (2025-03-26): split, run side by side, joined again. A handler never sees an array.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use thinpipe_proto::classify;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{self, Kind, Message, RequestId, code};
use thinpipe_proto::sse;

use crate::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use crate::byte_budget::{ByteBudget, Gathering, NoRoom};
use crate::server::Shared;
use crate::server::dispatch::{Envelope, Prepared, begin, invalid, legacy_revision};
use crate::server::exchange::{Answer, Content, Inbound};
use crate::server::session::{InFlight, Session};

/// Splits a batch into exchanges of its handler.
pub(crate) fn prepare(
    shared: &Shared,
    envelope: Envelope,
    messages: Vec<Message>,
    session: Option<Arc<Session>>,
) -> Result<Prepared, Answer> {
    let revision = legacy_revision(&envelope.headers, session.as_ref())?;
    check(
        &messages,
        revision,
        shared.config.limits.max_requests_per_session,
    )?;
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
            held: 0,
            _running: running,
        });
    }
    let room = Room::new(shared.config.limits.max_batch, &shared.buffered);
    Ok(Prepared::in_session(Box::pin(run(parts, room)), session))
}

/// A revision that knows no batches is refused them, and a batch is refused more requests than may run at
/// one time.
///
/// # Errors
/// The refusal.
pub(crate) fn check(messages: &[Message], revision: Revision, limit: usize) -> Result<(), Answer> {
    classify::batch_allowed(revision).map_err(|refusal| Answer::refused(&refusal))?;
    let requests = messages.iter().filter(|m| m.kind() == Kind::Request);
    if requests.count() > limit {
        // More than this never fits, in a session or outside of one: trying again would not help.
        let text = format!("a batch has at most {limit} requests");
        return Err(invalid(None, &text));
    }
    Ok(())
}

/// Bytes after which the elements that have not had their turn wait for the next poll.
const AT_ONCE: usize = 32 << 10;

/// Where the answers of a batch are held until they are written: within the batch's own bound, and, with
/// everything else that is held whole, within the server's budget.
struct Room {
    /// Bytes that this batch's answers may still take.
    left: usize,
    /// For answers that are put together here. Whoever gives a whole one has seen to it already.
    budget: ByteBudget,
    /// Answers handed over last: they keep their place in the budget until they are written.
    writing: Vec<Bytes>,
}

impl Room {
    fn new(left: usize, budget: &ByteBudget) -> Self {
        Self {
            left,
            budget: budget.clone(),
            writing: Vec::new(),
        }
    }

    /// Begins an answer that comes in pieces. One that says how long it is has its room before it is read.
    fn begin(&mut self, held: &mut usize, length: Option<u64>) -> Result<Gathering, Broken> {
        let Some(length) = length else {
            return Ok(Gathering::up_to(&self.budget, self.left));
        };
        let length = usize::try_from(length).map_err(|_| TOO_LARGE)?;
        self.take(held, length)?;
        Gathering::of_length(&self.budget, length).map_err(|NoRoom { .. }| NO_ROOM)
    }

    /// To be called whenever bytes were appended.
    fn grown(&mut self, held: &mut usize, answer: &mut Gathering) -> Result<(), Broken> {
        self.take(held, answer.bytes.len())?;
        answer.grown().map_err(|NoRoom { .. }| NO_ROOM)
    }

    /// Takes what an answer of so many bytes in all needs besides what it has taken before.
    fn take(&mut self, held: &mut usize, bytes: usize) -> Result<(), Broken> {
        let more = bytes.saturating_sub(*held);
        self.left = self.left.checked_sub(more).ok_or(TOO_LARGE)?;
        *held += more;
        Ok(())
    }

    /// Gives back what an answer has taken of the batch's bound.
    fn give(&mut self, held: &mut usize) {
        self.left += std::mem::take(held);
    }
}

/// One element of a batch.
struct Part {
    /// Its id, if it is a request and so must be answered.
    id: Option<RequestId>,
    state: State,
    /// Bytes that its answer takes of the batch's [`Room`].
    held: usize,
    _running: Option<InFlight>,
}

enum State {
    Waiting(BoxFuture<Answer>),
    Events(Box<dyn BodyStream>),
    Message(Box<dyn BodyStream>, Gathering),
    /// The whole answer, for which there was room, or an error in its place.
    Whole(Bytes),
    Done,
}

/// Why there is no answer to an element, as `data.reason` and in words.
type Broken = (&'static str, &'static str);

const LOST: Broken = ("upstream_stream_lost", "the answer broke off");
const TIMED_OUT: Broken = ("upstream_timeout", "the answer did not come in time");
const TOO_LARGE: Broken = (
    "message_too_large",
    "the answers to this batch are too large to be held",
);
const NO_ROOM: Broken = (
    "buffer_full",
    "too many bytes of messages are held; the call may have run",
);
const SHUT_DOWN: Broken = ("shutting_down", "the server shuts down");

impl Part {
    /// Moves on until there is something to write; `Ready` when events or the whole answer wait.
    fn poll_answer(&mut self, cx: &mut Context<'_>, room: &mut Room) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Waiting(future) => {
                    let answer = std::task::ready!(future.as_mut().poll(cx));
                    self.begin(answer, room);
                }
                State::Message(stream, whole) => {
                    let filled = std::task::ready!(stream.poll_fill(cx, &mut whole.bytes));
                    let grown = room.grown(&mut self.held, whole);
                    match filled.map_err(|error| broken_by(&error)) {
                        Err(broken) => self.fail(broken, room),
                        Ok(filled) => match grown {
                            Err(broken) => self.fail(broken, room),
                            Ok(()) if filled == Filled::End => {
                                if let State::Message(_, whole) = self.take() {
                                    self.complete(whole.finish(), room);
                                }
                            }
                            Ok(()) => {}
                        },
                    }
                }
                State::Events(_) | State::Whole(_) | State::Done => return Poll::Ready(()),
            }
        }
    }

    fn begin(&mut self, answer: Answer, room: &mut Room) {
        let begun = match (answer.content, answer.body) {
            (Content::EventStream, Body::Stream(stream)) => Ok(State::Events(stream)),
            (_, Body::Stream(stream)) => room
                .begin(&mut self.held, stream.remaining())
                .map(|whole| State::Message(stream, whole)),
            (_, Body::Full(whole)) => room
                .take(&mut self.held, whole.len())
                .map(|()| State::Whole(whole)),
            (_, Body::Empty) => Ok(State::Whole(Bytes::new())),
        };
        match begun {
            Ok(State::Whole(whole)) => self.complete(whole, room),
            Ok(state) => self.state = state,
            Err(broken) => self.fail(broken, room),
        }
    }

    /// Whatever is no response to its request would spoil the array for all the others.
    fn complete(&mut self, whole: Bytes, room: &mut Room) {
        let answers = self.id.as_ref().is_none_or(|id| {
            Message::parse(whole.clone())
                .is_ok_and(|message| message.kind().is_response() && message.id() == Some(id))
        });
        if answers {
            self.state = State::Whole(whole);
        } else {
            self.fail(LOST, room);
        }
    }

    /// An error takes the place of the answer. It is small, and needs no room.
    fn fail(&mut self, (reason, text): Broken, room: &mut Room) {
        room.give(&mut self.held);
        let data = format!(r#"{{"reason":"{reason}"}}"#);
        let code = code::INTERNAL_ERROR;
        let error = rpc::error_response(self.id.as_ref(), code, text, Some(data.as_bytes()));
        self.state = State::Whole(error);
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Done)
    }

    /// What an answered element adds to the array or the stream; nothing for a notification.
    fn take_whole(&mut self, room: &mut Room) -> Option<Bytes> {
        room.give(&mut self.held);
        match self.take() {
            State::Whole(bytes) if self.id.is_some() => Some(bytes),
            _ => None,
        }
    }

    fn write_whole(&mut self, room: &mut Room, out: &mut Vec<u8>) {
        if let Some(bytes) = self.take_whole(room) {
            let mut event = BytesMut::new();
            sse::encode(&mut event, None, None, None, Some(&bytes));
            out.extend_from_slice(&event);
            room.writing.push(bytes);
        }
    }

    /// As [`BodyStream::shut_down`]: who is not answered by the end hears so. An element that streams
    /// knows best itself what its client has to see.
    fn shut_down(&mut self, force: bool, room: &mut Room, out: &mut Vec<u8>) -> bool {
        match &mut self.state {
            State::Events(stream) => {
                if stream.shut_down(force, out) {
                    self.state = State::Done;
                }
            }
            State::Waiting(_) | State::Message(..) if force => {
                self.fail(SHUT_DOWN, room);
                self.write_whole(room, out);
            }
            State::Whole(_) => self.write_whole(room, out),
            State::Waiting(_) | State::Message(..) | State::Done => {}
        }
        matches!(self.state, State::Done)
    }
}

fn broken_by(error: &BodyError) -> Broken {
    match error {
        BodyError::TooLarge { .. } => TOO_LARGE,
        BodyError::TimedOut => TIMED_OUT,
        BodyError::NoRoom(_) => NO_ROOM,
        _ => LOST,
    }
}

/// Waits until every element is answered whole, or one of them streams.
async fn run(mut parts: Vec<Part>, mut room: Room) -> Answer {
    if parts.iter().all(|p| p.id.is_none()) {
        return run_silent(parts).await;
    }
    let streams = poll_fn(|cx| {
        let mut waiting = false;
        for part in &mut parts {
            waiting |= part.poll_answer(cx, &mut room).is_pending();
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
            room,
            next: 0,
            inside: None,
        });
    }
    let whole = parts.iter_mut().filter_map(|p| p.take_whole(&mut room));
    let elements: Vec<_> = whole.collect();
    array_of(&elements, &room.budget).unwrap_or_else(|NoRoom { .. }| {
        let (status, code) = (StatusCode::BAD_GATEWAY, code::INTERNAL_ERROR);
        Answer::error(status, None, code, NO_ROOM.1, Some(reason!("buffer_full")))
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
    room: Room,
    /// The element whose turn it is first: what one poll gives is bounded, and nobody starves.
    next: usize,
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
        std::task::ready!(part.poll_answer(cx, &mut self.room));
        if let State::Events(stream) = &mut part.state {
            let filled = std::task::ready!(stream.poll_fill(cx, out))?;
            self.inside = (!stream.at_boundary()).then_some(at);
            if filled == Filled::End {
                part.state = State::Done;
                self.inside = None;
            }
            return Poll::Ready(Ok(()));
        }
        part.write_whole(&mut self.room, out);
        Poll::Ready(Ok(()))
    }

    /// Gives every element its turn, or the one its turn that is inside of an event.
    fn poll_parts(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        before: usize,
    ) -> Result<(), BodyError> {
        let count = self.parts.len();
        let (first, turns) = self.inside.map_or((self.next, count), |at| (at, 1));
        for at in (first..first + turns).map(|at| at % count) {
            if matches!(self.parts[at].state, State::Done) {
                continue;
            }
            if let Poll::Ready(polled) = self.poll_part(at, cx, out) {
                polled?;
            }
            self.next = at + 1;
            if self.inside.is_some() || out.len() - before >= AT_ONCE {
                break;
            }
        }
        Ok(())
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
        self.room.writing.clear();
        loop {
            let inside = self.inside;
            self.poll_parts(cx, out, before)?;
            if self.is_done() {
                return Poll::Ready(Ok(Filled::End));
            }
            if out.len() > before {
                return Poll::Ready(Ok(Filled::More));
            }
            if inside.is_none() || self.inside.is_some() {
                return Poll::Pending;
            }
            // The element that the others had to wait for ended without a byte: now it is their turn.
        }
    }

    fn at_boundary(&self) -> bool {
        self.inside.is_none()
    }

    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        if self.inside.is_some() {
            // Nothing can be joined on to half an event.
            return force;
        }
        let mut over = true;
        for part in &mut self.parts {
            over &= part.shut_down(force, &mut self.room, out);
        }
        over
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
