//! The same over HTTP/2 with prior knowledge.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use thinpipe_testkit::rpc;
use tokio::net::TcpStream;

use crate::support::{HUGE, Pieces, Running, call, config, start, until};

type Sender<B> = hyper::client::conn::http2::SendRequest<B>;

/// A connection whose requests have bodies of this kind.
pub(crate) async fn connect<B>(running: &Running) -> Sender<B>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
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

pub(crate) fn post(running: &Running, session: Option<&str>, body: String) -> Request<Full<Bytes>> {
    post_of(running, session, Full::new(Bytes::from(body)))
}

/// POST with any body.
pub(crate) fn post_of<B>(running: &Running, session: Option<&str>, body: B) -> Request<B> {
    let mut request = Request::post(&running.url)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    if let Some(session) = session {
        request = request.header("mcp-session-id", session);
    }
    request.body(body).unwrap()
}

/// The session that was opened.
pub(crate) fn session_of<B>(opened: &http::Response<B>) -> String {
    let id = opened.headers()["mcp-session-id"].to_str();
    id.unwrap().to_owned()
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
    let session = session_of(&opened);
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
    let session = session_of(&opened.unwrap());
    let unread = sender
        .send_request(post(&running, Some(&session), call(3, "stream")))
        .await;
    let events = running.sample.newest_stream();
    let event = Bytes::from(format!("data: {}\n\n", "x".repeat(16 << 10)));
    while events.send(event.clone()).await.is_ok() {}
    assert_eq!(running.server.stats().stalled, 1);
    drop(unread);
}

/// C26: nor is a large answer that is not read kept for ever. One that is read arrives whole, with its length.
#[tokio::test]
async fn c26_http2_large_answer_that_is_not_read_is_given_up() {
    let mut config = config();
    config.limits.write_stall = std::time::Duration::from_millis(100);
    let running = start(config).await;
    let client = running.client("2025-11-25").await;
    let mut sender = connect(&running).await;
    let huge = |id| post(&running, client.session(), call(id, "huge"));
    let read = sender.send_request(huge(1)).await.unwrap();
    let length = read.headers()["content-length"]
        .to_str()
        .unwrap()
        .to_owned();
    let body = read.into_body().collect().await.unwrap().to_bytes();
    assert!(body.len() > HUGE && body.len().to_string() == length);
    let unread = sender.send_request(huge(2)).await.unwrap();
    until("it is given up", || running.server.stats().stalled == 1).await;
    assert!(unread.into_body().collect().await.is_err());
}

/// B2, B10: the limits of requests hold over HTTP/2 as well.
#[tokio::test]
async fn b10_http2_requests_have_limits() {
    let mut config = config();
    (config.limits.max_body, config.limits.max_headers) = (1000, 10);
    config.limits.max_head = 4000;
    config.limits.body_timeout = std::time::Duration::from_millis(50);
    let running = start(config).await;
    let mut sender = connect(&running).await;
    let mut status = async |body: &[usize], announced: Option<u64>, fields: usize, size: usize| {
        let (pieces, receiver) = tokio::sync::mpsc::channel(8);
        for length in body {
            pieces.send(" ".repeat(*length).into()).await.unwrap();
        }
        let length = announced;
        let mut request = post_of(&running, None, Pieces { receiver, length });
        for at in 0..fields {
            let name: http::HeaderName = format!("x-{at}").parse().unwrap();
            let value = "x".repeat(size).parse().unwrap();
            request.headers_mut().insert(name, value);
        }
        let response = sender.send_request(request).await.unwrap();
        drop(pieces);
        response.status().as_u16()
    };
    assert_eq!(status(&[], Some(1001), 0, 0).await, 413, "announced");
    assert_eq!(status(&[600, 600], None, 0, 0).await, 413, "as it comes");
    assert_eq!(status(&[600], None, 0, 0).await, 408, "half a body");
    assert_eq!(status(&[], None, 11, 1).await, 431, "too many fields");
    assert_eq!(status(&[], None, 2, 3000).await, 431, "too large a head");
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

/// The answer to HEAD has no body here either (RFC 9110 9.3.2), and says how long it would be.
#[tokio::test]
async fn the_answer_to_head_has_no_body_over_http2() {
    let running = start(config()).await;
    let mut sender = connect(&running).await;
    let head = Request::head(&running.url)
        .body(Full::<Bytes>::default())
        .unwrap();
    let answered = sender.send_request(head).await.unwrap();
    assert_eq!(answered.status(), 405);
    assert!(answered.headers().contains_key("content-length"));
    let body = answered.into_body().collect().await.unwrap().to_bytes();
    assert!(body.is_empty(), "{body:?}");
}
