//! The validation ladder, step by step, over sockets.

use thinpipe_testkit::{Client, Connection, rpc};
use thinpipe_transport::server::{AccessToken, LegacyMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{call, config, start};

/// B18, R183, R202: a foreign Host is refused on a loopback listener; its own names pass.
#[tokio::test]
async fn r183_foreign_host_gets_403() {
    let running = start(config()).await;
    let client = running.stranger();
    let port = running.address.port();
    for (host, status) in [
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("localhost.evil.example", 403),
        (&format!("localhost:{port}"), 200),
        ("127.0.0.1", 200),
        ("[::1]:1", 200),
    ] {
        let post = client
            .post(rpc::initialize(1, "2025-11-25"))
            .replace("host", host);
        assert_eq!(post.await.status, status, "{host}");
    }
    assert_eq!(
        client.get().replace("host", "evil.example").await.status,
        403
    );
    assert_eq!(
        client.delete().replace("host", "evil.example").await.status,
        403
    );
}

/// R182: a foreign Origin is refused on every method, and may not even read why.
#[tokio::test]
async fn r182_foreign_origin_gets_403() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    for origin in [
        "http://evil.example",
        "null",
        "https://localhost.evil.example",
    ] {
        let refused = client.post(call(1, "echo")).header("origin", origin).await;
        assert_eq!(refused.status, 403, "{origin}");
        assert_eq!(refused.header("access-control-allow-origin"), None);
        assert_eq!(client.get().header("origin", origin).await.status, 403);
        assert_eq!(client.delete().header("origin", origin).await.status, 403);
    }
    let own = format!("http://localhost:{}", running.address.port());
    let allowed = client.post(call(1, "echo")).header("origin", &own).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some(own.as_str())
    );
}

/// R194: a preflight allows the MCP headers, for allowed origins only.
#[tokio::test]
async fn r194_preflight() {
    let running = start(config()).await;
    let client = running.stranger();
    let ask = |origin: &'static str| {
        client
            .request("OPTIONS")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "mcp-session-id, Mcp-Param-Tenant, x-other",
            )
    };
    let allowed = ask("http://localhost:3000").await;
    assert_eq!(allowed.status, 204);
    let headers = allowed.header("access-control-allow-headers").unwrap();
    assert!(headers.contains("mcp-session-id") && headers.contains("mcp-param-tenant"));
    assert!(!headers.contains("x-other"));
    assert!(
        allowed
            .header("access-control-expose-headers")
            .unwrap()
            .contains("Mcp-Session-Id")
    );
    assert_eq!(ask("http://evil.example").await.status, 403);
}

/// R018, R019: methods that are not served get 405 with `Allow`.
#[tokio::test]
async fn r019_other_methods_get_405() {
    let running = start(config()).await;
    let client = running.stranger();
    for method in ["PUT", "PATCH", "HEAD"] {
        let refused = client.request(method).await;
        assert_eq!(refused.status, 405, "{method}");
        assert!(refused.header("allow").is_some(), "{method}");
    }
    for method in ["GET", "DELETE"] {
        let modern = client
            .request(method)
            .replace("mcp-protocol-version", "2026-07-28")
            .await;
        assert_eq!(modern.status, 405, "{method}");
        assert_eq!(modern.header("allow"), Some("POST"));
    }
}

/// R062, R063, R064: media types.
#[tokio::test]
async fn r062_media_types() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let post = || client.post(call(1, "echo"));
    for content_type in ["text/plain", "application/json-seq", "multipart/form-data"] {
        assert_eq!(
            post().replace("content-type", content_type).await.status,
            415
        );
    }
    assert_eq!(post().without("content-type").await.status, 415);
    assert_eq!(
        post()
            .replace("content-type", "application/json; charset=utf-8")
            .await
            .status,
        200
    );
    for (accept, status) in [
        ("application/json", 406),
        ("text/event-stream", 406),
        ("text/html", 406),
        ("*/*", 200),
        ("application/*, text/*", 200),
        ("text/event-stream;q=0.5, application/json", 200),
        ("application/json, text/event-stream;q=0", 406),
    ] {
        assert_eq!(
            post().replace("accept", accept).await.status,
            status,
            "{accept}"
        );
    }
    assert_eq!(
        post().without("accept").await.status,
        200,
        "absent means all"
    );
    assert_eq!(
        client
            .get()
            .replace("accept", "application/json")
            .await
            .status,
        406
    );
}

/// R065, R187: what is no message is refused with the code that says why.
#[tokio::test]
async fn r065_bodies_that_are_no_message() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("nonsense", -32700),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\"} x", -32700),
        ("1", -32600),
        ("[]", -32600),
        ("{}", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[]}"#,
            -32600,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1,"x":2}}"#,
            -32600,
        ),
    ] {
        let mut refused = client.post(body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.json().await["error"]["code"], code, "{body}");
    }
}

