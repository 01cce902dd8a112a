//! Sessions stay where they were opened, and move only when that is gone.

use std::time::Duration;

use serde_json::json;
use thinpipe_gateway::{GroupConfig, SessionLost, UpstreamSpec};
use thinpipe_testkit::{Client, Cut, Event, Script, Upstream, eventually, rpc};

use crate::front::{Front, shared_stores};
use crate::replicas::{Replicas, checked};

/// The replica that has opened the only session there is.
pub(crate) fn home(replicas: &Replicas) -> usize {
    let opened = replicas.counts("initialize");
    opened.iter().position(|count| *count > 0).unwrap()
}

pub(crate) fn reestablishes(spec: &mut UpstreamSpec) {
    spec.session_lost = SessionLost::Reestablish;
}

/// Calls until the gateway knows that a replica is down.
pub(crate) async fn is_down(front: &Front, replica: usize) {
    eventually("the replica is down", async || {
        match front.replicas()[replica].is_healthy {
            false => Ok(()),
            true => Err("it is up".to_owned()),
        }
    })
    .await;
}

async fn call(client: &Client, id: usize) -> u16 {
    client.post(rpc::call(id, "echo")).await.status
}

/// F6: one client's sessions are spread over the replicas, and each stays at its own, GET and DELETE included.
#[tokio::test]
async fn f6_a_session_stays_where_it_was_opened() {
    let replicas = Replicas::start(3).await;
    let front = replicas.front(|_| {}).await;
    let clients = replicas.two_clients_each(&front).await;
    for client in &clients {
        let stream = client.get().await;
        assert_eq!(stream.status, 200);
    }
    for session in front.server.sessions().list() {
        let attached: serde_json::Value = serde_json::from_slice(&session.attachment()).unwrap();
        let name = attached["replica"].as_str().unwrap();
        let at = usize::from(name.as_bytes()[0] - b'a');
        let known = replicas.0[at].sessions();
        assert!(known.contains(&attached["session"].as_str().unwrap().to_owned()));
    }
    replicas.see_two_leave_each(&clients).await;
}

/// Failover: with `session_lost = "end"` a client whose replica is gone gets 404, once that is known, and starts anew
/// elsewhere.
#[tokio::test]
async fn g9_a_session_ends_with_its_replica() {
    let replicas = Replicas::start(2).await;
    let front = replicas.front_with(|_| {}, checked).await;
    let client = front.client().await;
    let lost = home(&replicas);
    replicas.0[lost].die().await;
    is_down(&front, lost).await;
    assert_eq!(call(&client, 1).await, 404);
    assert!(front.server.sessions().list().is_empty());
    let client = front.client().await;
    assert_eq!(call(&client, 2).await, 200);
    assert_eq!(replicas.counts("tools/call")[1 - lost], 1);
}

/// A replica that cannot be reached at this moment is no reason to end what it may still have.
#[tokio::test]
async fn g9_a_session_waits_for_a_replica_that_is_not_known_to_be_gone() {
    let replicas = Replicas::start(2).await;
    let front = replicas.front(|_| {}).await;
    let client = front.client().await;
    let at = home(&replicas);
    replicas.0[at].die().await;
    assert_eq!(call(&client, 1).await, 502);
    replicas.0[at].come_back();
    assert_eq!(call(&client, 2).await, 200);
    assert_eq!(replicas.counts("tools/call")[1 - at], 0);
}

/// Failover: with `session_lost = "reestablish"` another replica takes the session over, at once when the request could
/// not be written, with what was set up in it.
#[tokio::test]
async fn g9_a_session_moves_when_its_replica_cannot_be_reached() {
    let replicas = Replicas::start(2).await;
    replicas.on("logging/setLevel", &Script::json(rpc::result(json!({}))));
    let front = replicas.front_with(|_| {}, reestablishes).await;
    let client = front.client().await;
    let level = rpc::request(90, "logging/setLevel", &json!({"level": "debug"}));
    assert_eq!(client.post(level).await.status, 200);
    let lost = home(&replicas);
    replicas.0[lost].die().await;
    for id in 0..3 {
        assert_eq!(call(&client, id).await, 200);
    }
    let other = &replicas.0[1 - lost];
    assert_eq!(other.record().count("initialize"), 1);
    assert_eq!(other.record().count("logging/setLevel"), 1);
    assert_eq!(other.record().count("tools/call"), 3);
    // What it must read again it is told.
    let mut stream = client.get().await;
    let told = stream.next_message().await;
    assert_eq!(told["method"], "notifications/tools/list_changed");
    replicas.saw_nothing_twice();
}

