//! C17: every time-out, on virtual time.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use http::Uri;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::Io;
use thinpipe_transport::body::{Body, BodyError, BoxFuture, Filled};
use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamError, UpstreamResponse};
use tokio::io::AsyncWriteExt;
use tokio::join;
use tokio::time::{Instant, advance};

use crate::peer::{EVENTS, OK, network, post, text};

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn timed_out(error: &UpstreamError, said: &str, seconds: u32, wrote: bool) {
    let UpstreamError::TimedOut {
        what,
        after,
        written,
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((*what, *after, *written), (said, SECOND * seconds, wrote));
    assert_eq!(error.is_unsent(), !wrote);
}

#[tokio::test(start_paused = true)]
async fn c17_connect() {
    let never =
        |_: &Uri| -> BoxFuture<io::Result<Box<dyn Io>>> { Box::pin(std::future::pending()) };
    let url = Uri::from_static("http://server.example/mcp");
    let upstream = Upstream::with_connector(UpstreamConfig::new("server".into(), url), never);
    let start = Instant::now();
    let error = upstream.send(post("{}")).await.unwrap_err();
    timed_out(&error, "accept a connection", 10, false);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn c17_first_byte() {
    let (upstream, mut network) = network(|config| config.first_byte_timeout = 7 * SECOND);
    let start = Instant::now();
    // Half a head is not an answer.
    let (response, mut peer) = join!(upstream.send(post("{}")), network.serve("HTTP/1.1 200 O"));
    timed_out(&response.unwrap_err(), "answer", 7, true);
    assert_eq!(start.elapsed().as_secs(), 7);
    assert_eq!(peer.rest().await, b"");
}

#[tokio::test(start_paused = true)]
async fn c17_a_head_that_comes_drop_by_drop_is_not_waited_for_longer() {
    let (upstream, mut network) = network(|config| config.first_byte_timeout = 7 * SECOND);
    let serve = async {
        let mut peer = network.accept().await;
        for byte in "HTTP/1.1 200 OK\r\n".bytes() {
            tokio::time::sleep(SECOND).await;
            peer.send([byte]).await;
        }
    };
    tokio::select! {
        response = upstream.send(post("{}")) => {
            timed_out(&response.unwrap_err(), "answer", 7, true);
        }
        () = serve => panic!("it was waited for"),
    }
}

#[tokio::test(start_paused = true)]
async fn c17_request() {
    let (upstream, mut network) = network(|config| {
        config.first_byte_timeout = 100 * SECOND;
        config.request_timeout = 20 * SECOND;
    });
    let (response, _peer) = join!(upstream.send(post("{}")), network.accept());
    timed_out(&response.unwrap_err(), "answer", 20, true);
}

/// A server that does not read the request either.
#[tokio::test(start_paused = true)]
async fn c17_request_that_cannot_be_written() {
    let (upstream, mut network) = network(|config| config.request_timeout = 20 * SECOND);
    let (response, _peer) = join!(upstream.send(post(vec![0; 1 << 20])), network.accept());
    timed_out(&response.unwrap_err(), "answer", 20, true);
}

#[tokio::test(start_paused = true)]
async fn c17_idle_between_two_bytes() {
    let (upstream, mut network) = network(|_| {});
    let start = Instant::now();
    let (response, mut peer) = join!(
        upstream.send(post("{}")),
        network.serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    );
    let read = async { response.unwrap().collect(100, &ByteBudget::default()).await };
    let serve = async {
        tokio::time::sleep(20 * SECOND).await;
        peer.send("d").await;
    };
    let (body, ()) = join!(read, serve);
    assert!(matches!(body, Err(BodyError::TimedOut)), "{body:?}");
    assert_eq!(start.elapsed().as_secs(), 50);
    assert_eq!(peer.rest().await, b"");
}

/// A server whose next bytes are always there is never waited for: the time of the exchange is over all
/// the same, and so is the place of a reader that takes its time.
#[tokio::test(start_paused = true)]
async fn c17_request_timeout_holds_while_bytes_are_ready() {
    let (upstream, mut network) = network(|config| config.max_connections = 1);
    let serve = async {
        let mut peer = network
            .serve("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n")
            .await;
        // Until the reader is gone.
        while peer.pipe().write_all(&[b'x'; 1000]).await.is_ok() {}
        network
    };
    let read = async {
        let response = upstream.send(post("{}")).await.unwrap();
        let start = Instant::now();
        let (error, read) = slowly(response).await;
        assert!(matches!(error, BodyError::Late), "{error:?}");
        assert!((50_000..9_000_000).contains(&read), "{read}");
        assert_eq!(start.elapsed().as_secs(), 60);
    };
    let ((), mut network) = join!(read, serve);
    let (next, _peer) = join!(upstream.send(post("{}")), network.serve(OK));
    assert_eq!(text(next.unwrap()).await, "{}", "the place is free");
}

/// Reads something every second until the body breaks off: why, and what was read.
pub(crate) async fn slowly(response: UpstreamResponse) -> (BodyError, usize) {
    let Body::Stream(mut body) = response.into_body() else {
        panic!("the body is here already")
    };
    let mut out = Vec::new();
    loop {
        match poll_fn(|cx| body.poll_fill(cx, &mut out)).await {
            Ok(Filled::More) => tokio::time::sleep(SECOND).await,
            Ok(Filled::End) => panic!("it was complete"),
            Err(error) => return (error, out.len()),
        }
    }
}

/// The time of the whole exchange runs on from the sending.
#[tokio::test(start_paused = true)]
async fn c17_request_timeout_covers_the_body() {
    let (upstream, mut network) = network(|_| {});
    let serve = async {
        let mut peer = network.accept().await;
        peer.request().await;
        tokio::time::sleep(40 * SECOND).await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nabc")
            .await;
        for _ in 0..10 {
            tokio::time::sleep(9 * SECOND).await;
            peer.send("d").await;
        }
    };
    let start = Instant::now();
    let read = async {
        upstream
            .send(post("{}"))
            .await
            .unwrap()
            .collect(100, &ByteBudget::default())
            .await
    };
    let body = tokio::select! { body = read => body, () = serve => panic!("not cut") };
    assert!(matches!(body, Err(BodyError::Late)), "{body:?}");
    assert_eq!(start.elapsed().as_secs(), 60);
}

/// G8: a stream that says something, were it a comment, is alive; it is not cut by the request's
/// time-out. One that says nothing is dead.
#[tokio::test(start_paused = true)]
async fn c17_g8_streams_live_as_long_as_they_say_something() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(EVENTS));
    let start = Instant::now();
    let read = async {
        response
            .unwrap()
            .collect(10_000, &ByteBudget::default())
            .await
    };
    let serve = async {
        for _ in 0..10 {
            tokio::time::sleep(250 * SECOND).await;
            peer.send("3\r\n:\n\n\r\n").await;
        }
    };
    let (body, ()) = join!(read, serve);
    assert!(matches!(body, Err(BodyError::TimedOut)), "{body:?}");
    assert_eq!(start.elapsed().as_secs(), 10 * 250 + 300);
}

