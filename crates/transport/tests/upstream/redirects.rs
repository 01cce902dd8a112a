//! Redirects: the same origin, method and body kept, a few times.

use thinpipe_transport::upstream::UpstreamError;
use tokio::join;

use crate::peer::{EVENTS, OK, network, post, text, wrong};

/// R028's neighbour in the probe's table: "307 / 308 same origin: follow with method+body".
#[tokio::test(start_paused = true)]
async fn redirects_within_the_origin_keep_method_and_body() {
    for (status, location) in [(307, "/mcp/"), (308, "http://server.example/mcp/")] {
        let (upstream, mut network) = network(|_| {});
        let redirect =
            format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 1\r\n\r\nx");
        let serve = async {
            let mut peer = network.serve(&redirect).await;
            let second = peer.request().await;
            peer.send(OK).await;
            (peer, second)
        };
        let (response, (_peer, (head, body))) = join!(upstream.send(post("{\"a\":1}")), serve);
        assert_eq!(text(response.unwrap()).await, "{}");
        assert!(head.starts_with("POST /mcp/ HTTP/1.1\r\n"), "{head}");
        assert_eq!(body, b"{\"a\":1}");
        assert!(network.is_quiet(), "the connection goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_whose_body_does_not_end_is_followed_on_another_connection() {
    let (upstream, mut network) = network(|config| config.max_connections = 1);
    let serve = async {
        let mut first = network
            .serve("HTTP/1.1 307 X\r\nLocation: /x\r\nContent-Length: 100\r\n\r\n")
            .await;
        let second = network.serve(EVENTS).await;
        assert_eq!(first.rest().await, b"");
        second
    };
    let (response, _peer) = join!(upstream.send(post("{}")), serve);
    assert!(response.unwrap().is_event_stream());
}

#[tokio::test(start_paused = true)]
async fn other_redirects_are_errors() {
    for (status, location, why) in [
        (307, "http://other.example/mcp", "another origin"),
        (308, "https://server.example/mcp", "another origin"),
        (307, "http://server.example:81/mcp", "another origin"),
        (301, "/x", "only 307 and 308 keep the method"),
        (302, "/x", "only 307 and 308 keep the method"),
        (303, "/x", "only 307 and 308 keep the method"),
        (300, "/x", "only 307 and 308 keep the method"),
        (307, "/a b", "unclear"),
        (308, "", "no Location"),
    ] {
        let (upstream, mut network) = network(|_| {});
        let redirect =
            format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let (response, _peer) = join!(upstream.send(post("{}")), network.serve(&redirect));
        let error = response.unwrap_err();
        assert!(
            matches!(&error, UpstreamError::Redirect { location: to, .. } if to == location),
            "{error:?}"
        );
        assert!(error.to_string().contains(why), "{error}");
        assert!(network.is_quiet());
    }
}

#[tokio::test(start_paused = true)]
async fn the_fourth_redirect_is_an_error() {
    let (upstream, mut network) = network(|_| {});
    let redirect = "HTTP/1.1 307 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
    let serve = async {
        let mut peer = network.serve(redirect).await;
        for _ in 0..3 {
            peer.serve(redirect).await;
        }
        peer
    };
    let (response, _peer) = join!(upstream.send(post("{}")), serve);
    assert!(matches!(&response, Err(UpstreamError::Redirect { .. })));
    let error = wrong(response);
    assert!(error.ends_with("one more than are followed"), "{error}");
}

/// E11: a server's texts reach logs, terminals and models through errors: escaped, and cut.
#[tokio::test(start_paused = true)]
async fn e11_what_a_server_writes_is_shown_with_escapes() {
    let long = "x".repeat(5000);
    for (field, shown) in [
        (
            "Location: http://other.example/\u{9b}31m\u{202e}",
            "/\\u{9b}31m\\u{202e}, ",
        ),
        (
            &format!("Location: http://other.example/{long}"),
            "x… (5021 bytes), ",
        ),
        (&format!("Content-Encoding: \u{202e}{long}"), "\\u{202e}xxx"),
    ] {
        let status = if field.starts_with("Loc") { 307 } else { 200 };
        let (upstream, mut network) = network(|_| {});
        let answer = format!("HTTP/1.1 {status} X\r\n{field}\r\nContent-Length: 0\r\n\r\n");
        let (response, _peer) = join!(upstream.send(post("{}")), network.serve(&answer));
        let error = wrong(response);
        assert!(error.contains(shown) && error.len() < 500, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn not_modified_is_no_redirect() {
    let (upstream, mut network) = network(|_| {});
    let answer = "HTTP/1.1 304 Not Modified\r\n\r\n";
    let (response, _peer) = join!(upstream.send(post("{}")), network.serve(answer));
    assert_eq!(response.unwrap().status, 304);
}
