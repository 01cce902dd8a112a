//! Sessions of HTTP+SSE, over real sockets; those that wait for time, over pipes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_testkit::{SseUpstream, eventually, rpc};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BodyError;
use thinpipe_transport::upstream::pipe::{DEFAULT_MAX_MESSAGE, Pipe, PipeError, PipeReceiver};
use thinpipe_transport::upstream::{Upstream, UpstreamConfig, sse};
use tokio::join;

use crate::log::Log;
use crate::peer::network;

async fn server() -> (SseUpstream, Upstream) {
    let server = SseUpstream::start().await;
    let url = server.url().parse().unwrap();
    let upstream = Upstream::new(UpstreamConfig::new("server".into(), url));
    (server, upstream)
}

async fn open(upstream: &Upstream) -> Result<Pipe, PipeError> {
    let budget = ByteBudget::default();
    sse::open(upstream, HeaderMap::new(), DEFAULT_MAX_MESSAGE, &budget).await
}

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

async fn next(receiver: &mut PipeReceiver) -> Value {
    let message = receiver.next().await.unwrap().unwrap();
    serde_json::from_slice(message.source()).unwrap()
}

async fn last(receiver: &mut PipeReceiver) -> PipeError {
    let error = receiver.next().await.unwrap().unwrap_err();
    assert!(receiver.next().await.is_none(), "an error is the end");
    error
}

/// R042, R048, R049: what is sent goes to the endpoint, once; the answer comes as an event. Headers of the
/// caller go with each request, those of MCP do not.
#[tokio::test]
async fn r048_messages_go_to_the_endpoint_and_come_as_events() {
    let (server, upstream) = server().await;
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer x"));
    headers.insert("mcp-session-id", HeaderValue::from_static("other"));
    let budget = ByteBudget::default();
    let pipe = sse::open(&upstream, headers, DEFAULT_MAX_MESSAGE, &budget).await;
    let Pipe {
        sender,
        mut receiver,
    } = pipe.unwrap();
    sender
        .send(bytes(rpc::initialize(1, "2024-11-05")))
        .await
        .unwrap();
    assert_eq!(
        next(&mut receiver).await["result"]["protocolVersion"],
        "2024-11-05"
    );
    sender.negotiated(Revision::V2024_11_05);
    sender.send(bytes(rpc::call("a", "echo"))).await.unwrap();
    assert_eq!(next(&mut receiver).await["id"], "a");

    server.seen(|seen| {
        let get = &seen.sessions[0].headers;
        assert_eq!(get.get("accept"), Some("text/event-stream"));
        assert_eq!(get.get("cache-control"), Some("no-store"));
        let [initialize, call] = &seen.posts[..] else {
            panic!("{seen:?}")
        };
        assert_eq!(initialize.target, "/messages?sessionId=0");
        assert_eq!(initialize.headers.get("mcp-protocol-version"), None);
        assert_eq!(call.headers.get("mcp-protocol-version"), Some("2024-11-05"));
        assert_eq!(call.headers.get("content-type"), Some("application/json"));
        for headers in [get, &initialize.headers, &call.headers] {
            assert_eq!(headers.get("authorization"), Some("Bearer x"));
            assert!(!headers.contains("mcp-session-id"));
        }
    });
}

/// R046: an absolute URL; R160: CRLF; comments are no messages.
#[tokio::test]
async fn r046_streams_of_python_servers_are_read() {
    let (server, upstream) = server().await;
    server.tell(|told| {
        told.crlf = true;
        told.first =
            ": ping - 1\n\nevent: endpoint\ndata: http://{address}/messages/?session_id={id}\n\n"
                .to_owned();
    });
    let Pipe {
        sender,
        mut receiver,
    } = open(&upstream).await.unwrap();
    server.write(0, ": ping - 2025-01-01\n\n");
    sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    assert_eq!(next(&mut receiver).await["id"], 1);
    server.seen(|seen| assert_eq!(seen.posts[0].target, "/messages/?session_id=0"));
}

/// R047: and the stream is closed.
#[tokio::test]
async fn r047_a_foreign_endpoint_is_refused() {
    let (server, upstream) = server().await;
    let foreign = "event: endpoint\ndata: http://localhost:1/messages?sessionId={id}\n\n";
    server.tell(|told| told.first = foreign.to_owned());
    let error = open(&upstream).await.unwrap_err();
    assert!(matches!(error, PipeError::BadEndpoint { .. }), "{error:?}");
    assert!(!error.to_string().contains("sessionId"), "{error}");
    server.wait_until(|seen| !seen.sessions[0].open).await;
}

