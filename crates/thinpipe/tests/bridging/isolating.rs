//! Clients that choose alike, and never meet.

use serde_json::{Value, json};
use thinpipe_testkit::{Gate, Script, rpc};

use crate::asking::accepted;
use crate::gateway::Gateway;
use crate::pairs::{Client, Pair, Server};

rows! {
    /// R242, R249: two clients with equal ids and equal progress tokens, at the same time.
    all r242_r249_equal_ids_and_tokens_never_cross;
    /// R249: two clients are asked at the same time, and each answer goes to its own question.
    all r249_questions_of_two_clients_never_cross;
    /// Protocol notes 5.2.1: what one of them cancels does not touch the other.
    all r249_a_cancelled_call_does_not_touch_its_like;
}

/// A tool that says who called it, in its progress and in its answer.
fn named(gateway: &Gateway) -> Gate {
    let gate = Gate::new();
    let waiting = gate.clone();
    gateway.upstream.on_each("tools/call:echo", move |request| {
        let who = request.param("/arguments/who").as_str().unwrap_or_default();
        let progress =
            rpc::progress(1, 2).replace("\"total\"", &format!("\"message\":\"{who}\",\"total\""));
        let result = if request.is_modern() {
            rpc::modern_text_result(who)
        } else {
            rpc::text_result(who)
        };
        Some(
            Script::events()
                .message(progress)
                .wait(&waiting)
                .message(result),
        )
    });
    gate
}

fn call(who: &str) -> Value {
    json!({"name": "echo", "arguments": {"who": who}})
}

async fn r242_r249_equal_ids_and_tokens_never_cross(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let gate = named(&gateway);
    let mut callers = [gateway.caller().await, gateway.caller().await];
    let mut asked = Vec::new();
    for (caller, who) in callers.iter_mut().zip(["one", "other"]) {
        asked.push(caller.ask("same", "tools/call", call(who)).await);
    }
    gate.reached_times(2).await;
    gate.open();
    for ((caller, asked), who) in callers.iter_mut().zip(&mut asked).zip(["one", "other"]) {
        let (before, answer) = caller.all(asked).await;
        assert_eq!(before.len(), 1, "{before:?}");
        assert_eq!(before[0]["params"]["message"], who);
        assert_eq!(before[0]["params"]["progressToken"], "same");
        assert_eq!(answer["id"], "same");
        assert_eq!(answer["result"]["content"][0]["text"], who);
    }
    let calls = gateway.upstream.requests("tools/call");
    assert_eq!(calls.len(), 2);
    if pair.server == Server::StdioModern {
        assert_ne!(calls[0].id_text(), calls[1].id_text());
    }
}

async fn r249_questions_of_two_clients_never_cross(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let mut callers = [gateway.caller().await, gateway.caller().await];
    let [one, other] = &mut callers;
    let request = || ("tools/call", json!({"name": "ask"}));
    let said = |seat: &str| json!({"action": "accept", "content": {"answer": seat}});
    let ((_, first), (_, second)) = tokio::join!(
        one.converse(request(), |_| said("1A")),
        other.converse(request(), |_| said("2B")),
    );
    assert_eq!(first["structuredContent"]["answers"]["seat"], said("1A"));
    assert_eq!(second["structuredContent"]["answers"]["seat"], said("2B"));
    assert_ne!(said("1A"), accepted());
}

async fn r249_a_cancelled_call_does_not_touch_its_like(pair: Pair) {
    let gateway = Gateway::start(pair).await;
    let gate = named(&gateway);
    let mut callers = [gateway.caller().await, gateway.caller().await];
    let [one, other] = &mut callers;
    let leaving = one.ask("same", "tools/call", call("one")).await;
    let mut staying = other.ask("same", "tools/call", call("other")).await;
    gate.reached_times(2).await;
    if pair.server == Server::Sessions && pair.client == Client::Sessions {
        // Nobody reads what is passed on between equals: how its stream ends is the server's matter.
        drop(leaving);
    } else {
        one.cancel(leaving).await;
    }
    gate.open();
    let (_, answer) = other.all(&mut staying).await;
    assert_eq!(answer["id"], "same");
    assert_eq!(answer["result"]["content"][0]["text"], "other");
}
