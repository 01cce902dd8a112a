//! HTTP+SSE and Streamable HTTP side by side: one handler, one session manager.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::{Client, SseClient, eventually, rpc};
use thinpipe_transport::mcp::config::{ConfigError, HttpSseConfig, HttpTransportConfig};
use thinpipe_transport::mcp::{
    Context, McpServer, Notifier, RpcError, ServerInfo, Tool, ToolResult, Tools,
};
use thinpipe_transport::server::{Session, SessionEnd, SseObserver};

use crate::support::{Sample, Sampled, Seen, both, start, text};

async fn live(sampled: &Sampled, count: usize) {
    eventually("live sessions", || async {
        let live = sampled.server.sessions().stats().live;
        (live == count)
            .then_some(())
            .ok_or_else(|| format!("{live} live"))
    })
    .await;
}

/// A5, A9, A10, A28, T3, T7: the same logic over both transports has the same results, and their sessions are
/// in one list.
#[tokio::test]
async fn a5_both_transports_share_handler_and_sessions() {
    let sampled = both(HttpSseConfig::default()).await;
    let streamable = sampled.session("2025-11-25").await;
    let mut legacy = SseClient::open(&sampled.url("/sse")).await;
    let result = legacy.initialize("2024-11-05").await;
    assert_eq!(result["protocolVersion"], "2024-11-05");
    assert_eq!(result["serverInfo"]["name"], "sample");
    let mut bindings: Vec<_> = sampled.server.sessions().list();
    bindings.sort_by_key(|session| session.binding() == Binding::HttpSse);
    let bindings: Vec<_> = bindings.iter().map(|session| session.binding()).collect();
    assert_eq!(bindings, [Binding::Sessions, Binding::HttpSse]);

    let call = rpc::call_with(1, "echo", &json!({ "text": "hi" }));
    let over_sse = legacy.ask(&call).await;
    let over_streamable = streamable.post(&call).await.json().await;
    assert_eq!(over_sse, over_streamable);
    legacy.tell(rpc::call(2, "count")).await;
    for step in [1.0, 2.0, 3.0] {
        let progress = legacy.stream.next_message().await;
        assert_eq!(progress["params"]["progress"], step);
        assert!(
            progress["params"].get("message").is_none(),
            "2024-11-05 has none: {progress}"
        );
    }
    assert_eq!(text(&legacy.stream.next_message().await), "counted");

    legacy.tell(rpc::call(3, "require")).await;
    let question = legacy.stream.next_message().await;
    assert_eq!(question["method"], "elicitation/create");
    let given = json!({ "action": "accept", "content": { "name": "Ada" } });
    legacy
        .tell(rpc::response(question["id"].clone(), &given))
        .await;
    assert_eq!(text(&legacy.stream.next_message().await), "\"Ada\"");

    sampled.server.notifier().tools_changed().await;
    let changed = legacy.stream.next_message().await;
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    drop(legacy);
    live(&sampled, 1).await;
}

/// A5: sessions of both count against one limit.
#[tokio::test]
async fn a5_one_limit_for_the_sessions_of_both() {
    let base = HttpTransportConfig {
        max_sessions: 2,
        ..HttpSseConfig::default().base_config
    };
    let sampled = both(HttpSseConfig::builder().base_config(base).build().unwrap()).await;
    let _legacy = SseClient::open(&sampled.url("/sse")).await;
    let _streamable = sampled.session("2025-11-25").await;
    let full = sampled
        .client()
        .post(rpc::initialize(0, "2025-11-25"))
        .await;
    assert_eq!(full.status, 503);
    assert_eq!(Client::new(&sampled.url("/sse")).get().await.status, 503);
}

/// A server whose one tool reports progress, tells of a change, asks, and reports progress again.
async fn telling(config: HttpSseConfig) -> Sampled {
    let notifier = Arc::new(OnceLock::<Notifier>::new());
    let telling = Arc::clone(&notifier);
    let info = ServerInfo::new("telling", "1").capability("tools", json!({ "listChanged": true }));
    let tool = Tool::new("tell", "Tells of everything");
    let tools = Tools::new(info).tool(tool, move |_: Value, context: Context| {
        let telling = Arc::clone(&telling);
        async move {
            context.progress(1.0, None, None).await;
            telling.get().expect("it is served").tools_changed().await;
            context.roots().await?;
            context.progress(2.0, None, None).await;
            Ok::<_, RpcError>(ToolResult::text("told"))
        }
    });
    let server = McpServer::http_sse(config, tools).unwrap().build();
    assert!(notifier.set(server.notifier().clone()).is_ok());
    start(server, Seen::default()).await
}

