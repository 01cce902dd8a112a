//! The answer to one request: said on one side, coming out as JSON or as an event stream on the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::rpc::{Message, RequestId, code, error_response};
use thinpipe_proto::session::StreamId;
use tokio::sync::oneshot;

use super::{Conversation, ConversationConfig, Only};
use crate::server::event_buffer::{
    Closed, EventBuffer, EventBufferConfig, EventReader, NotPushed, Priming,
};
use crate::server::exchange::Answer;

/// How an answer begins.
#[derive(Debug)]
pub enum First {
    /// The response, and nothing before it.
    Response(Bytes),
    /// Something comes before the response, or it takes too long: an event stream.
    Stream,
    /// There is no response: the request was cancelled.
    Nothing,
}

/// The stream of one request.
pub(super) struct Stream {
    request: RequestId,
    buffer: EventBuffer,
    first: Mutex<Option<oneshot::Sender<First>>>,
    streaming: AtomicBool,
}

impl Stream {
    /// That of a request whose node is gone.
    pub(super) fn restored(request: RequestId, buffer: EventBuffer) -> Self {
        Self {
            request,
            buffer,
            first: Mutex::new(None),
            streaming: AtomicBool::new(true),
        }
    }

    pub(super) fn id(&self) -> StreamId {
        self.buffer.stream()
    }

    pub(super) fn request(&self) -> &RequestId {
        &self.request
    }

    pub(super) fn buffer(&self) -> &EventBuffer {
        &self.buffer
    }

    /// Whether more can be said on it.
    pub(super) fn is_open(&self) -> bool {
        !self.buffer.is_closed()
    }

    /// Whether it has become an event stream.
    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Acquire)
    }

    pub(super) async fn put(&self, key: Option<&str>, message: Bytes) -> Result<(), Closed> {
        self.begin(First::Stream);
        self.buffer.put(key, message).await
    }

    pub(super) fn try_put(&self, key: Option<&str>, message: Bytes) -> Result<(), NotPushed> {
        self.begin(First::Stream);
        self.buffer.try_put(key, message)
    }

    /// Puts what there is room for, so many at most.
    pub(super) fn put_some(&self, messages: &mut VecDeque<Message>, most: usize) {
        self.begin(First::Stream);
        self.buffer.put_some(messages, most);
    }

    pub(super) fn close(&self) {
        self.buffer.close();
        self.begin(First::Nothing);
    }

    /// The session is over before the response is there: whoever waits for it is told so.
    pub(super) fn break_off(&self) {
        if !self.is_open() {
            return;
        }
        let error = session_ended_message(&self.request);
        if self.begin(First::Response(error.clone())) == Begun::Before {
            self.buffer.break_off(error);
        }
        self.close();
    }

    /// Says how the answer begins, unless that was said before.
    fn begin(&self, first: First) -> Begun {
        let mut sender = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = sender.take() else {
            return Begun::Before;
        };
        let streams = matches!(first, First::Stream);
        self.streaming.fetch_or(streams, Ordering::AcqRel);
        match sender.send(first) {
            Ok(()) => Begun::Now,
            Err(_) => Begun::Unheard,
        }
    }
}

/// What a request gets whose session is over before its response is there.
fn session_ended_message(request: &RequestId) -> Bytes {
    let text = "the session ended before the answer came; the call may have run";
    let data = Some(reason!("session_ended").as_bytes());
    error_response(Some(request), code::SERVER_ERROR, text, data)
}

/// What became of the beginning of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Begun {
    Now,
    Before,
    /// Whoever asked has left.
    Unheard,
}

/// Where the answer to a request is said. Dropping it without a response ends the stream without one: the
/// request was cancelled.
pub struct Outlet {
    to: To,
}

enum To {
    /// Of the conversation that it is part of, if there is one.
    Own(Arc<Stream>, Option<Arc<Conversation>>),
    Shared(Shared),
}

/// HTTP+SSE: what is said before the response goes on the stream of the session.
struct Shared {
    request: RequestId,
    buffer: EventBuffer,
    /// Whether the response comes out of the inlet, instead of going on the stream too.
    answers: bool,
    /// When it is gone, the request is not running any more.
    running: Mutex<Option<oneshot::Sender<First>>>,
}

