//! Why an upstream gave no response.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use super::exchange::Failure;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// No connection could be made; the request was not written.
    #[error("connecting to {upstream} failed")]
    Connect {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// What the socket said.
        #[source]
        source: io::Error,
    },
    /// The connection was lost after the request had been written: it may have run.
    #[error("the connection to {upstream} was lost before it answered")]
    Lost {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// What the socket said, if it said anything.
        #[source]
        source: Option<io::Error>,
    },
    /// A time-out passed.
    #[error("{upstream} did not {what} within {after:?}")]
    TimedOut {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// "accept a connection", "answer".
        what: &'static str,
        /// The time-out.
        after: Duration,
        /// Whether the request had been written by then.
        written: bool,
    },
    /// The budget of connections is used up.
    #[error("all {limit} connections to {upstream} are in use")]
    Exhausted {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// The budget.
        limit: usize,
    },
    /// The budget of event streams is used up. The request had been written: it may have run.
    #[error("all {limit} event streams of {upstream} are in use")]
    TooManyStreams {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// The budget.
        limit: usize,
    },
    /// What came back is not HTTP, or breaks a rule of it.
    #[error("{upstream} sent a malformed response: {reason}")]
    Malformed {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// Which rule.
        reason: String,
    },
    /// A redirect that may not be followed.
    #[error("{upstream} redirects{}, which is not followed: {why}", to(location))]
    Redirect {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// Where to: its beginning, with what cannot be seen as escapes. Empty if it does not say.
        location: String,
        /// Why it may not be followed.
        why: &'static str,
    },
}

impl UpstreamError {
    /// Whether the request certainly did not run.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Exhausted { .. } | Self::TimedOut { written: false, .. }
        )
    }
}

fn to(location: &str) -> String {
    match location {
        "" => String::new(),
        location => format!(" to {location}"),
    }
}

/// Errors of this upstream.
impl Inner {
    pub(super) fn failed(&self, failure: Failure) -> UpstreamError {
        let upstream = Arc::clone(&self.config.name);
        match failure {
            Failure::Lost {
                unsent: true,
                source,
                ..
            } => self.unreachable(source.unwrap_or_else(|| ErrorKind::UnexpectedEof.into())),
            Failure::Lost { source, .. } => UpstreamError::Lost { upstream, source },
            Failure::TimedOut { first_byte, unsent } => UpstreamError::TimedOut {
                upstream,
                what: "answer",
                after: if first_byte {
                    self.config.first_byte_timeout
                } else {
                    self.config.request_timeout
                },
                written: !unsent,
            },
            Failure::Malformed(reason) => self.malformed(reason),
        }
    }

    pub(super) fn unreachable(&self, source: io::Error) -> UpstreamError {
        UpstreamError::Connect {
            upstream: Arc::clone(&self.config.name),
            source,
        }
    }

    pub(super) fn not_connected(&self) -> UpstreamError {
        UpstreamError::TimedOut {
            upstream: Arc::clone(&self.config.name),
            what: "accept a connection",
            after: self.config.connect_timeout,
            written: false,
        }
    }

    pub(super) fn exhausted(&self) -> UpstreamError {
        UpstreamError::Exhausted {
            upstream: Arc::clone(&self.config.name),
            limit: self.config.max_connections,
        }
    }

    pub(super) fn too_many_streams(&self) -> UpstreamError {
        UpstreamError::TooManyStreams {
            upstream: Arc::clone(&self.config.name),
            limit: self.config.max_streams,
        }
    }

    pub(super) fn malformed(&self, reason: String) -> UpstreamError {
        UpstreamError::Malformed {
            upstream: Arc::clone(&self.config.name),
            reason,
        }
    }
}
