//! What may stand in a configuration file, as it is written: every key optional, nothing checked yet.
//!
//! `docs/src/configuration.md` describes these keys for people; a test keeps the two equal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thinpipe_gateway::interceptor::{ChainConfig, InterceptorConfig};
use thinpipe_proto::rate::Rate;

use super::bridge::{RawClients, RawEra, RawLogLevel, RawMrtr, RawSharing};
use super::clients::RawMcpServer;
use super::quantity::{Period, Size};
use super::replicas::{RawBalance, RawReplica};
use super::sse::RawSse;
use super::store::RawStore;
use super::tables::{
    RawBreaker, RawCache, RawHealth, RawLimits, RawParked, RawPool, RawProcess, RawRetry,
    RawSessionPool, RawSessions, RawTimeouts,
};

/// A whole file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    /// Address that clients connect to.
    pub(crate) listen: Option<String>,
    /// Address of health, metrics and status, or "off".
    pub(crate) admin: Option<String>,
    /// Threads that serve connections.
    pub(crate) workers: Option<u64>,
    /// `Host`s that are served.
    pub(crate) allow_hosts: Option<Vec<String>>,
    /// `Origin`s that are served.
    pub(crate) allow_origins: Option<Vec<String>>,
    /// Proxies that are believed when they say who a request comes from: addresses and networks.
    pub(crate) trusted_proxies: Option<Vec<String>>,
    /// Where they say it.
    pub(crate) forwarded_header: Option<RawForwardedHeader>,
    /// Headers of requests that go along to another gateway.
    pub(crate) carried_headers: Option<Vec<String>>,
    /// Requests of 2025-03-26 to 2025-11-25 are taken outside of sessions.
    pub(crate) allow_sessionless: Option<bool>,
    /// Whether 2025-03-26 to 2025-11-25 are served.
    pub(crate) legacy: Option<RawLegacy>,
    /// Where sessions are kept.
    pub(crate) store: Option<RawStore>,
    /// Logs.
    pub(crate) log: RawLog,
    /// Bounds of the server side.
    #[serde(skip_serializing_if = "RawLimits::is_empty")]
    pub(crate) limits: RawLimits,
    /// Sessions.
    #[serde(skip_serializing_if = "RawSessions::is_empty")]
    pub(crate) sessions: RawSessions,
    /// HTTP+SSE for clients.
    pub(crate) sse: RawSse,
    /// What looks at the messages of every upstream, nearer to the client than its own.
    #[serde(skip_serializing)]
    pub(crate) interceptors: Vec<InterceptorConfig>,
    /// These as they were written: only the gateway knows what stands in them.
    #[serde(
        rename = "interceptors",
        skip_deserializing,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) interceptors_shown: Option<toml::Value>,
    /// How the chains of upstreams behave that say nothing of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<ChainConfig>,
    /// Keys of what clients keep for the gateway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) state_keys: Vec<RawStateKey>,
    /// Who may connect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tokens: Vec<RawToken>,
    /// The servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) upstreams: Vec<RawUpstream>,
    /// Servers as clients write them down.
    #[serde(rename = "mcpServers", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) mcp_servers: BTreeMap<String, RawMcpServer>,
    /// The same, as VS Code calls it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) servers: BTreeMap<String, RawMcpServer>,
}

/// `legacy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLegacy {
    Served,
    Refused,
}

/// `forwarded_header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawForwardedHeader {
    XForwardedFor,
    Forwarded,
}

/// `[log]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    /// How a line looks.
    pub(crate) format: Option<LogFormat>,
    /// What is logged: a level, or levels by module.
    pub(crate) level: Option<String>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// One of `[[tokens]]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawToken {
    /// Whose token it is.
    pub(crate) principal: String,
    /// The token.
    pub(crate) token: String,
    /// The tier of the principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tier: Option<String>,
}

/// One of `[[state_keys]]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStateKey {
    /// The key.
    pub(crate) key: Option<String>,
    /// A file that holds it.
    pub(crate) file: Option<String>,
}

