//! Streams that their client leaves.

use serde_json::{Value, json};
use thinpipe_gateway::UpstreamSpec;
use thinpipe_testkit::{Gate, Outcome, Script, rpc};

use crate::client::{Binding, Caller, able};
use crate::front::Front;

/// R229: a client that leaves a POST finds its stream again, although the server knows of no such thing.
#[tokio::test]
async fn r229_a_dropped_post_can_be_resumed() {
    for revision in [rpc::LEGACY[0], rpc::LEGACY[2]] {
        let front = Front::start().await;
        let gate = Gate::new();
        let script = Script::events()
            .message(rpc::progress(1, 3))
            .wait(&gate)
            .message(rpc::progress(2, 3))
            .message(rpc::modern_text_result("done"));
        front.upstream.on("tools/call:echo", script);
        let caller = Caller::declaring(&front, Binding::Streamable, revision, &able()).await;
        let client = caller.streamable();
        let mut stream = client.post(rpc::call(7, "echo")).await;
        let first = loop {
            let event = stream.next_event().await.unwrap();
            if event.has_message() {
                break event;
            }
        };
        assert_eq!(first.json()["params"]["progress"], 1);
        let last = first
            .id
            .expect("events have ids, so that they can be resumed");
        stream.close();
        gate.open();

        let mut resumed = client.resume(&last).await;
        assert_eq!(resumed.status, 200);
        assert_eq!(resumed.next_message().await["params"]["progress"], 2);
        let answer = resumed.next_message().await;
        assert_eq!(answer["id"], 7);
        assert_eq!(answer["result"]["content"][0]["text"], "done");
        let is_complete = |record: &thinpipe_testkit::Record| {
            record.outcome("tools/call:echo") == Some(Outcome::Complete)
        };
        front.upstream.wait_until(is_complete).await;
        assert_eq!(front.upstream.requests("tools/call:echo").len(), 1);
        // Once more, from the beginning of what was missed: it is kept.
        let mut again = client.resume(&last).await;
        assert_eq!(again.next_message().await["params"]["progress"], 2);
    }
}

/// F23: how much of a stream is kept is a setting; what has gone is refused, never skipped over.
#[tokio::test]
async fn f23_what_is_kept_of_a_stream_is_a_setting() {
    let keeps = |spec: &mut UpstreamSpec| spec.event_log.max_events = 2;
    let front = Front::with(keeps, |_| {}).await;
    let script = (1..=5).fold(Script::events(), |script, done| {
        script.message(rpc::progress(done, 5))
    });
    let script = script.message(rpc::modern_text_result("done"));
    front.upstream.on("tools/call:echo", script);
    let caller = Caller::begin(&front, Binding::Streamable).await;
    let client = caller.streamable();
    let (events, end) = { client.post(rpc::call(7, "echo")).await }
        .events_to_end()
        .await;
    assert_eq!(end, Ok(()));
    let ids = events.iter().filter(|event| event.has_message());
    let ids: Vec<_> = ids.map(|event| event.id.clone().unwrap()).collect();
    assert_eq!(ids.len(), 6, "{events:?}");
    let mut refused = client.resume(&ids[2]).await;
    assert_eq!(refused.status, 400);
    let error = refused.json().await;
    assert_eq!(
        error["error"]["data"]["reason"], "event_not_found",
        "{error}"
    );
    let mut resumed = client.resume(&ids[3]).await;
    assert_eq!(resumed.next_message().await["params"]["progress"], 5);
    assert_eq!(resumed.next_message().await["id"], 7);
}

/// Protocol notes 5.3, row "client stream drops": a question lies in the log, and any POST answers it.
#[tokio::test]
async fn r229_a_question_can_be_answered_after_its_stream_was_left() {
    let front = Front::start().await;
    let caller = Caller::begin(&front, Binding::Streamable).await;
    let client = caller.streamable();
    let mut stream = client.post(rpc::call(7, "ask")).await;
    let (question, last) = loop {
        let event = stream.next_event().await.unwrap();
        if event.has_message() {
            break (event.json(), event.id.unwrap());
        }
    };
    stream.close();
    caller.reply(&question, json!({"action": "cancel"})).await;
    let mut resumed = client.resume(&last).await;
    let answer = resumed.next_message().await;
    let seat = &answer["result"]["structuredContent"]["answers"]["seat"];
    assert_eq!(*seat, json!({"action": "cancel"}));
}

/// Protocol notes 5.3: what one request's client does not read holds up its own call, and no other.
#[tokio::test]
async fn one_stream_that_is_not_read_holds_up_its_own_call_alone() {
    let front = Front::start().await;
    let flood = "x".repeat(100_000);
    let line = json!({"level": "error", "data": flood});
    let mut script = Script::events();
    for _ in 0..150 {
        script = script.message(rpc::notification("notifications/message", &line));
    }
    front.upstream.on(
        "tools/call:echo",
        script.message(rpc::modern_text_result("done")),
    );
    let mut caller = Caller::begin(&front, Binding::Streamable).await;
    caller
        .result(1, "logging/setLevel", json!({"level": "info"}))
        .await;
    let client = caller.streamable().clone();
    let unread = client
        .post(rpc::call(2, "echo"))
        .receive_buffer(65_536)
        .await;
    let taken = front.upstream.blocked("tools/call:echo").await;
    assert!(taken < 15_000_000, "{taken} bytes are on their way");
    let answer = caller.answer(rpc::call(3, "progress")).await;
    assert_eq!(answer["method"], "notifications/progress");
    let (events, _) = { unread }.events_to_end().await;
    let lines = events.iter().filter(|event| event.has_message());
    let lines: Vec<Value> = lines.map(thinpipe_testkit::Event::json).collect();
    assert_eq!(lines.len(), 151, "nothing is missing");
    assert_eq!(lines.last().unwrap()["id"], 2);
}
