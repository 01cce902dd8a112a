//! Clients that do not want an answer any more.

use serde_json::json;
use thinpipe_testkit::{Outcome, Record, rpc};

use crate::gateway::Gateway;
use crate::pairs::{Client, Pair, Server};

rows! {
    /// R227, R238, R243: a call is cancelled in the server's own way, once, and not answered.
    all r227_r238_r243_a_cancelled_call_is_cancelled_at_the_server;
    /// Protocol notes 5.4, 5.5: over HTTP a modern client's `notifications/cancelled` names nothing.
    cd r238_a_cancellation_without_a_request_is_taken_and_dropped;
    /// R044: a client of HTTP+SSE that leaves has ended everything; so has one that deletes its session.
    ab r044_r071_the_end_of_a_session_ends_its_calls;
    /// R229: a client of sessions that loses a stream has cancelled nothing, and resumes it.
    b_sessions r229_a_dropped_stream_is_resumed;
}

async fn r227_r238_r243_a_cancelled_call_is_cancelled_at_the_server(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let asked = caller.ask(1, "tools/call", json!({"name": "slow"})).await;
    gateway.upstream.gate("slow").reached().await;
    caller.cancel(asked).await;
    let wanted = match pair.server {
        Server::Sessions => Some(Outcome::Stopped),
        // The POST is over, and the stream tells nothing of one call.
        Server::HttpSse => None,
        Server::Stateless | Server::StdioLegacy | Server::StdioModern => Some(Outcome::Cancelled),
    };
    if let Some(wanted) = wanted {
        let ended = |record: &Record| record.outcome("tools/call:slow") == Some(wanted);
        gateway.upstream.wait_until(ended).await;
    }
    if pair.server == Server::Stateless {
        assert_eq!(
            gateway.upstream.record().count("notifications/cancelled"),
            0
        );
    } else {
        let cancelled = gateway.upstream.nth("notifications/cancelled", 0).await;
        let call = gateway
            .upstream
            .requests("tools/call:slow")
            .pop()
            .expect("it came");
        assert_eq!(*cancelled.param("/requestId"), call.json()["id"]);
        assert_eq!(
            gateway.upstream.record().count("notifications/cancelled"),
            1
        );
    }
    // What comes now is about this, and nothing else.
    caller
        .result(2, "tools/call", json!({"name": "echo"}))
        .await;
}

async fn r238_a_cancellation_without_a_request_is_taken_and_dropped(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let mut asked = caller.ask(1, "tools/call", json!({"name": "slow"})).await;
    gateway.upstream.gate("slow").reached().await;
    caller
        .tell(rpc::notification(
            "notifications/cancelled",
            &json!({"requestId": 1}),
        ))
        .await;
    gateway.upstream.gate("slow").open();
    assert_eq!(caller.next(&mut asked).await["id"], 1);
    if pair.server != Server::Stateless {
        assert_eq!(
            gateway.upstream.record().count("notifications/cancelled"),
            0
        );
    }
}

async fn r044_r071_the_end_of_a_session_ends_its_calls(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let _asked = caller.ask(1, "tools/call", json!({"name": "slow"})).await;
    gateway.upstream.gate("slow").reached().await;
    if pair.client == Client::Sessions {
        let ended = caller.http().delete().await.status;
        assert!((200..300).contains(&ended), "{ended}");
        let after = caller.http().post(rpc::call(2, "echo")).await;
        assert_eq!(after.status, 404);
    } else {
        drop(caller);
    }
    if pair.server.is_modern() {
        // Others may use the program.
        let ended = Some(Outcome::Cancelled);
        let over = move |record: &Record| record.outcome("tools/call:slow") == ended;
        return gateway.upstream.wait_until(over).await;
    }
    let over = async || match gateway.upstream.sessions().len() {
        0 => Ok(()),
        sessions => Err(format!("{sessions} sessions")),
    };
    thinpipe_testkit::eventually("the session is over", over).await;
}

async fn r229_a_dropped_stream_is_resumed(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut caller = gateway.caller().await;
    let gate = thinpipe_testkit::Gate::new();
    let script = thinpipe_testkit::Script::events()
        .message(rpc::progress(1, 2))
        .wait(&gate)
        .message(rpc::modern_text_result("after all"));
    gateway.upstream.on("tools/call:echo", script);
    let mut asked = caller.ask(1, "tools/call", json!({"name": "echo"})).await;
    asked.settle().await;
    let mut stream = asked.stream();
    let last = loop {
        let event = stream.next_event().await.expect("the stream goes on");
        if event.has_message() {
            break event.id.expect("it can be resumed");
        }
    };
    stream.close();
    gate.open();
    let mut resumed = caller.http().resume(&last).await;
    assert_eq!(resumed.status, 200);
    let answer = resumed.next_message().await;
    assert_eq!(answer["id"], 1);
    assert_eq!(answer["result"]["content"][0]["text"], "after all");
    assert_eq!(gateway.upstream.record().count("tools/call"), 1);
}
