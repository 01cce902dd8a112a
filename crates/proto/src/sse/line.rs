//! What one line says. Shared by all readers, so that they cannot disagree.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use super::MAX_RETRY;

/// U+FEFF, dropped once at the very start of a stream.
pub(super) const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A `retry` with more digits than this is ignored, so that a reader need not hold more.
pub(super) const MAX_RETRY_DIGITS: usize = 64;

/// The fields that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Data,
    Event,
    Id,
    Retry,
    Unknown,
}

/// Reads a line that is neither empty nor a comment: its field, and where the value begins.
///
/// Only one space after the colon is removed; without a colon the value is empty.
#[inline]
pub(super) fn field(line: &[u8]) -> (Field, usize) {
    let (field, name) = match line.first() {
        Some(b'd') => (Field::Data, &b"data"[..]),
        Some(b'i') => (Field::Id, &b"id"[..]),
        Some(b'e') => (Field::Event, &b"event"[..]),
        Some(b'r') => (Field::Retry, &b"retry"[..]),
        _ => return (Field::Unknown, line.len()),
    };
    match line.strip_prefix(name) {
        Some([b':', b' ', ..]) => (field, name.len() + 2),
        Some([b':', ..]) => (field, name.len() + 1),
        Some([]) => (field, line.len()),
        _ => (Field::Unknown, line.len()),
    }
}

/// Where a line ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineEnd {
    /// Right after the line's content.
    pub(super) content: usize,
    /// Right after its terminator, as far as that lies in the chunk.
    pub(super) end: usize,
    /// It ended in a CR that no LF follows in this chunk.
    pub(super) bare_cr: bool,
}

/// Finds the end of the line that `chunk[from..]` begins or continues.
#[inline]
pub(super) fn find_end(chunk: &[u8], from: usize) -> Option<LineEnd> {
    Ends::Any.find(chunk, from)
}

/// Which line ends a chunk has. Most have no CR, and looking for one byte, then for the other, is
/// faster than looking for both at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ends {
    Lf,
    Any,
}

impl Ends {
    pub(super) fn of(chunk: &[u8]) -> Self {
        if memchr::memchr(b'\r', chunk).is_some() {
            Self::Any
        } else {
            Self::Lf
        }
    }

    /// Finds the end of the line that `chunk[from..]` begins or continues.
    #[inline]
    pub(super) fn find(self, chunk: &[u8], from: usize) -> Option<LineEnd> {
        let rest = chunk.get(from..)?;
        match self {
            Self::Lf => {
                let content = from + memchr::memchr(b'\n', rest)?;
                Some(LineEnd {
                    content,
                    end: content + 1,
                    bare_cr: false,
                })
            }
            Self::Any => Some(end_at(chunk, from + memchr::memchr2(b'\n', b'\r', rest)?)),
        }
    }
}

/// The end of the line whose terminator begins at `content`.
#[inline]
pub(super) fn end_at(chunk: &[u8], content: usize) -> LineEnd {
    if chunk[content] == b'\n' {
        LineEnd {
            content,
            end: content + 1,
            bare_cr: false,
        }
    } else if chunk.get(content + 1) == Some(&b'\n') {
        LineEnd {
            content,
            end: content + 2,
            bare_cr: false,
        }
    } else {
        LineEnd {
            content,
            end: content + 1,
            bare_cr: true,
        }
    }
}

/// WHATWG HTML 9.2.6: a NUL in the id voids the field.
#[inline]
pub(super) fn is_id(value: &[u8]) -> bool {
    memchr::memchr(0, value).is_none()
}

/// The value of a `retry` field in milliseconds: ASCII digits only, at most [`MAX_RETRY`].
pub(super) fn retry(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || value.len() > MAX_RETRY_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let millis = value.iter().fold(0_u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    Some(Duration::from_millis(millis).min(MAX_RETRY))
}

/// The bytes as UTF-8, each invalid sequence replaced by U+FFFD. Borrowed if nothing was invalid.
#[inline]
pub(super) fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    match simdutf8::basic::from_utf8(bytes) {
        Ok(_) => Cow::Borrowed(bytes),
        Err(_) => Cow::Owned(String::from_utf8_lossy(bytes).into_owned().into_bytes()),
    }
}

/// What a reader swallows of a stream's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// That many bytes of the BOM (0 to 2) have come, and nothing else.
    Bom(usize),
    /// The beginning is past.
    Past,
}

/// What the BOM reader made of the next bytes of a beginning.
pub(super) enum Head {
    /// They are all part of a BOM that is not complete.
    Unfinished,
    /// A BOM ended; the stream goes on at this offset.
    Dropped(usize),
    /// There is no BOM: these bytes of earlier chunks, which looked like one, are content.
    Content(Range<usize>),
}

impl Start {
    /// Reads the beginning of a stream. `chunk` must not be empty.
    pub(super) fn read(&mut self, chunk: &[u8]) -> Head {
        let Self::Bom(seen) = *self else {
            return Head::Content(0..0);
        };
        let rest = &BOM[seen..];
        if chunk.starts_with(rest) {
            *self = Self::Past;
            Head::Dropped(rest.len())
        } else if rest.starts_with(chunk) {
            *self = Self::Bom(seen + chunk.len());
            Head::Unfinished
        } else {
            *self = Self::Past;
            Head::Content(0..seen)
        }
    }
}
