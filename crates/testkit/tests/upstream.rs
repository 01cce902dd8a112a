//! The counting upstream: how it behaves untold, and what it counts.

use serde_json::json;
use thinpipe_testkit::{Client, Era, Outcome, Upstream, rpc};

async fn pair() -> (Upstream, Client) {
    let upstream = Upstream::start().await;
    let mut client = Client::new(upstream.url());
    client.initialize("2025-11-25").await;
    (upstream, client)
}

#[tokio::test]
async fn a_session_lives_from_initialize_to_delete() {
    let (upstream, client) = pair().await;
    assert_eq!(upstream.sessions(), [client.session().unwrap()]);
    let mut list = client.post(rpc::request(1, "tools/list", &json!({}))).await;
    assert_eq!(list.json().await["result"]["tools"][0]["name"], "echo");
    let mut echo = client
        .post(rpc::call_with("two", "echo", &json!({"a": 1})))
        .await;
    let echo = echo.json().await;
    assert_eq!(echo["id"], "two");
    assert_eq!(echo["result"]["content"][0]["text"], r#"{"a":1}"#);
    let mut unknown = client.post(rpc::request(3, "no/such", &json!({}))).await;
    assert_eq!(
        (
            unknown.status,
            unknown.json().await["error"]["code"].as_i64()
        ),
        (200, Some(-32601))
    );

    assert_eq!(client.delete().await.status, 200);
    assert_eq!(client.post(rpc::call(4, "echo")).await.status, 404);
    assert_eq!(client.get().await.status, 404);
    assert_eq!(client.delete().await.status, 404);
}

#[tokio::test]
async fn revisions_with_sessions_are_negotiated() {
    let upstream = Upstream::start().await;
    let mut client = Client::new(upstream.url());
    for (asked, agreed) in [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        assert_eq!(client.initialize(asked).await["protocolVersion"], agreed);
    }
}

#[tokio::test]
async fn what_breaks_a_rule_of_the_sessions_is_refused() {
    let (_upstream, client) = pair().await;
    let call = rpc::call(1, "echo");
    let post = || client.post(&call);
    assert_eq!(post().without("Mcp-Session-Id").await.status, 400);
    assert_eq!(post().replace("Mcp-Session-Id", "x").await.status, 404);
    assert_eq!(
        post()
            .replace("MCP-Protocol-Version", "2025-06-18")
            .await
            .status,
        400
    );
    assert_eq!(post().replace("Accept", "*/*").await.status, 406);
    assert_eq!(
        post().replace("Content-Type", "text/plain").await.status,
        415
    );
    assert_eq!(post().body("{").await.status, 400);
    assert_eq!(post().body("[]").await.status, 400);
    assert_eq!(client.request("PUT").await.status, 405);
}

#[tokio::test]
async fn stateless_requests_are_served_beside_sessions() {
    let upstream = Upstream::start().await;
    let client = Client::new(upstream.url());
    let mut discover = client
        .post_modern(&rpc::modern(1, "server/discover", json!({})))
        .await;
    let discover = discover.json().await;
    assert_eq!(discover["result"]["supportedVersions"][0], "2026-07-28");
    assert_eq!(discover["result"]["supportedVersions"][1], "2025-11-25");
    let mut call = client.post_modern(&rpc::modern_call(2, "echo")).await;
    assert_eq!(call.json().await["result"]["resultType"], "complete");

    let mut listen = client
        .post_modern(&rpc::modern(
            "L1",
            "subscriptions/listen",
            json!({"notifications": {"toolsListChanged": true}}),
        ))
        .await;
    let acknowledged = listen.next_message().await;
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );
    assert_eq!(acknowledged["params"]["_meta"][rpc::SUBSCRIPTION], "L1");
    listen.close();
    upstream
        .wait_until(|seen| seen.outcome("subscriptions/listen") == Some(Outcome::Cancelled))
        .await;
}

