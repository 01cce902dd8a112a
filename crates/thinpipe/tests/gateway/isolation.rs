//! What belongs to one client, one session or one stream stays there; what is shared is shared fairly.

use std::time::Duration;

use serde_json::json;
use thinpipe_testkit::{Client, Cut, Event, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings, events_of, start, start_resumable};

const TOKENS: &str = r#"
tokens = [
    { principal = "alice", token = "alice-0123456789abcdef" },
    { principal = "bob", token = "bob-0123456789abcdefgh" },
]
"#;

/// F10, R073, R181: a session belongs to whoever opened it: to somebody else it does not exist, on any method,
/// and the server does not hear of it; neither does it see anybody's token.
#[tokio::test]
async fn f10_sessions_belong_to_their_principal() {
    let upstream = Upstream::start().await;
    let settings = Settings::of_gateway(TOKENS);
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    let client = gateway.stranger();
    let (alice, bob) = (
        "Bearer alice-0123456789abcdef",
        "Bearer bob-0123456789abcdefgh",
    );
    let opened = client
        .post(rpc::initialize(0, "2025-11-25"))
        .header("Authorization", alice)
        .await;
    let session = opened
        .header("Mcp-Session-Id")
        .expect("a session")
        .to_owned();
    let before = upstream.record().requests;
    for (token, status) in [
        (Some(bob), 404),
        (Some("Bearer wrong-0123456789abcdef"), 401),
        (None, 401),
    ] {
        for request in [
            client.post(rpc::call(1, "echo")),
            client.get(),
            client.delete(),
        ] {
            let request = request.header("Mcp-Session-Id", &session);
            let request = match token {
                Some(token) => request.header("Authorization", token),
                None => request,
            };
            assert_eq!(request.await.status, status);
        }
    }
    assert_eq!(
        upstream.record().requests,
        before,
        "nothing of it reached the server"
    );
    let call = client
        .post(rpc::call(2, "echo"))
        .header("Mcp-Session-Id", &session);
    assert_eq!(
        call.header("Authorization", alice).await.status,
        200,
        "the session lives on"
    );
    let seen: String = upstream
        .record()
        .received
        .iter()
        .map(|request| request.to_text())
        .collect();
    assert!(!seen.contains("0123456789abcdef"));
}

/// F20, F18, R102: an event id leads to its own stream in its own session and nowhere else: that of another
/// session, one that nobody issued and one of a session that has ended get a refusal, without a word of what
/// is in the stream.
#[tokio::test]
async fn f20_event_ids_of_others_lead_nowhere() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.event_ids = true);
        let gateway = Gateway::start(&upstream, mode, Settings::default()).await;
        let (owner, other) = (gateway.client().await, gateway.client().await);
        let sessions = upstream.sessions();
        let mut stream = owner.get().await;
        for text in ["first", "private"] {
            let session = &sessions[sessions.len() - 2];
            upstream.notify(
                session,
                rpc::notification("notifications/message", &json!({"data": text})),
            );
        }
        let id = stream
            .next_event()
            .await
            .and_then(|event| event.id)
            .expect("an event with an id");
        stream.close();
        for foreign in [id.as_str(), "invented-7"] {
            let mut refused = other.resume(foreign).await;
            assert_eq!(refused.status, 400, "R110: {foreign}");
            let body = refused.read_to_end().await;
            assert!(!String::from_utf8_lossy(&body).contains("private"));
        }
        assert_eq!(
            other.post(rpc::call(1, "echo")).await.status,
            200,
            "the session stays usable"
        );
        let mut resumed = owner.resume(&id).await;
        assert_eq!(resumed.next_message().await["params"]["data"], "private");
        owner.delete().await;
        assert_eq!(owner.resume(&id).await.status, 404);
    }
}

/// B19, R104, R105, R117: a resumed stream begins with the id it is resumed after and empty data, but only for
/// clients that know what that means.
#[tokio::test]
async fn b19_resumed_streams_are_primed_for_those_who_know() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.event_ids = true);
        let gateway = Gateway::start(&upstream, mode, Settings::default()).await;
        for revision in rpc::LEGACY {
            let client = gateway.client_of(revision).await;
            let ids = [0, 1].map(|n| format!("s{revision}-{n}"));
            let last = rpc::response("earlier", &json!({}));
            let data = [rpc::progress(1, 2), last.clone()];
            let events = ids
                .iter()
                .zip(data)
                .map(|(id, data)| Event::message(data).with_id(id));
            upstream.publish(&format!("s{revision}"), events.collect());
            let (events, end) = client.resume(&ids[0]).await.events_to_end().await;
            assert_eq!(end, Ok(()));
            let seen: Vec<_> = events
                .iter()
                .map(|event| (event.id.as_ref(), event.data.as_deref()))
                .collect();
            let primed = (Some(&ids[0]), Some(""));
            let answer = (Some(&ids[1]), Some(last.as_str()));
            if revision >= "2025-11-25" {
                assert_eq!(seen, [primed, answer], "{revision}");
            } else {
                assert_eq!(seen, [answer], "{revision}");
            }
        }
    }
}

