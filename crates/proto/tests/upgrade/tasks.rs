//! Calls that the server runs as tasks, which the client does not see (protocol notes 5.6, "Off", B; R247).

use super::*;

const TASKS: &str = "io.modelcontextprotocol/tasks";

/// A call that has become task `t`, which is call 2.
fn running() -> Session {
    let mut session = Session::new(json!({"elicitation": {}}));
    let params = json!({"name": "slow", "task": {}});
    assert_eq!(
        session.asks(7, "tools/call", params),
        [r#"1 tools/call {"name":"slow"}"#]
    );
    assert_eq!(session.envelope["capabilities"], json!({"elicitation": {}}));
    let required = json!({"requiredCapabilities": {"extensions": {TASKS: {}}}});
    let again = session.refused(1, -32021, required);
    assert_eq!(again, [r#"2 tools/call {"name":"slow"}"#]);
    let declared = json!({"elicitation": {}, "extensions": {TASKS: {}}});
    assert_eq!(session.envelope["capabilities"], declared);
    let task =
        json!({"resultType": "task", "taskId": "t", "status": "working", "pollIntervalMs": 500});
    assert!(session.gets(2, task).is_empty());
    assert!(session.passes(499 * MILLI).is_empty());
    assert_eq!(session.passes(MILLI), [r#"3 tasks/get {"taskId":"t"}"#]);
    session
}

fn told(status: &str, name: &str, value: Value) -> Value {
    json!({"taskId": "t", "status": status, name: value})
}

/// R247: its outcome is the answer to the call.
#[test]
fn r247_a_task_is_asked_for_until_it_is_done() {
    let mut session = running();
    assert!(
        session
            .complete(3, told("working", "x", json!(1)))
            .is_empty()
    );
    assert_eq!(session.passes(SECOND)[0], r#"4 tasks/get {"taskId":"t"}"#);
    let done = told(
        "completed",
        "result",
        json!({"resultType": "complete", "content": []}),
    );
    assert_eq!(
        session.complete(4, done),
        [result(json!(7), json!({"content": []}))]
    );
    session.is_quiet(0);

    let mut session = running();
    let failed = told("failed", "error", json!({"code": -5, "message": "no"}));
    assert_eq!(session.complete(3, failed), [error(json!(7), -5, "no")]);
    let mut session = running();
    let lines = session.complete(3, told("cancelled", "x", json!(1)));
    assert_eq!(
        lines,
        [own_error(
            json!(7),
            "the server has cancelled the task",
            "task_cancelled"
        )]
    );
}

/// R247: what it asks is asked of the client, each key once over its life, and told with `tasks/update`.
#[test]
fn r247_the_questions_of_a_task_are_asked_once() {
    let mut session = running();
    let form =
        json!({"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}});
    let asks = told("input_required", "inputRequests", json!({"a": form}));
    let lines = session.complete(3, asks.clone());
    assert!(
        lines[0].starts_with("7: ") && lines[0].contains("elicitation/create"),
        "{lines:?}"
    );
    let answer = json!({"action": "accept", "content": {}});
    let params = json!({"taskId": "t", "inputResponses": {"a": answer}});
    assert_eq!(
        session.answers(1, answer),
        [format!("4 tasks/update {params}")]
    );
    assert!(session.complete(4, json!({})).is_empty());
    assert_eq!(
        session.passes(500 * MILLI),
        [r#"5 tasks/get {"taskId":"t"}"#]
    );
    assert!(session.complete(5, asks).is_empty(), "a is asked once");
    assert_eq!(
        session.passes(500 * MILLI),
        [r#"6 tasks/get {"taskId":"t"}"#]
    );
    let done = told("completed", "result", json!({"content": []}));
    assert_eq!(
        session.complete(6, done),
        [result(json!(7), json!({"content": []}))]
    );
    session.is_quiet(0);
}

/// Protocol notes 5.6: what the client takes back is taken back at the server.
#[test]
fn r247_a_cancellation_cancels_the_task() {
    let mut session = running();
    let lines = session.cancels(json!(7));
    assert_eq!(
        lines,
        [r#"4 tasks/cancel {"taskId":"t"}"#, "close 3", "finish 7"]
    );
    assert!(session.complete(4, json!({})).is_empty());
    session.is_quiet(0);

    let mut session = running();
    session.machine.detach();
    let lines = session.actions();
    assert_eq!(
        lines,
        [
            "close 3",
            r#"4 tasks/cancel {"taskId":"t"}"#,
            "over ClientLeft"
        ]
    );
}

/// R250: deadlines are those of any request; that the server answers shows that it is alive, as it does.
#[test]
fn r250_a_task_ends_by_the_cap() {
    let mut session = Session::new(json!({}));
    session.asks(7, "tools/call", json!({"name": "slow"}));
    let required = json!({"requiredCapabilities": {"extensions": {TASKS: {}}}});
    session.refused(1, -32021, required);
    let task =
        json!({"resultType": "task", "taskId": "t", "status": "working", "pollIntervalMs": 30_000});
    session.gets(2, task);
    for _ in 0..30 {
        let lines = session.passes(30 * SECOND);
        let call = session.calls.len() as u64;
        if lines.iter().any(|line| line.starts_with("7!: ")) {
            assert!(lines[0].contains("tasks/cancel"), "{lines:?}");
            session.passes(31 * SECOND);
            return session.is_quiet(0);
        }
        session.complete(call, told("working", "x", json!(1)));
    }
    panic!("it never ends");
}

/// A poll that is lost is asked once more.
#[test]
fn a_lost_poll_is_repeated_once() {
    let mut session = running();
    assert!(session.fails(3, false).is_empty());
    assert_eq!(session.passes(SECOND), [r#"4 tasks/get {"taskId":"t"}"#]);
    let lines = session.fails(4, false);
    assert!(
        lines.iter().any(|line| line.starts_with("7!: ")),
        "{lines:?}"
    );
}

/// What is no task that can be asked for is the server's fault.
#[test]
fn an_odd_task_is_an_error() {
    for odd in [
        json!({"taskId": "t"}),
        told("odd", "x", json!(1)),
        told("completed", "x", json!(1)),
    ] {
        let mut session = running();
        let lines = session.complete(3, odd);
        assert!(lines[0].contains("-32603"), "{lines:?}");
    }
}