#[tokio::test]
async fn what_breaks_a_rule_of_the_stateless_revision_is_refused() {
    let upstream = Upstream::start().await;
    let client = Client::new(upstream.url());
    let call = rpc::modern_call(1, "echo");
    let code = async |request| {
        let mut response: thinpipe_testkit::Response = IntoFuture::into_future(request).await;
        (
            response.status,
            response.json().await["error"]["code"].as_i64().unwrap(),
        )
    };
    let post = || client.post_modern(&call);
    assert_eq!(code(post().without("Mcp-Method")).await, (400, -32020));
    assert_eq!(
        code(post().replace("Mcp-Name", "slow")).await,
        (400, -32020)
    );
    assert_eq!(code(post().header("Mcp-Name", "echo")).await, (400, -32020));
    assert_eq!(
        code(post().without("MCP-Protocol-Version")).await,
        (400, -32020)
    );
    assert_eq!(
        code(post().replace("MCP-Protocol-Version", "2025-11-25")).await,
        (400, -32020)
    );
    let future = rpc::modern_at("2099-01-01", 1, "tools/list", json!({}));
    assert_eq!(code(client.post_modern(&future)).await, (400, -32022));
    let unknown = rpc::modern(1, "ping", json!({}));
    assert_eq!(code(client.post_modern(&unknown)).await, (404, -32601));
    assert_eq!(
        client
            .get()
            .header("MCP-Protocol-Version", "2026-07-28")
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn eras_can_be_pinned() {
    let upstream = Upstream::start().await;
    let client = Client::new(upstream.url());
    upstream.set(|behaviour| behaviour.era = Era::Stateless);
    let mut refused = client.post(rpc::initialize(1, "2025-11-25")).await;
    assert_eq!(
        refused.json().await["error"]["data"]["supported"],
        json!(["2026-07-28"])
    );
    upstream.set(|behaviour| behaviour.era = Era::Sessions);
    let probe = client
        .post_modern(&rpc::modern(1, "server/discover", json!({})))
        .await;
    assert_eq!(probe.status, 400);
    upstream.set(|behaviour| behaviour.sessions = false);
    let mut sessionless = client.clone();
    sessionless.initialize("2025-06-18").await;
    assert_eq!(sessionless.session(), None);
    assert_eq!(sessionless.post(rpc::call(1, "echo")).await.status, 200);
}

#[tokio::test]
async fn everything_is_counted_and_kept_as_it_came() {
    let (upstream, client) = pair().await;
    let body = r#"{"id": 9007199254740993, "jsonrpc":"2.0","method":"tools/call","params":{"name":"echo"}}"#;
    for _ in 0..2 {
        client
            .post(body)
            .header("X-Twice", "a")
            .header("x-twice", "b")
            .await
            .read_to_end()
            .await;
    }
    client
        .post(rpc::call("9007199254740993", "echo"))
        .await
        .read_to_end()
        .await;
    let record = upstream.record();
    assert_eq!(
        (
            record.requests,
            record.count("tools/call"),
            record.count("POST")
        ),
        (5, 3, 5)
    );
    assert_eq!((record.connections, record.duplicates), (5, 1));
    let requests = upstream.requests("tools/call:echo");
    assert_eq!(requests[0].body, body);
    assert_eq!(requests[0].id_text(), Some("9007199254740993"));
    assert_eq!(requests[2].id_text(), Some("\"9007199254740993\""));
    assert_eq!(
        requests[0].headers.all("X-Twice").collect::<Vec<_>>(),
        ["a", "b"]
    );
    upstream
        .wait_until(|seen| seen.complete == 5 && seen.open_connections == 0)
        .await;
    assert_eq!(upstream.nth("tools/call", 2).await.number, 4);
}

#[tokio::test]
async fn a_connection_carries_several_requests() {
    let (upstream, client) = pair().await;
    let first = client.post(rpc::call(1, "echo")).await;
    let mut first = first;
    first.read_to_end().await;
    let mut second = client
        .post(rpc::call(2, "progress"))
        .on(first.into_connection())
        .await;
    assert_eq!(second.answer().await["id"], 2);
    let third = client
        .post(rpc::initialized())
        .on(second.into_connection())
        .await;
    assert_eq!(third.status, 202);
    let requests = upstream.requests("*");
    assert_eq!(requests[2].connection, requests[4].connection);
}

#[tokio::test]
async fn tools_stream_progress_ask_and_wait() {
    let (upstream, client) = pair().await;
    let mut progress = client
        .post(rpc::call_with(1, "progress", &json!({"steps": 2})))
        .await;
    let (events, end) = progress.events_to_end().await;
    assert_eq!((events.len(), end), (3, Ok(())));
    assert_eq!(events[1].json()["params"]["progressToken"], 1);

    let mut ask = client.post(rpc::call(2, "ask")).await;
    let question = ask.next_message().await;
    assert_eq!(question["method"], "elicitation/create");
    let answer = rpc::response(question["id"].clone(), &json!({"action": "accept"}));
    assert_eq!(client.post(answer).await.status, 202);
    assert_eq!(ask.next_message().await["id"], 2);

    let call = rpc::call(3, "slow");
    let slow = async { client.post(call).await };
    let open = async {
        upstream.gate("slow").reached().await;
        upstream.gate("slow").open();
    };
    let (mut slow, ()) = tokio::join!(slow, open);
    assert_eq!(slow.json().await["id"], 3);
}
