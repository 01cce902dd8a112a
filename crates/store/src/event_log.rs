//! What streams keep where other nodes can read it, so that a client resumes after the node that held its
//! stream is gone.

use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId, StreamId};

use crate::{BoxFuture, StoreError};

/// One stream of one session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The session it is of.
    pub session: SessionId,
    /// Its number there.
    pub stream: StreamId,
}

/// What is known of a stream beside its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    /// Who appends to it.
    pub owner: NodeId,
    /// The request that it answers, its id as JSON text. `None`: it answers none, and is never finished while
    /// its session lives.
    pub request: Option<Bytes>,
}

/// One event: a message with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number in the stream. The first is 1, as 0 is the beginning itself; each is one more than that
    /// before it.
    pub sequence: u64,
    /// JSON text.
    pub message: Bytes,
    /// Nothing comes after it.
    pub is_last: bool,
}

/// How much is kept, and for how long (protocol notes 6.3). Whichever is reached first, the oldest go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Events of a stream. Default: 1,000.
    pub max_events: usize,
    /// Bytes of a stream; a single event may be larger. Default: 1 MiB.
    pub max_bytes: usize,
    /// Bytes of all streams of a session; a single event may be larger. The oldest of any stream go. Default: 8 MiB.
    pub session_bytes: usize,
    /// How long an event is kept. Default: 5 min.
    pub age: Duration,
    /// How long a stream is kept after its last event. Default: 60 s.
    pub finished_for: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            max_events: 1_000,
            max_bytes: 1 << 20,
            session_bytes: 8 << 20,
            age: Duration::from_secs(300),
            finished_for: Duration::from_secs(60),
        }
    }
}

/// What was read of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// Of the stream.
    pub head: StreamHead,
    /// In order, without a gap after what was asked for.
    pub entries: Vec<LogEntry>,
    /// Number of the newest event there is.
    pub newest: u64,
    /// Its last event is there: nothing is ever appended any more.
    pub is_finished: bool,
}

/// Why a log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// There is no such stream (any more).
    #[error("this stream is not kept (any more)")]
    Unknown,
    /// What comes after the event asked for is not there (any more), or never was: nothing is skipped over.
    #[error("what came after this event is not kept any more")]
    Evicted,
    /// Another node appends to the stream now.
    #[error("the stream belongs to another node now")]
    Moved,
    /// Its last event is there already.
    #[error("the stream is finished")]
    Finished,
    /// The session has [`MAX_STREAMS`] streams that are not finished.
    #[error("the session has too many streams that are not finished")]
    Full,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Streams that are kept of one session. The one that was finished first goes first.
pub const MAX_STREAMS: usize = 1_000;

/// How long a stream is kept that nobody finishes, since it was last opened, read or appended to: longer than a
/// session lives without being used. It is what is left of a session that nobody could [`forget`](EventLog::forget).
pub const UNFINISHED_FOR: Duration = Duration::from_secs(24 * 3600);

/// The bounded history of streams, kept only so that they can be resumed. All operations are atomic for one
/// stream.
pub trait EventLog: Send + Sync + 'static {
    /// Begins a stream, or takes over one that is there: from now on only `head.owner` appends. Gives the number
    /// of its newest event, 0 for a new one. The request of a stream that is there stays.
    ///
    /// # Errors
    /// [`LogError::Finished`], [`LogError::Full`], [`LogError::Store`].
    fn open<'a>(
        &'a self,
        key: &'a StreamKey,
        head: &'a StreamHead,
    ) -> BoxFuture<'a, Result<u64, LogError>>;

    /// Appends events whose numbers follow on the newest.
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Moved`] if `owner` is not the stream's, [`LogError::Finished`] (also if
    /// one follows on the last of them), [`LogError::Evicted`] if the numbers do not follow, [`LogError::Store`].
    /// Then none of them is appended.
    fn append<'a>(
        &'a self,
        key: &'a StreamKey,
        owner: &'a NodeId,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<(), LogError>>;

    /// Appends the last event of a stream of any owner if it has none: owner and rescuer cannot both answer
    /// (protocol notes 5.8, 5). Gives its number.
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Finished`], [`LogError::Store`].
    fn finish<'a>(
        &'a self,
        key: &'a StreamKey,
        message: Bytes,
    ) -> BoxFuture<'a, Result<u64, LogError>>;

    /// Up to `limit` events after the one with number `after`.
    ///
    /// # Errors
    /// [`LogError::Unknown`], [`LogError::Evicted`], [`LogError::Store`].
    fn read<'a>(
        &'a self,
        key: &'a StreamKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<LogPage, LogError>>;

    /// Forgets all streams of a session.
    ///
    /// # Errors
    /// [`LogError::Store`].
    fn forget<'a>(&'a self, session: &'a SessionId) -> BoxFuture<'a, Result<(), LogError>>;
}
