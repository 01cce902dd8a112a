//! `session_lost = "reestablish"`: the server forgot its session, and the client need not know.

use serde_json::json;
use thinpipe_testkit::{Client, Cut, Event, Script, Upstream, rpc};

use crate::support::{self, Mode, Settings, Started};

async fn start(mode: Mode) -> Started {
    start_with(mode, "").await
}

async fn start_with(mode: Mode, more: &str) -> Started {
    let upstream = format!("session_lost = \"reestablish\"\n{more}");
    let started = support::start(mode, Settings::of_upstream(&upstream)).await;
    for method in ["resources/subscribe", "resources/unsubscribe"] {
        started.0.on(method, Script::json(rpc::result(json!({}))));
    }
    started
}

fn newest(upstream: &Upstream) -> String {
    upstream.sessions().pop().expect("a session was opened")
}

fn forget(upstream: &Upstream) {
    upstream.forget(&newest(upstream));
}

async fn set_up(client: &Client) {
    let subscription = |id: u64, method: &str, uri: &str| {
        client.post(rpc::request(id, method, &json!({"uri": uri})))
    };
    for request in [
        client.post(rpc::request(
            90,
            "logging/setLevel",
            &json!({"level": "error"}),
        )),
        client.post(rpc::request(
            91,
            "logging/setLevel",
            &json!({"level": "debug"}),
        )),
        subscription(92, "resources/subscribe", "file:///a"),
        subscription(93, "resources/subscribe", "file:///b"),
        subscription(94, "resources/subscribe", "file:///c"),
        subscription(95, "resources/unsubscribe", "file:///b"),
    ] {
        assert_eq!(request.await.status, 200);
    }
}

/// R076, architecture "Failover": the session is opened anew with the client's own parameters, its log level
/// and its subscriptions are repeated, the request is sent once more, and nothing of all that is seen.
#[tokio::test]
async fn lost_session_is_reestablished_with_its_state() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let (upstream, _gateway, client) = start(mode).await;
        let session = client.session().unwrap_or_default().to_owned();
        set_up(&client).await;
        forget(&upstream);
        let before = upstream.record().received.len();
        let mut response = client.post(rpc::call("again", "echo")).await;
        assert_eq!(
            (
                response.status,
                response.header("Mcp-Session-Id").unwrap_or(&session)
            ),
            (200, session.as_str())
        );
        assert_eq!(response.json().await["id"], "again");

        let record = upstream.record();
        let sent: Vec<_> = record.received[before..]
            .iter()
            .map(|request| {
                (
                    request.rpc_method().unwrap_or_default(),
                    request.json()["params"]["uri"].as_str(),
                )
            })
            .collect();
        assert_eq!(
            sent,
            [
                ("tools/call", None),
                ("initialize", None),
                ("notifications/initialized", None),
                ("logging/setLevel", None),
                ("resources/subscribe", Some("file:///a")),
                ("resources/subscribe", Some("file:///c")),
                ("tools/call", None),
            ]
        );
        let opened: Vec<_> = record
            .all("initialize")
            .map(|request| request.json()["params"].clone())
            .collect();
        assert_eq!(
            opened.last(),
            opened
                .first()
                .filter(|_| opened.len() >= 2)
                .map(|_| &opened[opened.len() - 2])
        );
        let level = record
            .last("logging/setLevel")
            .map(|request| request.json()["params"]["level"].clone());
        assert_eq!(level, Some(json!("debug")));
        let fresh = newest(&upstream);
        for request in &record.received[before + 2..] {
            assert_eq!(request.session(), Some(fresh.as_str()));
        }
        assert_eq!(
            record.received[before].body,
            record.received[before + 6].body
        );
    }
}

