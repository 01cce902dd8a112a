//! Which headers cross, and which do not.

use serde_json::json;

use crate::client::{Client, RequestBuilder};
use crate::rpc;
use crate::scenarios::{NEWEST, in_session};
use crate::upstream::{Script, Upstream};

/// C15, R180, R181, F5: what a client says to the gateway alone never reaches the upstream; what it says to
/// the server does.
pub async fn requests_are_clean(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let secret = |request: RequestBuilder| {
        request
            .header("Authorization", "Bearer secret-token")
            .header("Cookie", "sid=secret-cookie")
            .header("X-Api-Key", "secret-key")
            .header("Proxy-Authorization", "Basic secret-proxy")
            .header("X-Forwarded-For", "203.0.113.1")
            .header("X-Forwarded-Host", "secret-host.example")
            .header("X-Forwarded-Proto", "secret-proto")
            .header("Forwarded", "for=203.0.113.2")
            .header("Connection", "keep-alive, X-Hop, x-other-hop")
            .header("X-Hop", "secret-hop")
            .header("X-Other-Hop", "secret-other-hop")
            .header("Keep-Alive", "timeout=secret")
            .header("TE", "trailers")
            .header("Origin", "http://localhost:12345")
            .header("Accept-Encoding", "gzip, br")
            .header("traceparent", TRACE)
            .header("tracestate", "vendor=state")
    };
    // Headers that no revision with sessions has.
    let mirrored = |request: RequestBuilder| {
        request
            .header("Mcp-Method", "secret-method")
            .header("Mcp-Name", "secret-name")
            .header("Mcp-Param-Region", "secret-region")
    };
    let mut modern = rpc::modern(
        "modern",
        "tools/call",
        json!({"name": "echo", "arguments": {"region": "eu"}}),
    );
    modern.headers.push("Mcp-Param-Region", "eu");
    modern
        .headers
        .push("mcp-param-x", "=?base64?5pel5pys6Kqe?=");
    for request in [
        mirrored(Client::new(gateway).post(rpc::initialize("opened", NEWEST))),
        mirrored(client.post(rpc::call("legacy", "echo"))),
        mirrored(client.post(rpc::call("stream", "progress"))),
        client.post_modern(&modern),
        mirrored(client.post(rpc::initialized())),
        mirrored(client.get()),
        mirrored(client.delete()),
    ] {
        let response = secret(request).await;
        assert!((200..300).contains(&response.status), "{}", response.status);
    }
    let record = upstream.record();
    assert!(record.malformed.is_empty(), "{record}");
    // Those without it opened the session.
    for request in record
        .received
        .iter()
        .filter(|request| request.headers.contains("traceparent"))
    {
        let text = request.headers.to_string();
        for hidden in ["secret", "203.0.113", "12345", "trailers"] {
            assert!(
                !text.contains(hidden),
                "{hidden:?} reached the upstream:\n{text}"
            );
        }
        for name in [
            "X-Hop",
            "X-Other-Hop",
            "TE",
            "Origin",
            "Cookie",
            "Authorization",
            "Expect",
            "Upgrade",
        ] {
            assert!(
                !request.headers.contains(name),
                "{name} reached the upstream:\n{text}"
            );
        }
        let one = |name| request.headers.all(name).collect::<Vec<_>>();
        assert_eq!(one("Host"), [upstream.address().to_string()], "{text}");
        assert_eq!(one("traceparent"), [TRACE], "{text}");
        assert_eq!(one("tracestate"), ["vendor=state"], "{text}");
        assert!(
            one("Accept-Encoding")
                .iter()
                .all(|coding| *coding == "identity"),
            "{text}"
        );
        if request.rpc_method() == Some("initialize") {
            assert_eq!(one("MCP-Protocol-Version"), [""; 0], "{text}");
            assert_eq!(one("Mcp-Session-Id"), [""; 0], "{text}");
        } else if request.is_modern() {
            assert_eq!(one("Mcp-Param-Region"), ["eu"], "R126: {text}");
            assert_eq!(
                one("Mcp-Param-X"),
                ["=?base64?5pel5pys6Kqe?="],
                "R126: {text}"
            );
            assert_eq!(one("Mcp-Name"), ["echo"], "{text}");
            assert_eq!(one("Mcp-Session-Id"), [""; 0], "{text}");
        } else {
            assert_eq!(one("MCP-Protocol-Version"), ["2025-11-25"], "R075: {text}");
            assert_eq!(one("Mcp-Session-Id").len(), 1, "R074: {text}");
        }
    }
    let traced = record
        .received
        .iter()
        .filter(|request| request.headers.contains("traceparent"));
    // The stream of GET may be one that was open already.
    assert!(traced.count() >= 6, "{record}");
}

