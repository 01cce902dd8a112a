//! Tools that run as tasks only, and time that is over (R247, R250).

use std::time::Duration;

use serde_json::json;
use thinpipe_gateway::{Reached, UpstreamSpec};
use thinpipe_testkit::{Gate, Script, rpc};

use crate::place::{
    ALICE, Place, WAYS, Way, accepted, answers, ask, asked, call, request, retry, send,
};

const RELATED: &str = "io.modelcontextprotocol/related-task";

/// A server whose tool `long` runs as a task only.
async fn with_tasks(way: Way) -> Place {
    let place = Place::with(
        way,
        |behaviour| {
            behaviour.capabilities["tasks"] = json!({"requests": {"tools": {"call": {}}}});
        },
        |_| {},
    )
    .await;
    let tool = json!({
        "name": "long",
        "inputSchema": {"type": "object"},
        "execution": {"taskSupport": "required"},
    });
    let listed = rpc::result(json!({"tools": [tool]}));
    place.upstream.on("tools/list", Script::json(listed));
    let made = json!({"task": {"taskId": "t-1", "status": "working"}});
    place
        .upstream
        .on("tools/call:long", Script::json(rpc::result(made)));
    place
}

/// R247: a tool that runs as a task only is called like any other, asks like any other, and is not listed as
/// one that does.
#[tokio::test]
async fn r247_tools_that_need_a_task_are_called_like_others() {
    for way in WAYS {
        let place = with_tasks(way).await;
        let meta = json!({RELATED: {"taskId": "t-1"}});
        let question = json!({"message": "Seat?", "requestedSchema": {}, "_meta": meta});
        let result = json!({"content": [{"type": "text", "text": "done"}], "_meta": meta});
        place.upstream.on(
            "tasks/result",
            Script::events()
                .message(rpc::request("task-1", "elicitation/create", &question))
                .wait_for_answer("\"task-1\"")
                .message(rpc::result(result)),
        );
        let client = place.client(ALICE);
        let long = call(1, "long");
        let first = asked(&client, &long).await;
        assert!(!first.to_string().contains(RELATED), "{way:?} {first}");
        let again = retry(2, &long, &first, &answers(&first, &accepted()));
        let done = ask(&client, &again).await;
        assert_eq!(
            done["result"]["content"][0]["text"], "done",
            "{way:?} {done}"
        );
        assert!(!done.to_string().contains(RELATED), "{way:?} {done}");
        let calls = place.upstream.requests("tools/call");
        assert_eq!(calls.len(), 1);
        assert_eq!(*calls[0].param("/task"), json!({}), "{way:?}");
        assert_eq!(
            *place.upstream.requests("tasks/result")[0].param("/taskId"),
            json!("t-1")
        );

        let listed = ask(&client, &request(3, "tools/list", json!({}))).await;
        assert_eq!(
            listed["result"]["tools"][0].get("execution"),
            None,
            "{way:?}"
        );
        let discovered = ask(&client, &request(4, "server/discover", json!({}))).await;
        assert_eq!(discovered["result"]["capabilities"].get("tasks"), None);
        let mut get = request(5, "tasks/get", json!({"taskId": "t-1"}));
        get.headers.push("Mcp-Name", "t-1");
        let mut refused = client.post_modern(&get).await;
        assert_eq!(refused.status, 404);
        assert_eq!(refused.answer().await["error"]["code"], -32601, "{way:?}");
    }
}

/// R247: what the client asks for a task is not passed on; who leaves cancels the task.
#[tokio::test]
async fn r247_leaving_cancels_the_task() {
    for way in WAYS {
        let place = with_tasks(way).await;
        place.upstream.on("tasks/result", Script::silent());
        place
            .upstream
            .on("tasks/cancel", Script::json(rpc::result(json!({}))));
        let client = place.client(ALICE);
        let params = json!({"name": "echo", "arguments": {}, "task": {"ttl": 1}});
        ask(&client, &request(1, "tools/call", params)).await;
        assert!(
            place.upstream.requests("tools/call:echo")[0]
                .param("/task")
                .is_null()
        );
        let connection = send(&client, &call(2, "long")).await;
        place.upstream.nth("tasks/result", 0).await;
        connection.close();
        let cancelled = place.upstream.nth("tasks/cancel", 0).await;
        assert_eq!(*cancelled.param("/taskId"), json!("t-1"), "{way:?}");
    }
}

/// R250: a server that is silent for too long loses the request, and is told; a client that is asked is
/// waited for.
#[tokio::test]
async fn r250_silence_ends_a_request() {
    let soon = Duration::from_millis(300);
    for way in WAYS {
        let impatient = |spec: &mut UpstreamSpec| match &mut spec.reached {
            Reached::Http(http) => {
                http.client.request_timeout = soon;
                if way == Way::Sessions {
                    // Else all messages come on one stream, whose silence is the end of all.
                    http.client.stream_idle_timeout = soon;
                }
            }
            Reached::Stdio(child) => child.request_timeout = soon,
        };
        let place = Place::with(way, |_| {}, impatient).await;
        let client = place.client(ALICE);
        let parked = call(1, "ask");
        let first = asked(&client, &parked).await;
        let mut late = client.post_modern(&call(2, "slow")).await;
        assert_eq!(late.status, 504);
        let error = late.answer().await["error"].clone();
        assert_eq!(error["code"], -32603, "{way:?} {error}");
        assert_eq!(
            error["data"],
            json!({"reason": "upstream_timeout", "upstream": "up"})
        );
        place.upstream.nth("notifications/cancelled", 0).await;
        let again = retry(3, &parked, &first, &answers(&first, &accepted()));
        let done = ask(&client, &again).await;
        assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
    }
}

/// R250, `stream_idle`: a call that is answered by an event stream may be silent for as long as that may.
#[tokio::test]
async fn r250_a_stream_may_be_silent_for_longer() {
    let place = Place::with(
        Way::Sessions,
        |_| {},
        |spec| {
            if let Reached::Http(http) = &mut spec.reached {
                http.client.request_timeout = Duration::from_millis(300);
            }
        },
    )
    .await;
    let client = place.client(ALICE);
    let gate = Gate::new();
    let streamed = Script::events().read_by_peer().wait(&gate);
    let streamed = streamed.message(rpc::text_result("done"));
    place.upstream.on("tools/call:echo", streamed);
    place.upstream.on("tools/call:silent", Script::silent());
    let asked = client.post_modern(&call(1, "echo"));
    let cut = async {
        gate.reached().await;
        // It begins later, and its time is over.
        let cut = client.post_modern(&call(2, "silent")).await;
        gate.open();
        cut
    };
    let (mut asked, cut) = tokio::join!(asked, cut);
    assert_eq!(cut.status, 504);
    let answer = asked.answer().await;
    assert_eq!(answer["result"]["content"][0]["text"], "done", "{answer}");
}
