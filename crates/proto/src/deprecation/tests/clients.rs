//! What clients that exist are advised. `clients.json` holds what they sent to a server that wrote it
//! down, without the headers of the connection (`Host`, `Connection`, `Content-Length`); the server chose
//! revision 2025-11-25 when it was asked to `initialize`, and `abc` as the session.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};
use serde::Deserialize;

use super::super::*;
use crate::revision::Binding;

#[derive(Deserialize)]
struct Client {
    version: String,
    transport: String,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    message: Option<String>,
    headers: BTreeMap<String, String>,
}

impl Request {
    fn advice(&self) -> MigrationAdvice {
        advise(&map(&self.headers), Phase::Soon)
    }
}

fn map(headers: &BTreeMap<String, String>) -> HeaderMap {
    let parsed = |(name, value): (&String, &String)| {
        (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
    };
    headers.iter().map(parsed).collect()
}

fn clients() -> Vec<Client> {
    serde_json::from_str(include_str!("clients.json")).unwrap()
}

/// A26: client, transport, what it is made with, and what its best request shows.
const EXPECTED: [(&str, &str, Sdk, Readiness, Binding); 16] = {
    use Binding::{Sessions, Stateless};
    use Readiness::{Likely, Migrated, Ready, Unknown};
    use Sdk::{Node, Other, Python, PythonOne};
    [
        (
            "@modelcontextprotocol/sdk 1.9.0",
            "SSEClientTransport",
            Node,
            Unknown,
            Sessions,
        ),
        (
            "@modelcontextprotocol/sdk 1.32.2",
            "SSEClientTransport",
            Node,
            Ready,
            Sessions,
        ),
        (
            "@modelcontextprotocol/sdk 1.32.2",
            "StreamableHTTPClientTransport",
            Node,
            Migrated,
            Sessions,
        ),
        (
            "@modelcontextprotocol/client 2.4.0",
            "SSEClientTransport",
            Node,
            Ready,
            Sessions,
        ),
        (
            "@modelcontextprotocol/client 2.4.0",
            "StreamableHTTPClientTransport",
            Node,
            Migrated,
            Sessions,
        ),
        (
            "@modelcontextprotocol/client 2.4.0",
            "StreamableHTTPClientTransport, versionNegotiation auto",
            Node,
            Migrated,
            Stateless,
        ),
        ("mcp 1.6.0", "sse_client", PythonOne, Unknown, Sessions),
        ("mcp 2.3.0", "sse_client", Python, Likely, Sessions),
        (
            "mcp 2.3.0",
            "streamable_http_client",
            Python,
            Migrated,
            Sessions,
        ),
        ("mcp 2.3.0", "Client(url)", Python, Migrated, Stateless),
        ("fastmcp 4.2.3", "SSETransport", Python, Likely, Sessions),
        (
            "fastmcp 4.2.3",
            "StreamableHttpTransport",
            Python,
            Migrated,
            Stateless,
        ),
        (
            "@modelcontextprotocol/inspector 0.15.0 --cli",
            "--transport sse",
            Node,
            Ready,
            Sessions,
        ),
        (
            "@modelcontextprotocol/inspector 0.15.0 --cli",
            "--transport http",
            Node,
            Migrated,
            Sessions,
        ),
        ("rmcp 0.8.5", "SseClientTransport", Other, Unknown, Sessions),
        (
            "rmcp 3.11.0",
            "StreamableHttpClientTransport",
            Other,
            Migrated,
            Sessions,
        ),
    ]
};

/// A26, T10: the table, over what the clients really sent.
#[test]
fn a26_clients_that_exist_are_recognised() {
    let found = clients();
    assert_eq!(found.len(), EXPECTED.len());
    for (client, expected) in found.iter().zip(EXPECTED) {
        let (version, transport, sdk, level, recommended) = expected;
        assert_eq!(
            (client.version.as_str(), client.transport.as_str()),
            (version, transport)
        );
        let all = client.requests.iter().map(Request::advice);
        let best = all.max_by_key(|advice| advice.level).unwrap();
        assert_eq!(
            (best.sdk, best.level, best.recommended),
            (sdk, level, recommended),
            "{version} {transport}"
        );
    }
}

/// A26: no request of a client on the old transport is taken for one of the new, and each request of one
/// on the new transport is known by itself.
#[test]
fn a26_each_request_shows_which_transport_it_is_of() {
    for client in clients() {
        let is_old = client
            .requests
            .iter()
            .any(|it| it.method == "GET" && it.message.is_none())
            && !client
                .requests
                .iter()
                .any(|it| it.headers.contains_key("mcp-session-id"));
        for request in &client.requests {
            let advice = request.advice();
            assert_eq!(
                advice.level == Readiness::Migrated,
                !is_old,
                "{} {}: {} {:?}",
                client.version,
                client.transport,
                request.method,
                request.message
            );
            let urgency = if is_old { Urgency::High } else { Urgency::None };
            assert_eq!(advice.urgency, urgency);
        }
    }
}

/// A26, A21: the urgency is that of the phase, for those who have something to do.
#[test]
fn a26_urgency_grows_as_the_sunset_comes_near() {
    let legacy = HeaderMap::new();
    let mut streamable = HeaderMap::new();
    streamable.insert("mcp-session-id", "abc".parse().unwrap());
    for (phase, expected) in [
        (Phase::Deprecated, Urgency::Low),
        (Phase::Announced, Urgency::Low),
        (Phase::Approaching, Urgency::Medium),
        (Phase::Soon, Urgency::High),
        (Phase::Imminent, Urgency::Critical),
        (Phase::Sunset, Urgency::Critical),
    ] {
        assert_eq!(advise(&legacy, phase).urgency, expected);
        assert_eq!(advise(&streamable, phase).urgency, Urgency::None);
    }
}

/// A26: what no client of the table sends, but some may.
#[test]
fn a26_one_header_at_a_time() {
    for (name, value, level, recommended) in [
        (
            "accept",
            "text/event-stream",
            Readiness::Unknown,
            Binding::Sessions,
        ),
        ("accept", "*/*", Readiness::Unknown, Binding::Sessions),
        (
            "accept",
            "Application/JSON;q=0.9 , text/event-stream",
            Readiness::Migrated,
            Binding::Sessions,
        ),
        (
            "mcp-protocol-version",
            "2024-11-05",
            Readiness::Ready,
            Binding::Sessions,
        ),
        (
            "mcp-protocol-version",
            "2025-06-18",
            Readiness::Ready,
            Binding::Sessions,
        ),
        (
            "mcp-protocol-version",
            "2026-07-28",
            Readiness::Migrated,
            Binding::Stateless,
        ),
        (
            "mcp-protocol-version",
            "yesterday",
            Readiness::Unknown,
            Binding::Sessions,
        ),
        (
            "mcp-method",
            "tools/list",
            Readiness::Migrated,
            Binding::Stateless,
        ),
        (
            "user-agent",
            "Mozilla/5.0",
            Readiness::Unknown,
            Binding::Sessions,
        ),
        (
            "user-agent",
            "python-httpx2-fork",
            Readiness::Unknown,
            Binding::Sessions,
        ),
    ] {
        let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let advice = advise(&map(&headers), Phase::Deprecated);
        assert_eq!(
            (advice.level, advice.recommended),
            (level, recommended),
            "{name}: {value}"
        );
    }
}

/// A26: gains are what the recommended transport has, in words and as JSON.
#[test]
fn a26_gains_are_those_of_the_recommended_transport() {
    let sessions = advise(&HeaderMap::new(), Phase::Deprecated);
    assert!(sessions.gains.contains(&Gain::ResumableStreams));
    assert!(!sessions.gains.contains(&Gain::NoAffinity));
    let mut headers = HeaderMap::new();
    headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
    let stateless = advise(&headers, Phase::Deprecated);
    assert!(!stateless.gains.contains(&Gain::ResumableStreams));
    assert!(stateless.gains.contains(&Gain::NoAffinity));
    let figures = |text: &str| text.chars().any(|it| it.is_ascii_digit());
    let all = sessions.gains.iter().chain(stateless.gains);
    assert!(all.clone().all(|gain| gain.as_str().ends_with('.')));
    assert!(
        all.clone().all(|gain| !figures(gain.as_str())),
        "T10: no figure that was not measured"
    );
    assert_eq!(
        serde_json::to_value(&sessions).unwrap(),
        serde_json::json!({
            "recommended": "sessions",
            "level": "unknown",
            "urgency": "low",
            "gains": [
                "answer_in_response", "no_standing_connection", "resumable_streams", "explicit_end",
                "no_secret_in_address"
            ],
            "sdk": "other",
        })
    );
}