/// R060, R061, R067: the plain answers.
#[tokio::test]
async fn r061_plain_answers() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let mut answered = client.post(call(1, "echo")).await;
    assert_eq!(answered.header("content-type"), Some("application/json"));
    assert_eq!(answered.json().await["id"], 1);
    let mut taken = client.post(rpc::initialized()).await;
    assert_eq!((taken.status, taken.read_to_end().await.len()), (202, 0));
    let mut response = client.post(rpc::response(1, &serde_json::json!({}))).await;
    assert_eq!(
        (response.status, response.read_to_end().await.len()),
        (202, 0),
        "R080"
    );
    let mut unknown = client
        .post(rpc::request(4, "no/such", &serde_json::json!({})))
        .await;
    assert_eq!(unknown.status, 200, "R067: never 404");
    assert_eq!(unknown.json().await["error"]["code"], -32601);
}

/// R001, R006, R007, R008, R120: the modern checks that the classification makes.
#[tokio::test]
async fn r001_stateless_requests() {
    let running = start(config()).await;
    let client = running.stranger();
    let request = rpc::modern_call(1, "echo");
    let served = client
        .post_modern(&request)
        .header("mcp-session-id", "whatever")
        .await;
    assert_eq!(
        (served.status, served.header("mcp-session-id")),
        (200, None)
    );
    for (name, value, code) in [
        ("mcp-protocol-version", None, -32020),
        ("mcp-method", None, -32020),
        ("mcp-name", None, -32020),
        ("mcp-protocol-version", Some("2025-11-25"), -32020),
        ("mcp-method", Some("tools/List"), -32020),
        ("mcp-name", Some("other"), -32020),
    ] {
        let post = client.post_modern(&request);
        let post = match value {
            Some(value) => post.replace(name, value),
            None => post.without(name),
        };
        let mut refused = post.await;
        assert_eq!(refused.status, 400, "{name} {value:?}");
        let body = refused.json().await;
        assert_eq!(
            (&body["error"]["code"], &body["id"]),
            (&code.into(), &1.into()),
            "{name}"
        );
    }
}

/// R017: an endpoint for 2026-07-28 alone names what it serves to those who cannot know.
#[tokio::test]
async fn r017_modern_only_mode() {
    let mut config = config();
    config.legacy = LegacyMode::Refused;
    let running = start(config).await;
    let mut refused = running
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    assert_eq!(refused.status, 400);
    let error = refused.json().await["error"].clone();
    assert_eq!(error["code"], -32022);
    assert_eq!(
        error["data"]["supported"],
        serde_json::json!(["2026-07-28"])
    );
    assert_eq!(error["data"]["requested"], "2025-11-25");
    assert_eq!(error["data"]["reason"], "unsupported_version");
    // One of HTTP+SSE, which has no path here, learns it too.
    let text = not_found(running.address, "/sse").await;
    assert!(text.contains("for clients of 2026-07-28 only"), "{text}");
}

/// A path nobody serves says which ones are.
#[tokio::test]
async fn an_unknown_path_names_the_known_ones() {
    let running = start(config()).await;
    let text = not_found(running.address, "/nope").await;
    assert!(text.contains("/mcp"), "{text}");
}

/// What a GET of a path that nobody serves is told.
async fn not_found(address: std::net::SocketAddr, path: &str) -> String {
    let mut connection = Connection::open(address).await;
    let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection.send(get).await;
    let mut response = connection.response().await;
    assert_eq!(response.status, 404);
    response.json().await["error"]["message"].to_string()
}

/// I3: requests that smuggle, tear or garble get a clean refusal and a closed connection.
#[tokio::test]
async fn i3_malformed_http_is_refused() {
    let running = start(config()).await;
    for request in [
        "GARBAGE\r\n\r\n",
        "POST /mcp HTTP/1.1\nHost: localhost\n\n",
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nX: y\n\nPOST /mcp HTTP/1.1\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\n folded: yes\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut connection = Connection::open(running.address).await;
        connection.send(request).await;
        let response = connection.response().await;
        assert_eq!(response.status, 400, "{request:?}");
        assert_eq!(response.header("connection"), Some("close"), "{request:?}");
    }
}

