//! Event boundaries and ids, without the events.

use std::ops::Range;
use std::time::Duration;

use super::line::{self, Ends, Field, Head, LineEnd, MAX_RETRY_DIGITS, Start};

/// Finds event boundaries without assembling events: a few bytes of state and the last id.
#[derive(Debug, Clone)]
pub struct Scanner {
    max_id: usize,
    start: Start,
    line: Line,
    /// The block has a field.
    open: bool,
    /// The block has a `data` field that is not empty.
    has_data: bool,
    /// Bytes of the open block that lie before the chunk.
    back: usize,
    /// A CR was the last byte of the chunk before; it ended its line at once.
    after_cr: bool,
    /// The beginning of a line that may mean something and is not complete.
    carry: Vec<u8>,
    /// What of that line did not fit into `carry`.
    overflow: Overflow,
    /// The id that the open block named in earlier chunks, cut where it is too long anyway.
    next_id: Option<Vec<u8>>,
    last_id: Vec<u8>,
    retry: Option<Duration>,
}

/// What [`Scanner::scan`] found in one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// Offset in the chunk right after the last complete block (its blank line), if one ended here.
    /// Comments count as blocks, so a boundary is a place where other bytes may be joined on. So
    /// does a BOM at the start of the stream.
    ///
    /// A CR at the end of a chunk ends its line at once; if the next chunk begins with the LF of a
    /// CRLF that way cut in two after a block, the place after that LF is a boundary, too.
    pub boundary: Option<usize>,
    /// Where the last complete *event* (block with a field) began, as an offset in the chunk;
    /// negative if it began that many bytes before the chunk. With `last_event_end`, its extent.
    pub last_event_start: Option<isize>,
    /// Offset in the chunk right after the last complete event.
    pub last_event_end: Option<usize>,
    /// An event with a `data` field that is not empty ended in the chunk: one that says something, and
    /// not only where the stream stands.
    pub has_data: bool,
}

impl Scanner {
    /// The `max_id` of [`Scanner::default`], in bytes.
    pub const DEFAULT_MAX_ID: usize = 1024;

    /// A scanner at the start of a stream. Ids longer than `max_id` bytes void the cursor.
    #[must_use]
    pub fn new(max_id: usize) -> Self {
        Self {
            max_id,
            start: Start::Bom(0),
            line: Line::Start,
            open: false,
            has_data: false,
            back: 0,
            after_cr: false,
            carry: Vec::new(),
            overflow: Overflow::None,
            next_id: None,
            last_id: Vec::new(),
            retry: None,
        }
    }

    /// Reads the next bytes of the stream.
    pub fn scan(&mut self, chunk: &[u8]) -> Scan {
        if chunk.is_empty() {
            return Scan::default();
        }
        let mut pass = Pass {
            chunk,
            ends: Ends::of(chunk),
            at: 0,
            start: -self.back.cast_signed(),
            found: Scan::default(),
            named: None,
            committed: None,
        };
        self.begin(&mut pass);
        self.lines(&mut pass);
        self.end(&pass);
        pass.found
    }

