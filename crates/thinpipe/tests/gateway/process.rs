//! The process: what it holds, and how it ends.

use std::time::Duration;

use serde_json::json;
use thinpipe_testkit::{Client, DEADLINE, Event, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings, start};

/// B7, J5: a session that waits costs about a kilobyte.
#[tokio::test]
async fn b7_a_session_is_small() {
    const SESSIONS: u64 = 4000;
    const EACH: u64 = 2 << 10;
    let upstream = Upstream::start().await;
    let settings = Settings::of_gateway("workers = 1");
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    open_sessions(&gateway, SESSIONS / 4).await;
    let before = gateway.process.usage().rss_bytes;
    open_sessions(&gateway, SESSIONS).await;
    let growth = gateway.process.usage().rss_bytes.saturating_sub(before);
    let live = gateway.status().await["sessions"]["live"].as_u64();
    assert_eq!(live, Some(SESSIONS + SESSIONS / 4));
    assert!(
        growth <= SESSIONS * EACH,
        "{} bytes a session",
        growth / SESSIONS
    );
}

async fn open_sessions(gateway: &Gateway, count: u64) {
    let client = gateway.stranger();
    let mut connection = client.connect().await;
    for id in 0..count {
        let opened = client.post(rpc::initialize(id, "2025-11-25"));
        let mut response = opened.on(connection).await;
        assert_eq!(response.status, 200);
        response.read_to_end().await;
        connection = response.into_connection();
    }
}

/// D6, C22, R106: many streams: they are counted, there is a cap, and at the end each one is closed as it should
/// be: a standalone one with a `retry`, if its client knows what that means, a subscription with its result, a
/// call with its answer, also where its events have ids; what is not answered in time hears so, and gets no
/// cursor to a stream that will not be there; and nothing new is taken.
#[tokio::test]
async fn d6_streams_are_counted_capped_and_closed() {
    const STREAMS: usize = 60;
    for mode in [Mode::Pass, Mode::Inspect] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.event_ids = true);
        let settings = Settings::of_gateway("limits = { max_streams = 60, drain = \"3s\" }");
        let mut gateway = Gateway::start(&upstream, mode, settings).await;
        let client = gateway.client().await;
        let event = Event::message(rpc::progress(1, 2));
        let last = Script::events().event(event.clone());
        let gate = thinpipe_testkit::Gate::new();
        let last = last.wait(&gate).message(rpc::text_result("in time"));
        upstream.on("tools/call:slow", last);
        let endless = Script::events().event(event.with_id("endless-0"));
        upstream.on("tools/call:echo", endless.stall());
        let mut plain = client.post(rpc::call("plain", "slow")).await;
        plain.next_message().await;
        let with_ids =
            Script::events().event(Event::message(rpc::progress(1, 2)).with_id("late-0"));
        let with_ids = with_ids.wait(&gate).message(rpc::text_result("in time"));
        upstream.on("tools/call:late", with_ids);
        let mut late = client.post(rpc::call("late", "late")).await;
        late.next_message().await;
        let mut listening = listen(&client).await;
        listening.next_message().await;
        let mut standalone = Vec::new();
        for revision in ["2025-11-25", "2025-06-18"] {
            let client = gateway.client_of(revision).await;
            let session = upstream.sessions().pop().expect("a session");
            let mut stream = client.get().await;
            upstream.notify(&session, rpc::notification("x", &json!({})));
            assert!(
                stream
                    .next_event()
                    .await
                    .is_some_and(|event| event.id.is_some())
            );
            standalone.push((stream, revision == "2025-11-25"));
        }
        let mut resumable = Vec::new();
        for id in 0..STREAMS - 5 {
            let mut stream = client.post(rpc::call(id, "echo")).await;
            stream.next_message().await;
            resumable.push(stream);
        }
        assert_eq!(gateway.status().await["server"]["streams_open"], STREAMS);
        let refused = client.post(rpc::call("one more", "echo")).await;
        assert_eq!(
            (refused.status, refused.header("Retry-After").is_some()),
            (502, false),
            "its call may have run"
        );

        gateway.process.signal("TERM").await;
        let (events, end) = listening.events_to_end().await;
        assert_eq!((events.len(), end), (1, Ok(())));
        assert_eq!(events[0].json()["id"], "L", "R147");
        assert!(events[0].json()["result"].is_object());
        for (mut stream, retries) in standalone {
            let (events, end) = stream.events_to_end().await;
            assert_eq!((events.len(), end), (usize::from(retries), Ok(())));
            assert!(
                events.iter().all(|event| event.retry.is_some()),
                "{events:?}"
            );
        }
        gate.open();
        assert_eq!(plain.next_message().await["id"], "plain");
        assert_eq!(plain.next_event().await, None);
        assert_eq!(
            late.next_message().await["result"]["content"][0]["text"],
            "in time"
        );
        for (id, stream) in resumable.iter_mut().enumerate() {
            let (events, end) = stream.events_to_end().await;
            assert_eq!((events.len(), end), (1, Ok(())), "{events:?}");
            assert_eq!(events[0].retry, None, "{events:?}");
            let error = events[0].json();
            assert_eq!(
                (&error["id"], &error["error"]["data"]["reason"]),
                (&json!(id), &json!("shutting_down"))
            );
        }
        assert!(gateway.process.wait().await.success());
    }
}

