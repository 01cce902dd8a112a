//! What an operator chooses.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{DEPRECATED_SINCE, Phase, Timestamp};
use crate::duration;
use crate::shown::Shown;

/// How clients of HTTP+SSE are told that it is deprecated, and what becomes of them (A4).
///
/// Its values are checked where they are set, so that every value of this type is valid. With serde,
/// every member may be missing and has its default then; unknown ones are refused. `sunset` is a date
/// (`2027-07-28`), a moment in UTC (`2027-07-28T12:00:00Z`) or an HTTP date, and `warn_every` a
/// [duration](crate::duration) (`"5m"`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct DeprecationConfig {
    warnings: bool,
    documentation_url: LinkTarget,
    sunset: Option<Timestamp>,
    migration: MigrationLevel,
    after_sunset: AfterSunset,
    warn_every: Duration,
}

/// How much is made of the deprecation (A23).
///
/// | level | headers | log, per client | in the stream |
/// |---|---|---|---|
/// | `silent` | none | none | nothing |
/// | `passive` | `Deprecation`, `Link`, `Sunset` | for information; a warning from 90 days before the sunset | nothing |
/// | `active` | the same and the `X-` ones | a warning | nothing |
/// | `aggressive` | the same as `active` | a warning | one log notification for a session |
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Deserialize, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MigrationLevel {
    /// Clients and logs are not told; who still comes is counted all the same.
    Silent,
    /// The standard headers (RFC 9745, RFC 8594, RFC 8288). Default.
    #[default]
    Passive,
    /// Also headers that people find when they look at the traffic.
    Active,
    /// Also a message that the user of the client may get to see.
    Aggressive,
}

/// What becomes of HTTP+SSE when the sunset has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterSunset {
    /// It is served as before.
    Warn,
    /// Nothing is served: 410, with where to go instead, for new streams and for messages alike. Default.
    #[default]
    Gone,
}

/// A setting that does not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDeprecation {
    /// RFC 9745 section 4: the sunset must not be earlier than the deprecation.
    #[error("the sunset {sunset} is earlier than the deprecation, {DEPRECATED_SINCE}")]
    SunsetTooEarly {
        /// What was asked for.
        sunset: Timestamp,
    },
    /// Without an interval the log would not be bounded, and one of days is as good as none.
    #[error("clients are warned of every 1 s to 24 h, not every {every:?}")]
    WarnEvery {
        /// What was asked for.
        every: Duration,
    },
}

impl DeprecationConfig {
    /// Where the deprecation is documented, unless configured: in the specification.
    pub const DOCUMENTATION: &str =
        "https://modelcontextprotocol.io/specification/2026-07-28/deprecated";
    /// How often a client is warned of, unless configured.
    pub const WARN_EVERY: Duration = Duration::from_secs(300);

    /// Whether there are any warnings: headers, log lines, notifications. Default: true. Off is the same
    /// as [`MigrationLevel::Silent`].
    #[must_use]
    pub fn warnings(&self) -> bool {
        self.warnings
    }

    /// Turns all warnings on or off (A3).
    #[must_use]
    pub fn with_warnings(mut self, warnings: bool) -> Self {
        self.warnings = warnings;
        self
    }

    /// Where people can read why, and what to do. Default: [`DOCUMENTATION`](Self::DOCUMENTATION).
    #[must_use]
    pub fn documentation_url(&self) -> &LinkTarget {
        &self.documentation_url
    }

    /// Sets where people can read why, and what to do.
    #[must_use]
    pub fn with_documentation_url(mut self, url: LinkTarget) -> Self {
        self.documentation_url = url;
        self
    }

    /// When this deployment plans to stop serving HTTP+SSE. Default: no date. The specification names no
    /// date for a switch-off either.
    #[must_use]
    pub fn sunset(&self) -> Option<Timestamp> {
        self.sunset
    }

    /// Sets when this deployment stops serving HTTP+SSE.
    ///
    /// # Errors
    /// [`InvalidDeprecation::SunsetTooEarly`] for a moment before [`DEPRECATED_SINCE`].
    pub fn with_sunset(mut self, sunset: Option<Timestamp>) -> Result<Self, InvalidDeprecation> {
        if let Some(sunset) = sunset.filter(|sunset| *sunset < DEPRECATED_SINCE) {
            return Err(InvalidDeprecation::SunsetTooEarly { sunset });
        }
        self.sunset = sunset;
        Ok(self)
    }

    /// How much is made of it: what was set, and nothing if there are no [`warnings`](Self::warnings).
    #[must_use]
    pub fn migration(&self) -> MigrationLevel {
        if self.warnings {
            self.migration
        } else {
            MigrationLevel::Silent
        }
    }

    /// Sets how much is made of it. Default: [`MigrationLevel::Passive`].
    #[must_use]
    pub fn with_migration(mut self, level: MigrationLevel) -> Self {
        self.migration = level;
        self
    }

