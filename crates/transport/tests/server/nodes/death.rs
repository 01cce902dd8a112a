//! What becomes of exchanges and sessions when a node dies. Two seconds after it counts as dead, three after its last
//! word, nobody waits for it any more (5.9.25).

use std::sync::atomic::Ordering;
use std::time::Duration;

use thinpipe_proto::session::{SessionId, StreamId};
use thinpipe_store::{EventLog, LogEntry, StreamHead, StreamKey};
use thinpipe_testkit::{Client, Gate, SseClient};
use tokio::time::timeout;

use super::support::Shelf;
use crate::support::{call, until};

/// F9: a session goes on at the node that is asked next, if its handler can go on with it.
#[tokio::test]
async fn f9_a_session_of_a_dead_node_goes_on_elsewhere() {
    let shelf = Shelf::default();
    let [one, other, third] = shelf.holding().await;
    for node in [&other, &third] {
        node.sample().adopts.store(true, Ordering::SeqCst);
    }
    let client = one.client().await;
    let session = client.session().unwrap().to_owned();
    one.cut();
    shelf.buried(&one).await;
    // Both are asked at one time: one of them adopts it, the other sends what it gets there.
    let (here, there) = (other.as_client(&client), third.as_client(&client));
    let asked = [
        here.post(call(1, "echo")).send().await,
        there.post(call(2, "echo")).send().await,
        here.get().send().await,
    ];
    for (connection, status) in asked.into_iter().zip([200, 200, 200]) {
        assert_eq!(connection.response().await.status, status);
    }
    let adopted = [&other, &third].map(|node| node.sample().adopted.load(Ordering::SeqCst));
    assert_eq!(adopted.iter().sum::<usize>(), 1, "{adopted:?}");
    let owner = shelf.owner(&session).await.unwrap();
    assert_eq!(owner == other.name(), adopted[0] == 1);
    assert!(owner == other.name() || owner == third.name());
}

/// F9, R070: a session that cannot go on without its node has ended.
#[tokio::test]
async fn f9_a_session_that_nobody_adopts_has_ended() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    one.cut();
    shelf.buried(&one).await;
    let visitor = other.as_client(&client);
    let mut gone = visitor.post(call(1, "echo")).await;
    assert_eq!(gone.status, 404);
    assert_eq!(
        gone.json().await["error"]["data"]["reason"],
        "session_not_found"
    );
    assert_eq!(visitor.get().await.status, 404);
    assert_eq!(shelf.records().await, 0);
    assert_eq!(other.running.server.stats().sessions, 0);
    assert!(other.sample().ended.lock().unwrap().is_empty());
}

/// F9, F17: a session that cannot go on at one node just now has not ended: it goes on there later, or at another one.
#[tokio::test]
async fn f9_a_session_that_is_put_off_goes_on_later() {
    for goes_on_there in [true, false] {
        let shelf = Shelf::default();
        let [one, other, third] = shelf.holding().await;
        for node in [&other, &third] {
            node.sample().adopts.store(true, Ordering::SeqCst);
        }
        other.sample().puts_off.store(true, Ordering::SeqCst);
        let client = one.client().await;
        let session = client.session().unwrap().to_owned();
        one.cut();
        shelf.buried(&one).await;
        let mut refused = other.as_client(&client).post(call(1, "echo")).await;
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
        let reason = refused.json().await["error"]["data"]["reason"].clone();
        assert_eq!(reason, "upstream_unavailable");
        assert_eq!(other.sample().adopted.load(Ordering::SeqCst), 1);
        assert!(shelf.owner(&session).await.unwrap().is_nobody());
        assert_eq!(other.running.server.stats().sessions, 0);
        other.sample().puts_off.store(false, Ordering::SeqCst);
        let next = if goes_on_there { &other } else { &third };
        assert_eq!(
            next.as_client(&client).post(call(2, "echo")).await.status,
            200
        );
        assert_eq!(shelf.owner(&session).await, Some(next.name()));
        assert!(other.sample().ended.lock().unwrap().is_empty());
    }
}

