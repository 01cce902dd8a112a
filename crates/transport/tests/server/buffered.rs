//! The budget for what is held whole, reached over sockets, and back at nothing afterwards.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use thinpipe_testkit::{Client, Connection, Response, rpc};
use thinpipe_transport::server::ServerConfig;
use tokio::sync::mpsc;

use crate::http2::{connect, post_of};
use crate::support::{Pieces, Running, call, config, start, until};

/// A body that is not read at once.
const LARGE: usize = 60_000;

/// Room for one large body.
fn tight() -> ServerConfig {
    let mut config = config();
    config.limits.max_body = 80_000;
    config.limits.max_buffered = 100_000;
    config
}

fn large(id: u64, tool: &str) -> String {
    format!("{:<LARGE$}", call(id, tool))
}

async fn holds(running: &Running, what: &str, bytes: impl Fn(usize) -> bool) {
    until(what, || bytes(running.server.stats().buffered_bytes)).await;
}

async fn holds_nothing(running: &Running) {
    holds(running, "nothing is held", |bytes| bytes == 0).await;
}

/// Sends a request but for the last bytes of its body.
async fn most(running: &Running, request: &[u8]) -> Connection {
    let mut connection = Connection::open(running.address).await;
    let most = request.len() - 1_000;
    connection
        .send(Bytes::copy_from_slice(&request[..most]))
        .await;
    holds(running, "most of it is held", |bytes| bytes > LARGE - 5_000).await;
    connection
}

async fn assert_refused(response: &mut Response) {
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, Some("1"))
    );
    let refusal = response.json().await;
    assert_eq!(refusal["error"]["data"]["reason"], "overloaded");
    let text = refusal["error"]["message"].as_str().unwrap();
    assert!(text.contains("limit 100000"), "{text}");
}

/// B2, B10: a body that says how long it is, and finds no room, is refused before it is read: 503, and the
/// connection goes on as after other refusals. Small messages pass all the same.
#[tokio::test]
async fn b10_announced_bodies_share_one_budget() {
    let running = start(tight()).await;
    let client = running.client("2025-11-25").await;
    let request = client.post(large(1, "echo")).to_bytes();
    let first = most(&running, &request).await;

    let mut refused = client.post(large(2, "echo")).await;
    assert_refused(&mut refused).await;
    let again = client.post(call(3, "echo")).on(refused.into_connection());
    assert_eq!(again.await.status, 200, "small, and on the same connection");
    let answer = rpc::response(7, &serde_json::json!({}));
    assert_eq!(client.post(answer).await.status, 202);
    assert_eq!(running.sample.begun.load(Ordering::SeqCst), 1);

    first.close();
    holds_nothing(&running).await;
    assert_eq!(client.post(large(4, "echo")).await.status, 200);
    holds_nothing(&running).await;
}

/// B10: what is announced and does not come takes no room from anybody.
#[tokio::test]
async fn b10_a_promise_holds_nothing() {
    let running = start(tight()).await;
    let client = running.client("2025-11-25").await;
    let request = client.post(large(1, "echo")).to_bytes();
    let begun = request.len() - LARGE + 1;
    let mut promising = Vec::new();
    for _ in 0..20 {
        let mut connection = Connection::open(running.address).await;
        connection
            .send(Bytes::copy_from_slice(&request[..begun]))
            .await;
        promising.push(connection);
    }
    until("all of them are being read", || {
        running.server.stats().requests_open == 20
    })
    .await;
    assert_eq!(running.server.stats().buffered_bytes, 0);
    assert_eq!(client.post(large(2, "echo")).await.status, 200);
}

/// B10: who waits for leave to send the body gets a refusal instead of leave.
#[tokio::test]
async fn b10_there_is_no_continue_without_room() {
    let running = start(tight()).await;
    let client = running.client("2025-11-25").await;
    let request = client.post(large(1, "echo")).to_bytes();
    let first = most(&running, &request).await;
    let waits = client
        .post(large(2, "echo"))
        .header("Expect", "100-continue");
    let head = waits.to_bytes();
    let mut second = Connection::open(running.address).await;
    second.send(head.slice(..head.len() - LARGE)).await;
    let all = second.closed().await;
    assert!(all.starts_with(b"HTTP/1.1 503 "), "{all:?}");
    first.reset();
    holds_nothing(&running).await;
}

/// B10: a chunked body is counted as it grows, and refused in the middle.
#[tokio::test]
async fn b10_chunked_bodies_are_counted_as_they_grow() {
    let running = start(tight()).await;
    let client = running.client("2025-11-25").await;
    let chunked = |text: &str| {
        let request = client.post("").replace("Transfer-Encoding", "chunked");
        let head = String::from_utf8(request.to_bytes().to_vec()).unwrap();
        format!("{head}{:x}\r\n{text}\r\n", text.len())
    };
    let mut first = Connection::open(running.address).await;
    first.send(chunked(&large(1, "echo"))).await;
    holds(&running, "what has come is held", |bytes| bytes >= LARGE).await;
    let mut second = Connection::open(running.address).await;
    second.send(chunked(&large(2, "echo"))).await;
    assert_refused(&mut second.response().await).await;
    first.send("0\r\n\r\n").await;
    assert_eq!(first.response().await.status, 200);
    holds_nothing(&running).await;
}

