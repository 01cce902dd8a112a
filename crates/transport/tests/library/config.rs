//! T2: every setting of [`HttpTransportConfig`] is reached by a request that it refuses or ends.

use std::time::Duration;

use serde_json::json;
use thinpipe_testkit::{Client, eventually, rpc};
use thinpipe_transport::mcp::config::{HttpTransportConfig, HttpTransportConfigBuilder};
use thinpipe_transport::mcp::{McpServer, ServerInfo, Tools};
use tokio_util::task::TaskTracker;

use crate::support::{Sampled, streamable};

async fn with(
    set: impl FnOnce(HttpTransportConfigBuilder) -> HttpTransportConfigBuilder,
) -> Sampled {
    streamable(set(HttpTransportConfig::builder()).build().unwrap()).await
}

/// B10, A16, T1: one connection too many is refused at once, and a place that was left is given again.
#[tokio::test]
async fn t1_max_connections() {
    let sampled = with(|config| config.max_connections(2_usize)).await;
    let client = sampled.client();
    let held = (client.connect().await, client.connect().await);
    let opened = || async {
        let open = sampled.server.server().stats().connections_open;
        (open == 2)
            .then_some(())
            .ok_or_else(|| format!("{open} open"))
    };
    eventually("both are served", opened).await;
    assert_eq!(
        client.post(rpc::initialize(0, "2025-11-25")).await.status,
        503
    );
    drop(held);
    eventually("a place is free", || async {
        let status = client.post(rpc::initialize(0, "2025-11-25")).await.status;
        (status == 200)
            .then_some(())
            .ok_or_else(|| format!("{status}"))
    })
    .await;
}

/// B1
#[tokio::test]
async fn t2_max_concurrent_requests() {
    let sampled = with(|config| config.max_concurrent_requests(1_usize)).await;
    let client = sampled.session("2025-11-25").await;
    let mut running = client.post(rpc::call(1, "wait")).await;
    running.next_message().await;
    let refused = client.post(rpc::request(2, "ping", &json!({}))).await;
    assert_eq!(refused.status, 503);
    let other = sampled.session("2025-11-25").await;
    assert_eq!(
        other.post(rpc::request(2, "ping", &json!({}))).await.status,
        200
    );
}

#[tokio::test]
async fn t2_max_streams() {
    let sampled = with(|config| config.max_streams(1_usize)).await;
    let (first, second) = (
        sampled.session("2025-11-25").await,
        sampled.session("2025-11-25").await,
    );
    let open = first.get().await;
    assert_eq!((open.status, second.get().await.status), (200, 503));
}

/// B6: the cap is exact under concurrent creation (T13).
#[tokio::test]
async fn t13_max_sessions() {
    let sampled = with(|config| config.max_sessions(3_usize)).await;
    let client = sampled.client();
    let tasks = TaskTracker::new();
    let opening = (0..8).map(|id| {
        let initialize = client.post(rpc::initialize(id, "2025-11-25"));
        tasks.spawn(async move { initialize.await.status })
    });
    let opening: Vec<_> = opening.collect();
    let mut opened = 0;
    for one in opening {
        opened += usize::from(one.await.unwrap() == 200);
    }
    assert_eq!(opened, 3);
    assert_eq!(sampled.server.sessions().stats().live, 3);
}