/// F9, F17: whose request was carried to a node that puts the session off hears that of it, and not that it has ended.
#[tokio::test]
async fn f9_who_waits_elsewhere_hears_that_a_session_is_put_off() {
    let shelf = Shelf::default();
    let [one, other, third] = shelf.holding().await;
    third.sample().adopts.store(true, Ordering::SeqCst);
    other.sample().puts_off.store(true, Ordering::SeqCst);
    let gate = Gate::new();
    *other.sample().adopting.lock().unwrap() = Some(gate.clone());
    let client = one.client().await;
    one.cut();
    shelf.buried(&one).await;
    let first = other.as_client(&client).post(call(1, "echo")).send().await;
    gate.reached().await;
    let carried = third.as_client(&client).post(call(2, "echo")).send().await;
    until("it is there", || {
        other.running.server.nodes().unwrap().stats().served == 1
    })
    .await;
    gate.open();
    for (id, refused) in [(1, first), (2, carried)] {
        let mut refused = refused.response().await;
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
        let error = refused.json().await;
        assert_eq!(error["id"], id);
        assert_eq!(error["error"]["data"]["reason"], "upstream_unavailable");
    }
    assert_eq!(third.sample().adopted.load(Ordering::SeqCst), 0);
    assert_eq!(shelf.records().await, 1);
}

/// F9, F17: what was taken over is live, also if the store fails right after it has said so.
#[tokio::test]
async fn f9_a_session_is_taken_over_though_its_record_is_not_prolonged() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    other.sample().adopts.store(true, Ordering::SeqCst);
    let client = one.client().await;
    one.cut();
    shelf.buried(&one).await;
    other.fail_touch();
    let visitor = other.as_client(&client);
    assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
    assert_eq!(visitor.post(call(2, "echo")).await.status, 200);
    assert_eq!(other.sample().adopted.load(Ordering::SeqCst), 1);
}

/// F9, C2: a node on which no place is free takes nothing over, and says why.
#[tokio::test]
async fn f9_no_session_is_taken_over_without_a_place() {
    let shelf = Shelf::default();
    let [one] = shelf.holding().await;
    let mut config = crate::support::config();
    config.sessions.max = 1;
    let other = shelf.node(config).await;
    other.sample().holds.store(true, Ordering::SeqCst);
    other.sample().adopts.store(true, Ordering::SeqCst);
    let (client, there) = (one.client().await, other.client().await);
    one.cut();
    shelf.buried(&one).await;
    let visitor = other.as_client(&client);
    let mut full = visitor.post(call(1, "echo")).await;
    assert_eq!(full.status, 503);
    let reason = full.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "too_many_sessions");
    assert_eq!(there.delete().await.status, 202);
    assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
}

/// 5.8.5: that a node is dead is found out by its own life sign, whatever has become of the list of all nodes.
#[tokio::test]
async fn f9_a_death_is_noticed_without_the_list_of_nodes() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();
    let waiting = other.as_client(&client).post(call(1, "wait")).send().await;
    gate.reached().await;
    one.lose_list();
    other.cut();
    one.is_idle().await;
    gate.open();
    drop(waiting);
}

/// 5.9.3, 5.9.25: a call that the dead node had taken may have run: it is not run again, and its client is told so.
/// A notification is owed nothing. A stream that had begun ends with the same error, a GET just ends.
#[tokio::test]
async fn f9_what_a_dead_node_had_taken_has_an_unknown_outcome() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    other.sample().adopts.store(true, Ordering::SeqCst);
    let client = one.client().await;
    let visitor = other.as_client(&client);
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();
    let waiting = visitor.post(call(1, "wait")).send().await;
    gate.reached().await;
    let mut streaming = visitor.post(call(2, "stream")).await;
    let mut listening = visitor.get().await;
    let partial = visitor.post(call(3, "slow body")).await;
    one.cut();

    let mut unknown = waiting.response().await;
    assert_eq!(unknown.status, 502);
    let error = unknown.json().await;
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&1.into(), &(-32603).into())
    );
    assert_eq!(error["error"]["data"]["reason"], "outcome_unknown");
    let last = streaming.next_message().await;
    assert_eq!(last["id"], 2);
    assert_eq!(last["error"]["data"]["reason"], "outcome_unknown");
    assert_eq!(streaming.next_event().await, None);
    assert_eq!(listening.next_event().await, None);
    let mut partial = partial;
    let (_, end) = partial.try_read_to_end().await;
    assert!(end.is_err(), "half a body is not taken for a whole one");

    // The session itself goes on, and has forgotten nothing that would be in the way.
    assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
    assert_eq!(other.sample().begun.load(Ordering::SeqCst), 1);
    other.is_idle().await;
}