/// Silence counts from when something was waited for, not from the last byte: a reader that rests
/// does not make its server look dead.
#[tokio::test(start_paused = true)]
async fn c17_a_slow_reader_is_not_a_silent_server() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(EVENTS));
    peer.send("0\r\n\r\n").await;
    advance(1000 * SECOND).await;
    assert_eq!(text(response.unwrap()).await, "data: 1\n\n");
}

/// Q8: a place in the budget is waited for as long as a connection would be.
#[tokio::test(start_paused = true)]
async fn q8_a_place_is_waited_for_and_then_refused() {
    let (upstream, mut network) = network(|config| config.max_connections = 1);
    let start = Instant::now();
    let first = upstream.send(post("{}"));
    let second = async { upstream.send(post("{}")).await.map(|_| start.elapsed()) };
    let third = async {
        tokio::time::sleep(5 * SECOND).await;
        let third = upstream.send(post("{}"));
        let serve = async {
            tokio::time::sleep(6 * SECOND).await;
            let mut peer = network.serve(OK).await;
            peer.serve(OK).await;
            assert!(network.is_quiet(), "one connection is all there may be");
        };
        join!(third, serve).0
    };
    let (first, second, third) = join!(first, second, third);
    assert_eq!(text(first.unwrap()).await, "{}");
    let error = second.unwrap_err();
    assert!(
        matches!(error, UpstreamError::Exhausted { limit: 1, .. }),
        "{error:?}"
    );
    assert!(error.is_unsent());
    assert_eq!(text(third.unwrap()).await, "{}");
}
