//! Programs.

use serde_json::{Value, json};
use thinpipe_testkit::{Response, rpc};

use crate::front::{Front, SERVED, call, listen};
use crate::scripted::{STAMP, Scripted, Speaker};

const TOOLS_CHANGED: &str = "notifications/tools/list_changed";

async fn progress(speaker: &mut Speaker, request: &Value, value: u64) {
    let token = &request["params"]["_meta"]["progressToken"];
    let params = json!({"progressToken": token, "progress": value});
    speaker.notify("notifications/progress", params).await;
}

/// A listen of a client that was acknowledged, and what the program knows it as.
async fn listening(
    front: &Front,
    speaker: &mut Speaker,
    id: Value,
    wanted: &Value,
) -> (Response, Value) {
    let connection = front.send(&listen(id.clone(), wanted)).await;
    let heard = speaker.hears("subscriptions/listen").await;
    speaker.acknowledge(&heard).await;
    let mut stream = connection.response().await;
    let first = stream.next_message().await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["_meta"][STAMP], id);
    assert_eq!(first["params"]["notifications"], *wanted);
    (stream, heard)
}

/// R242: clients that choose the same ids and tokens share one process, and each gets its own, with its type.
#[tokio::test]
async fn r242_concurrent_calls_share_a_process_and_nothing_else() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let one = front.send(&call(7, 7)).await;
    let mut speaker = program.process_started().await;
    let first = speaker.hears("tools/call").await;
    let two = front.send(&call(7, 7)).await;
    let second = speaker.hears("tools/call").await;
    let three = front.send(&call("7", "7")).await;
    let third = speaker.hears("tools/call").await;
    let ids = [&first["id"], &second["id"], &third["id"]];
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2],
        "{ids:?}"
    );

    progress(&mut speaker, &third, 3).await;
    progress(&mut speaker, &first, 1).await;
    progress(&mut speaker, &second, 2).await;
    for (request, text) in [(&third, "c"), (&second, "b"), (&first, "a")] {
        speaker
            .answer(request, json!({"content": [], "text": text}))
            .await;
    }
    for (connection, id, value, text) in [
        (one, json!(7), 1, "a"),
        (two, json!(7), 2, "b"),
        (three, json!("7"), 3, "c"),
    ] {
        let mut response = connection.response().await;
        assert!(response.is_stream());
        assert_eq!(response.header("X-Accel-Buffering"), Some("no"));
        let told = response.next_message().await;
        assert_eq!(
            told["params"],
            json!({"progressToken": id, "progress": value})
        );
        let answer = response.next_message().await;
        assert_eq!(
            (&answer["id"], &answer["result"]["text"]),
            (&id, &json!(text))
        );
        assert_eq!(response.next_event().await, None);
    }
    assert_eq!(front.route().children().unwrap().spawned, 1);
}

/// R242, R148: two listens under one id each get their own copies; a final result ends one of them.
#[tokio::test]
async fn r242_listens_get_their_own_copies() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let wanted = json!({"toolsListChanged": true});
    let connection = front.send(&listen("L", &wanted)).await;
    let mut speaker = program.process_started().await;
    let heard = speaker.hears("subscriptions/listen").await;
    speaker.acknowledge(&heard).await;
    let mut one = connection.response().await;
    assert_eq!(one.next_message().await["params"]["_meta"][STAMP], "L");
    let (mut two, other) = listening(&front, &mut speaker, json!("L"), &wanted).await;
    assert_ne!(heard["id"], other["id"]);
    speaker
        .notify_listen(&other, TOOLS_CHANGED, json!({}))
        .await;
    let told = two.next_message().await;
    assert_eq!(
        (&told["method"], &told["params"]["_meta"][STAMP]),
        (&json!(TOOLS_CHANGED), &json!("L"))
    );
    speaker
        .answer(&heard, json!({"_meta": {STAMP: heard["id"]}}))
        .await;
    let end = one.next_message().await;
    assert_eq!(
        (&end["id"], &end["result"]["_meta"][STAMP]),
        (&json!("L"), &json!("L"))
    );
    assert_eq!(one.next_event().await, None);
    speaker
        .notify_listen(&other, TOOLS_CHANGED, json!({}))
        .await;
    assert_eq!(two.next_message().await["method"], TOOLS_CHANGED);
}