/// 5.8.5, 5.9.25: what a call is told for a dead node is in the log, under the id that it has on its stream. Who comes
/// back for the rest is told nothing else.
#[tokio::test]
async fn f9_what_a_call_is_told_for_a_dead_node_is_in_the_log() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let session = SessionId::from_bytes(client.session().unwrap().to_owned().into()).unwrap();
    let mut streaming = other.as_client(&client).post(call(2, "stream")).await;
    // As who holds a session of which a log is kept says and stores it.
    let key = StreamKey {
        session,
        stream: StreamId(7),
    };
    let head = StreamHead {
        owner: one.name(),
        request: Some("2".into()),
    };
    shelf.log.open(&key, &head).await.unwrap();
    let said = LogEntry {
        sequence: 1,
        message: "{}".into(),
        is_last: false,
    };
    shelf.log.append(&key, &head.owner, &[said]).await.unwrap();
    let sender = one.sample().newest_stream();
    sender.send("id: 7-1\ndata: {}\n\n".into()).await.unwrap();
    let first = streaming.next_event().await.unwrap();
    assert_eq!(first.id.as_deref(), Some("7-1"));
    one.cut();
    let last = streaming.next_event().await.unwrap();
    assert_eq!(last.id.as_deref(), Some("7-2"), "{last:?}");
    assert_eq!(last.json()["id"], 2);
    assert_eq!(last.json()["error"]["data"]["reason"], "outcome_unknown");
    assert_eq!(streaming.next_event().await, None);
    let page = shelf.log.read(&key, 1, 9).await.unwrap();
    assert!(page.is_finished);
    let kept = page
        .entries
        .iter()
        .map(|entry| (entry.sequence, &*entry.message));
    let told = last.data.unwrap();
    assert_eq!(kept.collect::<Vec<_>>(), [(2, told.as_bytes())]);
}

/// 5.8.2, 5.9.25: what the dead node had not taken did not run, and runs elsewhere.
#[tokio::test]
async fn f9_what_a_dead_node_had_not_taken_runs_elsewhere() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    other.sample().adopts.store(true, Ordering::SeqCst);
    let client = one.client().await;
    one.deafen().await;
    let waiting = other.as_client(&client).post(call(1, "echo")).send().await;
    let leaving = other.as_client(&client).post(call(2, "echo")).send().await;
    until("both wait", || {
        other.running.server.nodes().unwrap().stats().asked == 2
    })
    .await;
    drop(leaving);
    one.cut();
    assert_eq!(waiting.response().await.status, 200);
    let begun = [&one, &other].map(|node| node.sample().begun.load(Ordering::SeqCst));
    assert_eq!(begun, [0, 1]);
    other.is_idle().await;
}

/// A30, F9: a stream of HTTP+SSE ends with its node, and the session with it.
#[tokio::test]
async fn a30_a_stream_ends_with_its_node() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let mut client = SseClient::open(&format!("http://{}/sse", one.running.address)).await;
    client.initialize("2024-11-05").await;
    let url = format!("http://{}{}", other.running.address, client.endpoint());
    let post = |message: String| {
        let request = Client::new(&url).request("POST");
        request
            .header("content-type", "application/json")
            .body(message)
    };
    assert_eq!(post(call(7, "echo")).await.status, 202);
    one.cut();
    shelf.buried(&one).await;
    assert_eq!(post(call(8, "echo")).await.status, 404);
    assert_eq!(shelf.records().await, 0);
}

/// 5.8.4: the owner sees that the asking node is dead, and drops what it asked as if its client had left.
#[tokio::test]
async fn f9_the_owner_lets_go_of_a_dead_nodes_exchanges() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let stream = other.as_client(&client).post(call(1, "stream")).await;
    let sender = one.sample().newest_stream();
    other.cut();
    sender.closed().await;
    one.is_idle().await;
    drop(stream);
}

