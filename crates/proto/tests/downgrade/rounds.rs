//! Server requests as rounds of `input_required`: the table of protocol notes 5.4.2.

use super::*;

/// A round of POST 1, exchange 1, with this question under `k1`.
fn asked(session: &mut Session, question: &str) -> Vec<String> {
    session.asks(1, &call("7"));
    assert_eq!(session.hears(question), [""; 0]);
    session.collects()
}

/// R233: the retry answers what the server asked, and the call runs once.
#[test]
fn r233_a_server_request_is_a_round() {
    let mut session = Session::pipe();
    assert_eq!(session.asks(1, &call("\"a\"")), [written(2)]);
    assert_eq!(session.hears(&elicit("\"q\"")), [""; 0]);
    let shown = r#"{"k1":{"method":"elicitation/create","params":{"message":"?"}}}"#;
    assert_eq!(
        session.collects(),
        [format!("1 asks 1/1: {}", asks("\"a\"", shown))]
    );
    session.handed_out(1);
    assert_eq!(session.leaves(1), [""; 0], "it is parked");
    let lines = session.retries(1, 1, 2, &retry("8", r#"{"k1":{"action":"accept"}}"#));
    let answer = result("\"q\"", r#"{"action":"accept"}"#);
    assert_eq!(lines.unwrap(), ["unparked 1".to_owned(), up(&answer)]);
    assert_eq!(
        session.hears(&result("2", r#"{"content":[]}"#)),
        [format!("2 200: {}", complete("8", r#""content":[],"#))]
    );
    assert!(session.machine.is_idle());
    assert_eq!(session.machine.poll_timeout(), None);
}

/// R235: what no eligible request can be meant by is refused, and never shown.
#[test]
fn r235_questions_outside_of_eligible_requests_are_refused() {
    let mut session = Session::pipe();
    let refused = |id: &str| vec![up(&error(id, -32603, "no client request in progress"))];
    assert_eq!(
        session.hears(&request("1", "roots/list", "{}")),
        refused("1")
    );
    session.asks(1, &list("1"));
    assert_eq!(session.hears(&elicit("2")), refused("2"));
    session.asks(2, &modern("2", "tools/call", r#","name":"t""#, NOTHING, ""));
    assert_eq!(session.hears(&elicit("3")), refused("3"));
    session.asks(3, &call("3"));
    session.hears(&result("4", "{}"));
    assert_eq!(session.hears(&elicit("4")), refused("4"), "after its end");
}

/// R236: what was not declared is refused with the code that says so.
#[test]
fn r236_what_a_client_did_not_declare_is_refused() {
    let declared = r#"{"elicitation":{},"sampling":{}}"#;
    let mut session = Session::pipe();
    session.asks(1, &modern("1", "tools/call", "", declared, ""));
    for (question, code, text) in [
        (
            ("roots/list", "{}"),
            -32601,
            "the client has not declared roots",
        ),
        (
            ("tasks/get", "{}"),
            -32601,
            r#"no client answers \"tasks/get\""#,
        ),
        (
            ("elicitation/create", r#"{"mode":"url"}"#),
            -32602,
            "the client has not declared elicitation.url",
        ),
        (
            ("elicitation/create", r#"{"mode":"x"}"#),
            -32602,
            "the parameters are missing or cannot be read",
        ),
        (
            ("sampling/createMessage", r#"{"tools":[]}"#),
            -32602,
            "the client has not declared sampling.tools",
        ),
    ] {
        let lines = session.hears(&request("9", question.0, question.1));
        assert_eq!(lines, [up(&error("9", code, text))]);
    }
    // What asks nothing cannot be answered.
    for method in ["elicitation/create", "sampling/createMessage"] {
        let bare = format!(r#"{{"jsonrpc":"2.0","id":9,"method":"{method}"}}"#);
        let text = "the parameters are missing or cannot be read";
        assert_eq!(session.hears(&bare), [up(&error("9", -32602, text))]);
    }
    assert_eq!(session.collects(), [""; 0]);
    // What was not declared to the server is not asked of a client that declares it.
    let limits = Limits::default();
    let mut session = Session::declaring(Channel::Pipe, Lifetime::Pooled, limits, NOTHING);
    session.initialize(TOOLS);
    session.asks(1, &call("1"));
    let text = "the client has not declared elicitation";
    assert_eq!(session.hears(&elicit("9")), [up(&error("9", -32601, text))]);
    assert_eq!(session.tries(2, &call("2")).unwrap(), [written(3)]);
}

/// What belongs to the upstream session is not shown, and `includeContext` only to who declared it.
#[test]
fn questions_are_shown_without_what_belongs_to_the_session() {
    let params =
        r#"{"messages":[],"includeContext":"none","task":{},"_meta":{"progressToken":1,"x":1}}"#;
    for (declared, context) in [
        (ALL, r#""includeContext":"none","#),
        (r#"{"sampling":{}}"#, ""),
    ] {
        let mut session = Session::pipe();
        session.asks(1, &modern("1", "prompts/get", "", declared, ""));
        session.hears(&request("1", "sampling/createMessage", params));
        let shown = format!(
            r#"{{"k1":{{"method":"sampling/createMessage","params":{{"messages":[],{context}"_meta":{{"x":1}}}}}}}}"#
        );
        assert_eq!(
            session.collects(),
            [format!("1 asks 1/1: {}", asks("1", &shown))]
        );
    }
}

/// Several questions make one round; eight make it at once.
#[test]
fn questions_are_collected_into_one_round() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    for id in 1..8 {
        assert_eq!(
            session.hears(&request(&id.to_string(), "roots/list", "{}")),
            [""; 0]
        );
    }
    let lines = session.hears(&request("8", "roots/list", "{}"));
    assert_eq!(lines.len(), 1);
    for key in 1..=8 {
        assert!(lines[0].contains(&format!(r#""k{key}":{{"method":"roots/list","#)));
    }
    let full = up(&error(
        "9",
        -32603,
        "too much is asked of the client already",
    ));
    assert_eq!(session.hears(&elicit("9")), [full]);
}

/// Answers that are missing, or wrapped, are asked for again under their keys; new keys are new.
#[test]
fn what_a_retry_leaves_out_is_asked_again() {
    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    session.hears(&elicit("2"));
    let wrapped = r#"{"k1":{"method":"elicitation/create","result":{}},"k2":{},"k9":{}}"#;
    let lines = session.retries(1, 1, 2, &retry("8", wrapped)).unwrap();
    assert_eq!(lines, ["unparked 1"], "k2 was not shown");
    let entry = r#"{"method":"elicitation/create","params":{"message":"?"}}"#;
    let shown = format!(r#"{{"k1":{entry},"k2":{entry}}}"#);
    assert_eq!(
        session.collects(),
        [format!("2 asks 1/2: {}", asks("8", &shown))]
    );
    let lines = session
        .retries(1, 2, 3, &retry("9", r#"{"k2":{"action":"accept","x":2}}"#))
        .unwrap();
    assert_eq!(
        lines,
        [
            "unparked 1".to_owned(),
            up(&result("2", r#"{"action":"accept","x":2}"#))
        ]
    );
    assert!(session.collects()[0].contains(r#"{"k1":{"#));
}

/// R234, invariants 12 and 13: of several retries one wins, and the others change nothing.
#[test]
fn r234_stale_retries_change_nothing() {
    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    let answer = retry("8", r#"{"k1":{"action":"cancel"}}"#);
    for (exchange, round) in [(1, 2), (1, 0), (2, 1)] {
        assert_eq!(
            session.retries(exchange, round, 9, &answer),
            Err(RetryError::Stale)
        );
    }
    session.retries(1, 1, 2, &answer).unwrap();
    assert_eq!(session.retries(1, 1, 3, &answer), Err(RetryError::Stale));
    assert_eq!(session.leaves(3), [""; 0]);
    assert_eq!(session.leaves(1), [""; 0]);
    let lines = session.hears(&result("2", "{}"));
    assert_eq!(lines, [format!("2 200: {}", complete("8", ""))]);
    assert_eq!(session.retries(1, 1, 4, &answer), Err(RetryError::Stale));
}

/// R234: an answer that cannot be the result of what was asked is told with its key, and the call waits on;
/// what an answer may have besides passes.
#[test]
fn r234_what_is_no_answer_leaves_the_state_good() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.hears(&elicit("1"));
    session.hears(&request(
        "2",
        "sampling/createMessage",
        r#"{"messages":[]}"#,
    ));
    session.hears(&request("3", "roots/list", "{}"));
    session.collects();
    let wrong = [
        ("k1", r#"{"k1":{"action":"nope"}}"#),
        ("k1", r#"{"k1":{}}"#),
        ("k1", r#"{"k1":{"action":"accept","content":"x"}}"#),
        ("k2", r#"{"k1":{"action":"accept"},"k2":{"role":"user"}}"#),
        ("k3", r#"{"k3":{"roots":{}}}"#),
    ];
    for (key, answers) in wrong {
        match session.retries(1, 1, 2, &retry("8", answers)) {
            Err(RetryError::Unanswered(error)) => assert_eq!(error.key, key, "{error}"),
            other => panic!("{answers}: {other:?}"),
        }
        assert_eq!(session.leaves(2), [""; 0], "{answers}");
    }
    let sampled = r#"{"role":"assistant","content":{"type":"text","text":"t"},"x":1}"#;
    let answers = format!(r#"{{"k1":{{"action":"decline"}},"k2":{sampled},"k3":{{"roots":[]}}}}"#);
    let lines = session.retries(1, 1, 2, &retry("8", &answers)).unwrap();
    let answered = [
        up(&result("1", r#"{"action":"decline"}"#)),
        up(&result("2", sampled)),
        up(&result("3", r#"{"roots":[]}"#)),
    ];
    assert_eq!(lines[1..], answered);
}

/// The winner's disconnect cancels the call.
#[test]
fn r238_the_post_that_carries_it_cancels() {
    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    session
        .retries(1, 1, 2, &retry("8", r#"{"k1":{"action":"cancel"}}"#))
        .unwrap();
    let cancel = cancelled("2", "the client closed its request");
    assert_eq!(session.leaves(2), [up(&cancel)]);
}

/// Invariant 16: an outcome that comes while parked is there for the next valid retry, once.
#[test]
fn an_outcome_is_held_for_the_retry() {
    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    let lines = session.hears(&result("2", r#"{"content":[]}"#));
    assert_eq!(lines, [up(&error("1", -32603, "the request is over"))]);
    let late = up(&error("5", -32603, "no client request in progress"));
    assert_eq!(session.hears(&elicit("5")), [late]);
    let answer = retry("8", r#"{"k1":{"action":"cancel"}}"#);
    let lines = session.retries(1, 1, 2, &answer).unwrap();
    let outcome = format!("2 200: {}", complete("8", r#""content":[],"#));
    assert_eq!(lines, ["unparked 1".to_owned(), outcome]);
    assert_eq!(session.retries(1, 1, 3, &answer), Err(RetryError::Stale));
    assert!(session.machine.is_idle());
}

/// An outcome that is too large to be held becomes an error.
#[test]
fn an_outcome_that_is_too_large_is_not_held() {
    let limits = Limits {
        held: 100,
        ..Limits::default()
    };
    let mut session = Session::new(Channel::Pipe, Lifetime::Pooled, limits);
    session.initialize(TOOLS);
    asked(&mut session, &elicit("1"));
    session.hears(&result("2", &format!(r#"{{"x":"{}"}}"#, "x".repeat(100))));
    let lines = session.retries(1, 1, 2, &retry("8", "{}")).unwrap();
    assert!(lines[1].contains("result_too_large"), "{lines:?}");
}

/// The server takes back what it asked.
#[test]
fn questions_are_withdrawn() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    session.hears(&elicit("\"q\""));
    session.hears(&cancelled("\"q\"", ""));
    assert_eq!(session.collects(), [""; 0], "there is nothing to ask");
    session.hears(&elicit("\"r\""));
    session.collects();
    session.hears(&cancelled("\"r\"", ""));
    // The key is ignored, and the call goes on.
    let lines = session
        .retries(1, 1, 2, &retry("8", r#"{"k2":{}}"#))
        .unwrap();
    assert_eq!(lines, ["unparked 1"]);
    assert_eq!(session.hears(&result("2", "{}")).len(), 1);
}

/// The eleventh round ends the request.
#[test]
fn rounds_are_bounded() {
    let mut session = Session::pipe();
    session.asks(1, &call("1"));
    for round in 1..=10_u8 {
        session.hears(&elicit(&round.to_string()));
        assert_eq!(session.collects().len(), 1);
        let answers = format!(r#"{{"k{round}":{{"action":"decline"}}}}"#);
        let post = u64::from(round) + 1;
        session
            .retries(1, round, post, &retry("8", &answers))
            .unwrap();
    }
    session.hears(&elicit("11"));
    let lines = session.collects();
    assert_eq!(
        lines[0],
        up(&error(
            "11",
            -32603,
            "the request it belongs to was cancelled"
        ))
    );
    assert!(lines[1].contains("notifications/cancelled"), "{lines:?}");
    assert!(lines[2].contains("mrtr_rounds_exceeded"), "{lines:?}");
}

/// What the retry's client does not declare any more is not asked of it.
#[test]
fn a_retry_declares_for_itself() {
    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    session.hears(&request("2", "roots/list", "{}"));
    let params = r#","inputResponses":{"k1":{"action":"cancel"}}"#;
    let narrow = modern("8", "tools/call", params, r#"{"elicitation":{}}"#, "");
    let lines = session.retries(1, 1, 2, &narrow).unwrap();
    let refused = error(
        "2",
        -32601,
        "the client does not declare the capability for this any more",
    );
    assert_eq!(
        lines,
        [
            "unparked 1".to_owned(),
            up(&result("1", r#"{"action":"cancel"}"#)),
            up(&refused)
        ]
    );
    let text = "the client has not declared roots";
    let lines = session.hears(&request("3", "roots/list", "{}"));
    assert_eq!(lines, [up(&error("3", -32601, text))]);
}

/// Where no more exchanges may be parked, the server gets errors and the call goes on.
#[test]
fn what_cannot_be_parked_is_refused_and_goes_on() {
    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    let text = "all wait";
    session
        .machine
        .unparkable(ticket(1, 1), "too_many_parked", text, session.now);
    let refused = own_error("1", -32603, text, "too_many_parked");
    assert_eq!(session.actions(), [up(&refused), "unparked 1".to_owned()]);
    let lines = session.hears(&result("2", "{}"));
    assert_eq!(lines, [format!("1 200: {}", complete("7", ""))]);
}

/// R238: a POST that closes before its last byte is out takes the call along; then nothing does but time.
#[test]
fn r238_closing_while_parked_cancels_nothing_and_expiry_does() {
    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    let lines = session.leaves(1);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].contains("notifications/cancelled"));
    assert_eq!(lines[2], "unparked 1");

    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    session.handed_out(1);
    assert_eq!(session.leaves(1), [""; 0]);
    let lines = session.at(601 * SECOND);
    assert_eq!(
        lines,
        [
            up(&error(
                "1",
                -32603,
                "the request it belongs to was cancelled"
            )),
            up(&cancelled("2", "the client did not answer in time")),
            "unparked 1".to_owned(),
        ]
    );
    assert_eq!(
        session.retries(1, 1, 2, &retry("8", "{}")),
        Err(RetryError::Stale)
    );
}

/// One request that may be asked at a time on a pipe, parked ones included; others share freely.
#[test]
fn a_pipe_takes_one_eligible_request_at_a_time() {
    let mut session = Session::pipe();
    asked(&mut session, &elicit("1"));
    session.handed_out(1);
    assert_eq!(session.tries(2, &call("2")), Err(Refused::Busy));
    assert_eq!(
        session.machine.admits(&parse(&call("2"))),
        Err(Refused::Busy)
    );
    assert_eq!(session.asks(3, &list("3")).len(), 1);
    session.hears(&result("2", "{}"));
    assert_eq!(
        session.tries(2, &call("2")).unwrap(),
        [written(4)],
        "it holds an outcome only"
    );
}

/// On Streamable HTTP the stream tells whose a question is; on the standing one only a single request.
#[test]
fn on_streams_any_number_may_be_asked() {
    let mut session = Session::streams();
    assert_eq!(session.asks(1, &call("1")), ["open stream"]);
    assert_eq!(session.stream_opened(), [written(2)]);
    assert_eq!(session.hears(&elicit("5")), [""; 0], "the only one");
    session.asks(2, &call("2"));
    let refused = error("6", -32603, "no client request in progress");
    assert_eq!(session.hears(&elicit("6")), [up(&refused)]);
    session.hears_on(3, &elicit("7"));
    let lines = session.collects();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("1 asks 1/1") && lines[1].starts_with("2 asks 2/1"));
}

/// Invariant 23: a parked exchange keeps little. What is too large cannot be shown again.
#[test]
fn a_parked_exchange_keeps_little() {
    let large = format!(r#"{{"message":"{}"}}"#, "x".repeat(20_000));
    let mut session = Session::pipe();
    let question = request("1", "elicitation/create", &large);
    let lines = asked(&mut session, &question);
    assert!(lines[0].len() > 20_000, "it is shown");
    let refused = error("2", -32603, "too much is asked of the client already");
    let question = request("2", "elicitation/create", &large);
    assert_eq!(session.hears(&question), [up(&refused)]);
    let lines = session.retries(1, 1, 2, &retry("8", "{}")).unwrap();
    let refused = error("1", -32603, "the client did not answer");
    assert_eq!(lines, ["unparked 1".to_owned(), up(&refused)]);
}
