//! Events out of a stream of bytes.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::encode::data_of;
use super::line::{self, BOM, Ends, Field, Head, LineEnd, Start};

/// An incremental decoder. Push bytes, then take items until `None`.
///
/// An event that lies within one pushed chunk is a slice of that chunk; only what spans chunks is
/// copied, once. No byte is looked for a line end twice. Memory is bounded by the event limit: bytes
/// of comments are never held beyond 4 KiB.
#[derive(Debug)]
pub struct Decoder {
    max_event: usize,
    failed: bool,
    /// The chunk being read. Let go of as soon as it is read, so that a silent stream holds nothing.
    chunk: Bytes,
    /// Chunks pushed while another was still being read.
    queue: VecDeque<Bytes>,
    reader: Reader,
    last_id: Option<Bytes>,
}

/// One thing an event stream carries, with the bytes it came in.
///
/// The `raw` parts of all items, concatenated, mean to an event-stream parser what the input meant.
/// Each of them ends in LF (a lone CR at its end is completed to CRLF), so that other lines may be
/// written between any two, and no reader waits for a LF after a CR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A complete block with at least one field, up to and including its blank line.
    Event(Event),
    /// A comment line (or a stray blank line) outside of any event. A comment of more than 4 KiB
    /// comes as an empty one.
    Comment(Bytes),
}

/// One block of an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The bytes as they came, including the blank line; no BOM, and without comments. If they begin
    /// with a second BOM, which makes an unknown field of the first line, an underscore comes before
    /// it: else a reader at the start of a stream would drop that one and find another event.
    pub raw: Bytes,
    /// Type of the event, `None` if the block did not name one (that is, `message`).
    pub kind: Option<Bytes>,
    /// The `data`, joined with LF, invalid UTF-8 replaced by U+FFFD. `None`: the block had no `data`
    /// field, so it delivers nothing.
    pub data: Option<Bytes>,
    /// The value of the `id` field in this block, `None` if there was none (or it held a NUL).
    pub id: Option<Bytes>,
    /// The value of the `retry` field in this block, at most [`MAX_RETRY`](super::MAX_RETRY).
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
        Self {
            max_event,
            failed: false,
            chunk: Bytes::new(),
            queue: VecDeque::new(),
            reader: Reader::new(),
            last_id: None,
        }
    }

    /// Feeds the next bytes of the stream. Take all items before the next push: what is pushed
    /// earlier waits in a queue, which has no bound of its own.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() || self.failed {
            return;
        }
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.queue.push_back(chunk);
        }
    }

    /// The next complete item. May change after [`push`](Self::push).
    ///
    /// # Errors
    /// [`DecodeError::EventTooLarge`]; the decoder gives nothing but this error after it.
    pub fn next_item(&mut self) -> Result<Option<Item>, DecodeError> {
        while !self.chunk.is_empty() {
            match self.reader.read(&self.chunk) {
                Step::Event(end) => return self.event(end).map(Some),
                Step::Comment(end) => return Ok(Some(Item::Comment(self.comment(end)))),
                Step::ChunkEnd => {
                    if self.reader.pending_with(&self.chunk) > self.max_event
                        && self.reader.block.open
                    {
                        return Err(self.fail());
                    }
                    self.reader.hold_rest(&self.chunk);
                    self.chunk = self.queue.pop_front().unwrap_or_default();
                }
            }
        }
        if self.failed {
            Err(self.too_large())
        } else {
            Ok(None)
        }
    }

    /// The last event id committed so far; empty if the stream reset it.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&Bytes> {
        self.last_id.as_ref()
    }

    /// Bytes of an unfinished event (or line) now held.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.reader.held.len()
    }

    #[inline]
    fn event(&mut self, end: LineEnd) -> Result<Item, DecodeError> {
        let block = std::mem::take(&mut self.reader.block);
        let raw = self.reader.take_raw(&self.chunk, end);
        if raw.len() > self.max_event {
            return Err(self.fail());
        }
        let slice = |range: Range<usize>| text(&raw, range);
        let data = match block.data {
            Data::None => None,
            Data::Line(range) => Some(slice(range)),
            Data::Lines => data_of(&raw).map(|data| match line::utf8(&data) {
                Cow::Borrowed(_) => Bytes::from(data.into_owned()),
                Cow::Owned(data) => Bytes::from(data),
            }),
        };
        let id = block.id.map(slice);
        if let Some(id) = &id {
            // Copied, so that a few bytes do not keep a whole chunk alive.
            self.last_id = Some(Bytes::copy_from_slice(id));
        }
        // WHATWG HTML 9.2.6: an empty type is that of a message.
        let kind = block.kind.filter(|range| !range.is_empty()).map(slice);
        let raw = if raw.starts_with(BOM) {
            mask_bom(&raw)
        } else {
            raw
        };
        Ok(Item::Event(Event {
            kind,
            data,
            id,
            retry: block.retry,
            raw,
        }))
    }

    fn comment(&mut self, end: LineEnd) -> Bytes {
        let is_long = std::mem::take(&mut self.reader.long_comment);
        let raw = self.reader.take_raw(&self.chunk, end);
        if is_long {
            Bytes::from_static(b":\n")
        } else {
            raw
        }
    }

    fn fail(&mut self) -> DecodeError {
        self.failed = true;
        self.chunk = Bytes::new();
        self.queue = VecDeque::new();
        self.reader = Reader::new();
        self.too_large()
    }

    fn too_large(&self) -> DecodeError {
        DecodeError::EventTooLarge {
            limit: self.max_event,
        }
    }
}

