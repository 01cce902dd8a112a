//! Every limit, reached.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use thinpipe_testkit::{Connection, rpc};
use thinpipe_transport::server::{Limits, ServerConfig, SessionLimits};

use crate::support::{HUGE, Running, call, config, start, until};

fn with(change: impl FnOnce(&mut Limits)) -> ServerConfig {
    let mut config = config();
    change(&mut config.limits);
    config
}

/// B10, T1: one connection too many gets 503 at once, not a hang, and the place is free again as
/// soon as a connection closes.
#[tokio::test]
async fn b10_one_connection_too_many_gets_503() {
    let running = start(with(|l| l.max_connections = 2)).await;
    let first = Connection::open(running.address).await;
    let _second = Connection::open(running.address).await;
    until("both are counted", || {
        running.server.stats().connections_open == 2
    })
    .await;
    let mut refused = running
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        refused.json().await["error"]["data"]["reason"],
        "overloaded"
    );
    first.close();
    until("the place is free", || {
        running.server.stats().connections_open == 1
    })
    .await;
    assert_eq!(
        running
            .stranger()
            .post(rpc::initialize(1, "2025-11-25"))
            .await
            .status,
        200
    );
}

/// B6: one session too many gets 503; a deleted one makes room.
#[tokio::test]
async fn b6_one_session_too_many_gets_503() {
    let mut config = config();
    config.sessions = SessionLimits {
        max: 1,
        ..SessionLimits::default()
    };
    let running = start(config).await;
    let client = running.client("2025-11-25").await;
    let mut refused = running
        .stranger()
        .post(rpc::initialize(9, "2025-11-25"))
        .await;
    assert_eq!(refused.status, 503);
    let body = refused.json().await;
    assert_eq!(
        (&body["id"], &body["error"]["data"]["reason"]),
        (&9.into(), &"too_many_sessions".into())
    );
    assert!(client.delete().await.status < 300);
    assert_eq!(
        running
            .stranger()
            .post(rpc::initialize(1, "2025-11-25"))
            .await
            .status,
        200
    );
}

/// One stream too many gets 503, or 502 if it answers a call, which has run by then; one that ends
/// makes room.
#[tokio::test]
async fn one_stream_too_many_is_refused() {
    let running = start(with(|l| l.max_streams = 1)).await;
    let client = running.client("2025-11-25").await;
    let stream = client.get().await;
    assert_eq!(stream.status, 200);
    assert_eq!(client.get().await.status, 503);
    let mut post = client.post(call(5, "stream on")).await;
    assert_eq!(
        (post.status, post.header("retry-after")),
        (502, None),
        "the answer to a POST counts too, and its call has run"
    );
    let refusal = post.json().await;
    let error = &refusal["error"];
    assert_eq!(
        (&refusal["id"], &error["data"]["reason"]),
        (&5.into(), &"too_many_streams".into())
    );
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("limit 1") && text.contains("may have run"));
    until("what is left of it runs to its end", || {
        running.server.stats().detached == 1
    })
    .await;
    stream.close();
    until("the stream is gone", || {
        running.server.stats().streams_open == 0
    })
    .await;
    assert_eq!(client.get().await.status, 200);
}

/// One request too many gets 503, in the server and in one session; streams do not count.
#[tokio::test]
async fn one_request_too_many_gets_503() {
    let running = start(with(|l| l.max_requests = 1)).await;
    let client = running.client("2025-11-25").await;
    let _stream = client.get().await;
    let waiting = client.post(call(1, "wait")).send().await;
    until("it runs", || running.server.stats().requests_open == 1).await;
    assert_eq!(client.post(call(2, "echo")).await.status, 503);
    running.sample.gate.lock().unwrap().open();
    assert_eq!(waiting.response().await.status, 200);

    let running = start(with(|l| l.max_requests_per_session = 1)).await;
    let client = running.client("2025-11-25").await;
    let other = running.client("2025-11-25").await;
    let _waiting = client.post(call(1, "wait")).send().await;
    until("it runs", || running.server.stats().requests_open == 1).await;
    assert_eq!(client.post(call(2, "echo")).await.status, 503);
    assert_eq!(
        other.post(call(2, "echo")).await.status,
        200,
        "other sessions are not disturbed"
    );
}