/// One of `[[upstreams]]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawUpstream {
    /// Name, for paths, logs and metrics.
    pub(crate) name: Option<String>,
    /// URL of the MCP endpoint.
    pub(crate) url: Option<String>,
    /// Several replicas of the server.
    pub(crate) replicas: Option<Vec<RawReplica>>,
    /// How requests are shared out among them.
    pub(crate) balance: Option<RawBalance>,
    /// How long one that has come back gets less.
    pub(crate) slow_start: Option<Period>,
    /// Whether they know each other's sessions.
    pub(crate) shared_sessions: Option<bool>,
    /// A program that is the server, on stdio.
    pub(crate) command: Option<String>,
    /// Its arguments.
    pub(crate) args: Option<Vec<String>>,
    /// Variables of its environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env: BTreeMap<String, String>,
    /// Whether it has the gateway's whole environment.
    pub(crate) inherit_env: Option<bool>,
    /// Its working directory.
    pub(crate) cwd: Option<String>,
    /// Which clients are let in.
    pub(crate) clients: Option<RawClients>,
    /// What the server speaks.
    pub(crate) era: Option<RawEra>,
    /// Who shares an upstream session.
    pub(crate) sessions: Option<RawSharing>,
    /// Whether the server can ask clients of 2026-07-28.
    pub(crate) mrtr: Option<RawMrtr>,
    /// How long clients of 2026-07-28 may keep lists.
    pub(crate) list_ttl: Option<Period>,
    /// What is logged to clients before they have asked.
    pub(crate) log_level: Option<RawLogLevel>,
    /// Whether `requestState` is sealed.
    pub(crate) seal_state: Option<bool>,
    /// Path of the endpoint here.
    pub(crate) path: Option<String>,
    /// Path of the stream of HTTP+SSE here.
    pub(crate) sse_path: Option<String>,
    /// Path of the messages of HTTP+SSE here.
    pub(crate) messages_path: Option<String>,
    /// HTTP/2 with prior knowledge.
    pub(crate) http2: Option<bool>,
    /// What happens when the server does not know its session any more.
    pub(crate) session_lost: Option<RawSessionLost>,
    /// Who resumes a stream that broke.
    pub(crate) resume: Option<RawResume>,
    /// How many messages all clients together may send to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    /// Whether it is told who requests come from.
    pub(crate) forwarded: Option<RawForwarded>,
    /// Bytes of a message that interceptors read.
    pub(crate) max_message: Option<Size>,
    /// Bytes of a JSON body that nobody reads.
    pub(crate) max_passed_body: Option<Size>,
    /// Headers added to every request to the server.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    /// Time-outs toward the server.
    #[serde(skip_serializing_if = "RawTimeouts::is_empty")]
    pub(crate) timeouts: RawTimeouts,
    /// Connections to the server.
    #[serde(skip_serializing_if = "RawPool::is_empty")]
    pub(crate) pool: RawPool,
    /// How its health is watched.
    #[serde(skip_serializing_if = "RawHealth::is_empty")]
    pub(crate) health: RawHealth,
    /// When a replica whose requests fail gets no more.
    #[serde(skip_serializing_if = "RawBreaker::is_empty")]
    pub(crate) breaker: RawBreaker,
    /// How much may be repeated at another replica.
    #[serde(skip_serializing_if = "RawRetry::is_empty")]
    pub(crate) retry: RawRetry,
    /// Upstream sessions that requests of 2026-07-28 share.
    #[serde(skip_serializing_if = "RawSessionPool::is_empty")]
    pub(crate) session_pool: RawSessionPool,
    /// Calls that wait for their client.
    #[serde(skip_serializing_if = "RawParked::is_empty")]
    pub(crate) parked: RawParked,
    /// Answers that are kept.
    #[serde(skip_serializing_if = "RawCache::is_empty")]
    pub(crate) cache: RawCache,
    /// Bounds of its processes.
    #[serde(skip_serializing_if = "RawProcess::is_empty")]
    pub(crate) process: RawProcess,
    /// How its chain of interceptors behaves, in the gateway's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<ChainConfig>,
    /// What looks at its messages, in order.
    #[serde(skip_serializing)]
    pub(crate) interceptors: Vec<InterceptorConfig>,
    /// The interceptors as they were written: only the gateway knows what stands in them.
    #[serde(
        rename = "interceptors",
        skip_deserializing,
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) interceptors_shown: Option<toml::Value>,
}

/// `session_lost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawSessionLost {
    End,
    Reestablish,
}

/// `resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawResume {
    Upstream,
    Log,
    Off,
}

/// `forwarded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawForwarded {
    Off,
    Append,
}

impl RawUpstream {
    /// Keys that are written and mean something only with `command`.
    pub(super) fn keys_of_programs(&self) -> Vec<&'static str> {
        written([
            ("args", self.args.is_some()),
            ("env", !self.env.is_empty()),
            ("cwd", self.cwd.is_some()),
            ("inherit_env", self.inherit_env.is_some()),
            ("process", !self.process.is_empty()),
        ])
    }

    /// Keys that are written and mean nothing to a server of HTTP+SSE: its session is its one stream, which
    /// only the gateway can resume, and all its answers come there.
    pub(super) fn keys_of_streamable(&self) -> Vec<&'static str> {
        written([("max_passed_body", self.max_passed_body.is_some())])
    }

    /// Keys that are written and mean something only with `url`.
    pub(super) fn keys_of_urls(&self) -> Vec<&'static str> {
        written([
            ("headers", !self.headers.is_empty()),
            ("http2", self.http2.is_some()),
            ("forwarded", self.forwarded.is_some()),
            ("max_passed_body", self.max_passed_body.is_some()),
            ("timeouts", !self.timeouts.is_empty()),
            ("pool", !self.pool.is_empty()),
            ("health", !self.health.is_empty()),
            ("breaker", !self.breaker.is_empty()),
        ])
    }

    /// Keys that are written and mean something only with `replicas`.
    pub(super) fn keys_of_replicas(&self) -> Vec<&'static str> {
        written([
            ("balance", self.balance.is_some()),
            ("slow_start", self.slow_start.is_some()),
            ("shared_sessions", self.shared_sessions.is_some()),
            ("retry", !self.retry.is_empty()),
        ])
    }
}

impl RawUpstream {
    /// Whether it is said what the server's own ids of events are good for.
    pub(super) fn resumes_by_server(&self) -> bool {
        matches!(self.resume, Some(RawResume::Upstream | RawResume::Off))
    }
}

fn written<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    let written = keys.into_iter().filter(|(_, written)| *written);
    written.map(|(key, _)| key).collect()
}
