//! Why a session over a pipe did not begin, lost a message, or ended.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::NoRoom;
use crate::body::BodyError;
use crate::upstream::UpstreamError;

/// Why a pipe does not work, or not any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// The program could not be started.
    #[error("{program} could not be started for {upstream}")]
    Spawn {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process that would end the children of a killed gateway could not be started, so that no child
    /// is.
    #[error("the guard process for children (/bin/sh) does not work")]
    Guard {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// HTTP gave no response.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// A message was refused with this status.
    #[error("{upstream} refused a message with status {status}")]
    Refused {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// The status: 404 means that the server does not know the session.
        status: StatusCode,
    },
    /// The server does not know the session any more (404): the message that this answers did not run.
    #[error("{upstream} does not know the session any more")]
    SessionLost {
        /// Name of the upstream.
        upstream: Arc<str>,
    },
    /// So many requests of the session are open that another one is not sent.
    #[error("{limit} requests are open in one session with {upstream}")]
    Full {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// How many there may be.
        limit: usize,
    },
    /// What should open a session of HTTP+SSE is no event stream.
    #[error("{upstream} opened no event stream, but answered with status {status}")]
    NotAStream {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// The status.
        status: StatusCode,
    },
    /// The response, or the first event, took too long.
    #[error("{upstream} named no endpoint within {after:?}")]
    NoEndpoint {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// The time-out.
        after: Duration,
        /// Whether it opened a stream by then.
        opened: bool,
    },
    /// The first event is not `endpoint`, or there is none.
    #[error("the stream of {upstream} does not begin with an endpoint: {saw}")]
    NotAnEndpoint {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// What there is instead.
        saw: String,
    },
    /// The endpoint may not be used.
    #[error("{upstream} names the endpoint {endpoint}, which is not used: {why}")]
    BadEndpoint {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// The endpoint: its beginning, without its query, which may be the session's only secret.
        endpoint: String,
        /// Why not.
        why: &'static str,
    },
    /// The session is over.
    #[error("the session with {upstream} is over")]
    Closed {
        /// Name of the upstream.
        upstream: Arc<str>,
    },
    /// The server ended, or was ended, while a message was on its way: it may have got it.
    #[error("{upstream} ended while a message was on its way")]
    Lost {
        /// Name of the upstream.
        upstream: Arc<str>,
    },
    /// The child does not take its input any more; it did not get the whole message.
    #[error("writing to {upstream} failed")]
    Write {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The child's output could not be read.
    #[error("reading from {upstream} failed")]
    Read {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The child ended.
    #[error("the process of {upstream} ended ({status})")]
    Exited {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// How.
        status: ExitStatus,
    },
    /// The server ended its stream, or the child closed its output and runs on.
    #[error("{upstream} ended its stream of messages")]
    Ended {
        /// Name of the upstream.
        upstream: Arc<str>,
    },
    /// The event stream broke off, or was silent for too long.
    #[error("the event stream of {upstream} was lost")]
    Body {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// How.
        #[source]
        source: BodyError,
    },
    /// One message is larger than the limit.
    #[error("a message of {upstream} exceeds {limit} bytes")]
    TooLarge {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A message was to be held whole, and there is no room for it now.
    #[error("a message of {upstream} cannot be held")]
    NoRoom {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// How much room there is.
        #[source]
        source: NoRoom,
    },
    /// The child writes other things than messages to its output.
    #[error("{upstream} wrote {lines} lines in a row that are no messages, the last is {last}")]
    Noise {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// How many lines.
        lines: usize,
        /// The beginning of the last one, in quotes.
        last: String,
    },
}

impl PipeError {
    /// Whether the server certainly did not get the message that could not be sent.
    #[must_use]
    pub fn is_undelivered(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_unsent(),
            Self::Refused { status, .. } => status.is_client_error(),
            Self::Spawn { .. } | Self::Guard { .. } | Self::Closed { .. } | Self::Write { .. } => {
                true
            }
            Self::SessionLost { .. } | Self::Full { .. } => true,
            _ => false,
        }
    }
}
