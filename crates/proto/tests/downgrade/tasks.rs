//! Tools that run as tasks only (R247).

use super::*;

const TASKS: &str = r#"{"tools":{},"tasks":{"requests":{"tools":{"call":{}}}}}"#;
const LISTED: &str = r#"{"tools":[{"name":"t","execution":{"taskSupport":"required"}},{"name":"o","execution":{"taskSupport":"optional"}}]}"#;
const MADE: &str = r#"{"task":{"taskId":"T","status":"working"}}"#;
const RELATED: &str = r#""_meta":{"io.modelcontextprotocol/related-task":{"taskId":"T"}}"#;

/// A session whose tools are known, and a call of `t` as the task `T`.
fn running() -> Session {
    let mut session = Session::open(Channel::Pipe, Lifetime::Pooled, TASKS);
    let lines = session.asks(1, &call("1"));
    assert_eq!(lines, [up(&request("2", "tools/list", "{}"))]);
    let call = r#"{"_meta":{"progressToken":3},"name":"t","task":{}}"#;
    assert_eq!(
        session.hears(&result("2", LISTED)),
        [up(&request("3", "tools/call", call))]
    );
    let lines = session.hears(&result("3", MADE));
    assert_eq!(
        lines,
        [up(&request("4", "tools/result", r#"{"taskId":"T"}"#)
            .replace("tools/result", "tasks/result"))]
    );
    session
}

/// R247: the gateway runs the task; its client gets a plain result.
#[test]
fn r247_a_tool_that_needs_a_task_runs_as_one() {
    let mut session = running();
    let lines = session.hears(&result("4", &format!(r#"{{"content":[],{RELATED}}}"#)));
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains("related-task"), "{lines:?}");
    assert!(lines[0].starts_with(r#"1 200: {"jsonrpc":"2.0","id":1,"result":{"content":[],"#));
    let lines = session.asks(2, &modern("2", "tools/call", r#","name":"o""#, NOTHING, ""));
    assert!(!lines[0].contains("task"), "{lines:?}");
}

/// Its server requests find it by the task, and park it; its token is good until it ends.
#[test]
fn r247_a_task_asks_its_client() {
    let mut session = running();
    session.asks(2, &list("2"));
    let question = request(
        "9",
        "elicitation/create",
        &format!(r#"{{"message":"?",{RELATED}}}"#),
    );
    assert_eq!(session.hears(&question), [""; 0]);
    let shown = r#"{"k1":{"method":"elicitation/create","params":{"message":"?"}}}"#;
    assert_eq!(
        session.collects(),
        [format!("1 asks 1/1: {}", asks("1", shown))]
    );
    let params = r#","inputResponses":{"k1":{"action":"cancel"}}"#;
    let with_token = modern("8", "tools/call", params, ALL, r#","progressToken":"x""#);
    session.retries(1, 1, 3, &with_token).unwrap();
    let progress = |token: &str, related: &str| {
        notification(
            "notifications/progress",
            &format!(r#"{{"progressToken":{token},"progress":1{related}}}"#),
        )
    };
    let lines = session.hears(&progress("3", &format!(",{RELATED}")));
    assert_eq!(
        lines,
        [format!("3: {}", progress("\"x\"", r#","_meta":{}"#))]
    );
    let other = RELATED.replace('T', "other");
    let question = request("9", "elicitation/create", &format!("{{{other}}}"));
    assert!(
        session.hears(&question)[0].contains("-32603"),
        "another task's"
    );
}

/// The client's disconnect becomes `tasks/cancel`, also when the task is made later.
#[test]
fn r247_leaving_cancels_the_task() {
    let cancel = |id| up(&request(id, "tasks/cancel", r#"{"taskId":"T"}"#));
    let mut session = running();
    assert_eq!(session.leaves(1), [cancel("5")]);

    let mut session = Session::open(Channel::Pipe, Lifetime::Pooled, TASKS);
    session.asks(1, &call("1"));
    session.hears(&result("2", LISTED));
    assert_eq!(
        session.leaves(1),
        [up(&cancelled("3", "the client closed its request"))]
    );
    assert_eq!(session.hears(&result("3", MADE)), [cancel("4")]);
}

/// A server that says so only when it is called: it did not run.
#[test]
fn r247_a_refused_call_is_made_as_a_task() {
    let mut session = Session::open(Channel::Pipe, Lifetime::Pooled, TASKS);
    session.asks(1, &call("1"));
    session.hears(&result("2", r#"{"tools":[],"nextCursor":"c"}"#));
    session.hears(&error("3", -32603, "no"));
    let lines = session.hears(&error("4", -32601, "only as a task"));
    assert!(
        lines[0].contains(r#""id":5,"method":"tools/call""#) && lines[0].contains(r#""task":{}"#)
    );
    let lines = session.hears(&error("5", -32601, "no"));
    assert!(lines[0].starts_with("1 404: "), "{lines:?}");
}

/// A list that changes is read again; one that is not given does not stop calls.
#[test]
fn r247_the_list_of_tools_is_kept_up() {
    let mut session = Session::open(Channel::Pipe, Lifetime::Pooled, TASKS);
    session.asks(1, &call("1"));
    assert_eq!(session.at(10 * SECOND), [written(3)]);
    session.hears(&result("3", "{}"));
    session.hears(&notification("notifications/tools/list_changed", "{}"));
    assert_eq!(
        session.asks(2, &call("2")),
        [up(&request("4", "tools/list", "{}"))]
    );
}

/// A task shows that it lives.
#[test]
fn r250_a_task_that_reports_is_not_idle() {
    let mut session = running();
    session.at(59 * SECOND);
    session.hears(&notification(
        "notifications/tasks/status",
        r#"{"taskId":"T","status":"working"}"#,
    ));
    assert_eq!(session.at(118 * SECOND), [""; 0]);
    let lines = session.at(119 * SECOND);
    assert!(
        lines[0].contains("tasks/cancel") && lines[1].starts_with("1 504: "),
        "{lines:?}"
    );
}
