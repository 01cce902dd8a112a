//! Clients of HTTP+SSE in front of servers of Streamable HTTP, and of Streamable HTTP that turn out to be
//! in front of none.

use serde_json::json;
use thinpipe_gateway::Reached;
use thinpipe_testkit::{Event, Script, SseClient, Upstream, rpc};
use thinpipe_transport::upstream::UpstreamConfig;

use crate::front::Front;

fn at(upstream: &Upstream) -> Reached {
    UpstreamConfig::new("up".into(), upstream.url().parse().unwrap()).into()
}

/// R211: a call with progress and a question, the answer to it, and a failure of HTTP as an error.
#[tokio::test]
async fn r211_http_sse_to_streamable() {
    let upstream = Upstream::start().await;
    let question = rpc::request("q", "elicitation/create", &json!({"message": "?"}));
    upstream.on(
        "tools/call:ask",
        Script::events()
            .event(Event::message(rpc::progress(1, 2)))
            .event(Event::message(question))
            .wait_for_answer("\"q\"")
            .event(Event::message(rpc::text_result("thanks"))),
    );
    upstream.on("tools/call:broken", Script::status(500));
    let front = Front::start(at(&upstream)).await;
    let mut client = SseClient::open(&front.sse).await;
    client.initialize("2025-06-18").await;
    let progress = client.ask(rpc::call(1, "ask")).await;
    assert_eq!(progress["params"]["progressToken"], 1);
    let question = client.stream.next_message().await;
    assert_eq!(question["method"], "elicitation/create");
    client
        .tell(rpc::response("q", &json!({"action": "accept"})))
        .await;
    let answer = client.stream.next_message().await;
    assert_eq!(
        (&answer["id"], &answer["result"]["content"][0]["text"]),
        (&json!(1), &json!("thanks"))
    );
    let failed = client.ask(rpc::call(2, "broken")).await;
    assert_eq!(failed["id"], 2);
    assert!(failed["error"].is_object(), "{failed}");
    assert_eq!(upstream.record().count("tools/call"), 2);
    assert_eq!(upstream.record().duplicates, 0);
}
