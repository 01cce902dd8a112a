//! Rounds of questions (protocol notes 5.3.1).

use super::*;

fn able() -> Value {
    json!({"roots": {}, "sampling": {}, "elicitation": {"form": {}, "url": {}}})
}

fn asking() -> Session {
    let mut session = Session::new(able());
    session.asks(
        7,
        "tools/call",
        json!({"name": "book", "arguments": {"n": 1}}),
    );
    session
}

fn form(message: &str) -> Value {
    let params = json!({"mode": "form", "message": message, "requestedSchema": {"type": "object"}});
    json!({"method": "elicitation/create", "params": params})
}

fn input(requests: Value, state: Value) -> Value {
    let mut result = json!({"resultType": "input_required"});
    if requests != Value::Null {
        result["inputRequests"] = requests;
    }
    if state != Value::Null {
        result["requestState"] = state;
    }
    result
}

fn prompt(request: i64, id: i64, method: &str, mut params: Value) -> String {
    params["_meta"]["progressToken"] = json!(id);
    let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    format!("{request}: {message}")
}

fn withdrawn(request: i64, id: i64) -> String {
    let params = json!({"requestId": id, "reason": "the request it belongs to is over"});
    format!(
        "{request}: {}",
        notification("notifications/cancelled", params)
    )
}

fn tool_error(request: i64, text: &str) -> String {
    let content = json!([{"type": "text", "text": text}]);
    result(json!(request), json!({"content": content, "isError": true}))
}

/// R222: real requests to the client; the retry has the same keys, the exact state, a new id and the original
/// params.
#[test]
fn r222_input_required_becomes_requests_and_a_retry() {
    let mut session = asking();
    let requests = json!({"seat": form("Seat?"), "roots": {"method": "roots/list"}});
    let asked = session.gets(1, input(requests, json!("v1.é")));
    assert_eq!(
        asked,
        [
            prompt(7, 1, "roots/list", json!({})),
            prompt(7, 2, "elicitation/create", form("Seat?")["params"].clone()),
        ]
    );
    assert!(session.answers(2, json!({"action": "decline"})).is_empty());
    let again = session.answers(1, json!({"roots": []}));
    let params = json!({
        "name": "book", "arguments": {"n": 1}, "requestState": "v1.é",
        "inputResponses": {"seat": {"action": "decline"}, "roots": {"roots": []}},
    });
    assert_eq!(again, [format!("2 tools/call {params}")]);
    assert_eq!(session.envelope["capabilities"]["roots"], json!({}));
    let answered = session.complete(2, json!({"content": []}));
    assert_eq!(answered, [result(json!(7), json!({"content": []}))]);
    session.is_quiet(0);
}

/// 5.8 (8): a session that goes on elsewhere asks under ids of its own.
#[test]
fn r222_questions_begin_after_those_of_others() {
    let mut session = Session::with(NEWEST, able(), everything(), |config| {
        config.questions_after = 1 << 51;
    });
    session.asks(7, "tools/call", json!({"name": "book"}));
    let asked = session.gets(
        1,
        input(json!({"roots": {"method": "roots/list"}}), json!("s")),
    );
    let id = (1 << 51) + 1;
    assert_eq!(asked, [prompt(7, id, "roots/list", json!({}))]);
    assert_eq!(session.answers(id, json!({"roots": []})).len(), 1);
}

/// R222, R223: each retry has the answers of its own round, and no state unless one was given.
#[test]
fn r223_a_round_carries_what_belongs_to_it() {
    let mut session = asking();
    session.gets(1, input(json!({"a": form("?")}), json!("s1")));
    session.answers(1, json!({"action": "accept", "content": {}}));
    session.gets(
        2,
        input(json!({"b": {"method": "roots/list"}}), Value::Null),
    );
    let again = session.answers(2, json!({"roots": []}));
    let params = json!({
        "name": "book", "arguments": {"n": 1}, "inputResponses": {"b": {"roots": []}},
    });
    assert_eq!(again, [format!("3 tools/call {params}")]);
}