    /// The last committed event id (its block is complete); `None` if there was none yet or the
    /// stream reset it with an empty one. Invalid UTF-8 in it is replaced by U+FFFD.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&[u8]> {
        Some(&self.last_id[..]).filter(|id| !id.is_empty())
    }

    /// The last `retry` the stream named, effective at once, clamped to 5 minutes.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Whether the stream stands at a boundary: nothing of an unfinished block has been read.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        !self.open
            && matches!(self.line, Line::Start)
            && matches!(self.start, Start::Past | Start::Bom(0))
    }

    /// Finishes what the chunk before left over: a BOM, a CRLF or a line.
    fn begin(&mut self, pass: &mut Pass<'_>) {
        if self.start != Start::Past {
            match self.start.read(pass.chunk) {
                Head::Unfinished => pass.at = pass.chunk.len(),
                Head::Dropped(length) => {
                    pass.at = length;
                    pass.found.boundary = Some(length);
                }
                Head::Content(bytes) if bytes.is_empty() => {}
                Head::Content(bytes) => {
                    pass.start = -bytes.len().cast_signed();
                    self.open = true;
                    self.line = Line::Other;
                }
            }
        }
        if std::mem::take(&mut self.after_cr) && pass.chunk[0] == b'\n' {
            pass.at = 1;
            if !self.open {
                pass.found.boundary = Some(1);
            }
        }
        if matches!(self.line, Line::Start) {
            return;
        }
        let found = pass.ends.find(pass.chunk, pass.at);
        let part = &pass.chunk[pass.at..found.map_or(pass.chunk.len(), |end| end.content)];
        pass.at = found.map_or(pass.chunk.len(), |end| end.end);
        if matches!(self.line, Line::Kept) {
            self.keep(part);
        }
        let Some(end) = found else { return };
        match std::mem::replace(&mut self.line, Line::Start) {
            Line::Kept => self.end_kept(),
            Line::Comment if !self.open => pass.found.boundary = Some(end.end),
            Line::Start | Line::Other | Line::Comment => {}
        }
        self.note_cr(pass, end);
    }

    /// Reads lines that begin in this chunk.
    fn lines(&mut self, pass: &mut Pass<'_>) {
        let chunk = pass.chunk;
        while let Some(&first) = chunk.get(pass.at) {
            let from = pass.at;
            if matches!(first, b'\n' | b'\r') {
                let end = line::end_at(chunk, from);
                pass.at = end.end;
                if self.open {
                    self.end_event(pass, end.end);
                }
                pass.found.boundary = Some(end.end);
                self.note_cr(pass, end);
                continue;
            }
            let is_comment = first == b':';
            if !is_comment && !self.open {
                self.open = true;
                pass.start = from.cast_signed();
            }
            let Some(end) = pass.ends.find(chunk, from) else {
                pass.at = chunk.len();
                self.begin_rest(&chunk[from..]);
                return;
            };
            pass.at = end.end;
            match first {
                b':' if !self.open => pass.found.boundary = Some(end.end),
                b'd' if !self.has_data => self.has_data = has_data(&chunk[from..end.content]),
                b'i' | b'r' => self.field(pass, from, end.content),
                _ => {}
            }
            self.note_cr(pass, end);
        }
    }

    /// A line begins that the chunk does not finish.
    fn begin_rest(&mut self, rest: &[u8]) {
        let may_be = |name: &[u8]| rest.iter().zip(name).all(|(have, want)| have == want);
        self.line = match rest {
            [b':', ..] => Line::Comment,
            // Of a longer one it can be said already whether it has data.
            _ if may_be(b"id") || may_be(b"retry") || (rest.len() <= 6 && may_be(b"data: ")) => {
                self.carry.clear();
                self.overflow = Overflow::None;
                self.keep(rest);
                Line::Kept
            }
            _ => {
                self.has_data |= has_data(rest);
                Line::Other
            }
        };
    }

    /// Keeps a part of a line that may mean something, as far as it matters.
    fn keep(&mut self, part: &[u8]) {
        let room = MAX_LINE_NAME + self.max_id.max(MAX_RETRY_DIGITS) + 1 - self.carry.len();
        let (fits, rest) = part.split_at(part.len().min(room));
        self.carry.extend_from_slice(fits);
        if !rest.is_empty() && self.overflow != Overflow::Nul {
            self.overflow = if line::is_id(rest) {
                Overflow::Some
            } else {
                Overflow::Nul
            };
        }
    }

    /// A kept line ends.
    fn end_kept(&mut self) {
        let (field, value) = line::field(&self.carry);
        let value = &self.carry[value..];
        match field {
            Field::Id if self.overflow == Overflow::Nul || !line::is_id(value) => {}
            Field::Id => self.next_id = Some(value.to_vec()),
            // One that did not fit has too many digits, wherever it was cut.
            Field::Retry => self.retry = line::retry(value).or(self.retry),
            Field::Data => self.has_data |= !value.is_empty(),
            Field::Event | Field::Unknown => {}
        }
    }

    /// A line ends that began in this chunk.
    #[inline]
    fn field(&mut self, pass: &mut Pass<'_>, from: usize, content: usize) {
        let text = &pass.chunk[from..content];
        let (field, value) = line::field(text);
        match field {
            Field::Id if line::is_id(&text[value..]) => {
                pass.named = Some(from + value..content);
            }
            Field::Retry => self.retry = line::retry(&text[value..]).or(self.retry),
            _ => {}
        }
    }

    #[inline]
    fn end_event(&mut self, pass: &mut Pass<'_>, end: usize) {
        self.open = false;
        pass.found.last_event_start = Some(pass.start);
        pass.found.last_event_end = Some(end);
        pass.found.has_data |= std::mem::take(&mut self.has_data);
        let before = self.next_id.take();
        if let Some(named) = pass.named.take() {
            pass.committed = Some(named);
        } else if let Some(id) = before {
            self.commit(&id);
        }
    }

    fn commit(&mut self, id: &[u8]) {
        let id = line::utf8(id);
        self.last_id.clear();
        if id.len() <= self.max_id {
            self.last_id.extend_from_slice(&id);
        }
    }

    #[inline]
    fn note_cr(&mut self, pass: &Pass<'_>, end: LineEnd) {
        self.after_cr = end.bare_cr && end.end == pass.chunk.len();
    }

    /// Keeps what the next chunk needs of this one.
    fn end(&mut self, pass: &Pass<'_>) {
        let back = pass.chunk.len().cast_signed() - pass.start;
        self.back = if self.open { back.cast_unsigned() } else { 0 };
        if let Some(range) = &pass.committed {
            self.commit(&pass.chunk[range.clone()]);
        }
        if let Some(range) = &pass.named {
            let fits = range.end.min(range.start + self.max_id + 1);
            self.next_id = Some(pass.chunk[range.start..fits].to_vec());
        }
    }
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX_ID)
    }
}

/// The longest beginning of a line with an id or a retry time that is not its value.
const MAX_LINE_NAME: usize = b"retry: ".len();

/// Whether a line, or its beginning, is a `data` field with a value.
#[inline]
fn has_data(line: &[u8]) -> bool {
    let (field, value) = line::field(line);
    field == Field::Data && value < line.len()
}

/// One pass over a chunk.
struct Pass<'a> {
    chunk: &'a [u8],
    ends: Ends,
    /// The first byte not yet read.
    at: usize,
    /// Where the open block began; negative if before the chunk.
    start: isize,
    found: Scan,
    /// The last id that the open block named in this chunk, committed with it.
    named: Option<Range<usize>>,
    /// The last id committed in this chunk. Copied only at the chunk's end.
    committed: Option<Range<usize>>,
}

/// The line that the chunk before did not finish.
#[derive(Debug, Clone, Copy)]
enum Line {
    /// None.
    Start,
    /// A comment.
    Comment,
    /// One that may set the id or the retry time, or begins before it can be said whether it has data.
    Kept,
    /// Any other.
    Other,
}

/// What of a kept line did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    None,
    Some,
    /// There was a NUL in it.
    Nul,
}

#[cfg(test)]
mod tests;
