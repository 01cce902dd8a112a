//! Who leaves a node that has its request answered by another one is heard of there, also when the store fails just
//! then: nothing goes on that nobody waits for (invariants 14 and 25 of protocol notes 5.9).

use std::time::Duration;

use bytes::Bytes;
use thinpipe_testkit::eventually;
use tokio::time::timeout;

use super::support::Shelf;
use crate::support::until;

/// After this an asker that says nothing has left.
const UNHEARD: Duration = Duration::from_secs(90);

/// 5.9.25: a node whose word that it has left was not taken by the store says so again.
#[tokio::test(start_paused = true)]
async fn a30_a_leaving_that_the_store_did_not_take_is_told_again() {
    let shelf = Shelf::on_tokios_clock();
    let [one, other] = shelf.holding().await;
    let session = one.open_session().await;
    let mut listening = other.connect();
    let (status, _) = listening.ask("GET", Some(&session), "").await;
    assert_eq!(status, 200);
    let sender = one.sample().newest_stream();
    other.fail_one();
    drop(listening);
    let soon = timeout(Duration::from_secs(1), sender.closed()).await;
    assert!(soon.is_ok(), "the owner goes on for nobody");
    one.is_idle().await;
    other.is_idle().await;
}

/// 5.9.25: a word that is lost without anybody knowing is not waited for without end.
#[tokio::test(start_paused = true)]
async fn a30_an_asker_that_is_not_heard_of_has_left() {
    let shelf = Shelf::on_tokios_clock();
    let [one, other] = shelf.holding().await;
    let session = one.open_session().await;
    let mut listening = other.connect();
    listening.ask("GET", Some(&session), "").await;
    let sender = one.sample().newest_stream();
    other.lose_one();
    drop(listening);
    let late = timeout(UNHEARD + Duration::from_secs(1), sender.closed()).await;
    assert!(late.is_ok(), "the owner goes on for nobody");
    one.is_idle().await;
}

/// Nor does a node go on that was asked to stop while the store takes nothing of what it says: nobody finds out for it
/// any more that its asker has left.
#[tokio::test(start_paused = true)]
async fn a30_a_node_that_has_stopped_delivers_nothing_more() {
    let shelf = Shelf::on_tokios_clock();
    let [one, other] = shelf.holding().await;
    let session = one.open_session().await;
    let mut listening = other.connect();
    listening.ask("GET", Some(&session), "").await;
    let sender = one.sample().newest_stream();
    one.fail_all();
    sender
        .send(Bytes::from_static(b"data: 1\n\n"))
        .await
        .unwrap();
    one.running.server.shut_down().await;
    let soon = timeout(Duration::from_secs(1), sender.closed()).await;
    assert!(soon.is_ok(), "it goes on after its end");
    one.is_idle().await;
}

/// One that waits for what is never said is heard of, and does not say so more often than it has to.
#[tokio::test(start_paused = true)]
async fn a30_an_asker_that_waits_is_heard_of() {
    const LONG: Duration = Duration::from_secs(600);
    let shelf = Shelf::on_tokios_clock();
    let [one, other] = shelf.holding().await;
    let session = one.open_session().await;
    let mut listening = other.connect();
    listening.ask("GET", Some(&session), "").await;
    let sender = one.sample().newest_stream();
    let before = other.sent();
    let open = timeout(LONG, sender.closed()).await;
    assert!(open.is_err(), "its stream has ended");
    assert_eq!(one.running.server.nodes().unwrap().stats().served, 1);
    let sent = other.sent() - before;
    assert!((15..30).contains(&sent), "{sent} messages");
}

/// A request of which the store does not say whether it was delivered is answered for nobody: the owner hears so.
#[tokio::test(start_paused = true)]
async fn a30_a_request_of_unknown_fate_is_left() {
    let shelf = Shelf::on_tokios_clock();
    let [one, other] = shelf.holding().await;
    let session = one.open_session().await;
    other.doubt_one();
    let (status, _) = other.connect().ask("GET", Some(&session), "").await;
    assert_eq!(status, 503);
    let sender = one.sample().newest_stream();
    let soon = timeout(Duration::from_secs(1), sender.closed()).await;
    assert!(soon.is_ok(), "the owner goes on for nobody");
    one.is_idle().await;
}

/// B15: a DELETE is done although its client leaves at once, before the session's owner has heard of it or before it is
/// even looked for.
#[tokio::test]
async fn b15_a_delete_whose_client_leaves_is_done_by_the_owner() {
    for is_asked in [true, false] {
        let shelf = Shelf::default();
        let [one, other] = shelf.holding().await;
        let client = one.client().await;
        one.deafen().await;
        let leaving = other.as_client(&client).delete().send().await;
        let stats = || other.running.server.nodes().unwrap().stats();
        if is_asked {
            until("the owner is asked", || stats().asked == 1).await;
        }
        drop(leaving);
        until("it is gone", || {
            other.running.server.stats().connections_open == 0
        })
        .await;
        one.undeafen();
        eventually("the session has ended", async || {
            match shelf.records().await {
                0 => Ok(()),
                records => Err(format!("{records} records")),
            }
        })
        .await;
        other.is_idle().await;
    }
}