/// Longer comments are dropped but for their colon.
const MAX_COMMENT: usize = 4096;

/// Where the reader stands, and what the open block has said so far.
///
/// The raw bytes of the open block are `held` and `chunk[from..at]`, in this order. Positions in a
/// block count from its first raw byte, so they stay right when bytes move from the chunk to `held`.
#[derive(Debug)]
struct Reader {
    start: Start,
    ends: Ends,
    /// The first byte of the chunk not yet read.
    at: usize,
    /// The first byte of the chunk that belongs to the open block and is not in `held`.
    from: usize,
    held: Vec<u8>,
    line: Line,
    after_cr: AfterCr,
    long_comment: bool,
    block: Block,
}

/// The line being read.
#[derive(Debug, Clone, Copy)]
enum Line {
    /// None: its first byte has not come.
    Start,
    /// A field; where it begins in the block.
    Field(usize),
    /// A comment outside of any event, which is an item of its own.
    Comment,
    /// A comment within an event, which is dropped.
    InnerComment,
}

/// A CR was the last byte of the chunk before. It ended its line at once; a LF that comes now is
/// part of that end.
#[derive(Debug, Clone, Copy)]
enum AfterCr {
    No,
    /// The line belongs to the open block, and so does its LF.
    Keep,
    /// The line is gone, or was completed with a LF of ours.
    Drop,
}

/// What a block has said so far.
#[derive(Debug, Default)]
struct Block {
    /// It has a field.
    open: bool,
    data: Data,
    kind: Option<Range<usize>>,
    id: Option<Range<usize>>,
    retry: Option<Duration>,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    Line(Range<usize>),
    Lines,
}

enum Step {
    /// The chunk is read to its end.
    ChunkEnd,
    /// This blank line ends an event.
    Event(LineEnd),
    /// This ends a comment or stray blank line.
    Comment(LineEnd),
}

impl Reader {
    fn new() -> Self {
        Self {
            start: Start::Bom(0),
            ends: Ends::Any,
            at: 0,
            from: 0,
            held: Vec::new(),
            line: Line::Start,
            after_cr: AfterCr::No,
            long_comment: false,
            block: Block::default(),
        }
    }

    /// Reads on to the end of an item or of the chunk, which is not empty.
    #[inline]
    fn read(&mut self, chunk: &[u8]) -> Step {
        if self.at == 0 {
            self.begin_chunk(chunk);
        }
        loop {
            match self.line {
                Line::Start => match chunk.get(self.at) {
                    None => return Step::ChunkEnd,
                    Some(b'\n' | b'\r') => {
                        let end = line::end_at(chunk, self.at);
                        return if self.block.open {
                            Step::Event(end)
                        } else {
                            Step::Comment(end)
                        };
                    }
                    Some(b':') => self.begin_comment(chunk),
                    Some(_) => {
                        self.block.open = true;
                        self.line = Line::Field(self.position(self.at));
                    }
                },
                Line::Field(start) => {
                    let Some(end) = self.ends.find(chunk, self.at) else {
                        return self.run_out(chunk);
                    };
                    self.end_field(chunk, start, end);
                }
                Line::Comment => {
                    let found = self.ends.find(chunk, self.at);
                    let content = found.map_or(chunk.len(), |end| end.content);
                    self.long_comment |= self.position(content) > MAX_COMMENT;
                    let Some(end) = found else {
                        return self.run_out(chunk);
                    };
                    return Step::Comment(end);
                }
                Line::InnerComment => {
                    let Some(end) = self.ends.find(chunk, self.at) else {
                        return self.run_out(chunk);
                    };
                    self.line = Line::Start;
                    self.at = end.end;
                    self.from = end.end;
                    self.note_cr(chunk, end, AfterCr::Drop);
                }
            }
        }
    }

