//! Limits and policies of the server side. Every one of them is enforced.

use std::time::Duration;

use http::HeaderName;
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::forwarded::TrustedProxies;

use crate::ByteBudget;
use crate::server::SessionLimits;

/// How the server side behaves.
#[derive(Debug, Clone, Default)]
pub struct ServerConfig {
    /// What is bounded, and by how much.
    pub limits: Limits,
    /// Sessions.
    pub sessions: SessionLimits,
    /// Which `Host`s and `Origin`s are served.
    pub access: AccessPolicy,
    /// Proxies that are believed when they say who a request comes from. Default: none.
    pub trusted_proxies: TrustedProxies,
    /// Headers of requests that go along when another node has to answer one, beside those that always do
    /// ([`carried_request_header`](thinpipe_proto::header::carried_request_header)). Whoever can read the store can
    /// read them. Default: none.
    pub carried_headers: Vec<HeaderName>,
    /// Tokens of those who may connect; empty: everybody may, anonymously.
    pub tokens: Vec<AccessToken>,
    /// Accept requests of 2025-03-26 to 2025-11-25 outside of any session. Default: false (400).
    pub allow_sessionless: bool,
    /// Serve 2025-03-26 to 2025-11-25. Default: true.
    pub legacy: LegacyMode,
}

/// Whether revisions with sessions are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LegacyMode {
    /// Both eras on one endpoint.
    #[default]
    Served,
    /// 2026-07-28 only: `initialize` gets an error that names what is served.
    Refused,
}

/// A bearer token and the principal it stands for.
#[derive(Clone)]
pub struct AccessToken {
    /// Name of the principal, for logs and for binding sessions.
    pub principal: String,
    /// The token; compared in constant time, never logged.
    pub token: String,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// Bounds of the server side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. Default: 16,384. One more is answered 503 and closed.
    pub max_connections: usize,
    /// Event streams being written at one time. Default: 16,384. One more GET gets 503 with
    /// `Retry-After`. That a POST is answered with a stream shows only when its call runs already: it
    /// is not refused up front, and gets 502 with `data.reason` `too_many_streams` instead of its
    /// stream, without an invitation to call again.
    pub max_streams: usize,
    /// Requests being answered at one time, streams not counted. Default: 4,096. One more gets 503.
    pub max_requests: usize,
    /// Requests being answered at one time in one session, streams not counted as they are written.
    /// Default: 128. One more gets 503.
    pub max_requests_per_session: usize,
    /// Bytes of a request body. Default: 4 MiB. More gets 413, before it is read.
    pub max_body: usize,
    /// Bytes of all that is held whole at one time: request bodies, until nobody needs them any more,
    /// and what handlers reserve of the same [budget](crate::ByteBudget) for answers that have to be
    /// whole. Messages of up to [`ByteBudget::FREE`](crate::ByteBudget::FREE) are not counted. Default:
    /// 256 MiB. A body for which there is no room gets 503, before it is read if its length is announced.
    pub max_buffered: usize,
    /// Bytes of the answers of one batch (2025-03-26) that are held until they are whole. Default:
    /// 16 MiB. An answer for which there is no room becomes an error, `message_too_large`.
    pub max_batch: usize,
    /// Bytes of a request's head. Default: 32 KiB. More gets 431.
    pub max_head: usize,
    /// Header fields of a request, at most 128: more are never read. Default: 100. More gets 431.
    pub max_headers: usize,
    /// From the first byte of a head to its last. Default: 10 s. Then 408.
    pub head_timeout: Duration,
    /// For a whole body to arrive. Default: 30 s. Then 408.
    pub body_timeout: Duration,
    /// A connection without a request is closed after this. Default: 75 s.
    pub idle_timeout: Duration,
    /// A client that does not read is disconnected after this. Default: 30 s.
    pub write_stall: Duration,
    /// Silence on an event stream after which a comment is written. Default: 15 s.
    pub keep_alive: Duration,
    /// How long streams and requests may go on after shutdown began. Default: 30 s.
    pub drain: Duration,
    /// Answers whose client left that may be run to their end at one time. Default: 256.
    pub max_detached: usize,
    /// How long one of them may take. Default: 60 s.
    pub detached_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_streams: 16_384,
            max_requests: 4_096,
            max_requests_per_session: 128,
            max_body: 4 << 20,
            max_buffered: ByteBudget::DEFAULT_LIMIT,
            max_batch: 16 << 20,
            max_head: 32 << 10,
            max_headers: 100,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            drain: Duration::from_secs(30),
            max_detached: 256,
            detached_timeout: Duration::from_secs(60),
        }
    }
}
