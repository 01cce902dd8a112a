//! Telling clients that something changed.

use std::collections::HashSet;

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Response, SseClient, eventually, rpc};
use thinpipe_transport::mcp::config::{HttpSseConfig, HttpTransportConfig};
use thinpipe_transport::mcp::{HttpSseTransport, StreamableHttpTransport};
use thinpipe_transport::server::Server;
use tokio::net::TcpListener;

use crate::support::{Sample, Seen, both, streamable};

const CHANGED: &str = "notifications/tools/list_changed";
const UPDATED: &str = "notifications/resources/updated";

/// B20, R108, R220: each session is told once, on its standalone stream, and only of what it subscribed to.
#[tokio::test]
async fn b20_sessions_are_told_once_and_of_what_they_subscribed_to() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let (first, second) = (
        sampled.session("2025-11-25").await,
        sampled.session("2025-03-26").await,
    );
    let (mut to_first, mut to_second) = (first.get().await, second.get().await);
    assert_eq!((to_first.status, to_second.status), (200, 200));
    let uri = |method: &str, uri: &str| rpc::request(1, method, &json!({ "uri": uri }));
    for (client, wanted) in [
        (&first, "test://a"),
        (&first, "test://b"),
        (&second, "test://b"),
    ] {
        let mut done = client.post(uri("resources/subscribe", wanted)).await;
        assert_eq!(done.json().await["result"], json!({}));
    }
    let mut narrowed = first.post(uri("resources/unsubscribe", "test://b")).await;
    assert_eq!(narrowed.json().await["result"], json!({}));
    let notifier = sampled.server.notifier();
    for changed in ["test://a", "test://b", "test://c"] {
        notifier.resource_updated(changed).await;
    }
    // Not declared, so not told.
    notifier.prompts_changed().await;
    notifier.resources_changed().await;
    notifier.tools_changed().await;
    for (stream, wanted) in [(&mut to_first, "test://a"), (&mut to_second, "test://b")] {
        let update = stream.next_message().await;
        assert_eq!(
            (&update["method"], &update["params"]["uri"]),
            (&json!(UPDATED), &json!(wanted))
        );
        assert_eq!(stream.next_message().await["method"], CHANGED);
    }
    notifier.tools_changed().await;
    for stream in [&mut to_first, &mut to_second] {
        assert_eq!(stream.next_message().await["method"], CHANGED, "again");
    }
    // A stream that takes the place of another begins where that ended.
    let mut taken_over = first.get().await;
    notifier.resource_updated("test://a").await;
    assert_eq!(taken_over.next_message().await["method"], UPDATED);
    assert_eq!(to_first.read_to_end().await.len(), 0, "each message once");
}

/// B2, T2: mounting is all there is to do. Both transports in a server of one's own reach their clients.
#[tokio::test]
async fn b2_what_is_mounted_is_attached() {
    let (base, seen) = (HttpTransportConfig::default(), Seen::default());
    let server_config = base.server_config().unwrap();
    let streamable = StreamableHttpTransport::new(base, Sample::new(&seen)).unwrap();
    let legacy = HttpSseTransport::beside(HttpSseConfig::default(), &streamable).unwrap();
    let server = legacy
        .mount(streamable.mount(Server::builder(server_config)))
        .build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = server.clone();
    server.spawn(async move { serving.serve(listener).await.unwrap() });
    let mut client = Client::new(&format!("{base}/mcp"));
    client.initialize("2025-11-25").await;
    let mut stream = client.get().await;
    let mut over_sse = SseClient::open(&format!("{base}/sse")).await;
    over_sse.initialize("2024-11-05").await;
    over_sse.ask(rpc::request(1, "ping", &json!({}))).await;
    legacy.notifier().tools_changed().await;
    assert_eq!(stream.next_message().await["method"], CHANGED);
    assert_eq!(over_sse.stream.next_message().await["method"], CHANGED);
}

