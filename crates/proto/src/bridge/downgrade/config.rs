//! How an upstream session is used, and its bounds.

use std::time::Duration;

use bytes::Bytes;

use crate::bridge::clock::Deadlines;
use crate::bridge::limits::{
    DEFAULT_ABSOLUTE_CAP, DEFAULT_CAP, DEFAULT_IDLE, DEFAULT_IN_FLIGHT, DEFAULT_STREAM_IDLE,
};
use crate::bridge::shape::Caching;
use crate::revision::Revision;

/// [`Limits::collect`] unless configured.
pub const DEFAULT_COLLECT: Duration = Duration::from_millis(30);
/// [`Limits::parked_age`] unless configured.
pub const DEFAULT_PARKED_AGE: Duration = Duration::from_secs(10 * 60);
/// [`Limits::completion`] unless configured. SDK clients give one POST 60 s.
pub const DEFAULT_COMPLETION: Duration = Duration::from_secs(45);
/// [`Limits::held`] unless configured.
pub const DEFAULT_HELD: usize = 1 << 20;
/// [`Limits::kept`] unless configured.
pub const DEFAULT_KEPT: usize = 6 << 10;
/// [`Limits::shown`] unless configured.
pub const DEFAULT_SHOWN: usize = 1 << 20;
/// [`Limits::listens`] unless configured.
pub const DEFAULT_LISTENS: usize = 256;
/// [`Limits::uris`] unless configured.
pub const DEFAULT_URIS: usize = 1024;

/// In how many rounds a client is asked for input; the next one ends the request.
pub const MAX_ROUNDS: u8 = 10;
/// How many server requests one exchange may have open.
pub const MAX_QUESTIONS: usize = 8;
/// How long the stream of a cancelled request is read on, or the session that was made for that request alone.
pub const CANCELLED_STREAM_AGE: Duration = Duration::from_secs(5);
/// How long requests wait for what the gateway has to ask the server first (a log level, a list of tools);
/// then they go without.
pub const SETTING_AGE: Duration = Duration::from_secs(10);
/// How long requests and listens wait for the standing stream to be open; then it is taken for open, as a
/// refusal comes at once. Clients wait for the acknowledgement of a listen meanwhile.
pub const STREAM_WAIT: Duration = Duration::from_millis(500);
/// How many elicitations of `-32042` errors are remembered.
pub const MAX_ELICITATIONS: usize = 256;
/// How many tools that run as tasks only are remembered.
pub const MAX_TASK_TOOLS: usize = 1024;
/// How many pages of one list are fetched for a session per request.
pub const MAX_PAGES: usize = 100;
/// How many bytes the pages of one list may have together.
pub const MAX_PAGED: usize = 16 << 20;

/// How the messages of the upstream come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Channel {
    /// All of them in one row: HTTP+SSE, stdio. What they belong to has to be told from what is open,
    /// and so at most one request at a time may be asked for input.
    #[default]
    Pipe,
    /// On the stream of the request they belong to, or on a standing one: Streamable HTTP.
    Streams,
}

/// Who uses the upstream session (protocol notes 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// One request; the session ends with it.
    PerRequest,
    /// Requests of one principal that declare the same capabilities.
    Pooled,
    /// Requests of whichever principals, as the server keeps no client state.
    Shared,
}

/// What a [`Downgrading`](super::Downgrading) is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// The upstream's name, for `data.upstream` in errors of the gateway.
    pub upstream: String,
    /// How its messages come.
    pub channel: Channel,
    /// Who uses the session.
    pub lifetime: Lifetime,
    /// The revision to ask for: of those that have `initialize`.
    pub revision: Revision,
    /// The client capabilities to declare, in the shape of that revision: a JSON object. What is not in
    /// it is never asked of a client, whatever its requests declare; `{}` is how MRTR is switched off.
    pub capabilities: Bytes,
    /// `clientInfo` to give: a JSON object.
    pub client_info: Bytes,
    /// The revisions that clients may claim here, for `server/discover`.
    pub served: Vec<Revision>,
    /// What cacheable results say about caching.
    pub caching: Caching,
    /// Its bounds.
    pub limits: Limits,
}

/// Bounds of one upstream session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a request may stay without progress. 60 s by default. Also how long `initialize`, and
    /// what the gateway itself asks, may take.
    pub idle: Duration,
    /// How long a request may stay without a sign of life once an event stream of its own answers it: there all that
    /// comes counts, comments too. 5 min by default.
    pub stream_idle: Duration,
    /// How long a request may take, with progress. 10 min by default.
    pub cap: Duration,
    /// How long a request may take, the time included in which its client is asked and the other two
    /// stand still. 30 min by default.
    pub absolute_cap: Duration,
    /// How long to wait for further server requests before the client is asked. 30 ms by default.
    pub collect: Duration,
    /// How long an exchange is parked at most. 10 min by default.
    pub parked_age: Duration,
    /// How long a request waits for the elicitations before it. 45 s by default.
    pub completion: Duration,
    /// The largest outcome that is held for a parked exchange, in bytes. 1 MiB by default. Where each request
    /// has its own stream, the caller leaves most of such an outcome in the socket.
    pub held: usize,
    /// How many bytes of server requests a parked exchange keeps. 6 KiB by default. One that was shown
    /// and is larger cannot be shown again.
    pub kept: usize,
    /// How many bytes of server requests are shown in one round. 1 MiB by default.
    pub shown: usize,
    /// The most requests at a time: open, parked, and cancelled ones not answered yet. 1024 by default.
    pub in_flight: usize,
    /// The most listens. 256 by default.
    pub listens: usize,
    /// The most resource URIs of all listens together. 1024 by default.
    pub uris: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: DEFAULT_IDLE,
            stream_idle: DEFAULT_STREAM_IDLE,
            cap: DEFAULT_CAP,
            absolute_cap: DEFAULT_ABSOLUTE_CAP,
            collect: DEFAULT_COLLECT,
            parked_age: DEFAULT_PARKED_AGE,
            completion: DEFAULT_COMPLETION,
            held: DEFAULT_HELD,
            kept: DEFAULT_KEPT,
            shown: DEFAULT_SHOWN,
            in_flight: DEFAULT_IN_FLIGHT,
            listens: DEFAULT_LISTENS,
            uris: DEFAULT_URIS,
        }
    }
}

impl Deadlines for Limits {
    fn idle(&self) -> Duration {
        self.idle
    }

    fn stream_idle(&self) -> Duration {
        self.stream_idle
    }

    fn cap(&self) -> Duration {
        self.cap
    }

    fn absolute_cap(&self) -> Duration {
        self.absolute_cap
    }
}