/// The same when the health checks have found it first, whoever asks then.
#[tokio::test]
async fn g9_a_session_moves_when_its_replica_is_down() {
    let replicas = Replicas::start(2).await;
    let both = |spec: &mut UpstreamSpec| {
        checked(spec);
        reestablishes(spec);
    };
    let front = replicas.front_with(|_| {}, both).await;
    let (calls, listens) = (front.client().await, front.client().await);
    for (client, lost) in [(&calls, 0), (&listens, 1)] {
        replicas.0[lost].die().await;
        is_down(&front, lost).await;
        if lost == 0 {
            assert_eq!(call(client, 1).await, 200);
        } else {
            let mut stream = client.get().await;
            assert_eq!(stream.status, 200);
            let told = stream.next_message().await;
            assert_eq!(told["method"], "notifications/tools/list_changed");
        }
        replicas.0[lost].come_back();
        eventually("it is back", async || {
            match front.replicas()[lost].is_healthy {
                true => Ok(()),
                false => Err("it is down".to_owned()),
            }
        })
        .await;
    }
    assert_eq!(call(&listens, 2).await, 200);
}

/// Trap of moving: with something in flight a session is neither moved nor ended, since the answer may still come.
#[tokio::test]
async fn g9_a_session_with_a_call_in_flight_does_not_move() {
    let replicas = Replicas::start(2).await;
    let front = replicas.front_with(|_| {}, reestablishes).await;
    let client = front.client().await;
    let at = home(&replicas);
    let slow = client.post(rpc::call("slow", "slow")).send().await;
    replicas.0[at].nth("tools/call", 0).await;
    let refused = client.post(rpc::call(1, "echo")).await;
    assert_eq!(refused.status, 200, "the replica is there");
    replicas.0[at].gate("slow").open();
    assert_eq!(slow.response().await.status, 200);
    assert_eq!(replicas.counts("initialize")[1 - at], 0);
}

/// Q7: a stream with ids that breaks off is resumed by GET, at the replica that has it and nowhere else.
#[tokio::test]
async fn q7_a_stream_is_resumed_where_it_began() {
    let replicas = Replicas::start(2).await;
    resumable(&replicas);
    let front = replicas.front(|_| {}).await;
    let client = front.client().await;
    let at = home(&replicas);
    let mut answer = client.post(rpc::call(1, "long")).await;
    let (events, end) = answer.events_to_end().await;
    assert_eq!(end, Ok(()));
    let last = events.last().unwrap().json();
    assert_eq!(
        (&last["id"], &last["result"]["content"][0]["text"]),
        (&json!(1), &json!("all"))
    );
    assert_eq!(replicas.counts("tools/call")[1 - at], 0);
    assert_eq!(
        (replicas.counts("GET")[at], replicas.counts("GET")[1 - at]),
        (1, 0)
    );
}

/// Q7: a stream whose replica is gone ends with an error under the request's id; the call is not repeated.
#[tokio::test]
async fn q7_a_stream_of_a_lost_replica_ends_with_an_error() {
    let replicas = Replicas::start(2).await;
    for replica in &replicas.0 {
        let first = Event::message(rpc::progress(1, 2)).with_id("e-0");
        replica.on("tools/call", Script::events().event(first).stall());
    }
    let front = replicas.front_with(|_| {}, checked).await;
    let client = front.client().await;
    let at = home(&replicas);
    let mut answer = client.post(rpc::call(7, "long")).await;
    assert_eq!(
        answer.next_message().await["method"],
        "notifications/progress"
    );
    replicas.0[at].die().await;
    let (events, end) = answer.events_to_end().await;
    assert_eq!(end, Ok(()));
    let last = events.last().unwrap().json();
    assert_eq!(last["id"], 7);
    assert_eq!(last["error"]["data"]["reason"], "upstream_stream_lost");
    assert_eq!(replicas.counts("tools/call").iter().sum::<usize>(), 1);
    assert_eq!(replicas.counts("GET")[1 - at], 0);
    // The next request tells that the session went with it.
    is_down(&front, at).await;
    assert_eq!(call(&client, 8).await, 404);
}