/// B2, R066: a body over the limit gets 413 before it is read, announced or chunked.
#[tokio::test]
async fn r066_body_over_the_limit_gets_413() {
    let running = start(with(|l| l.max_body = 1000)).await;
    let client = running.client("2025-11-25").await;
    let announced = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                     Content-Length: 1001\r\n\r\n";
    let mut connection = Connection::open(running.address).await;
    connection.send(announced).await;
    assert_eq!(
        connection.response().await.status,
        413,
        "not a byte of it was sent"
    );

    let chunked = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    let mut connection = Connection::open(running.address).await;
    connection
        .send(format!(
            "{chunked}400\r\n{}\r\n0\r\n\r\n",
            " ".repeat(0x400)
        ))
        .await;
    assert_eq!(connection.response().await.status, 413);

    let padded = format!("{:<1000}", call(1, "echo"));
    assert_eq!(
        client.post(padded).await.status,
        200,
        "exactly the limit passes"
    );
}

/// A head over the limit, in bytes or in fields, gets 431.
#[tokio::test]
async fn a_head_over_the_limit_gets_431() {
    let running = start(with(|l| (l.max_head, l.max_headers) = (2000, 10))).await;
    let mut connection = Connection::open(running.address).await;
    connection
        .send(format!("GET /mcp HTTP/1.1\r\nX: {}", "x".repeat(2000)))
        .await;
    assert_eq!(connection.response().await.status, 431);
    let mut connection = Connection::open(running.address).await;
    let fields: String = (0..11).map(|n| format!("X-{n}: 1\r\n")).collect();
    connection
        .send(format!("GET /mcp HTTP/1.1\r\n{fields}\r\n"))
        .await;
    assert_eq!(connection.response().await.status, 431);
}

/// A head or a body that comes too slowly gets 408; a connection without a request is closed.
#[tokio::test]
async fn slow_requests_time_out() {
    let short = Duration::from_millis(50);
    let running = start(with(|l| {
        (l.head_timeout, l.body_timeout, l.idle_timeout) = (short, short, short);
    }))
    .await;
    let mut connection = Connection::open(running.address).await;
    connection.send("POST /mcp HT").await;
    assert_eq!(connection.response().await.status, 408, "half a head");
    let mut connection = Connection::open(running.address).await;
    connection
        .send(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: 10\r\n\r\n{",
        )
        .await;
    assert_eq!(connection.response().await.status, 408, "half a body");
    let idle = Connection::open(running.address).await;
    assert!(idle.closed().await.is_empty(), "closed without a word");
}

/// C26: a client that does not read for `write_stall` is disconnected; others never notice.
#[tokio::test]
async fn c26_a_client_that_does_not_read_is_disconnected() {
    let running = start(with(|l| l.write_stall = Duration::from_millis(100))).await;
    let client = running.client("2025-11-25").await;
    let stuck = client.get().receive_buffer(4096).send().await;
    until("it listens", || running.server.stats().streams_open == 1).await;
    let sender = running.sample.newest_stream();
    let mut reader = client.get().await;
    let other = running.sample.newest_stream();
    let event = bytes::Bytes::from(format!("data: {}\n\n", "x".repeat(16 << 10)));
    while sender.send(event.clone()).await.is_ok() {}
    assert_eq!(running.server.stats().stalled, 1);
    other
        .send("data: {\"still\":true}\n\n".into())
        .await
        .unwrap();
    assert_eq!(
        reader.next_message().await,
        serde_json::json!({ "still": true })
    );
    drop(stuck);
}

/// C26: the same with an answer that is one large body, and not a stream. One that is read arrives whole.
#[tokio::test]
async fn c26_a_large_answer_that_is_not_read_is_given_up() {
    let patient = start(config()).await;
    let client = patient.client("2025-11-25").await;
    let mut read = client.post(call(1, "huge")).await;
    assert!(read.read_to_end().await.len() > HUGE);
    assert_eq!(patient.server.stats().stalled, 0);
    let running = start(with(|l| l.write_stall = Duration::from_millis(100))).await;
    let client = running.client("2025-11-25").await;
    let huge = client.post(call(2, "huge")).receive_buffer(4096);
    let stuck = huge.send().await;
    until("it is given up", || running.server.stats().stalled == 1).await;
    drop(stuck);
}

/// What a client left behind is run to its end within bounds: so many at one time, and so long.
#[tokio::test]
async fn what_clients_leave_behind_is_bounded() {
    let running = start(with(|l| l.max_detached = 1)).await;
    let client = running.client("2025-11-25").await;
    let requests = || running.server.stats().requests_open;
    for id in 1..=2 {
        client.post(call(id, "wait")).send().await.close();
        until("one runs on, and one at most", || {
            running.sample.begun.load(Ordering::SeqCst) == id as usize && requests() == 1
        })
        .await;
    }
    assert_eq!(running.server.stats().detached, 1);
    running.sample.gate.lock().unwrap().open();
    until("it has ended", || requests() == 0).await;
    assert_eq!(running.sample.finished.load(Ordering::SeqCst), 1);

    let running = start(with(|l| l.detached_timeout = Duration::from_millis(50))).await;
    let client = running.client("2025-11-25").await;
    client.post(call(1, "wait")).send().await.close();
    until("it runs on", || running.server.stats().detached == 1).await;
    until("and not for long", || {
        running.server.stats().requests_open == 0
    })
    .await;
    running.sample.gate.lock().unwrap().open();
    assert_eq!(running.sample.finished.load(Ordering::SeqCst), 0);
}

/// R185, B10: silence on a stream is broken by comments, at the configured interval.
#[tokio::test]
async fn r185_silent_streams_get_comments() {
    let running = start(with(|l| l.keep_alive = Duration::from_millis(20))).await;
    let client = running.client("2025-06-18").await;
    let mut stream = client.get().await;
    for _ in 0..3 {
        let block = stream.try_next_block().await.unwrap().expect("a comment");
        assert!(block.is_comment() && !block.has_message());
    }
    assert!(running.server.stats().keep_alives >= 3);
}

/// A limit is reached by a request with an id: the id comes back.
#[tokio::test]
async fn refusals_after_the_body_echo_the_id() {
    let running = start(with(|l| l.max_requests_per_session = 0)).await;
    let client = running.client("2025-11-25").await;
    let mut refused = client.post(call(77, "echo")).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json().await["id"], Value::from(77));
}

