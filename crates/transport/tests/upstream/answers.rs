//! What a server answers arrives as it was meant, once.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use thinpipe_proto::header::MediaType;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::{Body, BodyError, Filled};
use tokio::io::AsyncWriteExt;
use tokio::join;

use crate::peer::{EVENTS, OK, PIPE, network, post, text, wrong};

/// C1: the type decides, whatever its parameters; look-alikes do not count.
#[tokio::test(start_paused = true)]
async fn c1_media_types_are_parsed_and_not_searched() {
    for (value, media_type) in [
        ("application/json; charset=utf-8", MediaType::Json),
        ("text/event-stream;charset=utf-8", MediaType::EventStream),
        ("Text/Event-Stream", MediaType::EventStream),
        ("text/event-streams", MediaType::Other),
        ("application/x+text/event-stream", MediaType::Other),
        ("text/plain; x=\"text/event-stream\"", MediaType::Other),
        ("application/json-seq", MediaType::Other),
    ] {
        let (upstream, mut network) = network(|_| {});
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {value}\r\nContent-Length: 1\r\n\r\nx");
        let (response, _peer) = join!(upstream.send(post("")), network.serve(&answer));
        let response = response.unwrap();
        assert_eq!(response.media_type, media_type, "{value}");
        assert_eq!(text(response).await, "x");
    }
}

/// C3, trap 1: that an answer is an event stream is no error and no reason to ask again: it is a media type
/// of an answer whose events are still there to be read.
#[tokio::test(start_paused = true)]
async fn c3_an_event_stream_is_an_answer() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(EVENTS));
    let response = response.expect("an answer");
    assert_eq!(
        (response.status, response.media_type),
        (StatusCode::OK, MediaType::EventStream)
    );
    peer.send("0\r\n\r\n").await;
    assert_eq!(text(response).await, "data: 1\n\n");
    assert!(
        network.is_quiet() && peer.is_waiting().await,
        "it was asked once"
    );
}

/// C2: for JSON, event streams and errors alike the server sees one request.
#[tokio::test(start_paused = true)]
async fn c2_one_call_is_one_request() {
    let events = format!("{EVENTS}0\r\n\r\n");
    for (answer, body) in [
        (OK, "{}"),
        (&events, "data: 1\n\n"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", "oops"),
        ("HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n", ""),
        (
            "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "",
        ),
    ] {
        let (upstream, mut network) = network(|_| {});
        let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(answer));
        assert_eq!(text(response.unwrap()).await, body);
        drop(upstream);
        assert_eq!(peer.rest().await, b"", "{answer}");
        assert!(network.is_quiet());
    }
}

/// C2: the head is there before a byte of the body is, and the headers are all kept.
#[tokio::test(start_paused = true)]
async fn c2_the_head_comes_before_the_body() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(
        upstream.send(post("{}")),
        network.serve(
            "HTTP/1.1 200 OK\r\nMcp-Session-Id: abc\r\nX: 1\r\nX: 2\r\nContent-Length: 3\r\n\r\n"
        )
    );
    let response = response.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.content_length, Some(3));
    assert_eq!(response.headers.get_all("x").iter().count(), 2);
    let session = response.session_id().unwrap().unwrap();
    assert_eq!(session.as_str(), "abc");
    let ((), body) = join!(peer.send("abc"), text(response));
    assert_eq!(body, "abc");
}

/// C11: bytes are bytes, under every framing and however they arrive.
#[tokio::test(start_paused = true)]
async fn c11_binary_bodies_are_equal_byte_for_byte() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    let chunked: Vec<u8> = bytes
        .chunks(7777)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .chain(*b"0\r\nTrailer: x\r\n\r\n")
        .collect();
    for (framing, wire) in [
        ("Content-Length: 200000", &bytes),
        ("Transfer-Encoding: chunked", &chunked),
        ("Connection: close", &bytes),
    ] {
        for step in [1000, 50_000] {
            let (upstream, mut network) = network(|_| {});
            let serve = async {
                let mut peer = network
                    .serve(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))
                    .await;
                for piece in wire.chunks(step) {
                    peer.send(piece).await;
                }
            };
            let fetch = async {
                upstream
                    .send(post(""))
                    .await
                    .unwrap()
                    .collect(1 << 20, &ByteBudget::default())
                    .await
            };
            let (body, ()) = join!(fetch, serve);
            assert!(body.unwrap() == bytes, "{framing}, {step}");
        }
    }
}

