//! The store is out of reach: what is local goes on, the rest is told to come again, and afterwards everything is
//! as before (F17).

use std::sync::atomic::Ordering;
use std::time::Duration;

use thinpipe_store::SessionStore;
use thinpipe_testkit::{Headers, rpc};
use thinpipe_transport::server::SessionEnd;

use super::support::{Node, Shelf};
use crate::support::{call, until};

/// F17: sessions that are live here go on without the store; others, and new ones, get 503 with `Retry-After`.
#[tokio::test]
async fn f17_what_is_local_goes_on_without_the_store() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let (client, elsewhere) = (one.client().await, other.client().await);
    one.cut();
    assert_eq!(client.post(call(1, "echo")).await.status, 200);
    assert_eq!(client.get().await.status, 200);
    let mut refused = one.as_client(&elsewhere).post(call(1, "echo")).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    let error = refused.json().await;
    assert_eq!(
        error["error"]["data"]["reason"],
        "session_store_unavailable"
    );
    assert_eq!(error["id"], 1, "whoever waits for this answer is told");
    one.running.server.sessions().sweep().await;
    assert_eq!(client.post(call(2, "echo")).await.status, 200);
    one.mend();
    assert_eq!(
        one.as_client(&elsewhere).post(call(3, "echo")).await.status,
        200
    );
    assert_eq!(client.post(call(4, "echo")).await.status, 200);
}

/// F17: nothing is opened that could not be found again.
#[tokio::test]
async fn f17_no_session_is_opened_without_the_store() {
    let shelf = Shelf::default();
    let [one] = shelf.passing().await;
    one.cut();
    let mut refused = one
        .running
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    assert!(refused.json().await["error"]["code"].is_i64());
    assert_eq!(refused.header("mcp-session-id"), None);
    until("its place is free", || {
        one.running.server.stats().sessions == 0
    })
    .await;
}

/// 5.8.6, 5.9.25: a node that was cut off lets go of what another one has taken meanwhile, and serves the session
/// through that one; its own clients were answered all the time.
#[tokio::test]
async fn f17_a_node_that_was_cut_off_lets_go_of_what_others_took() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    other.sample().adopts.store(true, Ordering::SeqCst);
    let (client, kept) = (one.client().await, one.client().await);
    let mut listening = client.get().await;
    one.cut();
    shelf.buried(&one).await;
    assert_eq!(client.post(call(1, "echo")).await.status, 200);
    let visitor = other.as_client(&client);
    assert_eq!(visitor.post(call(2, "echo")).await.status, 200);
    assert_eq!(
        shelf.owner(client.session().unwrap()).await,
        Some(other.name())
    );
    one.mend();
    until("it has let go of one", || {
        *one.sample().ended.lock().unwrap() == [SessionEnd::Forgotten]
    })
    .await;
    let before = other.sample().begun.load(Ordering::SeqCst);
    assert_eq!(client.post(call(3, "echo")).await.status, 200);
    assert_eq!(other.sample().begun.load(Ordering::SeqCst), before + 1);
    assert_eq!(kept.post(call(1, "echo")).await.status, 200);
    assert_eq!(
        other.as_client(&kept).post(call(2, "echo")).await.status,
        200
    );
    drop(one.sample().streams.lock().unwrap().drain(..));
    assert_eq!(listening.next_event().await, None);
}

/// D8: a session that was ended elsewhere meanwhile has ended here too.
#[tokio::test]
async fn f17_a_node_that_was_cut_off_learns_what_has_ended() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let client = one.client().await;
    one.cut();
    shelf.buried(&one).await;
    assert_eq!(other.as_client(&client).delete().await.status, 202);
    assert_eq!(client.post(call(1, "echo")).await.status, 200);
    one.mend();
    until("it has ended", || {
        *one.sample().ended.lock().unwrap() == [SessionEnd::Deleted]
    })
    .await;
    assert_eq!(client.post(call(2, "echo")).await.status, 404);
}

/// 5.8.9, F17: a session whose record cannot be deleted has not ended, on any node, and its client is told to ask again.
#[tokio::test]
async fn d8_a_session_ends_everywhere_or_nowhere() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let client = one.client().await;
    let visitor = other.as_client(&client);
    assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
    one.cut();
    let mut refused = client.delete().await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "session_store_unavailable");
    assert_eq!(client.post(call(2, "echo")).await.status, 200);
    one.mend();
    assert_eq!(client.delete().await.status, 202);
    assert_eq!(client.post(call(3, "echo")).await.status, 404);
    until("it has ended there too", || {
        other.running.server.stats().sessions == 0
    })
    .await;
    assert_eq!(visitor.post(call(3, "echo")).await.status, 404);
    assert_eq!(shelf.records().await, 0);
}

