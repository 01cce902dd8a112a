//! What a gateway is told: plain data, valid by construction.

use std::sync::Arc;
use std::time::Duration;

use thinpipe_proto::bridge::DEFAULT_IDLE;
use thinpipe_proto::deprecation::DeprecationConfig;
use thinpipe_proto::rate::Rate;
use thinpipe_proto::revision::Binding;
use thinpipe_transport::Random;
use thinpipe_transport::server::SseConfig;
use thinpipe_transport::upstream::UpstreamConfig;
use thinpipe_transport::upstream::stdio::StdioConfig;

use crate::interceptor::{ChainConfig, InterceptorConfig};

mod bridge;
mod event_log;
mod group;
mod key;
mod rate;

pub use bridge::{
    BridgeConfig, CacheConfig, Clients, Mrtr, ParkedConfig, PoolConfig, RequestSession, Sharing,
};
pub use event_log::EventLogLimits;
pub use group::{GroupConfig, ReplicaConfig};
pub use key::{InvalidStateKey, StateKey};
pub use rate::{Anonymous, RateLimits};

/// A whole gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The servers behind it, each on a path of its own.
    pub upstreams: Vec<UpstreamSpec>,
    /// What clients of HTTP+SSE are told of its end, on all paths.
    pub deprecation: DeprecationConfig,
    /// Keys of what clients keep for the gateway and give back: the first one seals, all of them open.
    /// None: one is drawn at the start, so that nothing sealed before opens any more.
    pub state_keys: Vec<StateKey>,
    /// How many messages clients may send.
    pub rates: RateLimits,
    /// Where ids, keys and what spreads delays come from, for its upstreams too. The default is the operating system.
    pub random: Random,
}

/// One server behind the gateway.
#[derive(Debug, Clone)]
pub struct UpstreamSpec {
    /// Path of its MCP endpoint here: `/mcp`, or `/servers/<name>/mcp`.
    pub path: String,
    /// HTTP+SSE (2024-11-05) beside it, for clients that speak nothing newer. `None`: not served.
    pub sse: Option<SsePaths>,
    /// Which clients it is given.
    pub clients: Clients,
    /// How it is reached.
    pub reached: Reached,
    /// How clients of another era than its own are connected to it.
    pub bridge: BridgeConfig,
    /// What happens when it does not know its session any more. One over stdio or HTTP+SSE ends with what
    /// carries it, and its clients' sessions always end with it.
    pub session_lost: SessionLost,
    /// How many messages all clients together may send to it. `None`, the default: as many as they like.
    pub rate: Option<Rate>,
    /// Who resumes a stream that broke. Servers over stdio or HTTP+SSE have no event ids to resume by: their
    /// clients' streams are resumed by the gateway, or not at all.
    pub resume: Resume,
    /// What is kept of its streams where their events have ids of the gateway.
    pub event_log: EventLogLimits,
    /// Whether it is told who requests come from.
    pub forwarded: Forwarded,
    /// How its health is watched.
    pub health: HealthConfig,
    /// What looks at its messages, in order.
    pub interceptors: Vec<InterceptorConfig>,
    /// How the chain of interceptors behaves.
    pub chain: ChainConfig,
    /// Bytes of one event or of one JSON body that interceptors read. Default: 16 MiB.
    pub max_message: usize,
    /// Bytes of one JSON body that nobody reads. Default: 100 MiB.
    pub max_passed_body: u64,
}

/// How a server is reached. What makes sense for one kind only stands with that kind.
#[derive(Debug, Clone)]
pub enum Reached {
    /// Over HTTP, at a URL.
    Http(HttpUpstream),
    /// Over the standard streams of a child process.
    Stdio(ChildUpstream),
}

/// A server at a URL.
#[derive(Debug, Clone)]
pub struct HttpUpstream {
    /// Where it is, and for how long to wait for it. Of several replicas: what they have in common.
    pub client: UpstreamConfig,
    /// Several replicas of it, or a breaker for the one at the URL. `None`, the default: one server, which
    /// is asked whatever it answers.
    pub group: Option<Box<GroupConfig>>,
    /// What it speaks. `None`, the default: it is asked.
    pub pin: Option<Binding>,
}

/// A server that is a program.
#[derive(Debug, Clone)]
pub struct ChildUpstream {
    /// How it is started, and for how long to wait for its end.
    pub process: StdioConfig,
    /// What it speaks. `None`, the default: it is asked when it is started first.
    pub pin: Option<ProgramEra>,
    /// Processes that run at one time, those that are being ended included. Default: 64. Beyond, clients
    /// get 503 with `Retry-After`.
    pub max_children: usize,
    /// How long a request may stay without an answer or progress. Default: 60 s. Time in which the
    /// server waits for an answer of the client does not count.
    pub request_timeout: Duration,
}

