//! `[sse]`: HTTP+SSE (2024-11-05) beside every endpoint of Streamable HTTP, and its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thinpipe_gateway::{SsePaths, UpstreamSpec};
use thinpipe_proto::deprecation::{AfterSunset, DeprecationConfig, MigrationLevel};
use thinpipe_transport::server::{EventCapacity, LegacyMode, SseConfig};

use super::build::Build;
use super::problem::Problem;
use super::quantity::{Period, Size};
use super::tables::{Bounds, MAX_MESSAGE, Number, Quantity};
use super::tree::Path;

const SECOND: Period = Period(Duration::from_secs(1));
const MINUTE: Period = Period(Duration::from_secs(60));
const HOUR: Period = Period(Duration::from_secs(3600));
const DAY: Period = Period(Duration::from_secs(86_400));
const SHORTEST: Period = Period(Duration::from_millis(10));
const MILLION: Number = 1_000_000;

const STREAMS: Bounds<Number> = Bounds::new(1, MILLION);
const CONNECTION: Bounds<Period> = Bounds::new(SHORTEST, HOUR);
const SESSION: Bounds<Period> = Bounds::new(SHORTEST, DAY);
// A18: neither off nor so long that proxies on the way give up.
const HEARTBEAT: Bounds<Period> = Bounds::new(SECOND, MINUTE);
const RETRY: Bounds<Period> = Bounds::new(SHORTEST, HOUR);
// A19: at most 1,000.
const EVENTS: Bounds<Number> = Bounds::new(1, EventCapacity::MAX as Number);
const BYTES: Bounds<Size> = Bounds::new(Size(1 << 10), Size(1 << 30));
const WARN_EVERY: Bounds<Period> = Bounds::new(SECOND, DAY);

/// `[sse]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSse {
    /// Whether HTTP+SSE is served at all.
    pub(crate) enabled: Option<bool>,
    /// What clients see before the messages path.
    pub(crate) public_base: Option<String>,
    /// Streams on one endpoint.
    pub(crate) max_streams: Option<Number>,
    /// For `initialize` to come.
    pub(crate) connection_timeout: Option<Period>,
    /// Without a message either way.
    pub(crate) session_timeout: Option<Period>,
    /// Silence before a comment.
    pub(crate) heartbeat: Option<Period>,
    /// What clients are told to wait before they come back.
    pub(crate) retry: Option<Period>,
    /// Messages that wait for one client.
    pub(crate) event_buffer: Option<Number>,
    /// Bytes of these.
    pub(crate) buffer_bytes: Option<Size>,
    /// Bytes of one message to a client.
    pub(crate) max_message: Option<Size>,
    /// Requests running in one session.
    pub(crate) max_requests_per_session: Option<Number>,
    /// Answers in the response to the POST.
    pub(crate) inline_json: Option<bool>,
    /// What clients are told of its end.
    pub(crate) deprecation: RawDeprecation,
}

/// `[sse.deprecation]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawDeprecation {
    /// Whether clients and logs are told.
    pub(crate) warnings: Option<bool>,
    /// How much is made of it.
    pub(crate) migration: Option<MigrationLevel>,
    /// Where people can read of it.
    pub(crate) documentation_url: Option<String>,
    /// When HTTP+SSE is not served any more.
    pub(crate) sunset: Option<String>,
    /// What becomes of it then.
    pub(crate) after_sunset: Option<AfterSunset>,
    /// How often a log is told of one client.
    pub(crate) warn_every: Option<Period>,
}

impl Build {
    /// How HTTP+SSE is served; `None`: it is not.
    pub(super) fn sse(&mut self, raw: &RawSse, max_buffered: usize) -> Option<SseConfig> {
        let at = Path::default().key("sse");
        let mut sse = SseConfig::default();
        // Nobody who has little room has to know of this one.
        sse.max_message = sse.max_message.min(max_buffered);
        if let Some(base) = &raw.public_base {
            match base.parse() {
                Ok(base) => sse.public_base = base,
                Err(error) => self.add(
                    Problem::at(at.key("public_base"), format!("`{base}`: {error}"))
                        .mend("write it as in \"/gateway\" or \"https://mcp.example.com/gateway\""),
                ),
            }
        }
        let key = |name| at.key(name);
        sse.max_streams = self.within(
            &key("max_streams"),
            raw.max_streams,
            sse.max_streams,
            &STREAMS,
        );
        let (name, default) = ("connection_timeout", sse.connection_timeout);
        sse.connection_timeout =
            self.within(&key(name), raw.connection_timeout, default, &CONNECTION);
        let (name, default) = ("session_timeout", sse.session_timeout);
        sse.session_timeout = self.within(&key(name), raw.session_timeout, default, &SESSION);
        let heartbeat = sse.heartbeat.get();
        let heartbeat = self.within(&key("heartbeat"), raw.heartbeat, heartbeat, &HEARTBEAT);
        sse.heartbeat = heartbeat.try_into().unwrap_or_default();
        sse.retry = self.within(&key("retry"), raw.retry, sse.retry, &RETRY);
        let events = sse.event_buffer.get();
        let events = self.within(&key("event_buffer"), raw.event_buffer, events, &EVENTS);
        sse.event_buffer = events.try_into().unwrap_or_default();
        sse.buffer_bytes = self.within(
            &key("buffer_bytes"),
            raw.buffer_bytes,
            sse.buffer_bytes,
            &BYTES,
        );
        sse.max_message = self.within(
            &key("max_message"),
            raw.max_message,
            sse.max_message,
            &MAX_MESSAGE,
        );
        self.fits(&key("max_message"), sse.max_message, max_buffered);
        let (name, default) = ("max_requests_per_session", sse.max_requests_per_session);
        sse.max_requests_per_session =
            self.within(&key(name), raw.max_requests_per_session, default, &STREAMS);
        sse.inline_json = raw.inline_json.unwrap_or(sse.inline_json);
        raw.enabled.unwrap_or(true).then_some(sse)
    }