/// B9: requests that arrive split at any byte, and two in one segment, are answered all the same.
#[tokio::test]
async fn b9_split_and_pipelined_requests() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let request = client.post(call(1, "echo")).to_bytes();
    // Cut in two at every line's end, and here and there: whoever waits for a piece to be read asks the
    // kernel, which is not cheap.
    let mut cuts = tokio::task::JoinSet::new();
    let ends = |at: &usize| matches!(request[*at], b'\r' | b'\n') || at.is_multiple_of(23);
    for at in (1..request.len()).filter(ends) {
        let request = client.post(call(1000 + at as u64, "echo")).to_bytes();
        let mut connection = Connection::open(running.address).await;
        cuts.spawn(async move {
            let (head, tail) = request.split_at(at);
            connection.send_pieces(&[head, tail]).await;
            let mut response = connection.response().await;
            assert_eq!(
                (response.status, response.json().await["id"].as_u64()),
                (200, Some(1000 + at as u64))
            );
        });
    }
    while let Some(cut) = cuts.join_next().await {
        cut.expect("an answer wherever it is cut");
    }
    let mut connection = Connection::open(running.address).await;
    let pieces: Vec<&[u8]> = request.chunks(7).collect();
    connection.send_pieces(&pieces).await;
    let mut first = connection.response().await;
    assert_eq!(first.status, 200);
    assert_eq!(first.json().await["id"], 1);
    let mut connection = first.into_connection();
    let two = [request, client.post(call(2, "echo")).to_bytes()].concat();
    connection.send(two).await;
    let mut first = connection.response().await;
    assert_eq!(first.json().await["id"], 1);
    let mut second = first.into_connection().response().await;
    assert_eq!(second.json().await["id"], 2);
}

/// `Expect: 100-continue` is answered before the body is sent.
#[tokio::test]
async fn expect_continue() {
    let running = start(config()).await;
    let body = rpc::initialize(1, "2025-11-25");
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// B18: with tokens configured, a stranger at an unknown path does not learn which paths there are.
#[tokio::test]
async fn b18_strangers_are_not_told_the_endpoints() {
    let mut config = config();
    config.tokens = vec![AccessToken {
        token: "secret".to_owned(),
        principal: "alice".to_owned(),
    }];
    let running = start(config).await;
    let client = Client::new(&running.url.replace("/mcp", "/other"));
    let post = || client.post(call(1, "echo"));
    for (request, told) in [
        (post(), false),
        (post().header("authorization", "Bearer wrong"), false),
        (post().header("authorization", "Bearer secret"), true),
    ] {
        let mut refused = request.await;
        assert_eq!(refused.status, 404);
        let error = refused.json().await["error"].to_string();
        assert_eq!(error.contains("/mcp"), told, "{error}");
    }
}

/// C12: every refusal of the server side has a stable name for programs.
#[tokio::test]
async fn c12_refusals_have_a_reason() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let post = || client.post(call(1, "echo"));
    for (request, status, reason) in [
        (
            post().replace("host", "evil.example"),
            403,
            "host_not_allowed",
        ),
        (post().header("origin", "null"), 403, "origin_not_allowed"),
        (
            post().replace("content-type", "text/plain"),
            415,
            "unsupported_media_type",
        ),
        (post().replace("accept", "text/html"), 406, "not_acceptable"),
        (post().without("mcp-session-id"), 400, "session_missing"),
        (
            post().replace("mcp-session-id", "unknown"),
            404,
            "session_not_found",
        ),
        (client.post("{"), 400, "bad_request"),
        (client.request("PUT"), 405, "method_not_allowed"),
    ] {
        let mut refused = request.await;
        let body = refused.json().await;
        assert_eq!(
            (refused.status, &body["error"]["data"]["reason"]),
            (status, &reason.into()),
            "{body}"
        );
    }
}

/// B18: naming a field in `Connection` does not take it from the checks that are made of it.
#[tokio::test]
async fn b18_connection_does_not_switch_checks_off() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    for (named, status) in [
        ("origin", 403),
        ("Mcp-Session-Id, ORIGIN", 403),
        ("x-other", 403),
    ] {
        let post = client.post(call(1, "echo")).header("connection", named);
        let refused = post.header("origin", "http://evil.example").await;
        assert_eq!(refused.status, status, "{named}");
    }
    let post = client.post(call(1, "echo"));
    let answered = post.header("connection", "mcp-session-id, accept").await;
    assert_eq!(answered.status, 200, "its session is still named");
}

/// The answer to HEAD has no body (RFC 9110 9.3.2), so that what follows on the connection is read as
/// what it is.
#[tokio::test]
async fn the_answer_to_head_has_no_body() {
    let running = start(config()).await;
    let client = running.stranger();
    let head = client.request("HEAD").header("connection", "close");
    let bytes = head.send().await.closed().await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.starts_with("HTTP/1.1 405 "), "{text}");
    assert!(text.contains("\r\ncontent-length: "), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}

/// Where the id of a request cannot be read, clients of 2025-11-25 and later get none, and older and
/// unknown ones `null` (JSON-RPC 2.0, section 5).
#[tokio::test]
async fn an_id_that_cannot_be_read_is_null_to_older_clients() {
    let running = start(config()).await;
    let null = Some(&serde_json::Value::Null);
    for (revision, id) in [
        ("2025-03-26", null),
        ("2025-06-18", null),
        ("2025-11-25", None),
    ] {
        let client = running.client(revision).await;
        let mut refused = client.post("{").await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.json().await.get("id"), id, "{revision}");
    }
    let unknown = running.stranger().post("{").without("mcp-protocol-version");
    assert_eq!(unknown.await.json().await.get("id"), null);
}
