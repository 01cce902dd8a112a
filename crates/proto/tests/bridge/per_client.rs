//! One client session on one upstream session.

use thinpipe_proto::bridge::{AttachError, DEFAULT_IN_FLIGHT, MAX_KEPT};

use super::*;

/// R210, R213: the whole of it, from the handshake to the call with progress and a question.
#[test]
fn r210_initialize_call_progress_and_a_server_request_work_end_to_end() {
    let mut pipe = Pipe::per_client();
    let up = pipe.says(1, &initialize("0", r#"{"sampling":{}}"#));
    assert_eq!(
        up,
        [format!("up: {}", initialize("1", r#"{"sampling":{}}"#))]
    );
    let answer = pipe.hears(&initialized(1, "{}"));
    assert_eq!(
        answer,
        [format!(
            "1/0!: {}",
            result("0", r#"{"protocolVersion":"2025-06-18","capabilities":{}}"#)
        )]
    );
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(pipe.says(1, ready), [format!("up: {ready}")]);

    assert_eq!(
        pipe.says(1, &tracked("\"a\"", "\"t\"")),
        [format!("up: {}", tracked("2", "2"))]
    );
    assert_eq!(
        pipe.hears(&progress("2", "1")),
        [format!("1/\"a\": {}", progress("\"t\"", "1"))]
    );
    let ask = request("0", "sampling/createMessage");
    assert_eq!(pipe.hears(&ask), [format!("1/\"a\": {ask}")]);
    assert_eq!(
        pipe.says(1, &result("0", "{}")),
        [format!("up: {}", result("0", "{}"))]
    );
    assert_eq!(
        pipe.hears(&result("2", "[1]")),
        [format!("1/\"a\"!: {}", result("\"a\"", "[1]"))]
    );
    assert_eq!(
        (pipe.machine.in_flight(), pipe.machine.server_requests()),
        (0, 0)
    );
    assert_eq!(pipe.machine.poll_timeout(), None);
}

/// R213: the version an upstream chose is the client's affair, unless nobody here knows it.
#[test]
fn r213_an_answer_in_an_unknown_revision_ends_the_session() {
    for named in ["\"2030-01-01\"", "\"2026-07-28\"", "1"] {
        let mut pipe = Pipe::per_client();
        pipe.says(1, &initialize("0", "{}"));
        let lines = pipe.hears(&result("1", &format!(r#"{{"protocolVersion":{named}}}"#)));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with(r#"1/0!: {"jsonrpc":"2.0","id":0,"error":{"code":-32602,"#));
        assert!(
            lines[0].contains(r#""supported":["2025-11-25","2025-06-18","#),
            "{}",
            lines[0]
        );
        assert_eq!(lines[1], "close UnknownRevision");
        assert!(pipe.machine.is_over());
    }
}

/// C13, C14, R188: what has not to change keeps its bytes, and ids come back as they were.
#[test]
fn c13_ids_keep_type_and_text_and_no_other_byte_changes() {
    for id in [
        "0",
        "\"0\"",
        "-7",
        "9007199254740993",
        "\"\\u0061\"",
        "\"\"",
    ] {
        let mut pipe = Pipe::per_client();
        let odd = |id: &str| {
            format!(
                "{{ \"params\" : {{\"x\":1.50e3,\"y\":\"\\u00e9\"}},\n\"id\":{id}, \"method\":\"tools/call\",\"jsonrpc\":\"2.0\" }}"
            )
        };
        assert_eq!(pipe.says(1, &odd(id)), [format!("up: {}", odd("1"))]);
        let odd = |id: &str| {
            format!("{{ \"result\" : {{\"n\":1.0 }},\t\"id\" : {id}, \"jsonrpc\":\"2.0\"}}")
        };
        assert_eq!(pipe.hears(&odd("1")), [format!("1/{id}!: {}", odd(id))]);
    }
}

/// R249, invariant 7: id and token are edited in one message, in whichever order they stand.
#[test]
fn r249_tokens_are_ours_upstream_and_the_clients_own_on_the_way_back() {
    let front = |id: &str, token: &str| {
        format!(
            r#"{{"id":{id},"method":"m","jsonrpc":"2.0","params":{{"_meta":{{"a":1,"progressToken":{token}}}}}}}"#
        )
    };
    let back = |id: &str, token: &str| {
        format!(
            r#"{{"params":{{"_meta":{{"progressToken":{token},"a":1}},"b":2}},"jsonrpc":"2.0","method":"m","id":{id}}}"#
        )
    };
    let mut pipe = Pipe::per_client();
    let up = pipe.says(1, &front("55", "\"long token\""));
    assert_eq!(up, [format!("up: {}", front("1", "1"))]);
    let up = pipe.says(1, &back("\"x\"", "1"));
    assert_eq!(up, [format!("up: {}", back("2", "2"))]);
    let down = pipe.hears(&progress("1", "1"));
    assert_eq!(down, [format!("1/55: {}", progress("\"long token\"", "1"))]);
    let down = pipe.hears(&progress("2", "1"));
    assert_eq!(down, [format!("1/\"x\": {}", progress("1", "1"))]);
}

/// Invariant 17.
#[test]
fn progress_rises_and_ends_with_its_request() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &tracked("9", "7"));
    assert_eq!(pipe.hears(&progress("1", "0.5")).len(), 1);
    for late in [
        progress("1", "0.5"),
        progress("1", "0.25"),
        progress("\"1\"", "2"),
        progress("7", "2"),
        progress("1", "\"x\""),
    ] {
        assert!(pipe.hears(&late).is_empty(), "{late}");
    }
    pipe.hears(&result("1", "{}"));
    assert!(pipe.hears(&progress("1", "3")).is_empty());
    assert_eq!(pipe.machine.dropped().progress, 6);
}

/// A request without a token gets no progress, whatever the upstream makes up.
#[test]
fn progress_that_nobody_asked_for_is_dropped() {
    let mut pipe = Pipe::per_client();
    let untracked = request_with("9", "m", r#"{"_meta":{"progressToken":null}}"#);
    pipe.says(1, &untracked);
    assert!(pipe.hears(&progress("1", "1")).is_empty());
    for token in ["1.5", "{}", "true"] {
        let refused = pipe.tries(1, &tracked("10", token)).unwrap_err();
        assert_eq!(refused.code(), -32602, "{token}");
    }
    assert_eq!(pipe.machine.in_flight(), 1);
}

/// Invariants 5 and 6, R214: one answer goes up, only for what is open, with the server's own id.
#[test]
fn a_server_request_is_answered_once() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    let ask = request("\"\\u0071\"", "roots/list");
    assert_eq!(pipe.hears(&ask), [format!("1/-: {ask}")]);
    assert!(pipe.hears(&request("\"q\"", "roots/list")).is_empty());
    let up = pipe.says(1, &result("\"q\"", "{}"));
    assert_eq!(up, [format!("up: {}", result("\"\\u0071\"", "{}"))]);
    assert!(pipe.says(1, &result("\"q\"", "{}")).is_empty());
    assert!(pipe.says(1, &result("1", "{}")).is_empty());
    let nameless = r#"{"jsonrpc":"2.0","error":{"code":1,"message":""}}"#;
    assert!(pipe.says(1, nameless).is_empty());
    let dropped = pipe.machine.dropped();
    assert_eq!((dropped.client_responses, dropped.server_requests), (3, 1));
}

/// A refusal by the client is an answer too.
#[test]
fn an_error_of_the_client_goes_to_the_server() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.hears(&request("3", "elicitation/create"));
    let no = error("3", -1, "no");
    assert_eq!(pipe.says(1, &no), [format!("up: {no}")]);
}

/// Protocol notes 5.1 "Association", R214: by task, else the only request in flight, else none.
#[test]
fn r214_messages_belong_to_a_task_or_to_the_only_request() {
    let log = notification("notifications/message", r#"{"level":"info","data":1}"#);
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    assert_eq!(pipe.hears(&log), [format!("1/-: {log}")]);
    let result_of = request_with("5", "tasks/result", r#"{"taskId":"t1"}"#);
    pipe.says(1, &result_of);
    assert_eq!(pipe.hears(&log), [format!("1/5: {log}")]);
    pipe.says(1, &request("6", "tools/call"));
    assert_eq!(pipe.hears(&log), [format!("1/-: {log}")]);
    let of = |task: &str| {
        let related =
            format!(r#"{{"io.modelcontextprotocol/related-task":{{"taskId":"{task}"}}}}"#);
        request_with(
            "1",
            "elicitation/create",
            &format!(r#"{{"_meta":{related}}}"#),
        )
    };
    assert_eq!(pipe.hears(&of("t1")), [format!("1/5: {}", of("t1"))]);
    pipe.says(1, &result("1", "{}"));
    pipe.hears(&result("2", "{}"));
    // Only request 6 is left, and a message about another task is not its.
    assert_eq!(pipe.hears(&of("t1")), [format!("1/-: {}", of("t1"))]);
    assert_eq!(pipe.hears(&log), [format!("1/6: {log}")]);
}

/// A request that is answered associates with nothing; what it asked stays open.
#[test]
fn a_question_outlives_the_request_it_was_asked_for() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.says(1, &request("5", "tools/call"));
    pipe.hears(&request("\"q\"", "elicitation/create"));
    pipe.hears(&result("2", "{}"));
    let withdrawn = cancelled("\"q\"", "never mind");
    assert_eq!(pipe.hears(&withdrawn), [format!("1/-: {withdrawn}")]);
    assert!(pipe.says(1, &result("\"q\"", "{}")).is_empty());
    assert!(pipe.hears(&withdrawn).is_empty());
    assert_eq!(pipe.machine.dropped().cancellations, 1);
}

/// Protocol notes 5.1 "Progress-token map", the other direction.
#[test]
fn progress_on_a_server_request_goes_up_while_it_is_open() {
    let mut pipe = Pipe::per_client();
    pipe.hears(&tracked("4", "\"t\""));
    let up = |value: &str| format!("up: {}", progress("\"t\"", value));
    assert_eq!(pipe.says(1, &progress("\"t\"", "1")), [up("1")]);
    assert!(pipe.says(1, &progress("\"t\"", "1")).is_empty());
    assert!(pipe.says(1, &progress("4", "2")).is_empty());
    assert_eq!(pipe.says(1, &progress("\"t\"", "2")), [up("2")]);
    pipe.says(1, &result("4", "{}"));
    assert!(pipe.says(1, &progress("\"t\"", "3")).is_empty());
    assert_eq!(pipe.machine.dropped().progress, 3);
}

/// The first answer to an id wins; unknown ids are dropped and counted.
#[test]
fn b8_late_double_and_unknown_answers_are_dropped() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &request("5", "m"));
    for odd in [result("2", "{}"), result("\"1\"", "{}"), result("5", "{}")] {
        assert!(pipe.hears(&odd).is_empty(), "{odd}");
    }
    assert_eq!(
        pipe.hears(&error("1", -5, "e")),
        [format!("1/5!: {}", error("5", -5, "e"))]
    );
    assert!(pipe.hears(&result("1", "{}")).is_empty());
    assert_eq!(pipe.machine.dropped().upstream_responses, 4);
    // The id is the client's to use again, and ours is not.
    assert_eq!(
        pipe.says(1, &request("5", "m")),
        [format!("up: {}", request("2", "m"))]
    );
}

/// Protocol notes 6.4: an id that is running.
#[test]
fn an_id_that_is_running_is_refused() {
    let mut pipe = Pipe::per_client();
    pipe.says(1, &request("5", "m"));
    let again = request("5", "m");
    let refused = pipe.tries(1, &again).unwrap_err();
    assert_eq!(
        (refused.clone(), refused.code()),
        (Refused::IdInUse, -32600)
    );
    let answer = refused.answer(&parse(&again), "u").unwrap();
    let text = std::str::from_utf8(&answer).unwrap();
    assert!(text.contains(r#""id":5,"#) && text.contains(r#""reason":"id_in_use","upstream":"u""#));
    assert_eq!(refused.answer(&parse(&result("5", "{}")), "u"), None);
    assert_eq!(pipe.says(1, &request("\"5\"", "m")).len(), 1);
}

/// Every bound is reached: requests in flight, server requests, lengths.
#[test]
fn bounds_are_refused_with_their_reason() {
    let mut pipe = Pipe::per_client();
    for id in 0..DEFAULT_IN_FLIGHT {
        pipe.says(1, &request(&id.to_string(), "m"));
    }
    let refused = pipe.tries(1, &request("\"more\"", "m")).unwrap_err();
    assert_eq!(
        refused,
        Refused::TooManyInFlight {
            limit: DEFAULT_IN_FLIGHT
        }
    );
    pipe.hears(&result("1", "{}"));
    assert_eq!(pipe.says(1, &request("\"more\"", "m")).len(), 1);

    let limits = Limits {
        server_requests: 1,
        ..Limits::default()
    };
    let mut pipe = Pipe::new(Sharing::PerClient, limits, 1).declaring(EVERYTHING);
    pipe.hears(&request("1", "roots/list"));
    let refused = error("2", -32603, "too many requests are open at the client");
    assert_eq!(
        pipe.hears(&request("2", "roots/list")),
        [format!("up: {refused}")]
    );

    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    let long = format!("\"{}\"", "x".repeat(MAX_KEPT));
    for text in [
        request(&long, "m"),
        tracked("1", &long),
        request_with("1", "tasks/result", &format!(r#"{{"taskId":{long}}}"#)),
    ] {
        assert_eq!(
            pipe.tries(1, &text),
            Err(Refused::TooLong { limit: MAX_KEPT })
        );
    }
    assert!(pipe.says(1, &cancelled(&long, "")).is_empty());
    assert_eq!(pipe.machine.dropped().cancellations, 1);
    assert!(pipe.hears(&request(&long, "roots/list"))[0].contains("the id is too long"));
    assert_eq!(
        (pipe.machine.in_flight(), pipe.machine.server_requests()),
        (0, 0)
    );
}

/// One upstream session, one client session.
#[test]
fn attaching_has_its_bounds() {
    let mut pipe = Pipe::new(Sharing::PerClient, Limits::default(), 0);
    let nobody = error("1", -32603, "there is no client to ask");
    assert_eq!(pipe.hears(&request("1", "ping")), [format!("up: {nobody}")]);
    assert_eq!(pipe.tries(1, &request("1", "ping")), Err(Refused::Over));
    assert_eq!(pipe.machine.attach(MemberId(1)), Ok(()));
    assert_eq!(pipe.machine.attach(MemberId(1)), Err(AttachError::Attached));
    assert_eq!(
        pipe.machine.attach(MemberId(2)),
        Err(AttachError::Full { limit: 1 })
    );
    pipe.leaves(1);
    assert_eq!(pipe.machine.attach(MemberId(2)), Err(AttachError::Over));
}

/// Protocol notes 5.2: a server request that no stream takes.
#[test]
fn what_reaches_no_stream_is_refused_and_a_ping_answered() {
    let mut pipe = Pipe::per_client().declaring(EVERYTHING);
    pipe.hears(&request("1", "roots/list"));
    pipe.hears(&request("2", "ping"));
    assert!(pipe.unreachable(2, "1").is_empty());
    let refused = error("1", -32603, "client not reachable");
    assert_eq!(pipe.unreachable(1, "1"), [format!("up: {refused}")]);
    assert_eq!(
        pipe.unreachable(1, "2"),
        [format!("up: {}", result("2", "{}"))]
    );
    assert!(pipe.unreachable(1, "2").is_empty());
    assert!(pipe.says(1, &result("2", "{}")).is_empty());
}