/// Architecture "Failover": what the client must read again it is told on its next standalone stream; one
/// that was open ends.
#[tokio::test]
async fn reestablished_session_tells_what_to_read_again() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let (upstream, _gateway, client) = start(mode).await;
        let mut old = client.get().await;
        forget(&upstream);
        assert_eq!(client.post(rpc::call(1, "echo")).await.status, 200);
        let _ = old.events_to_end().await;
        let mut stream = client.get().await;
        assert_eq!(
            stream.next_message().await["method"],
            "notifications/tools/list_changed"
        );
        let note = rpc::notification("notifications/message", &json!({"data": "live"}));
        upstream.notify(&newest(&upstream), note);
        assert_eq!(stream.next_message().await["params"]["data"], "live");
        drop(stream);
        // They are told once.
        let mut stream = client.get().await;
        let note = rpc::notification("notifications/message", &json!({"data": "later"}));
        upstream.notify(&newest(&upstream), note);
        let mut seen = Vec::new();
        while seen.last() != Some(&json!("later")) {
            let message = stream.next_message().await;
            assert_ne!(message["method"], "notifications/tools/list_changed");
            seen.push(message["params"]["data"].clone());
        }
    }
}

/// B7, "honest before clever": a session of which more was set up than is remembered is not made again half.
#[tokio::test]
async fn session_with_too_much_state_ends() {
    let (upstream, _gateway, client) = start(Mode::Pass).await;
    set_up(&client).await;
    let uri = format!("file:///{}", "x".repeat(128 << 10));
    let request = rpc::request(96, "resources/subscribe", &json!({"uri": uri}));
    assert_eq!(client.post(request).await.status, 200);
    forget(&upstream);
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 404);
    assert_eq!(upstream.record().count("initialize"), 1);
}

/// A standalone stream that finds the session lost opens it anew, too.
#[tokio::test]
async fn standalone_stream_reestablishes_the_session() {
    let (upstream, _gateway, client) = start(Mode::Pass).await;
    forget(&upstream);
    let mut stream = client.get().await;
    assert_eq!(stream.status, 200);
    assert_eq!(
        stream.next_message().await["method"],
        "notifications/tools/list_changed"
    );
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 200);
}

/// R110, architecture "Failover": what a client resumes is lost with the session it was in. It is told so, and
/// gets no other stream instead; its session lives on, in the server's new one.
#[tokio::test]
async fn r110_lost_streams_are_refused_and_the_session_lives_on() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let (upstream, _gateway, client) = start(mode).await;
        upstream.set(|behaviour| behaviour.event_ids = true);
        let call = client.post(rpc::call(1, "progress"));
        let (events, _) = call.await.events_to_end().await;
        let id = events[1].id.clone().expect("an id");
        forget(&upstream);
        let mut refused = client.resume(&id).await;
        let answer = refused.json().await;
        let reason = &answer["error"]["data"]["reason"];
        assert_eq!(
            (refused.status, reason),
            (400, &json!("event_not_found")),
            "{answer}"
        );
        let record = upstream.record();
        let standalone = record
            .all("GET")
            .filter(|get| get.last_event_id().is_none());
        assert_eq!(standalone.count(), 0, "{record}");
        let opened = record.count("initialize");
        assert_eq!(client.post(rpc::call(2, "echo")).await.status, 200);
        let mut stream = client.get().await;
        assert_eq!(
            stream.next_message().await["method"],
            "notifications/tools/list_changed",
            "what to read again waits for the stream that it is for"
        );
        assert_eq!(upstream.record().count("initialize"), opened);
    }
}

/// Architecture "Failover": a standalone stream that breaks off and finds the session lost goes on in the
/// new one, without its client.
#[tokio::test]
async fn cut_standalone_stream_goes_on_in_the_new_session() {
    for mode in [Mode::Pass, Mode::Inspect] {
        let (upstream, _gateway, client) = start(mode).await;
        let note = rpc::notification("notifications/message", &json!({"data": "before"}));
        let first = Event::message(note).with_id("own-0").with_retry(10);
        let gate = thinpipe_testkit::Gate::new();
        let script = Script::events().event(first).wait(&gate).cut(Cut::Fin);
        upstream.once("GET", script);
        let mut stream = client.get().await;
        assert_eq!(stream.next_message().await["params"]["data"], "before");
        forget(&upstream);
        gate.open();
        assert_eq!(
            stream.next_message().await["method"],
            "notifications/tools/list_changed"
        );
        let note = rpc::notification("notifications/message", &json!({"data": "after"}));
        upstream.notify(&newest(&upstream), note);
        assert_eq!(stream.next_message().await["params"]["data"], "after");
        assert_eq!(client.post(rpc::call(1, "echo")).await.status, 200);
    }
}