/// C10, B10: what is read whole comes out of a budget: refused before it is read where its length is
/// announced, in the middle where it is not, held for as long as the bytes are, and given back.
#[tokio::test(start_paused = true)]
async fn b10_whole_bodies_share_a_budget() {
    let budget = ByteBudget::new(250_000);
    let bytes = vec![b'x'; 200_000];
    for (framing, begun) in [
        ("Content-Length: 200000", 0),
        ("Connection: close", 180_000),
    ] {
        let (upstream, mut network) = network(|_| {});
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n");
        let serve = async {
            let mut peer = network.serve(&head).await;
            peer.send(&bytes).await;
        };
        let fetch = async {
            let response = upstream.send(post("")).await.unwrap();
            response.collect(1 << 20, &budget).await.unwrap()
        };
        let (held, ()) = join!(fetch, serve);
        assert!((200_000..=250_000).contains(&budget.used()));

        let serve = async {
            let mut peer = network.serve(&head).await;
            // It may be refused in the middle.
            let _ = peer.pipe().write_all(&bytes[..begun]).await;
            assert!(peer.rest().await.is_empty(), "its connection is closed");
        };
        let fetch = async {
            let response = upstream.send(post("")).await.unwrap();
            response.collect(1 << 20, &budget).await.unwrap_err()
        };
        let (error, ()) = join!(fetch, serve);
        assert!(matches!(error, BodyError::NoRoom(_)), "{framing}: {error}");
        drop(held);
        assert_eq!(budget.used(), 0);
    }
}

/// A request may be larger than what the connection holds.
#[tokio::test(start_paused = true)]
async fn large_requests_are_written_whole() {
    for length in [0, 100, 16 << 10, (16 << 10) + 1, 300_000] {
        let (upstream, mut network) = network(|_| {});
        let body = Bytes::from(vec![b'x'; length]);
        let serve = async {
            let mut peer = network.accept().await;
            let (_, seen) = peer.request().await;
            peer.send(OK).await;
            seen
        };
        let (response, seen) = join!(upstream.send(post(body.clone())), serve);
        assert_eq!(text(response.unwrap()).await, "{}");
        assert!(seen == body, "{length}");
    }
}

/// C15: the request names the host, its own credentials win, and no compression is asked for.
#[tokio::test(start_paused = true)]
async fn c15_requests_carry_the_upstreams_own_headers() {
    let (upstream, mut network) = network(|config| {
        let token = HeaderValue::from_static("Bearer own");
        config.headers.insert(header::AUTHORIZATION, token);
    });
    let mut request = post("{}");
    let theirs = HeaderValue::from_static("Bearer theirs");
    request.headers.insert(header::AUTHORIZATION, theirs);
    let serve = async {
        let mut peer = network.accept().await;
        let (head, _) = peer.request().await;
        peer.send(OK).await;
        head
    };
    let (response, head) = join!(upstream.send(request), serve);
    assert_eq!(response.unwrap().status, 200);
    assert!(head.starts_with("POST /mcp HTTP/1.1\r\nhost: server.example\r\n"));
    assert!(head.contains("accept-encoding: identity\r\n"));
    assert!(head.contains("authorization: Bearer own\r\n"));
    assert!(!head.contains("theirs"));
}

#[tokio::test(start_paused = true)]
async fn interim_responses_are_skipped() {
    let (upstream, mut network) = network(|_| {});
    let serve = async {
        let mut peer = network
            .serve("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E")
            .await;
        peer.send("arly\r\nLink: x\r\n\r\n").await;
        peer.send(OK).await;
    };
    let (response, ()) = join!(upstream.send(post("{}")), serve);
    assert_eq!(text(response.unwrap()).await, "{}");
    assert_eq!(upstream.stats().idle, 1);
}

