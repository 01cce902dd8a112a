//! A server that serves HTTP+SSE (2024-11-05) beside Streamable HTTP.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thinpipe_proto::deprecation::{DeprecationConfig, LinkTarget};

use super::{
    ConfigError, HttpTransportConfig, check_counts, check_durations, check_path, duration, setters,
};
use crate::server::{EventCapacity, Heartbeat, PublicBase, ServerConfig, SseConfig};

/// HTTP+SSE, and the Streamable HTTP it stands beside: one value configures both, on one listener.
///
/// Read from configuration files as [`HttpTransportConfig`] is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSseConfig {
    /// What both transports share, and Streamable HTTP's own settings. Default: as [`HttpTransportConfig`].
    /// Its connections and event streams are those beside the streams of HTTP+SSE, see
    /// [`server_config`](Self::server_config).
    pub base_config: HttpTransportConfig,
    /// Path of the event stream. Default: `/sse`.
    pub sse_endpoint: String,
    /// Path that messages are sent to. Default: `/messages`.
    pub messages_endpoint: String,
    /// What stands before `messages_endpoint` in the address that clients are told: the path, or origin
    /// and path, under which a reverse proxy serves this. Default: none.
    pub public_base: Option<String>,
    /// Whether clients and the log are told that this transport is deprecated. Default: true. Off, there
    /// is no header, log line or event about it.
    pub deprecation_warnings: bool,
    /// How they are told, and when this transport ends here. Default: standard headers, no date.
    pub deprecation: DeprecationConfig,
    /// Streams at one time, each a session. Default: 1,000. One more gets 503 with `Retry-After` at once.
    /// Each takes a connection of its own, while its client sends its messages over others.
    pub max_streams: usize,
    /// A stream whose client has not sent `initialize` by then ends. Default: 30 s.
    #[serde(with = "duration")]
    pub connection_timeout: Duration,
    /// A stream over which nothing was said either way for this long ends. Default: 300 s.
    #[serde(with = "duration")]
    pub session_timeout: Duration,
    /// Silence after which a comment is written on a stream. 1 s to 60 s; default: 15 s.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// What clients are told to wait before they connect again. Default: 3 s.
    #[serde(with = "duration")]
    pub retry: Duration,
    /// Messages that wait for one client to read them, 1 to 1,000. Default: 100. When it is full, whoever
    /// sends waits; a client that does not read is disconnected.
    pub event_buffer: usize,
    /// Answer a request in the response to its POST instead of on the stream, for clients that expect
    /// this; the protocol does not know it. Default: false.
    pub inline_json: bool,
}

impl Default for HttpSseConfig {
    fn default() -> Self {
        Self {
            base_config: HttpTransportConfig::default(),
            sse_endpoint: "/sse".to_owned(),
            messages_endpoint: "/messages".to_owned(),
            public_base: None,
            deprecation_warnings: true,
            deprecation: DeprecationConfig::default(),
            max_streams: 1_000,
            connection_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(300),
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(3),
            event_buffer: 100,
            inline_json: false,
        }
    }
}

impl HttpSseConfig {
    /// Begins with the defaults.
    pub fn builder() -> HttpSseConfigBuilder {
        HttpSseConfigBuilder::default()
    }

    /// [`deprecation`](Self::deprecation) as it holds: with warnings only if
    /// [`deprecation_warnings`](Self::deprecation_warnings) are on, too.
    #[must_use]
    pub fn effective_deprecation(&self) -> DeprecationConfig {
        let warnings = self.deprecation_warnings && self.deprecation.warnings();
        self.deprecation.clone().with_warnings(warnings)
    }

    /// The endpoint of Streamable HTTP as clients see it, which is where they are sent to:
    /// `public_base` and `base_config.endpoint`.
    ///
    /// # Errors
    /// [`ConfigError::Path`] or [`ConfigError::PublicBase`] if one of them is wrong,
    /// [`ConfigError::Successor`] if the two make no address that a link can lead to.
    pub fn successor(&self) -> Result<LinkTarget, ConfigError> {
        check_path("endpoint", &self.base_config.endpoint)?;
        let value = self.base()?.join(&self.base_config.endpoint);
        value.parse().map_err(|_| ConfigError::Successor { value })
    }

