//! What is refused, and how.

use http::StatusCode;
use serde_json::json;
use thinpipe_testkit::{Client, RequestBuilder, Response, SseClient, rpc};
use thinpipe_transport::server::AccessToken;

use super::support::{Setup, start};
use crate::support::{Running, call, config};

fn to_messages(running: &Running, query: &str) -> RequestBuilder {
    let client = Client::new(&format!("http://{}/messages{query}", running.address));
    let request = client
        .request("POST")
        .header("content-type", "application/json");
    request.body(call(1, "echo"))
}

/// A11, A13, R043: without a session 400, with one that is none of ours 404.
#[tokio::test]
async fn r043_a_message_needs_its_session() {
    let running = start(Setup::default()).await;
    for (query, status) in [
        ("", 400),
        ("?sessionId=", 400),
        ("?session_id=abc", 400),
        ("?sessionId=a&sessionId=a", 400),
        ("?sessionId=00000000000000000000000000000000", 404),
        ("?sessionId=5e0c1d7a-9b7c-4f0e-8d21-000000000000", 404),
    ] {
        let mut refused = to_messages(&running, query).await;
        assert_eq!(refused.status, status, "{query}");
        let reason = refused.json().await["error"]["data"]["reason"].clone();
        let expected = if status == 404 {
            "session_not_found"
        } else {
            "session_missing"
        };
        assert_eq!(reason, expected, "{query}");
    }
}

/// A11, T9: what is no message is refused in the response, with the code for it.
#[tokio::test]
async fn a11_what_is_no_message_gets_400() {
    let running = start(Setup::default()).await;
    let mut client = running.sse_client().await;
    for (body, code) in [
        ("{", -32700),
        ("", -32700),
        (r#"{"request":{},"session_id":"x"}"#, -32600),
        ("[]", -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
    ] {
        let mut refused = client.post(body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.json().await["error"]["code"], code, "{body}");
    }
    let html = client
        .post(call(1, "echo"))
        .replace("content-type", "text/plain");
    assert_eq!(html.await.status, 415);
    let answer = client.ask(call(2, "echo")).await;
    assert_eq!(answer["id"], 2, "the session has not minded");
}

/// A11, B2: a body over the limit is refused before it is read.
#[tokio::test]
async fn a11_too_large_a_body_gets_413() {
    let mut limited = config();
    limited.limits.max_body = 1_000;
    let running = start(Setup {
        config: Some(limited),
        ..Setup::default()
    })
    .await;
    let client = running.sse_client().await;
    let large = call(1, &"x".repeat(2_000));
    assert_eq!(client.post(large).await.status, 413);
}

/// B17, R085, T12: a batch where its revision has them; every answer is an event of its own.
#[tokio::test]
async fn b17_batches_by_the_negotiated_revision() {
    let running = start(Setup::default()).await;
    let mut client = running.sse().await;
    client.initialize("2025-03-26").await;
    let batch = format!(
        "[{},{},{}]",
        call(1, "echo"),
        rpc::initialized(),
        call(2, "nothing")
    );
    client.tell(batch).await;
    let (one, two) = (
        client.stream.next_message().await,
        client.stream.next_message().await,
    );
    let mut ids = [one["id"].as_u64(), two["id"].as_u64()];
    ids.sort_unstable();
    assert_eq!(ids, [Some(1), Some(2)]);
    let failed = if one["id"] == 2 { one } else { two };
    assert_eq!(failed["error"]["code"], -32603, "nothing is no answer");
    let twice = format!("[{},{}]", call(3, "echo"), rpc::initialize(4, "2025-03-26"));
    assert_eq!(client.post(twice).await.status, 400);
}

/// A9, R045: clients of 2026-07-28 ask for it first, and go on with `initialize` when they are told, on the
/// stream, that there is no such method.
#[tokio::test]
async fn a9_what_is_of_2026_07_28_is_answered_on_the_stream() {
    let running = start(Setup::default()).await;
    let mut client = running.sse().await;
    let claim = json!({ "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28" } });
    for (id, method) in [(1, "server/discover"), (2, "tools/list")] {
        let refused = client.ask(rpc::request(id, method, &claim)).await;
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&json!(id), &json!(-32601)),
            "{method}"
        );
    }
    // The same id again: the first request has been answered.
    client.initialize("2025-06-18").await;
    assert_eq!(client.ask(call(1, "echo")).await["id"], 1);
}

/// R072, R044: the order of a session's life is kept; `ping` may come at any time.
#[tokio::test]
async fn r072_the_order_of_a_session_is_kept() {
    let running = start(Setup::default()).await;
    let mut client = running.sse().await;
    let mut told = client.post(rpc::initialized()).await;
    assert_eq!(told.status, 400);
    assert_eq!(told.json().await["error"]["code"], -32600);
    let early = client.ask(call(1, "echo")).await;
    assert_eq!(
        (&early["id"], &early["error"]["code"]),
        (&json!(1), &json!(-32600))
    );
    let pong = client.ask(rpc::request(5, "ping", &json!({}))).await;
    assert_eq!((&pong["id"], &pong["result"]), (&json!(5), &json!({})));
    let refused = client.ask(rpc::initialize(6, "refuse")).await;
    assert_eq!(refused["error"]["code"], -32602);
    client.initialize("2024-11-05").await;
    let again = client.ask(rpc::initialize(7, "2024-11-05")).await;
    assert_eq!(
        (&again["id"], &again["error"]["code"]),
        (&json!(7), &json!(-32600))
    );
    client.tell(call(8, "wait")).await;
    let mut twice = client.post(call(8, "echo")).await;
    assert_eq!(twice.status, 400, "an id that is running");
    assert_eq!(twice.json().await["error"]["code"], -32600);
    running.sample.gate.lock().unwrap().open();
    assert_eq!(client.stream.next_message().await["id"], 8);
    assert_eq!(
        client.ask(call(8, "echo")).await["id"],
        8,
        "and is free again"
    );
}