/// F9: a process that is killed is a node like any other that is dead: with its runtime everything of it is gone.
#[tokio::test]
async fn f9_a_killed_process_is_survived() {
    let shelf = Shelf::default();
    let [other] = shelf.holding().await;
    other.sample().adopts.store(true, Ordering::SeqCst);
    let process = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let its = shelf.clone();
    let starting = process.spawn(async move {
        let [node] = its.holding().await;
        node
    });
    let one = starting.await.unwrap();
    let client = one.client().await;
    let visitor = other.as_client(&client);
    assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();
    let waiting = visitor.post(call(2, "wait")).send().await;
    gate.reached().await;
    process.shutdown_background();
    let mut unknown = waiting.response().await;
    assert_eq!(
        unknown.json().await["error"]["data"]["reason"],
        "outcome_unknown"
    );
    assert_eq!(visitor.post(call(3, "echo")).await.status, 200);
    assert_eq!(other.sample().adopted.load(Ordering::SeqCst), 1);
}

/// 5.8.2: what is lost between two nodes that are both alive is noticed: a request that did not arrive, or whose answer
/// did not, has an unknown outcome, and a stream with a gap ends there.
#[tokio::test]
async fn f9_what_is_lost_on_the_way_ends_its_own_exchange() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let visitor = other.as_client(&client);
    let mut stream = visitor.post(call(9, "stream")).await;
    let sender = one.sample().newest_stream();
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();

    other.lose_one();
    let unheard = visitor.post(call(1, "echo")).send().await;
    let unanswered = visitor.post(call(2, "wait")).send().await;
    gate.reached().await;
    one.lose_one();
    gate.open();
    for (id, lost) in [(1, unheard), (2, unanswered)] {
        let mut lost = lost.response().await;
        assert_eq!(lost.status, 502);
        let error = lost.json().await;
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&id.into(), &(-32603).into())
        );
        assert_eq!(error["error"]["data"]["reason"], "outcome_unknown");
    }
    assert_eq!(one.sample().begun.load(Ordering::SeqCst), 2);

    sender.send("data: {\"n\":1}\n\n".into()).await.unwrap();
    assert_eq!(stream.next_message().await["n"], 1);
    one.lose_one();
    sender.send("data: {\"n\":2}\n\n".into()).await.unwrap();
    until("it was lost", || !one.is_mute()).await;
    sender.send("data: {\"n\":3}\n\n".into()).await.unwrap();
    let last = stream.next_message().await;
    assert_eq!(last["id"], 9);
    assert_eq!(last["error"]["data"]["reason"], "outcome_unknown");
    sender.closed().await;
    one.is_idle().await;
    other.is_idle().await;
}

/// 5.8.2: a node that is alive and takes nothing from its inbox is not waited for: what it has not seen is taken back.
#[tokio::test(start_paused = true)]
async fn f9_who_does_not_hear_is_not_waited_for() {
    let shelf = Shelf::on_tokios_clock();
    let [one, other] = shelf.holding().await;
    let session = one.open_session().await;
    one.deafen().await;
    for (method, body) in [("POST", call(1, "echo")), ("DELETE", String::new())] {
        assert_eq!(other.status(&session, method, body).await, 503);
    }
    assert_eq!(other.running.server.nodes().unwrap().stats().asked, 0);
    one.undeafen();
    assert_eq!(other.status(&session, "POST", call(1, "echo")).await, 200);
    assert_eq!(one.sample().begun.load(Ordering::SeqCst), 1);
}

/// F9: a store that has no memory for messages is no node that does not answer: what was carried there is waited for,
/// and answered when there is room.
#[tokio::test(start_paused = true)]
async fn f9_who_cannot_be_asked_is_waited_for() {
    const FULL: Duration = Duration::from_secs(60);
    let shelf = Shelf::on_tokios_clock();
    let [one, other] = shelf.holding().await;
    let session = one.open_session().await;
    let mut caller = other.connect();
    let mut calling = std::pin::pin!(caller.ask("POST", Some(&session), call(1, "wait")));
    let begun = timeout(Duration::from_secs(1), &mut calling).await;
    assert!(begun.is_err() && one.sample().begun.load(Ordering::SeqCst) == 1);
    for node in [&one, &other] {
        node.fill(true);
    }
    one.sample().gate.lock().unwrap().open();
    assert!(timeout(FULL, &mut calling).await.is_err());
    for node in [&one, &other] {
        node.fill(false);
    }
    assert_eq!(calling.await.0, 200);
    other.is_idle().await;
}