/// C22: after the signal, a call that waits for its client ends: the answer comes over a connection that has
/// carried a reply since, or over a new one. New calls are turned away on both.
#[tokio::test]
async fn c22_a_running_call_is_answered_after_the_signal() {
    for over_new in [false, true] {
        let upstream = Upstream::start().await;
        let mut gateway = Gateway::start(&upstream, Mode::Pass, Settings::default()).await;
        let client = gateway.client().await;
        let question = rpc::request("s1", "roots/list", &json!({}));
        let script = Script::events().message(question);
        let script = script.wait_for_answer("\"s1\"");
        upstream.on("tools/call:ask", script.message(rpc::text_result("done")));
        let mut running = client.post(rpc::call(1, "ask")).await;
        assert_eq!(running.next_message().await["id"], "s1");
        let kept = client.connect().await;

        gateway.process.signal("TERM").await;
        drains(&gateway).await;
        let mut refused = client.post(rpc::call(2, "echo")).on(kept).await;
        let reply = (refused.status, refused.header("Retry-After").is_some());
        assert_eq!(reply, (503, true));
        refused.read_to_end().await;
        let answer = client.post(rpc::response("s1", &json!({"roots": []})));
        let taken = match over_new {
            true => answer.await,
            false => answer.on(refused.into_connection()).await,
        };
        assert_eq!(taken.status, 202);
        let done = running.next_message().await;
        assert_eq!(done["result"]["content"][0]["text"], "done");
        assert_eq!(running.next_event().await, None);
        assert!(gateway.process.wait().await.success());
    }
}

async fn drains(gateway: &Gateway) {
    let look = async {
        while gateway.status().await["status"] != "draining" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let looked = tokio::time::timeout(DEADLINE, look).await;
    looked.expect("it drains after the signal");
}

async fn listen(client: &Client) -> thinpipe_testkit::Response {
    let params = json!({"notifications": {"toolsListChanged": true}});
    client
        .post_modern(&rpc::modern("L", "subscriptions/listen", params))
        .await
}

/// C17: a body that stops in its middle is given up after the time between two bytes: with a status if nothing
/// was said yet, else so that it cannot be taken for whole.
#[tokio::test]
async fn c17_a_body_that_stops_is_given_up() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let settings = Settings::of_upstream("timeouts = { idle = \"300ms\" }");
        let (upstream, _gateway, client) = start(mode, settings).await;
        let script = Script::status(200)
            .content_type("application/json")
            .length(100);
        upstream.on("tools/call", script.body("{\"jsonrpc\":").stall());
        let mut response = client.post(rpc::call(17, "echo")).await;
        if mode == Mode::Pass {
            let (_, end) = response.try_read_to_end().await;
            assert!(end.is_err(), "half a body was passed off as a whole one");
        } else {
            let answer = response.json().await;
            let reason = &answer["error"]["data"]["reason"];
            assert_eq!(
                (response.status, reason),
                (504, &json!("upstream_timeout")),
                "{answer}"
            );
            assert_eq!(answer["id"], 17);
        }
    }
}
