//! A modern server's `input_required` before a legacy client: protocol notes 5.3.1.

use serde_json::{Value, json};
use thinpipe_testkit::{Script, rpc};

use crate::asking::accepted;
use crate::gateway::Gateway;
use crate::pairs::Pair;

rows! {
    /// R222: the next round has the original params, the state to the letter and the answers of this round.
    b r222_a_round_has_the_original_params_and_the_exact_state;
    /// R223: nothing but a state is a round too, and where there is no state none is made up.
    b r223_a_round_may_be_nothing_but_a_state;
    /// R223: a server that has never had enough is cut off.
    b r223_rounds_have_an_end;
    /// R225: a client that answers with an error has ended the call, and what else was asked is withdrawn.
    b r225_an_error_of_the_client_ends_the_call;
    /// R222: a round with nothing in it, one of a method that may not ask, and a malformed one are the server's fault.
    b r222_a_round_that_is_wrong_is_not_shown;
    /// Protocol notes 5.3: a result of a kind that nobody knows.
    b r217_an_unknown_result_type_is_an_error;
    /// R227: a call that is cancelled withdraws what it has asked.
    b r227_a_cancelled_call_withdraws_its_questions;
}

async fn r222_a_round_has_the_original_params_and_the_exact_state(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mine = json!({"exact": 12_345_678_901_234_567_890_u64, "list": [1, {"a": null}]});
    let request = ("tools/call", json!({"name": "twice", "arguments": mine}));
    caller.converse(request, |_| accepted()).await;
    let calls = gateway.upstream.requests("tools/call");
    assert_eq!(calls.len(), 3);
    let mut states = Vec::new();
    for (round, call) in calls.iter().enumerate() {
        assert_eq!(*call.param("/arguments"), mine);
        let answers = match round {
            0 => Value::Null,
            1 => json!({"seat": accepted()}),
            _ => json!({"meal": accepted()}),
        };
        assert_eq!(*call.param("/inputResponses"), answers);
        states.push(call.param("/requestState").clone());
    }
    // The server checks them: this is about what it is given at first.
    assert_eq!(states[0], Value::Null);
    assert!(
        states[1].is_string() && states[1] != states[2],
        "{states:?}"
    );
}

async fn r223_a_round_may_be_nothing_but_a_state(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let result = caller
        .result(1, "tools/call", json!({"name": "state"}))
        .await;
    assert_eq!(result["content"][0]["text"], "answered");
    let calls = gateway.upstream.requests("tools/call:state");
    assert_eq!(calls.len(), 2);
    assert!(calls[1].param("/requestState").is_string());
    assert_eq!(calls[1].json()["params"].get("inputResponses"), None);

    let question = json!({"method": "roots/list", "params": {}});
    let round = json!({"resultType": "input_required", "inputRequests": {"r": question}});
    gateway
        .upstream
        .once("tools/call:echo", Script::json(rpc::result(round)));
    let request = ("tools/call", json!({"name": "echo"}));
    caller.converse(request, |_| json!({"roots": []})).await;
    let again = gateway
        .upstream
        .requests("tools/call:echo")
        .pop()
        .expect("it came");
    assert_eq!(*again.param("/inputResponses"), json!({"r": {"roots": []}}));
    assert_eq!(again.json()["params"].get("requestState"), None);
}

async fn r223_rounds_have_an_end(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let request = ("tools/call", json!({"name": "endless"}));
    let (asked, result) = caller.converse(request, |_| accepted()).await;
    assert_eq!(result["isError"], true, "{result}");
    assert_eq!(asked.len(), 10);
}

async fn r225_an_error_of_the_client_ends_the_call(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask(1, "tools/call", json!({"name": "both"})).await;
    let first = caller.next(&mut asked).await;
    let second = caller.next(&mut asked).await;
    let error = json!({"code": -1, "message": "the user is out"});
    let refusal = json!({"jsonrpc": "2.0", "id": first["id"], "error": error});
    caller.tell(refusal).await;
    let (before, answer) = caller.all(&mut asked).await;
    let withdrawn: Vec<&Value> = before
        .iter()
        .map(|message| &message["params"]["requestId"])
        .collect();
    assert_eq!(withdrawn, [&second["id"]], "{before:?}");
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    // What comes too late is taken, and goes nowhere.
    caller
        .tell(rpc::response(second["id"].clone(), &accepted()))
        .await;

    let mut asked = caller.ask(2, "prompts/get", json!({"name": "ask"})).await;
    let question = caller.next(&mut asked).await;
    caller
        .tell(json!({"jsonrpc": "2.0", "id": question["id"], "error": error}))
        .await;
    let (_, answer) = caller.all(&mut asked).await;
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    assert_eq!(answer["error"]["data"]["cause"], error, "{answer}");
    assert_eq!(gateway.upstream.record().count("tools/call"), 1);
    assert_eq!(gateway.upstream.record().count("prompts/get"), 1);
}

async fn r222_a_round_that_is_wrong_is_not_shown(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let form =
        json!({"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}});
    let wrong = [
        json!({}),
        json!({"inputRequests": {}}),
        json!({"inputRequests": {"a": form, "b": {"method": "tools/list", "params": {}}}}),
        json!({"inputRequests": {"a": form, "b": "roots/list"}}),
    ];
    for (id, mut round) in wrong.into_iter().enumerate() {
        round["resultType"] = "input_required".into();
        gateway
            .upstream
            .once("tools/call:echo", Script::json(rpc::result(round.clone())));
        let refused = caller
            .answer(id, "tools/call", json!({"name": "echo"}))
            .await;
        assert_eq!(refused["error"]["code"], -32603, "{round}: {refused}");
    }
    let round = json!({"resultType": "input_required", "inputRequests": {"a": form}});
    gateway
        .upstream
        .once("completion/complete", Script::json(rpc::result(round)));
    let refused = caller
        .answer("complete", "completion/complete", json!({"ref": {}}))
        .await;
    assert_eq!(refused["error"]["code"], -32603, "{refused}");
}

async fn r217_an_unknown_result_type_is_an_error(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let result = rpc::result(json!({"resultType": "of tomorrow", "content": []}));
    gateway
        .upstream
        .once("tools/call:echo", Script::json(result));
    let refused = caller
        .answer(1, "tools/call", json!({"name": "echo"}))
        .await;
    assert_eq!(refused["error"]["code"], -32603, "{refused}");
}

async fn r227_a_cancelled_call_withdraws_its_questions(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask(1, "tools/call", json!({"name": "ask"})).await;
    let question = caller.next(&mut asked).await;
    let params = json!({"requestId": 1});
    caller
        .tell(rpc::notification("notifications/cancelled", &params))
        .await;
    let withdrawn = caller.next(&mut asked).await;
    assert_eq!(withdrawn["method"], "notifications/cancelled");
    assert_eq!(withdrawn["params"]["requestId"], question["id"]);
    caller
        .tell(rpc::response(question["id"].clone(), &accepted()))
        .await;
    caller
        .result(2, "tools/call", json!({"name": "echo"}))
        .await;
    assert_eq!(gateway.upstream.record().count("tools/call:ask"), 1);
}
