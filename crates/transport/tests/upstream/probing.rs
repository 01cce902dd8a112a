//! The probe over a connection: what is sent, and that nothing is left behind.

use http::{HeaderMap, HeaderValue};
use thinpipe_proto::probe::{ProbeFailure, Speaks};
use thinpipe_proto::revision::Revision;
use thinpipe_testkit::SseUpstream;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BodyError;
use thinpipe_transport::upstream::probe::{ProbeError, Verdict, probe, probe_with};
use thinpipe_transport::upstream::{Upstream, UpstreamConfig};
use tokio::io::AsyncWriteExt;
use tokio::join;

use crate::peer::{Network, network};

const DISCOVERED: &str = r#"{"jsonrpc":"2.0","id":"thinpipe-probe","result":{"supportedVersions":["2026-07-28"],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","id":"thinpipe-probe","result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"old","version":"0.9"}}}"#;

fn json(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn events(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: s1\r\n\
         Connection: close\r\n\r\n: hello\n\nid: 1\ndata:\n\n\
         data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}}\n\ndata: {body}\n\n"
    )
}

/// Answers requests in order; gives them back.
async fn script(network: &mut Network, answers: &[String]) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    let mut peer = network.accept().await;
    for (at, answer) in answers.iter().enumerate() {
        let (head, body) = peer.request().await;
        seen.push((head, String::from_utf8(body).unwrap()));
        peer.send(answer).await;
        // An event stream never ends by itself here; the client must leave it.
        if answer.contains("Connection: close") && at + 1 < answers.len() {
            assert_eq!(peer.rest().await, b"");
            peer = network.accept().await;
        }
    }
    seen
}

async fn ask(upstream: &Upstream) -> Result<Verdict, ProbeError> {
    probe(upstream, &ByteBudget::default()).await
}

#[tokio::test(start_paused = true)]
async fn r020_modern_servers_are_asked_once() {
    let (upstream, mut network) = network(|_| {});
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer x"));
    headers.insert("mcp-session-id", HeaderValue::from_static("other"));
    let answers = [json("200 OK", "", DISCOVERED)];
    let budget = ByteBudget::default();
    let (verdict, seen) = join!(
        probe_with(&upstream, headers, &budget),
        script(&mut network, &answers)
    );
    let verdict = verdict.unwrap();
    assert_eq!(verdict.modern(), Some(&[Revision::V2026_07_28][..]));
    assert_eq!(verdict.server_name.as_deref(), Some("s"));
    let [(head, body)] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert!(head.contains("mcp-protocol-version: 2026-07-28\r\n"));
    assert!(head.contains("mcp-method: server/discover\r\n"));
    assert!(head.contains("accept: application/json, text/event-stream\r\n"));
    assert!(head.contains("authorization: Bearer x\r\n"));
    assert!(!head.contains("mcp-session-id"));
    assert!(body.contains("server/discover"));
}

