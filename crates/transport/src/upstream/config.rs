//! How an upstream is reached, and what is bounded.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Uri};

use super::connect::Connector;
use crate::Random;

/// How to reach a server, and for how long to wait.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Name for logs and errors.
    pub name: Arc<str>,
    /// URL of the MCP endpoint.
    pub url: Uri,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1. Default: false.
    pub http2: bool,
    /// Until there is a place in the budget, and then until the connection stands. Default: 10 s.
    pub connect_timeout: Duration,
    /// From the request written to the response's head. Default: 60 s.
    pub first_byte_timeout: Duration,
    /// Between two bytes of a body that is not an event stream. Default: 30 s.
    pub idle_timeout: Duration,
    /// For a whole exchange that is not an event stream, with the time its reader takes to read the
    /// answer: who is slow would else keep a place in the budget for as long as it likes. Default: 60 s.
    pub request_timeout: Duration,
    /// Between two bytes (comments count) of an event stream. Default: 5 min.
    pub stream_idle_timeout: Duration,
    /// Connections with a request on them that is not (yet) an event stream. Default: 512. One more
    /// waits for up to `connect_timeout`.
    pub max_connections: usize,
    /// Connections that carry an event stream. Default: 16,384. One more is closed.
    pub max_streams: usize,
    /// How long an unused connection is kept. A server's `Keep-Alive: timeout` shortens it. Default: 90 s.
    pub pool_idle_timeout: Duration,
    /// Unused connections kept for each runtime (usually one for each worker thread). Default: 64.
    pub pool_max_idle: usize,
    /// A connection is closed after so many requests, so that new backends get load. Default: 1,000.
    pub rotate_after_requests: u64,
    /// A connection is closed at this age. Default: 5 min.
    pub rotate_after: Duration,
    /// Headers added to every request: the upstream's own credentials.
    pub headers: HeaderMap,
    /// How connections are made. `None`, the default: by the scheme of the URL, TCP or TLS over it.
    pub connector: Option<Connector>,
    /// What spreads delays and the ages of connections. Default: the operating system.
    pub random: Random,
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
            rotate_after_requests: 1_000,
            rotate_after: Duration::from_secs(300),
            headers: HeaderMap::new(),
            connector: None,
            random: Random::default(),
        }
    }
}
