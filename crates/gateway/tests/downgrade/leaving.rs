//! Clients and servers that leave (R238, R241).

use serde_json::json;
use thinpipe_testkit::{Cut, Event, Script, rpc};

use crate::place::{
    ALICE, Place, WAYS, Way, accepted, answers, ask, asked, call, request, retry, send,
};

/// R238: closing the POST cancels the call upstream; closing it while parked cancels nothing.
#[tokio::test]
async fn r238_closing_the_post_cancels() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let parked = call(1, "ask");
        let first = asked(&client, &parked).await;
        let connection = send(&client, &call(2, "slow")).await;
        let slow = place.upstream.nth("tools/call", 1).await;
        connection.close();
        place
            .upstream
            .wait_until(|record| record.count("notifications/cancelled") > 0)
            .await;
        let cancelled = place.upstream.requests("notifications/cancelled");
        let id = cancelled[0].param("/requestId").to_string();
        assert_eq!(slow.id_text(), Some(&*id), "{way:?}");
        let again = retry(3, &parked, &first, &answers(&first, &accepted()));
        let done = ask(&client, &again).await;
        assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        assert_eq!(place.count("notifications/cancelled"), 1, "{way:?}");
    }
}

/// R241: a stream that breaks and has event ids is resumed, and the client sees nothing of it.
#[tokio::test]
async fn r241_a_stream_with_ids_is_resumed() {
    let place = Place::start(Way::Sessions).await;
    let client = place.client(ALICE);
    // Its standing stream is open then.
    ask(&client, &call(1, "echo")).await;
    let priming = Event::priming("e-1").with_retry(10);
    let broken = Script::events().event(priming).read_by_peer();
    place.upstream.once("tools/call", broken.cut(Cut::Reset));
    let result = json!({"content": [{"type": "text", "text": "resumed"}]});
    let answer = Event::message(rpc::response(3, &result)).with_id("e-2");
    place.upstream.once("GET", Script::events().event(answer));
    let done = ask(&client, &call(2, "echo")).await;
    assert_eq!(done["result"]["content"], result["content"], "{done}");
    let resumed = place.upstream.requests("GET").pop().unwrap();
    assert_eq!(resumed.last_event_id(), Some("e-1"));
    assert_eq!(place.count("tools/call"), 2);
}

/// R241: one without ids is an error that says that the call may have run; a list is asked for again.
#[tokio::test]
async fn r241_a_stream_without_ids_is_an_error() {
    let place = Place::start(Way::Sessions).await;
    let client = place.client(ALICE);
    ask(&client, &call(1, "echo")).await;
    let cut = || {
        Script::events()
            .event(Event::comment("x"))
            .read_by_peer()
            .cut(Cut::Reset)
    };
    place.upstream.once("tools/call", cut());
    let lost = ask(&client, &call(2, "echo")).await;
    assert_eq!(lost["error"]["code"], -32603, "{lost}");
    assert_eq!(lost["error"]["data"]["reason"], "upstream_stream_lost");
    assert_eq!(place.count("tools/call"), 2);
    place.upstream.once("tools/list", cut());
    let listed = ask(&client, &request(3, "tools/list", json!({}))).await;
    assert!(listed["result"]["tools"].is_array(), "{listed}");
}

/// Open choice O18: a session that the server has forgotten is replaced, and the request sent once more.
#[tokio::test]
async fn r241_a_forgotten_session_is_replaced() {
    let place = Place::start(Way::Sessions).await;
    let client = place.client(ALICE);
    ask(&client, &call(1, "echo")).await;
    let session = place.upstream.sessions().remove(0);
    place.upstream.forget(&session);
    let answer = ask(&client, &call(2, "echo")).await;
    assert!(answer["result"]["content"].is_array(), "{answer}");
    assert_eq!(place.count("initialize"), 2);
}

/// R241: a server that dies loses what runs, with an error now, or with the retry; nothing runs again.
#[tokio::test]
async fn r241_a_server_that_dies_loses_what_runs() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let parked = call(1, "ask");
        let first = asked(&client, &parked).await;
        let connection = send(&client, &call(2, "slow")).await;
        place.upstream.nth("tools/call", 1).await;
        place.upstream.die().await;
        let lost = connection.response().await.answer().await;
        assert_eq!(lost["error"]["code"], -32603, "{way:?} {lost}");
        let again = retry(3, &parked, &first, &answers(&first, &accepted()));
        let lost = ask(&client, &again).await;
        assert_eq!(lost["error"]["code"], -32603, "{way:?} {lost}");
        assert_eq!(place.count("tools/call"), 2, "{way:?}");
    }
}

/// R238: a question that an interceptor does not let pass, its client cannot answer: the call is cancelled.
#[tokio::test]
async fn r238_a_question_that_is_withheld_cancels_its_call() {
    let reject = json!({"type": "rules", "rules": [{
        "when": {"methods": ["tools/call"], "direction": "to_client"},
        "then": [{"reject": {"message": "no"}}],
    }]});
    let redact = |pointer: &str| json!({"type": "redact", "rules": [{"pointer": pointer, "methods": ["tools/call"]}]});
    for (way, config) in [
        (Way::Sessions, reject.clone()),
        (Way::Stdio, reject),
        (Way::Sessions, redact("/result/requestState")),
        (Way::Sessions, redact("/result/resultType")),
    ] {
        let place = Place::with(
            way,
            |_| {},
            |spec| {
                let config = serde_json::from_value(config).expect("an interceptor");
                spec.interceptors.push(config);
            },
        )
        .await;
        let answer = ask(&place.client(ALICE), &call(1, "ask")).await;
        assert_eq!(answer["id"], 1, "{answer}");
        let cancelled = place.upstream.nth("notifications/cancelled", 0).await;
        let call = place.upstream.requests("tools/call").remove(0);
        assert_eq!(*cancelled.param("/requestId"), call.json()["id"], "{way:?}");
    }
}