    /// What the server side of both transports is set to by this: as by `base_config`, with room for
    /// `max_streams` more connections and event streams. So whatever one of the two says, the streams of
    /// HTTP+SSE leave connections to send messages over.
    ///
    /// # Errors
    /// [`ConfigError`] if a field says what is not possible.
    pub fn server_config(&self) -> Result<ServerConfig, ConfigError> {
        self.check()?;
        let mut server = self.base_config.server_config()?;
        let limits = &mut server.limits;
        for limit in [&mut limits.max_connections, &mut limits.max_streams] {
            *limit = limit.saturating_add(self.max_streams);
        }
        Ok(server)
    }

    /// What an endpoint of HTTP+SSE is set to by this.
    ///
    /// # Errors
    /// [`ConfigError`] if a field says what is not possible.
    pub fn sse_config(&self) -> Result<SseConfig, ConfigError> {
        self.check()?;
        let outside = |field, reason| move |_| ConfigError::OutOfRange { field, reason };
        let heartbeat = Heartbeat::try_from(self.heartbeat);
        let event_buffer = EventCapacity::try_from(self.event_buffer);
        Ok(SseConfig {
            public_base: self.base()?,
            max_streams: self.max_streams,
            connection_timeout: self.connection_timeout,
            session_timeout: self.session_timeout,
            heartbeat: heartbeat.map_err(outside("heartbeat", "1 s to 60 s"))?,
            retry: self.retry,
            event_buffer: event_buffer.map_err(outside("event_buffer", "1 to 1,000"))?,
            max_message: self.base_config.max_message_size,
            max_requests_per_session: self.base_config.max_concurrent_requests,
            inline_json: self.inline_json,
            ..SseConfig::default()
        })
    }

    fn base(&self) -> Result<PublicBase, ConfigError> {
        let value = self.public_base.as_deref().unwrap_or_default();
        value.parse().map_err(|_| {
            let value = value.to_owned();
            ConfigError::PublicBase { value }
        })
    }

    /// What [`sse_config`](Self::sse_config) does not check by making its types.
    fn check(&self) -> Result<(), ConfigError> {
        self.base_config.server_config()?;
        check_path("sse_endpoint", &self.sse_endpoint)?;
        check_path("messages_endpoint", &self.messages_endpoint)?;
        self.successor()?;
        let paths = [
            &self.base_config.endpoint,
            &self.sse_endpoint,
            &self.messages_endpoint,
        ];
        for (at, path) in paths.iter().enumerate() {
            self.base_config.check_no_page(path)?;
            if paths[..at].contains(path) {
                let value = (*path).clone();
                return Err(ConfigError::SamePath { value });
            }
        }
        check_counts(&[("max_streams", self.max_streams)])?;
        check_durations(&[
            ("connection_timeout", self.connection_timeout),
            ("session_timeout", self.session_timeout),
            ("retry", self.retry),
        ])
    }
}

/// Builds an [`HttpSseConfig`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct HttpSseConfigBuilder {
    config: HttpSseConfig,
}

impl HttpSseConfigBuilder {
    setters! {
        /// [`HttpSseConfig::base_config`]
        base_config: HttpTransportConfig,
        /// [`HttpSseConfig::sse_endpoint`]
        sse_endpoint: String,
        /// [`HttpSseConfig::messages_endpoint`]
        messages_endpoint: String,
        /// [`HttpSseConfig::public_base`]
        public_base: Option<String>,
        /// [`HttpSseConfig::deprecation_warnings`]
        deprecation_warnings: bool,
        /// [`HttpSseConfig::deprecation`]
        deprecation: DeprecationConfig,
        /// [`HttpSseConfig::max_streams`]
        max_streams: usize,
        /// [`HttpSseConfig::connection_timeout`]
        connection_timeout: Duration,
        /// [`HttpSseConfig::session_timeout`]
        session_timeout: Duration,
        /// [`HttpSseConfig::heartbeat`]
        heartbeat: Duration,
        /// [`HttpSseConfig::retry`]
        retry: Duration,
        /// [`HttpSseConfig::event_buffer`]
        event_buffer: usize,
        /// [`HttpSseConfig::inline_json`]
        inline_json: bool,
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if a field says what is not possible.
    pub fn build(self) -> Result<HttpSseConfig, ConfigError> {
        self.config.sse_config()?;
        Ok(self.config)
    }
}
