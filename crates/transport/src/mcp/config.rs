//! What a server built on this library can be set to. Every field is enforced; a test reaches each.
//!
//! There is no read buffer size and no buffer pool to set: a connection that waits owns no read buffer,
//! all connections of a thread read into the same one, and what is held whole comes out of one
//! [`ByteBudget`](crate::ByteBudget). A pool could only add to that.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::duration;

use super::pages;
use crate::server::event_buffer::EventBufferConfig;
use crate::server::{Limits, ServerConfig, SessionLimits};

mod sse;

pub use sse::{HttpSseConfig, HttpSseConfigBuilder};

/// Gives a builder one method a field.
macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $kind:ty,)*) => {
        $(
            $(#[$doc])*
            pub fn $field(mut self, value: impl Into<$kind>) -> Self {
                self.config.$field = value.into();
                self
            }
        )*
    };
}
use setters;

/// A Streamable HTTP server.
///
/// In configuration files durations are texts with a unit (`"500ms"`, `"30s"`, `"5m"`, `"24h"`), sizes
/// are numbers of bytes, fields that are left out have their defaults, and unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpTransportConfig {
    /// Address and port to listen on. Default: `127.0.0.1:3000`.
    #[serde(deserialize_with = "bind_address")]
    pub bind_address: SocketAddr,
    /// Path of the MCP endpoint. Default: `/mcp`.
    pub endpoint: String,
    /// Open connections. Default: 1,000. One more is answered 503 and closed. Under a host that accepts
    /// connections itself (a tower service), that host's limits hold instead.
    pub max_connections: usize,
    /// Requests that one session runs at one time. Default: 10. One more gets 503. Outside of sessions
    /// (2026-07-28) HTTP/1.1 runs one at a time on a connection, HTTP/2 as many as it has streams.
    pub max_concurrent_requests: usize,
    /// Event streams being written at one time, of all transports. Default: 1,000. One more gets 503.
    pub max_streams: usize,
    /// Sessions at one time, of all transports. Default: 10,000. One more gets 503.
    pub max_sessions: usize,
    /// A session that nobody uses ends after this. Default: 300 s.
    #[serde(with = "duration")]
    pub session_timeout: Duration,
    /// A connection without a request is closed after this. Default: 30 s.
    #[serde(with = "duration")]
    pub keep_alive_timeout: Duration,
    /// A request's body has to arrive within this, and its handler must not be silent for longer: then the
    /// client gets an error. What the handler says to the client (progress, log, a question) starts the
    /// time anew; while a question waits for its answer, that has a time-out of its own. Default: 30 s.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// Bytes of a message. Default: 16 MiB. A longer one gets 413, before it is read in full.
    pub max_message_size: usize,
    /// `Host` names that are served beside loopback ones, `name` (any port) or `name:port`. Loopback names
    /// are served if `bind_address` is one. Default: none.
    pub allowed_hosts: Vec<String>,
    /// Origins of browser pages that are served beside loopback ones, `scheme://host[:port]`. Default: none.
    pub allowed_origins: Vec<String>,
    /// Streams can be resumed, up to revision 2025-11-25. Default: none, events have no ids.
    pub resumability: Option<Resumability>,
    /// Serve `/health` (200, or 503 while it shuts down), `/status` (JSON) and `/metrics` (Prometheus) too.
    /// Where tokens are needed, the last two need one. Default: true.
    pub pages: bool,
}

/// What is kept of each event stream, for a client that comes back with `Last-Event-ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resumability {
    /// Messages of one stream. Default: 1,000.
    pub max_events: usize,
    /// Bytes of one stream's messages; a single message may be larger. Default: 1 MiB.
    pub max_bytes: usize,
    /// How long. Default: 5 min.
    #[serde(with = "duration")]
    pub retention: Duration,
}