/// 5.8.6: a node that is cut off takes no work of others, and sends none: they are told to come again.
#[tokio::test]
async fn f17_a_node_that_is_cut_off_sends_nothing_on() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let stream = other.as_client(&client).post(call(1, "stream")).await;
    let sender = one.sample().newest_stream();
    one.cut();
    // Its own side of what is open with others ends when they have given it up.
    sender.closed().await;
    one.is_idle().await;
    drop(stream);
    other.is_idle().await;
}

/// F17, D8: a record that is gone is a session that was ended, whoever did that: a store that begins anew, empty, ends all
/// of them within a sweep.
#[tokio::test]
async fn f17_sessions_end_with_their_records() {
    let shelf = Shelf::default();
    let [one] = shelf.passing().await;
    let client = one.client().await;
    let sessions = one.running.server.sessions();
    let id = sessions.list().pop().unwrap().id().clone();
    assert!(shelf.sessions.delete(&id).await.unwrap());
    assert_eq!(client.post(call(1, "echo")).await.status, 200);
    sessions.sweep().await;
    assert_eq!(client.post(call(2, "echo")).await.status, 404);
    assert_eq!(*one.sample().ended.lock().unwrap(), [SessionEnd::Deleted]);
}

impl Node {
    async fn is_cut_off(&self, is: bool) {
        let nodes = self.running.server.nodes().unwrap().clone();
        while nodes.stats().is_cut_off != is {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// After an outage that nobody escaped, `first` is back a while before `second`.
async fn outage_of_both(first: &Node, second: &Node) {
    for node in [first, second] {
        node.cut();
    }
    for node in [first, second] {
        node.is_cut_off(true).await;
    }
    first.mend();
    first.is_cut_off(false).await;
}

/// F17: after an outage of the whole store a node is not taken for dead because it has not said yet that it is alive:
/// its sessions are its own, whether others could go on with them or not.
#[tokio::test(start_paused = true)]
async fn f17_nobody_is_dead_who_has_not_had_the_time_to_be_heard_of() {
    for adopts in [false, true] {
        let shelf = Shelf::on_tokios_clock();
        let [owner, other] = shelf.holding().await;
        other.sample().adopts.store(adopts, Ordering::SeqCst);
        let session = owner.open_session().await;
        outage_of_both(&other, &owner).await;
        let asked = other.status(&session, "POST", call(1, "echo"));
        let late = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            owner.mend();
        };
        let (status, ()) = tokio::join!(asked, late);
        assert_eq!(status, 200);
        assert_eq!(owner.sample().begun.load(Ordering::SeqCst), 1);
        assert_eq!(*owner.sample().ended.lock().unwrap(), []);
        assert_eq!(shelf.owner(&session).await, Some(owner.name()));
    }
}

/// F17, A30: nor does a stream of HTTP+SSE end.
#[tokio::test(start_paused = true)]
async fn a30_a_stream_outlives_an_outage_of_the_store() {
    let shelf = Shelf::on_tokios_clock();
    let [owner, other] = shelf.passing().await;
    let mut stream = owner.connect();
    let (status, _) = stream.ask_at("/sse", "GET", Headers::new(), "").await;
    assert_eq!(status, 200);
    let endpoint = stream.text().await;
    let path = endpoint.split("data: ").nth(1).unwrap();
    let path = path.lines().next().unwrap();
    outage_of_both(&other, &owner).await;
    let (mut connection, headers) = (other.connect(), Headers::new());
    let asked = connection.ask_at(path, "POST", headers, rpc::initialize(1, "2024-11-05"));
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        owner.mend();
    };
    let ((status, _), ()) = tokio::join!(asked, late);
    assert_eq!(status, 202);
    assert!(stream.text().await.contains("protocolVersion"));
    assert_eq!(shelf.records().await, 1);
}

/// F9: one that does not come back is dead all the same, three seconds later.
#[tokio::test(start_paused = true)]
async fn f9_a_node_that_died_in_an_outage_is_dead() {
    let shelf = Shelf::on_tokios_clock();
    let [owner, other] = shelf.holding().await;
    other.sample().adopts.store(true, Ordering::SeqCst);
    let session = owner.open_session().await;
    outage_of_both(&other, &owner).await;
    let (mut rounds, mut status) = (0, 503);
    while status == 503 && rounds < 4 {
        status = other.status(&session, "POST", call(1, "echo")).await;
        rounds += 1;
    }
    assert_eq!(status, 200);
    assert_eq!(shelf.owner(&session).await, Some(other.name()));
}

/// 5.8.6: a session that another node takes over while the first word of its owner is on the way has one owner, too.
#[tokio::test(start_paused = true)]
async fn f17_a_node_that_comes_back_lets_go_of_what_is_taken_just_then() {
    let shelf = Shelf::on_tokios_clock();
    let [owner, other] = shelf.holding().await;
    other.sample().adopts.store(true, Ordering::SeqCst);
    let (taken, kept) = (owner.open_session().await, owner.open_session().await);
    owner.cut();
    shelf.buried(&owner).await;
    owner.is_cut_off(true).await;
    owner.mend_without_beats().await;
    assert_eq!(other.status(&taken, "POST", call(1, "echo")).await, 200);
    owner.let_beat();
    owner.is_cut_off(false).await;
    assert_eq!(
        *owner.sample().ended.lock().unwrap(),
        [SessionEnd::Forgotten]
    );
    for (session, at_owner, at_other) in [(&taken, 0, 2), (&kept, 1, 2)] {
        assert_eq!(owner.status(session, "POST", call(2, "echo")).await, 200);
        let begun = [&owner, &other].map(|node| node.sample().begun.load(Ordering::SeqCst));
        assert_eq!(begun, [at_owner, at_other]);
    }
}

/// 5.8.6: whatever a node has missed, a sweep finds out that a session is no longer its own, and the record stays.
#[tokio::test(start_paused = true)]
async fn f17_a_sweep_lets_go_of_what_another_node_has() {
    let shelf = Shelf::on_tokios_clock();
    let [owner, other] = shelf.holding().await;
    let session = owner.open_session().await;
    let sessions = owner.running.server.sessions();
    let id = sessions.list().pop().unwrap().id().clone();
    let (mut record, version) = shelf.sessions.get(&id).await.unwrap().unwrap();
    record.owner = Some(other.name());
    shelf.sessions.update(&record, version).await.unwrap();
    sessions.sweep().await;
    assert_eq!(owner.running.server.stats().sessions, 0);
    assert_eq!(shelf.owner(&session).await, Some(other.name()));
}

/// 5.8.6, D8: what others may have taken over is not ended by a node that cannot know, and its handler is not told.
#[tokio::test(start_paused = true)]
async fn f17_a_node_that_is_cut_off_ends_nothing_that_another_may_have() {
    let shelf = Shelf::on_tokios_clock();
    let [owner, other] = shelf.holding().await;
    other.sample().adopts.store(true, Ordering::SeqCst);
    let session = owner.open_session().await;
    owner.cut();
    shelf.buried(&owner).await;
    owner.is_cut_off(true).await;
    assert_eq!(other.status(&session, "POST", call(1, "echo")).await, 200);
    assert_eq!(owner.status(&session, "DELETE", "").await, 503);
    assert_eq!(*owner.sample().ended.lock().unwrap(), []);
    // What is live on it goes on: it may be all there is.
    assert_eq!(owner.status(&session, "POST", call(2, "echo")).await, 200);
    owner.mend();
    owner.is_cut_off(false).await;
    assert_eq!(owner.status(&session, "POST", call(3, "echo")).await, 200);
    assert_eq!(other.sample().begun.load(Ordering::SeqCst), 2);
}

/// F17, 5.8.11: a node that is stopped while it cannot reach the store leaves its sessions as if it had been killed:
/// their server is not told of an end, and another node goes on with them.
#[tokio::test(start_paused = true)]
async fn f17_a_shutdown_without_the_store_ends_nothing_that_can_go_on() {
    let shelf = Shelf::on_tokios_clock();
    let [owner, other] = shelf.holding().await;
    for node in [&owner, &other] {
        node.sample().adopts.store(true, Ordering::SeqCst);
    }
    let session = owner.open_session().await;
    owner.cut();
    owner.running.server.shut_down().await;
    assert_eq!(
        *owner.sample().ended.lock().unwrap(),
        [SessionEnd::Forgotten]
    );
    shelf.buried(&owner).await;
    assert_eq!(other.status(&session, "POST", call(1, "echo")).await, 200);
    assert_eq!(other.sample().adopted.load(Ordering::SeqCst), 1);
}

/// 5.8.11: what a handler has stored with a session at that moment is no reason to end it.
#[tokio::test(start_paused = true)]
async fn f17_a_session_whose_record_has_changed_is_handed_over() {
    let shelf = Shelf::on_tokios_clock();
    let [owner, _other] = shelf.holding().await;
    owner.sample().adopts.store(true, Ordering::SeqCst);
    let session = owner.open_session().await;
    let id = owner.running.server.sessions().list().pop().unwrap();
    let (mut record, version) = shelf.sessions.get(id.id()).await.unwrap().unwrap();
    record.attachment = "another".into();
    shelf.sessions.update(&record, version).await.unwrap();
    owner.running.server.shut_down().await;
    assert_eq!(
        *owner.sample().ended.lock().unwrap(),
        [SessionEnd::Forgotten]
    );
    assert!(shelf.owner(&session).await.unwrap().is_nobody());
}
