//! What a server asks its client while a request runs: a server request in one era, `input_required` in the
//! other.

use serde_json::{Value, json};

use crate::caller::Introduction;
use crate::gateway::Gateway;
use crate::pairs::Pair;

rows! {
    /// R210, R222, R233: a question and its answer, in each side's own way; the call has run once.
    all r222_r233_a_call_that_asks_is_answered;
    /// R222, R233: prompts and resources may ask too.
    all r222_r233_prompts_and_resources_may_ask;
    /// R222, R233: several questions at once.
    all r222_r233_questions_may_come_together;
    /// R222, R233: one question after the other.
    all r222_r233_questions_may_follow_each_other;
    /// R222, R233: sampling and roots.
    all r222_r233_sampling_and_roots_are_asked_for;
    /// R225: a user who declines has answered.
    all r225_what_is_declined_is_an_answer;
    /// R226 and protocol notes 5.4.2: `elicitationId` belongs to 2025-11-25, and stays there.
    all r226_an_elicitation_by_url_has_an_id_where_there_are_any;
    /// R224, R236: what the client has not declared is not asked of it.
    a_pipes_bc r224_r236_what_is_not_declared_is_not_asked;
}

/// What every scenario's user says.
pub(crate) fn accepted() -> Value {
    json!({"action": "accept", "content": {"answer": "4A"}})
}

fn call(tool: &str) -> (&'static str, Value) {
    (
        "tools/call",
        json!({"name": tool, "arguments": {"of": "mine"}}),
    )
}

async fn r222_r233_a_call_that_asks_is_answered(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let (asked, result) = caller.converse(call("ask"), |_| accepted()).await;
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["method"], "elicitation/create");
    assert_eq!(asked[0]["params"]["message"], "Seat?");
    assert_eq!(result["structuredContent"]["answers"]["seat"], accepted());
    assert_eq!(result["content"][0]["text"], "answered");
    // A stateless server is called again for each round, another one never.
    let calls = gateway.upstream.requests("tools/call");
    assert_eq!(calls.len(), if pair.server.is_modern() { 2 } else { 1 });
    for call in &calls {
        assert_eq!(*call.param("/arguments"), json!({"of": "mine"}));
    }
    let ids: std::collections::HashSet<_> = calls.iter().map(|call| call.id_text()).collect();
    if !pair.client.is_modern() {
        assert_eq!(ids.len(), calls.len(), "ids are new: {ids:?}");
    }
}

async fn r222_r233_prompts_and_resources_may_ask(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    for request in [
        ("prompts/get", json!({"name": "ask"})),
        ("resources/read", json!({"uri": "ask:///"})),
    ] {
        let (asked, result) = caller.converse(request, |_| accepted()).await;
        assert_eq!(asked.len(), 1, "{result}");
        assert_eq!(result["structuredContent"]["answers"]["seat"], accepted());
    }
}

async fn r222_r233_questions_may_come_together(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let sampled =
        json!({"role": "assistant", "content": {"type": "text", "text": "roses"}, "model": "m"});
    let answer = |question: &Value| match question["method"].as_str() {
        Some("sampling/createMessage") => sampled.clone(),
        _ => accepted(),
    };
    let (asked, result) = caller.converse(call("both"), answer).await;
    assert_eq!(asked.len(), 2, "{asked:?}");
    let answers = json!({"seat": accepted(), "poem": sampled});
    assert_eq!(result["structuredContent"]["answers"], answers);
}

async fn r222_r233_questions_may_follow_each_other(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let answer = |question: &Value| {
        let message = &question["params"]["message"];
        json!({"action": "accept", "content": {"answer": message}})
    };
    let (asked, result) = caller.converse(call("twice"), answer).await;
    let messages: Vec<&Value> = asked
        .iter()
        .map(|asked| &asked["params"]["message"])
        .collect();
    assert_eq!(messages, ["Seat?", "Meal?"]);
    assert_eq!(
        result["structuredContent"]["answers"]["meal"]["content"]["answer"],
        "Meal?"
    );
}

async fn r222_r233_sampling_and_roots_are_asked_for(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let sampled =
        json!({"role": "assistant", "content": {"type": "text", "text": "roses"}, "model": "m"});
    let (asked, result) = caller.converse(call("sample"), |_| sampled.clone()).await;
    assert_eq!(asked[0]["params"]["maxTokens"], 100);
    assert_eq!(result["structuredContent"]["answers"]["poem"], sampled);
    let roots = json!({"roots": [{"uri": "file:///home"}]});
    let (asked, result) = caller.converse(call("roots"), |_| roots.clone()).await;
    assert_eq!(asked[0]["method"], "roots/list");
    assert_eq!(result["structuredContent"]["answers"]["roots"], roots);
}

async fn r225_what_is_declined_is_an_answer(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    for action in ["decline", "cancel"] {
        let said = json!({"action": action});
        let (_, result) = caller.converse(call("ask"), |_| said.clone()).await;
        assert_eq!(result["structuredContent"]["answers"]["seat"], said);
    }
}

async fn r226_an_elicitation_by_url_has_an_id_where_there_are_any(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let (asked, _) = caller
        .converse(call("url"), |_| json!({"action": "accept"}))
        .await;
    assert_eq!(asked[0]["params"]["mode"], "url");
    let has_id = asked[0]["params"]["elicitationId"].is_string();
    assert_eq!(has_id, !pair.client.is_modern(), "{asked:?}");
}

// In front of a legacy server with sessions, messages of legacy clients are relayed as they are: nobody judges
// what the server asks, and the client answers for itself.
async fn r224_r236_what_is_not_declared_is_not_asked(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let who = Introduction::declaring(json!({"sampling": {}}));
    let mut caller = gateway.caller_who(&who).await;
    // A server that asks for tools in sampling all the same.
    let mut asked = caller
        .ask(1, "tools/call", json!({"name": "undeclared"}))
        .await;
    let (before, answer) = caller.all(&mut asked).await;
    assert_eq!(
        before,
        Vec::<Value>::new(),
        "nothing is shown to the client"
    );
    if pair.server.is_modern() {
        assert_eq!(answer["error"]["code"], -32603, "{answer}");
    } else {
        // The server has been refused, and has answered all the same.
        let refused = &answer["result"]["structuredContent"]["answers"]["tooled"];
        assert_eq!(refused["code"], -32602, "{answer}");
    }
}