/// R223: rounds without questions are paced, longer and longer.
#[test]
fn r223_rounds_with_a_state_alone_are_paced() {
    let mut session = asking();
    for (call, pause) in [
        (1, 250),
        (2, 500),
        (3, 1000),
        (4, 2000),
        (5, 4000),
        (6, 5000),
        (7, 5000),
    ] {
        assert!(
            session
                .gets(call, input(Value::Null, json!("s")))
                .is_empty()
        );
        assert!(session.passes((pause - 1) * MILLI).is_empty());
        let params = json!({"name": "book", "arguments": {"n": 1}, "requestState": "s"});
        assert_eq!(
            session.passes(MILLI),
            [format!("{} tools/call {params}", call + 1)]
        );
    }
}

/// R223: ten rounds, and that is all.
#[test]
fn r223_the_rounds_have_an_end() {
    let mut session = asking();
    for call in 1..=10 {
        let asked = session.gets(call, input(json!({"a": form("?")}), Value::Null));
        assert_eq!(asked.len(), 1);
        let question = i64::try_from(call).unwrap();
        session.answers(question, json!({"action": "accept", "content": {}}));
    }
    let ended = session.gets(11, input(json!({"a": form("?")}), Value::Null));
    assert_eq!(
        ended,
        [tool_error(7, "the server asked in too many rounds")]
    );
    session.is_quiet(0);
}

/// R224, invariant 10: what was not declared is not asked, nor anything else of that round.
#[test]
fn r224_what_the_client_has_not_declared_is_not_shown_to_it() {
    let url = json!({"mode": "url", "message": "Go", "url": "https://x"});
    let sampling = json!({"messages": [], "maxTokens": 1, "tools": []});
    for (revision, declared, undeclared) in [
        (
            NEWEST,
            json!({"elicitation": {}}),
            json!({"method": "roots/list"}),
        ),
        (
            NEWEST,
            json!({"elicitation": {}}),
            json!({"method": "elicitation/create", "params": url}),
        ),
        (
            "2025-06-18",
            json!({"elicitation": {"form": {}, "url": {}}}),
            json!({"method": "elicitation/create", "params": url}),
        ),
        (
            NEWEST,
            json!({"elicitation": {}, "sampling": {}}),
            json!({"method": "sampling/createMessage", "params": sampling}),
        ),
        (
            NEWEST,
            json!({"elicitation": {}}),
            json!({"method": "tools/call", "params": {}}),
        ),
    ] {
        let mut session = Session::with(revision, declared, everything(), |_| {});
        session.asks(7, "tools/call", json!({"name": "book"}));
        let requests = json!({"ok": form("?"), "no": undeclared});
        let refused = session.gets(1, input(requests, json!("s")));
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(
            refused[0].starts_with("7!: ") && refused[0].contains("-32603"),
            "{refused:?}"
        );
        session.is_quiet(0);
    }
}

/// Protocol notes 5.3.1, "entry malformed": the client of the call hears why, and is asked nothing.
#[test]
fn a_round_with_a_malformed_request_is_an_error() {
    let create = "elicitation/create";
    for (malformed, lacks) in [
        (json!({"method": create}), "params"),
        (json!({"method": create, "params": null}), "params"),
        (json!({"method": create, "params": ["?"]}), "params"),
        (json!({"method": "sampling/createMessage"}), "params"),
        (json!({"method": "roots/list", "params": 7}), "params"),
        (json!({"params": form("?")["params"]}), "method"),
        (json!({"method": 7, "params": {}}), "method"),
        (json!(7), "method"),
        (json!(null), "method"),
    ] {
        let mut session = asking();
        let requests = json!({"fine": form("?"), "seat": malformed});
        let answered = session.gets(1, input(requests, json!("s")));
        let text = format!(
            "invalid upstream result: the input request \"seat\" has no usable \"{lacks}\""
        );
        assert_eq!(
            answered,
            [own_error(json!(7), &text, "upstream_invalid")],
            "{malformed}"
        );
        session.is_quiet(0);
    }
}