/// A change that happens while no stream is open is told when one is.
#[tokio::test]
async fn a_change_waits_for_a_stream() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    sampled.server.notifier().tools_changed().await;
    sampled.server.notifier().tools_changed().await;
    let mut stream = client.get().await;
    assert_eq!(stream.next_message().await["method"], CHANGED);
    sampled.server.notifier().resource_updated("test://a").await;
    sampled.server.notifier().tools_changed().await;
    assert_eq!(
        stream.next_message().await["method"],
        CHANGED,
        "once before, once now"
    );
}

/// Protocol notes 2.3.7: tasks are for who has declared them. This server has none to tell of.
#[tokio::test]
async fn listens_for_tasks_need_the_capability() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.client();
    let wanted = json!({ "notifications": { "toolsListChanged": true, "taskIds": ["t"] } });
    let listen = rpc::modern(1, "subscriptions/listen", wanted);
    let mut refused = client.post_modern(&listen).await;
    let answer = refused.json().await;
    assert_eq!(
        (refused.status, &answer["error"]["code"]),
        (400, &json!(-32021))
    );
    let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    assert_eq!(answer["error"]["data"]["requiredCapabilities"], tasks);
    let mut taken = client.post_modern(&listen.declaring(&tasks)).await;
    let acknowledged = taken.next_message().await;
    let honoured = json!({ "toolsListChanged": true });
    assert_eq!(acknowledged["params"]["notifications"], honoured);
}

/// R145 to R149
#[tokio::test]
async fn r145_listens_are_acknowledged_and_stamped() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.client();
    let listen = |id: Value, notifications: Value| {
        let params = json!({ "notifications": notifications });
        client.post_modern(&rpc::modern(id, "subscriptions/listen", params))
    };
    let asked = json!({
        "toolsListChanged": true, "promptsListChanged": true, "resourceSubscriptions": ["test://a"],
    });
    let mut first = listen(json!(7), asked).await;
    let mut second = listen(json!("7"), json!({ "toolsListChanged": true })).await;
    let acknowledged = first.next_message().await;
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );
    let honoured = json!({ "toolsListChanged": true, "resourceSubscriptions": ["test://a"] });
    assert_eq!(acknowledged["params"]["notifications"], honoured);
    assert_eq!(acknowledged["params"]["_meta"][rpc::SUBSCRIPTION], 7);
    second.next_message().await;

    let notifier = sampled.server.notifier();
    notifier.resource_updated("test://b").await;
    notifier.resource_updated("test://a").await;
    notifier.tools_changed().await;
    let update = first.next_message().await;
    assert_eq!(
        (&update["method"], &update["params"]["uri"]),
        (&json!(UPDATED), &json!("test://a"))
    );
    for (stream, id) in [(&mut first, json!(7)), (&mut second, json!("7"))] {
        let changed = stream.next_message().await;
        assert_eq!(changed["method"], CHANGED);
        assert_eq!(changed["params"]["_meta"][rpc::SUBSCRIPTION], id);
    }
    let mut refused = listen(json!(8), json!(null)).await;
    assert_eq!(refused.json().await["error"]["code"], -32602);

    second.close();
    eventually("the listener is gone", || async {
        let open = sampled.server.server().stats().streams_open;
        (open == 1)
            .then_some(())
            .ok_or_else(|| format!("{open} streams"))
    })
    .await;
    sampled.server.shut_down().await;
    let end = first.next_message().await;
    assert_eq!(
        (&end["id"], &end["result"]["resultType"]),
        (&json!(7), &json!("complete"))
    );
    assert_eq!(end["result"]["_meta"][rpc::SUBSCRIPTION], 7);
}

/// How many resources a burst changes: as many as a client may subscribe to.
const URIS: usize = 1_000;

fn test_uri(n: usize) -> String {
    format!("test://{n}")
}

async fn subscribe(client: &Client, uri: &str) {
    let params = json!({ "uri": uri });
    let mut done = client
        .post(rpc::request(1, "resources/subscribe", &params))
        .await;
    assert_eq!(done.json().await["result"], json!({}), "{uri}");
}