/// R243, K7: a client that leaves is told to the program by the id that it knows; a program that ends a listen
/// closes the client's stream with its final result.
#[tokio::test]
async fn r243_leaving_is_told_and_so_is_the_end() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    // Before the first message, and after.
    let silent = front.send(&call(1, 1)).await;
    let mut speaker = program.process_started().await;
    let first = speaker.hears("tools/call").await;
    silent.close();
    let told = speaker.hears("notifications/cancelled").await;
    assert_eq!(told["params"]["requestId"], first["id"]);
    let stream = front.send(&call(1, 1)).await;
    let second = speaker.hears("tools/call").await;
    progress(&mut speaker, &second, 1).await;
    let mut stream = stream.response().await;
    stream.next_message().await;
    stream.close();
    let told = speaker.hears("notifications/cancelled").await;
    assert_eq!(told["params"]["requestId"], second["id"]);

    let wanted = json!({"toolsListChanged": true});
    let (mut stream, heard) = listening(&front, &mut speaker, json!(9), &wanted).await;
    let params = json!({"requestId": heard["id"]});
    speaker.notify("notifications/cancelled", params).await;
    let end = stream.next_message().await;
    let result = json!({"resultType": "complete", "_meta": {STAMP: 9}});
    assert_eq!((&end["id"], &end["result"]), (&json!(9), &result));
    assert_eq!(stream.next_event().await, None);
    let (stream, heard) = listening(&front, &mut speaker, json!(9), &wanted).await;
    stream.close();
    let told = speaker.hears("notifications/cancelled").await;
    assert_eq!(told["params"]["requestId"], heard["id"]);
}

/// R244: a program that dies is started again; what it was asked may have run, and is not asked again; listens
/// go on, and are told what they may have missed.
#[tokio::test]
async fn r244_a_program_that_dies_is_started_again() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let silent = front.send(&call(1, 1)).await;
    let mut speaker = program.process_started().await;
    speaker.hears("tools/call").await;
    let begun = front.send(&call(2, 2)).await;
    let heard = speaker.hears("tools/call").await;
    progress(&mut speaker, &heard, 1).await;
    let mut begun = begun.response().await;
    begun.next_message().await;
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["r:1"]});
    let (mut stream, _) = listening(&front, &mut speaker, json!("L"), &wanted).await;
    speaker.die();

    let mut failed = silent.response().await;
    assert_eq!(failed.status, 502);
    let error = failed.json().await;
    let data = json!({"reason": "upstream_stream_lost", "upstream": "up"});
    assert_eq!((&error["id"], &error["error"]["data"]), (&json!(1), &data));
    let text = error["error"]["message"].as_str().unwrap().to_owned();
    assert!(text.ends_with("the call may have run"), "{text}");
    let error = begun.next_message().await;
    assert_eq!((&error["id"], &error["error"]["data"]), (&json!(2), &data));
    assert_eq!(begun.next_event().await, None);

    let mut speaker = program.process_started().await;
    let again = speaker.hears("subscriptions/listen").await;
    assert_eq!(again["params"]["notifications"], wanted);
    speaker.acknowledge(&again).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let notice = stream.next_message().await;
        assert_eq!(notice["params"]["_meta"][STAMP], "L");
        told.push((notice["method"].clone(), notice["params"]["uri"].clone()));
    }
    let updated = json!("notifications/resources/updated");
    assert_eq!(
        told,
        [(updated, json!("r:1")), (json!(TOOLS_CHANGED), Value::Null)]
    );
    speaker
        .notify_listen(&again, TOOLS_CHANGED, json!({}))
        .await;
    assert_eq!(stream.next_message().await["method"], TOOLS_CHANGED);
    assert_eq!(front.route().children().unwrap().spawned, 2);
}

/// 5.5, row "HTTP status": it is derived from the code. Row "JSON vs SSE": without a notification it is JSON.
#[tokio::test]
async fn statuses_are_derived_from_codes() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let mut speaker = None;
    for (code, status) in [
        (-32601, 404),
        (-32020, 400),
        (-32021, 400),
        (-32022, 400),
        (-32602, 200),
        (-32603, 200),
        (7, 200),
    ] {
        let connection = front.send(&call(1, 1)).await;
        let speaker = match &mut speaker {
            Some(speaker) => speaker,
            none => none.insert(program.process_started().await),
        };
        let heard = speaker.hears("tools/call").await;
        let data = json!({"supported": ["2030-01-01", "2026-07-28"], "requested": "x"});
        speaker.refuse(&heard, code, data).await;
        let mut response = connection.response().await;
        assert_eq!(response.status, status, "{code}");
        assert_eq!(response.header("Content-Type"), Some("application/json"));
        let error = response.json().await;
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&json!(1), &json!(code))
        );
        if code == -32022 {
            // K5: what is served here.
            assert_eq!(error["error"]["data"]["supported"], json!(SERVED));
        }
    }
}