/// Reads what that tool says before its answer.
async fn told(legacy: &mut SseClient) {
    let step = legacy.stream.next_message().await;
    assert_eq!(step["params"]["progress"], 1.0);
    let changed = legacy.stream.next_message().await;
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    let question = legacy.stream.next_message().await;
    assert_eq!(question["method"], "roots/list");
    let roots = rpc::response(question["id"].clone(), &json!({ "roots": [] }));
    legacy.tell(roots).await;
    let step = legacy.stream.next_message().await;
    assert_eq!(step["params"]["progress"], 2.0);
}

async fn with_roots(sampled: &Sampled) -> SseClient {
    let mut legacy = SseClient::open(&sampled.url("/sse")).await;
    let params = json!({
        "protocolVersion": "2024-11-05",
        "capabilities": { "roots": {} },
        "clientInfo": { "name": "testkit", "version": "1" },
    });
    let opened = legacy.post(rpc::request(0, "initialize", &params)).await;
    assert!(opened.status < 300);
    if opened.status == 202 {
        assert_eq!(legacy.stream.next_message().await["id"], 0);
    }
    legacy
        .tell(rpc::notification("notifications/initialized", &json!({})))
        .await;
    eventually("the client is initialized", || async {
        let state = sampled.server.inventory().unwrap().report();
        let state = serde_json::to_string(&state).unwrap();
        state.contains("testkit").then_some(()).ok_or(state)
    })
    .await;
    legacy
}

/// A10, T4, T10: there is one queue for all that a client is told, so it reads it in the order in which the
/// handler said it, whether it is about a request or not.
#[tokio::test]
async fn a10_what_is_said_stays_in_order() {
    let sampled = telling(HttpSseConfig::default()).await;
    let mut legacy = with_roots(&sampled).await;
    for id in 1..=20 {
        legacy.tell(rpc::call(id, "tell")).await;
        told(&mut legacy).await;
        assert_eq!(text(&legacy.stream.next_message().await), "told");
    }
}

/// A11: with inline answers, what comes before the answer is on the stream, and the answer is not.
#[tokio::test]
async fn a11_an_inline_answer_is_no_event_of_the_stream() {
    let config = HttpSseConfig::builder().inline_json(true).build().unwrap();
    let sampled = telling(config).await;
    let mut legacy = with_roots(&sampled).await;
    for id in 1..=2 {
        let post = legacy.post(rpc::call(id, "tell")).into_future();
        let (mut answer, ()) = tokio::join!(post, told(&mut legacy));
        assert_eq!((answer.status, text(&answer.json().await)), (200, "told"));
    }
}

/// R227 over HTTP+SSE: a cancelled call has no answer on the stream.
#[tokio::test]
async fn a_cancelled_call_is_not_answered_on_the_stream() {
    let sampled = both(HttpSseConfig::default()).await;
    let mut legacy = SseClient::open(&sampled.url("/sse")).await;
    legacy.initialize("2025-06-18").await;
    for tool in ["wait", "hang"] {
        legacy.tell(rpc::call(1, tool)).await;
        if tool == "wait" {
            assert_eq!(
                legacy.stream.next_message().await["method"],
                "notifications/progress"
            );
            sampled.seen.running(1).await;
        }
        let cancelled = rpc::notification("notifications/cancelled", &json!({ "requestId": 1 }));
        // It may overtake the call, which then is not there yet to be cancelled.
        eventually("the call is cancelled", || async {
            legacy.tell(&cancelled).await;
            let running = sampled.server.sessions().list()[0].in_flight();
            (running == 0)
                .then_some(())
                .ok_or_else(|| format!("{running} run"))
        })
        .await;
    }
    let pong = legacy.ask(rpc::request(2, "ping", &json!({}))).await;
    assert_eq!(
        pong,
        json!({ "jsonrpc": "2.0", "id": 2, "result": {} }),
        "and nothing before it"
    );
}

/// A8, T2: the end of the stream ends session and calls.
#[tokio::test]
async fn a8_nothing_is_left_of_a_client_that_went() {
    let sampled = both(HttpSseConfig::default()).await;
    let mut legacy = SseClient::open(&sampled.url("/sse")).await;
    legacy.initialize("2024-11-05").await;
    legacy.tell(rpc::call(1, "wait")).await;
    sampled.seen.running(1).await;
    drop(legacy);
    sampled.seen.running(0).await;
    live(&sampled, 0).await;
}

/// T2: each setting of HTTP+SSE that shows on the wire.
#[tokio::test]
async fn t2_settings_of_http_sse_are_enforced() {
    let config = HttpSseConfig::builder()
        .sse_endpoint("/events")
        .messages_endpoint("/post")
        .public_base(Some("/behind/a/proxy".to_owned()))
        .max_streams(1_usize)
        .retry(Duration::from_millis(1_234))
        .inline_json(true)
        .build()
        .unwrap();
    let sampled = both(config).await;
    let url = sampled.url("/events");
    let mut stream = SseClient::opening(&Client::new(&url)).await;
    let first = stream.next_event().await.unwrap();
    let endpoint = first.data.unwrap();
    assert!(
        endpoint.starts_with("/behind/a/proxy/post?sessionId="),
        "{endpoint}"
    );
    assert_eq!(first.retry, Some(1_234));
    let refused = Client::new(&url).get().await;
    assert_eq!(refused.status, 503, "max_streams");
    assert!(refused.header("Retry-After").is_some());
    let post = Client::new(&sampled.url(endpoint.strip_prefix("/behind/a/proxy").unwrap()));
    let mut inline = post.post(rpc::initialize(0, "2024-11-05")).await;
    assert_eq!(inline.status, 200, "inline_json");
    assert_eq!(
        inline.json().await["result"]["serverInfo"]["name"],
        "sample"
    );
}