impl Shared {
    async fn respond(&self, message: Bytes) -> Result<(), Closed> {
        if !self.answers {
            return self.buffer.push(message).await;
        }
        let inlet = self.end().ok_or(Closed)?;
        inlet.send(First::Response(message)).map_err(|_| Closed)
    }

    /// Whoever waits at the inlet hears of it when this is dropped.
    fn end(&self) -> Option<oneshot::Sender<First>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.take()
    }
}

impl Outlet {
    pub(super) fn new(stream: Arc<Stream>, conversation: Option<Arc<Conversation>>) -> Self {
        Self {
            to: To::Own(stream, conversation),
        }
    }

    /// For a request outside of any session (2026-07-28): when its client leaves, [`Closed`] tells so.
    #[must_use]
    pub fn stateless(request: &RequestId, config: &ConversationConfig) -> (Self, Inlet) {
        let buffer = EventBufferConfig {
            retention: Duration::ZERO,
            ..config.buffer
        };
        let (stream, inlet) = pair(request, EventBuffer::new(buffer, StreamId(1)), config, None);
        (Self::new(stream, None), inlet)
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &RequestId {
        match &self.to {
            To::Own(stream, _) => stream.request(),
            To::Shared(shared) => &shared.request,
        }
    }

    /// Says something before the response. Waits while the client does not read.
    ///
    /// # Errors
    /// [`Closed`]: nobody reads it and nobody will.
    pub async fn notify(&self, message: Bytes) -> Result<(), Closed> {
        match &self.to {
            To::Own(stream, _) => stream.put(None, message).await,
            To::Shared(shared) => shared.buffer.push(message).await,
        }
    }

    /// The response, which is the last that is said.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn respond(&self, message: Bytes) -> Result<(), Closed> {
        let said = match &self.to {
            To::Own(stream, _) => match stream.begin(First::Response(message.clone())) {
                Begun::Now => Ok(()),
                Begun::Unheard => Err(Closed),
                Begun::Before => stream.buffer.finish(message).await,
            },
            To::Shared(shared) => shared.respond(message).await,
        };
        self.close();
        said
    }

    /// Nothing more is said: there was a response, or there will be none. So does dropping it.
    pub fn close(&self) {
        match &self.to {
            To::Own(stream, conversation) => {
                stream.close();
                if let Some(conversation) = conversation {
                    conversation.finished(stream);
                }
            }
            To::Shared(shared) => drop(shared.end()),
        }
    }

    /// Makes the answer an event stream, although nothing has been said yet.
    pub fn begin_stream(&self) {
        if let To::Own(stream, _) = &self.to {
            stream.begin(First::Stream);
        }
    }

    /// Ends the connection that carries the answer behind what has been said, and lets the client come back for the
    /// rest after `retry`, so that a long request occupies none (2025-11-25, "Resumability"). Returns whether that
    /// is possible: the stream has to be resumable, and the session of 2025-11-25.
    pub fn leave(&self, retry: Duration) -> bool {
        match &self.to {
            To::Own(stream, Some(of)) if of.primes.is_some() => {
                stream.begin(First::Stream);
                stream.buffer.part(retry);
                true
            }
            To::Own(..) | To::Shared(_) => false,
        }
    }

    /// Whether a client that leaves the stream can come back to it.
    #[must_use]
    pub fn resumes(&self) -> bool {
        match &self.to {
            To::Own(stream, _) => stream.buffer.keeps(),
            To::Shared(_) => false,
        }
    }

    /// Whether somebody reads it now, or has not begun to: who left one that can be resumed may come back.
    #[must_use]
    pub fn is_attended(&self) -> bool {
        match &self.to {
            To::Own(stream, _) => !stream.is_streaming() || stream.buffer.is_attached(),
            To::Shared(_) => !self.is_closed(),
        }
    }

    /// Whether nobody reads it any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.to {
            To::Own(stream, _) => !stream.is_open(),
            To::Shared(shared) => shared.buffer.is_closed(),
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("request", self.request())
            .finish_non_exhaustive()
    }
}