/// K5, R150: a description names what is served here.
#[tokio::test]
async fn k5_discover_is_narrowed() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let connection = front
        .send(&rpc::modern(1, "server/discover", json!({})))
        .await;
    let mut speaker = program.process_started().await;
    let heard = speaker.hears("server/discover").await;
    let result =
        json!({"supportedVersions": ["2030-01-01", "2026-07-28"], "capabilities": {"tools": {}}});
    speaker.answer(&heard, result).await;
    let answer = connection.response().await.json().await;
    assert_eq!(answer["result"]["supportedVersions"], json!(SERVED));
    assert_eq!(answer["result"]["capabilities"], json!({"tools": {}}));
}

/// R130, 5.5: a notification is accepted and goes nowhere; so does what a program should not say.
#[tokio::test]
async fn r133_what_is_nobodys_goes_nowhere() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let connection = front.send(&call(1, 1)).await;
    let mut speaker = program.process_started().await;
    let heard = speaker.hears("tools/call").await;
    let mut cancel = rpc::modern(2, "notifications/cancelled", json!({"requestId": 1}));
    cancel.body = rpc::notification("notifications/cancelled", &json!({"requestId": 1}));
    assert_eq!(front.ask(&cancel).await.status, 202);
    speaker
        .say(rpc::request("s", "roots/list", &json!({})))
        .await;
    speaker
        .notify(
            "notifications/message",
            json!({"level": "info", "data": "x"}),
        )
        .await;
    speaker.notify(TOOLS_CHANGED, json!({})).await;
    speaker.answer(&heard, json!({"content": []})).await;
    let mut response = connection.response().await;
    assert!(!response.is_stream());
    assert_eq!(response.json().await["id"], 1);
}

/// Invariant 23: a client that does not read is cancelled, and holds up nobody.
#[tokio::test]
async fn invariant_23_a_client_that_does_not_read_holds_up_nobody() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let request = front.client.post_modern(&call(1, 1)).receive_buffer(4096);
    let lazy = request.send().await;
    let mut speaker = program.process_started().await;
    let heard = speaker.hears("tools/call").await;
    let other = front.send(&call(2, 2)).await;
    let second = speaker.hears("tools/call").await;
    let token = &heard["params"]["_meta"]["progressToken"];
    let pad = "x".repeat(64 << 10);
    // More than all buffers on the way take.
    for value in 0..256 {
        let params = json!({"progressToken": token, "progress": value, "message": pad});
        speaker.notify("notifications/progress", params).await;
    }
    let told = speaker.hears("notifications/cancelled").await;
    assert_eq!(told["params"]["requestId"], heard["id"]);
    speaker.answer(&second, json!({"content": []})).await;
    assert_eq!(other.response().await.json().await["id"], 2);
    let mut read = lazy.response().await;
    let mut last = Value::Null;
    while let Some(event) = read.next_event().await {
        last = serde_json::from_str(&event.data.unwrap_or_default()).unwrap();
    }
    assert_eq!(
        (&last["id"], &last["error"]["data"]["reason"]),
        (&json!(1), &json!("buffer_full"))
    );
}

/// Shutdown: listens get their final result, and the program ends with the gateway.
#[tokio::test]
async fn r147_a_listen_ends_well_when_the_gateway_stops() {
    let program = Scripted::start().await;
    let front = Front::start(program.modern()).await;
    let connection = front
        .send(&listen("L", &json!({"toolsListChanged": true})))
        .await;
    let mut speaker = program.process_started().await;
    let heard = speaker.hears("subscriptions/listen").await;
    speaker.acknowledge(&heard).await;
    let mut stream = connection.response().await;
    stream.next_message().await;
    let ended = async {
        let end = stream.next_message().await;
        assert_eq!(end["result"]["_meta"][STAMP], "L");
    };
    tokio::join!(front.server.shut_down(), ended);
    front.gateway.finish().await;
    while speaker.heard().await.is_some() {}
    front.children_run(0).await;
}
