//! Typed identifiers. None of them is interchangeable with another (F19):
//!
//! ```compile_fail,E0308
//! use thinpipe_proto::session::{SessionId, UpstreamSessionId};
//!
//! fn to_upstream(id: &UpstreamSessionId) {}
//! to_upstream(&SessionId::from_random([0; 16]));
//! ```

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// The longest session id or event id Thinpipe takes from a peer, in bytes.
pub const MAX_ID: usize = 1024;

/// A value that is no valid identifier: empty, too long, or not visible ASCII (0x21 to 0x7E).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("identifiers are 1 to {MAX_ID} characters of visible ASCII")]
pub struct InvalidId;

/// An event id that no header can carry, so that nothing can be resumed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("resumable event ids are 1 to {MAX_ID} bytes without control characters and outer blanks")]
pub struct InvalidEventId;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident($kept:ty), $keep:expr, $shown:ty) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($kept);

        impl $name {
            /// Takes bytes that came from a peer.
            ///
            /// # Errors
            /// [`InvalidId`] unless they are 1 to [`MAX_ID`] characters of visible ASCII.
            pub fn from_bytes(bytes: Bytes) -> Result<Self, InvalidId> {
                let valid = !bytes.is_empty()
                    && bytes.len() <= MAX_ID
                    && bytes.iter().all(|b| (0x21..=0x7e).contains(b));
                if valid { Ok(Self($keep(bytes))) } else { Err(InvalidId) }
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).unwrap_or_default()
            }

            /// The identifier as bytes, for a header.
            #[must_use]
            pub fn as_bytes(&self) -> &$shown {
                &self.0
            }
        }

        /// Tables can be asked with bytes from a header, without making an identifier first.
        impl Borrow<[u8]> for $name {
            fn borrow(&self) -> &[u8] {
                &self.0
            }
        }

        /// Shows the first six characters only: ids are secrets and logs are not.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = self.as_str();
                write!(f, "{}…", &text[..text.len().min(6)])
            }
        }
    };
}

identifier! {
    /// The gateway's (or server's) own session id, shown to the client. It is half as large as the others, since
    /// there are thousands at one time, each of them in several tables.
    SessionId(Arc<[u8]>), |bytes: Bytes| Arc::from(&bytes[..]), [u8]
}
identifier! {
    /// The session id an upstream server issued; never shown to a client.
    UpstreamSessionId(Bytes), std::convert::identity, Bytes
}
identifier! {
    /// One running gateway process. A process that starts again is another node, so that nothing meant for
    /// the one before reaches it.
    NodeId(Bytes), std::convert::identity, Bytes
}
/// An SSE event id that a `Last-Event-ID` header can carry back.
///
/// WHATWG HTML allows nearly any text as an id, spaces and other scripts included, and a header nearly
/// any bytes; how a client encodes the one in the other differs (UTF-8 in browsers, Latin-1 in Node).
/// So the bytes are opaque here, and are only kept from breaking a header.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Bytes);

impl EventId {
    /// Takes bytes that came from a peer.
    ///
    /// # Errors
    /// [`InvalidEventId`] unless they are 1 to [`MAX_ID`] bytes that a header's value can hold
    /// (RFC 9110 5.5): no control characters but the tab, and no blank at either end, where a
    /// recipient would drop it.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, InvalidEventId> {
        let is_blank = |b: Option<&u8>| b.is_none_or(|b| matches!(b, b' ' | b'\t'));
        let fits = |b: &u8| (*b >= 0x20 && *b != 0x7f) || *b == b'\t';
        let valid = bytes.len() <= MAX_ID
            && !is_blank(bytes.first())
            && !is_blank(bytes.last())
            && bytes.iter().all(fits);
        if valid {
            Ok(Self(bytes))
        } else {
            Err(InvalidEventId)
        }
    }

    /// The id as bytes, for a header.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Shows the first six characters only, as for session ids.
impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(6)];
        write!(f, "{}…", shown.escape_ascii())
    }
}