/// Protocol notes 5.3.1: a round that asks nothing, or for a method that has none.
#[test]
fn a_round_that_may_not_be_is_an_error() {
    let mut session = asking();
    let nothing = session.gets(1, input(json!({}), Value::Null));
    assert!(nothing[0].contains("-32603"), "{nothing:?}");
    session.asks(8, "tools/list", json!({}));
    let other = session.gets(2, input(json!({"a": form("?")}), Value::Null));
    assert!(other[0].contains("-32603"), "{other:?}");
}

/// R225: no slot of the protocol says that the client failed: the others are taken back, a tool says so itself.
#[test]
fn r225_a_client_error_ends_the_call_as_an_error_of_the_tool() {
    let mut session = asking();
    session.gets(
        1,
        input(json!({"a": form("A?"), "b": form("B?")}), json!("s")),
    );
    let error = json!({"code": -1, "message": "not now"});
    let ended = session.says(json!({"jsonrpc": "2.0", "id": 1, "error": error}));
    let text = "the client refused to answer: not now";
    assert_eq!(ended, [withdrawn(7, 2), tool_error(7, text)]);
    assert!(session.answers(2, json!({"action": "accept"})).is_empty());
    assert_eq!(session.machine.dropped().client_responses, 1);
    session.is_quiet(0);
}

/// R225: of other methods it is an error with its cause.
#[test]
fn r225_a_client_error_ends_other_requests_with_an_error() {
    let mut session = Session::new(able());
    session.asks(7, "prompts/get", json!({"name": "p"}));
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    let error = json!({"code": -1, "message": "no"});
    let ended = session.says(json!({"jsonrpc": "2.0", "id": 1, "error": error}));
    let data = json!({"reason": "input_not_given", "upstream": "u", "cause": error});
    let message = "the client refused to answer: no";
    let answer = json!({
        "jsonrpc": "2.0", "id": 7,
        "error": {"code": -32603, "message": message, "data": data},
    });
    assert_eq!(ended, [format!("7!: {answer}")]);
}

/// R225: an answer that is none, a client that is not there, and one that takes too long.
#[test]
fn r225_what_is_not_answered_ends_the_call() {
    let mut session = asking();
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    let ended = session.answers(1, json!("yes"));
    assert_eq!(ended, [tool_error(7, "the client's answer is no object")]);

    let mut session = asking();
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    session
        .machine
        .undeliverable(&RequestId::from_integer(1), session.now);
    assert_eq!(
        session.actions(),
        [tool_error(7, "the client is not reachable")]
    );

    let mut session = asking();
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    let text = "the client did not answer in time";
    assert_eq!(
        session.at(600 * SECOND),
        [withdrawn(7, 1), tool_error(7, text)]
    );
    session.is_quiet(0);
}