/// Until each URI was told of, then until the list of tools was.
async fn told_of_all(stream: &mut Response) {
    let mut left: HashSet<_> = (0..URIS).map(test_uri).collect();
    loop {
        let message = stream.next_message().await;
        if message["method"] == CHANGED {
            break;
        }
        assert_eq!(message["method"], UPDATED);
        left.remove(message["params"]["uri"].as_str().unwrap());
    }
    assert!(left.is_empty(), "{} changes were not told", left.len());
}

/// T5, B20, protocol notes 5.1, 5.9 (18): a burst that does not let anybody read in between reaches every
/// client that reads, and ends nobody's session: over Streamable HTTP, over `subscriptions/listen`, and over
/// HTTP+SSE.
#[tokio::test]
async fn t5_a_burst_of_changes_reaches_who_reads() {
    let sampled = both(HttpSseConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let mut in_session = client.get().await;
    let mut legacy = SseClient::open(&sampled.url("/sse")).await;
    legacy.initialize("2024-11-05").await;
    for uri in (0..URIS).map(test_uri) {
        subscribe(&client, &uri).await;
        let request = rpc::request(1, "resources/subscribe", &json!({ "uri": uri }));
        assert_eq!(legacy.ask(request).await["result"], json!({}));
    }
    let uris: Vec<_> = (0..URIS).map(test_uri).collect();
    let asked =
        json!({ "notifications": { "resourceSubscriptions": uris, "toolsListChanged": true } });
    let listen = rpc::modern(json!(7), "subscriptions/listen", asked);
    let mut listening = client.post_modern(&listen).await;
    listening.next_message().await;

    let notifier = sampled.server.notifier();
    for uri in uris.iter().chain(&uris) {
        notifier.resource_updated(uri).await;
    }
    notifier.tools_changed().await;
    told_of_all(&mut in_session).await;
    told_of_all(&mut listening).await;
    told_of_all(&mut legacy.stream).await;
    assert_eq!(sampled.server.sessions().stats().live, 2);
}

/// T2, 5.9 (23): what a client subscribes to is bounded in bytes too, or its notices would not be.
#[tokio::test]
async fn t2_what_is_subscribed_to_is_bounded() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let client = sampled.session("2025-11-25").await;
    let long = |n: u8| char::from(n).to_string().repeat(256 << 10);
    for n in *b"aba" {
        subscribe(&client, &long(n)).await;
    }
    let params = json!({ "uri": "test://c" });
    let more = client.post(rpc::request(1, "resources/subscribe", &params));
    let error = more.await.json().await["error"].clone();
    assert_eq!(error["data"]["reason"], "too_many_subscriptions");
    let uris =
        json!({ "notifications": { "resourceSubscriptions": [long(b'a'), long(b'b'), "c"] } });
    let mut listen = client
        .post_modern(&rpc::modern(json!(7), "subscriptions/listen", uris))
        .await;
    assert_eq!(listen.json().await["error"]["code"], -32602);
}

/// T5: a client that does not read its stream is not waited for, the others are told, and it loses nothing.
#[tokio::test]
async fn t5_who_does_not_read_holds_up_nobody() {
    let sampled = streamable(HttpTransportConfig::default()).await;
    let (silent, reader) = (
        sampled.session("2025-11-25").await,
        sampled.session("2025-11-25").await,
    );
    let mut stuck = silent.get().receive_buffer(1024).await;
    let uri = "x".repeat(64 << 10);
    subscribe(&silent, &uri).await;
    let mut stream = reader.get().await;
    let notifier = sampled.server.notifier();
    for _ in 0..300 {
        notifier.resource_updated(&uri).await;
    }
    notifier.tools_changed().await;
    assert_eq!(stream.next_message().await["method"], CHANGED);
    assert_eq!(sampled.server.sessions().stats().live, 2);
    let mut told = 0;
    while stuck.next_message().await["method"] != CHANGED {
        told += 1;
    }
    assert!((1..300).contains(&told), "{told}");
}