/// 202, 204, 304 and answers to HEAD end where they should, and the connection goes on.
#[tokio::test(start_paused = true)]
async fn answers_without_a_body_do_not_wait_for_one() {
    for (method, answer) in [
        (
            Method::POST,
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            Method::POST,
            "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (Method::DELETE, "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ] {
        let (upstream, mut network) = network(|_| {});
        let mut request = post("");
        request.method = method;
        let (response, _peer) = join!(upstream.send(request), network.serve(answer));
        assert!(matches!(response.unwrap().into_body(), Body::Empty));
        assert_eq!(upstream.stats().idle, 1, "{answer}");
    }
}

/// A 202 without a length ends with its connection, by the rules; nobody need wait for that.
#[tokio::test(start_paused = true)]
async fn a_202_without_a_length_lasts_until_the_server_closes() {
    let (upstream, mut network) = network(|_| {});
    let (response, peer) = join!(
        upstream.send(post("{}")),
        network.serve("HTTP/1.1 202 Accepted\r\n\r\n")
    );
    let response = response.unwrap();
    assert_eq!(response.content_length, None);
    drop(peer);
    assert_eq!(text(response).await, "");
    assert_eq!(upstream.stats().open, 0);
}

/// C25, Q4: who does not read makes the server wait, and holds next to nothing meanwhile.
#[tokio::test(start_paused = true)]
async fn c25_a_reader_that_stops_stops_the_server() {
    let (upstream, mut network) = network(|_| {});
    let serve = async {
        let mut io = network.accept_raw().await;
        io.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            .await
            .unwrap();
        io
    };
    let (response, mut io) = join!(upstream.send(post("{}")), serve);
    let Body::Stream(mut body) = response.unwrap().into_body() else {
        panic!("the body is not here yet")
    };
    let line = [b'x'; 1000];
    let mut accepted = 0;
    let full = std::time::Duration::from_secs(1);
    while let Ok(wrote) = tokio::time::timeout(full, io.write(&line)).await {
        accepted += wrote.unwrap();
    }
    assert_eq!(accepted, PIPE, "what the pipe holds and not a byte more");
    let mut out = Vec::new();
    let filled = poll_fn(|cx| body.poll_fill(cx, &mut out)).await.unwrap();
    assert_eq!(filled, Filled::More);
    assert!(out.len() <= 32 << 10, "{}", out.len());
    assert!(tokio::time::timeout(full, io.write(&line)).await.is_ok());
}

/// C9: hours of events go through at constant memory: nothing is kept of what was read.
#[tokio::test(start_paused = true)]
async fn c9_long_streams_keep_nothing() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(upstream.send(post("{}")), network.serve(EVENTS));
    let Body::Stream(mut body) = response.unwrap().into_body() else {
        panic!("the body is not here yet")
    };
    let mut out = Vec::with_capacity(64 << 10);
    let filled = poll_fn(|cx| body.poll_fill(cx, &mut out)).await.unwrap();
    assert_eq!(
        (filled, out.as_slice()),
        (Filled::More, &b"data: 1\n\n"[..])
    );
    for _ in 0..5000 {
        // Longer than the request time-out, shorter than that of a silent stream.
        tokio::time::advance(std::time::Duration::from_secs(100)).await;
        peer.send("9\r\ndata: 2\n\n\r\n").await;
        out.clear();
        let filled = poll_fn(|cx| body.poll_fill(cx, &mut out)).await.unwrap();
        assert_eq!(filled, Filled::More);
        assert_eq!(out, b"data: 2\n\n");
    }
    assert_eq!(out.capacity(), 64 << 10);
}

#[tokio::test(start_paused = true)]
async fn compressed_answers_are_refused() {
    let (upstream, mut network) = network(|_| {});
    let (response, mut peer) = join!(
        upstream.send(post("{}")),
        network.serve("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx")
    );
    let error = wrong(response);
    assert!(error.contains("Content-Encoding is \"gzip\""), "{error}");
    assert_eq!(peer.rest().await, b"");
}

/// Requests that wait for their answer are many too.
#[tokio::test(start_paused = true)]
async fn a_request_that_waits_is_small() {
    let (upstream, _network) = network(|_| {});
    let bytes = size_of_val(&upstream.send(post("{}")));
    assert!(bytes <= 1024, "{bytes}");
}

/// C4: the four messages of an exchange are types of their own, so that none is taken for another.
#[test]
fn c4_requests_and_responses_of_both_sides_are_types_of_their_own() {
    use std::any::TypeId;
    use thinpipe_transport::server::{Answer, Exchange};
    use thinpipe_transport::upstream::{UpstreamRequest, UpstreamResponse};
    let types = [
        TypeId::of::<Exchange>(),
        TypeId::of::<UpstreamRequest>(),
        TypeId::of::<UpstreamResponse>(),
        TypeId::of::<Answer>(),
    ];
    let distinct: std::collections::HashSet<_> = types.into_iter().collect();
    assert_eq!(distinct.len(), types.len());
}