/// Architecture "Failover": while another request is in flight the session is not opened anew: its outcome
/// would be lost without a word.
#[tokio::test]
async fn nothing_is_reestablished_while_a_request_is_in_flight() {
    let (upstream, gateway, mut client) = start(Mode::Pass).await;
    let slow = client.post(rpc::call("slow", "slow")).send().await;
    upstream.gate("slow").reached().await;
    let before = upstream.record().count("initialize");
    forget(&upstream);
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 404);
    assert_eq!(
        client.post(rpc::call(2, "echo")).await.status,
        404,
        "the session has ended"
    );
    assert_eq!(upstream.record().count("initialize"), before);
    upstream.gate("slow").open();
    let _ = slow.response().await;
    client.initialize("2025-11-25").await;
    assert_eq!(client.post(rpc::call(3, "echo")).await.status, 200);
    drop(gateway);
}

/// Architecture "Failover": a server that came back as another one is not taken for the same: the client gets
/// 404 and starts anew, and the server's new session, which nobody uses, is given back.
#[tokio::test]
async fn changed_capabilities_end_the_session() {
    let (upstream, _gateway, client) = start(Mode::Pass).await;
    forget(&upstream);
    let result = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}, "prompts": {}},
        "serverInfo": {"name": "another", "version": "2"},
    });
    upstream.once(
        "initialize",
        Script::json(rpc::result(result)).header("Mcp-Session-Id", "unused"),
    );
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 404);
    upstream
        .wait_until(|seen| {
            seen.last("DELETE")
                .is_some_and(|delete| delete.session() == Some("unused"))
        })
        .await;
    assert_eq!(upstream.record().count("tools/call"), 1);
}

/// Architecture "Failover", G8: a server may answer with streams that do not end. What is set up anew waits for
/// the response on them, and for nothing if there is none to come.
#[tokio::test]
async fn streams_that_go_on_do_not_hold_up_the_new_session() {
    let (upstream, _gateway, client) = start(Mode::Pass).await;
    set_up(&client).await;
    forget(&upstream);
    let goes_on = |script: Script| script.event(Event::comment("and on")).stall();
    let answered = Script::events().message(rpc::result(json!({})));
    upstream.once("notifications/initialized", goes_on(Script::events()));
    upstream.once("logging/setLevel", goes_on(answered));
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 200);
}

/// Architecture "Failover", C17: a session is opened anew within the time that one request has, however the
/// server spends it and whoever waits for it. Then it has ended, and the server's new one, if there is any, is
/// given back.
#[tokio::test]
async fn c17_a_session_that_is_not_open_again_in_time_ends() {
    let note = rpc::notification("notifications/message", &json!({"data": "wait"}));
    let events = Script::events().message(note).stall();
    let drops = Script::status(200)
        .content_type("application/json")
        .chunked();
    let drops = drops.body("{").stall();
    for (method, script) in [
        ("initialize", Script::silent()),
        ("initialize", events.clone()),
        ("notifications/initialized", drops.clone()),
        ("logging/setLevel", events),
        ("logging/setLevel", drops),
        ("resources/subscribe", Script::silent()),
    ] {
        let (upstream, _gateway, client) =
            start_with(Mode::Pass, "timeouts = { request = \"300ms\" }").await;
        set_up(&client).await;
        forget(&upstream);
        let before = upstream.record().count(method);
        upstream.on(method, script);
        let first = client.get().send().await;
        upstream
            .wait_until(|seen| seen.count(method) > before)
            .await;
        let second = client.post(rpc::call(1, "echo")).await;
        let both = (first.response().await.status, second.status);
        assert_eq!(both, (404, 404), "{method}");
        if method != "initialize" {
            upstream.wait_until(|seen| seen.count("DELETE") == 1).await;
        }
    }
}
