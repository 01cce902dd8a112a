//! Clients of HTTP+SSE in front of a server of Streamable HTTP: the route does not know the difference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use serde_json::json;
use thinpipe_gateway::{Gateway, GatewayConfig, RateLimits, SsePaths, UpstreamSpec};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_testkit::{Script, SseClient, Upstream, rpc};
use thinpipe_transport::Random;
use thinpipe_transport::server::{Server, ServerConfig, SseConfig};
use thinpipe_transport::upstream::UpstreamConfig;
use tokio::net::TcpListener;

/// A client behind a gateway in front of this server.
async fn client_of(upstream: &Upstream) -> (Server, SseClient) {
    let client = UpstreamConfig::new("sample".into(), upstream.url().parse().unwrap());
    let mut spec = UpstreamSpec::new("/mcp", client);
    spec.sse = Some(SsePaths {
        stream: "/sse".to_owned(),
        messages: "/messages".to_owned(),
        config: SseConfig::default(),
    });
    let access = AccessPolicy {
        loopback: true,
        ..AccessPolicy::default()
    };
    let builder = Server::builder(ServerConfig {
        access,
        ..ServerConfig::default()
    });
    let config = GatewayConfig {
        upstreams: vec![spec],
        deprecation: Default::default(),
        state_keys: Vec::new(),
        rates: RateLimits::default(),
        random: Random::default(),
    };
    let gateway = Gateway::new(config, builder.buffered()).unwrap();
    let server = gateway.mount(builder).build();
    gateway.start(&server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sse", listener.local_addr().unwrap());
    let accepting = server.clone();
    server.spawn(async move { accepting.serve(listener).await.unwrap() });
    let mut client = SseClient::open(&url).await;
    client.initialize("2025-11-25").await;
    (server, client)
}

/// R042, R045: answers in JSON and in events, what the server says unasked, what it asks the client, and
/// failures of HTTP, all on the client's one stream.
#[tokio::test]
async fn r042_everything_comes_on_the_one_stream() {
    let upstream = Upstream::start().await;
    let (_server, mut client) = client_of(&upstream).await;
    let opened = upstream.nth("initialize", 0).await;
    assert_eq!(opened.headers.get("mcp-session-id"), None);
    let echo = client
        .ask(rpc::call_with(1, "echo", &json!({"a": [1, null]})))
        .await;
    assert_eq!(echo["id"], 1);
    client.tell(rpc::call("progress", "progress")).await;
    let mut methods = Vec::new();
    let result = loop {
        let message = client.stream.next_message().await;
        match message["method"].as_str() {
            Some(method) => methods.push(method.to_owned()),
            None => break message,
        }
    };
    assert_eq!(
        (&result["id"], result["result"].is_object()),
        (&json!("progress"), true)
    );
    upstream.nth("GET", 0).await;
    let session = upstream.sessions().remove(0);
    upstream.notify(
        &session,
        rpc::notification("notifications/tools/list_changed", &json!({})),
    );
    let unasked = client.stream.next_message().await;
    assert_eq!(unasked["method"], "notifications/tools/list_changed");
    client.tell(rpc::call(2, "ask")).await;
    let asked = client.stream.next_message().await;
    assert_eq!(
        (&asked["id"], &asked["method"]),
        (&json!("ask-1"), &json!("elicitation/create"))
    );
    client
        .tell(rpc::response("ask-1", &json!({"action": "decline"})))
        .await;
    assert_eq!(client.stream.next_message().await["id"], 2);
    upstream.once(
        "tools/call",
        Script::status(500).content_type("text/plain").whole("no"),
    );
    let failed = client.ask(rpc::call(3, "echo")).await;
    assert_eq!(
        (&failed["id"], failed["error"].is_object()),
        (&json!(3), true),
        "{failed}"
    );
    // The server never saw the client's own session id, and its own stayed here.
    assert!(!client.endpoint().contains(&session));
}

/// R044: a client that leaves ends the server's session too.
#[tokio::test]
async fn r044_leaving_ends_the_upstreams_session() {
    let upstream = Upstream::start().await;
    let (server, client) = client_of(&upstream).await;
    client.tell(rpc::call(1, "slow")).await;
    upstream.nth("tools/call", 0).await;
    client.stream.close();
    upstream.nth("DELETE", 0).await;
    server.shut_down().await;
    assert_eq!((server.stats().sessions, upstream.sessions().len()), (0, 0));
}

/// R044, protocol notes 5.2: what runs for a client that leaves is cancelled before its session is
/// deleted, once each, and nothing else is: neither `initialize` nor what was answered.
#[tokio::test]
async fn r044_leaving_cancels_what_runs_upstream() {
    let upstream = Upstream::start().await;
    let (server, mut client) = client_of(&upstream).await;
    client.ask(rpc::call(1, "echo")).await;
    for id in ["a", "b"] {
        client.tell(rpc::call(id, "slow")).await;
    }
    upstream.nth("tools/call", 2).await;
    client.stream.close();
    let deleted = upstream.nth("DELETE", 0).await;
    server.shut_down().await;
    let told = upstream.requests("notifications/cancelled");
    let mut ids: Vec<_> = told
        .iter()
        .map(|told| told.json()["params"]["requestId"].clone())
        .collect();
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, [json!("a"), json!("b")]);
    assert!(told.iter().all(|told| told.session() == deleted.session()));
    assert!(told.iter().all(|told| told.number < deleted.number));
}

/// A session that the server has forgotten ends the client's: its stream closes.
#[tokio::test]
async fn r070_a_lost_upstream_session_closes_the_stream() {
    let upstream = Upstream::start().await;
    let (_server, mut client) = client_of(&upstream).await;
    upstream.nth("GET", 0).await;
    upstream.forget(&upstream.sessions().remove(0));
    client.tell(rpc::call(1, "echo")).await;
    let (events, end) = client.stream.events_to_end().await;
    assert_eq!(end, Ok(()));
    assert!(events.iter().all(|event| event.has_message()), "{events:?}");
    assert_eq!(client.post(rpc::call(2, "echo")).await.status, 404);
}
