//! What an upstream does with one request, step by step.

use bytes::Bytes;

use crate::event::Event;
use crate::gate::Gate;
use crate::rpc;

/// How a connection is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is closed as after any response (FIN): what was sent arrives.
    Fin,
    /// It is reset (RST). What was sent and not yet read may be lost; [`Script::read_by_peer`] waits
    /// until it is not.
    Reset,
}

/// How the end of a body is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// By its length if it is known when the head is written, else by chunks.
    Auto,
    Chunked,
    /// What `Content-Length` says, true or not.
    Length(u64),
    UntilClose,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Status(u16),
    Header(String, String),
    NoHeader(String),
    Framing(Framing),
    /// The head now, before any byte of the body.
    Head,
    /// Part of the body, as one chunk if there are chunks.
    Body(Bytes),
    /// The whole body; placeholders are filled in.
    Whole(String),
    /// One event as one part of the body; placeholders are filled in.
    Event(Event),
    /// The first bytes of an event.
    PartOfEvent(Event, usize),
    /// What comes after them.
    RestOfEvent(Event, usize),
    /// The same bytes again and again.
    Fill(Bytes, u64),
    /// Parts of the body, each read by the peer before the next is sent.
    Pieces(Vec<Bytes>),
    /// Bytes of the connection, outside of any framing.
    Raw(Bytes),
    /// Events of a named stream from where the request says on, at most so many.
    Stream(String, Option<usize>),
    Wait(Gate),
    /// Until the client has answered the request with this id (JSON text).
    WaitForAnswer(String),
    ReadByPeer,
    Stall,
    Cut(Cut),
    /// The connection is closed after the response.
    Close,
}

impl Step {
    fn writes(&self) -> bool {
        match self {
            Self::Status(_) | Self::Header(..) | Self::NoHeader(_) | Self::Framing(_) => false,
            Self::Wait(_) | Self::WaitForAnswer(_) | Self::ReadByPeer => false,
            Self::Stall | Self::Cut(_) | Self::Close => false,
            Self::Head | Self::Body(_) | Self::Whole(_) | Self::Event(_) => true,
            Self::PartOfEvent(..) | Self::RestOfEvent(..) | Self::Fill(..) | Self::Pieces(_) => {
                true
            }
            Self::Raw(_) | Self::Stream(..) => true,
        }
    }
}

/// What an upstream does with one request. A list of steps; what follows the last one is a proper end
/// of the body, and the connection is kept.
///
/// Status and header fields are about the head, wherever in the list they stand. Texts may hold
/// [`rpc::REQUEST_ID`] and [`rpc::PROGRESS_TOKEN`]; both are replaced by what the
/// request has, byte for byte. [`rpc::answer_to`] is replaced by what was answered to a request that the
/// script has waited for.
///
/// For a message of HTTP+SSE, or of stdio, the messages go to the stream of the session, and steps that are
/// about HTTP mean nothing. There, a [cut](Script::cut) closes the stream, or crashes the program.
///
/// ```
/// use thinpipe_testkit::{Cut, Event, Gate, Script, rpc};
///
/// let gate = Gate::new();
/// Script::events()
///     .event(Event::message(rpc::progress(1, 2)).with_id("a-1"))
///     .wait(&gate)
///     .part_of(Event::message(rpc::text_result("done")).with_id("a-2"), 20)
///     .read_by_peer()
///     .cut(Cut::Reset);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Script {
    pub(crate) steps: Vec<Step>,
}

impl Script {
    /// No head yet, no steps: 200 without a body, if nothing is added.
    pub fn new() -> Self {
        Self::default()
    }

    /// 200 with this JSON text as its whole body.
    pub fn json(body: impl ToString) -> Self {
        Self::status(200)
            .content_type("application/json")
            .whole(body)
    }

    /// 200 with an event stream in chunks, the head at once.
    pub fn events() -> Self {
        Self::status(200)
            .content_type("text/event-stream")
            .header("Cache-Control", "no-cache, no-transform")
            .step(Step::Framing(Framing::Chunked))
            .step(Step::Head)
    }

    /// This status, with nothing else yet.
    pub fn status(status: u16) -> Self {
        Self::new().step(Step::Status(status))
    }

    /// This status with a JSON-RPC error for the request.
    pub fn error(status: u16, code: i64, message: &str) -> Self {
        Self::status(status)
            .content_type("application/json")
            .whole(rpc::error(code, message))
    }

    /// 202 without a body.
    pub fn accepted() -> Self {
        Self::status(202)
    }

    /// Events of a stream that was published under this name: after `Last-Event-ID` if the request has
    /// one of the stream's ids, else from where the last connection stopped. Ends with the stream.
    pub fn stream(name: &str) -> Self {
        Self::events().step(Step::Stream(name.to_owned(), None))
    }

    /// As [`Script::stream`], but no more than `at_most` events: then come the steps after this one.
    /// If the stream ends before, those are not done.
    pub fn stream_part(name: &str, at_most: usize) -> Self {
        Self::events().step(Step::Stream(name.to_owned(), Some(at_most)))
    }

    /// Bytes on the connection before any head.
    pub fn raw_bytes(bytes: impl Into<Bytes>) -> Self {
        Self::new().raw(bytes)
    }

