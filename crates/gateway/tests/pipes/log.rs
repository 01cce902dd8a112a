//! `resume = "log"`: events have ids of the gateway's own, and streams of servers that cannot resume are resumed
//! (F18 to F20, protocol notes 6.2 and 6.3).

use serde_json::{Value, json};
use thinpipe_gateway::{Resume, SessionLost, UpstreamSpec};
use thinpipe_testkit::{Event, Gate, Response, Script, rpc};

use crate::joint::{Joint, REVISION, Way, ask, listen};

fn log(spec: &mut UpstreamSpec) {
    spec.resume = Resume::Log;
}

/// The next event that holds a message, and the last id that came.
async fn next(stream: &mut Response, last: &mut String) -> Value {
    loop {
        let event = stream.next_event().await.expect("the stream goes on");
        if let Some(id) = &event.id {
            last.clone_from(id);
        }
        if event.has_message() {
            return event.json();
        }
    }
}

/// F18, F20: a call whose stream broke goes on, and its client gets what it missed, once, in order.
#[tokio::test]
async fn f18_a_stream_of_any_server_is_resumed() {
    for way in Way::ALL {
        let joint = Joint::start(way, log).await;
        let gate = Gate::new();
        let script = Script::events()
            .event(Event::message(rpc::progress(1, 3)))
            .wait(&gate)
            .event(Event::message(rpc::progress(2, 3)))
            .event(Event::message(rpc::text_result("done")));
        joint.upstream.on("tools/call:echo", script);
        let client = joint.asks("alice").await;
        let mut stream = client.post(rpc::call(1, "echo")).await;
        let mut last = String::new();
        let first = next(&mut stream, &mut last).await;
        assert_eq!(first["params"]["progress"], 1, "{way:?}");
        assert!(!last.is_empty(), "{way:?}: events have ids");
        stream.close();
        gate.open();
        let mut resumed = client.resume(&last).await;
        assert_eq!(resumed.status, 200, "{way:?}");
        let second = next(&mut resumed, &mut last).await;
        assert_eq!(second["params"]["progress"], 2, "{way:?}");
        let answer = next(&mut resumed, &mut last).await;
        assert_eq!(answer["id"], 1, "{way:?}");
        let (rest, end) = resumed.events_to_end().await;
        assert_eq!((rest, end), (Vec::new(), Ok(())), "{way:?}");
        // Nothing comes after the last.
        assert_eq!(client.resume(&last).await.status, 204, "{way:?}");
        assert_eq!(joint.upstream.record().count("tools/call"), 1, "{way:?}");
    }
}

/// What comes at once goes on together, each message as interceptors have it, and in its order: also behind one about
/// which they take their time.
#[tokio::test]
async fn what_comes_at_once_keeps_its_order() {
    let told = |name: &str| rpc::notification("notifications/message", &json!({"data": name}));
    let script = Script::events()
        .message(rpc::progress(1, 9))
        .message(told("late"))
        .message(rpc::progress(2, 9))
        .message(rpc::notification("notifications/refused", &json!({})))
        .message(rpc::progress(3, 9))
        .message(rpc::notification(
            "notifications/tools/list_changed",
            &json!({}),
        ))
        .message(told("later"))
        .message(rpc::text_result("done"));
    for way in Way::ALL {
        let change = |spec: &mut UpstreamSpec| {
            log(spec);
            let rules = json!({"type": "rules", "rules": [
                {"when": {"methods": ["notifications/message"]}, "then": [{"delay": {"ms": 1}}]},
                {"when": {"methods": ["notifications/refused"]}, "then": [{"reject": {"message": "no"}}]},
            ]});
            let rules = serde_json::from_value(rules).expect("an interceptor");
            spec.interceptors.push(rules);
        };
        let joint = Joint::start(way, change).await;
        joint.upstream.on("tools/call:echo", script.clone());
        let client = joint.asks("alice").await;
        let (said, answer) = ask(&client, rpc::call(1, "echo")).await;
        let said = said.iter().map(|said| match said["method"].as_str() {
            Some("notifications/progress") => said["params"]["progress"].to_string(),
            Some("notifications/message") => said["params"]["data"].to_string(),
            other => other.unwrap_or_default().to_owned(),
        });
        let expected = [
            "1",
            "\"late\"",
            "2",
            "3",
            "notifications/tools/list_changed",
            "\"later\"",
        ];
        assert_eq!(said.collect::<Vec<_>>(), expected, "{way:?}");
        assert_eq!(answer["result"]["content"][0]["text"], "done", "{way:?}");
    }
}

