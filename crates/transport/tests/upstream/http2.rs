//! HTTP/2 with prior knowledge, against hyper's server.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::{Body, BodyError, Filled};
use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamError};
use tokio::task::JoinSet;

use crate::peer::{network, post, text};
use crate::timeouts::slowly;

/// What the server answers: its path decides.
enum Answer {
    /// The request's body.
    Echo(Incoming),
    /// Events without end, as fast as they are read.
    Endless(Arc<AtomicUsize>),
    /// One event, then nothing.
    Silent(bool),
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Echo(body) => Pin::new(body).poll_frame(cx),
            Self::Endless(sent) => {
                sent.fetch_add(1000, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1000])))))
            }
            Self::Silent(true) => Poll::Pending,
            Self::Silent(said) => {
                *said = true;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data: 1\n\n")))))
            }
        }
    }
}

struct Server {
    upstream: Upstream,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

fn server(change: impl FnOnce(&mut UpstreamConfig)) -> Server {
    let (upstream, mut network) = network(|config| {
        config.http2 = true;
        change(config);
    });
    let connections = Arc::new(AtomicUsize::new(0));
    let sent = Arc::new(AtomicUsize::new(0));
    let (count, bytes) = (Arc::clone(&connections), Arc::clone(&sent));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut served = JoinSet::new();
        loop {
            let io = network.accept_raw().await;
            count.fetch_add(1, Ordering::Relaxed);
            let bytes = Arc::clone(&bytes);
            let service = service_fn(move |request| answer(request, Arc::clone(&bytes)));
            served.spawn(async move {
                let _ = Builder::new(TokioExecutor::new())
                    .max_concurrent_streams(200)
                    .serve_connection(TokioIo::new(io), service)
                    .await;
            });
        }
    });
    Server {
        upstream,
        connections,
        sent,
        _tasks: tasks,
    }
}

async fn answer(
    request: Request<Incoming>,
    sent: Arc<AtomicUsize>,
) -> Result<Response<Answer>, Infallible> {
    assert_eq!(request.uri().authority().unwrap(), "server.example");
    assert_eq!(request.headers()["accept-encoding"], "identity");
    let want = request.headers().get("want").cloned();
    let body = match want.as_ref().map(HeaderValue::as_bytes) {
        Some(b"endless" | b"bytes") => Answer::Endless(sent),
        Some(b"silent") => Answer::Silent(false),
        Some(b"nothing") => std::future::pending().await,
        _ => Answer::Echo(request.into_body()),
    };
    let events = !matches!(body, Answer::Echo(_)) && want.is_some_and(|want| want != "bytes");
    let mut response = Response::new(body);
    if events {
        let events = HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, events);
    }
    Ok(response)
}

fn want(what: &'static str) -> thinpipe_transport::upstream::UpstreamRequest {
    let mut request = post("");
    request
        .headers
        .insert("want", HeaderValue::from_static(what));
    request
}

/// H1
#[tokio::test(start_paused = true)]
async fn h1_one_connection_carries_all_exchanges() {
    let server = server(|_| {});
    for turn in 0..20 {
        let body = format!("{turn}").repeat(turn * 1000);
        let response = server.upstream.send(post(body.clone())).await.unwrap();
        assert!(text(response).await == body);
    }
    let mut clients = JoinSet::new();
    for client in 0..50 {
        let upstream = server.upstream.clone();
        clients.spawn(async move {
            let response = upstream.send(post(format!("{client}"))).await.unwrap();
            assert_eq!(text(response).await, format!("{client}"));
        });
    }
    clients.join_all().await;
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    assert_eq!(server.upstream.stats().idle, 1);
}

/// C25, Q8: streams that nobody reads stop by themselves, each within its window, and stop no other.
#[tokio::test(start_paused = true)]
async fn c25_q8_stalled_streams_stop_nobody_else() {
    let server = server(|_| {});
    let mut stalled = Vec::new();
    for _ in 0..150 {
        let response = server.upstream.send(want("endless")).await.unwrap();
        assert!(response.is_event_stream());
        stalled.push(response);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 2, "100 on each");
    assert_eq!(server.upstream.stats().streams, 150);
    let response = server
        .upstream
        .send(post("x".repeat(10_000)))
        .await
        .unwrap();
    assert_eq!(text(response).await.len(), 10_000);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = server.sent.load(Ordering::Relaxed) / 150;
    assert!((64_000..200_000).contains(&each), "{each}");
}

