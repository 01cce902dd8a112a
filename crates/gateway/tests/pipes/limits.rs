//! What is set for clients of HTTP+SSE holds in front of servers that are a pipe of messages as well.

use serde_json::json;
use thinpipe_testkit::{SseClient, rpc};

use crate::front::Front;
use crate::server::{Carrier, Scripted};

const REVISION: &str = "2025-06-18";

/// A10, T2, T3: `inline_json` answers in the response to the POST, `initialize` too, and then not on the
/// stream; what is no answer stays there.
#[tokio::test]
async fn a10_answers_come_inline_where_that_is_set() {
    for carrier in [Carrier::Stdio, Carrier::HttpSse] {
        let mut server = Scripted::start(carrier).await;
        let inline = |sse: &mut thinpipe_gateway::SsePaths| sse.config.inline_json = true;
        let front = Front::with(
            server.reached(),
            |spec| spec.sse.iter_mut().for_each(inline),
            |_| {},
        )
        .await;
        let mut client = SseClient::open(&front.sse).await;
        let asked = client.post(rpc::initialize(0, REVISION)).send().await;
        let mut speaker = server.session().await;
        let initialize = speaker.hears("initialize").await;
        let result = json!({
            "protocolVersion": REVISION,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "scripted", "version": "1"},
        });
        speaker.answer(&initialize, result).await;
        let mut opened = asked.response().await;
        assert_eq!(
            (opened.status, &opened.json().await["id"]),
            (200, &json!(0))
        );
        client.tell(rpc::initialized()).await;
        speaker.hears("notifications/initialized").await;

        let call = json!({"name": "a", "_meta": {"progressToken": "t"}});
        let asked = client
            .post(rpc::request(1, "tools/call", &call))
            .send()
            .await;
        let call = speaker.hears("tools/call").await;
        let token = &call["params"]["_meta"]["progressToken"];
        let progress = json!({"progressToken": token, "progress": 1});
        speaker
            .say(rpc::notification("notifications/progress", &progress))
            .await;
        speaker.answer(&call, json!({"done": true})).await;
        let mut answered = asked.response().await;
        assert_eq!(answered.status, 200);
        assert_eq!(answered.json().await["result"], json!({"done": true}));
        speaker
            .say(rpc::notification(
                "notifications/tools/list_changed",
                &json!({}),
            ))
            .await;
        for method in ["notifications/progress", "notifications/tools/list_changed"] {
            assert_eq!(client.stream.next_message().await["method"], method);
        }
    }
}

/// T2: an answer that exceeds `sse.max_message` becomes an error, inline and on the stream, and what is
/// no answer is left out.
#[tokio::test]
async fn t2_no_message_exceeds_its_limit() {
    for inline in [false, true] {
        let mut server = Scripted::start(Carrier::Stdio).await;
        let limit = |sse: &mut thinpipe_gateway::SsePaths| {
            sse.config.max_message = 1024;
            sse.config.inline_json = inline;
        };
        let front = Front::with(
            server.reached(),
            |spec| spec.sse.iter_mut().for_each(limit),
            |_| {},
        )
        .await;
        let client = SseClient::open(&front.sse).await;
        let asked = client.post(rpc::initialize(0, REVISION)).send().await;
        let mut speaker = server.session().await;
        let mut client = client;
        let speaking = speaker.begin(REVISION);
        let greeting = async {
            let mut opened = asked.response().await;
            let answer = match inline {
                true => opened.json().await,
                false => client.stream.next_message().await,
            };
            assert_eq!(answer["id"], 0);
            client.tell(rpc::initialized()).await;
        };
        tokio::join!(speaking, greeting);

        let large = "x".repeat(2048);
        let asked = client.post(rpc::call(1, "a")).send().await;
        let call = speaker.hears("tools/call").await;
        let question = json!({"message": large});
        speaker
            .say(rpc::request("q", "elicitation/create", &question))
            .await;
        let refused = speaker.hears_any().await;
        assert_eq!(
            (&refused["id"], refused["error"].is_object()),
            (&json!("q"), true)
        );
        speaker.answer(&call, json!({"text": large})).await;
        let mut answered = asked.response().await;
        let answer = match inline {
            true => answered.json().await,
            false => client.stream.next_message().await,
        };
        assert_eq!(answer["id"], 1);
        assert_eq!(answer["error"]["data"]["reason"], "message_too_large");
        let asked = client.post(rpc::call(2, "a")).send().await;
        let call = speaker.hears("tools/call").await;
        speaker.answer(&call, json!({})).await;
        let mut answered = asked.response().await;
        let answer = match inline {
            true => answered.json().await,
            false => client.stream.next_message().await,
        };
        assert_eq!((&answer["id"], &answer["result"]), (&json!(2), &json!({})));
    }
}