/// R226: 2025-11-25 wants an id of an elicitation that leads away, and hears when it is over.
#[test]
fn r226_an_elicitation_at_a_url_has_an_id() {
    let mut session = asking();
    let params = json!({"mode": "url", "message": "Go", "url": "https://x"});
    let requests = json!({"a": {"method": "elicitation/create", "params": params}});
    let asked = session.gets(1, input(requests, Value::Null));
    let message: Value = serde_json::from_str(asked[0].strip_prefix("7: ").unwrap()).unwrap();
    let id = message["params"]["elicitationId"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(id.len(), 36);
    session.answers(1, json!({"action": "accept"}));
    let ended = session.complete(2, json!({"content": []}));
    let notice = notification(
        "notifications/elicitation/complete",
        json!({"elicitationId": id}),
    );
    assert_eq!(
        ended,
        [
            format!("7: {notice}"),
            result(json!(7), json!({"content": []}))
        ]
    );
}

/// Invariant 22: while the client is asked nothing is idle; each of its signs of life gives it more time.
#[test]
fn no_timer_of_the_call_runs_while_the_client_is_asked() {
    let mut session = asking();
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    assert!(session.at(599 * SECOND).is_empty());
    let alive = json!({"progressToken": 1, "progress": 1});
    session.says(notification("notifications/progress", alive));
    assert!(session.at(1100 * SECOND).is_empty());
    let again = session.answers(1, json!({"action": "cancel"}));
    assert_eq!(again.len(), 1, "{again:?}");
    assert!(session.passes(59 * SECOND).is_empty());
    assert_eq!(session.passes(SECOND).len(), 2, "and then it is idle");
}

/// Invariant 22: however alive the client is, half an hour is all.
#[test]
fn a_round_ends_by_the_absolute_cap() {
    let mut session = asking();
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    for minute in 1..30 {
        assert!(session.at(60 * SECOND * minute).is_empty());
        let alive = json!({"progressToken": 1, "progress": minute});
        session.says(notification("notifications/progress", alive));
    }
    let ended = session.at(1800 * SECOND);
    assert_eq!(
        ended,
        [
            withdrawn(7, 1),
            tool_error(7, "the client did not answer in time")
        ]
    );
}

/// Protocol notes 5.3, row `notifications/cancelled`: what is asked for the sake of it is taken back.
#[test]
fn a_cancellation_takes_the_questions_back() {
    let mut session = asking();
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    let lines = session.cancels(json!(7));
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("7: ") && lines[0].contains("notifications/cancelled"));
    assert_eq!(lines[1], "finish 7");
    session.is_quiet(0);
}

/// Invariant 6: an answer counts once, and for the question it answers.
#[test]
fn answers_count_once() {
    let mut session = asking();
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    for late in [json!(2), json!("1")] {
        let answer = json!({"jsonrpc": "2.0", "id": late, "result": {}});
        assert!(session.says(answer).is_empty());
    }
    assert_eq!(session.answers(1, json!({"action": "accept"})).len(), 1);
    assert!(session.answers(1, json!({"action": "accept"})).is_empty());
    assert_eq!(session.machine.dropped().client_responses, 3);
}

/// Protocol notes 5.3.1: a leg that is lost is not repeated, as its state may be good for once.
#[test]
fn a_leg_that_is_lost_is_not_repeated() {
    let mut session = Session::new(able());
    session.asks(7, "resources/read", json!({"uri": "a"}));
    session.gets(1, input(json!({"a": form("A?")}), json!("s")));
    session.answers(1, json!({"action": "accept"}));
    let ended = session.fails(2, false);
    assert!(ended[0].starts_with("7!: ") && ended[0].contains("upstream_stream_lost"));
}

/// Invariant 17: the progress of a later leg begins at 0, the client sees it rise.
#[test]
fn progress_rises_over_the_rounds() {
    let mut session = Session::new(able());
    let params = json!({"name": "t", "_meta": {"progressToken": "p"}});
    session.asks(7, "tools/call", params);
    let progress = |call: u64, value: i64| {
        let params = json!({"progressToken": call, "progress": value});
        notification("notifications/progress", params)
    };
    assert_eq!(session.hears(1, progress(1, 5)).len(), 1);
    session.gets(1, input(json!({"a": form("A?")}), Value::Null));
    session.answers(1, json!({"action": "accept"}));
    assert!(session.hears(2, progress(2, 1)).is_empty());
    assert_eq!(session.hears(2, progress(2, 6)).len(), 1);
}

/// Invariant 23: a server may not ask without end.
#[test]
fn a_round_is_bounded() {
    let mut session = Session::with(NEWEST, able(), everything(), |config| {
        config.limits.server_requests = 1;
    });
    session.asks(7, "tools/call", json!({"name": "t"}));
    let requests = json!({"a": form("A?"), "b": form("B?")});
    let ended = session.gets(1, input(requests, Value::Null));
    assert_eq!(
        ended,
        [tool_error(7, "too many questions are open at the client")]
    );
    session.asks(8, "tools/call", json!({"name": "t"}));
    let state = "s".repeat(upgrade::MAX_STATE);
    let ended = session.gets(2, input(Value::Null, json!(state)));
    assert!(ended[0].contains("requestState is too long"), "{ended:?}");
}
