//! Records that a node cannot read, as after an upgrade of others.

use thinpipe_transport::server::SessionEnd;

use super::support::Shelf;
use crate::support::{call, until};

/// F13, 5.8.6: one record that cannot be read does not keep a node cut off; its session is let go of, and the others
/// are compared.
#[tokio::test]
async fn f13_a_node_comes_back_whatever_it_cannot_read() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let (ended, unreadable, kept) = (one.client().await, one.client().await, one.client().await);
    one.cut();
    shelf.buried(&one).await;
    assert_eq!(other.as_client(&ended).delete().await.status, 202);
    one.cannot_read(unreadable.session().unwrap());
    one.mend();
    until("it has let go of two", || {
        let mut ends = one.sample().ended.lock().unwrap().clone();
        ends.sort_by_key(|end| *end == SessionEnd::Forgotten);
        ends == [SessionEnd::Deleted, SessionEnd::Forgotten]
    })
    .await;
    until("it is no longer cut off", || {
        !one.running.server.nodes().unwrap().stats().is_cut_off
    })
    .await;
    assert_eq!(kept.post(call(1, "echo")).await.status, 200);
    let elsewhere = other.as_client(&unreadable);
    assert_eq!(elsewhere.post(call(1, "echo")).await.status, 200);
    let refused = unreadable.post(call(2, "echo")).await;
    assert_eq!(refused.status, 503);
}

/// F13: a damaged record ends its session, at every node and for good: its client gets 404, and not an invitation to try
/// again, whether or not the session is held.
#[tokio::test]
async fn f13_a_damaged_record_ends_its_session() {
    for is_held in [false, true] {
        let shelf = Shelf::default();
        let [one, other] = match is_held {
            true => shelf.holding().await,
            false => shelf.passing().await,
        };
        let (client, kept) = (one.client().await, one.client().await);
        other.finds_damaged(client.session().unwrap());
        let refused = other.as_client(&client).post(call(1, "echo")).await;
        assert_eq!(refused.status, 404);
        assert_eq!(shelf.records().await, 1);
        until("it has ended where it was live", || {
            *one.sample().ended.lock().unwrap() == [SessionEnd::Deleted]
        })
        .await;
        assert_eq!(client.post(call(2, "echo")).await.status, 404);
        let kept = other.as_client(&kept);
        assert_eq!(kept.post(call(3, "echo")).await.status, 200);
    }
}

/// The same of one that is compared with its record after an outage.
#[tokio::test]
async fn f13_a_damaged_record_is_found_by_whoever_reads_it() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let client = one.client().await;
    one.cut();
    shelf.buried(&one).await;
    one.finds_damaged(client.session().unwrap());
    one.mend();
    until("it has ended", || {
        *one.sample().ended.lock().unwrap() == [SessionEnd::Deleted]
    })
    .await;
    assert_eq!(shelf.records().await, 0);
    let refused = other.as_client(&client).post(call(1, "echo")).await;
    assert_eq!(refused.status, 404);
}
