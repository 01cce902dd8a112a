//! A legacy server's requests before a modern client, and the sessions they come from: protocol notes 5.4.

use serde_json::{Value, json};
use thinpipe_testkit::{Record, Request, Script, rpc};

use crate::asking::accepted;
use crate::caller::{Caller, Introduction};
use crate::calling::{ALICE, BOB, WITH_TOKENS};
use crate::gateway::Gateway;
use crate::pairs::Pair;

rows! {
    /// R230: one session of a principal carries its requests; other capabilities have another.
    c r230_a_session_is_one_of_principal_and_capabilities;
    /// R231: no two principals share a session, and who has no name has one for each request.
    c r231_principals_share_no_session;
    /// R234: a state that was tampered with, used before, or is another's, or goes with another call.
    c r234_a_state_is_good_for_one_retry_of_its_own_call;
    /// R234: answers of a wrong form change nothing.
    c r234_malformed_answers_leave_the_state_good;
    /// R235: a list may not ask.
    c r235_what_may_not_ask_is_refused_at_the_server;
    /// R235: nor may a server when nothing runs.
    c r235_a_question_out_of_nothing_is_refused;
    /// R236: what the client has not declared is refused at the server.
    c r236_an_undeclared_question_is_refused_at_the_server;
    /// R237: a URL that must be visited first is asked for; the call runs again after it.
    c r237_a_url_that_must_be_visited_is_asked_for;
    /// R237: a client that cannot visit any is told what it lacks.
    c r237_without_urls_a_capability_is_missing;
    /// R238: a client that leaves while its call is parked has left nothing.
    c r238_a_parked_call_outlives_its_connection;
    /// R233: some answers now, the rest later.
    c r233_missing_answers_are_asked_for_again;
    /// R233: the eleventh round is one too many.
    c r233_rounds_have_an_end;
    /// 5.7, O7: `mrtr = "off"`, and a server is not told that it may ask.
    c r236_without_rounds_nothing_may_be_asked;
}

/// Calls a tool until it asks. Gives the result that asks.
async fn until_asked(caller: &mut Caller, tool: &str) -> Value {
    let params = json!({"name": tool, "arguments": {"of": "mine"}});
    let result = caller.result("first", "tools/call", params).await;
    assert_eq!(result["resultType"], "input_required", "{result}");
    assert!(result["requestState"].is_string(), "{result}");
    result
}

/// The key of the only question.
fn key_of(result: &Value) -> String {
    let asked = result["inputRequests"].as_object().expect("questions");
    assert_eq!(asked.len(), 1, "{result}");
    asked.keys().next().cloned().expect("a question")
}

fn retry(tool: &str, state: &Value, answers: Value) -> Value {
    json!({
        "name": tool,
        "arguments": {"of": "mine"},
        "requestState": state,
        "inputResponses": answers,
    })
}

async fn r230_a_session_is_one_of_principal_and_capabilities(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let declarations = [
        json!({"sampling": {}}),
        json!({"elicitation": {}}),
        json!({"elicitation": {"form": {}}}),
    ];
    for (id, declared) in declarations.into_iter().enumerate() {
        let who = Introduction {
            declared,
            ..Introduction::with_token(ALICE)
        };
        let mut caller = gateway.caller_who(&who).await;
        for round in 0..2 {
            caller
                .result(
                    format!("{id} {round}"),
                    "tools/call",
                    json!({"name": "echo"}),
                )
                .await;
        }
    }
    let calls = gateway.upstream.requests("tools/call");
    let sessions: Vec<_> = calls.iter().map(|call| call.session()).collect();
    assert_eq!(sessions[0], sessions[1]);
    assert_ne!(sessions[0], sessions[2]);
    assert_eq!(
        sessions[2..],
        [sessions[2]; 4],
        "an empty object means forms"
    );
    let opened = gateway.upstream.requests("initialize");
    assert!(
        opened
            .iter()
            .all(|opened| opened.param("/protocolVersion") == "2025-11-25")
    );
    let declared: Vec<&Value> = opened
        .iter()
        .map(|opened| opened.param("/capabilities"))
        .collect();
    assert!(declared.contains(&&json!({"sampling": {}})), "{declared:?}");
}

async fn r231_principals_share_no_session(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    for token in [ALICE, BOB, ALICE, BOB] {
        let mut caller = gateway.caller_who(&Introduction::with_token(token)).await;
        caller
            .result(token, "tools/call", json!({"name": "echo"}))
            .await;
    }
    let calls = gateway.upstream.requests("tools/call");
    let sessions: Vec<_> = calls.iter().map(|call| call.session()).collect();
    assert_eq!((sessions[0], sessions[1]), (sessions[2], sessions[3]));
    assert_ne!(sessions[0], sessions[1]);

    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    for id in 0..2 {
        caller
            .result(id, "tools/call", json!({"name": "echo"}))
            .await;
    }
    let calls = gateway.upstream.requests("tools/call");
    assert_ne!(calls[0].session(), calls[1].session());
}

