//! Sessions that any node serves: what one of them does, the others learn.

use std::sync::atomic::Ordering;

use thinpipe_proto::rpc::RequestId;
use thinpipe_testkit::{Client, Gate};
use thinpipe_transport::server::SessionEnd;

use super::support::Shelf;
use crate::support::{call, until};

/// F8: POST, GET and DELETE of a session on any node, without asking the one that opened it; DELETE ends it on
/// all of them, and only the node that got it tells the upstream.
#[tokio::test]
async fn f8_any_node_serves_a_session_of_nobodys() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let client = one.client().await;
    assert_eq!(shelf.owner(client.session().unwrap()).await, None);
    let visitor = other.as_client(&client);
    assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
    assert_eq!(client.post(call(1, "echo")).await.status, 200);
    let mut listening = client.get().await;
    let begun = [&one, &other].map(|node| node.sample().begun.load(Ordering::SeqCst));
    assert_eq!(begun, [1, 1]);
    assert_eq!(visitor.delete().await.status, 202);
    // Its streams close everywhere.
    let sender = one.sample().newest_stream();
    until("it has ended there too", || {
        one.running.server.stats().sessions == 0
    })
    .await;
    assert_eq!(client.post(call(2, "echo")).await.status, 404);
    assert_eq!(*one.sample().ended.lock().unwrap(), [SessionEnd::Deleted]);
    assert_eq!(*other.sample().ended.lock().unwrap(), [SessionEnd::Deleted]);
    drop((sender, one.sample().streams.lock().unwrap().drain(..)));
    assert_eq!(listening.next_event().await, None);
}

/// F7, Q6: what one node attaches to a record, the others have soon.
#[tokio::test]
async fn f7_a_changed_record_is_read_again() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let client = one.client().await;
    assert_eq!(
        other.as_client(&client).post(call(1, "echo")).await.status,
        200
    );
    let session_of = |sessions: &thinpipe_transport::server::SessionManager| {
        sessions.list().pop().expect("one session")
    };
    let (here, there) = (
        one.running.server.sessions(),
        other.running.server.sessions(),
    );
    let (session, copy) = (session_of(here), session_of(there));
    let set = there.set_attachment(&copy, "another".into()).await;
    set.unwrap();
    until("it is known", || session.attachment() == "another").await;
    // Who writes over what it has not seen is told so, and can read it.
    let set = there.set_attachment(&copy, "a third".into()).await;
    set.unwrap();
    until("it is known", || session.attachment() == "a third").await;
    assert!(here.refresh(&session).await.unwrap());
}

/// 5.8.9: a cancelled call may run on another node than the one that hears of it.
#[tokio::test]
async fn f8_a_cancellation_reaches_the_node_that_runs_the_call() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let client = one.client().await;
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();
    let waiting = client.post(call(1, "wait")).send().await;
    gate.reached().await;
    assert_eq!(
        other.as_client(&client).post(call(2, "echo")).await.status,
        200
    );
    let (here, there) = (
        one.running.server.sessions(),
        other.running.server.sessions(),
    );
    let (running, copy) = (here.list().pop().unwrap(), there.list().pop().unwrap());
    let id = RequestId::from_integer(1);
    there.note_cancelled(&copy, &id);
    until("it is known", || running.is_cancelled(&id)).await;
    gate.open();
    assert_eq!(waiting.response().await.status, 200);
}

/// 5.8.9, 5.1: nor need that node know of the session yet: the cancellation may be there before its call is.
#[tokio::test]
async fn f8_a_cancellation_may_be_there_before_the_session_is() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let (client, known) = (one.client().await, one.client().await);
    assert_eq!(
        other.as_client(&known).post(call(1, "echo")).await.status,
        200
    );
    let sessions = one.running.server.sessions();
    let of = |client: &Client| {
        let id = client.session().unwrap();
        let all = sessions.list();
        all.into_iter().find(|it| it.id().as_str() == id).unwrap()
    };
    let before = one.sent();
    let id = RequestId::from_integer(1);
    sessions.note_cancelled(&of(&client), &id);
    until("it is said", || one.sent() > before).await;
    // What is said later is heard later.
    let ended = sessions.end(&of(&known), SessionEnd::Deleted).await;
    ended.unwrap();
    let there = other.running.server.sessions();
    until("it is heard", || there.list().is_empty()).await;
    let gate = Gate::new();
    *other.sample().gate.lock().unwrap() = gate.clone();
    let waiting = other.as_client(&client).post(call(1, "wait")).send().await;
    gate.reached().await;
    assert!(there.list().pop().unwrap().is_cancelled(&id));
    gate.open();
    assert_eq!(waiting.response().await.status, 200);
}

/// D8, C2: who cancels a thousand calls that nobody runs keeps no other word of its node from the others, and not many
/// messages come of it.
#[tokio::test]
async fn d8_many_cancellations_are_in_nobodys_way() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let client = one.client().await;
    let visitor = other.as_client(&client);
    assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
    let sessions = other.running.server.sessions();
    let copy = sessions.list().pop().unwrap();
    let before = other.sent();
    for id in 0..10_000 {
        sessions.note_cancelled(&copy, &RequestId::from_integer(id));
    }
    sessions.end(&copy, SessionEnd::Deleted).await.unwrap();
    until("it has ended there too", || {
        one.running.server.stats().sessions == 0
    })
    .await;
    assert!(other.sent() - before < 100);
}

/// R111: a standalone stream that is opened on another node ends the one here, and all hear of that.
#[tokio::test]
async fn r111_there_is_one_standalone_stream_over_all_nodes() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let client = one.client().await;
    assert_eq!(
        other.as_client(&client).post(call(1, "echo")).await.status,
        200
    );
    let sessions = other.running.server.sessions();
    sessions.note_listening(&sessions.list().pop().unwrap());
    until("the handler is told", || {
        one.sample().outlistened.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(other.sample().outlistened.load(Ordering::SeqCst), 0);
    until("the other one hears of it", || {
        other.sample().replaced.load(Ordering::SeqCst) == 1
    })
    .await;
    assert_eq!(one.sample().replaced.load(Ordering::SeqCst), 0);
}
