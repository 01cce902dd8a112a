//! C8: servers that break off, lie or talk nonsense, and clients that leave.

use bytes::Bytes;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BodyError;
use thinpipe_transport::upstream::UpstreamError;
use tokio::join;

use crate::peer::{EVENTS, OK, network, post, text, wrong};

#[tokio::test(start_paused = true)]
async fn c8_a_server_that_closes_instead_of_answering_is_lost() {
    for said in [
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nA: b\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let (upstream, mut network) = network(|_| {});
        let mut request = post("{}");
        request.repeatable = true;
        let serve = async { drop(network.serve(said).await) };
        let (response, ()) = join!(upstream.send(request), serve);
        let error = response.unwrap_err();
        assert!(matches!(error, UpstreamError::Lost { .. }), "{error:?}");
        assert!(!error.is_unsent());
        assert!(network.is_quiet(), "a fresh connection is not tried twice");
        assert_eq!(upstream.stats().open, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn c8_a_body_that_breaks_off_is_not_complete() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        EVENTS,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        let (upstream, mut network) = network(|_| {});
        let serve = async { drop(network.serve(answer).await) };
        let (response, ()) = join!(upstream.send(post("{}")), serve);
        let error = response
            .unwrap()
            .collect(100, &ByteBudget::default())
            .await
            .unwrap_err();
        assert!(matches!(error, BodyError::Incomplete), "{error:?}");
        assert_eq!((upstream.stats().open, upstream.stats().streams), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn c8_broken_framing_ends_the_body() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(EVENTS));
    peer.send("zz\r\n").await;
    let error = response
        .unwrap()
        .collect(100, &ByteBudget::default())
        .await
        .unwrap_err();
    assert!(matches!(error, BodyError::Framing(_)), "{error:?}");
    assert_eq!(peer.rest().await, b"");
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_malformed_and_closes_the_connection() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(200));
    let large = format!("HTTP/1.1 200 OK\r\nA: {}\r\n", "b".repeat(70_000));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(3000);
    for (answer, reason) in [
        ("SMTP ready\r\n\r\n", "not HTTP/1.1"),
        ("HTTP/1.1 200 OK\nA: b\n\n", "bare LF"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "differ",
        ),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
            "switches protocols",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "without a size",
        ),
        (&many, "128 fields"),
        (&large, "larger than 65536"),
        (&interim, "larger than 65536"),
    ] {
        let (upstream, mut network) = network(|_| {});
        let serve = async {
            let mut peer = network.accept().await;
            peer.request().await;
            // Closed before all of it could be said.
            let _ = tokio::io::AsyncWriteExt::write_all(peer.pipe(), answer.as_bytes()).await;
            peer
        };
        let (response, mut peer) = join!(upstream.send(post("{}")), serve);
        let error = wrong(response);
        assert!(error.contains(reason), "{error}");
        assert_eq!(peer.rest().await, b"");
    }
}

/// H1: what nobody asked for is not the answer to the next request.
#[tokio::test(start_paused = true)]
async fn h1_more_than_was_announced_closes_the_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nextra",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nextra",
    ] {
        let (upstream, mut network) = network(|_| {});
        let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(answer));
        assert_eq!(response.unwrap().status.as_u16() / 100, 2);
        assert_eq!(peer.rest().await, b"");
        assert_eq!(upstream.stats().idle, 0);
    }
}

/// The same, when it comes while the connection waits.
#[tokio::test(start_paused = true)]
async fn h1_a_server_that_speaks_unasked_is_not_asked_again() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(OK));
    assert_eq!(text(response.unwrap()).await, "{}");
    peer.send(OK).await;
    let (response, _other) = join!(
        upstream.send(post("{}")),
        network.serve("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    );
    assert_eq!(response.unwrap().status, 404);
    assert_eq!(peer.rest().await, b"");
}

/// An answer may come before the request was read to its end; the rest is then not written.
#[tokio::test(start_paused = true)]
async fn an_early_answer_is_taken() {
    let (upstream, mut network) = network(|_| {});
    let serve = async {
        let mut peer = network.accept().await;
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            .await;
        peer
    };
    let body = Bytes::from(vec![b'x'; 500_000]);
    let (response, mut peer) = join!(upstream.send(post(body)), serve);
    assert_eq!(response.unwrap().status, 413);
    assert!(peer.rest().await.len() < 500_000);
    assert_eq!(upstream.stats().open, 0);
}

/// C8, H: dropping the future of a request closes its connection, which cancels it.
#[tokio::test(start_paused = true)]
async fn c8_dropping_a_request_closes_its_connection() {
    let (upstream, mut network) = network(|_| {});
    let mut sending = Box::pin(upstream.send(post("{}")));
    let mut peer = tokio::select! {
        _ = &mut sending => panic!("nobody answered"),
        peer = async { let mut peer = network.accept().await; peer.request().await; peer } => peer,
    };
    assert!(peer.is_waiting().await);
    drop(sending);
    assert_eq!(peer.rest().await, b"");
    assert_eq!(upstream.stats().open, 0);
}

#[tokio::test(start_paused = true)]
async fn c8_dropping_an_unread_body_closes_its_connection() {
    for answer in [
        EVENTS,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc",
    ] {
        let (upstream, mut network) = network(|_| {});
        let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(answer));
        drop(response.unwrap());
        assert_eq!(peer.rest().await, b"");
        assert_eq!((upstream.stats().open, upstream.stats().streams), (0, 0));
    }
}

/// Q8: what is small and already here is taken off, so that the connection can go on.
#[tokio::test(start_paused = true)]
async fn q8_small_leftovers_are_drained() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(
        upstream.send(post("{}")),
        network.serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    );
    peer.send("defghi").await;
    drop(response.unwrap());
    assert_eq!(upstream.stats().idle, 1);
    let (response, ()) = join!(upstream.send(post("{}")), peer.serve(OK));
    assert_eq!(text(response.unwrap()).await, "{}");
}