async fn r234_a_state_is_good_for_one_retry_of_its_own_call(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
    let mut other = gateway.caller_who(&Introduction::with_token(BOB)).await;
    let asked = until_asked(&mut caller, "ask").await;
    let state = asked["requestState"].clone();
    let answers = json!({key_of(&asked): accepted()});
    let mut tampered = state.as_str().expect("a state").to_owned();
    let last = if tampered.ends_with('A') { 'B' } else { 'A' };
    tampered.pop();
    tampered.push(last);
    let mut changed = retry("ask", &state, answers.clone());
    changed["arguments"] = json!({"of": "another"});
    let mut texts = Vec::new();
    let refused = [
        retry("ask", &tampered.into(), answers.clone()),
        retry("ask", &"made up".into(), answers.clone()),
        retry("echo", &state, answers.clone()),
        changed,
    ];
    for params in refused {
        texts.push(caller.answer("refused", "tools/call", params).await["error"].clone());
    }
    let foreign = retry("ask", &state, answers.clone());
    texts.push(other.answer("foreign", "tools/call", foreign).await["error"].clone());
    let right = retry("ask", &state, answers);
    let result = caller.result("right", "tools/call", right.clone()).await;
    assert_eq!(result["structuredContent"]["answers"]["seat"], accepted());
    texts.push(caller.answer("again", "tools/call", right).await["error"].clone());
    for text in &texts {
        assert_eq!(text["code"], -32602, "{text}");
        assert_eq!(text["message"], texts[0]["message"], "one text for all");
    }
    assert_eq!(
        gateway.upstream.record().count("tools/call"),
        1,
        "nothing was executed"
    );
}

async fn r234_malformed_answers_leave_the_state_good(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let asked = until_asked(&mut caller, "ask").await;
    let state = &asked["requestState"];
    let no_action = json!({key_of(&asked): {"action": "nope"}});
    for wrong in [
        json!([]),
        json!({key_of(&asked): "4A"}),
        json!("4A"),
        no_action,
    ] {
        let refused = caller
            .answer("wrong", "tools/call", retry("ask", state, wrong))
            .await;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
    }
    let answers = json!({key_of(&asked): accepted(), "unknown": {}});
    let result = caller
        .result("right", "tools/call", retry("ask", state, answers))
        .await;
    assert_eq!(result["structuredContent"]["answers"]["seat"], accepted());
}

async fn r235_what_may_not_ask_is_refused_at_the_server(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let roots = rpc::request("may i", "roots/list", &json!({}));
    let asking = Script::events().message(roots).wait_for_answer("\"may i\"");
    let list = rpc::result(json!({"tools": [], "said": rpc::answer_to("may i")}));
    gateway.upstream.on("tools/list", asking.message(list));
    let mut caller = gateway.caller().await;
    let result = caller.result(1, "tools/list", json!({})).await;
    assert_eq!(result["said"]["code"], -32603, "{result}");
}

async fn r235_a_question_out_of_nothing_is_refused(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
    caller.listen().await;
    let session = gateway.upstream.sessions().pop().expect("a session");
    let params = json!({"messages": [], "maxTokens": 1});
    let question = rpc::request("hello", "sampling/createMessage", &params);
    gateway.upstream.notify(&session, question);
    let is_answer = |request: &Request| request.id_text() == Some("\"hello\"");
    let answered = |record: &Record| record.received.iter().any(|request| is_answer(request));
    gateway.upstream.wait_until(answered).await;
    let posts = gateway.upstream.requests("POST");
    let answer = posts.iter().find(|request| is_answer(request));
    let refusal = answer.expect("it has come").json()["error"].clone();
    assert_eq!(refusal["code"], -32603, "{refusal}");
}

async fn r236_an_undeclared_question_is_refused_at_the_server(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway
        .caller_who(&Introduction::declaring(json!({})))
        .await;
    expect_no_questions(&gateway, &mut caller).await;
}

