//! Requests, their progress, their errors and their ends.

use super::*;

/// R217, invariant 11: nothing modern reaches the client, and its own id comes back.
#[test]
fn r217_results_come_in_the_legacy_shape() {
    let mut session = Session::new(json!({}));
    let asked = session.says(request(
        json!("a"),
        "resources/list",
        json!({"cursor": "c"}),
    ));
    assert_eq!(asked, [r#"1 resources/list {"cursor":"c"}"#]);
    let answered = session.complete(
        1,
        json!({"resources": [], "ttlMs": 5, "cacheScope": "public"}),
    );
    assert_eq!(answered, [result(json!("a"), json!({"resources": []}))]);
    session.is_quiet(0);
}

/// R188: what nobody has to change keeps its text.
#[test]
fn r188_arguments_keep_their_text() {
    let mut session = Session::new(json!({}));
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":9007199254740993,"x":1.50e3},"_meta":{"traceparent":"00-1"}}}"#;
    let message = Message::parse(text.into()).unwrap();
    session.machine.client(&message, session.now).unwrap();
    let Some(Action::Call(call)) = session.machine.poll_action() else {
        panic!("a call");
    };
    let sent = String::from_utf8(call.message.to_vec()).unwrap();
    assert!(
        sent.contains(r#""arguments":{"n":9007199254740993,"x":1.50e3}"#),
        "{sent}"
    );
    assert!(sent.contains(r#""traceparent":"00-1""#), "{sent}");
}

/// Invariants 7 and 17, R249: the token upstream is ours, the one the client gets its own.
#[test]
fn r249_progress_comes_with_the_clients_token_and_rises() {
    let mut session = Session::new(json!({}));
    let params = json!({"name": "t", "_meta": {"progressToken": "mine"}});
    let asked = session.asks(5, "tools/call", params);
    assert_eq!(
        asked,
        [r#"1 tools/call {"_meta":{"progressToken":1},"name":"t"}"#]
    );
    let progress = |token: Value, value: i64| {
        let params = json!({"progressToken": token, "progress": value});
        notification("notifications/progress", params)
    };
    let seen = session.hears(1, progress(json!(1), 3));
    assert_eq!(seen, [format!("5: {}", progress(json!("mine"), 3))]);
    for late in [
        progress(json!(1), 3),
        progress(json!("1"), 4),
        progress(json!(2), 4),
    ] {
        assert!(session.hears(1, late).is_empty());
    }
    assert_eq!(session.machine.dropped().progress, 3);
}

/// R227: the client's cancellation closes the call; its stream ends without a response.
#[test]
fn r227_a_cancellation_closes_the_call() {
    let mut session = Session::new(json!({}));
    session.asks(5, "tools/call", json!({"name": "t"}));
    assert_eq!(session.cancels(json!(5)), ["close 1", "finish 5"]);
    assert!(session.complete(1, json!({"content": []})).is_empty());
    assert_eq!(session.machine.dropped().upstream_responses, 1);
    session.is_quiet(0);
}

/// Protocol notes 5.1, "Cancel": it may overtake its request, which then never goes up.
#[test]
fn a_cancellation_may_overtake_its_request() {
    let mut session = Session::new(json!({}));
    assert!(session.cancels(json!(5)).is_empty());
    assert_eq!(
        session.asks(5, "tools/call", json!({"name": "t"})),
        ["finish 5"]
    );
    assert!(session.cancels(json!(6)).is_empty());
    session.passes(3 * SECOND);
    assert_eq!(session.asks(6, "tools/list", json!({})).len(), 1);
}

/// R228: errors keep their code, and a missing capability is named.
#[test]
fn r228_errors_of_the_server_pass() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/list", json!({}));
    let answered = session.refused(1, -32601, json!(1));
    let expected =
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no", "data": 1}});
    assert_eq!(answered, [format!("1!: {expected}")]);
    session.asks(2, "tools/call", json!({"name": "t"}));
    let answered = session.refused(2, -32021, json!({"requiredCapabilities": {"sampling": {}}}));
    assert!(
        answered[0].contains("-32021") && answered[0].contains("sampling"),
        "{answered:?}"
    );
}

/// Protocol notes 5.3: what is the gateway's fault is tried once more, and not shown as it is.
#[test]
fn an_unsupported_version_is_tried_once_more() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/list", json!({}));
    let supported = json!({"supported": ["2026-07-28"]});
    let again = session.refused(1, -32022, supported.clone());
    assert_eq!(again, ["doubt", "2 tools/list {}"]);
    let answered = session.refused(2, -32022, supported);
    assert!(answered[0].contains("-32603"), "{answered:?}");
    session.is_quiet(0);
}

/// Protocol notes 5.1, "Written twice?": a server without `resultType` has run it all the same.
#[test]
fn an_absent_result_type_is_delivered_and_doubted() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/call", json!({"name": "t"}));
    let answered = session.gets(1, json!({"content": []}));
    assert_eq!(
        answered,
        ["doubt".to_owned(), result(json!(1), json!({"content": []}))]
    );
}

/// Protocol notes 5.3: a result that nobody knows is the server's fault.
#[test]
fn an_unknown_result_type_is_an_error() {
    let mut session = Session::new(json!({}));
    for kind in ["later", "task"] {
        session.asks(1, "tools/call", json!({"name": "t"}));
        let call = session.calls.len() as u64;
        let answered = session.gets(call, json!({"resultType": kind}));
        assert!(answered[0].contains("-32603") && answered[0].contains("invalid upstream result"));
    }
}

/// 5.1, invariant 3: a read is written twice at most, so that it is repeated here or below, not in both places.
#[test]
fn a_read_is_repeated_in_one_place() {
    let mut session = Session::new(json!({}));
    session.asks(1, "resources/read", json!({"uri": "a"}));
    assert!(!session.repeatable);
    assert_eq!(session.fails(1, false), [r#"2 resources/read {"uri":"a"}"#]);
    assert!(!session.repeatable);
    assert_eq!(session.fails(2, false).len(), 1);
    session.is_quiet(0);
}

/// Invariant 3: what only reads is asked for once more, what may have run is not.
#[test]
fn a_lost_call_is_repeated_only_if_it_reads() {
    let mut session = Session::new(json!({}));
    session.asks(1, "resources/read", json!({"uri": "a"}));
    assert_eq!(session.fails(1, false), [r#"2 resources/read {"uri":"a"}"#]);
    let text = "it broke";
    assert_eq!(
        session.fails(2, false),
        [own_error(json!(1), text, "upstream_stream_lost")]
    );
    session.asks(2, "tools/call", json!({"name": "t"}));
    assert_eq!(
        session.fails(3, false),
        [own_error(json!(2), text, "upstream_stream_lost")]
    );
    session.asks(3, "tools/call", json!({"name": "t"}));
    assert_eq!(session.fails(4, true), [r#"5 tools/call {"name":"t"}"#]);
    assert_eq!(
        session.fails(5, true),
        [own_error(json!(3), text, "upstream_stream_lost")]
    );
}

/// R250, invariant 22: idle and absolute deadlines end it, progress puts off the one and not the other.
#[test]
fn r250_deadlines_end_a_request_with_an_error_and_a_cancel() {
    let mut session = Session::new(json!({}));
    let params = json!({"name": "t", "_meta": {"progressToken": 1}});
    session.asks(1, "tools/call", params);
    let text = "the upstream did not answer in time; the call may have run";
    let timed_out = [
        "close 1".to_owned(),
        own_error(json!(1), text, "upstream_timeout"),
    ];
    for minute in 1..20 {
        let lines = session.at(50 * SECOND * minute);
        if !lines.is_empty() {
            assert_eq!(lines, timed_out);
            assert_eq!(minute, 12, "the cap is ten minutes");
            session.is_quiet(0);
            return;
        }
        let params = json!({"progressToken": 1, "progress": minute});
        session.hears(1, notification("notifications/progress", params));
    }
    panic!("it never ends");
}

/// R250.
#[test]
fn r250_silence_ends_a_request() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/call", json!({"name": "t"}));
    assert!(session.at(59 * SECOND).is_empty());
    assert_eq!(session.at(60 * SECOND).len(), 2);
    assert_eq!(session.machine.poll_timeout(), None);
}

/// Protocol notes 5.1: a modern server asks nothing, and its requests are dropped.
#[test]
fn requests_of_a_modern_server_are_dropped() {
    let mut session = Session::new(json!({"roots": {}}));
    session.asks(1, "tools/call", json!({"name": "t"}));
    assert!(
        session
            .hears(1, request(json!(1), "roots/list", json!({})))
            .is_empty()
    );
    assert!(
        session
            .hears(
                1,
                notification("notifications/tools/list_changed", json!({}))
            )
            .is_empty()
    );
    let dropped = session.machine.dropped();
    assert_eq!((dropped.server_requests, dropped.notifications), (1, 1));
}

/// R247: an undeclared receiver must not see that a task is wanted; what only modern clients say is not said.
#[test]
fn r247_the_wish_for_a_task_is_not_passed_on() {
    let mut session = Session::new(json!({"tasks": {}}));
    let params =
        json!({"name": "t", "task": {"ttl": 1}, "inputResponses": {}, "requestState": "x"});
    assert_eq!(
        session.asks(1, "tools/call", params),
        [r#"1 tools/call {"name":"t"}"#]
    );
    assert_eq!(session.envelope["capabilities"], json!({}));
}

/// Invariants 1 and 24: a session that ends leaves nothing open.
#[test]
fn a_session_that_ends_closes_its_calls() {
    let mut session = Session::new(json!({"roots": {}}));
    session.says(notification("notifications/initialized", json!({})));
    session.opens();
    session.asks(1, "tools/call", json!({"name": "t"}));
    session.machine.detach();
    assert_eq!(session.actions(), ["close 1", "close 2", "over ClientLeft"]);
    session.is_quiet(0);
    assert_eq!(session.machine.poll_timeout(), None);
    let late = request(json!(2), "tools/list", json!({}));
    assert_eq!(session.tries(late).unwrap_err(), Refused::Over);
}

/// Invariant 1: a gateway that ends answers what is open.
#[test]
fn what_is_open_is_answered_when_the_upstream_is_lost() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/call", json!({"name": "t"}));
    session.asks(2, "resources/subscribe", json!({"uri": "a"}));
    session.machine.upstream_lost("it ends");
    let lines = session.actions();
    assert!(lines[0].starts_with("1!: ") && lines[0].contains("upstream_stream_lost"));
    assert!(lines[1].starts_with("2!: "), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "over UpstreamLost(\"it ends\")");
}

/// Invariant 23.
#[test]
fn there_are_only_so_many_requests_at_a_time() {
    let mut session = Session::with(NEWEST, json!({}), everything(), |config| {
        config.limits.in_flight = 2;
    });
    session.asks(1, "tools/list", json!({}));
    session.asks(2, "resources/subscribe", json!({"uri": "a"}));
    for method in ["tools/list", "resources/subscribe"] {
        let refused = session.tries(request(json!(3), method, json!({"uri": "b"})));
        assert_eq!(refused.unwrap_err(), Refused::TooManyInFlight { limit: 2 });
    }
}

/// A request that nobody can read the answer of is cancelled.
#[test]
fn an_abandoned_request_is_cancelled() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/call", json!({"name": "t"}));
    session
        .machine
        .abandon(&RequestId::from_integer(1), session.now);
    assert_eq!(session.actions(), ["close 1", "finish 1"]);
}
