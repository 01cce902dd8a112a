//! What nodes say to each other: exchanges that one node has another answer, and news of sessions.
//!
//! A request for a session that another node holds is carried to that node whole, and the answer comes back in
//! pieces, of which a bounded number may be on their way ([`SendWindow`], [`ReceiveWindow`]). All of it is
//! [`Frame`]s, as bytes; who delivers them is not said here. They arrive in order and at most once, or not at
//! all: every piece has a number, and a gap ends its exchange.
//!
//! Nodes of different releases may meet: a frame of another version is refused with the number of its exchange,
//! so that the one who asked is told at once.

mod codec;
mod request;
mod window;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::rpc::RequestId;
use crate::session::{NodeId, SessionId};

pub use codec::{Malformed, decode, encode};
pub use request::{Target, TunnelRequest};
pub use window::{OutOfOrder, ReceiveWindow, Received, SendWindow, WINDOW_BYTES, WINDOW_PIECES};

/// The most bytes of a body that one frame carries.
pub const MAX_PIECE: usize = 64 << 10;

/// The most header fields of a request or an answer.
pub const MAX_FIELDS: usize = 256;

/// One exchange between two nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId {
    /// Who has asked.
    pub asker: NodeId,
    /// Which of its exchanges; it uses no number twice.
    pub number: u64,
}

/// What one node says to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Something about an exchange.
    Exchange(ExchangeId, Part),
    /// Something about a session that the other may know.
    News(News),
}

/// A part of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// From the asker: answer this.
    Ask(Box<TunnelRequest>),
    /// To the asker: the answer begins. It is the first piece of its body too, with number 0.
    Head(Box<Head>),
    /// To the asker: more of the body.
    Piece {
        /// One more than that of the piece before.
        number: u64,
        /// The bytes.
        piece: Piece,
    },
    /// To the asker: there is no (more of the) answer.
    Broken(Broken),
    /// From the asker: so much has been passed on, so that more may come.
    Acknowledge(Progress),
    /// From the asker, after silence: so much has been passed on, and is the exchange still there? The answer
    /// is [`Part::Sent`] or [`Part::Broken`].
    Probe(Progress),
    /// To the asker: so many pieces have been sent.
    Sent(u64),
    /// From the asker: nobody waits for the answer any more.
    Leave,
}

/// The beginning of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// HTTP status.
    pub status: StatusCode,
    /// What its body is.
    pub content: ContentKind,
    /// Fields beside those that follow from the content.
    pub headers: HeaderMap,
    /// Bytes of the whole body, if that is known.
    pub length: Option<u64>,
    /// The beginning of the body.
    pub piece: Piece,
}

/// What the body of an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentKind {
    /// One JSON-RPC message, or an array of them.
    Json,
    /// An event stream.
    EventStream,
    /// Anything else, with its type.
    Other(Option<HeaderValue>),
}

/// Some bytes of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// At most [`MAX_PIECE`].
    pub bytes: Bytes,
    /// It ends between two events, so that something may be joined on.
    pub at_boundary: bool,
    /// The body is complete.
    pub is_last: bool,
}

/// Why there is no (more of the) answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The session is not held there: nothing has run.
    NotHere,
    /// The node takes no such work now: nothing has run.
    Refused,
    /// The frame cannot be read there: nothing has run.
    Unreadable,
    /// There is no such exchange (any more): what was asked may have run.
    Unknown,
    /// The body broke off.
    Lost,
    /// The body broke off as nothing of it came for too long.
    TimedOut,
}

/// How much of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Pieces, the head among them.
    pub pieces: u64,
    /// Bytes of the body.
    pub bytes: u64,
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It has ended.
    Ended(SessionId),
    /// Its record is another one than before.
    Changed(SessionId),
    /// Its client has cancelled a request, which runs on one node or on none.
    Cancelled(SessionId, RequestId),
    /// Its standalone stream has been opened on this node, and is to end on all others.
    Listening(SessionId, NodeId),
    /// Its standalone stream has been replaced by another one (R111).
    Replaced(SessionId),
}