/// A8, A33: other methods get 405 with what is allowed; a client of Streamable HTTP falls back by that.
#[tokio::test]
async fn a33_other_methods_get_405() {
    let running = start(Setup::default()).await;
    let sse = Client::new(&running.sse_url());
    let post = sse.post(rpc::initialize(1, "2025-11-25")).await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET")));
    for method in ["DELETE", "PUT", "HEAD"] {
        let other = sse.request(method).await;
        assert_eq!(
            (other.status, other.header("allow")),
            (405, Some("GET")),
            "{method}"
        );
    }
    let messages = Client::new(&format!("http://{}/messages", running.address));
    let get = messages.request("GET").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    let json = sse
        .request("GET")
        .header("accept", "application/json")
        .await;
    assert_eq!(json.status, 406);
    for accept in ["*/*", "text/event-stream", "text/*, application/json"] {
        assert_eq!(
            sse.request("GET").header("accept", accept).await.status,
            200,
            "{accept}"
        );
    }
}

/// B18, T8: Host and Origin are checked on both paths, before anything else.
#[tokio::test]
async fn t8_foreign_pages_get_nothing() {
    let running = start(Setup::default()).await;
    let mut client = running.sse_client().await;
    let sse = Client::new(&running.sse_url());
    for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let opening = sse.request("GET").replace(name, value).await;
        assert_eq!(
            (
                opening.status,
                opening.header("access-control-allow-origin")
            ),
            (403, None)
        );
        let post = client.post(call(1, "echo")).replace(name, value).await;
        assert_eq!(post.status, 403, "{name}");
    }
    let own = client
        .post(call(2, "echo"))
        .header("origin", "http://localhost:9")
        .await;
    assert_eq!(own.status, 202);
    assert_eq!(
        own.header("access-control-allow-origin"),
        Some("http://localhost:9")
    );
    assert_eq!(client.stream.next_message().await["id"], 2);
}

/// F10, A13: every request is authenticated; to another principal a session does not exist.
#[tokio::test]
async fn f10_another_principals_session_does_not_exist() {
    let mut with_tokens = config();
    with_tokens.tokens = ["alice", "bob"]
        .map(|name| AccessToken {
            principal: name.into(),
            token: format!("{name}-secret"),
        })
        .into();
    let running = start(Setup {
        config: Some(with_tokens),
        ..Setup::default()
    })
    .await;
    let sse = Client::new(&running.sse_url());
    assert_eq!(sse.request("GET").await.status, 401);
    let opening = SseClient::opening(&sse).header("authorization", "Bearer alice-secret");
    let client = SseClient::of(opening.await, &sse).await;
    let initialize = || client.post(rpc::initialize(0, "2024-11-05"));
    assert_eq!(initialize().await.status, 401);
    let as_bob = initialize().header("authorization", "Bearer bob-secret");
    assert_eq!(as_bob.await.status, 404);
    let as_alice = initialize().header("authorization", "Bearer alice-secret");
    assert_eq!(as_alice.await.status, 202);
}

/// R044: a version header is accepted and changes nothing, whatever it says.
#[tokio::test]
async fn the_version_header_is_ignored() {
    let running = start(Setup::default()).await;
    let mut client = running.sse_client().await;
    for (id, version) in [(1, "2024-11-05"), (2, "2025-06-18"), (3, "nonsense")] {
        let post = client
            .post(call(id, "echo"))
            .header("mcp-protocol-version", version);
        assert_eq!(
            post.await.status,
            StatusCode::ACCEPTED.as_u16(),
            "{version}"
        );
        assert_eq!(client.stream.next_message().await["id"], id);
    }
}

/// A33, A2: who came to the wrong path is told the right one, as clients see it.
#[tokio::test]
async fn a33_the_other_binding_is_named() {
    let mut setup = Setup::default();
    setup.sse.public_base = "/tools".parse().unwrap();
    let running = start(setup).await;
    let told = async |response: &mut Response| {
        let body = response.json().await;
        body["error"]["message"].as_str().unwrap().to_owned()
    };
    let wrong = Client::new(&running.sse_url());
    let mut streamable = wrong.post(rpc::initialize(1, "2025-11-25")).await;
    assert_eq!(
        told(&mut streamable).await,
        "only GET is allowed here, which is HTTP+SSE; Streamable HTTP is at /tools/mcp"
    );
    let mut legacy = running.stranger().get().await;
    assert_eq!(
        told(&mut legacy).await,
        "Mcp-Session-Id is missing; HTTP+SSE is at /tools/sse"
    );
    let nowhere = Client::new(&running.sse_url().replace("/sse", "/nowhere"));
    let mut nowhere = nowhere.get().await;
    assert_eq!(
        told(&mut nowhere).await,
        "nothing is served here; try /tools/mcp, /tools/sse"
    );
}