/// Where the answer to a request comes out.
pub struct Inlet {
    first: oneshot::Receiver<First>,
    /// `None`: it is said on the stream of the session.
    stream: Option<Arc<Stream>>,
    /// Where questions are asked that nobody has read here.
    conversation: Option<Arc<Conversation>>,
    commit_after: Duration,
    /// Its events have a priming one before them, with this `retry`.
    primes: Option<Option<Duration>>,
}

impl Inlet {
    pub(super) fn of(mut self, conversation: &Arc<Conversation>) -> Self {
        self.conversation = Some(Arc::clone(conversation));
        self
    }

    /// How the answer begins, as soon as that is known.
    pub async fn first(&mut self) -> First {
        if self.stream.is_none() {
            // The stream of the session is kept alive without it.
            return (&mut self.first).await.unwrap_or(First::Nothing);
        }
        let wait = self.commit_after;
        if let Ok(first) = tokio::time::timeout(wait, &mut self.first).await {
            return first.unwrap_or(First::Nothing);
        }
        // From here on it can be kept alive, unless it has just begun.
        if let Some(stream) = &self.stream {
            stream.begin(First::Stream);
        }
        self.first.try_recv().unwrap_or(First::Stream)
    }

    /// The events, if it is a stream of its own: not over HTTP+SSE.
    #[must_use]
    pub fn into_events(mut self) -> Option<EventReader> {
        let stream = self.stream.take()?;
        let buffer = stream.buffer().clone();
        let mut reader = buffer.reader();
        if let Some(retry) = self.primes {
            reader = reader.primed(Priming { id: None, retry });
        }
        if !buffer.keeps() {
            let conversation = self.conversation.take();
            reader = reader.on_end(move || leave(&buffer, conversation.as_deref()));
        }
        Some(reader)
    }

    /// The answer for the client: JSON if the response is all that comes out here, else an event stream; over
    /// HTTP+SSE, that there is nothing more to come.
    pub async fn answer(mut self) -> Answer {
        // Over HTTP+SSE until it has been answered: as long as it runs, the session waits for it.
        match self.first().await {
            First::Response(message) => Answer::json(message),
            First::Stream | First::Nothing => match self.into_events() {
                Some(events) => Answer::events(events),
                None => Answer::on_stream(),
            },
        }
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet")
            .field("stream", &self.stream.as_ref().map(|stream| stream.id()))
            .finish_non_exhaustive()
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        if stream.buffer().keeps() {
            stream.buffer().leave();
        } else {
            leave(stream.buffer(), self.conversation.as_deref());
        }
    }
}

/// Whoever left cannot come back: nothing more needs to be said here.
fn leave(buffer: &EventBuffer, conversation: Option<&Conversation>) {
    buffer.close();
    if let Some(conversation) = conversation {
        conversation.ask_elsewhere(buffer.take_unread());
    }
}

/// Both ends of the answer to a request, over this buffer.
pub(super) fn pair(
    request: &RequestId,
    buffer: EventBuffer,
    config: &ConversationConfig,
    primes: Option<Option<Duration>>,
) -> (Arc<Stream>, Inlet) {
    let (sender, first) = oneshot::channel();
    let stream = Arc::new(Stream {
        request: request.clone(),
        buffer,
        first: Mutex::new(Some(sender)),
        streaming: AtomicBool::new(false),
    });
    let inlet = Inlet {
        first,
        stream: Some(Arc::clone(&stream)),
        conversation: None,
        commit_after: config.commit_after,
        primes,
    };
    (stream, inlet)
}

/// Both ends of an answer that is said on the stream of its session.
pub(super) fn over(request: &RequestId, only: &Only) -> (Outlet, Inlet) {
    let (running, first) = oneshot::channel();
    let shared = Shared {
        request: request.clone(),
        buffer: only.stream.clone(),
        answers: only.answers,
        running: Mutex::new(Some(running)),
    };
    let outlet = Outlet {
        to: To::Shared(shared),
    };
    let inlet = Inlet {
        first,
        stream: None,
        conversation: None,
        commit_after: Duration::ZERO,
        primes: None,
    };
    (outlet, inlet)
}
