//! The relay that reads every event and lets interceptors decide.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thinpipe_proto::rpc::{self, Kind, Message, Payload};
use thinpipe_proto::session::EventId;
use thinpipe_proto::sse::{self, Decoder, Event, Item};
use thinpipe_transport::body::{BodyError, BodyStream, BoxFuture, Filled};
use thinpipe_transport::server::Session;
use thinpipe_transport::{NoRoom, Reserved};

use super::source::{Got, Source};
use super::{Ending, Line};
use crate::cache::narrowed;
use crate::failure::{Failure, Reason};
use crate::interceptor::{Carrier, Direction, MessageContext, Outcome, Rejection, Step};
use crate::session::{Call, LiveStream, Origin, short};

/// Bytes written by one poll, unless one event is larger.
const BATCH: usize = 24 << 10;

/// An event stream whose events are read on their way.
pub(crate) struct InspectEvents {
    source: Source,
    line: Line,
    live: LiveStream,
    context: MessageContext,
    /// The request this stream answers.
    call: Option<Call>,
    max_event: usize,
    decoder: Decoder,
    /// For the event in the decoder, until its last message is written.
    room: Reserved,
    earlier_id: Option<EventId>,
    retry: Option<Duration>,
    /// To be written first.
    prefix: Vec<u8>,
    /// Bytes of what was decided about before anybody polled, until whoever polls has written them.
    kept: usize,
    /// Bytes from the upstream on their way into the decoder.
    input: Vec<u8>,
    current: Option<Current>,
    fault: Option<Failure>,
    origin: Origin,
    /// The answer was refused, and an error has taken its place.
    refused: bool,
    over: bool,
}

/// The event that is being decided about. Its `id` goes with the last message it gives.
struct Current {
    event: Event,
    waiting: VecDeque<Message>,
    deciding: Option<(Message, BoxFuture<Outcome>)>,
    /// It came as an array, so its messages become events of their own; or its message is not the one that
    /// came.
    split: bool,
}

impl InspectEvents {
    /// `room` is empty: it grows with events that are larger than what is free.
    pub(crate) fn new(
        source: Source,
        line: Line,
        live: LiveStream,
        room: Reserved,
        context: MessageContext,
        prefix: Vec<u8>,
    ) -> Self {
        let max_event = line.owner.max_message();
        let call = context.call();
        Self {
            source,
            line,
            live,
            context: MessageContext {
                carrier: Carrier::Event,
                ..context
            },
            call,
            max_event,
            decoder: Decoder::new(max_event),
            room,
            earlier_id: None,
            retry: None,
            prefix,
            kept: 0,
            input: Vec::new(),
            current: None,
            fault: None,
            origin: Origin::default(),
            refused: false,
            over: false,
        }
    }

    /// The same stream, of this origin.
    pub(crate) fn with_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// Reads on until the request is answered. What the client is to see of that comes first when the
    /// stream is polled again; if the answer was refused, nothing comes after it.
    pub(crate) async fn until_answered(&mut self) {
        let mut written = Vec::new();
        while !self.line.answered && !self.over {
            let before = written.len();
            self.kept = before;
            poll_fn(|cx| self.poll_events(cx, &mut written, before)).await;
        }
        self.prefix = written;
        self.over |= self.refused;
    }

    /// Whether the client sees an answer of the upstream, changed or not.
    pub(crate) fn is_answered_as_asked(&self) -> bool {
        self.line.answered && !self.refused
    }

    /// The answer that has passed has opened this session, whose stream it is from now on.
    pub(crate) fn join(&mut self, session: Arc<Session>, live: LiveStream) {
        self.source.stop_by(live.stop_token());
        live.note_id(self.last_id().as_ref().map(|id| &id.as_bytes()[..]));
        self.live = live;
        self.context.session = Some(short(&session));
        self.line.session = Some(session);
    }

    fn last_id(&self) -> Option<EventId> {
        match self.decoder.last_event_id() {
            Some(id) => EventId::from_bytes(id.clone()).ok(),
            None => self.earlier_id.clone(),
        }
    }

    /// Decides about everything the decoder has, as far as there is room behind the `before` bytes that
    /// others have put into `out`; `Pending` while an interceptor takes its time.
    fn poll_items(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>, before: usize) -> Poll<()> {
        loop {
            ready!(self.poll_current(cx, out));
            if out.len() - before >= BATCH || self.fault.is_some() {
                return Poll::Ready(());
            }
            match self.decoder.next_item() {
                Ok(None) => return Poll::Ready(()),
                Ok(Some(Item::Comment(raw))) => out.extend_from_slice(&raw),
                Ok(Some(Item::Event(event))) => self.begin(event, out),
                Err(error) => {
                    let text = error.to_string();
                    self.fault = Some(Failure::new(Reason::TooLarge, text));
                    return Poll::Ready(());
                }
            }
        }
    }