async fn r237_a_url_that_must_be_visited_is_asked_for(pair: Pair) {
    let gateway = Gateway::with(pair, WITH_TOKENS).await;
    let mut caller = gateway.caller_who(&Introduction::with_token(ALICE)).await;
    let asked = until_asked(&mut caller, "needs_url").await;
    let key = key_of(&asked);
    let question = &asked["inputRequests"][&key];
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["mode"], "url");
    assert_eq!(question["params"]["url"], "https://example.com/consent");
    assert_eq!(question["params"].get("elicitationId"), None);
    let answers = json!({key: {"action": "accept"}});
    let params = retry("needs_url", &asked["requestState"], answers);
    let mut retried = caller.ask("retry", "tools/call", params).await;
    let call = gateway.upstream.nth("tools/call:needs_url", 0).await;
    let session = call.session().expect("it was in a session");
    gateway
        .upstream
        .elicited(session, &format!("elicitation-{}", call.number));
    let answer = caller.next(&mut retried).await;
    assert_eq!(
        answer["result"]["content"][0]["text"], "been there",
        "{answer}"
    );
    assert_eq!(gateway.upstream.record().count("tools/call:needs_url"), 2);
}

async fn r237_without_urls_a_capability_is_missing(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let who = Introduction::declaring(json!({"elicitation": {}}));
    let mut caller = gateway.caller_who(&who).await;
    let mut asked = caller
        .ask(1, "tools/call", json!({"name": "needs_url"}))
        .await;
    assert_eq!(asked.status().await, Some(400));
    let error = caller.next(&mut asked).await["error"].clone();
    assert_eq!(error["code"], -32021, "{error}");
    assert_eq!(
        error["data"]["requiredCapabilities"],
        json!({"elicitation": {"url": {}}})
    );
}

async fn r238_a_parked_call_outlives_its_connection(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    // The answer is read to its end, and its connection closed, by this.
    let asked = until_asked(&mut caller, "ask").await;
    let answers = json!({key_of(&asked): accepted()});
    let params = retry("ask", &asked["requestState"], answers);
    let result = caller.result("retry", "tools/call", params).await;
    assert_eq!(result["content"][0]["text"], "answered");
    assert_eq!(
        gateway.upstream.record().count("notifications/cancelled"),
        0
    );
    assert_eq!(gateway.upstream.record().count("tools/call"), 1);
}

async fn r233_missing_answers_are_asked_for_again(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let asked = until_asked(&mut caller, "both").await;
    let questions = asked["inputRequests"]
        .as_object()
        .expect("questions")
        .clone();
    assert_eq!(questions.len(), 2, "{asked}");
    let mut questions = questions.into_iter();
    let (first, _) = questions.next().expect("two");
    let (second, question) = questions.next().expect("two");
    let params = retry("both", &asked["requestState"], json!({first: accepted()}));
    let again = caller.result("again", "tools/call", params).await;
    assert_eq!(again["resultType"], "input_required", "{again}");
    let left = again["inputRequests"].as_object().expect("questions");
    assert_eq!(
        left.values().collect::<Vec<_>>(),
        [&question],
        "{second} is asked again"
    );
    let sampled =
        json!({"role": "assistant", "content": {"type": "text", "text": "roses"}, "model": "m"});
    let answers = json!({key_of(&again): sampled});
    let params = retry("both", &again["requestState"], answers);
    let result = caller.result("last", "tools/call", params).await;
    assert_eq!(result["structuredContent"]["answers"]["seat"], accepted());
    assert_eq!(result["structuredContent"]["answers"]["poem"], sampled);
}

async fn r233_rounds_have_an_end(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mut asked = until_asked(&mut caller, "endless").await;
    for _ in 1..10 {
        let answers = json!({key_of(&asked): accepted()});
        let params = retry("endless", &asked["requestState"], answers);
        asked = caller.result("round", "tools/call", params).await;
        assert_eq!(asked["resultType"], "input_required", "{asked}");
    }
    let answers = json!({key_of(&asked): accepted()});
    let params = retry("endless", &asked["requestState"], answers);
    let end = caller.answer("last", "tools/call", params).await;
    assert_eq!(end["error"]["code"], -32603, "{end}");
    assert_eq!(
        end["error"]["data"]["reason"], "mrtr_rounds_exceeded",
        "{end}"
    );
    gateway.upstream.nth("notifications/cancelled", 0).await;
}

async fn r236_without_rounds_nothing_may_be_asked(pair: Pair) {
    let settings = crate::gateway::Settings {
        upstream: "mrtr = \"off\"",
        ..Default::default()
    };
    let gateway = Gateway::with(pair, settings).await;
    let mut caller = gateway.caller().await;
    expect_no_questions(&gateway, &mut caller).await;
}

/// The server was told that its client can do nothing, and what it asks all the same is refused.
async fn expect_no_questions(gateway: &Gateway, caller: &mut Caller) {
    let result = caller.result(1, "tools/call", json!({"name": "ask"})).await;
    assert_eq!(
        result["structuredContent"]["answers"]["seat"]["code"],
        -32601
    );
    let opened = gateway
        .upstream
        .requests("initialize")
        .pop()
        .expect("a session");
    assert_eq!(*opened.param("/capabilities"), json!({}));
}
