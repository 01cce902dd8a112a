//! The client side of Streamable HTTP: one [`Upstream`] for each MCP server endpoint.
//!
//! A request is consumed by sending it, and its response is one value whose body has not been read:
//! there is no way to ask an upstream the same thing twice by accident.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};
use thinpipe_proto::header::MediaType;
use thinpipe_proto::session::UpstreamSessionId;

use crate::body::{Body, BodyError};

/// One MCP server endpoint, with its pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upstream {
    inner: Arc<UpstreamConfig>,
}

/// How to reach a server, and for how long to wait.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Name for logs and errors.
    pub name: Arc<str>,
    /// URL of the MCP endpoint; `http` only for now.
    pub url: Uri,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1. Default: false.
    pub http2: bool,
    /// Until the connection stands. Default: 10 s.
    pub connect_timeout: Duration,
    /// From the request written to the response's head. Default: 60 s.
    pub first_byte_timeout: Duration,
    /// Between two bytes of a body that is not an event stream. Default: 30 s.
    pub idle_timeout: Duration,
    /// For a whole exchange that is not an event stream. Default: 60 s.
    pub request_timeout: Duration,
    /// Between two bytes (comments count) of an event stream. Default: 5 min.
    pub stream_idle_timeout: Duration,
    /// Connections with a request on them that is not (yet) an event stream. Default: 512.
    pub max_connections: usize,
    /// Connections that carry an event stream. Default: 16,384.
    pub max_streams: usize,
    /// How long an unused connection is kept. A server's `Keep-Alive: timeout` shortens it. Default: 90 s.
    pub pool_idle_timeout: Duration,
    /// Unused connections kept (per worker thread). Default: 64.
    pub pool_max_idle: usize,
    /// A connection is closed after so many requests, so that new backends get load. Default: 10,000.
    pub rotate_after_requests: u64,
    /// A connection is closed at this age. Default: 5 min.
    pub rotate_after: Duration,
    /// Headers added to every request: the upstream's own credentials.
    pub headers: HeaderMap,
}

/// A request to an upstream. Sending consumes it.
#[derive(Debug)]
pub struct UpstreamRequest {
    /// POST, GET or DELETE.
    pub method: Method,
    /// End-to-end headers, complete but for `Host`, `Content-Length` and the upstream's own.
    pub headers: HeaderMap,
    /// The body; empty for GET and DELETE.
    pub body: Bytes,
    /// Running it twice does no harm: it may be sent again, once, if a kept-alive connection turns
    /// out to be dead before a byte of the response came.
    pub repeatable: bool,
}

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
        source: std::io::Error,
    },
    /// The connection was lost after the request had been written: it may have run.
    #[error("the connection to {upstream} was lost before it answered")]
    Lost {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// What the socket said, if it said anything.
        #[source]
        source: Option<std::io::Error>,
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
    /// What came back is not HTTP, or breaks a rule of it.
    #[error("{upstream} sent a malformed response: {reason}")]
    Malformed {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// Which rule.
        reason: String,
    },
    /// A redirect that may not be followed.
    #[error("{upstream} redirects to {location}, which is another origin or no 307 or 308")]
    Redirect {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// Where to.
        location: String,
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

/// A response whose body has not been read. Consumed once.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// Parsed `Content-Type`.
    pub media_type: MediaType,
    /// `Content-Length`, if given.
    pub content_length: Option<u64>,
    /// `Mcp-Session-Id`, if given and valid.
    pub session_id: Option<UpstreamSessionId>,
    body: Body,
}

impl UpstreamConfig {
    /// The defaults for a server at this URL.
    #[must_use]
    pub fn new(name: Arc<str>, url: Uri) -> Self {
        Self {
            name,
            url,
            http2: false,
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            stream_idle_timeout: Duration::from_secs(300),
            max_connections: 512,
            max_streams: 16_384,
            pool_idle_timeout: Duration::from_secs(90),
            pool_max_idle: 64,
            rotate_after_requests: 10_000,
            rotate_after: Duration::from_secs(300),
            headers: HeaderMap::new(),
        }
    }
}

impl Upstream {
    /// An upstream that has no connection yet.
    #[must_use]
    pub fn new(config: UpstreamConfig) -> Self {
        Self {
            inner: Arc::new(config),
        }
    }

    /// How it is reached.
    #[must_use]
    pub fn config(&self) -> &UpstreamConfig {
        &self.inner
    }

    /// Sends a request and returns as soon as the head of the response is there.
    ///
    /// Dropping the future closes the connection it was sent on: for a stateless request that is its
    /// cancellation.
    ///
    /// # Errors
    /// [`UpstreamError`]; nothing is retried but what [`UpstreamRequest::repeatable`] says.
    pub async fn send(&self, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let _ = request;
        unimplemented!()
    }
}

impl UpstreamResponse {
    /// Whether it is an event stream.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.media_type == MediaType::EventStream
    }

    /// The unread body. Dropping it before its end closes the connection.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// As [`Body::collect`].
    pub async fn collect(self, limit: usize) -> Result<Bytes, BodyError> {
        let deadline = std::time::Instant::now() + Duration::from_secs(3600);
        self.body.collect(limit, deadline).await
    }
}