    fn begin(&mut self, event: Event, out: &mut Vec<u8>) {
        let at = self.decoder.last_event_id().map(|id| &id[..]);
        // As the scanner of streams that pass tells it: empty `data` fields say nothing.
        let has_data = event.data.iter().flatten().any(|&byte| byte != b'\n');
        self.line
            .note_progress(at, self.earlier_id.as_ref(), has_data);
        self.live.note_id(event.id.as_deref());
        self.retry = event.retry.or(self.retry);
        let is_message = event.kind.as_deref().is_none_or(|kind| kind == b"message");
        let data = event
            .data
            .clone()
            .filter(|data| !data.is_empty() && is_message);
        let Some(data) = data else {
            // Priming events, cursors, foreign types: not messages.
            out.extend_from_slice(&event.raw);
            return;
        };
        let (waiting, split) = match Payload::parse(data) {
            Ok(Payload::Single(message)) => {
                let before = message.source().as_ptr();
                match self.line.edited(message) {
                    // What was changed is not what came.
                    Some(message) => {
                        let is_changed = message.source().as_ptr() != before;
                        (VecDeque::from([message]), is_changed)
                    }
                    None => return self.keep_cursor(&event, out),
                }
            }
            Ok(Payload::Batch(messages)) => {
                let messages = messages.into_iter();
                (messages.filter_map(|m| self.line.edited(m)).collect(), true)
            }
            Err(error) => {
                let upstream = self.line.owner.name();
                tracing::warn!(upstream, %error, "an event is no message; skipped");
                self.keep_cursor(&event, out);
                return;
            }
        };
        self.current = Some(Current {
            event,
            waiting,
            deciding: None,
            split,
        });
    }