impl ChildUpstream {
    /// The defaults for a program.
    #[must_use]
    pub fn new(process: StdioConfig) -> Self {
        Self {
            process,
            pin: None,
            max_children: 64,
            request_timeout: DEFAULT_IDLE,
        }
    }
}

/// What a program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramEra {
    /// 2024-11-05 to 2025-11-25, with `initialize`.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// Where HTTP+SSE is served, and how.
#[derive(Debug, Clone)]
pub struct SsePaths {
    /// Path of the stream: `/sse`, or `/servers/<name>/sse`.
    pub stream: String,
    /// Path that messages are posted to: `/messages`, or `/servers/<name>/messages`.
    pub messages: String,
    /// Limits and manners.
    pub config: SseConfig,
}

impl HttpUpstream {
    /// The one server at a URL.
    #[must_use]
    pub fn new(client: UpstreamConfig) -> Self {
        Self {
            client,
            group: None,
            pin: None,
        }
    }
}

impl From<UpstreamConfig> for Reached {
    fn from(client: UpstreamConfig) -> Self {
        Self::Http(HttpUpstream::new(client))
    }
}

impl From<StdioConfig> for Reached {
    fn from(process: StdioConfig) -> Self {
        Self::Stdio(ChildUpstream::new(process))
    }
}

/// What happens when an upstream answers 404 to its own session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionLost {
    /// The client's session ends too: 404, and it starts anew.
    #[default]
    End,
    /// The session is opened again with the client's own `initialize` params, if nothing is in flight.
    Reestablish,
}

/// Who resumes a stream that broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// The upstream, by its own event ids, which pass through to the client.
    #[default]
    Upstream,
    /// The gateway, which gives events ids of its own and keeps them for a while. It does so for servers of every
    /// kind, those that cannot resume among them.
    Log,
    /// Nobody: a broken stream is an error. Where the gateway itself listens to a server for its clients (sessions that
    /// they share, clients of 2026-07-28), it opens a stream that broke anew, without an event id.
    Off,
}

/// Whether an upstream is told who requests come from. What clients say of themselves never reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarded {
    /// It is not.
    #[default]
    Off,
    /// `X-Forwarded-For` and `Forwarded` have the client's address, those of trusted proxies that it
    /// came over, and the peer's.
    Append,
}

/// How an upstream's health is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthConfig {
    /// Between two checks; zero: no checks. Default: 30 s.
    pub interval: Duration,
    /// For one check. Default: 5 s.
    pub timeout: Duration,
    /// Checks that must fail in a row before it counts as unhealthy. Default: 2.
    pub failures: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            failures: 2,
        }
    }
}

impl UpstreamSpec {
    /// The defaults for a server at this path.
    #[must_use]
    pub fn new(path: impl Into<String>, reached: impl Into<Reached>) -> Self {
        Self {
            path: path.into(),
            sse: None,
            clients: Clients::default(),
            reached: reached.into(),
            bridge: BridgeConfig::default(),
            session_lost: SessionLost::default(),
            rate: None,
            resume: Resume::default(),
            event_log: EventLogLimits::default(),
            forwarded: Forwarded::default(),
            health: HealthConfig::default(),
            interceptors: Vec::new(),
            chain: ChainConfig::default(),
            max_message: 16 << 20,
            max_passed_body: 100 << 20,
        }
    }

    /// Name of the server, for logs, metrics and errors.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match &self.reached {
            Reached::Http(http) => &http.client.name,
            Reached::Stdio(child) => &child.process.name,
        }
    }

    /// Whether a client that has a session has it by messages, over whatever transport: they are not passed as
    /// they are.
    pub(crate) fn holds_sessions(&self) -> bool {
        let shares = self.bridge.pipe_sharing() != thinpipe_proto::bridge::Sharing::PerClient;
        shares || self.resume == Resume::Log
    }

    /// How long a request may take without an answer or a sign of life.
    pub(crate) fn request_timeout(&self) -> Duration {
        match &self.reached {
            Reached::Http(http) => http.client.request_timeout,
            Reached::Stdio(child) => child.request_timeout,
        }
    }

    /// The same, once an event stream answers it. A program has none.
    pub(crate) fn stream_idle(&self) -> Duration {
        match &self.reached {
            Reached::Http(http) => http.client.stream_idle_timeout,
            Reached::Stdio(child) => child.request_timeout,
        }
    }

    /// What is told of a server at a URL; `None` for one of another kind.
    #[must_use]
    pub fn http(&self) -> Option<&HttpUpstream> {
        match &self.reached {
            Reached::Http(http) => Some(http),
            Reached::Stdio(_) => None,
        }
    }
}
