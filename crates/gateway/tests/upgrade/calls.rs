//! The handshake, and requests that are calls.

use serde_json::{Value, json};
use thinpipe_testkit::{Outcome, Script, rpc};

use crate::client::{Binding, Caller, able};
use crate::front::Front;
use crate::over_both_bindings;

over_both_bindings! {
    /// R216: `initialize` is answered from `server/discover`; nothing modern, and no tasks, leak.
    r216_initialize_is_answered_from_discover,
    /// R217, R218, R219: results in the legacy shape, log lines once a level is set, `ping` here.
    r217_results_are_legacy_and_logs_have_a_level,
    /// R249: progress comes with the client's token, and stays with its client.
    r249_progress_of_two_clients_with_equal_ids,
    /// R227: a cancelled call is closed at the server, and not answered.
    r227_a_cancelled_call_is_closed,
    /// R228: an error that is 404 at the server is 200 here.
    r228_an_unknown_method_is_no_lost_session,
    /// R140, R141: headers of arguments are made from the schema; tools that break its rules are not there.
    r140_arguments_are_repeated_in_headers,
    /// R247: no tasks.
    r247_tasks_are_off,
    /// Protocol notes 5.3, last row: the end of a session closes what runs for it.
    the_end_of_a_session_closes_its_calls,
}

fn meta<'a>(request: &'a thinpipe_testkit::Request, key: &str) -> &'a Value {
    request.param("/_meta").get(key).unwrap_or(&Value::Null)
}

mod scenario {
    use super::*;

    pub(super) async fn r216_initialize_is_answered_from_discover(binding: Binding) {
        let front = Front::start().await;
        let initialize = rpc::initialize_declaring(0, rpc::LEGACY[0], &able());
        let (_first, said) = Caller::connect(&front, binding, initialize).await;
        assert_eq!(said["protocolVersion"], rpc::LEGACY[0]);
        assert_eq!(said["serverInfo"]["name"], "counting-upstream");
        assert_eq!(said["instructions"], "Ask for a seat.");
        assert_eq!(said["capabilities"]["resources"]["subscribe"], true);
        for leak in [
            "resultType",
            "ttlMs",
            "cacheScope",
            "supportedVersions",
            "_meta",
        ] {
            assert_eq!(said.get(leak), None, "{leak}");
        }
        // Once it is known that the server has no sessions, nobody tries.
        let tries = front.upstream.requests("initialize").len();
        let _second = Caller::declaring(&front, binding, rpc::LEGACY[1], &json!({})).await;
        assert_eq!(front.upstream.requests("initialize").len(), tries);
        assert!(tries <= 1);
    }

    pub(super) async fn r217_results_are_legacy_and_logs_have_a_level(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        assert_eq!(caller.result(1, "ping", json!({})).await, json!({}));
        let listed = caller.result(2, "resources/list", json!({})).await;
        assert_eq!(listed["resources"].as_array().unwrap().len(), 2);
        for leak in ["resultType", "ttlMs", "cacheScope"] {
            assert_eq!(listed.get(leak), None, "{leak}");
        }
        let logged = caller.answer(rpc::call(3, "log")).await;
        assert_eq!(logged["id"], 3, "no line before a level is set");
        let request = front.upstream.nth("tools/call:log", 0).await;
        assert_eq!(*meta(&request, rpc::LOG_LEVEL), Value::Null);

        let set = json!({"level": "error"});
        assert_eq!(caller.result(4, "logging/setLevel", set).await, json!({}));
        let mut asked = caller.ask(rpc::call(5, "log")).await;
        let line = caller.next(&mut asked).await;
        assert_eq!(line["params"]["data"], "a line of error");
        assert_eq!(caller.next(&mut asked).await["id"], 5);
        let request = front.upstream.nth("tools/call:log", 1).await;
        assert_eq!(*meta(&request, rpc::LOG_LEVEL), "error");
        assert!(front.upstream.requests("ping").is_empty());
        assert!(front.upstream.requests("logging/setLevel").is_empty());
    }

    pub(super) async fn r249_progress_of_two_clients_with_equal_ids(binding: Binding) {
        let front = Front::start().await;
        let mut callers = Vec::new();
        for _ in 0..2 {
            let caller = Caller::begin(&front, binding).await;
            let asked = caller.ask(rpc::call(7, "progress")).await;
            callers.push((caller, asked));
        }
        for (mut caller, mut asked) in callers {
            for step in 1..=3 {
                let progress = caller.next(&mut asked).await;
                assert_eq!(progress["params"]["progressToken"], 7);
                assert_eq!(progress["params"]["progress"], step);
            }
            let answer = caller.next(&mut asked).await;
            assert_eq!(answer["id"], 7);
            assert_eq!(answer["result"].get("resultType"), None);
        }
    }