/// Protocol notes 2.3.2: a 405 names the methods that the server names; if it names none, those of the
/// revision. What a session of the gateway takes instead of GET is the gateway's own to say.
pub async fn allow_is_that_of_the_request(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let modern = rpc::modern_call(1, "echo");
    let not_allowed = || Script::error(405, -32000, "not allowed");
    for (what, script, request, expected) in [
        (
            "tools/call",
            not_allowed().header("Allow", "PUT, OPTIONS"),
            client.post(rpc::call(1, "echo")),
            "PUT, OPTIONS",
        ),
        (
            "tools/call",
            not_allowed(),
            client.post(rpc::call(2, "echo")),
            "GET, POST, DELETE",
        ),
        (
            "tools/call",
            not_allowed().header("Allow", "PUT"),
            client.post_modern(&modern),
            "PUT",
        ),
        (
            "tools/call",
            not_allowed(),
            client.post_modern(&modern),
            "POST",
        ),
        (
            "GET",
            not_allowed().header("Allow", "POST"),
            client.get(),
            "POST, DELETE",
        ),
    ] {
        upstream.once(what, script);
        let response = request.await;
        assert_eq!(
            (response.status, response.header("Allow")),
            (405, Some(expected))
        );
    }
}

/// R180, R181, R133: what a server says to the gateway alone never reaches the client.
pub async fn responses_are_clean(gateway: &str, upstream: &Upstream) {
    let client = in_session(gateway).await;
    let secret = |script: Script| {
        script
            .header("Set-Cookie", "affinity=secret-cookie")
            .header("WWW-Authenticate", "Bearer realm=\"secret\"")
            .header("Proxy-Authenticate", "Basic realm=\"secret\"")
            .header("Connection", "X-Hop")
            .header("X-Hop", "secret-hop")
            .header("Keep-Alive", "timeout=77")
            .header("Server", "secret-server")
            .header("X-Powered-By", "secret-framework")
            .header("Access-Control-Allow-Origin", "*")
            .header("X-Request-Id", "r-1")
    };
    let outside = Client::new(gateway);
    let stream = Script::events().message(rpc::text_result("streamed"));
    let modern = rpc::modern_call("modern", "echo");
    for (what, script, request) in [
        (
            "tools/call",
            Script::json(rpc::text_result("json")),
            client.post(rpc::call("json", "echo")),
        ),
        (
            "tools/call",
            stream.clone(),
            client.post(rpc::call("stream", "echo")),
        ),
        ("tools/call", stream, client.post_modern(&modern)),
        (
            "tools/call",
            Script::error(500, -32603, "broken"),
            client.post(rpc::call("error", "echo")),
        ),
        (
            "initialize",
            Script::json(rpc::initialize_result(NEWEST)),
            outside.post(rpc::initialize("opened", NEWEST)),
        ),
        (
            "initialize",
            Script::events().message(rpc::initialize_result(NEWEST)),
            outside.post(rpc::initialize("opened", NEWEST)),
        ),
    ] {
        upstream.once(what, secret(script));
        let mut response = request.await;
        let text = response.headers.to_string();
        // What is the answer's own does reach it.
        assert_eq!(response.header("X-Request-Id"), Some("r-1"), "{text}");
        for hidden in ["secret", "timeout=77"] {
            assert!(
                !text.contains(hidden),
                "{hidden:?} reached the client:\n{text}"
            );
        }
        for name in [
            "Set-Cookie",
            "WWW-Authenticate",
            "Proxy-Authenticate",
            "X-Hop",
            "Access-Control-Allow-Origin",
        ] {
            assert!(
                !response.headers.contains(name),
                "{name} reached the client:\n{text}"
            );
        }
        if response.is_stream() {
            assert_eq!(
                response.header("X-Accel-Buffering"),
                Some("no"),
                "R133: {text}"
            );
            assert!(
                response
                    .header("Cache-Control")
                    .is_some_and(|value| value.contains("no-")),
                "{text}"
            );
            assert!(!response.headers.contains("Content-Length"), "{text}");
        }
        assert!(!response.answer().await["id"].is_null());
    }
    let script = Script::error(429, -32000, "slowly").header("Retry-After", "7");
    upstream.once("tools/call", script);
    let response = client.post(rpc::call("limited", "echo")).await;
    assert_eq!(
        (response.status, response.header("Retry-After")),
        (429, Some("7"))
    );
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
