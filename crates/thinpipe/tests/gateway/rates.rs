//! C23: how many messages clients may send. The rates are so low that no test waits for its next message.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Response, SseClient, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings};

/// What is said to somebody who has sent too much; each message takes so many seconds.
async fn is_refused(mut response: Response, id: &Value, seconds: u64) {
    assert_eq!(response.status, 429);
    let wait: u64 = response
        .header("retry-after")
        .and_then(|value| value.parse().ok())
        .expect("whole seconds");
    assert!((1..=seconds).contains(&wait), "{wait}");
    let error = response.json().await;
    assert_eq!(error.get("id").unwrap_or(&Value::Null), id, "{error}");
    let error = &error["error"];
    assert_eq!(error["code"], -32603, "{error}");
    let data = json!({ "reason": "rate_limited", "upstream": "server", "retry_after": wait });
    assert_eq!(error["data"], data);
}

async fn started(gateway: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&upstream, Mode::Pass, Settings::of_gateway(gateway)).await;
    (upstream, gateway)
}

/// C23: requests and notifications count, and what is refused does not reach the server. What is waited for (answers,
/// streams, the end of a session) is not refused.
#[tokio::test]
async fn c23_too_many_messages_get_429() {
    let (upstream, gateway) = started("[limits]\nrate = \"3/h\"").await;
    // `initialize` and `notifications/initialized`.
    let client = gateway.client().await;
    assert_eq!(client.post(rpc::call("last", "echo")).await.status, 200);
    let refused = client.post(rpc::call("more", "echo")).await;
    is_refused(refused, &json!("more"), 1200).await;
    let refused = client.post(rpc::notification(
        "notifications/roots/list_changed",
        &json!({}),
    ));
    is_refused(refused.await, &Value::Null, 1200).await;
    let refused = gateway
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    is_refused(refused, &json!(1), 1200).await;
    let refused = gateway
        .stranger()
        .post_modern(&rpc::modern_call("new", "echo"))
        .await;
    is_refused(refused, &json!("new"), 1200).await;

    assert_eq!(
        client.post(rpc::response("q", &json!({}))).await.status,
        202
    );
    assert_eq!(client.get().await.status, 200);
    assert_eq!(client.delete().await.status, 200);
    let seen = upstream.record();
    let counted = [
        "initialize",
        "tools/call",
        "notifications/roots/list_changed",
    ];
    assert_eq!(counted.map(|method| seen.count(method)), [1, 1, 0]);
    let metrics = gateway.admin("/metrics").await.read_to_end().await;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let line = "thinpipe_upstream_rate_limited_total{upstream=\"server\"} 4";
    assert!(metrics.contains(line), "{metrics}");
}

/// C23: each principal has its own rate, that of its tier if it is in one; the server's is for all of them.
#[tokio::test]
async fn c23_principals_tiers_and_servers_have_rates() {
    let (alice, bob) = ("alice-0123456789abcdef", "bob-0123456789abcdef");
    let upstream = Upstream::start().await;
    let settings = format!(
        "[limits]\nrate = \"3/h\"\n[limits.tiers]\ngold = \"1/h burst 5\"\n\
         [[tokens]]\nprincipal = \"alice\"\ntoken = \"{alice}\"\ntier = \"gold\"\n\
         [[tokens]]\nprincipal = \"bob\"\ntoken = \"{bob}\"\n"
    );
    let settings = Settings {
        gateway: &settings,
        upstream: "rate = \"1/h burst 7\"",
    };
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    let open = async |token| {
        let mut client = Client::new(&gateway.url).with_token(token);
        client.initialize("2025-11-25").await;
        client
    };
    let bob = open(bob).await;
    assert_eq!(bob.post(rpc::call(1, "echo")).await.status, 200);
    for _ in 0..10 {
        is_refused(bob.post(rpc::call(2, "echo")).await, &json!(2), 1200).await;
    }
    let alice = open(alice).await;
    for id in 1..=2 {
        assert_eq!(alice.post(rpc::call(id, "echo")).await.status, 200);
    }
    // Alice has one more, and the server none.
    let mut refused = alice.post(rpc::call(3, "echo")).await;
    let said = refused.json().await["error"]["message"].clone();
    assert_eq!(said, "too many messages: this server has 1/h burst 7");
    assert_eq!(upstream.requests("tools/call").len(), 3);
}

/// C23: over HTTP+SSE, the POST itself is refused.
#[tokio::test]
async fn c23_a_post_of_http_sse_gets_429() {
    let (upstream, gateway) = started("[limits]\nrate = \"3/h\"").await;
    let mut client = SseClient::open(&gateway.url.replace("/mcp", "/sse")).await;
    client.initialize("2024-11-05").await;
    let answer = client.ask(rpc::call("last", "echo")).await;
    assert_eq!(answer["id"], "last");
    let refused = client.post(rpc::call("more", "echo")).await;
    is_refused(refused, &json!("more"), 1200).await;
    assert_eq!(upstream.requests("tools/call").len(), 1);
}

/// C23: a batch counts as many messages as it holds, and passes whole or not at all.
#[tokio::test]
async fn c23_a_batch_passes_whole_or_not_at_all() {
    let (upstream, gateway) = started("[limits]\nrate = \"1/h burst 7\"").await;
    let client = gateway.client_of("2025-03-26").await;
    let batch = |calls: usize| {
        let calls: Vec<_> = (0..calls).map(|id| rpc::call(id, "echo")).collect();
        format!("[{}]", calls.join(","))
    };
    is_refused(client.post(batch(6)).await, &Value::Null, 3600).await;
    let mut never = client.post(batch(8)).await;
    assert_eq!((never.status, never.header("retry-after")), (400, None));
    let error = never.json().await;
    let said = "a batch has at most 7 messages here: this client has 1/h burst 7";
    assert_eq!(error["error"]["message"], said);
    assert_eq!(client.post(batch(5)).await.status, 200);
    assert_eq!(upstream.requests("tools/call").len(), 5);
    is_refused(client.post(rpc::call(1, "echo")).await, &json!(1), 3600).await;
}