/// F20: an id of another session, or of none, leads nowhere and ends nothing.
#[tokio::test]
async fn f20_a_foreign_id_is_refused() {
    let joint = Joint::start(Way::Streamable, log).await;
    let (alice, bob) = (joint.asks("alice").await, joint.asks("bob").await);
    let mut stream = alice.post(rpc::call(1, "progress")).await;
    let mut last = String::new();
    next(&mut stream, &mut last).await;
    for id in [last.as_str(), "x-1", "9-9"] {
        assert_eq!(bob.resume(id).await.status, 400, "{id}");
    }
    assert_eq!(ask(&bob, rpc::call(1, "echo")).await.1["id"], 1);
}

/// The server's own ids stay with it: what a client resumes by is the gateway's (F5).
#[tokio::test]
async fn f5_ids_of_the_server_do_not_come_through() {
    let joint = Joint::start(Way::Streamable, log).await;
    joint.upstream.set(|behaviour| {
        behaviour.event_ids = true;
        behaviour.always_stream = true;
    });
    let client = joint.asks("alice").await;
    let mut stream = client.post(rpc::call(1, "progress")).await;
    let (events, _) = stream.events_to_end().await;
    let ids: Vec<_> = events.iter().filter_map(|event| event.id.clone()).collect();
    let stream = ids[0].split('-').next().unwrap().to_owned();
    for (n, id) in ids.iter().enumerate() {
        let own = format!("{stream}-{}", n + usize::from(!ids[0].ends_with("-0")));
        assert_eq!(*id, own, "{ids:?}");
    }
}

/// The standalone stream goes on where it was left, on another connection.
#[tokio::test]
async fn f18_the_standalone_stream_is_resumed() {
    for way in Way::ALL {
        let joint = Joint::start(way, log).await;
        let client = joint.asks("alice").await;
        let mut stream = listen(&client).await;
        let changed = |list: &str| format!("notifications/{list}/list_changed");
        joint.upstream.announce(&changed("tools"), &json!({}));
        let mut last = String::new();
        assert_eq!(
            next(&mut stream, &mut last).await["method"],
            changed("tools")
        );
        stream.close();
        joint.upstream.announce(&changed("prompts"), &json!({}));
        let mut resumed = client.resume(&last).await;
        assert_eq!(resumed.status, 200, "{way:?}");
        let heard = next(&mut resumed, &mut last).await;
        assert_eq!(heard["method"], changed("prompts"), "{way:?}");
    }
}

/// Without it, streams of pipes have no ids, as before.
#[tokio::test]
async fn streams_of_pipes_have_no_ids_unless_told() {
    let joint = Joint::start(Way::Stdio, |_| {}).await;
    let client = joint.asks("alice").await;
    let mut stream = client.post(rpc::call(1, "progress")).await;
    let (events, _) = stream.events_to_end().await;
    assert!(events.iter().all(|event| event.id.is_none()), "{events:?}");
}

/// Protocol notes 5.2, rows "DELETE" and "cancel": the server learns of both.
#[tokio::test]
async fn the_server_learns_what_ends() {
    let joint = Joint::start(Way::Streamable, log).await;
    let client = joint.asks("alice").await;
    let gate = Gate::new();
    joint
        .upstream
        .on("tools/call:echo", Script::events().wait(&gate).stall());
    let asked = client.post(rpc::call(7, "echo")).send().await;
    gate.reached().await;
    let cancelled = rpc::notification("notifications/cancelled", &json!({"requestId": 7}));
    assert_eq!(client.post(cancelled).await.status, 202);
    let (events, end) = asked.response().await.events_to_end().await;
    assert_eq!(end, Ok(()));
    assert!(!events.iter().any(Event::has_message), "{events:?}");
    let told = joint.upstream.nth("notifications/cancelled", 0).await;
    let call = joint.upstream.nth("tools/call:echo", 0).await;
    let id = told.param("/requestId").to_string();
    assert_eq!(Some(id.as_str()), call.id_text());
    assert_eq!(client.delete().await.status, 200);
    joint
        .upstream
        .wait_until(|record| record.count("DELETE") == 1)
        .await;
    assert_eq!(client.post(rpc::call(8, "echo")).await.status, 404);
}

/// R215: a server that forgets its session ends its client's.
#[tokio::test]
async fn r215_a_lost_session_ends_the_clients() {
    let joint = Joint::start(Way::Streamable, log).await;
    let client = joint.asks("alice").await;
    ask(&client, rpc::call(1, "echo")).await;
    joint.upstream.forget(&joint.upstream.sessions()[0]);
    let (_, answer) = ask(&client, rpc::call(2, "echo")).await;
    assert_eq!(answer["id"], 2);
    assert_eq!(answer["error"]["data"]["reason"], "upstream_stream_lost");
    thinpipe_testkit::eventually("the session is over", async || {
        match client.post(rpc::initialized()).await.status {
            404 => Ok(()),
            status => Err(format!("status {status}")),
        }
    })
    .await;
    assert_eq!(joint.upstream.record().count("tools/call"), 2);
    assert_eq!(joint.upstream.record().count("DELETE"), 0);
}