/// B10: a body is held until its answer begins, also when its client has left a call that runs on.
#[tokio::test]
async fn b10_bodies_are_held_until_the_answer_begins() {
    let running = start(tight()).await;
    let client = running.client("2025-11-25").await;
    client.post(large(1, "wait")).send().await.close();
    until("it runs without its client", || {
        running.server.stats().detached == 1
    })
    .await;
    assert_eq!(running.server.stats().buffered_bytes, LARGE);
    running.sample.gate.lock().unwrap().open();
    holds_nothing(&running).await;
    assert_eq!(running.sample.finished.load(Ordering::SeqCst), 1);

    let stream = client.post(large(2, "stream")).await;
    assert_eq!(stream.status, 200);
    holds_nothing(&running).await;
    drop(stream);
}

/// B10: the same over HTTP/2, with bodies of known and of unknown length, and a client that leaves in
/// the middle.
#[tokio::test]
async fn b10_http2_bodies_share_the_budget() {
    let running = start(tight()).await;
    let client = running.client("2025-11-25").await;
    let session = client.session().map(str::to_owned);
    let mut sender = connect(&running).await;
    let mut open = |announced: bool| {
        let (pieces, body) = mpsc::channel(1);
        let body = Pieces {
            receiver: body,
            length: announced.then_some(LARGE as u64),
        };
        let request = post_of(&running, session.as_deref(), body);
        (pieces, sender.send_request(request))
    };
    for announced in [true, false] {
        let text = Bytes::from(large(1, "echo"));
        let (first, answer) = open(announced);
        let most = LARGE - 1000;
        first.send(text.slice(..most)).await.unwrap();
        let (second, refused) = open(announced);
        let filled = async {
            holds(&running, "the first is held", |bytes| bytes >= most).await;
            let _ = second.send(text.clone()).await;
            drop(second);
        };
        let (refused, ()) = tokio::join!(refused, filled);
        let refused = refused.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "1");
        let refusal = refused.into_body().collect().await.unwrap().to_bytes();
        let refusal: Value = serde_json::from_slice(&refusal).unwrap();
        assert_eq!(refusal["error"]["data"]["reason"], "overloaded");

        // Dropping the future resets the stream.
        drop(answer);
        holds_nothing(&running).await;
        drop(first);
    }
    let (pieces, answer) = open(true);
    pieces.send(large(2, "echo").into()).await.unwrap();
    drop(pieces);
    assert_eq!(answer.await.unwrap().status(), 200);
    holds_nothing(&running).await;
}

/// B10, B17: answers to a batch are held until they are all there. One without room is an error in its
/// place: its call has run, and nobody is invited to repeat it.
#[tokio::test]
async fn b10_answers_to_a_batch_share_the_budget() {
    let running = start(tight()).await;
    let client = running.client("2025-03-26").await;
    let batch = format!("[{},{}]", call(1, "slow body"), call(2, "slow body"));
    let asked = client.post(batch).send().await;
    until("both run", || {
        running.sample.begun.load(Ordering::SeqCst) == 2
    })
    .await;
    let answers = running.sample.streams.lock().unwrap().clone();
    let text = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}{:LARGE$}"#, "");
    answers[0].send(text(1).into()).await.unwrap();
    holds(&running, "one is held", |bytes| bytes >= LARGE).await;
    answers[1].send(text(2).into()).await.unwrap();
    answers[1].closed().await;
    answers[0].send("}".into()).await.unwrap();
    drop(answers);
    running.sample.streams.lock().unwrap().clear();
    let mut response = asked.response().await;
    assert_eq!(
        (response.status, response.header("retry-after")),
        (502, None)
    );
    assert_eq!(
        response.json().await["error"]["data"]["reason"],
        "buffer_full",
        "there is no room for the array either"
    );
    holds_nothing(&running).await;
}

/// B7: `initialize` is kept with its session, and so is bounded by itself.
#[tokio::test]
async fn b7_initialize_is_bounded() {
    let running = start(config()).await;
    let padded = |length: usize| {
        let text = rpc::initialize(5, "2025-11-25");
        format!("{}{text}", " ".repeat(length - text.len()))
    };
    let stranger: Client = running.stranger();
    assert_eq!(stranger.post(padded(256 << 10)).await.status, 200);
    let mut refused = stranger.post(padded((256 << 10) + 1)).await;
    assert_eq!(refused.status, 413);
    let refusal = refused.json().await;
    assert_eq!(
        (&refusal["id"], &refusal["error"]["data"]["reason"]),
        (&5.into(), &"too_large".into())
    );
    holds_nothing(&running).await;
}
