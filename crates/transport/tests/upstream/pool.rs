//! Connections that are used again, and those that must not be.

use std::time::Duration;

use thinpipe_transport::upstream::{Upstream, UpstreamConfig, UpstreamError};
use tokio::join;
use tokio::time::advance;

use crate::peer::{EVENTS, Network, OK, Peer, network, post, text};

const SECOND: Duration = Duration::from_secs(1);

/// One exchange over a fresh connection.
async fn opened(upstream: &Upstream, network: &mut Network, answer: &str) -> Peer {
    let (response, peer) = join!(upstream.send(post("{}")), network.serve(answer));
    assert_eq!(text(response.unwrap()).await, "{}");
    peer
}

/// One exchange over a connection that is there.
async fn again(upstream: &Upstream, peer: &mut Peer) {
    let (response, ()) = join!(upstream.send(post("{}")), peer.serve(OK));
    assert_eq!(text(response.unwrap()).await, "{}");
}

/// H1, H2
#[tokio::test(start_paused = true)]
async fn h1_connections_are_used_again() {
    let (upstream, mut network) = network(|_| {});
    let mut peer = opened(&upstream, &mut network, OK).await;
    for _ in 0..5 {
        again(&upstream, &mut peer).await;
    }
    let stats = upstream.stats();
    assert_eq!((stats.open, stats.idle), (1, 1));
    assert_eq!((stats.connects, stats.reused), (1, 5));
}

/// The one used last is used first, so that those not needed grow old.
#[tokio::test(start_paused = true)]
async fn the_newest_connection_is_used_first() {
    let (upstream, mut network) = network(|_| {});
    let serve = async {
        let (mut first, mut second) = (network.accept().await, network.accept().await);
        first.serve(OK).await;
        second.serve(OK).await;
        (first, second)
    };
    let send = || async { text(upstream.send(post("{}")).await.unwrap()).await };
    let (_, _, (mut first, mut second)) = join!(send(), send(), serve);
    for _ in 0..3 {
        again(&upstream, &mut second).await;
    }
    assert!(first.is_waiting().await);
}

/// A stream that has ended gives its connection back.
#[tokio::test(start_paused = true)]
async fn ended_streams_give_their_connection_back() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(EVENTS));
    let response = response.unwrap();
    assert_eq!((upstream.stats().streams, upstream.stats().idle), (1, 0));
    peer.send("0\r\n\r\n").await;
    assert_eq!(text(response).await, "data: 1\n\n");
    assert_eq!((upstream.stats().streams, upstream.stats().idle), (0, 1));
    again(&upstream, &mut peer).await;
}

/// H6: after so many requests a connection is replaced, up to a tenth early.
#[tokio::test(start_paused = true)]
async fn h6_connections_are_replaced_after_so_many_requests() {
    let (upstream, mut network) = network(|config| config.rotate_after_requests = 100);
    let mut peer = opened(&upstream, &mut network, OK).await;
    let mut requests = 1;
    while upstream.stats().idle == 1 {
        again(&upstream, &mut peer).await;
        requests += 1;
    }
    assert!((90..=100).contains(&requests), "{requests}");
    assert_eq!(peer.rest().await, b"");
    opened(&upstream, &mut network, OK).await;
}

/// H3, H6: at that age a connection is replaced even if it was never idle for long.
#[tokio::test(start_paused = true)]
async fn h6_connections_are_replaced_at_their_age() {
    let (upstream, mut network) = network(|_| {});
    let mut peer = opened(&upstream, &mut network, OK).await;
    for _ in 0..5 {
        advance(50 * SECOND).await;
        again(&upstream, &mut peer).await;
    }
    advance(50 * SECOND).await;
    opened(&upstream, &mut network, OK).await;
    assert_eq!(peer.rest().await, b"");
}

/// The client's time-out, and the server's shorter one less a second.
#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_in_time() {
    let short = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\n{}";
    for (answer, kept, spent) in [(OK, 89, 90), (short, 3, 4)] {
        let (upstream, mut network) = network(|_| {});
        let mut peer = opened(&upstream, &mut network, answer).await;
        advance(kept * SECOND).await;
        upstream.prune();
        assert_eq!(upstream.stats().idle, 1);
        advance((spent - kept) * SECOND).await;
        upstream.prune();
        assert_eq!((upstream.stats().idle, upstream.stats().open), (0, 0));
        assert_eq!(peer.rest().await, b"");
    }
}

