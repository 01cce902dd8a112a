//! How an HTTP+SSE endpoint behaves. Every setting is enforced; what would break clients cannot be said.

use std::str::FromStr;
use std::time::Duration;

use crate::server::event_buffer::EventBufferConfig;

/// Limits and manners of one [`SseEndpoint`](super::SseEndpoint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseConfig {
    /// What stands before the messages path in the `endpoint` event, as the client sees it: a path prefix
    /// that a proxy in front strips, or an origin. Default: nothing, clients see the paths as they are.
    pub public_base: PublicBase,
    /// Streams open at one time on this endpoint. Default: 1,000. One more GET gets 503 with
    /// `Retry-After`, at once.
    pub max_streams: usize,
    /// A session whose client has not sent `initialize` by then ends. Default: 30 s.
    pub connection_timeout: Duration,
    /// A session ends after so long without a message either way and without a running request. Default:
    /// 300 s.
    pub session_timeout: Duration,
    /// Silence on the stream after which a comment is written. Default: 15 s.
    pub heartbeat: Heartbeat,
    /// When clients that reconnect by themselves are asked to do so, told with the first event. Default:
    /// 3 s.
    pub retry: Duration,
    /// Messages that wait for a client to read. Default: 100. Who has one more waits for room.
    pub event_buffer: EventCapacity,
    /// Bytes of messages that wait for a client to read; a single message may be larger. Default: 1 MiB.
    pub buffer_bytes: usize,
    /// Bytes of one message from the handler. Default: 16 MiB. In place of a larger answer the client gets
    /// an error.
    pub max_message: usize,
    /// Requests running at one time in one session. Default: 128. One more gets 503.
    pub max_requests_per_session: usize,
    /// Answers requests with 200 and the answer in the response to the POST, and then not on the stream.
    /// Batches are not affected. Default: false, as 2024-11-05 has it: 202, and the answer on the stream.
    pub inline_json: bool,
}

impl Default for SseConfig {
    fn default() -> Self {
        Self {
            public_base: PublicBase::default(),
            max_streams: 1_000,
            connection_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(300),
            heartbeat: Heartbeat::default(),
            retry: Duration::from_secs(3),
            event_buffer: EventCapacity::default(),
            buffer_bytes: 1 << 20,
            max_message: 16 << 20,
            max_requests_per_session: 128,
            inline_json: false,
        }
    }
}

impl SseConfig {
    pub(super) fn buffer(&self) -> EventBufferConfig {
        EventBufferConfig {
            max_events: self.event_buffer.get(),
            max_bytes: self.buffer_bytes,
            retention: Duration::ZERO,
        }
    }
}

/// A setting that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSetting {
    /// See [`Heartbeat`].
    #[error("the heartbeat is {given:?}, and must be 1 s to 60 s")]
    Heartbeat {
        /// What was given.
        given: Duration,
    },
    /// See [`EventCapacity`].
    #[error("{given} events are to be buffered, and it must be 1 to {max}", max = EventCapacity::MAX)]
    EventCapacity {
        /// What was given.
        given: usize,
    },
    /// See [`PublicBase`].
    #[error("the public base is an absolute path or an http(s) origin, without query and fragment")]
    PublicBase,
}

/// An interval between 1 s and 60 s: proxies cut what is silent for longer, and less is a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heartbeat(Duration);

impl Heartbeat {
    /// The interval.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self(Duration::from_secs(15))
    }
}

impl TryFrom<Duration> for Heartbeat {
    type Error = InvalidSetting;

    fn try_from(given: Duration) -> Result<Self, InvalidSetting> {
        let range = Duration::from_secs(1)..=Duration::from_secs(60);
        if range.contains(&given) {
            Ok(Self(given))
        } else {
            Err(InvalidSetting::Heartbeat { given })
        }
    }
}

/// A number of events, 1 to 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventCapacity(usize);

impl EventCapacity {
    /// The most events one session may have waiting.
    pub const MAX: usize = 1_000;

    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

impl Default for EventCapacity {
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<usize> for EventCapacity {
    type Error = InvalidSetting;

    fn try_from(given: usize) -> Result<Self, InvalidSetting> {
        if (1..=Self::MAX).contains(&given) {
            Ok(Self(given))
        } else {
            Err(InvalidSetting::EventCapacity { given })
        }
    }
}

/// A path prefix (`/gateway`) or an origin, with or without a path (`https://mcp.example/gateway`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublicBase(String);

impl PublicBase {
    /// The text, without a slash at its end; empty if there is no base.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A path of the server as clients see it.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl FromStr for PublicBase {
    type Err = InvalidSetting;

    fn from_str(text: &str) -> Result<Self, InvalidSetting> {
        let base = text.trim_end_matches('/');
        let absolute = base.starts_with("http://") || base.starts_with("https://");
        // Two slashes would make a host of what follows (RFC 3986 4.2).
        let path = base.is_empty() || (base.starts_with('/') && !base.starts_with("//"));
        let plain = base
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"' | b'<' | b'>'));
        if plain && (path || absolute) {
            Ok(Self(base.to_owned()))
        } else {
            Err(InvalidSetting::PublicBase)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A18, T8: neither 0 nor a huge value can be configured.
    #[test]
    fn a18_heartbeats_are_bounded() {
        let seconds = |s| Heartbeat::try_from(Duration::from_secs(s));
        assert_eq!(Heartbeat::default().get(), Duration::from_secs(15));
        assert!(seconds(1).is_ok() && seconds(60).is_ok());
        for refused in [Duration::ZERO, Duration::from_millis(999), Duration::MAX] {
            assert!(Heartbeat::try_from(refused).is_err(), "{refused:?}");
        }
        assert!(seconds(61).is_err());
    }

    /// A16, A17, A19, T11: the limits are lower and the times shorter than those of Streamable HTTP.
    #[test]
    fn t11_legacy_limits_are_below_those_of_streamable() {
        let (legacy, config) = (SseConfig::default(), crate::server::ServerConfig::default());
        assert!(legacy.max_streams * 10 <= config.limits.max_streams);
        assert!(legacy.session_timeout < config.sessions.idle);
        assert_eq!(legacy.connection_timeout, Duration::from_secs(30));
        assert_eq!(legacy.session_timeout, Duration::from_secs(300));
        assert_eq!(legacy.event_buffer.get(), 100);
        assert!(EventCapacity::try_from(1_000).is_ok());
        assert!(EventCapacity::try_from(0).is_err() && EventCapacity::try_from(1_001).is_err());
    }

    /// A9, R041: what stands before the path is a path or an origin, and nothing that changes its meaning.
    #[test]
    fn r041_public_bases() {
        let base = |text: &str| text.parse::<PublicBase>().map(|base| base.0);
        assert_eq!(base("/gateway/"), Ok("/gateway".to_owned()));
        assert_eq!(base(""), Ok(String::new()));
        let origin = "https://mcp.example/base";
        assert_eq!(base(origin), Ok(origin.to_owned()));
        for refused in [
            "gateway", "//evil", "/a b", "/a?b", "/a#b", "ftp://a", "/a\nb",
        ] {
            assert_eq!(base(refused), Err(InvalidSetting::PublicBase), "{refused}");
        }
    }
}
