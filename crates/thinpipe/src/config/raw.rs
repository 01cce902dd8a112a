//! What may stand in a configuration file, as it is written: every key optional, nothing checked yet.
//!
//! `docs/src/configuration.md` describes these keys for people; a test keeps the two equal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thinpipe_gateway::interceptor::{ChainConfig, InterceptorConfig};

use super::clients::RawMcpServer;
use super::quantity::{Period, Size};

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
    /// Requests of 2025-03-26 to 2025-11-25 are taken outside of sessions.
    pub(crate) allow_sessionless: Option<bool>,
    /// Whether 2025-03-26 to 2025-11-25 are served.
    pub(crate) legacy: Option<RawLegacy>,
    /// Logs.
    pub(crate) log: RawLog,
    /// Bounds of the server side.
    pub(crate) limits: RawLimits,
    /// Sessions.
    pub(crate) sessions: RawSessions,
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
    /// Who may connect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tokens: Vec<RawToken>,
    /// The servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) upstreams: Vec<RawUpstream>,
    /// Servers as clients write them down.
    #[serde(rename = "mcpServers", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) mcp_servers: BTreeMap<String, RawMcpServer>,
}

/// `legacy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawLegacy {
    Served,
    Refused,
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

/// `[limits]`: `thinpipe_transport::server::Limits`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLimits {
    pub(crate) max_connections: Option<u64>,
    pub(crate) max_streams: Option<u64>,
    pub(crate) max_requests: Option<u64>,
    pub(crate) max_requests_per_session: Option<u64>,
    pub(crate) max_body: Option<Size>,
    pub(crate) max_buffered: Option<Size>,
    pub(crate) max_batch: Option<Size>,
    pub(crate) max_head: Option<Size>,
    pub(crate) max_headers: Option<u64>,
    pub(crate) head_timeout: Option<Period>,
    pub(crate) body_timeout: Option<Period>,
    pub(crate) idle_timeout: Option<Period>,
    pub(crate) write_stall: Option<Period>,
    pub(crate) keep_alive: Option<Period>,
    pub(crate) drain: Option<Period>,
    pub(crate) max_detached: Option<u64>,
    pub(crate) detached_timeout: Option<Period>,
}

/// `[sessions]`: `thinpipe_transport::server::SessionLimits`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSessions {
    pub(crate) max: Option<u64>,
    pub(crate) idle: Option<Period>,
    pub(crate) age: Option<Period>,
    pub(crate) sweep: Option<Period>,
}

/// One of `[[tokens]]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawToken {
    /// Whose token it is.
    pub(crate) principal: String,
    /// The token.
    pub(crate) token: String,
}

/// One of `[[upstreams]]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawUpstream {
    /// Name, for paths, logs and metrics.
    pub(crate) name: Option<String>,
    /// URL of the MCP endpoint.
    pub(crate) url: Option<String>,
    /// Path of the endpoint here.
    pub(crate) path: Option<String>,
    /// HTTP/2 with prior knowledge.
    pub(crate) http2: Option<bool>,
    /// What happens when the server does not know its session any more.
    pub(crate) session_lost: Option<RawSessionLost>,
    /// Who resumes a stream that broke.
    pub(crate) resume: Option<RawResume>,
    /// Bytes of a message that interceptors read.
    pub(crate) max_message: Option<Size>,
    /// Bytes of a JSON body that nobody reads.
    pub(crate) max_passed_body: Option<Size>,
    /// Headers added to every request to the server.
    pub(crate) headers: BTreeMap<String, String>,
    /// Time-outs toward the server.
    pub(crate) timeouts: RawTimeouts,
    /// Connections to the server.
    pub(crate) pool: RawPool,
    /// How its health is watched.
    pub(crate) health: RawHealth,
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
    Off,
}

/// `[upstreams.timeouts]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTimeouts {
    pub(crate) connect: Option<Period>,
    pub(crate) first_byte: Option<Period>,
    pub(crate) idle: Option<Period>,
    pub(crate) request: Option<Period>,
    pub(crate) stream_idle: Option<Period>,
}

/// `[upstreams.pool]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawPool {
    pub(crate) max_connections: Option<u64>,
    pub(crate) max_streams: Option<u64>,
    pub(crate) max_idle: Option<u64>,
    pub(crate) idle_timeout: Option<Period>,
    pub(crate) rotate_after_requests: Option<u64>,
    pub(crate) rotate_after: Option<Period>,
}

/// `[upstreams.health]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHealth {
    pub(crate) interval: Option<Period>,
    pub(crate) timeout: Option<Period>,
    pub(crate) failures: Option<u64>,
}