/// `session_lost = "reestablish"`: the session is opened anew, and what was not taken is sent again, once.
#[tokio::test]
async fn a_lost_session_is_opened_anew_if_nothing_is_in_flight() {
    let joint = Joint::start(Way::Streamable, |spec| {
        log(spec);
        spec.session_lost = SessionLost::Reestablish;
    })
    .await;
    let client = joint.asks("alice").await;
    let mut stream = listen(&client).await;
    for (id, method, params) in [
        (1, "logging/setLevel", json!({"level": "error"})),
        (2, "resources/subscribe", json!({"uri": "file:///a"})),
    ] {
        assert!(ask(&client, rpc::request(id, method, &params)).await.1["result"].is_object());
    }
    let lost = joint.upstream.sessions();
    joint.upstream.forget(&lost[0]);
    let (_, answer) = ask(&client, rpc::call(3, "echo")).await;
    assert_eq!(answer["id"], 3);
    assert!(answer["result"].is_object(), "{answer}");
    let sessions = joint.upstream.sessions();
    assert_eq!(sessions.len(), 1);
    assert_ne!(sessions, lost);
    assert_eq!(joint.upstream.subscriptions(&sessions[0]), ["file:///a"]);
    // It reads again what may have changed.
    let mut changed = Vec::new();
    for _ in 0..4 {
        changed.push(stream.next_message().await["method"].take());
    }
    changed.sort_by_key(ToString::to_string);
    let lists = ["prompts", "resources", "tools"];
    let lists = lists.map(|list| format!("notifications/{list}/list_changed"));
    let mut expected = lists.to_vec();
    expected.insert(2, "notifications/resources/updated".to_owned());
    assert_eq!(changed, expected);
    let levels = joint.upstream.requests("logging/setLevel");
    assert_eq!(levels.len(), 2);
    // It hears on.
    joint.upstream.announce(
        "notifications/resources/updated",
        &json!({"uri": "file:///a"}),
    );
    assert_eq!(stream.next_message().await["params"]["uri"], "file:///a");
}

/// The same of all that was on its way when that was found out: its client was told that it was taken.
#[tokio::test]
async fn all_that_was_not_taken_goes_along_with_a_lost_session() {
    let joint = Joint::start(Way::Streamable, |spec| {
        log(spec);
        spec.session_lost = SessionLost::Reestablish;
    })
    .await;
    let declared = json!({"roots": {"listChanged": true}});
    let client = joint.client("alice", &declared).await;
    ask(&client, rpc::call(1, "echo")).await;
    let upstream = &joint.upstream;
    let what = "notifications/roots/list_changed";
    let gate = upstream.gate("late");
    upstream.once(what, Script::status(404).late(&gate));
    upstream.forget(&upstream.sessions()[0]);
    for index in 0..2 {
        let notice = rpc::notification(what, &json!({}));
        assert_eq!(client.post(notice).await.status, 202);
        // The second one waits for a second that the first is answered.
        upstream.nth(what, index).await;
    }
    gate.open();
    upstream.wait_until(|record| record.count(what) == 4).await;
    let (_, answer) = ask(&client, rpc::call(2, "echo")).await;
    assert!(answer["result"].is_object(), "{answer}");
    assert_eq!(upstream.record().count(what), 4);
}

/// Protocol notes 2.2.6: an array of one revision is split and comes back as one.
#[tokio::test]
async fn a_batch_is_answered_as_one() {
    let joint = Joint::start(Way::Streamable, log).await;
    let mut client = thinpipe_testkit::Client::new(&joint.front.mcp).with_token("alice");
    client.initialize("2025-03-26").await;
    let batch = format!("[{},{}]", rpc::call(1, "echo"), rpc::call(2, "echo"));
    let mut answer = client.post(batch).await;
    assert_eq!(answer.status, 200);
    let mut ids: Vec<Value> = match answer.is_stream() {
        false => {
            let answers = answer.json().await;
            let answers = answers.as_array().unwrap().iter();
            answers.map(|answer| answer["id"].clone()).collect()
        }
        true => {
            let (events, _) = answer.events_to_end().await;
            let messages = events.iter().filter(|event| event.has_message());
            messages.map(|event| event.json()["id"].clone()).collect()
        }
    };
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, [json!(1), json!(2)]);
    assert_eq!(joint.upstream.record().count("tools/call"), 2);
    assert_ne!(client.revision(), Some(REVISION));
}
