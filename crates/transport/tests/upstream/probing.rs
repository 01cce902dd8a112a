//! The probe over a connection: what is sent, and that nothing is left behind.

use http::{HeaderMap, HeaderValue};
use thinpipe_proto::probe::ProbeFailure;
use thinpipe_proto::revision::Revision;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BodyError;
use thinpipe_transport::upstream::Upstream;
use thinpipe_transport::upstream::probe::{ProbeError, Verdict, probe, probe_with};
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