/// Why a server cannot be set up like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A path does not begin with `/`, or says more than a path.
    #[error("{field}: {value:?} is not an absolute path without query")]
    Path {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// Clients of HTTP+SSE could not be sent there.
    #[error("public_base, endpoint: {value:?} is no address or path that a link can lead to")]
    Successor {
        /// What they make together.
        value: String,
    },
    /// Two endpoints have the same path.
    #[error("{value:?} is the path of two endpoints")]
    SamePath {
        /// The path.
        value: String,
    },
    /// A limit or duration lies outside of what is possible.
    #[error("{field}: {reason}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What is possible.
        reason: &'static str,
    },
    /// What stands before the paths of HTTP+SSE, as its clients see them, is neither path nor origin.
    #[error(
        "public_base: {value:?} is neither a path that begins with / nor an origin (https://mcp.example.com)"
    )]
    PublicBase {
        /// What it says.
        value: String,
    },
    /// A name or an origin can never be met.
    #[error("{field}: {value:?} is not {form}")]
    Access {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        form: &'static str,
    },
    /// An observer is for clients of HTTP+SSE, which is not served.
    #[error("there are no clients of HTTP+SSE to observe: it is not served")]
    NoHttpSse,
    /// The address is reachable from outside, and nothing says under which names.
    #[error(
        "allowed_hosts: {bind_address} is no loopback address, so the names it is reached by are needed"
    )]
    HostsMissing {
        /// The address.
        bind_address: SocketAddr,
    },
}

impl Default for HttpTransportConfig {
    fn default() -> Self {
        Self {
            bind_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)),
            endpoint: "/mcp".to_owned(),
            max_connections: 1_000,
            max_concurrent_requests: 10,
            max_streams: 1_000,
            max_sessions: 10_000,
            session_timeout: Duration::from_secs(300),
            keep_alive_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            max_message_size: 16 << 20,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            resumability: None,
            pages: true,
        }
    }
}

impl Default for Resumability {
    fn default() -> Self {
        let EventBufferConfig {
            max_events,
            max_bytes,
            retention,
        } = EventBufferConfig::resumable();
        Self {
            max_events,
            max_bytes,
            retention,
        }
    }
}

impl HttpTransportConfig {
    /// Begins with the defaults.
    pub fn builder() -> HttpTransportConfigBuilder {
        HttpTransportConfigBuilder::default()
    }

    /// What the server side is set to by this.
    ///
    /// # Errors
    /// [`ConfigError`] if a field says what is not possible.
    pub fn server_config(&self) -> Result<ServerConfig, ConfigError> {
        self.check()?;
        let limits = Limits {
            max_connections: self.max_connections,
            max_requests_per_session: self.max_concurrent_requests,
            max_streams: self.max_streams,
            max_body: self.max_message_size,
            body_timeout: self.request_timeout,
            idle_timeout: self.keep_alive_timeout,
            // As long as a client may come back for its answer, the answer is worked on.
            detached_timeout: Limits::default()
                .detached_timeout
                .max(self.event_buffer().retention),
            ..Limits::default()
        };
        let sessions = SessionLimits {
            max: self.max_sessions,
            idle: self.session_timeout,
            // A session outlives its time by a fifth of it at most.
            sweep: (self.session_timeout / 5).clamp(SWEEP_MIN, SessionLimits::default().sweep),
            ..SessionLimits::default()
        };
        let access = AccessPolicy {
            hosts: lower(&self.allowed_hosts),
            origins: lower(&self.allowed_origins),
            loopback: self.bind_address.ip().is_loopback(),
            any_host: false,
        };
        Ok(ServerConfig {
            limits,
            sessions,
            access,
            ..ServerConfig::default()
        })
    }

    /// What is kept of streams.
    #[must_use]
    pub fn event_buffer(&self) -> EventBufferConfig {
        self.resumability
            .map_or_else(EventBufferConfig::default, |kept| EventBufferConfig {
                max_events: kept.max_events,
                max_bytes: kept.max_bytes,
                retention: kept.retention,
            })
    }

    /// Whether a path is free of pages.
    fn check_no_page(&self, path: &str) -> Result<(), ConfigError> {
        if self.pages && pages::PATHS.contains(&path) {
            let value = path.to_owned();
            return Err(ConfigError::SamePath { value });
        }
        Ok(())
    }

