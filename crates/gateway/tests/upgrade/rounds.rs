//! What the server asks in results, asked of the client.

use serde_json::{Value, json};
use thinpipe_testkit::rpc;

use crate::client::{Binding, Caller};
use crate::front::Front;
use crate::over_both_bindings;

over_both_bindings! {
    /// R222: real server requests, and a retry with the same keys, the exact state, a new id, the original
    /// params.
    r222_questions_are_asked_and_their_answers_go_up,
    /// R223: rounds with a state alone are paced, and rounds without end have one.
    r223_rounds_are_paced_and_have_an_end,
    /// R224: what was not declared is never asked, nor declared.
    r224_what_was_not_declared_is_not_asked,
    /// R225: the client's error ends the call, a refusal of the user is an answer.
    r225_errors_and_refusals_of_the_client,
    /// R226: an elicitation at a URL has an id in 2025-11-25.
    r226_an_elicitation_at_a_url_has_an_id,
    /// R227: the questions of a cancelled call are taken back.
    r227_questions_of_a_cancelled_call_are_taken_back,
}

mod scenario {
    use super::*;

    pub(super) async fn r222_questions_are_asked_and_their_answers_go_up(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        let mut asked = caller
            .ask(rpc::call_with(7, "both", &json!({"n": 1})))
            .await;
        let mut answers = json!({});
        for _ in 0..2 {
            let question = caller.next(&mut asked).await;
            assert!(
                question["params"]["_meta"]["progressToken"].is_i64(),
                "{question}"
            );
            let (key, answer) = match question["method"].as_str() {
                Some("elicitation/create") => (
                    "seat",
                    json!({"action": "accept", "content": {"answer": "4A"}}),
                ),
                Some("sampling/createMessage") => {
                    let content = json!({"type": "text", "text": "Roses"});
                    (
                        "poem",
                        json!({"role": "assistant", "content": content, "model": "m"}),
                    )
                }
                method => panic!("nobody asks for {method:?}"),
            };
            answers[key] = answer.clone();
            caller.reply(&question, answer).await;
        }
        let answer = caller.next(&mut asked).await;
        assert_eq!(
            (
                &answer["id"],
                &answer["result"]["structuredContent"]["answers"]
            ),
            (&json!(7), &answers)
        );
        let calls = front.upstream.requests("tools/call:both");
        assert_eq!(calls.len(), 2);
        assert_ne!(calls[0].id_text(), calls[1].id_text());
        assert_eq!(*calls[1].param("/arguments"), json!({"n": 1}));
        assert_eq!(*calls[1].param("/inputResponses"), answers);
        assert!(calls[1].param("/requestState").is_string());

        // Another method, and two rounds one after the other.
        let mut asked = caller
            .ask(rpc::request(8, "prompts/get", &json!({"name": "ask"})))
            .await;
        let question = caller.next(&mut asked).await;
        caller.reply(&question, json!({"action": "decline"})).await;
        assert_eq!(caller.next(&mut asked).await["id"], 8);
        let mut asked = caller.ask(rpc::call(9, "twice")).await;
        for _ in 0..2 {
            let question = caller.next(&mut asked).await;
            caller
                .reply(&question, json!({"action": "accept", "content": {}}))
                .await;
        }
        let answer = caller.next(&mut asked).await;
        let last = &answer["result"]["structuredContent"]["answers"];
        assert_eq!(
            last.as_object().unwrap().len(),
            1,
            "never the answers of another round"
        );
    }