    /// Never answers.
    pub fn silent() -> Self {
        Self::new().stall()
    }

    /// The same steps, but only after the gate: an answer that comes late.
    pub fn late(mut self, gate: &Gate) -> Self {
        self.steps.insert(0, Step::Wait(gate.clone()));
        self
    }

    /// A header field more.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.before_head(Step::Header(name.to_owned(), value.to_owned()))
    }

    /// A header field less.
    pub fn without_header(self, name: &str) -> Self {
        self.before_head(Step::NoHeader(name.to_owned()))
    }

    /// This media type instead of another, true or not.
    pub fn content_type(self, media_type: &str) -> Self {
        self.without_header("Content-Type")
            .header("Content-Type", media_type)
    }

    /// `Content-Length`, true or not.
    pub fn length(self, length: u64) -> Self {
        self.before_head(Step::Framing(Framing::Length(length)))
    }

    /// Chunks.
    pub fn chunked(self) -> Self {
        self.before_head(Step::Framing(Framing::Chunked))
    }

    /// A body that ends with the connection.
    pub fn until_close(self) -> Self {
        self.before_head(Step::Framing(Framing::UntilClose))
    }

    /// The head now.
    pub fn head(self) -> Self {
        self.step(Step::Head)
    }

    /// Part of the body, as it is; one chunk if there are chunks.
    pub fn body(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Body(bytes.into()))
    }

    /// The whole body as text, with its length.
    pub fn whole(self, text: impl ToString) -> Self {
        self.step(Step::Whole(text.to_string()))
    }

    /// An event.
    pub fn event(self, event: Event) -> Self {
        self.step(Step::Event(event))
    }

    /// A message without an id.
    pub fn message(self, json: impl ToString) -> Self {
        self.event(Event::message(json))
    }

    /// The first `bytes` bytes of an event and no more of it.
    pub fn part_of(self, event: Event, bytes: usize) -> Self {
        self.step(Step::PartOfEvent(event, bytes))
    }

    /// What comes after the first `bytes` bytes of an event.
    pub fn rest_of(self, event: Event, bytes: usize) -> Self {
        self.step(Step::RestOfEvent(event, bytes))
    }

    /// The same part of the body so many times; `u64::MAX`: without end.
    pub fn fill(self, part: impl Into<Bytes>, times: u64) -> Self {
        self.step(Step::Fill(part.into(), times))
    }

    /// These bytes of the body, split at these offsets; each piece is read by the peer before the next
    /// is sent.
    ///
    /// # Panics
    /// If the offsets do not rise, or lie outside.
    pub fn split(self, bytes: impl Into<Bytes>, offsets: &[usize]) -> Self {
        let mut rest = bytes.into();
        let mut pieces = Vec::with_capacity(offsets.len() + 1);
        let mut at = 0;
        for offset in offsets {
            pieces.push(rest.split_to(offset - at));
            at = *offset;
        }
        pieces.push(rest);
        self.step(Step::Pieces(pieces))
    }

    /// Bytes on the connection, outside of any framing: half a head, a chunk that promises more than
    /// there is. What comes after them is up to the script; no end is added.
    pub fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Raw(bytes.into()))
    }

    /// These steps and then those of another; a whole body among them becomes a message.
    pub fn then(mut self, other: Self) -> Self {
        for step in other.steps {
            match step {
                Step::Whole(text) => self.steps.push(Step::Event(Event::message(text))),
                Step::Status(_) | Step::Header(..) | Step::NoHeader(_) => {}
                Step::Framing(_) | Step::Head => {}
                step => self.steps.push(step),
            }
        }
        self
    }

    /// Waits at a gate.
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Waits until the client has posted an answer with this id (as JSON text: `"s1"`, `7`).
    pub fn wait_for_answer(self, id: &str) -> Self {
        self.step(Step::WaitForAnswer(id.to_owned()))
    }

    /// Waits until the other end has read everything that was sent.
    pub fn read_by_peer(self) -> Self {
        self.step(Step::ReadByPeer)
    }

    /// Does nothing any more, until the peer leaves.
    pub fn stall(self) -> Self {
        self.step(Step::Stall)
    }

    /// Cuts the connection off. Nothing comes after it.
    pub fn cut(self, cut: Cut) -> Self {
        self.step(Step::Cut(cut))
    }

    /// Closes the connection after the response and says so in its head.
    pub fn close(self) -> Self {
        self.header("Connection", "close").step(Step::Close)
    }

    /// Closes the connection after the response, which promised to keep it.
    pub fn close_unannounced(self) -> Self {
        self.step(Step::Close)
    }

    /// Whether it has a status of failure, and no message.
    pub(crate) fn is_refusal(&self) -> bool {
        let status = self.steps.iter().find_map(|step| match step {
            Step::Status(status) => Some(*status),
            _ => None,
        });
        let speaks =
            |step: &Step| matches!(step, Step::Whole(_) | Step::Event(_) | Step::Stream(..));
        status.is_some_and(|status| status >= 400) && !self.steps.iter().any(speaks)
    }

    /// A step that says something about the head: it is done before anything is written, wherever it
    /// stands.
    fn before_head(mut self, step: Step) -> Self {
        let written = self.steps.iter().position(Step::writes);
        self.steps.insert(written.unwrap_or(self.steps.len()), step);
        self
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}
