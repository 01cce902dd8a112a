//! SSE framing (WHATWG HTML 9.2.6, as MCP uses it).
//!
//! Two readers over the same bytes: [`Scanner`] knows only where events end and which id came last,
//! [`Decoder`] gives the events themselves. [`encode`] writes one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

/// The media type of an event stream.
pub const MEDIA_TYPE: &str = "text/event-stream";

/// The default limit of one event, in bytes of its raw form.
pub const DEFAULT_MAX_EVENT: usize = 16 << 20;

/// The keep-alive comment that Thinpipe writes on silent streams, with its blank line.
pub const KEEP_ALIVE: &[u8] = b": ka\n\n";

/// An incremental decoder. Push bytes, then take items until `None`.
#[derive(Debug)]
pub struct Decoder {}

/// One thing an event stream carries, with the bytes it came in.
///
/// The `raw` parts of all items, concatenated, mean to an event-stream parser what the input meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A complete block with at least one field, up to and including its blank line.
    Event(Event),
    /// A comment (or stray blank lines) outside of any event.
    Comment(Bytes),
}

/// One block of an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The bytes as they came, including the blank line; no BOM.
    pub raw: Bytes,
    /// Type of the event, `None` if the block did not name one (that is, `message`).
    pub kind: Option<Bytes>,
    /// The `data`, joined with LF. `None`: the block had no `data` field, so it delivers nothing.
    pub data: Option<Bytes>,
    /// The value of the `id` field in this block, `None` if there was none (or it held a NUL).
    pub id: Option<Bytes>,
    /// The value of the `retry` field in this block.
    pub retry: Option<Duration>,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// One event is larger than the limit.
    #[error("an event of the stream exceeds {limit} bytes")]
    EventTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl Decoder {
    /// A decoder at the start of a stream. `max_event` bounds the raw bytes of one event.
    #[must_use]
    pub fn new(max_event: usize) -> Self {
        let _ = max_event;
        Self {}
    }

    /// Feeds the next bytes of the stream.
    pub fn push(&mut self, chunk: Bytes) {
        let _ = chunk;
        unimplemented!()
    }

    /// The next complete item. May change after [`push`](Self::push).
    ///
    /// # Errors
    /// [`DecodeError::EventTooLarge`]; the decoder gives nothing more after it.
    pub fn next_item(&mut self) -> Result<Option<Item>, DecodeError> {
        unimplemented!()
    }

    /// The last event id committed so far; empty if the stream reset it.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&Bytes> {
        unimplemented!()
    }

    /// Bytes of an unfinished event (or line) now held.
    #[must_use]
    pub fn pending(&self) -> usize {
        unimplemented!()
    }
}

/// Finds event boundaries without assembling events: a few bytes of state and the last id.
#[derive(Debug, Clone, Default)]
pub struct Scanner {}

/// What [`Scanner::scan`] found in one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// Offset in the chunk right after the last complete block (its blank line), if one ended here.
    /// Comments count as blocks, so a boundary is a place where other bytes may be joined on.
    pub boundary: Option<usize>,
    /// Where the last complete *event* (block with a field) began, as an offset in the chunk;
    /// negative if it began that many bytes before the chunk. With `last_end`, its extent.
    pub last_event_start: Option<isize>,
    /// Offset in the chunk right after the last complete event.
    pub last_event_end: Option<usize>,
}

impl Scanner {
    /// A scanner at the start of a stream. Ids longer than `max_id` bytes void the cursor.
    #[must_use]
    pub fn new(max_id: usize) -> Self {
        let _ = max_id;
        Self {}
    }

    /// Reads the next bytes of the stream.
    pub fn scan(&mut self, chunk: &[u8]) -> Scan {
        let _ = chunk;
        unimplemented!()
    }

    /// The last committed event id (its block is complete); `None` if there was none yet or the
    /// stream reset it with an empty one.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&[u8]> {
        unimplemented!()
    }

    /// The last `retry` the stream named, effective at once, clamped to 5 minutes.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        unimplemented!()
    }

    /// Whether the stream stands at a boundary: nothing of an unfinished block has been read.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        unimplemented!()
    }
}

/// The `data` of one raw block, joined with LF; borrowed when it is one line. `None`: no `data`.
#[must_use]
pub fn data_of(raw: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    let _ = raw;
    unimplemented!()
}

/// Writes one event: `event`, `id`, `retry`, `data`, blank line, with LF line ends. Data with CR or
/// LF in it is split over several `data` lines. `id` and `kind` lose CR, LF and NUL.
pub fn encode(
    out: &mut BytesMut,
    kind: Option<&[u8]>,
    id: Option<&[u8]>,
    retry: Option<Duration>,
    data: Option<&[u8]>,
) {
    let _ = (out, kind, id, retry, data);
    unimplemented!()
}