    fn poll_current(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<()> {
        while let Some(mut current) = self.current.take() {
            let (message, outcome) = match current.deciding.take() {
                Some((message, mut future)) => match future.as_mut().poll(cx) {
                    Poll::Ready(outcome) => (message, outcome),
                    Poll::Pending => {
                        current.deciding = Some((message, future));
                        self.current = Some(current);
                        return Poll::Pending;
                    }
                },
                None => {
                    let Some(message) = current.waiting.pop_front() else {
                        continue;
                    };
                    match self.decide(&message) {
                        Step::Done(outcome) => (message, outcome),
                        Step::Wait(future) => {
                            current.deciding = Some((message, future));
                            self.current = Some(current);
                            continue;
                        }
                    }
                }
            };
            self.write(&current, &message, outcome, out);
            if !current.waiting.is_empty() {
                self.current = Some(current);
            }
        }
        Poll::Ready(())
    }

    fn decide(&mut self, message: &Message) -> Step {
        let described = self
            .line
            .describe(&mut self.context, self.call.as_ref(), message);
        if let Err(rejection) = described {
            return Step::Done(Outcome::Rejected(rejection));
        }
        let chain = self.line.owner.chain();
        let step = if chain.wants(Direction::ToClient, self.context.method.as_deref()) {
            chain.run(&self.context, message.clone())
        } else {
            Step::Done(Outcome::Forward(message.clone()))
        };
        self.context.sequence += 1;
        step
    }

    fn write(&mut self, current: &Current, message: &Message, outcome: Outcome, out: &mut Vec<u8>) {
        let last = current.waiting.is_empty();
        let event = &current.event;
        let data = match narrowed(self.line.owner.chain(), &self.context, outcome) {
            Outcome::Forward(_) if !current.split => {
                self.note_answer(message);
                out.extend_from_slice(&event.raw);
                return;
            }
            Outcome::Forward(message) | Outcome::Changed(message) => Some(message.source().clone()),
            Outcome::Rejected(rejection) => {
                self.refused |= self.is_awaited(message);
                let (line, cx) = (&self.line, &self.context);
                match line.refused(&mut self.origin, cx, message, &rejection) {
                    Ok(data) => data,
                    Err(failure) => {
                        self.fault = Some(failure);
                        return;
                    }
                }
            }
        };
        self.note_answer(message);
        let Some(data) = data else {
            if last {
                self.keep_cursor(event, out);
            }
            return;
        };
        let id = event.id.as_deref().filter(|_| last);
        let retry = event.retry.filter(|_| last);
        let mut encoded = BytesMut::with_capacity(data.len() + 64);
        sse::encode(&mut encoded, event.kind.as_deref(), id, retry, Some(&data));
        out.extend_from_slice(&encoded);
    }

    /// An event that is not shown still moves the client's cursor, or a resume would repeat it. Where empty
    /// data is known not to be a message it is there, since some clients pass over an event without any.
    fn keep_cursor(&self, event: &Event, out: &mut Vec<u8>) {
        if event.id.is_none() && event.retry.is_none() {
            return;
        }
        let session = self.line.session.as_ref();
        let primes = session.is_some_and(|session| session.revision().primes_streams());
        let data = (primes && event.id.is_some()).then_some(&b""[..]);
        let mut encoded = BytesMut::new();
        sse::encode(&mut encoded, None, event.id.as_deref(), event.retry, data);
        out.extend_from_slice(&encoded);
    }

    fn note_answer(&mut self, message: &Message) {
        self.line.answered |= self.is_awaited(message);
    }

    fn is_awaited(&self, message: &Message) -> bool {
        let awaited = self.line.purpose.request();
        message.kind().is_response() && awaited.is_none_or(|id| message.id() == Some(id))
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) -> Filled {
        self.over = true;
        if let Ending::Fail(event) = ending {
            out.extend_from_slice(event);
        }
        Filled::End
    }

    /// Makes room for the event that is being read. One that is complete keeps its room until whoever
    /// polls has written it, which is when the next poll comes.
    fn make_room(&mut self) -> Result<(), NoRoom> {
        if self.current.is_some() {
            return Ok(());
        }
        self.room.resize(self.kept + self.decoder.pending())
    }

    /// An event that cannot be read, or more requests than can be refused: the request is answered with
    /// an error, the stream ends.
    fn give_up(&mut self, failure: &Failure, out: &mut Vec<u8>) -> Filled {
        self.over = true;
        if let Some(id) = self.line.owes() {
            out.extend_from_slice(&failure.event(id, self.line.owner.name()));
        }
        Filled::End
    }

    /// Appends what becomes of the next events; `out` had `before` bytes before this poll.
    fn poll_events(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        before: usize,
    ) -> Poll<Filled> {
        // Gives back what the event took that was written before this poll.
        let mut room = self.make_room();
        loop {
            let decided = self.poll_items(cx, out, before);
            if let Some(failure) = self.fault.take() {
                return Poll::Ready(self.give_up(&failure, out));
            }
            if out.len() > before {
                return Poll::Ready(Filled::More);
            }
            ready!(decided);
            room = room.and_then(|()| self.make_room());
            if let Err(error) = room {
                let text = format!("{error}; the call may have run");
                let failure = Failure::new(Reason::BufferFull, text);
                return Poll::Ready(self.give_up(&failure, out));
            }
            self.input.clear();
            match ready!(self.source.poll(cx, &mut self.line, &mut self.input)) {
                Got::Bytes => self
                    .decoder
                    .push(Bytes::from(std::mem::take(&mut self.input))),
                Got::End => {
                    let last = self.last_id();
                    let retry = self.retry;
                    if let Some(ending) = self.source.follow(&self.line, last, retry) {
                        return Poll::Ready(self.end(&ending, out));
                    }
                }
                Got::NewBody => {
                    self.earlier_id = self.last_id();
                    self.decoder = Decoder::new(self.max_event);
                }
                Got::FreshBody => {
                    self.earlier_id = None;
                    self.decoder = Decoder::new(self.max_event);
                    self.decoder
                        .push(Bytes::from(std::mem::take(&mut self.input)));
                }
                Got::Lost => {
                    let ending = self.line.lost();
                    return Poll::Ready(self.end(&ending, out));
                }
                Got::Stopped => {
                    let ending = self.line.stopped();
                    return Poll::Ready(self.end(&ending, out));
                }
            }
        }
    }
}

impl BodyStream for InspectEvents {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        let before = out.len();
        // Whoever polls has written what came before.
        self.kept = self.prefix.len();
        out.append(&mut self.prefix);
        if self.over {
            return Poll::Ready(Ok(Filled::End));
        }
        self.poll_events(cx, out, before).map(Ok)
    }

    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        let resumable = self.last_id().is_some();
        self.line.shut_down(force, resumable, out)
    }

    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        let resumable = self.last_id().is_some();
        self.line.abandon(resumable, self.source.into_body())
    }
}

impl Line {
    /// What the client sees in the place of a message that was refused: a response still answers it (E2).
    /// A refused request still answers its server; of it, as of a notification, the client sees nothing.
    ///
    /// # Errors
    /// As [`Owner::answer_upstream`](super::Owner::answer_upstream).
    pub(crate) fn refused(
        &self,
        origin: &mut Origin,
        context: &MessageContext,
        message: &Message,
        rejection: &Rejection,
    ) -> Result<Option<Bytes>, Failure> {
        let error = || rejection_message(message, rejection);
        match message.kind() {
            Kind::Response | Kind::ErrorResponse => Ok(Some(error())),
            Kind::Request => {
                let owner = Arc::clone(&self.owner);
                owner.answer_upstream(origin, self.session.as_ref(), context, error())?;
                Ok(None)
            }
            Kind::Notification => Ok(None),
        }
    }
}

/// The JSON-RPC error for a refused message.
pub(crate) fn rejection_message(message: &Message, rejection: &Rejection) -> Bytes {
    let data = serde_json::json!({ "reason": rejection.reason }).to_string();
    rpc::error_response(
        message.id(),
        rejection.code,
        &rejection.message,
        Some(data.as_bytes()),
    )
}
