//! What the gateway stores with a session's record, so that any process can go on with the session: which
//! replica serves it, and under which id. The transport below carries it without looking (F7).

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::server::Session;

use crate::held::Facts;
use crate::session::SessionState;
use crate::sync::lock;

/// The form that is written, and the only one that is read.
const VERSION: u32 = 1;

/// What is attached to a session's record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attached {
    /// Name of the replica that serves the session; `None` if the upstream has only one, or any of them
    /// does.
    pub(crate) replica: Option<Arc<str>>,
    /// The server's own id of the session; `None` for a server that issued none.
    pub(crate) upstream_session: Option<UpstreamSessionId>,
    /// What a process needs besides that goes on with a session which was held by another; JSON.
    pub(crate) held: Option<Box<RawValue>>,
}

/// An attachment that this version of the gateway has not written: what the session was is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is attached to the session's record cannot be read")]
pub(crate) struct Unreadable;

/// A text as it is in what is read, where nothing in it is escaped. In an `Option` it has to be a type of its own, or
/// serde would copy it.
#[derive(Serialize, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What it looks like in the store.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    v: u32,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    replica: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    session: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    held: Option<&'a RawValue>,
}

impl Attached {
    /// A session that the server knows by this id, at an upstream of one replica.
    pub(crate) fn to(id: Option<UpstreamSessionId>) -> Self {
        Self {
            upstream_session: id,
            ..Self::default()
        }
    }

    /// Whether it is the same session of the server, at the same replica.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.upstream_session == other.upstream_session && self.replica == other.replica
    }

    /// Whether another process can go on with a session of this attachment, or open it anew.
    pub(crate) fn is_whole(&self) -> bool {
        Facts::decode(self.held.as_deref()).is_some()
    }

    /// As it is stored. Nothing is what says nothing.
    pub(crate) fn encode(&self) -> Bytes {
        let says_nothing =
            self.replica.is_none() && self.upstream_session.is_none() && self.held.is_none();
        if says_nothing {
            return Bytes::new();
        }
        let id = self.upstream_session.as_ref();
        let stored = Stored {
            v: VERSION,
            replica: self.replica.as_deref().map(|name| Text(name.into())),
            session: id.map(|id| Text(id.as_str().into())),
            held: self.held.as_deref(),
        };
        let text = serde_json::to_vec(&stored).expect("text and JSON under fixed names is JSON");
        // Sessions keep it: with no room for more.
        text.into_boxed_slice().into()
    }

    /// # Errors
    /// [`Unreadable`] for anything but what [`encode`](Self::encode) has written.
    pub(crate) fn decode(text: &Bytes) -> Result<Self, Unreadable> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let stored: Stored<'_> = serde_json::from_slice(text).map_err(|_| Unreadable)?;
        if stored.v != VERSION {
            return Err(Unreadable);
        }
        let id = stored.session.map(|Text(id)| {
            // Both are kept: the text is there once.
            let id = match id {
                Cow::Borrowed(id) => text.slice_ref(id.as_bytes()),
                Cow::Owned(id) => Bytes::from(id),
            };
            UpstreamSessionId::from_bytes(id).map_err(|_| Unreadable)
        });
        Ok(Self {
            replica: stored.replica.map(|Text(name)| name.into()),
            upstream_session: id.transpose()?,
            held: stored.held.map(ToOwned::to_owned),
        })
    }
}

/// What was read last of a session's attachment. It is asked for with every message and hardly ever
/// changes. Boxed: of thousands of sessions nobody has asked yet.
#[derive(Debug, Default)]
pub(crate) struct Read(Mutex<Option<Box<(Bytes, Decoded)>>>);

type Decoded = Result<Arc<Attached>, Unreadable>;

impl Read {
    fn of(&self, stored: Bytes) -> Decoded {
        let mut read = lock(&self.0);
        if let Some((before, attached)) = read.as_deref()
            && is_same(before, &stored)
        {
            return attached.clone();
        }
        let attached = Attached::decode(&stored).map(Arc::new);
        *read = Some(Box::new((stored, attached.clone())));
        attached
    }
}

