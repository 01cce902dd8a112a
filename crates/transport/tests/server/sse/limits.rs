//! T2: every limit and every time is one that can be reached.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_testkit::{Client, SseClient, rpc};
use thinpipe_transport::server::{Handler, Server, SessionEnd, SessionLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::support::{Setup, beside, server, start};
use crate::support::{Sample, call, config, until};

/// A16, T1, T13: one stream too many gets 503 at once, and its place is free when another has gone. The
/// endpoint of Streamable HTTP is not affected.
#[tokio::test]
async fn a16_one_stream_too_many_gets_503() {
    let mut setup = Setup::default();
    setup.sse.max_streams = 2;
    let running = start(setup).await;
    let first = running.sse_client().await;
    let _second = running.sse().await;
    let sse = Client::new(&running.sse_url());
    let mut refused = SseClient::opening(&sse).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(
        refused.json().await["error"]["data"]["reason"],
        "overloaded"
    );
    assert_eq!(running.server.stats().sessions, 2);
    running.client("2025-11-25").await;
    first.stream.close();
    until("there is room", || running.server.broadcaster().len() == 1).await;
    running.sse_client().await;
}

/// T13: the limit is exact, however many ask at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t13_the_limit_is_exact_when_many_ask_at_once() {
    let mut setup = Setup::default();
    setup.sse.max_streams = 10;
    let running = start(setup).await;
    let sse = Client::new(&running.sse_url());
    let asking: Vec<_> = (0..40)
        .map(|_| {
            let request = SseClient::opening(&sse);
            beside(async move { request.await })
        })
        .collect();
    let mut opened = Vec::new();
    for asked in asking {
        let response = asked.await.unwrap();
        match response.status {
            200 => opened.push(response),
            other => assert_eq!(other, 503),
        }
    }
    assert_eq!(opened.len(), 10);
    assert_eq!(running.server.stats().sessions, 10);
}

/// A5, A16: sessions of both bindings have one limit, and it is exact.
#[tokio::test]
async fn a5_sessions_count_against_one_limit() {
    let mut limited = config();
    limited.sessions = SessionLimits {
        max: 2,
        ..SessionLimits::default()
    };
    let running = start(Setup {
        config: Some(limited),
        ..Setup::default()
    })
    .await;
    let _one = running.client("2025-11-25").await;
    let _two = running.sse_client().await;
    let sse = Client::new(&running.sse_url());
    let mut refused = SseClient::opening(&sse).await;
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.json().await["error"]["data"]["reason"],
        "too_many_sessions"
    );
    let opening = running.stranger().post(rpc::initialize(1, "2025-11-25"));
    assert_eq!(opening.await.status, 503);
    assert_eq!(running.server.stats().streams_open, 1);
}

/// T2: requests of one session at one time.
#[tokio::test]
async fn t2_one_request_too_many_gets_503() {
    let mut setup = Setup::default();
    setup.sse.max_requests_per_session = 2;
    let running = start(setup).await;
    let mut client = running.sse_client().await;
    client.tell(call(1, "wait")).await;
    client.tell(call(2, "wait")).await;
    let mut refused = client.post(call(3, "echo")).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(refused.json().await["id"], 3);
    running.sample.gate.lock().unwrap().open();
    client.stream.next_message().await;
    client.stream.next_message().await;
    assert_eq!(client.ask(call(3, "echo")).await["id"], 3);
}