    /// Deals with what the chunk before left over: part of a BOM, or a CR whose LF may come now.
    fn begin_chunk(&mut self, chunk: &[u8]) {
        self.ends = Ends::of(chunk);
        if self.start != Start::Past {
            match self.start.read(chunk) {
                Head::Unfinished => self.at = chunk.len(),
                Head::Dropped(length) => self.at = length,
                Head::Content(bytes) if bytes.is_empty() => {}
                Head::Content(bytes) => {
                    self.held.extend_from_slice(&BOM[bytes]);
                    self.block.open = true;
                    self.line = Line::Field(0);
                }
            }
            self.from = self.at;
            return;
        }
        match std::mem::replace(&mut self.after_cr, AfterCr::No) {
            AfterCr::No => {}
            _ if chunk[0] != b'\n' => {}
            AfterCr::Keep => self.at = 1,
            AfterCr::Drop => {
                self.at = 1;
                self.from = 1;
            }
        }
    }

    fn begin_comment(&mut self, chunk: &[u8]) {
        if !self.block.open {
            self.line = Line::Comment;
            return;
        }
        self.held.extend_from_slice(&chunk[self.from..self.at]);
        self.from = self.at;
        if self.held.last() == Some(&b'\r') {
            // What follows the comment must not become the second half of a CRLF.
            self.held.push(b'\n');
        }
        self.line = Line::InnerComment;
    }

    #[inline]
    fn end_field(&mut self, chunk: &[u8], start: usize, end: LineEnd) {
        self.line = Line::Start;
        self.at = end.end;
        let held = self.held.len();
        let stop = self.position(end.content);
        if start >= held {
            // The usual case: the line lies within the chunk.
            let text = &chunk[self.from + (start - held)..end.content];
            self.block.field(text, start, stop);
        } else {
            self.held.extend_from_slice(&chunk[self.from..end.end]);
            self.from = end.end;
            self.block.field(&self.held[start..stop], start, stop);
        }
        self.note_cr(chunk, end, AfterCr::Keep);
    }

    fn note_cr(&mut self, chunk: &[u8], end: LineEnd, after_cr: AfterCr) {
        if end.bare_cr && end.end == chunk.len() {
            self.after_cr = after_cr;
        }
    }

    /// The chunk ends within a line.
    fn run_out(&mut self, chunk: &[u8]) -> Step {
        self.at = chunk.len();
        Step::ChunkEnd
    }

    /// Where a byte of the chunk lies in the open block.
    fn position(&self, at: usize) -> usize {
        self.held.len() + (at - self.from)
    }

    /// The raw bytes of the open block, up to the end of the chunk.
    fn pending_with(&self, chunk: &[u8]) -> usize {
        match self.line {
            Line::InnerComment => self.held.len(),
            _ => self.position(chunk.len()),
        }
    }

    /// Keeps what the chunk says about the open block or comment; the chunk itself is done.
    fn hold_rest(&mut self, chunk: &[u8]) {
        if self.long_comment {
            self.held = Vec::new();
        } else if !matches!(self.line, Line::InnerComment) {
            self.held.extend_from_slice(&chunk[self.from..]);
        }
        self.at = 0;
        self.from = 0;
    }

    /// The raw bytes of the item that ends here.
    #[inline]
    fn take_raw(&mut self, chunk: &Bytes, end: LineEnd) -> Bytes {
        let raw = if self.held.is_empty() && !end.bare_cr {
            chunk.slice(self.from..end.end)
        } else {
            self.held.extend_from_slice(&chunk[self.from..end.end]);
            if end.bare_cr {
                self.held.push(b'\n');
            }
            Bytes::from(std::mem::take(&mut self.held))
        };
        self.line = Line::Start;
        self.at = end.end;
        self.from = end.end;
        self.note_cr(chunk, end, AfterCr::Drop);
        raw
    }
}

impl Block {
    /// Takes note of a field; `start..stop` is where its line lies in the block.
    #[inline]
    fn field(&mut self, text: &[u8], start: usize, stop: usize) {
        let (field, value) = line::field(text);
        let range = start + value..stop;
        let value = &text[value..];
        match field {
            Field::Data => {
                self.data = match self.data {
                    Data::None => Data::Line(range),
                    Data::Line(_) | Data::Lines => Data::Lines,
                }
            }
            Field::Event => self.kind = Some(range),
            Field::Id if line::is_id(value) => self.id = Some(range),
            Field::Retry => self.retry = line::retry(value).or(self.retry),
            Field::Id | Field::Unknown => {}
        }
    }
}

#[cold]
fn mask_bom(raw: &[u8]) -> Bytes {
    let mut masked = Vec::with_capacity(raw.len() + 1);
    masked.push(b'_');
    masked.extend_from_slice(raw);
    Bytes::from(masked)
}

/// A part of the raw bytes as text.
#[inline]
fn text(raw: &Bytes, range: Range<usize>) -> Bytes {
    match line::utf8(&raw[range.clone()]) {
        Cow::Borrowed(_) => raw.slice(range),
        Cow::Owned(text) => Bytes::from(text),
    }
}