/// F6: replicas that share their sessions serve any of them, and one that dies takes none with it.
#[tokio::test]
async fn f6_shared_sessions_are_served_anywhere() {
    let replicas = Replicas::start(2).await;
    let shares = |group: &mut GroupConfig| group.shared_sessions = true;
    for replica in &replicas.0 {
        // As servers with a common store do: any id is known.
        let opened = Script::json(rpc::initialize_result("2025-11-25"));
        replica.on("initialize", opened.header("Mcp-Session-Id", "common"));
        replica.on("notifications/initialized", Script::accepted());
        replica.on("tools/call", Script::json(rpc::text_result("done")));
    }
    let front = replicas.front(shares).await;
    let client = front.client().await;
    for id in 0..10 {
        assert_eq!(call(&client, id).await, 200);
    }
    assert_eq!(replicas.counts("tools/call"), [5, 5]);
    replicas.0[0].die().await;
    for id in 10..20 {
        assert_eq!(call(&client, id).await, 200);
    }
    assert_eq!(replicas.counts("tools/call"), [5, 15]);
    replicas.saw_nothing_twice();
}

/// 5.8: a gateway that does not reach a replica, as others do, ends none of its sessions for them; not at once, for it
/// may be gone.
#[tokio::test]
async fn f9_what_one_gateway_cannot_reach_is_not_gone_for_all() {
    for interval in [Duration::from_secs(1), Duration::from_millis(20)] {
        let replicas = Replicas::start(2).await;
        let stores = shared_stores();
        let one = Front::among(replicas.spec(|_| {}, |_| {}), stores()).await;
        let client = one.client().await;
        let at = home(&replicas);
        let cut_off = |group: &mut GroupConfig| {
            group.replicas[at].url = "http://127.0.0.1:1/mcp".parse().unwrap();
        };
        let checked = |spec: &mut UpstreamSpec| {
            spec.health.interval = interval;
            spec.health.failures = 1;
        };
        let other = Front::among(replicas.spec(cut_off, checked), stores()).await;
        is_down(&other, at).await;
        let visitor = Client::new(&other.url);
        let visit = async |id: usize| {
            let call = visitor.post(rpc::call(id, "echo"));
            let call = call.header("Mcp-Session-Id", client.session().unwrap());
            call.header("MCP-Protocol-Version", "2025-11-25").await
        };
        if interval >= Duration::from_secs(1) {
            let waits = visit(1).await;
            assert_eq!(waits.status, 503);
            assert!(waits.header("Retry-After").is_some());
            assert_eq!(call(&client, 2).await, 200);
            continue;
        }
        eventually("it counts as gone", async || match visit(3).await.status {
            404 => Ok(()),
            status => Err(format!("status {status}")),
        })
        .await;
    }
}

/// F6: a server without session ids keeps nothing, so that any replica serves.
#[tokio::test]
async fn f6_who_keeps_no_sessions_pins_nobody() {
    let replicas = Replicas::start(2).await;
    for replica in &replicas.0 {
        replica.set(|it| it.sessions = false);
    }
    let front = replicas.front(|_| {}).await;
    let client = front.client().await;
    for id in 0..10 {
        assert_eq!(call(&client, id).await, 200);
    }
    let counts = replicas.counts("tools/call");
    assert!(counts.iter().all(|count| *count >= 4), "{counts:?}");
}

/// Tool calls that break off after an event with an id, and go on when they are resumed.
fn resumable(replicas: &Replicas) {
    for replica in &replicas.0 {
        replica.set(|it| it.event_ids = true);
        long(replica);
    }
}

fn long(replica: &Upstream) {
    let first = Event::message(rpc::progress(1, 2)).with_id("e-0");
    let last = Event::message(rpc::response(
        1,
        &json!({
            "content": [{"type": "text", "text": "all"}],
        }),
    ));
    replica.publish("long", vec![first, last.with_id("e-1")]);
    let part = Script::stream_part("long", 1)
        .read_by_peer()
        .cut(Cut::Reset);
    replica.on("tools/call", part);
    replica.on("GET", Script::stream("long"));
}
