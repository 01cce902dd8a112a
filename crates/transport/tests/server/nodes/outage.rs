//! The store is out of reach: what is local goes on, the rest is told to come again, and afterwards everything is
//! as before (F17).

use std::sync::atomic::Ordering;

use thinpipe_testkit::rpc;
use thinpipe_transport::server::SessionEnd;

use super::support::Shelf;
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
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "session_store_unavailable");
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