/// G2: what is resumed is resumed by GET, with an id that this server issued in this session, and no request
/// is posted twice, however often the stream breaks and however the server refuses in between.
#[tokio::test]
async fn g2_only_get_resumes_and_only_with_an_issued_id() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let (upstream, _gateway, client) = start_resumable(mode).await;
        let mut events: Vec<_> = (1..4)
            .map(|step| Event::message(rpc::progress(step, 3)))
            .collect();
        events.push(Event::message(rpc::text_result("done")));
        for (index, event) in events.iter_mut().enumerate() {
            event.id = Some(format!("g2-{index}"));
            event.retry = Some(1);
        }
        upstream.publish("g2", events);
        let part = || Script::stream_part("g2", 1).read_by_peer().cut(Cut::Reset);
        upstream.on("tools/call", part());
        upstream.once("GET", Script::status(503));
        upstream.once("GET", part());
        upstream.once("GET", Script::new().cut(Cut::Reset));
        upstream.once("GET", part());
        let seen = events_of(&client, rpc::call(1, "echo")).await;
        let ids: Vec<_> = seen
            .iter()
            .filter_map(|event| event.id.as_deref())
            .collect();
        assert_eq!(ids, ["g2-0", "g2-1", "g2-2", "g2-3"]);
        let record = upstream.record();
        assert_eq!(record.count("tools/call"), 1, "{record}");
        let cursors: Vec<_> = record
            .all("GET")
            .map(|get| get.last_event_id().unwrap_or_default())
            .collect();
        // One that was cut before a byte came may be asked again at once: it had no effect.
        let mut distinct = cursors.clone();
        distinct.dedup();
        assert_eq!(distinct, ["g2-0", "g2-1", "g2-2"], "{cursors:?}");
        let own = upstream.sessions().pop();
        assert!(record.all("GET").all(|get| get.session() == own.as_deref()));
    }
}

/// D7, G7: a server that takes every connection, says where the stream stands, and drops it, makes no progress: the
/// pauses grow, whatever it asks for, and also if it says another place each time.
#[tokio::test]
async fn g7_accepting_and_dropping_is_no_progress() {
    for (mode, fresh_ids) in [
        (Mode::Pass, false),
        (Mode::Inspect, false),
        (Mode::Pass, true),
        (Mode::Inspect, true),
    ] {
        let (upstream, _gateway, client) = start_resumable(mode).await;
        let first = Event::message(rpc::progress(1, 2))
            .with_id("g7-0")
            .with_retry(0);
        upstream.on(
            "tools/call",
            Script::events().event(first).read_by_peer().cut(Cut::Fin),
        );
        upstream.on_each("GET", move |request| {
            let id = match fresh_ids {
                true => format!("g7-primed-{}", request.number),
                false => "g7-0".to_owned(),
            };
            let primed = Event::priming(&id).with_retry(0);
            Some(Script::events().event(primed).read_by_peer().cut(Cut::Fin))
        });
        let mut response = client.post(rpc::call(1, "echo")).await;
        assert_eq!(response.next_message().await["params"]["progress"], 1);
        let seventh = upstream.nth("GET", 6).await;
        let started = upstream.requests("GET")[0].at;
        // 20, 40, 80, 160, 200 and 200 ms at least; without the growth it would be 60 ms.
        let spent = seventh.at - started;
        assert!(
            spent >= Duration::from_millis(600),
            "{spent:?} for six pauses"
        );
        // Progress starts the pauses anew, and the answer arrives.
        let answer = Event::message(rpc::response(1, &json!({})));
        upstream.on("GET", Script::events().event(answer.with_id("g7-1")));
        assert_eq!(response.next_message().await["id"], 1);
    }
}

/// H5: a hundred calls, ten at a time: each gets its turn, none starves, none gets in beside.
#[tokio::test]
async fn h5_no_call_starves_for_a_connection() {
    const CALLS: usize = 100;
    const CONNECTIONS: usize = 10;
    let upstream = Upstream::start().await;
    let settings = Settings::of_upstream("pool = { max_connections = 10 }");
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    gateway.knows_upstream().await;
    let client = gateway.client().await;
    let slow = upstream.gate("slow");
    let mut waiting = Vec::new();
    for id in 0..CALLS {
        waiting.push(client.post(rpc::call(id, "slow")).send().await);
    }
    slow.reached_times(CONNECTIONS).await;
    // Nobody is let in beside them until one of them is done.
    for done in 0..5 {
        assert_eq!(slow.arrivals(), CONNECTIONS + done);
        slow.release(1);
        slow.reached_times(CONNECTIONS + done + 1).await;
    }
    slow.open();
    for (id, connection) in waiting.into_iter().enumerate() {
        assert_eq!(connection.response().await.json().await["id"], id);
    }
    assert_eq!(upstream.record().count("tools/call"), CALLS);
}

