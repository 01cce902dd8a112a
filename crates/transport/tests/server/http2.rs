//! The same over HTTP/2 with prior knowledge.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use thinpipe_testkit::rpc;
use tokio::net::TcpStream;

use crate::support::{Running, call, config, start, until};

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn connect(running: &Running) -> Sender {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    running.server.spawn(async move {
        // The connection ends with the test.
        let _ = connection.await;
    });
    sender
}

fn post(running: &Running, session: Option<&str>, body: String) -> Request<Full<Bytes>> {
    let mut request = Request::post(&running.url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    request.body(Full::new(Bytes::from(body))).unwrap()
}

/// C16: a trusted proxy may speak HTTP/2, and its requests may be batches.
#[tokio::test]
async fn c16_handlers_learn_who_the_client_is() {
    let mut settings = config();
    settings.trusted_proxies.networks = vec!["127.0.0.0/8".parse().unwrap()];
    for (settings, expected) in [(config(), "127.0.0.1"), (settings, "203.0.113.7")] {
        let running = start(settings).await;
        let mut sender = connect(&running).await;
        let client = running.client("2025-03-26").await;
        let mut request = post(&running, client.session(), call(1, "who"));
        let list = "192.0.2.99, 203.0.113.7";
        let name = "x-forwarded-for";
        request.headers_mut().insert(name, list.parse().unwrap());
        let answered = sender.send_request(request).await.unwrap();
        let http2 = answered.into_body().collect().await.unwrap().to_bytes();
        let batch = client.post(format!("[{}]", call(2, "who")));
        let batch = batch.header(name, list).await.read_to_end().await;
        for body in [http2, batch] {
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(&format!("Some({expected})")), "{body}");
        }
    }
}

/// Sessions, JSON, streams and limits, all on one HTTP/2 connection.
#[tokio::test]
async fn http2_serves_the_same() {
    let running = start(config()).await;
    let mut sender = connect(&running).await;
    let opened = sender
        .send_request(post(&running, None, rpc::initialize(1, "2025-11-25")))
        .await;
    let opened = opened.unwrap();
    assert_eq!(opened.status(), 200);
    let session = opened.headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let answered = sender
        .send_request(post(&running, Some(&session), call(2, "echo")))
        .await;
    let body = answered
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert!(body.starts_with(b"{\"jsonrpc\":\"2.0\",\"id\":2"));

    let streaming = sender
        .send_request(post(&running, Some(&session), call(3, "stream")))
        .await;
    let mut streaming = streaming.unwrap().into_body();
    let events = running.sample.newest_stream();
    events.send("data: {\"n\":1}\n\n".into()).await.unwrap();
    let frame = streaming.frame().await.unwrap().unwrap();
    assert_eq!(
        frame.into_data().unwrap(),
        "data: {\"n\":1}\n\n",
        "before the stream has ended"
    );
    drop(streaming);
    until("the stream is gone", || {
        running.server.stats().streams_open == 0
    })
    .await;

    let refused = sender
        .send_request(post(&running, Some("unknown"), call(4, "echo")))
        .await;
    assert_eq!(refused.unwrap().status(), 404);
}

/// C26: a stream that is not read is closed although hyper stops polling it.
#[tokio::test]
async fn c26_http2_stream_that_is_not_read_is_closed() {
    let mut config = config();
    config.limits.write_stall = std::time::Duration::from_millis(100);
    let running = start(config).await;
    let mut sender = connect(&running).await;
    let opened = sender
        .send_request(post(&running, None, rpc::initialize(1, "2025-11-25")))
        .await;
    let session = opened.unwrap().headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let unread = sender
        .send_request(post(&running, Some(&session), call(3, "stream")))
        .await;
    let events = running.sample.newest_stream();
    let event = Bytes::from(format!("data: {}\n\n", "x".repeat(16 << 10)));
    while events.send(event.clone()).await.is_ok() {}
    assert_eq!(running.server.stats().stalled, 1);
    drop(unread);
}

/// B10: half a preface, and a connection that only stays, are closed: no place is kept for nothing.
#[tokio::test]
async fn b10_http2_connections_without_a_request_are_closed() {
    let mut config = config();
    config.limits.head_timeout = std::time::Duration::from_millis(60);
    config.limits.idle_timeout = std::time::Duration::from_millis(100);
    let running = start(config).await;
    let mut half = thinpipe_testkit::Connection::open(running.address).await;
    half.send("PRI * HTTP/2.0\r\n\r\n").await;
    assert!(half.closed().await.is_empty());
    let mut sender = connect(&running).await;
    let opened = sender
        .send_request(post(&running, None, rpc::initialize(1, "2025-11-25")))
        .await;
    assert_eq!(opened.unwrap().status(), 200);
    until("the idle connection is closed", || {
        running.server.stats().connections_open == 0
    })
    .await;
}