impl SessionId {
    /// Makes an id of 128 random bits: 32 hexadecimal digits.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(hexadecimal(&random).as_bytes().into())
    }
}

impl NodeId {
    /// Makes an id of 96 random bits: 24 hexadecimal digits.
    #[must_use]
    pub fn from_random(random: [u8; 12]) -> Self {
        Self(hexadecimal(&random).into())
    }

    /// No node: whom a session belongs to that one node has given up and no other has taken yet.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Bytes::from_static(b"-"))
    }

    /// Whether it is no node.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.0 == "-"
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    text
}

/// Who makes a request, as authentication found out. Another principal's session does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Principal {
    /// Nobody authenticates here.
    #[default]
    Anonymous,
    /// An authenticated name.
    Named(Arc<str>),
}

/// Number of a stream within its session; never the session's id (F18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    /// B15, R068
    #[test]
    fn b15_ids_are_visible_ascii_of_bounded_length() {
        let taken = |text: &[u8]| SessionId::from_bytes(Bytes::copy_from_slice(text)).is_ok();
        assert!(taken(b"!") && taken(b"~") && taken(&[b'a'; MAX_ID]));
        for refused in [
            &b""[..],
            b" ",
            b"a b",
            b"a\n",
            b"\x7f",
            b"\xc3\xa9",
            &[b'a'; MAX_ID + 1],
        ] {
            assert!(!taken(refused), "{}", refused.escape_ascii());
        }
    }

    /// R115, R161: what a header can carry is taken as it is, whatever a server numbers its events by.
    #[test]
    fn r115_event_ids_are_what_a_header_can_carry() {
        let taken = |id: &[u8]| EventId::from_bytes(Bytes::copy_from_slice(id)).is_ok();
        for id in [
            &b"0/0"[..],
            b"stream 1, event 2",
            b"a\tb",
            "événement-7".as_bytes(),
            b"\xe9v",
            &[b'a'; MAX_ID],
        ] {
            assert!(taken(id), "{}", id.escape_ascii());
        }
        for id in [
            &b""[..],
            b" ",
            b" a",
            b"a ",
            b"\ta",
            b"a\x01b",
            b"a\x7f",
            b"a\nb",
            &[b'a'; MAX_ID + 1],
        ] {
            assert!(!taken(id), "{}", id.escape_ascii());
        }
    }

    #[test]
    fn an_id_of_our_own_carries_all_its_random_bits() {
        let id = SessionId::from_random(*b"\x00\x01\x0f\x10\xff56789abcdef");
        assert_eq!(id.as_str(), "00010f10ff3536373839616263646566");
        assert_eq!(id.as_bytes(), id.as_str().as_bytes());
        let again = SessionId::from_bytes(Bytes::copy_from_slice(id.as_bytes()));
        assert_eq!(again, Ok(id));
    }

    /// F19: what is a type of its own cannot be swapped for another; the example at the top of this
    /// module shows that such code does not compile.
    #[test]
    fn f19_every_identifier_is_a_type_of_its_own() {
        use std::any::TypeId;
        let types = [
            TypeId::of::<SessionId>(),
            TypeId::of::<UpstreamSessionId>(),
            TypeId::of::<NodeId>(),
            TypeId::of::<StreamId>(),
            TypeId::of::<EventId>(),
            TypeId::of::<Principal>(),
        ];
        let distinct: std::collections::HashSet<_> = types.into_iter().collect();
        assert_eq!(distinct.len(), types.len());
    }

    /// A13: logs do not show ids in full.
    #[test]
    fn a13_debug_output_is_cut() {
        let debug = |text: &'static str| {
            format!(
                "{:?}",
                EventId::from_bytes(Bytes::from_static(text.as_bytes())).unwrap()
            )
        };
        assert_eq!(debug("secret-session"), "secret…");
        assert_eq!(debug("abc"), "abc…");
        assert_eq!(debug("a é bcd"), "a \\xc3\\xa9 b…");
    }
}
