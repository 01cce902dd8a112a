//! Tasks of several client sessions on one upstream session (protocol notes 5.2.1, row "tasks").

use super::*;

fn make(id: &str) -> String {
    request_with(id, "tools/call", r#"{"name":"x","task":{}}"#)
}

fn made(id: &str, task: &str) -> String {
    result(
        id,
        &format!(r#"{{"task":{{"taskId":"{task}","status":"working"}}}}"#),
    )
}

fn of_task(id: &str, method: &str, task: &str) -> String {
    request_with(id, method, &format!(r#"{{"taskId":"{task}"}}"#))
}

/// Two clients, of which the first has made task "a" and the second task "b".
fn two(sharing: Sharing) -> Pipe {
    let mut pipe = Pipe::many(Channel::Streams, sharing, 2, "{}");
    for (member, id, task) in [(1, "2", "a"), (2, "3", "b")] {
        assert_eq!(pipe.says(member, &make("1")).len(), 1);
        assert_eq!(
            pipe.hears_on(id, &made(id, task)),
            [format!("{member}/1!: {}", made("1", task))]
        );
    }
    pipe
}

const BOTH: [Sharing; 2] = [Sharing::Pooled, Sharing::Shared];

/// Invariant 8: to another client session there is no such task.
#[test]
fn a_task_belongs_to_who_made_it() {
    for sharing in BOTH {
        let mut pipe = two(sharing);
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            for task in ["b", "c"] {
                let refused = pipe.tries(1, &of_task("9", method, task));
                let expected = Refused::InvalidParameter {
                    parameter: "taskId",
                };
                assert_eq!(refused, Err(expected), "{sharing:?} {method} {task}");
            }
            let own = pipe.says(1, &of_task(&format!("\"{method}\""), method, "a"));
            assert_eq!(own.len(), 1);
        }
        let refused = pipe.tries(1, &request("9", "tasks/get")).unwrap_err();
        assert_eq!(refused.code(), -32602);
    }
}

#[test]
fn a_list_of_tasks_has_own_ones_only() {
    for sharing in BOTH {
        let mut pipe = two(sharing);
        pipe.says(2, &request("5", "tasks/list"));
        let list = |tasks: &str| format!(r#"{{"tasks":[{tasks}],"nextCursor":"n"}}"#);
        let all = r#"{"taskId":"a","status":"working"},{"taskId":"b","x":1.0},{"taskId":"c"}"#;
        assert_eq!(
            pipe.hears_on("4", &result("4", &list(all))),
            [format!(
                "2/5!: {}",
                result("5", &list(r#"{"taskId":"b","x":1.0}"#))
            )]
        );
    }
}

/// What is said about a task goes to its owner, on no stream of a request.
#[test]
fn news_of_a_task_go_to_who_made_it() {
    let status = |task: &str| {
        notification(
            "notifications/tasks/status",
            &format!(r#"{{"taskId":"{task}"}}"#),
        )
    };
    let related = |task: &str| {
        let meta = format!(r#"{{"io.modelcontextprotocol/related-task":{{"taskId":"{task}"}}}}"#);
        notification("notifications/message", &format!(r#"{{"_meta":{meta}}}"#))
    };
    for sharing in BOTH {
        let mut pipe = two(sharing);
        for news in [status("b"), related("b")] {
            assert_eq!(pipe.hears(&news), [format!("2/-: {news}")], "{sharing:?}");
        }
        // Nobody's, though all are of one principal.
        for news in [status("c"), related("c")] {
            assert!(pipe.hears(&news).is_empty(), "{sharing:?}");
        }
        pipe.leaves(2);
        assert!(pipe.hears(&status("b")).is_empty());
        assert_eq!(pipe.machine.dropped().notifications, 3);
    }
}

/// Invariant 23: what is remembered is bounded.
#[test]
fn the_oldest_task_is_forgotten_first() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 1, "{}");
    for n in 0..=thinpipe_proto::bridge::MAX_TASKS {
        pipe.says(1, &make("1"));
        let id = (n + 2).to_string();
        pipe.hears(&made(&id, &format!("t{n}")));
    }
    assert!(pipe.tries(1, &of_task("1", "tasks/get", "t0")).is_err());
    assert!(pipe.tries(1, &of_task("1", "tasks/get", "t1")).is_ok());
}