/// C8: leaving is seen by the server, and the connection goes on.
#[tokio::test(start_paused = true)]
async fn c8_dropping_a_body_ends_its_stream_only() {
    let server = server(|_| {});
    let Body::Stream(mut body) = server
        .upstream
        .send(want("endless"))
        .await
        .unwrap()
        .into_body()
    else {
        panic!("the body is not here yet")
    };
    let mut out = Vec::new();
    let filled = poll_fn(|cx| body.poll_fill(cx, &mut out)).await.unwrap();
    assert_eq!(filled, Filled::More);
    drop(body);
    let response = server.upstream.send(post("x")).await.unwrap();
    let before = server.sent.load(Ordering::Relaxed);
    assert_eq!(text(response).await, "x");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(server.sent.load(Ordering::Relaxed), before);
    let stats = server.upstream.stats();
    assert_eq!((stats.open, stats.idle, stats.streams), (1, 1, 0));
}

/// C17
#[tokio::test(start_paused = true)]
async fn c17_time_outs_hold_here_too() {
    let server = server(|_| {});
    let error = server.upstream.send(want("nothing")).await.unwrap_err();
    assert!(matches!(
        error,
        UpstreamError::TimedOut { written: true, .. }
    ));
    let start = tokio::time::Instant::now();
    let response = server.upstream.send(want("silent")).await.unwrap();
    let error = response
        .collect(100, &ByteBudget::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 300);
}

/// H6: after so many requests a connection is replaced, up to a tenth early.
#[tokio::test(start_paused = true)]
async fn h6_connections_are_replaced_after_so_many_requests() {
    let server = server(|config| config.rotate_after_requests = 100);
    let mut requests = 0;
    while server.connections.load(Ordering::Relaxed) < 2 {
        let response = server.upstream.send(post("x")).await.unwrap();
        assert_eq!(text(response).await, "x");
        requests += 1;
    }
    assert!((91..=101).contains(&requests), "{requests}");
}

/// Q8: streams over HTTP/2 have their own budget too.
#[tokio::test(start_paused = true)]
async fn q8_places_are_bounded_here_too() {
    let server = server(|config| (config.max_connections, config.max_streams) = (1, 1));
    let stream = server.upstream.send(want("silent")).await.unwrap();
    let error = server.upstream.send(want("silent")).await.unwrap_err();
    assert!(matches!(
        error,
        UpstreamError::TooManyStreams { limit: 1, .. }
    ));
    let waiting = server.upstream.send(want("nothing"));
    let refused = server.upstream.send(post("x"));
    tokio::select! {
        biased;
        _ = waiting => panic!("it is never answered"),
        error = refused => {
            let error = error.unwrap_err();
            assert!(matches!(error, UpstreamError::Exhausted { limit: 1, .. }));
        }
    }
    drop(stream);
}

/// C17: the time of the whole exchange is over also where the next bytes are always there.
#[tokio::test(start_paused = true)]
async fn c17_request_timeout_holds_while_bytes_are_ready() {
    let server = server(|_| {});
    let response = server.upstream.send(want("bytes")).await.unwrap();
    let start = tokio::time::Instant::now();
    let (error, read) = slowly(response).await;
    assert!(
        matches!(error, BodyError::Late) && read > 50_000,
        "{error:?} after {read}"
    );
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(
        text(server.upstream.send(post("x")).await.unwrap()).await,
        "x"
    );
}

/// H6
#[tokio::test(start_paused = true)]
async fn h6_connections_are_replaced() {
    let server = server(|_| {});
    let silent = server.upstream.send(want("silent")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(301)).await;
    let response = server.upstream.send(post("x")).await.unwrap();
    assert_eq!(text(response).await, "x");
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    // The old one ends with the stream it carries.
    assert_eq!(server.upstream.stats().open, 2);
    drop(silent);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.upstream.stats().open, 1);
    tokio::time::advance(Duration::from_secs(91)).await;
    server.upstream.prune();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.upstream.stats().open, 0);
}