/// A17, T2: who does not initialize, and who says nothing, is let go.
#[tokio::test]
async fn a17_streams_end_in_time() {
    let short = Duration::from_millis(50);
    let config = HttpSseConfig::builder()
        .connection_timeout(short)
        .build()
        .unwrap();
    let sampled = both(config).await;
    let mut silent = SseClient::open(&sampled.url("/sse")).await;
    silent.stream.try_read_to_end().await.1.unwrap();
    live(&sampled, 0).await;

    let config = HttpSseConfig::builder()
        .session_timeout(short)
        .build()
        .unwrap();
    let sampled = both(config).await;
    let mut idle = SseClient::open(&sampled.url("/sse")).await;
    idle.initialize("2024-11-05").await;
    idle.stream.try_read_to_end().await.1.unwrap();
    live(&sampled, 0).await;
}

/// A3, A20, T2: what is said of the deprecation is what is configured; the off switch silences all of it.
#[tokio::test]
async fn a3_deprecation_is_told_unless_it_is_switched_off() {
    for (warnings, told) in [(true, Some("@1742947200")), (false, None)] {
        let config = HttpSseConfig::builder().deprecation_warnings(warnings);
        let sampled = both(config.build().unwrap()).await;
        let mut legacy = SseClient::open(&sampled.url("/sse")).await;
        assert_eq!(legacy.stream.header("Deprecation"), told);
        assert_eq!(legacy.stream.header("Link").is_some(), warnings);
        legacy.initialize("2024-11-05").await;
        let streamable = sampled
            .client()
            .post(rpc::initialize(0, "2025-11-25"))
            .await;
        assert_eq!(
            streamable.header("Deprecation"),
            None,
            "R200: HTTP+SSE only"
        );
        // Warnings or not, who comes is counted.
        eventually("the client is in the inventory", || async {
            let report = sampled.server.inventory().unwrap().report();
            let report = serde_json::to_string(&report).unwrap();
            report.contains("testkit").then_some(()).ok_or(report)
        })
        .await;
    }
}

/// Marks responses, and counts the sessions that begin and end.
#[derive(Default)]
struct Marking {
    opened: AtomicUsize,
    ended: AtomicUsize,
}

impl SseObserver for Marking {
    fn response_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let name = HeaderName::from_static("x-marked");
        vec![(name, HeaderValue::from_static("yes"))]
    }

    fn opened(&self, _: &Arc<Session>, _: &HeaderMap) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self, _: &Arc<Session>, _: SessionEnd) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A4, A20, T2: who observes in addition takes nothing of the deprecation away, neither headers nor inventory, and
/// where there is nothing to observe the attempt is an error.
#[tokio::test]
async fn a20_observers_are_added_to_the_deprecation() {
    let marking = Arc::new(Marking::default());
    let observer = || Arc::clone(&marking) as Arc<dyn SseObserver>;
    let seen = Seen::default();
    let server = McpServer::http_sse(HttpSseConfig::default(), Sample::new(&seen)).unwrap();
    let server = server.observed_by(observer()).unwrap().build();
    let sampled = start(server, seen).await;
    let mut legacy = SseClient::open(&sampled.url("/sse")).await;
    assert_eq!(legacy.stream.header("X-Marked"), Some("yes"));
    assert_eq!(legacy.stream.header("Deprecation"), Some("@1742947200"));
    legacy.initialize("2024-11-05").await;
    eventually("the client is in the inventory", || async {
        let report = sampled.server.inventory().unwrap().report();
        let report = serde_json::to_string(&report).unwrap();
        report.contains("testkit").then_some(()).ok_or(report)
    })
    .await;
    assert_eq!(marking.opened.load(Ordering::SeqCst), 1);
    drop(legacy);
    eventually("the end is seen", || async {
        let ended = marking.ended.load(Ordering::SeqCst);
        (ended == 1)
            .then_some(())
            .ok_or_else(|| format!("{ended} ended"))
    })
    .await;

    let only = McpServer::streamable(HttpTransportConfig::default(), Sample::new(&sampled.seen));
    let refused = only.unwrap().observed_by(observer());
    assert!(matches!(refused, Err(ConfigError::NoHttpSse)));
}
