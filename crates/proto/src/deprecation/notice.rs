//! What a client, or a log, gets to see.

use http::header::{HeaderName, HeaderValue, LINK};
use serde::{Deserialize, Serialize};

use super::{DEPRECATED_SINCE, DeprecationConfig, LinkTarget, MigrationLevel, Phase, Timestamp};

/// `Deprecation` (RFC 9745).
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// `Sunset` (RFC 8594).
const SUNSET: HeaderName = HeaderName::from_static("sunset");
/// What [`MigrationLevel::Active`] adds.
const ACTIVE: [(HeaderName, HeaderValue); 3] = [
    (
        HeaderName::from_static("x-transport-deprecated"),
        HeaderValue::from_static("true"),
    ),
    (
        HeaderName::from_static("x-migration-available"),
        HeaderValue::from_static("true"),
    ),
    (
        HeaderName::from_static("x-mcp-migration"),
        HeaderValue::from_static("http-streamable-available"),
    ),
];

/// The headers of every response to an HTTP+SSE client: of the stream, of posted messages, and of
/// [`gone`]. `successor` is the endpoint of Streamable HTTP as the client sees it, with the public base
/// path.
///
/// They do not change with time, so a server makes them once. Append them: there are two `Link`.
#[must_use]
pub fn headers(
    config: &DeprecationConfig,
    successor: &LinkTarget,
) -> Vec<(HeaderName, HeaderValue)> {
    let level = config.migration();
    if level == MigrationLevel::Silent {
        return Vec::new();
    }
    // A structured-field Date (RFC 9651 3.3.7).
    let since = text(format!("@{}", DEPRECATED_SINCE.unix()));
    let documentation = config
        .documentation_url()
        .header(r#"rel="deprecation"; type="text/html""#);
    let mut headers = vec![
        (DEPRECATION, since),
        (LINK, documentation),
        (LINK, successor.header(r#"rel="successor-version""#)),
    ];
    headers.extend(
        config
            .sunset()
            .map(|sunset| (SUNSET, text(sunset.http_date()))),
    );
    if level >= MigrationLevel::Active {
        headers.extend(ACTIVE);
    }
    headers
}

/// Numbers and dates as a header's value.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("numbers and dates are visible ASCII and blanks")
}

/// How loud a log line about a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should act.
    Warning,
}

/// How loud the log is about a client that uses HTTP+SSE; `None`: not at all. Ask a
/// [`Throttle`](super::Throttle) first.
#[must_use]
pub fn severity(config: &DeprecationConfig, now: Timestamp) -> Option<Severity> {
    match config.migration() {
        MigrationLevel::Silent => None,
        MigrationLevel::Passive if config.phase(now) < Phase::Soon => Some(Severity::Info),
        MigrationLevel::Passive | MigrationLevel::Active | MigrationLevel::Aggressive => {
            Some(Severity::Warning)
        }
    }
}

/// A `notifications/message` for a client's stream, for [`MigrationLevel::Aggressive`] only: a JSON-RPC
/// message, to be sent once in a session, right after `notifications/initialized`.
///
/// A server may send it only if it declared the capability `logging`, which a gateway must not invent for
/// the server behind it. What a client asks for with `logging/setLevel` cannot stand in the way: it asks
/// later, and until then the server decides (specification, Logging).
#[must_use]
pub fn hint(config: &DeprecationConfig, now: Timestamp, successor: &LinkTarget) -> Option<Vec<u8>> {
    if config.migration() != MigrationLevel::Aggressive {
        return None;
    }
    let message = serde_json::json!({
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": {
            "level": "warning",
            "logger": "transport",
            "data": {
                "message": format!(
                    "This connection uses the deprecated HTTP+SSE transport{}. Configure the client to \
                     use Streamable HTTP at {successor}",
                    ending(config, now)
                ),
                "successor": successor,
                "sunset": config.sunset(),
                "documentation": config.documentation_url(),
            }
        }
    });
    Some(message.to_string().into_bytes())
}

/// When it ends, as a part of a sentence.
fn ending(config: &DeprecationConfig, now: Timestamp) -> String {
    match config.sunset() {
        None => String::new(),
        Some(sunset) if sunset <= now => {
            format!(", which was to end on {}", sunset.date_text())
        }
        Some(sunset) => format!(
            ", which this server stops serving on {}",
            sunset.date_text()
        ),
    }
}

/// The body of a 410 after the sunset: problem details (RFC 9457).
///
/// 410 and not 404 or 405, which clients take for an invitation to probe.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Gone {
    /// What kind of problem it is: the address of its documentation.
    #[serde(rename = "type")]
    pub kind: LinkTarget,
    /// The same in words.
    pub title: String,
    /// The status, again: 410.
    pub status: u16,
    /// What a person should do.
    pub detail: String,
    /// What a program may try: the endpoint of Streamable HTTP.
    pub successor: LinkTarget,
    /// Since when.
    pub sunset: Timestamp,
}

impl Gone {
    /// `Content-Type` of the body.
    pub const MEDIA_TYPE: &str = "application/problem+json";
    /// The status of the response.
    pub const STATUS: http::StatusCode = http::StatusCode::GONE;

    /// The body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers under string keys")
    }
}

/// What a client is answered when HTTP+SSE [is gone](DeprecationConfig::is_gone); `None` as long as it is
/// served.
#[must_use]
pub fn gone(config: &DeprecationConfig, now: Timestamp, successor: &LinkTarget) -> Option<Gone> {
    let sunset = config.sunset().filter(|_| config.is_gone(now))?;
    Some(Gone {
        kind: config.documentation_url().clone(),
        title: "HTTP+SSE is not served any more".to_owned(),
        status: Gone::STATUS.as_u16(),
        detail: format!(
            "This server stopped serving the HTTP+SSE transport on {}. Configure the client to use the \
             Streamable HTTP transport at {successor}: messages are posted there, and there is no stream \
             to be opened first.",
            sunset.date_text()
        ),
        successor: successor.clone(),
        sunset,
    })
}