    /// What clients of HTTP+SSE are told of its end.
    pub(super) fn deprecation(&mut self, raw: &RawDeprecation) -> DeprecationConfig {
        let at = Path::default().key("sse").key("deprecation");
        let default = DeprecationConfig::default();
        let mut config = default
            .clone()
            .with_warnings(raw.warnings.unwrap_or_else(|| default.warnings()))
            .with_migration(raw.migration.unwrap_or_default())
            .with_after_sunset(raw.after_sunset.unwrap_or_default());
        if let Some(url) = &raw.documentation_url {
            match url.parse() {
                Ok(url) => config = config.with_documentation_url(url),
                Err(error) => {
                    let problem = Problem::at(at.key("documentation_url"), error.to_string());
                    self.add(problem.mend("write it as in \"https://example.com/moving\""));
                }
            }
        }
        let (key, default) = (at.key("warn_every"), DeprecationConfig::WARN_EVERY);
        let every = self.within(&key, raw.warn_every, default, &WARN_EVERY);
        config = self.kept(config, &key, |config| config.with_warn_every(every));
        let key = at.key("sunset");
        match raw.sunset.as_deref().map(str::parse).transpose() {
            Ok(sunset) => self.kept(config, &key, |config| config.with_sunset(sunset)),
            Err(error) => {
                let problem = Problem::at(key, format!("{error}"));
                self.add(problem.mend("write the day on which HTTP+SSE ends here: \"2027-07-28\""));
                config
            }
        }
    }

    /// The configuration with one setting more, or as it was if that is refused.
    fn kept<E: std::error::Error>(
        &mut self,
        config: DeprecationConfig,
        at: &Path,
        with: impl FnOnce(DeprecationConfig) -> Result<DeprecationConfig, E>,
    ) -> DeprecationConfig {
        match with(config.clone()) {
            Ok(config) => config,
            Err(error) => {
                let problem = Problem::at(at.clone(), error.to_string());
                self.add(problem.mend("choose a later day, or none"));
                config
            }
        }
    }

    /// The two paths of HTTP+SSE beside an endpoint.
    pub(super) fn sse_paths(
        &mut self,
        given: [Option<String>; 2],
        base: &str,
        config: Option<&SseConfig>,
        legacy: LegacyMode,
        path: &Path,
    ) -> Option<SsePaths> {
        let keys = ["sse_path", "messages_path"];
        let Some(config) = config else {
            for (key, _) in keys.iter().zip(&given).filter(|(_, given)| given.is_some()) {
                let message = "HTTP+SSE is not served";
                let mend = match legacy {
                    LegacyMode::Refused => "remove it, or `legacy = \"refused\"`",
                    _ => "remove it, or `sse.enabled = false`",
                };
                self.add(Problem::at(path.key(*key), message).mend(mend));
            }
            return None;
        };
        let defaults = ["sse", "messages"].map(|name| format!("{base}/{name}"));
        let mut paths = keys.iter().zip(given).zip(defaults);
        let mut next = || {
            let ((key, given), default) = paths.next()?;
            match given {
                Some(given) => self.endpoint_at(given, path.key(*key), "/sse"),
                None => Some(default),
            }
        };
        Some(SsePaths {
            stream: next()?,
            messages: next()?,
            config: config.clone(),
        })
    }
}

impl RawSse {
    /// What is in effect, as it is written.
    pub(super) fn shown(specs: &[UpstreamSpec], deprecation: &DeprecationConfig) -> Self {
        let Some(sse) = specs.iter().find_map(|spec| spec.sse.as_ref()) else {
            return Self {
                enabled: Some(false),
                ..Self::default()
            };
        };
        let sse = &sse.config;
        Self {
            enabled: Some(true),
            public_base: Some(sse.public_base.as_str().to_owned()),
            max_streams: Some(Quantity::write(sse.max_streams)),
            connection_timeout: Some(Period(sse.connection_timeout)),
            session_timeout: Some(Period(sse.session_timeout)),
            heartbeat: Some(Period(sse.heartbeat.get())),
            retry: Some(Period(sse.retry)),
            event_buffer: Some(Quantity::write(sse.event_buffer.get())),
            buffer_bytes: Some(Quantity::write(sse.buffer_bytes)),
            max_message: Some(Quantity::write(sse.max_message)),
            max_requests_per_session: Some(Quantity::write(sse.max_requests_per_session)),
            inline_json: Some(sse.inline_json),
            deprecation: RawDeprecation {
                warnings: Some(deprecation.warnings()),
                migration: Some(deprecation.migration()),
                documentation_url: Some(deprecation.documentation_url().to_string()),
                sunset: deprecation.sunset().map(|sunset| sunset.to_string()),
                after_sunset: Some(deprecation.after_sunset()),
                warn_every: Some(Period(deprecation.warn_every())),
            },
        }
    }
}