/// F12: who does not acknowledge what it is sent, or does not answer when it is asked whether it is there, is found;
/// C26: but who may only not have read it all has the time for that. (How long that takes is measured: `cargo xtask
/// bench --sets half-open`.)
#[cfg(target_os = "linux")]
#[tokio::test]
async fn f12_the_kernel_looks_for_clients_that_have_gone_without_a_word() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let (served, connection) = served(&running).await;
    let socket = socket2::SockRef::from(&served);
    assert!(socket.keepalive().unwrap());
    assert!(socket.tcp_keepalive_time().unwrap() <= Duration::from_secs(15));
    let given_up = || socket.tcp_user_timeout().unwrap().unwrap();
    let limits = config().limits;
    let mut read = client.post(call(1, "echo")).on(connection).await;
    read.read_to_end().await;
    assert!(limits.keep_alive + given_up() < Duration::from_secs(30));
    let mut read = client
        .post(call(2, "huge"))
        .on(read.into_connection())
        .await;
    assert!(read.read_to_end().await.len() > HUGE);
    assert!(given_up() >= limits.write_stall);
}

/// C25, C26: the kernel takes little of a client that does not read, so that one that reads slowly gets to see
/// that there is room again, and is not taken for one that does not read at all.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn c26_little_waits_in_the_kernel_of_a_slow_client() {
    let running = start(config()).await;
    let (served, _connection) = served(&running).await;
    let unsent = socket2::SockRef::from(&served).tcp_notsent_lowat().unwrap();
    assert!(unsent <= 256 << 10, "{unsent}");
}

/// A connection that is being served: the server's end, and the client's.
#[cfg(target_os = "linux")]
async fn served(running: &Running) -> (std::net::TcpStream, Connection) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(Connection::open(address), listener.accept());
    let (accepted, peer) = accepted.unwrap();
    let same = accepted.into_std().unwrap();
    let accepted = tokio::net::TcpStream::from_std(same.try_clone().unwrap()).unwrap();
    let serving = running.server.serve_connection(accepted, peer);
    running.server.spawn(serving);
    (same, client)
}