/// What is attached to a session.
///
/// # Errors
/// [`Unreadable`]: nobody here can go on with the session.
pub(crate) fn attached(session: &Session) -> Result<Arc<Attached>, Unreadable> {
    let stored = session.attachment();
    match session.state(SessionState::default) {
        Some(state) if !stored.is_empty() => state.read.of(stored),
        _ => Attached::decode(&stored).map(Arc::new),
    }
}

/// The server's own id of a session; `None` if it has none, or nobody knows it.
pub(crate) fn upstream_session(session: &Session) -> Option<UpstreamSessionId> {
    attached(session).ok()?.upstream_session.clone()
}

/// Whether these are the same bytes in the same place. The place of what is kept is not given to others,
/// so that equal places mean equal bytes.
fn is_same(a: &Bytes, b: &Bytes) -> bool {
    a.as_ptr() == b.as_ptr() && a.len() == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &'static str) -> UpstreamSessionId {
        UpstreamSessionId::from_bytes(Bytes::from_static(text.as_bytes())).unwrap()
    }

    fn full() -> Attached {
        Attached {
            replica: Some("eu-\"1\"".into()),
            upstream_session: Some(id("up\\1")),
            held: Some(RawValue::from_string(r#"{"level":"info"}"#.to_owned()).unwrap()),
        }
    }

    /// F5: whatever is attached is read again as it was.
    #[test]
    fn f5_what_is_written_is_read() {
        let read = Attached::decode(&full().encode()).unwrap();
        assert_eq!(read.replica.as_deref(), Some("eu-\"1\""));
        assert_eq!(read.upstream_session, Some(id("up\\1")));
        assert_eq!(read.held.unwrap().get(), r#"{"level":"info"}"#);
        let nothing = Attached::default().encode();
        assert!(nothing.is_empty());
        let read = Attached::decode(&nothing).unwrap();
        assert!(read.replica.is_none() && read.upstream_session.is_none() && read.held.is_none());
    }

    /// F13: the form has a version, and stays as it is.
    #[test]
    fn f13_the_form_is_versioned() {
        let text = r#"{"v":1,"session":"up-1"}"#;
        assert_eq!(Attached::to(Some(id("up-1"))).encode(), text);
        // What a later version adds to it is not in the way.
        let later = Bytes::from_static(br#"{"v":1,"session":"up-1","added":true}"#);
        assert!(Attached::decode(&later).is_ok());
    }

    #[test]
    fn what_it_has_not_written_is_not_guessed() {
        for stored in [
            &b"up-1"[..],
            b"{}",
            br#"{"session":"up-1"}"#,
            br#"{"v":2,"session":"up-1"}"#,
            br#"{"v":1,"session":""}"#,
            br#"{"v":1,"session":"a b"}"#,
            br#"{"v":1,"session":7}"#,
            br#"{"v":1,"session":"up-1""#,
            b"\xff",
        ] {
            assert_eq!(
                Attached::decode(&Bytes::from_static(stored)).unwrap_err(),
                Unreadable,
                "{}",
                stored.escape_ascii()
            );
        }
    }

    /// F16: the server's id is not there a second time beside what it was read from.
    #[test]
    fn f16_an_id_is_kept_where_it_was_read() {
        let stored = Attached::to(Some(id("up-1"))).encode();
        let read = Attached::decode(&stored).unwrap().upstream_session.unwrap();
        assert!(stored.as_ptr_range().contains(&read.as_bytes().as_ptr()));
    }

    /// It is read once, until it changes.
    #[test]
    fn what_was_read_is_kept_until_it_changes() {
        let read = Read::default();
        let stored = full().encode();
        let first = read.of(stored.clone()).unwrap();
        assert!(Arc::ptr_eq(&first, &read.of(stored).unwrap()));
        let other = read.of(Attached::to(Some(id("up-2"))).encode()).unwrap();
        assert_eq!(other.upstream_session, Some(id("up-2")));
        assert_eq!(
            read.of(Bytes::from_static(b"up-2")).unwrap_err(),
            Unreadable
        );
    }
}