/// B6
#[tokio::test]
async fn t2_session_timeout() {
    let sampled = with(|config| config.session_timeout(Duration::from_millis(100))).await;
    let client = sampled.session("2025-11-25").await;
    eventually("the session ends", || async {
        let live = sampled.server.sessions().stats().live;
        (live == 0)
            .then_some(())
            .ok_or_else(|| format!("{live} live"))
    })
    .await;
    assert_eq!(
        client
            .post(rpc::request(1, "ping", &json!({})))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn t2_keep_alive_timeout() {
    let sampled = with(|config| config.keep_alive_timeout(Duration::from_millis(50))).await;
    let idle = sampled.client().connect().await;
    assert_eq!(idle.closed().await.len(), 0);
}

/// The body's part of `request_timeout`; the handler's is among the ways to end.
#[tokio::test]
async fn t2_request_timeout_of_the_body() {
    let sampled = with(|config| config.request_timeout(Duration::from_millis(50))).await;
    let client = sampled.client();
    let request = client.post(rpc::initialize(0, "2025-11-25")).to_bytes();
    let mut connection = client.connect().await;
    connection.send(request.slice(..request.len() - 1)).await;
    assert_eq!(connection.response().await.status, 408);
}

/// B2
#[tokio::test]
async fn t2_max_message_size() {
    let sampled = with(|config| config.max_message_size(1_000_usize)).await;
    let client = sampled.session("2025-11-25").await;
    let call = |length: usize| {
        let text = "x".repeat(length);
        client.post(rpc::call_with(1, "echo", &json!({ "text": text })))
    };
    assert_eq!(
        (call(100).await.status, call(1_000).await.status),
        (200, 413)
    );
}

/// B18, T8: other names and origins than those that are allowed are refused.
#[tokio::test]
async fn b18_hosts_and_origins() {
    let sampled = with(|config| {
        config
            .allowed_hosts(vec!["mcp.example".to_owned()])
            .allowed_origins(vec!["https://app.example".to_owned()])
    })
    .await;
    let ask = |host: Option<&str>, origin: Option<&str>| {
        let mut request = sampled.client().post(rpc::initialize(0, "2025-11-25"));
        if let Some(host) = host {
            request = request.replace("Host", host);
        }
        if let Some(origin) = origin {
            request = request.header("Origin", origin);
        }
        async move { request.await.status }
    };
    assert_eq!(ask(None, None).await, 200);
    assert_eq!(
        ask(Some("mcp.example"), Some("https://app.example")).await,
        200
    );
    assert_eq!(ask(Some("evil.example"), None).await, 403);
    assert_eq!(ask(None, Some("https://evil.example")).await, 403);
}

#[tokio::test]
async fn t2_endpoint() {
    let sampled = with(|config| config.endpoint("/elsewhere")).await;
    let at = async |path: &str| {
        let client = Client::new(&sampled.url(path));
        client.post(rpc::initialize(0, "2025-11-25")).await.status
    };
    assert_eq!((at("/elsewhere").await, at("/mcp").await), (200, 404));
}

/// B5: health is the state there is, and reading figures changes none of them.
#[tokio::test]
async fn b5_pages() {
    let sampled = with(|config| config).await;
    let page = |path: &str| Client::new(&sampled.url(path)).request("GET");
    let session = sampled.session("2025-11-25").await;
    let mut health = page("/health").await;
    assert_eq!(
        (health.status, health.json().await),
        (200, json!({ "status": "ok" }))
    );
    let status = page("/status").await.json().await;
    assert_eq!(status["sessions"]["live"], 1);
    assert_eq!(status["sessions"]["some"][0]["revision"], "2025-11-25");
    let id = status["sessions"]["some"][0]["id"].as_str().unwrap();
    assert!(
        !id.contains(session.session().unwrap()),
        "not in full: {id}"
    );
    let scrape = async || {
        let text = page("/metrics").await.read_to_end().await;
        String::from_utf8(text.to_vec()).unwrap()
    };
    let first = scrape().await;
    assert!(
        first.contains("# TYPE mcp_server_sessions gauge\nmcp_server_sessions 1\n"),
        "{first}"
    );
    let requests = first
        .lines()
        .find(|line| line.starts_with("mcp_server_requests_total"));
    assert!(
        scrape().await.contains(requests.unwrap()),
        "scraping is no request"
    );
    let refused = Client::new(&sampled.url("/health")).post("{}").await;
    assert_eq!(
        (refused.status, refused.header("Allow")),
        (405, Some("GET, HEAD"))
    );

    let mut running = session.post(rpc::call(1, "wait")).await;
    running.next_message().await;
    let draining = sampled.server.clone();
    let ended = TaskTracker::new().spawn(async move { draining.shut_down().await });
    eventually("it drains", || async {
        let status = page("/health").await.status;
        (status == 503)
            .then_some(())
            .ok_or_else(|| format!("{status}"))
    })
    .await;
    sampled.seen.gate.open();
    running.next_message().await;
    ended.await.unwrap();

    let without = with(|config| config.pages(false)).await;
    assert_eq!(
        Client::new(&without.url("/health"))
            .request("GET")
            .await
            .status,
        404
    );
    let clash = HttpTransportConfig::builder().endpoint("/status").build();
    assert!(clash.is_err());
}

/// B1: who cannot listen says where.
#[tokio::test]
async fn b1_an_address_that_is_taken_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let config = HttpTransportConfig::builder()
        .bind_address(address)
        .build()
        .unwrap();
    let tools = Tools::new(ServerInfo::new("taken", "1"));
    let server = McpServer::streamable(config, tools).unwrap().build();
    let error = server.serve().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