    /// What could never be met was meant to be something else.
    fn check_access(&self) -> Result<(), ConfigError> {
        let serves_itself = |host: &&String| {
            let hosts = lower(std::slice::from_ref(*host));
            let policy = AccessPolicy {
                hosts,
                ..AccessPolicy::default()
            };
            policy.allows_host(Some(host.as_bytes()))
        };
        if let Some(value) = self.allowed_hosts.iter().find(|host| !serves_itself(host)) {
            let (field, value) = ("allowed_hosts", value.clone());
            let form = "a name with or without a port (mcp.example.com, mcp.example.com:8080)";
            return Err(ConfigError::Access { field, value, form });
        }
        let is_met = |origin: &&String| {
            let origins = lower(std::slice::from_ref(*origin));
            let policy = AccessPolicy {
                origins,
                ..AccessPolicy::default()
            };
            policy.allows_origin(Some(origin.as_bytes()))
        };
        if let Some(value) = self.allowed_origins.iter().find(|origin| !is_met(origin)) {
            let (field, value) = ("allowed_origins", value.clone());
            let form = "scheme://host or scheme://host:port";
            return Err(ConfigError::Access { field, value, form });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_access()?;
        check_path("endpoint", &self.endpoint)?;
        self.check_no_page(&self.endpoint)?;
        check_counts(&[
            ("max_connections", self.max_connections),
            ("max_concurrent_requests", self.max_concurrent_requests),
            ("max_streams", self.max_streams),
            ("max_sessions", self.max_sessions),
            ("max_message_size", self.max_message_size),
        ])?;
        check_durations(&[
            ("session_timeout", self.session_timeout),
            ("keep_alive_timeout", self.keep_alive_timeout),
            ("request_timeout", self.request_timeout),
        ])?;
        if let Some(kept) = &self.resumability {
            check_counts(&[
                ("resumability.max_events", kept.max_events),
                ("resumability.max_bytes", kept.max_bytes),
            ])?;
            check_durations(&[("resumability.retention", kept.retention)])?;
        }
        if !self.bind_address.ip().is_loopback() && self.allowed_hosts.is_empty() {
            let bind_address = self.bind_address;
            return Err(ConfigError::HostsMissing { bind_address });
        }
        Ok(())
    }
}

/// Builds an [`HttpTransportConfig`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct HttpTransportConfigBuilder {
    config: HttpTransportConfig,
}

impl HttpTransportConfigBuilder {
    setters! {
        /// [`HttpTransportConfig::bind_address`]
        bind_address: SocketAddr,
        /// [`HttpTransportConfig::endpoint`]
        endpoint: String,
        /// [`HttpTransportConfig::max_connections`]
        max_connections: usize,
        /// [`HttpTransportConfig::max_concurrent_requests`]
        max_concurrent_requests: usize,
        /// [`HttpTransportConfig::max_streams`]
        max_streams: usize,
        /// [`HttpTransportConfig::max_sessions`]
        max_sessions: usize,
        /// [`HttpTransportConfig::session_timeout`]
        session_timeout: Duration,
        /// [`HttpTransportConfig::keep_alive_timeout`]
        keep_alive_timeout: Duration,
        /// [`HttpTransportConfig::request_timeout`]
        request_timeout: Duration,
        /// [`HttpTransportConfig::max_message_size`]
        max_message_size: usize,
        /// [`HttpTransportConfig::allowed_hosts`]
        allowed_hosts: Vec<String>,
        /// [`HttpTransportConfig::allowed_origins`]
        allowed_origins: Vec<String>,
        /// [`HttpTransportConfig::resumability`]
        resumability: Option<Resumability>,
        /// [`HttpTransportConfig::pages`]
        pages: bool,
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if a field says what is not possible.
    pub fn build(self) -> Result<HttpTransportConfig, ConfigError> {
        self.config.check()?;
        Ok(self.config)
    }
}

/// The shortest time between two sweeps of sessions.
const SWEEP_MIN: Duration = Duration::from_millis(100);

/// No duration is longer: a time-out beyond it is none.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

fn lower(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| text.to_ascii_lowercase()).collect()
}

/// Says which field is wrong, where the format that is read does not.
fn bind_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    SocketAddr::deserialize(deserializer).map_err(|error| {
        let help = "an address with a port, such as 127.0.0.1:3000";
        D::Error::custom(format_args!("bind_address: {error}; it is {help}"))
    })
}

fn check_path(field: &'static str, value: &str) -> Result<(), ConfigError> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#');
    if value.starts_with('/') && value.bytes().all(plain) {
        return Ok(());
    }
    let value = value.to_owned();
    Err(ConfigError::Path { field, value })
}

fn check_counts(counts: &[(&'static str, usize)]) -> Result<(), ConfigError> {
    let none = counts.iter().find(|(_, count)| *count == 0);
    none.map_or(Ok(()), |(field, _)| {
        let reason = "at least 1";
        Err(ConfigError::OutOfRange { field, reason })
    })
}

fn check_durations(durations: &[(&'static str, Duration)]) -> Result<(), ConfigError> {
    let wrong = durations.iter().find(|(_, d)| d.is_zero() || *d > LONGEST);
    wrong.map_or(Ok(()), |(field, _)| {
        let reason = "longer than nothing, and 7 days at most";
        Err(ConfigError::OutOfRange { field, reason })
    })
}

#[cfg(test)]
mod tests;
