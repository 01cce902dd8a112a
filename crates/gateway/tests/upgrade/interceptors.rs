//! Interceptors see in front of a server of 2026-07-28 what its client says and hears, and batches are split as
//! ever.

use serde_json::{Value, json};
use thinpipe_gateway::UpstreamSpec;
use thinpipe_testkit::rpc;

use crate::client::{Binding, Caller, able};
use crate::front::Front;
use crate::over_both_bindings;

/// Refuses a tool, questions, answers and log lines, and hides a part of an answer.
fn intercept(spec: &mut UpstreamSpec) {
    let reject = |when: Value| json!({"when": when, "then": [{"reject": {"message": "no"}}]});
    let rules = json!({"type": "rules", "rules": [
        reject(json!({"methods": ["tools/call"], "names": ["echo"]})),
        reject(json!({"methods": ["sampling/createMessage"]})),
        reject(json!({"methods": ["notifications/message"]})),
        reject(json!({"methods": ["roots/list"], "direction": "to_upstream"})),
    ]});
    let redact = json!({"type": "redact", "rules": [
        {"pointer": "/result/structuredContent/answers", "methods": ["tools/call"]},
    ]});
    for config in [rules, redact] {
        let config = serde_json::from_value(config).expect("an interceptor");
        spec.interceptors.push(config);
    }
}

over_both_bindings! {
    /// E1, E2: requests, questions, answers and notifications are what the client knows of them.
    e1_interceptors_see_what_the_client_sees,
    /// R085: an array is split, and its answers come together, or each by itself on the one stream.
    r085_arrays_of_messages,
}

mod scenario {
    use super::*;

    pub(super) async fn e1_interceptors_see_what_the_client_sees(binding: Binding) {
        let front = Front::with(intercept, |_| {}).await;
        let mut caller = Caller::begin(&front, binding).await;
        let refused = caller.answer(rpc::call(1, "echo")).await;
        assert_eq!(
            (&refused["id"], &refused["error"]["message"]),
            (&json!(1), &json!("no"))
        );
        assert!(front.upstream.requests("tools/call:echo").is_empty());

        caller
            .result(2, "logging/setLevel", json!({"level": "debug"}))
            .await;
        let logged = caller.answer(rpc::call(3, "log")).await;
        assert_eq!(logged["id"], 3, "no line was shown");
        // A question that is not shown, and an answer that does not go up.
        let refused = caller.answer(rpc::call(4, "sample")).await;
        assert_eq!(refused["result"]["isError"], true, "{refused}");
        let mut asked = caller.ask(rpc::call(5, "roots")).await;
        let question = caller.next(&mut asked).await;
        caller.reply(&question, json!({"roots": []})).await;
        assert_eq!(caller.next(&mut asked).await["result"]["isError"], true);
        for tool in ["sample", "roots"] {
            assert_eq!(
                front.upstream.requests(&format!("tools/call:{tool}")).len(),
                1
            );
        }

        let mut asked = caller.ask(rpc::call(6, "ask")).await;
        let question = caller.next(&mut asked).await;
        caller.reply(&question, json!({"action": "decline"})).await;
        let answer = caller.next(&mut asked).await;
        assert_eq!(
            answer["result"]["structuredContent"]["answers"],
            "[redacted]"
        );
    }

    pub(super) async fn r085_arrays_of_messages(binding: Binding) {
        let front = Front::start().await;
        let revision = rpc::LEGACY[2];
        let mut caller = Caller::declaring(&front, binding, revision, &able()).await;
        let batch = format!("[{},{}]", rpc::call(1, "echo"), rpc::call(2, "fail"));
        let mut asked = caller.ask(batch).await;
        let mut answers = Vec::new();
        while answers.len() < 2 {
            match caller.next(&mut asked).await {
                Value::Array(both) => answers.extend(both),
                one => answers.push(one),
            }
        }
        answers.sort_by_key(|answer| answer["id"].as_i64());
        assert_eq!(
            (&answers[0]["id"], &answers[1]["id"]),
            (&json!(1), &json!(2))
        );
        assert!(answers[0]["result"].is_object() && answers[1]["error"].is_object());
        assert_eq!(front.upstream.requests("tools/call").len(), 2);
    }
}