/// R025, and the session that asking opened is closed; answers come as JSON or as events.
#[tokio::test(start_paused = true)]
async fn r025_legacy_servers_are_initialized_and_left() {
    let gone = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned();
    for initialized in [
        json("200 OK", "Mcp-Session-Id: s1\r\n", INITIALIZED),
        events(INITIALIZED),
    ] {
        let (upstream, mut network) = network(|_| {});
        let answers = [json("404 Not Found", "", ""), initialized, gone.clone()];
        let (verdict, seen) = join!(ask(&upstream), script(&mut network, &answers));
        let verdict = verdict.unwrap();
        assert_eq!(verdict.modern(), None);
        assert_eq!(verdict.legacy(), Some(Revision::V2025_06_18));
        let [_, (initialize, body), (delete, _)] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        assert!(!initialize.contains("mcp-protocol-version"));
        assert!(!initialize.contains("mcp-session-id"));
        assert!(body.contains(r#""protocolVersion":"2025-11-25""#));
        assert!(delete.starts_with("DELETE /mcp HTTP/1.1\r\n"));
        assert!(delete.contains("mcp-session-id: s1\r\n"));
        assert!(delete.contains("mcp-protocol-version: 2025-06-18\r\n"));
    }
}

/// R028: an outage is no verdict, and `initialize` is not tried.
#[tokio::test(start_paused = true)]
async fn r028_silence_is_an_outage() {
    let (upstream, mut network) = network(|_| {});
    let (verdict, _peer) = join!(ask(&upstream), network.accept());
    let error = verdict.unwrap_err();
    assert!(matches!(error, ProbeError::Upstream(_)), "{error:?}");
    assert!(error.is_passing());
    assert!(network.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn r028_an_answer_that_breaks_off_is_an_outage() {
    let (upstream, mut network) = network(|_| {});
    let answers = ["HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{"
        .to_owned()];
    let (verdict, _) = join!(ask(&upstream), script(&mut network, &answers));
    let error = verdict.unwrap_err();
    assert!(matches!(error, ProbeError::Body(_)), "{error:?}");
    assert!(error.is_passing());
}

#[tokio::test(start_paused = true)]
async fn a_web_page_is_no_mcp_server() {
    let (upstream, mut network) = network(|_| {});
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let answers = [page.to_owned(), page.to_owned()];
    let (verdict, _) = join!(ask(&upstream), script(&mut network, &answers));
    let error = verdict.unwrap_err();
    assert!(
        matches!(error, ProbeError::Failed(ProbeFailure::NotMcp { .. })),
        "{error:?}"
    );
    assert!(!error.is_passing());
}

/// B10: what a server answers to a probe is held within the budget; without room there is no verdict, and
/// the next probe may find some.
#[tokio::test(start_paused = true)]
async fn b10_answers_to_a_probe_share_the_budget() {
    let full = ByteBudget::new(0);
    let long = DISCOVERED.replace(
        "\"1\"",
        &format!("\"{}\"", "1".repeat(3 * ByteBudget::FREE)),
    );
    for answer in [json("200 OK", "", &long), events(&long)] {
        let (upstream, mut network) = network(|_| {});
        let refused = async {
            let mut peer = network.accept().await;
            peer.request().await;
            // It is not taken to its end.
            let _ = peer.pipe().write_all(answer.as_bytes()).await;
        };
        let (verdict, ()) = join!(probe(&upstream, &full), refused);
        let error = verdict.map(|_| ()).unwrap_err();
        let no_room = matches!(error, ProbeError::Body(BodyError::NoRoom(_)));
        assert!(no_room && error.is_passing(), "{error:?}");

        let answers = [answer];
        let (verdict, _) = join!(ask(&upstream), script(&mut network, &answers));
        assert!(verdict.unwrap().modern().is_some());
    }
}

/// R026, where the error and the answer both come as events.
#[tokio::test(start_paused = true)]
async fn r026_errors_in_events_count() {
    let (upstream, mut network) = network(|_| {});
    let list = r#"{"jsonrpc":"2.0","id":"thinpipe-probe","error":{"code":-32022,"message":"m","data":{"supported":["2027-01-01"]}}}"#;
    let answers = [events(list)];
    let (verdict, _) = join!(ask(&upstream), script(&mut network, &answers));
    let error = verdict.unwrap_err();
    let ProbeError::Failed(ProbeFailure::VersionMismatch { supported }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(supported, ["2027-01-01"]);
}

fn upstream_at(url: &str) -> Upstream {
    Upstream::new(UpstreamConfig::new("server".into(), url.parse().unwrap()))
}

/// A33, R029: a server whose path says nothing is asked for its stream last, one at `/sse` first. Nothing
/// of the probe stays open.
#[tokio::test]
async fn r029_http_sse_is_found() {
    let server = SseUpstream::start().await;
    let upstream = upstream_at(&server.url());
    let verdict = ask(&upstream).await.unwrap();
    let revision = Some(Revision::V2024_11_05);
    assert_eq!(verdict.speaks, Speaks::HttpSse { revision });
    assert_eq!(verdict.server_name.as_deref(), Some("sse-upstream"));
    server.seen(|seen| {
        let [initialize] = &seen.posts[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(initialize.target, "/messages?sessionId=0");
        assert_eq!(initialize.body["method"], "initialize");
    });
    server.wait_until(|seen| !seen.sessions[0].open).await;
}

/// R029, R032: both POSTs come first where the path gives no hint, and the stream of a foreign endpoint is
/// no HTTP+SSE that could be used.
#[tokio::test(start_paused = true)]
async fn r029_the_stream_is_asked_for_last() {
    let refused = json("405 Method Not Allowed", "", "");
    for (endpoint, found) in [("/m?s=1", true), ("http://other.example/m", false)] {
        let (upstream, mut network) = network(|_| {});
        let answers = [refused.clone(), refused.clone()];
        let serving = async {
            let mut seen = Vec::new();
            let mut peer = network.accept().await;
            for answer in &answers {
                seen.push(peer.request().await.0);
                peer.send(answer).await;
            }
            seen.push(peer.request().await.0);
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
                .await;
            peer.send(format!("event: endpoint\ndata: {endpoint}\n\n"))
                .await;
            if found {
                let mut post = network.accept().await;
                seen.push(post.request().await.0);
                post.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                    .await;
                peer.send(format!("data: {INITIALIZED}\n\n")).await;
            }
            assert_eq!(peer.rest().await, b"");
            seen
        };
        let (verdict, seen) = join!(ask(&upstream), serving);
        assert!(seen[2].starts_with("GET /mcp HTTP/1.1\r\n"), "{seen:?}");
        assert_eq!(upstream.stats().streams, 0);
        if found {
            let revision = Some(Revision::V2025_06_18);
            assert_eq!(verdict.unwrap().speaks, Speaks::HttpSse { revision });
            assert!(seen[3].starts_with("POST /m?s=1 HTTP/1.1\r\n"), "{seen:?}");
            continue;
        }
        let error = verdict.unwrap_err();
        let ProbeError::Failed(ProbeFailure::NotMcp { stream, .. }) = &error else {
            panic!("{error:?}")
        };
        assert!(stream.as_ref().unwrap().contains("another origin"));
        assert!(!error.is_passing());
    }
}

/// R031: a stream that names no endpoint is not waited for longer than 10 s.
#[tokio::test(start_paused = true)]
async fn r031_a_silent_stream_is_no_http_sse() {
    let (upstream, mut network) = network(|_| {});
    let refused = json("404 Not Found", "", "");
    let serving = async {
        let mut peer = network.accept().await;
        peer.serve(&refused).await;
        peer.serve(&refused).await;
        peer.request().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n")
            .await;
        peer.rest().await
    };
    let began = tokio::time::Instant::now();
    let (verdict, _) = join!(ask(&upstream), serving);
    assert_eq!(began.elapsed().as_secs(), 10);
    let error = verdict.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not begin with an endpoint"),
        "{error}"
    );
}

/// The hint of the path is only one: what is there may be Streamable HTTP. And a server of HTTP+SSE that
/// says nothing more than its endpoint is one.
#[tokio::test]
async fn the_path_is_a_hint_only() {
    let server = SseUpstream::start().await;
    server.tell(|told| told.refuse_stream = Some(405));
    let error = ask(&upstream_at(&server.url())).await.unwrap_err();
    let ProbeError::Failed(ProbeFailure::NotMcp { stream, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        stream.as_deref(),
        Some("status 405 without an event stream")
    );
    let methods = server.seen(|seen| {
        let methods = seen.posts.iter().map(|post| post.body["method"].clone());
        methods.collect::<Vec<_>>()
    });
    assert_eq!(methods, ["server/discover", "initialize"]);

    server.tell(|told| {
        told.refuse_stream = None;
        told.status = 400;
    });
    let verdict = ask(&upstream_at(&server.url())).await.unwrap();
    assert_eq!(verdict.speaks, Speaks::HttpSse { revision: None });
}
