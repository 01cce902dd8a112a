//! Bodies: pulled, never pushed.
//!
//! A [`BodyStream`] is polled by whoever writes it to a socket, and appends what is ready to the
//! writer's own buffer. Nothing is read ahead of the reader: backpressure is a poll that returns
//! `Pending`.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::byte_budget::{ByteBudget, Gathering, NoRoom};

/// A boxed future that can move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What one poll of a body gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// Bytes were appended; more may come.
    More,
    /// The body is complete. Bytes may have been appended by this poll too.
    End,
}

/// Why a body broke off before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The connection that carried it was lost.
    #[error("the connection closed before the body was complete")]
    Incomplete,
    /// Reading from the connection failed.
    #[error("reading the body failed")]
    Io(#[source] std::io::Error),
    /// The framing of the body (chunk sizes, trailers) is malformed.
    #[error("the framing of the body is malformed: {0}")]
    Framing(&'static str),
    /// Longer than whoever reads it allows.
    #[error("the body exceeds {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Nothing came for too long.
    #[error("no byte of the body came for too long")]
    TimedOut,
    /// It was to be held whole, and there is no room for it now.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The time for the whole of it is over, however steadily it came.
    #[error("the body was not complete in the time that a whole exchange may take")]
    Late,
    /// The producer gave up; what it had to say has been said.
    #[error("{0}")]
    Aborted(String),
}

impl BodyError {
    /// Whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Late)
    }
}

/// A stream of bytes, pulled by the socket that it is written to.
pub trait BodyStream: Send + 'static {
    /// Appends what is ready to `out`, at most about 32 KiB a call.
    ///
    /// `Ready(Ok(More))` only if at least one byte was appended; `Pending` if nothing is ready.
    ///
    /// # Errors
    /// [`BodyError`] when the body breaks off. The reader must then not pretend that it was complete.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>>;

    /// Bytes still to come, if that is known.
    fn remaining(&self) -> Option<u64> {
        None
    }

    /// For event streams: whether what was appended so far ends between two events, so that a
    /// comment or another event may be joined on.
    fn at_boundary(&self) -> bool {
        true
    }

    /// For event streams: silence after which a comment is written, if it is not what
    /// [`Limits::keep_alive`](crate::server::Limits::keep_alive) says.
    fn keep_alive(&self) -> Option<Duration> {
        None
    }

    /// Asks the stream to end early because this process shuts down. Appends what the client should
    /// still see (a `retry`, an error in band) and returns `true` if the stream is now over; `false`
    /// if it would rather run on. With `force`, it must end.
    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        let _ = out;
        force
    }

    /// Nobody waits for its bytes any more: from now on its reader would come by the clock, and need not be
    /// woken when bytes come. `true`: it is not woken any more. It spares a wake-up for each event of a
    /// stream that is only read to its end.
    fn unwatch(&mut self) -> bool {
        false
    }

    /// How long nothing comes says nothing from now on: its reader has a time-out of its own.
    fn outwait_silence(&mut self) {}

    /// The reader went away before the end. `Some` is what must still be done (an answer drained so
    /// that the call ends as the server means it); `None` drops the body at once.
    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        None
    }
}

/// A body.
#[derive(Default)]
pub enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes are here.
    Full(Bytes),
    /// Bytes come as they are pulled.
    Stream(Box<dyn BodyStream>),
}

impl Body {
    /// A streamed body.
    pub fn stream(stream: impl BodyStream) -> Self {
        Self::Stream(Box::new(stream))
    }

    /// Bytes still to come, if that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.remaining(),
        }
    }

    /// Reads all of it. What it takes comes out of `budget`, for as long as anybody keeps a part of the
    /// bytes. A body that is here already is as large as a read and costs nothing.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] as soon as more than `limit` bytes have come (or are announced),
    /// [`BodyError::NoRoom`] likewise when the budget is used up, [`BodyError::Late`] at
    /// `deadline`, otherwise what the stream reports.
    pub async fn collect(
        self,
        limit: usize,
        deadline: Instant,
        budget: &ByteBudget,
    ) -> Result<Bytes, BodyError> {
        let gathered = tokio::time::timeout_at(deadline.into(), self.gather(limit, budget));
        gathered.await.unwrap_or(Err(BodyError::Late))
    }

    /// The same, however long it takes.
    pub(crate) async fn gather(
        self,
        limit: usize,
        budget: &ByteBudget,
    ) -> Result<Bytes, BodyError> {
        let mut stream = match self {
            Self::Empty => return Ok(Bytes::new()),
            Self::Full(bytes) if bytes.len() <= limit => return Ok(bytes),
            Self::Full(_) => return Err(BodyError::TooLarge { limit }),
            Self::Stream(stream) => stream,
        };
        let length = stream.remaining();
        let length = length.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        if length.is_some_and(|n| n > limit) {
            return Err(BodyError::TooLarge { limit });
        }
        let mut whole = match length {
            Some(length) => Gathering::announced(budget, length)?,
            None => Gathering::up_to(budget, limit),
        };
        loop {
            let filled = poll_fn(|cx| stream.poll_fill(cx, &mut whole.bytes)).await?;
            if whole.bytes.len() > limit {
                return Err(BodyError::TooLarge { limit });
            }
            whole.grown()?;
            if filled == Filled::End {
                return Ok(whole.finish());
            }
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }
}
