//! What becomes of a session that several clients use when it is taken over, and much or little of it can be had there
//! (F9; protocol notes 5.8, (10)).

use serde_json::json;
use thinpipe_gateway::{Reached, Sharing};
use thinpipe_testkit::{Client, Gate, Script, eventually, rpc};

use crate::joint::{REVISION, Way};
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

/// A bound of the gateway that takes it over passes, or another gateway has room: the session waits.
#[tokio::test]
async fn f9_a_session_for_which_there_is_no_room_is_taken_over_later() {
    for sharing in [Sharing::Pooled, Sharing::Shared] {
        let pair = Pair::start(Way::Streamable, |spec| {
            spec.bridge.sessions = Some(sharing);
            if let Reached::Http(http) = &mut spec.reached {
                http.client.max_streams = 0;
            }
        })
        .await;
        let client = pair.client().await;
        pair.kill().await;
        pair.upstream.once("initialize", Script::events().stall());
        let moved = pair.moved(&client);
        let refused = moved.post(rpc::call(1, "echo")).await;
        assert_eq!(refused.status, 503, "{sharing:?}");
        assert!(refused.header("retry-after").is_some());
        assert_eq!(moved.answer(rpc::call(2, "echo")).await["id"], 2);
    }
}

/// What the server itself says against a session ends it, and its client hears that when it opens another.
#[tokio::test]
async fn f9_a_refusal_of_the_server_ends_a_session() {
    for sharing in [Sharing::Pooled, Sharing::Shared] {
        let pair = among(sharing).await;
        let client = pair.client().await;
        pair.kill().await;
        let refusal = Script::error(200, -32603, "no more sessions today");
        pair.upstream.on("initialize", refusal);
        let moved = pair.moved(&client);
        let mut refused = moved.post(rpc::call(1, "echo")).await;
        assert_eq!(refused.status, 404, "{sharing:?}");
        let reason = refused.json().await["error"]["data"]["reason"].clone();
        assert_eq!(reason, "session_not_found");
        let anew = Client::new(&pair.other.mcp).with_token("alice");
        let mut anew = anew.post(rpc::initialize(0, REVISION)).await;
        let error = anew.answer().await["error"].take();
        assert_eq!(error["message"], "no more sessions today");
    }
}