#[tokio::test(start_paused = true)]
async fn servers_that_say_close_are_closed() {
    for header in [
        "Connection: close",
        "Keep-Alive: timeout=1",
        "Keep-Alive: max=0",
    ] {
        let (upstream, mut network) = network(|_| {});
        let answer = format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 2\r\n\r\n{{}}");
        let mut peer = opened(&upstream, &mut network, &answer).await;
        assert_eq!(peer.rest().await, b"", "{header}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_wait_than_may() {
    let (upstream, mut network) = network(|config| config.pool_max_idle = 2);
    let serve = async {
        let mut peers = Vec::new();
        for _ in 0..4 {
            peers.push(network.accept().await);
        }
        for peer in &mut peers {
            peer.serve(OK).await;
        }
        peers
    };
    let send = || async { text(upstream.send(post("{}")).await.unwrap()).await };
    let (.., _peers) = join!(send(), send(), send(), send(), serve);
    assert_eq!((upstream.stats().idle, upstream.stats().open), (2, 2));
}

/// A connection the server has closed is noticed before a request is written to it.
#[tokio::test(start_paused = true)]
async fn closed_connections_are_not_used() {
    let (upstream, mut network) = network(|_| {});
    drop(opened(&upstream, &mut network, OK).await);
    opened(&upstream, &mut network, OK).await;
    upstream.prune();
    assert_eq!((upstream.stats().idle, upstream.stats().open), (0, 0));
}

/// Q7, Q8: a kept-alive connection that dies under a request: what may be repeated is repeated, once.
#[tokio::test(start_paused = true)]
async fn q8_repeatable_requests_survive_a_dead_connection() {
    let (upstream, mut network) = network(|_| {});
    let mut peer = opened(&upstream, &mut network, OK).await;
    let mut request = post("{}");
    request.repeatable = true;
    let serve = async {
        peer.request().await;
        drop(peer);
        network.serve(OK).await
    };
    let (response, _peer) = join!(upstream.send(request), serve);
    assert_eq!(text(response.unwrap()).await, "{}");
}

#[tokio::test(start_paused = true)]
async fn q8_other_requests_are_lost_with_their_connection() {
    let (upstream, mut network) = network(|_| {});
    let mut peer = opened(&upstream, &mut network, OK).await;
    let serve = async {
        peer.request().await;
        drop(peer);
    };
    let (response, ()) = join!(upstream.send(post("{}")), serve);
    let error = response.unwrap_err();
    assert!(matches!(error, UpstreamError::Lost { .. }), "{error:?}");
    assert!(network.is_quiet());
}

/// Nor is anything repeated once the server has begun to answer.
#[tokio::test(start_paused = true)]
async fn q8_an_answer_that_has_begun_is_not_asked_for_again() {
    let (upstream, mut network) = network(|_| {});
    let mut peer = opened(&upstream, &mut network, OK).await;
    let mut request = post("{}");
    request.repeatable = true;
    let serve = async {
        peer.serve("HTTP/1.1 2").await;
        drop(peer);
    };
    let (response, ()) = join!(upstream.send(request), serve);
    assert!(matches!(response, Err(UpstreamError::Lost { .. })));
    assert!(network.is_quiet());
}

/// Q8: streams have their own budget, so they never starve short requests.
#[tokio::test(start_paused = true)]
async fn q8_streams_do_not_count_as_short_requests() {
    let (upstream, mut network) = network(|config| {
        config.max_connections = 1;
        config.max_streams = 3;
    });
    let mut streams = Vec::new();
    for _ in 0..3 {
        let (response, peer) = join!(upstream.send(post("{}")), network.serve(EVENTS));
        streams.push((response.unwrap(), peer));
    }
    assert_eq!(upstream.stats().streams, 3);
    let mut peer = opened(&upstream, &mut network, OK).await;

    // One stream too many is closed at once, and its place is free again.
    let (response, ()) = join!(upstream.send(post("{}")), peer.serve(EVENTS));
    let error = response.unwrap_err();
    assert!(matches!(
        error,
        UpstreamError::TooManyStreams { limit: 3, .. }
    ));
    assert!(!error.is_unsent(), "it has run");
    assert_eq!(peer.rest().await, b"");

    drop(streams.pop());
    let (response, _peer) = join!(upstream.send(post("{}")), network.serve(EVENTS));
    assert_eq!(response.unwrap().status, 200);
}

/// H3: however an exchange ends, its place and its connection come back.
#[tokio::test(start_paused = true)]
async fn h3_no_place_and_no_connection_is_lost() {
    let (upstream, mut network) = network(|config| config.max_connections = 1);
    for _ in 0..20 {
        for answer in [
            OK,
            EVENTS,
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",
            "nonsense\r\n\r\n",
            "HTTP/1.1 2",
            "",
        ] {
            let serve = async { drop(network.serve(answer).await) };
            let (response, ()) = join!(upstream.send(post("{}")), serve);
            drop(response);
        }
    }
    upstream.prune();
    let stats = upstream.stats();
    assert_eq!((stats.open, stats.idle, stats.streams), (0, 0, 0));
    opened(&upstream, &mut network, OK).await;
}

/// Idle connections do not keep a forgotten upstream alive.
#[tokio::test(start_paused = true)]
async fn dropping_an_upstream_closes_its_connections() {
    let (upstream, mut network) = network(|_| {});
    let mut peer = opened(&upstream, &mut network, OK).await;
    drop(upstream);
    assert_eq!(peer.rest().await, b"");
}

/// H1: a connection that was made ahead carries the next request, and one that cannot be made is an error.
#[tokio::test]
async fn h1_a_connection_may_be_made_ahead() {
    let server = thinpipe_testkit::Upstream::start().await;
    let upstream = Upstream::new(UpstreamConfig::new(
        "up".into(),
        server.url().parse().unwrap(),
    ));
    for _ in 0..2 {
        upstream.reach().await.unwrap();
        assert_eq!((upstream.stats().connects, upstream.stats().idle), (1, 1));
    }
    assert_eq!((server.record().requests, upstream.in_use()), (0, 0));
    server.die().await;
    let refused = upstream.reach().await.unwrap_err();
    assert!(refused.is_unsent(), "{refused}");
}