/// A19: so many messages wait for a client; who has one more waits for room, and nothing is lost.
#[tokio::test]
async fn a19_the_buffer_is_bounded_and_loses_nothing() {
    let mut setup = Setup::default();
    setup.sse.event_buffer = 2.try_into().unwrap();
    let sample = Arc::new(Sample::default());
    let server = server(setup, Arc::clone(&sample) as Arc<dyn Handler>);
    // A pipe of a few bytes, so that nothing is hidden in sockets.
    let (mut stream, id) = open(&server, 64).await;
    let session = server.sessions().list().remove(0);
    let outlet = session.outlet().unwrap();
    let message = |n: usize| Bytes::from(format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(200)));
    let mut pushed = 0;
    while outlet.try_push(message(pushed)).is_ok() {
        pushed += 1;
        tokio::task::yield_now().await;
    }
    assert!((2..=4).contains(&pushed), "{pushed} for {id}");
    let waits = beside(async move { outlet.push(message(pushed)).await });
    let text = read_until(&mut stream, &format!(r#"{{"n":{pushed},"#)).await;
    assert_eq!(waits.await.unwrap(), Ok(()));
    for n in 0..pushed {
        assert_eq!(text.matches(&format!(r#"{{"n":{n},"#)).count(), 1, "{n}");
    }
}

/// A19: the `retry` of the first event is what was configured.
#[tokio::test]
async fn a19_retry_is_told() {
    let mut setup = Setup::default();
    setup.sse.retry = Duration::from_millis(1_234);
    let running = start(setup).await;
    let mut stream = Client::new(&running.sse_url()).request("GET").await;
    assert_eq!(stream.next_event().await.unwrap().retry, Some(1_234));
}

/// Opens a stream over a pipe, so that time can be virtual. Gives its session's id.
async fn open(server: &Server, room: usize) -> (DuplexStream, String) {
    let (mut client, served) = tokio::io::duplex(room);
    server.spawn(server.serve_io(served, None));
    client
        .write_all(b"GET /sse HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let text = read_until(&mut client, "\n\n").await;
    let id = text.split_once("sessionId=").expect("an endpoint").1;
    (client, id[..32].to_owned())
}

async fn post(server: &Server, id: &str, body: &str) {
    let (mut client, served) = tokio::io::duplex(64 << 10);
    server.spawn(server.serve_io(served, None));
    let length = body.len();
    let request = format!(
        "POST /messages?sessionId={id} HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(
        read_until(&mut client, "\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 202 ")
    );
}

/// What comes until `end` has come.
async fn read_until(client: &mut DuplexStream, end: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(end) {
        let read = client.read_buf(&mut text).await.unwrap();
        assert!(read > 0, "the end after {}", String::from_utf8_lossy(&text));
    }
    String::from_utf8(text).unwrap()
}

fn in_virtual_time(setup: Setup) -> (Server, Arc<Sample>) {
    let sample = Arc::new(Sample::default());
    (
        server(setup, Arc::clone(&sample) as Arc<dyn Handler>),
        sample,
    )
}

/// Whether the stream ends after so long, and not before.
async fn ends_after(stream: &mut DuplexStream, seconds: u64) {
    let since = tokio::time::Instant::now();
    // The last chunk: the body has an end.
    read_until(stream, "\r\n0\r\n\r\n").await;
    assert_eq!(since.elapsed().as_secs(), seconds);
}

/// A17: a client that opens a stream and says nothing is let go after 30 s.
#[tokio::test(start_paused = true)]
async fn a17_who_never_initializes_is_gone_after_30_s() {
    let (server, sample) = in_virtual_time(Setup::default());
    let (mut stream, _) = open(&server, 64 << 10).await;
    ends_after(&mut stream, 30).await;
    until("its session is gone", || server.stats().sessions == 0).await;
    assert!(
        sample.ended.lock().unwrap().is_empty(),
        "its handler never knew it"
    );
}

/// A17: an idle session is gone after 300 s; one that is used, or waits for an answer, stays.
#[tokio::test(start_paused = true)]
async fn a17_idle_sessions_are_gone_after_300_s() {
    let (server, sample) = in_virtual_time(Setup::default());
    let (mut stream, id) = open(&server, 64 << 10).await;
    post(&server, &id, &rpc::initialize(0, "2024-11-05")).await;
    read_until(&mut stream, "\n\n").await;
    post(&server, &id, &rpc::initialized()).await;
    for round in 0..3 {
        tokio::time::sleep(Duration::from_secs(200)).await;
        post(&server, &id, &call(round, "echo")).await;
    }
    post(&server, &id, &call(9, "wait")).await;
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert_eq!(server.stats().sessions, 1, "a request runs");
    sample.gate.lock().unwrap().open();
    read_until(&mut stream, r#""id":9,"#).await;
    ends_after(&mut stream, 300).await;
    until("its handler was told", || {
        *sample.ended.lock().unwrap() == [SessionEnd::Expired]
    })
    .await;
    assert_eq!(sample.finished.load(Ordering::SeqCst), 1);
}

/// A18: a comment after 15 s of silence, or what was configured, and never a named event.
#[tokio::test(start_paused = true)]
async fn a18_heartbeats_are_comments() {
    for seconds in [15, 5] {
        let mut setup = Setup::default();
        setup.sse.heartbeat = Duration::from_secs(seconds).try_into().unwrap();
        let (server, _) = in_virtual_time(setup);
        let (mut stream, _) = open(&server, 64 << 10).await;
        let since = tokio::time::Instant::now();
        let beat = read_until(&mut stream, "\n\n").await;
        assert_eq!(since.elapsed().as_secs(), seconds);
        let lines: Vec<_> = beat.lines().filter(|line| line.starts_with(':')).collect();
        assert_eq!(lines.len(), 1, "{beat}");
        assert!(
            !beat.contains("event:") && !beat.contains("data:"),
            "{beat}"
        );
    }
}
