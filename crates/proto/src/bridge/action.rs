//! What the machine wants done, and what it tells about itself.

use std::ops::Deref;

use bytes::Bytes;

use crate::rpc::{Message, MessageError, RequestId};

/// A client session that uses the upstream session. The caller chooses the numbers and does not use
/// one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u64);

/// A request of ours on the upstream session: the id it has there. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub(super) u64);

impl CallId {
    /// The request of this id; `None`: nobody here has written it.
    #[must_use]
    pub fn from_request_id(id: &RequestId) -> Option<Self> {
        super::association::call_of(id)
    }

    /// The id as JSON-RPC writes it.
    #[must_use]
    pub fn to_request_id(self) -> RequestId {
        // Ids are handed out one by one: no session lives for 2^63 of them.
        RequestId::from_integer(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
}

/// What the shell has to do next.
#[derive(Debug, Clone)]
pub enum Action {
    /// Write a message to the upstream.
    Write {
        /// The message. White space in it is the client's, line ends included: where messages are
        /// lines, make it one line first.
        message: Bytes,
        /// The request that it is, if it is one. Should writing it fail while the session lives on
        /// (HTTP+SSE: the POST is refused), say so with
        /// [`Reframing::write_failed`](super::Reframing::write_failed).
        call: Option<CallId>,
    },
    /// Give a message to a client session.
    Deliver(Delivery),
    /// A request is over and gets no response, as it was cancelled: its stream ends (protocol notes
    /// 5.1, "Cancel"). Nothing related to it follows.
    Finish {
        /// The client session.
        member: MemberId,
        /// The client's own id.
        request: RequestId,
    },
    /// Nobody waits for anything about a request any more: its stream, where it has one, may be closed.
    Release(CallId),
    /// The upstream session is over: close the connection or the child, and end the client sessions
    /// that are still attached. The last action there is.
    Close(End),
}

/// One message for one client session.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The client session.
    pub member: MemberId,
    /// The client's request that the message belongs to, by the client's own id; `None`: it belongs
    /// to none that is open, or nobody can tell.
    pub related: Option<RequestId>,
    /// The message, with the ids and tokens that this client knows.
    pub message: Relayed,
    /// What it is, for the choice of a stream, and for what to do if there is none.
    pub nature: Nature,
}

/// A message on its way, outlined where that costs nothing. It dereferences to its text.
#[derive(Debug, Clone)]
pub enum Relayed {
    /// It came so, or what was changed in it is known.
    Outlined(Message),
    /// Its text.
    Text(Bytes),
}

impl Relayed {
    /// The message; its text is outlined if it is not yet.
    ///
    /// # Errors
    /// [`MessageError`], for a text that is no message.
    pub fn into_message(self) -> Result<Message, MessageError> {
        match self {
            Self::Outlined(message) => Ok(message),
            Self::Text(text) => Message::parse(text),
        }
    }

    /// Its text.
    #[must_use]
    pub fn into_text(self) -> Bytes {
        match self {
            Self::Outlined(message) => message.source().clone(),
            Self::Text(text) => text,
        }
    }
}

impl Deref for Relayed {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        match self {
            Self::Outlined(message) => message.source(),
            Self::Text(text) => text,
        }
    }
}

impl From<Message> for Relayed {
    fn from(message: Message) -> Self {
        Self::Outlined(message)
    }
}

impl From<Bytes> for Relayed {
    fn from(text: Bytes) -> Self {
        Self::Text(text)
    }
}

impl Delivery {
    /// Whether it answers [`Self::related`], and so is the last message on that request's stream.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self.nature, Nature::Response)
    }
}

/// What a delivered message is (protocol notes 5.2, row "no GET stream open").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nature {
    /// The response to [`Delivery::related`].
    Response,
    /// A request of the server, with its id. If no stream can take it, say so with
    /// [`Reframing::undeliverable`](super::Reframing::undeliverable).
    Request(RequestId),
    /// "Read again": `list_changed` or `resources/updated`. May be held, and equal ones merged.
    ChangeNotice,
    /// A log message. May be dropped if there is no stream for it.
    Log,
    /// Any other notification.
    Notification,
}

/// Why an upstream session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Its only client session was detached.
    ClientLeft,
    /// Several may use it, and no client session does: none has for a while, or none may any more.
    Idle,
    /// The upstream is gone; the text is the one given to
    /// [`Reframing::upstream_lost`](super::Reframing::upstream_lost).
    UpstreamLost(String),
    /// The upstream did not answer `initialize` in time. It is never cancelled, so nobody knows
    /// what state the session is in.
    InitializeUnanswered,
    /// The upstream named a revision in its answer to `initialize` that this crate does not know
    /// or that has no `initialize`.
    UnknownRevision,
}

/// What was dropped so far, by cause. All of it is harmless to the client; much of it tells of a
/// peer that does not follow the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// Responses of the upstream to ids that are unknown, answered already or cancelled.
    pub upstream_responses: u64,
    /// Responses of clients to server requests that are not open in their session.
    pub client_responses: u64,
    /// Progress with a token of no open request, or that did not rise; both directions.
    pub progress: u64,
    /// Cancellations of what is not open, of `initialize`, or without a readable id.
    pub cancellations: u64,
    /// Server requests whose id is in use by another open one.
    pub server_requests: u64,
    /// Notifications that cannot be tied to one client session, or that a shared session does not
    /// pass on.
    pub notifications: u64,
}