    pub(super) async fn r227_a_cancelled_call_is_closed(binding: Binding) {
        let front = Front::start().await;
        let gate = front.upstream.gate("slow");
        let mut caller = Caller::begin(&front, binding).await;
        let asked = caller.ask(rpc::call(7, "slow")).await;
        gate.reached().await;
        caller.cancel(7).await;
        let is_closed = |record: &thinpipe_testkit::Record| {
            record.outcome("tools/call:slow") == Some(Outcome::Cancelled)
        };
        front.upstream.wait_until(is_closed).await;
        if let crate::client::Asked::Waiting(connection) = asked {
            let mut response = connection.response().await;
            assert!(response.is_stream());
            let (events, end) = response.events_to_end().await;
            let messages: Vec<_> = events.iter().filter_map(|e| e.data.as_deref()).collect();
            assert!(messages.iter().all(|data| data.is_empty()), "{messages:?}");
            assert_eq!(end, Ok(()));
        }
        assert_eq!(caller.result(8, "ping", json!({})).await, json!({}));
    }

    pub(super) async fn r228_an_unknown_method_is_no_lost_session(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        let answer = caller.answer(rpc::request(1, "no/such", &json!({}))).await;
        assert_eq!(answer["error"]["code"], -32601);
        let missing = json!({"uri": "file:///none"});
        let answer = caller
            .answer(rpc::request(2, "resources/read", &missing))
            .await;
        assert_eq!(answer["error"]["code"], -32602);
        assert_eq!(caller.result(3, "ping", json!({})).await, json!({}));
    }

    pub(super) async fn r140_arguments_are_repeated_in_headers(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        let region = json!({"region": "eu"});
        let answer = caller.answer(rpc::call_with(1, "region", &region)).await;
        assert_eq!(answer["result"]["content"][0]["text"], "eu", "{answer}");
        let request = front.upstream.nth("tools/call:region", 0).await;
        assert_eq!(request.headers.get("Mcp-Param-Region"), Some("eu"));
        assert_eq!(request.headers.get("Mcp-Session-Id"), None);
        assert_eq!(front.upstream.requests("tools/list").len(), 1);

        let listed = caller.result(2, "tools/list", json!({})).await;
        let tools = listed["tools"].as_array().unwrap();
        assert!(tools.iter().all(|tool| tool["name"] != "bad_header"));
        let numbers = tools.iter().find(|tool| tool["name"] == "numbers").unwrap();
        assert_eq!(numbers.get("outputSchema"), None, "protocol notes 5.3.2");
        let answer = caller.answer(rpc::call(3, "bad_header")).await;
        assert_eq!(answer["error"]["code"], -32602);
        let answer = caller.answer(rpc::call(4, "numbers")).await;
        assert_eq!(answer["result"]["content"][0]["text"], "[1,2]", "{answer}");
        assert_eq!(answer["result"].get("structuredContent"), None);
        assert_eq!(front.upstream.requests("tools/list").len(), 2);
    }

    pub(super) async fn r247_tasks_are_off(binding: Binding) {
        let front = Front::start().await;
        let required = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
        let missing = rpc::error_with(-32021, "tasks", &json!({"requiredCapabilities": required}));
        let refusal = Script::status(400)
            .content_type("application/json")
            .whole(missing);
        front.upstream.once("tools/call:echo", refusal);
        let task = json!({"resultType": "task", "taskId": "t", "status": "working", "pollIntervalMs": 100});
        front
            .upstream
            .once("tools/call:echo", Script::json(rpc::result(task)));
        let done = json!({
            "resultType": "complete", "taskId": "t", "status": "completed",
            "result": {"content": [{"type": "text", "text": "at last"}]},
        });
        front
            .upstream
            .on("tasks/get", Script::json(rpc::result(done)));

        let mut caller = Caller::begin(&front, binding).await;
        let params = json!({"name": "echo", "arguments": {}, "task": {"ttl": 1}});
        let result = caller.result(1, "tools/call", params).await;
        assert_eq!(result["content"][0]["text"], "at last");
        for request in front.upstream.requests("tools/call:echo") {
            assert_eq!(*request.param("/task"), Value::Null);
        }
        let get = front.upstream.nth("tasks/get", 0).await;
        assert_eq!(get.headers.get("Mcp-Name"), Some("t"), "R248");
        let answer = caller
            .answer(rpc::request(2, "tasks/get", &json!({"taskId": "t"})))
            .await;
        assert_eq!(answer["error"]["code"], -32601);
    }

    pub(super) async fn the_end_of_a_session_closes_its_calls(binding: Binding) {
        let front = Front::start().await;
        let gate = front.upstream.gate("slow");
        let mut caller = Caller::begin(&front, binding).await;
        caller.listen().await;
        front.upstream.nth("subscriptions/listen", 0).await;
        let _asked = caller.ask(rpc::call(7, "slow")).await;
        gate.reached().await;
        caller.end().await;
        let both = |record: &thinpipe_testkit::Record| {
            let of = |what| record.outcome(what) == Some(Outcome::Cancelled);
            of("tools/call:slow") && of("subscriptions/listen")
        };
        front.upstream.wait_until(both).await;
    }
}
