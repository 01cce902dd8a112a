//! Messages that are waited for.

use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use thinpipe_store::{Inbox, SessionStore, conformance};
use thinpipe_testkit::{Redis, eventually};

use crate::{reason, store};

const TTL: Duration = Duration::from_secs(60);

/// What is taken is kept until the node has said that it has it: nothing is lost with a call that nobody waits for to
/// the end, and nothing comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_with_a_call_that_is_dropped() {
    let redis = Redis::start().await;
    let (sender, receiver) = (store(&redis.url()), store(&redis.url()));
    let node = NodeId::from_random([1; 12]);
    receiver.beat(&node, TTL).await.unwrap();
    let (mut seen, mut dropped) = (Vec::new(), 0);
    for n in 0..200_u32 {
        sender
            .deliver(&node, Bytes::from(n.to_string()))
            .await
            .unwrap();
        // Sooner or later, so that some are dropped before and some after Redis has done what it is asked.
        tokio::select! {
            biased;
            // To drop it is what this is about.
            taken = receiver.take(&node, 9, TTL) => seen.extend(taken.unwrap()),
            // There is nothing to be lost in it.
            () = turns(n % 20) => dropped += 1,
        }
    }
    assert!(dropped > 0, "some calls were dropped");
    loop {
        let taken = receiver.take(&node, 9, Duration::ZERO).await.unwrap();
        if taken.is_empty() {
            break;
        }
        seen.extend(taken);
    }
    let wanted: Vec<_> = (0..200_u32).map(|n| Bytes::from(n.to_string())).collect();
    assert_eq!(seen, wanted, "all, once, in order");
}

/// A call that was given up may reach Redis after a later one, over a connection of its own, and knows less of what
/// the node has got.
#[tokio::test]
async fn a_call_that_comes_late_takes_nothing_from_later_ones() {
    let redis = Redis::start().await;
    let (store, late) = (store(&redis.url()), store(&redis.url()));
    let node = NodeId::from_random([1; 12]);
    store.beat(&node, TTL).await.unwrap();
    for text in ["a", "b"] {
        store.deliver(&node, Bytes::from(text)).await.unwrap();
        let taken = store.take(&node, 9, Duration::ZERO).await.unwrap();
        assert_eq!(taken, [text]);
    }
    store.deliver(&node, Bytes::from("c")).await.unwrap();
    late.take(&node, 9, Duration::ZERO).await.unwrap();
    let taken = store.take(&node, 9, Duration::ZERO).await.unwrap();
    assert_eq!(taken, ["c"], "not lost, and nothing comes twice");
}

/// F14: waiting has a connection of its own.
#[tokio::test]
async fn f14_waiting_for_messages_holds_up_nothing() {
    let redis = Redis::start().await;
    let store = store(&redis.url());
    let node = NodeId::from_random([1; 12]);
    store.beat(&node, TTL).await.unwrap();
    let waiting = store.take(&node, 9, TTL);
    let others = async {
        // It waits in Redis by now.
        eventually("one that waits", async || is_blocked(&redis, 1).await).await;
        assert_eq!(store.count().await.unwrap(), 0);
        store
            .deliver(&node, Bytes::from_static(b"a"))
            .await
            .unwrap();
    };
    let (taken, ()) = tokio::join!(waiting, others);
    assert_eq!(taken.unwrap(), [Bytes::from_static(b"a")]);
}

/// Who does not wait any more does not make the next one wait.
#[tokio::test]
async fn a_wait_that_was_given_up_holds_up_no_other() {
    let redis = Redis::start().await;
    let store = store(&redis.url());
    let node = NodeId::from_random([1; 12]);
    store.beat(&node, TTL).await.unwrap();
    {
        let waiting = store.take(&node, 9, TTL);
        let blocked = eventually("one that waits", async || is_blocked(&redis, 1).await);
        tokio::select! {
            // Both may be dropped: the one is what this is about, the other only looks.
            _ = waiting => panic!("there is nothing to take"),
            () = blocked => {}
        }
    }
    let waiting = store.take(&node, 9, TTL);
    let others = async {
        eventually("only the new one waits", async || {
            is_blocked(&redis, 1).await
        })
        .await;
        store
            .deliver(&node, Bytes::from_static(b"a"))
            .await
            .unwrap();
    };
    let (taken, ()) = tokio::join!(waiting, others);
    assert_eq!(taken.unwrap(), [Bytes::from_static(b"a")]);
}

/// F14: who waits learns that Redis is gone, and waits on when it is back.
#[tokio::test]
async fn f14_who_waits_learns_that_redis_is_gone() {
    let mut redis = Redis::start().await;
    let store = store(&redis.url());
    let node = NodeId::from_random([1; 12]);
    store.beat(&node, TTL).await.unwrap();
    let waiting = store.take(&node, 9, TTL);
    let (taken, ()) = {
        let blocked = async {
            eventually("one that waits", async || is_blocked(&redis, 1).await).await;
            redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        };
        tokio::join!(waiting, blocked)
    };
    assert!(reason(taken).contains("Redis failed"));
    redis.kill().await;
    redis.restart().await;
    eventually("a beat", async || {
        store.beat(&node, TTL).await.map_err(|e| e.to_string())
    })
    .await;
    store
        .deliver(&node, Bytes::from_static(b"a"))
        .await
        .unwrap();
    assert_eq!(
        store.take(&node, 9, TTL).await.unwrap(),
        [Bytes::from_static(b"a")]
    );
    assert_eq!(store.get(&conformance::sample(1).id).await.unwrap(), None);
}

async fn turns(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

async fn is_blocked(redis: &Redis, clients: u32) -> Result<(), String> {
    let info = redis.command(&["INFO", "clients"]).await;
    let wanted = format!("blocked_clients:{clients}\r\n");
    if info.text().contains(&wanted) {
        Ok(())
    } else {
        Err(info.text().to_owned())
    }
}
