//! The end of the process, for sessions over a pipe.

use std::time::Duration;

use serde_json::json;
use thinpipe_testkit::rpc;

use crate::client::{Binding, Caller};
use crate::front::Front;
use crate::server::{Carrier, Scripted};

/// C22: a call that runs may end; then all streams do, and the child.
#[tokio::test]
async fn c22_draining_lets_calls_end() {
    for binding in [Binding::Streamable, Binding::HttpSse] {
        let mut server = Scripted::start(Carrier::Stdio).await;
        let front = Front::start(server.reached()).await;
        let (mut caller, mut speaker) =
            Caller::begin(&front, &mut server, binding, "2025-06-18").await;
        caller.listen().await;
        let mut asked = caller.ask(rpc::call(1, "slow")).await;
        let call = speaker.hears("tools/call").await;
        let ending = async {
            front.server.shut_down().await;
            front.gateway.finish().await;
        };
        let talking = async {
            front.server.draining().cancelled().await;
            speaker.answer(&call, json!({"content": []})).await;
            assert_eq!(caller.next(&mut asked).await["id"], 1);
            speaker.ends().await
        };
        let ((), rest) = tokio::join!(ending, talking);
        assert_eq!(rest, Vec::<serde_json::Value>::new());
        assert_eq!(front.route().children().unwrap().running, 0);
    }
}

/// C22: one that does not end in time is answered with an error.
#[tokio::test]
async fn c22_what_does_not_end_in_time_is_answered() {
    for binding in [Binding::Streamable, Binding::HttpSse] {
        let mut server = Scripted::start(Carrier::Stdio).await;
        let front = Front::with(
            server.reached(),
            |_| {},
            |config| {
                config.limits.drain = Duration::from_millis(100);
            },
        )
        .await;
        let (mut caller, mut speaker) =
            Caller::begin(&front, &mut server, binding, "2025-06-18").await;
        let mut asked = caller.ask(rpc::call(1, "slow")).await;
        let call = speaker.hears("tools/call").await;
        let progress =
            json!({"progressToken": call["params"]["_meta"]["progressToken"], "progress": 1});
        speaker
            .say(rpc::notification("notifications/progress", &progress))
            .await;
        assert_eq!(
            caller.next(&mut asked).await["method"],
            "notifications/progress"
        );
        let ending = async {
            front.server.shut_down().await;
            front.gateway.finish().await;
        };
        let ((), answer) = tokio::join!(ending, caller.next(&mut asked));
        assert_eq!(answer["id"], 1);
        assert_eq!(answer["error"]["data"]["reason"], "shutting_down");
        assert_eq!(front.route().children().unwrap().running, 0);
    }
}