/// R031.
#[tokio::test]
async fn r031_what_is_no_stream_of_a_session_is_refused() {
    let (server, upstream) = server().await;
    server.tell(|told| told.first = "data: {}\n\n".to_owned());
    let error = open(&upstream).await.unwrap_err();
    assert!(error.to_string().contains("\"message\""), "{error}");
    server.wait_until(|seen| !seen.sessions[0].open).await;
    server.tell(|told| told.refuse_stream = Some(405));
    let error = open(&upstream).await.unwrap_err();
    let PipeError::NotAStream { status, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(status, 405);
}

/// R051, protocol notes 3.2: what is no message is skipped, and the stream goes on.
#[tokio::test]
async fn r051_what_is_no_message_is_skipped() {
    let (server, upstream) = server().await;
    let mut pipe = open(&upstream).await.unwrap();
    server.write(0, "event: endpoint\ndata: http://evil.example/\n\n");
    server.write(
        0,
        "event: other\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n",
    );
    server.write(0, "event: message\ndata: {not json\n\ndata:\n\n");
    // Without a type, over several lines.
    server.write(
        0,
        "data: {\"jsonrpc\":\"2.0\",\ndata: \"method\":\"y\"}\n\n",
    );
    assert_eq!(next(&mut pipe.receiver).await["method"], "y");
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    assert_eq!(next(&mut pipe.receiver).await["id"], 1);
}

/// A12 on this side: answers come in any order, with requests of the server in between, and batches as
/// their messages. Ids keep their type.
#[tokio::test]
async fn a12_messages_come_in_the_servers_order() {
    let (server, upstream) = server().await;
    server.tell(|told| told.answers = false);
    let mut pipe = open(&upstream).await.unwrap();
    for id in [1, 2] {
        pipe.sender
            .send(bytes(rpc::call(id, "echo")))
            .await
            .unwrap();
    }
    server.message(0, rpc::request("s-1", "roots/list", &json!({})));
    let (one, two) = (rpc::response(1, &json!({})), rpc::response(2, &json!({})));
    server.message(0, format!("[{two},{one}]"));
    for id in [Value::from("s-1"), Value::from(2), Value::from(1)] {
        assert_eq!(next(&mut pipe.receiver).await["id"], id);
    }
    pipe.sender
        .send(bytes(rpc::response("s-1", &json!({}))))
        .await
        .unwrap();
    server.seen(|seen| assert_eq!(seen.posts[2].body["id"], "s-1"));
}

/// R049, and a message is never sent twice.
#[tokio::test]
async fn r049_a_refused_message_says_so() {
    let (server, upstream) = server().await;
    let pipe = open(&upstream).await.unwrap();
    server.tell(|told| told.status = 204);
    pipe.sender.send(bytes(rpc::initialized())).await.unwrap();
    for (status, undelivered) in [(400, true), (404, true), (500, false)] {
        server.tell(|told| told.status = status);
        let refused = pipe.sender.send(bytes(rpc::call(1, "echo"))).await;
        let error = refused.unwrap_err();
        assert_eq!(error.is_undelivered(), undelivered, "{error:?}");
        let PipeError::Refused { status: saw, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(saw, status);
    }
    server.seen(|seen| assert_eq!(seen.posts.len(), 4));
}

/// R045, R049: who only asks gets what was asked for, past everything else, or why there is nothing.
#[tokio::test]
async fn r049_a_question_ends_with_an_answer_or_an_error() {
    let (server, upstream) = server().await;
    let mut pipe = open(&upstream).await.unwrap();
    server.message(0, rpc::request(7, "roots/list", &json!({})));
    let response = |message: &Message| message.kind().is_response().then(|| message.clone());
    let answer = pipe.ask(bytes(rpc::call(7, "echo")), response).await;
    assert_eq!(answer.unwrap().id().unwrap().as_json(), b"7");
    // The stream stays open, and nothing will come on it.
    server.tell(|told| told.status = 500);
    let refused = pipe.ask(bytes(rpc::call(8, "echo")), response).await;
    assert!(matches!(
        refused,
        Err(PipeError::Refused { status, .. }) if status == 500
    ));
}

/// R050.
#[tokio::test]
async fn r050_a_lost_stream_is_the_end_of_the_session() {
    let (server, upstream) = server().await;
    let mut pipe = open(&upstream).await.unwrap();
    server.message(0, rpc::notification("x", &json!({})));
    server.write(0, "data: {\"jsonrpc\":\"2.0\",\"method\":\"half");
    server.cut(0);
    assert_eq!(next(&mut pipe.receiver).await["method"], "x");
    let error = last(&mut pipe.receiver).await;
    assert!(
        matches!(error, PipeError::Ended { .. } | PipeError::Body { .. }),
        "{error:?}"
    );
    pipe.sender.closed().await;
    let error = pipe
        .sender
        .send(bytes(rpc::initialized()))
        .await
        .unwrap_err();
    assert!(matches!(error, PipeError::Closed { .. }), "{error:?}");
    assert!(error.is_undelivered());
}

/// A31 on this side: however a session ends, its stream is closed and its place is free.
#[tokio::test]
async fn a31_nothing_is_left_of_a_session() {
    let (server, upstream) = server().await;
    let one = open(&upstream).await.unwrap();
    let mut two = open(&upstream).await.unwrap();
    let three = open(&upstream).await.unwrap();
    assert_eq!(upstream.stats().streams, 3);
    drop(one);
    two.sender.close();
    assert!(two.receiver.next().await.is_none());
    drop(two);
    drop(three.receiver);
    assert!(three.sender.is_closed());
    server
        .wait_until(|seen| seen.sessions.iter().all(|session| !session.open))
        .await;
    eventually("no stream", async || match upstream.stats().streams {
        0 => Ok(()),
        streams => Err(streams.to_string()),
    })
    .await;
}

#[tokio::test]
async fn a_message_has_a_limit_and_needs_room() {
    let (server, upstream) = server().await;
    let long = format!("data: \"{}\"\n\n", "x".repeat(3 * ByteBudget::FREE));
    let (few, full) = (ByteBudget::default(), ByteBudget::new(0));
    for (session, limit, budget) in [(0, ByteBudget::FREE, &few), (1, DEFAULT_MAX_MESSAGE, &full)] {
        let pipe = sse::open(&upstream, HeaderMap::new(), limit, budget).await;
        let mut pipe = pipe.unwrap();
        server.write(session, long.clone());
        match last(&mut pipe.receiver).await {
            PipeError::TooLarge { .. } => assert_eq!(session, 0),
            PipeError::NoRoom { .. } => assert_eq!(session, 1),
            error => panic!("{error:?}"),
        }
    }
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nDeprecation: @1742947200\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn r031_an_endpoint_is_awaited_for_10_s() {
    for (head, expected) in [("", false), (STREAM, true)] {
        let (upstream, mut network) = network(|_| {});
        let stalling = async {
            let mut peer = network.accept().await;
            peer.request().await;
            peer.send(head).await;
            peer.rest().await
        };
        let began = tokio::time::Instant::now();
        let (opened, _) = join!(open(&upstream), stalling);
        let error = opened.unwrap_err();
        let PipeError::NoEndpoint { opened, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(opened, expected);
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(upstream.stats().streams, 0);
    }
}

/// C17: silence ends a session, comments are life.
#[tokio::test(start_paused = true)]
async fn c17_a_silent_stream_is_dropped() {
    let (upstream, mut network) = network(|config| {
        config.stream_idle_timeout = Duration::from_secs(60);
    });
    let playing = async {
        let mut peer = network.accept().await;
        peer.request().await;
        peer.send(STREAM).await;
        peer.send("event: endpoint\ndata: /m\n\n").await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            peer.send(": ping\n\n").await;
        }
        peer.rest().await;
    };
    let reading = async {
        let began = tokio::time::Instant::now();
        let mut pipe = open(&upstream).await.unwrap();
        let error = last(&mut pipe.receiver).await;
        let silent = matches!(
            error,
            PipeError::Body {
                source: BodyError::TimedOut,
                ..
            }
        );
        assert!(silent, "{error:?}");
        assert_eq!(began.elapsed().as_secs(), 5 * 50 + 60);
    };
    join!(playing, reading);
}

/// Who does not take messages stops the server: nothing is read ahead beyond one read.
#[tokio::test(start_paused = true)]
async fn who_does_not_read_stops_the_server() {
    let (upstream, mut network) = network(|_| {});
    let (opened, mut peer) = join!(open(&upstream), async {
        let mut peer = network.accept().await;
        peer.request().await;
        peer.send(STREAM).await;
        peer.send("event: endpoint\ndata: /m\n\n").await;
        peer
    });
    let mut pipe = opened.unwrap();
    let event = format!(
        "data: {{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}\n\n",
        "x".repeat(1000)
    );
    let mut written = 0;
    let mut flood = async || {
        loop {
            peer.send(&event).await;
            written += event.len();
        }
    };
    let stopped = tokio::time::timeout(Duration::from_secs(1), flood()).await;
    assert!(stopped.is_err());
    assert!(written <= crate::peer::PIPE, "{written}");
    assert!(pipe.receiver.next().await.unwrap().is_ok());
}

/// R200 seen from the client: what the server announces is said once, not for each session.
#[tokio::test]
async fn a_deprecation_is_logged_once() {
    let (log, _logging) = Log::of("thinpipe_transport::upstream::sse");
    let (server, upstream) = server().await;
    let headers = "Deprecation: @1742947200\r\nSunset: Fri, 01 Jan 2027 00:00:00 GMT\r\n";
    server.tell(|told| told.headers = headers.to_owned());
    for _ in 0..3 {
        open(&upstream).await.unwrap();
    }
    let lines = log.lines();
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        line.starts_with("WARN ") && line.contains("upstream=server;"),
        "{line}"
    );
    assert!(
        line.contains("@1742947200") && line.contains("01 Jan 2027"),
        "{line}"
    );
}