    pub(super) async fn r223_rounds_are_paced_and_have_an_end(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        let answer = caller.answer(rpc::call(1, "state")).await;
        assert!(answer["result"].is_object(), "{answer}");
        let calls = front.upstream.requests("tools/call:state");
        assert_eq!(calls.len(), 2);
        let pause = calls[1].at - calls[0].at;
        assert!(pause >= std::time::Duration::from_millis(200), "{pause:?}");
        assert_eq!(*calls[1].param("/inputResponses"), Value::Null);

        let mut asked = caller.ask(rpc::call(2, "endless")).await;
        let mut rounds = 0;
        let answer = loop {
            let message = caller.next(&mut asked).await;
            if message["id"] == 2 && message["method"].is_null() {
                break message;
            }
            rounds += 1;
            caller
                .reply(&message, json!({"action": "accept", "content": {}}))
                .await;
        };
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        assert_eq!(rounds, 10);
        assert_eq!(front.upstream.requests("tools/call:endless").len(), 11);
    }

    pub(super) async fn r224_what_was_not_declared_is_not_asked(binding: Binding) {
        let front = Front::start().await;
        let declared = json!({"elicitation": {}, "sampling": {}});
        let revision = rpc::LEGACY[1];
        let mut caller = Caller::declaring(&front, binding, revision, &declared).await;
        let answer = caller.answer(rpc::call(1, "undeclared")).await;
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
        let answer = caller.answer(rpc::call(2, "roots")).await;
        assert_eq!(answer["error"]["code"], -32021, "{answer}");
        assert!(
            answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains("roots")
        );
        for request in front.upstream.requests("tools/call") {
            assert_eq!(*request.declared(), declared);
        }
    }

    pub(super) async fn r225_errors_and_refusals_of_the_client(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        let mut asked = caller.ask(rpc::call(1, "ask")).await;
        let question = caller.next(&mut asked).await;
        let error = json!({"code": -1, "message": "not now"});
        let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": error});
        caller.tell(refusal).await;
        let answer = caller.next(&mut asked).await;
        assert_eq!(answer["result"]["isError"], true, "{answer}");

        let mut asked = caller
            .ask(rpc::request(2, "prompts/get", &json!({"name": "ask"})))
            .await;
        let question = caller.next(&mut asked).await;
        caller
            .tell(json!({"jsonrpc": "2.0", "id": question["id"], "error": error}))
            .await;
        let answer = caller.next(&mut asked).await;
        assert_eq!(answer["error"]["code"], -32603);
        assert_eq!(answer["error"]["data"]["cause"], error);

        let mut asked = caller.ask(rpc::call(3, "ask")).await;
        let question = caller.next(&mut asked).await;
        caller.reply(&question, json!({"action": "decline"})).await;
        let answer = caller.next(&mut asked).await;
        let seat = &answer["result"]["structuredContent"]["answers"]["seat"];
        assert_eq!(*seat, json!({"action": "decline"}));
    }

    pub(super) async fn r226_an_elicitation_at_a_url_has_an_id(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        let mut asked = caller.ask(rpc::call(1, "url")).await;
        let question = caller.next(&mut asked).await;
        let id = question["params"]["elicitationId"].clone();
        assert_eq!(id.as_str().map(str::len), Some(36), "{question}");
        caller.reply(&question, json!({"action": "accept"})).await;
        let notice = caller.next(&mut asked).await;
        assert_eq!(notice["method"], "notifications/elicitation/complete");
        assert_eq!(notice["params"]["elicitationId"], id);
        assert_eq!(caller.next(&mut asked).await["id"], 1);
    }

    pub(super) async fn r227_questions_of_a_cancelled_call_are_taken_back(binding: Binding) {
        let front = Front::start().await;
        let mut caller = Caller::begin(&front, binding).await;
        let mut asked = caller.ask(rpc::call(1, "ask")).await;
        let question = caller.next(&mut asked).await;
        caller.cancel(1).await;
        let notice = caller.next(&mut asked).await;
        assert_eq!(notice["method"], "notifications/cancelled");
        assert_eq!(notice["params"]["requestId"], question["id"]);
        caller
            .reply(&question, json!({"action": "accept", "content": {}}))
            .await;
        assert_eq!(caller.result(2, "ping", json!({})).await, json!({}));
        assert_eq!(front.upstream.requests("tools/call:ask").len(), 1);
    }
}
