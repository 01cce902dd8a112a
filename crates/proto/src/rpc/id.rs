//! Ids of requests: value semantics, original text.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use crate::rpc::scan::{Refused, Scanner};
use crate::rpc::{MessageError, code, text};

/// Long enough for a UUID with its quotes.
const INLINE: usize = 38;

/// A JSON-RPC id: a string or an integer, with the text it came in. `1` and `"1"` are different;
/// so are `"a"` and `"\u0061"` only in text, not in value: equality is by value.
///
/// It owns its text, so that keeping an id does not keep the message it came in.
#[derive(Clone)]
pub struct RequestId {
    text: Storage,
}

#[derive(Clone)]
enum Storage {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Bytes),
}

impl RequestId {
    /// Parses an id from its JSON text. White space around it is dropped.
    ///
    /// # Errors
    /// Anything but a string or an integer is a [`MessageError`]: `-32700` if it is not JSON,
    /// `-32600` if it is.
    pub fn parse(raw: Bytes) -> Result<Self, MessageError> {
        let mut scanner = Scanner::new(&raw);
        scanner.space();
        let scanned = scanner.value(0).and_then(|span| {
            scanner.end()?;
            Ok(span)
        });
        match scanned {
            Ok(span) => Self::from_valid(span.of(&raw)).ok_or_else(|| MessageError {
                code: code::INVALID_REQUEST,
                reason: "an id is a string or an integer".to_owned(),
                id: None,
            }),
            Err(Refused) => Err(MessageError::from_fault(scanner.fault(), None)),
        }
    }

    /// An id that is an integer.
    #[must_use]
    pub fn from_integer(value: i64) -> Self {
        Self::store(value.to_string().as_bytes())
    }

    /// An id that is a string.
    #[must_use]
    pub fn from_text(value: &str) -> Self {
        let mut quoted = Vec::with_capacity(value.len() + 2);
        text::write_quoted(&mut quoted, value);
        Self::store(&quoted)
    }

    /// The id as JSON text, exactly as it came.
    #[must_use]
    pub fn as_json(&self) -> &[u8] {
        match &self.text {
            Storage::Inline { length, bytes } => {
                bytes.get(..usize::from(*length)).unwrap_or_default()
            }
            Storage::Heap(text) => text,
        }
    }

    /// Whether it is a string.
    #[must_use]
    pub fn is_string(&self) -> bool {
        self.as_json().first() == Some(&b'"')
    }

    /// Takes JSON text that the scanner has accepted; `None` unless it is a string or an integer.
    pub(super) fn from_valid(raw: &[u8]) -> Option<Self> {
        let fits = match raw {
            [b'"', ..] => true,
            [b'-', digits @ ..] | digits => digits.iter().all(u8::is_ascii_digit),
        };
        fits.then(|| Self::store(raw))
    }

    fn store(raw: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        let text = match (bytes.get_mut(..raw.len()), u8::try_from(raw.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(raw);
                Storage::Inline { length, bytes }
            }
            _ => Storage::Heap(Bytes::copy_from_slice(raw)),
        };
        Self { text }
    }

    fn has_escapes(&self) -> bool {
        memchr::memchr(b'\\', self.as_json()).is_some()
    }

    /// The text to compare, escapes resolved. The quotes stay, and keep strings and integers apart.
    fn value(&self) -> &[u8] {
        match self.as_json() {
            // JSON writes zero in two ways, and answers come back with the other one.
            b"-0" => b"0",
            text => text,
        }
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        if self.has_escapes() || other.has_escapes() {
            text::decoded(self.value()).eq(text::decoded(other.value()))
        } else {
            self.value() == other.value()
        }
    }
}

impl Eq for RequestId {}

/// By value, as equality: so that what is kept by id is gone through in the same order each time.
impl Ord for RequestId {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.has_escapes() || other.has_escapes() {
            text::decoded(self.value()).cmp(text::decoded(other.value()))
        } else {
            self.value().cmp(other.value())
        }
    }
}

impl PartialOrd for RequestId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for RequestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.has_escapes() {
            let value: Vec<u8> = text::decoded(self.value()).collect();
            value.hash(state);
        } else {
            self.value().hash(state);
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_json()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_by_their_values() {
        let id = |text: &'static str| RequestId::parse(text.into()).unwrap();
        let same = [(r#""a""#, r#""\u0061""#), ("0", "-0")];
        for (one, other) in same {
            assert_eq!(id(one).cmp(&id(other)), Ordering::Equal);
        }
        let mut ids = [r#""b""#, "7", r#""\u0061b""#, "-7", r#""a""#, r#""7""#].map(id);
        ids.sort();
        let again = |mut ids: [RequestId; 6]| {
            ids.reverse();
            ids.sort();
            ids
        };
        assert_eq!(again(ids.clone()), ids);
        assert!(id(r#""a""#) < id(r#""\u0061b""#) && id(r#""\u0061b""#) < id(r#""b""#));
    }
}
