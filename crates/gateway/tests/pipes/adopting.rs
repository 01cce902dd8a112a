//! What becomes of a session that several clients use when it is taken over, and much or little of it can be had there
//! (F9; protocol notes 5.8, (10)).

use serde_json::json;
use thinpipe_gateway::Sharing;
use thinpipe_testkit::{Gate, Script, eventually, rpc};

use crate::joint::Way;
use crate::nodes::Pair;

async fn among(sharing: Sharing) -> Pair {
    Pair::start(Way::Streamable, |spec| spec.bridge.sessions = Some(sharing)).await
}

/// More subscriptions than one principal may have requests in flight are set up as they are answered, and a session
/// that has them goes on.
#[tokio::test]
async fn f9_many_subscriptions_are_set_up_as_they_are_answered() {
    const COUNT: usize = 600;
    let pair = among(Sharing::Shared).await;
    let client = pair.client().await;
    for n in 1..COUNT {
        let params = json!({"uri": format!("file:///{n}")});
        let subscribe = rpc::request(n, "resources/subscribe", &params);
        let mut answer = client.post(subscribe).await;
        assert!(answer.answer().await["result"].is_object());
    }
    let [session] = &pair.one.server.sessions().list()[..] else {
        panic!("one session");
    };
    eventually("it is stored", async || {
        let stored = String::from_utf8_lossy(&session.attachment()).into_owned();
        let is_whole = stored.matches("file:///").count() == COUNT;
        is_whole.then_some(()).ok_or(stored)
    })
    .await;
    pair.kill().await;
    let gate = Gate::new();
    let subscribed = Script::json(rpc::result(json!({})));
    pair.upstream
        .on("resources/subscribe", subscribed.late(&gate));
    let moved = pair.moved(&client);
    let answering = async {
        let mut answered = 0;
        while answered < COUNT {
            gate.reached_times(answered + 1).await;
            let waiting = gate.arrivals() - answered;
            assert!(waiting <= 32, "{waiting} at one time");
            gate.release(waiting);
            answered += waiting;
        }
    };
    let (answer, ()) = tokio::join!(moved.answer(rpc::call(1, "echo")), answering);
    assert_eq!(answer["id"], 1);
}