/// H5: streams have a budget of their own: one stream too many is refused with its reason, short requests go on.
#[tokio::test]
async fn h5_one_stream_too_many_is_refused_alone() {
    let settings = Settings::of_upstream("pool = { max_streams = 1 }");
    let (upstream, _gateway, client) = start(Mode::Pass, settings).await;
    let mut stream = client.get().await;
    assert!(stream.is_stream());
    let endless = Script::events().message(rpc::progress(1, 2)).stall();
    upstream.once("tools/call", endless);
    let mut refused = client.post(rpc::call(1, "echo")).await;
    let answer = refused.json().await;
    let reason = &answer["error"]["data"]["reason"];
    assert_eq!(
        (refused.status, reason),
        (502, &json!("too_many_streams")),
        "{answer}"
    );
    assert_eq!(
        (&answer["id"], refused.header("Retry-After").is_some()),
        (&json!(1), false)
    );
    assert_eq!(client.post(rpc::call(2, "echo")).await.status, 200);
    let session = upstream.sessions().pop().expect("a session");
    upstream.notify(
        &session,
        rpc::notification("notifications/message", &json!({"data": 1})),
    );
    assert_eq!(stream.next_message().await["params"]["data"], 1);
}

/// H6: connections are replaced after so many requests, so that a new backend behind the same address gets
/// its share.
#[tokio::test]
async fn h6_connections_are_replaced() {
    let settings = Settings {
        gateway: "workers = 1",
        upstream: "pool = { rotate_after_requests = 10 }",
    };
    let (upstream, _gateway, client) = start(Mode::Pass, settings).await;
    for id in 0..50 {
        client.post(rpc::call(id, "echo")).await.read_to_end().await;
    }
    let record = upstream.record();
    let mut on_connection = vec![0; record.connections];
    for request in &record.received {
        on_connection[request.connection] += 1;
    }
    assert!(
        on_connection.iter().all(|requests| *requests <= 10),
        "{on_connection:?}"
    );
    assert!((5..=10).contains(&record.connections), "{on_connection:?}");
}

/// B11, D4: an `initialize` that is answered by an event stream opens the session as one answered by JSON does, and
/// every later answer is what the server chose, whatever the URL says.
#[tokio::test]
async fn d4_answers_are_json_or_streams() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.always_stream = true);
        let gateway = Gateway::start(&upstream, mode, Settings::default()).await;
        let mut client: Client = gateway.client().await;
        assert!(client.session().is_some());
        assert!(client.post(rpc::call(1, "echo")).await.is_stream());
        let mut asking = Client::new(&format!("{}?mode=json", gateway.url));
        asking.initialize("2025-11-25").await;
        assert!(asking.post(rpc::call(1, "echo")).await.is_stream());
        upstream.set(|behaviour| behaviour.always_stream = false);
        assert!(!client.post(rpc::call(2, "echo")).await.is_stream());
        client.initialize("2025-06-18").await;
        assert_eq!(
            client.post(rpc::call(3, "echo")).await.answer().await["id"],
            3
        );
    }
}

/// R071, R114: when a session ends, by DELETE or because the server lost it, a request that is still being
/// answered on a stream gets an error with its id: nobody would answer it later.
#[tokio::test]
async fn r071_requests_of_a_session_that_ends_are_answered() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let upstream = Upstream::start().await;
        let gateway = Gateway::start(&upstream, mode, Settings::default()).await;
        upstream.on(
            "tools/call:ask",
            Script::events().message(rpc::progress(1, 2)).stall(),
        );
        for deleted in [true, false] {
            let client = gateway.client().await;
            let mut running = client.post(rpc::call("running", "ask")).await;
            assert_eq!(running.next_message().await["params"]["progress"], 1);
            if deleted {
                assert_eq!(client.delete().await.status, 200);
            } else {
                upstream.forget(&upstream.sessions().pop().expect("a session"));
                assert_eq!(client.post(rpc::call("lost", "echo")).await.status, 404);
            }
            let answer = running.next_message().await;
            let reason = &answer["error"]["data"]["reason"];
            assert_eq!(
                (&answer["id"], reason),
                (&json!("running"), &json!("upstream_stream_lost"))
            );
            assert_eq!(running.next_event().await, None);
        }
    }
}
