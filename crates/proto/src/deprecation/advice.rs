//! What one client should do, as far as its headers tell (A26).

use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};
use serde::{Deserialize, Serialize};

use super::Phase;
use crate::header::{METHOD, PROTOCOL_VERSION, SESSION_ID};
use crate::revision::{Binding, Revision};

/// What a client should do about its transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationAdvice {
    /// The transport to use: Streamable HTTP, stateless for clients that are known to speak revision
    /// 2026-07-28, else with sessions. A client that speaks both finds out by itself.
    #[serde(serialize_with = "binding")]
    pub recommended: Binding,
    /// How ready the client is for it.
    pub level: Readiness,
    /// How soon it should.
    pub urgency: Urgency,
    /// What is gained.
    pub gains: &'static [Gain],
    /// What the client is made with.
    pub sdk: Sdk,
}

/// How ready a client is for Streamable HTTP. The greater, the readier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Nothing is known: ask its makers, or try.
    Unknown,
    /// Its SDK has had Streamable HTTP for long, in nearly all versions that are in use.
    Likely,
    /// It sends `MCP-Protocol-Version`, whichever it is: the header came after Streamable HTTP, and
    /// so did the SDKs that send it, so what has to change is which transport is chosen, and the address.
    Ready,
    /// The request is one of Streamable HTTP.
    Migrated,
}

/// How soon a client should change. The greater, the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// There is nothing to do.
    None,
    /// When there is time: no date is set, or it is more than 180 days away.
    Low,
    /// 180 days at most.
    Medium,
    /// 90 days at most.
    High,
    /// 30 days at most, or the date has come.
    Critical,
}

/// What Streamable HTTP has and HTTP+SSE has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gain {
    /// A call is answered by the response to its own request: status, error and answer together.
    AnswerInResponse,
    /// No connection has to stay open between calls.
    NoStandingConnection,
    /// A session outlives its connections, and broken streams can be resumed.
    ResumableStreams,
    /// Sessions are closed on purpose, so nothing is left for a time-out to find.
    ExplicitEnd,
    /// The session id is in a header, not in addresses, which proxies log.
    NoSecretInAddress,
    /// Any node may take any request: no session, no affinity.
    NoAffinity,
    /// Headers say what is called, so that proxies can route and limit without reading bodies.
    VisibleMethods,
    /// Closing the connection cancels the call.
    CancelByClosing,
}

impl Gain {
    /// As a sentence for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnswerInResponse => {
                "A call is answered by the response to its own request, with a status of its own."
            }
            Self::NoStandingConnection => "No connection has to stay open between calls.",
            Self::ResumableStreams => {
                "A session outlives its connections, and a broken stream can be resumed where it was."
            }
            Self::ExplicitEnd => "A client ends its session on purpose, with DELETE.",
            Self::NoSecretInAddress => {
                "The session id travels in a header, not in addresses, which proxies log."
            }
            Self::NoAffinity => {
                "Any node can take any request: there is no session to be kept together."
            }
            Self::VisibleMethods => {
                "Headers name the method and the tool, so that proxies can route without reading bodies."
            }
            Self::CancelByClosing => "Closing the connection cancels the call.",
        }
    }
}

/// What a client is made with, by its `User-Agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sdk {
    /// A program on Node: the TypeScript SDK, most likely.
    Node,
    /// The Python SDK 2, or what is built on it.
    Python,
    /// The Python SDK 1, or what is built on it.
    PythonOne,
    /// No SDK is known by this name, or there is none: what is built on reqwest, such as rmcp, sends none.
    Other,
}

impl Sdk {
    fn of(headers: &HeaderMap) -> Self {
        let agent = headers.get(USER_AGENT).map_or(&b""[..], |v| v.as_bytes());
        match agent {
            b"node" => Self::Node,
            _ if agent.starts_with(b"node-fetch") || agent.starts_with(b"undici") => Self::Node,
            _ if agent.starts_with(b"python-httpx2/") => Self::Python,
            _ if agent.starts_with(b"python-httpx/") => Self::PythonOne,
            _ => Self::Other,
        }
    }

    /// What to change in a program, as a sentence.
    #[must_use]
    pub fn change(self) -> &'static str {
        match self {
            Self::Node => {
                "TypeScript SDK: make a StreamableHTTPClientTransport instead of an SSEClientTransport (1.10.0 \
                 or newer)."
            }
            Self::Python => {
                "Python SDK 2: use Client(url), or streamable_http_client() instead of sse_client(). FastMCP: \
                 StreamableHttpTransport instead of SSETransport."
            }
            Self::PythonOne => {
                "Python SDK 1: use streamablehttp_client() instead of sse_client() (1.8.0 or newer)."
            }
            Self::Other => {
                "Choose \"Streamable HTTP\" (in some clients \"http\") instead of \"SSE\" where the server's \
                 address is configured."
            }
        }
    }
}

/// What the sender of a request should do about its transport. `phase` says how near the sunset is; it is
/// of no account for a client that uses Streamable HTTP already.
///
/// One request proves little, and some nothing: a client that opens an event stream looks the same
/// whatever it could do. So the advice of its later requests may be better, never worse.
#[must_use]
pub fn advise(headers: &HeaderMap, phase: Phase) -> MigrationAdvice {
    let sdk = Sdk::of(headers);
    let revision = headers
        .get(PROTOCOL_VERSION)
        .and_then(|value| Revision::from_bytes(value.as_bytes()));
    let is_modern = headers.contains_key(METHOD) || revision.is_some_and(Revision::is_modern);
    let level = if is_modern || headers.contains_key(SESSION_ID) || names_both(headers) {
        Readiness::Migrated
    } else if revision.is_some() {
        Readiness::Ready
    } else if sdk == Sdk::Python {
        // Every version of it has both transports.
        Readiness::Likely
    } else {
        Readiness::Unknown
    };
    let urgency = match phase {
        _ if level == Readiness::Migrated => Urgency::None,
        Phase::Deprecated | Phase::Announced => Urgency::Low,
        Phase::Approaching => Urgency::Medium,
        Phase::Soon => Urgency::High,
        Phase::Imminent | Phase::Sunset => Urgency::Critical,
    };
    let (recommended, gains) = if is_modern {
        (Binding::Stateless, STATELESS)
    } else {
        (Binding::Sessions, SESSIONS)
    };
    MigrationAdvice {
        recommended,
        level,
        urgency,
        gains,
        sdk,
    }
}

const SESSIONS: &[Gain] = &[
    Gain::AnswerInResponse,
    Gain::NoStandingConnection,
    Gain::ResumableStreams,
    Gain::ExplicitEnd,
    Gain::NoSecretInAddress,
];
const STATELESS: &[Gain] = &[
    Gain::AnswerInResponse,
    Gain::NoStandingConnection,
    Gain::NoAffinity,
    Gain::NoSecretInAddress,
    Gain::VisibleMethods,
    Gain::CancelByClosing,
];

/// Both media types by name, as Streamable HTTP demands it of a POST. A wildcard, which many clients send
/// whatever they can read, names none.
fn names_both(headers: &HeaderMap) -> bool {
    let names = |wanted: &str| {
        let values = headers.get_all(ACCEPT).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| range.split(';').next())
            .any(|range| range.trim().eq_ignore_ascii_case(wanted))
    };
    names("application/json") && names("text/event-stream")
}

/// As programs read it.
fn binding<S: serde::Serializer>(binding: &Binding, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match binding {
        Binding::HttpSse => "http_sse",
        Binding::Sessions => "sessions",
        Binding::Stateless => "stateless",
    })
}