    /// What becomes of HTTP+SSE when the sunset has come. It is no warning, so it happens without
    /// [`warnings`](Self::warnings), too. Default: [`AfterSunset::Gone`].
    #[must_use]
    pub fn after_sunset(&self) -> AfterSunset {
        self.after_sunset
    }

    /// Sets what becomes of HTTP+SSE when the sunset has come.
    #[must_use]
    pub fn with_after_sunset(mut self, action: AfterSunset) -> Self {
        self.after_sunset = action;
        self
    }

    /// How often a log may be told of one client. Default: [`WARN_EVERY`](Self::WARN_EVERY), 300 s.
    #[must_use]
    pub fn warn_every(&self) -> Duration {
        self.warn_every
    }

    /// Sets how often a log may be told of one client: between a second and a day.
    ///
    /// # Errors
    /// [`InvalidDeprecation::WarnEvery`] for less and for more.
    pub fn with_warn_every(mut self, every: Duration) -> Result<Self, InvalidDeprecation> {
        if every < Duration::from_secs(1) || every > Duration::from_secs(86_400) {
            return Err(InvalidDeprecation::WarnEvery { every });
        }
        self.warn_every = every;
        Ok(self)
    }

    /// How near the sunset is.
    #[must_use]
    pub fn phase(&self, now: Timestamp) -> Phase {
        Phase::at(now, self.sunset)
    }

    /// Whether HTTP+SSE is not served any more: [`gone`](super::gone) is the answer then.
    #[must_use]
    pub fn is_gone(&self, now: Timestamp) -> bool {
        self.after_sunset == AfterSunset::Gone && self.phase(now) == Phase::Sunset
    }
}

impl Default for DeprecationConfig {
    fn default() -> Self {
        Self {
            warnings: true,
            documentation_url: LinkTarget::from_static(Self::DOCUMENTATION),
            sunset: None,
            migration: MigrationLevel::default(),
            after_sunset: AfterSunset::default(),
            warn_every: Self::WARN_EVERY,
        }
    }
}

/// Where a link leads: a URI or a path, as a `Link` header may have it between its angle brackets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LinkTarget(String);

/// Text that cannot be a link's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a link is an http or https address or a path that begins with one /, of at most {} visible \
     ASCII characters without quotes, backslashes and angle brackets",
    LinkTarget::MAX
)]
pub struct InvalidLink;

impl LinkTarget {
    /// The longest target, in bytes.
    pub const MAX: usize = 2048;

    /// For constants, all of which a test holds to the rules.
    fn from_static(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The target as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<target>; parameters`.
    pub(super) fn header(&self, parameters: &'static str) -> HeaderValue {
        HeaderValue::try_from(format!("<{self}>; {parameters}"))
            .expect("targets are visible ASCII, and so are the parameters")
    }
}

impl FromStr for LinkTarget {
    type Err = InvalidLink;

    fn from_str(text: &str) -> Result<Self, InvalidLink> {
        let is_visible = |byte: u8| matches!(byte, 0x21..=0x7e) && !b"<>\"\\".contains(&byte);
        // What begins with two slashes leads to another host.
        let is_path = text.starts_with('/') && !text.starts_with("//");
        let host = ["https://", "http://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let is_address = host.is_some_and(|host| !matches!(host.as_bytes(), [] | [b'/', ..]));
        if (is_path || is_address) && text.len() <= Self::MAX && text.bytes().all(is_visible) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidLink)
        }
    }
}

impl fmt::Display for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Shown::new(&self.0, Self::MAX))
    }
}

impl Serialize for LinkTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LinkTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// As it is written down.
#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    warnings: bool,
    documentation_url: LinkTarget,
    #[serde(skip_serializing_if = "Option::is_none")]
    sunset: Option<Timestamp>,
    migration: MigrationLevel,
    after_sunset: AfterSunset,
    #[serde(with = "duration")]
    warn_every: Duration,
}

impl Default for RawConfig {
    fn default() -> Self {
        DeprecationConfig::default().into()
    }
}

impl From<DeprecationConfig> for RawConfig {
    fn from(config: DeprecationConfig) -> Self {
        Self {
            warnings: config.warnings,
            documentation_url: config.documentation_url,
            sunset: config.sunset,
            migration: config.migration,
            after_sunset: config.after_sunset,
            warn_every: config.warn_every,
        }
    }
}

impl TryFrom<RawConfig> for DeprecationConfig {
    type Error = InvalidDeprecation;

    fn try_from(raw: RawConfig) -> Result<Self, InvalidDeprecation> {
        Self::default()
            .with_warnings(raw.warnings)
            .with_documentation_url(raw.documentation_url)
            .with_migration(raw.migration)
            .with_after_sunset(raw.after_sunset)
            .with_warn_every(raw.warn_every)?
            .with_sunset(raw.sunset)
    }
}
