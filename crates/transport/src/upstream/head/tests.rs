use crate::http1::end::HeadEnd;

use super::*;

fn response(text: &str) -> Result<Head, String> {
    answer(text, &Method::POST)
}

fn answer(text: &str, to: &Method) -> Result<Head, String> {
    let length = HeadEnd::default()
        .find(text.as_bytes())
        .map_err(str::to_owned)?
        .ok_or("incomplete")?;
    parse(&text.as_bytes()[..length], to)
}

#[test]
fn bodies_end_where_rfc_9112_says() {
    let cases = [
        (
            "200 OK\r\nContent-Length: 5",
            Some(Framing::Length(5)),
            true,
        ),
        (
            "200 OK\r\nContent-Length: 5\r\nContent-Length: 5",
            Some(Framing::Length(5)),
            true,
        ),
        (
            "200 OK\r\nContent-Length: 5, 5",
            Some(Framing::Length(5)),
            true,
        ),
        (
            "200 OK\r\nTransfer-Encoding: Chunked",
            Some(Framing::chunked()),
            true,
        ),
        ("200 OK\r\nA: b", Some(Framing::UntilClose), false),
        ("202 Accepted\r\nA: b", Some(Framing::UntilClose), false),
        (
            "202 Accepted\r\nContent-Length: 0",
            Some(Framing::Length(0)),
            true,
        ),
        ("204 No Content\r\nA: b", None, true),
        ("204 No Content\r\nContent-Length: 3", None, false),
        ("304 Not Modified\r\nContent-Length: 3", None, true),
        (
            "200 OK\r\nConnection: x, Close\r\nContent-Length: 0",
            Some(Framing::Length(0)),
            false,
        ),
        (
            "200 OK\r\nKeep-Alive: max=0\r\nContent-Length: 0",
            Some(Framing::Length(0)),
            false,
        ),
    ];
    for (text, framing, reusable) in cases {
        let head = response(&format!("HTTP/1.1 {text}\r\n\r\n")).unwrap();
        assert_eq!((head.framing, head.reusable), (framing, reusable), "{text}");
    }
    let head = answer(
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        &Method::HEAD,
    )
    .unwrap();
    assert_eq!((head.framing, head.content_length), (None, Some(9)));
}

#[test]
fn http_1_0_closes_unless_it_says_keep_alive() {
    let head = response("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert!(!head.reusable);
    let head =
        response("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n").unwrap();
    assert!(head.reusable);
}

#[test]
fn the_time_a_server_keeps_a_connection_is_read() {
    let head = response("HTTP/1.1 204 X\r\nKeep-Alive: timeout=5, max=9\r\n\r\n").unwrap();
    assert_eq!(head.keep_alive, Some(Duration::from_secs(5)));
    assert!(head.reusable);
}

/// H1: what two readers could read differently would let one client's bytes reach another.
#[test]
fn ambiguous_heads_are_refused() {
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        assert!(response(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn too_many_fields_are_refused() {
    let fields = "A: b\r\n".repeat(MAX_HEADERS);
    assert!(response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).is_ok());
    let error = response(&format!("HTTP/1.1 200 OK\r\n{fields}A: b\r\n\r\n")).unwrap_err();
    assert!(error.contains("128 fields"), "{error}");
}

fn rendered(own: &[(&'static str, &str)], sent: &[(&'static str, &str)], method: Method) -> String {
    let map = |pairs: &[(&'static str, &str)]| -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    };
    let url = "http://user@example.com:8080/mcp?x=1".parse().unwrap();
    let template = Template::new(&url, &map(own));
    let mut out = Vec::new();
    template.render(&mut out, &method, &template.target, &map(sent), 0);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_names_its_host_and_wants_no_compression() {
    assert_eq!(
        rendered(&[], &[("accept", "application/json")], Method::POST),
        "POST /mcp?x=1 HTTP/1.1\r\nhost: example.com:8080\r\naccept-encoding: identity\r\n\
         content-length: 0\r\naccept: application/json\r\n\r\n"
    );
    assert!(!rendered(&[], &[], Method::GET).contains("content-length"));
}

/// H1, C15: the upstream's own headers win, and nobody frames a message but us.
#[test]
fn own_headers_win_and_hop_by_hop_ones_are_dropped() {
    let text = rendered(
        &[
            ("authorization", "own"),
            ("connection", "close"),
            ("host", "other"),
        ],
        &[
            ("authorization", "theirs"),
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
            ("accept-encoding", "gzip"),
            ("host", "evil"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("x", "y"),
        ],
        Method::GET,
    );
    assert_eq!(
        text,
        "GET /mcp?x=1 HTTP/1.1\r\nhost: other\r\naccept-encoding: identity\r\nx: y\r\n\
         authorization: own\r\n\r\n"
    );
}
