//! What every [`Inbox`] must do.

use std::future::Future;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::NodeId;

use super::{all, ok};
use crate::{DeliverError, Inbox, KEPT_AFTER_DEATH, MAX_WAITING, MAX_WAITING_BYTES};

const TTL: Duration = Duration::from_secs(3);
/// For what is there already, or never comes.
const SHORT: Duration = Duration::from_millis(20);
/// For what comes.
const LONG: Duration = Duration::from_secs(30);

/// Runs the suite of an inbox that knows no nodes. `advance` lets time pass for it.
///
/// # Panics
/// When the inbox misbehaves; the message says how.
pub async fn inbox<F>(inbox: Arc<dyn Inbox>, advance: impl Fn(Duration) -> F)
where
    F: Future<Output = ()>,
{
    nodes_live_and_die(&*inbox, &advance).await;
    messages_arrive_in_order(&*inbox).await;
    each_sender_keeps_its_order(&inbox).await;
    who_waits_is_woken(&inbox).await;
    one_gets_what_is_taken_back(&inbox).await;
    the_dead_are_taken_back_from(&*inbox, &advance).await;
    what_waits_is_bounded(&inbox).await;
    secrets_are_shared(&inbox).await;
}

async fn nodes_live_and_die<F>(inbox: &dyn Inbox, advance: &impl Fn(Duration) -> F)
where
    F: Future<Output = ()>,
{
    let (one, two) = (node(1), node(2));
    let gone = inbox.deliver(&one, message("early")).await;
    assert!(matches!(gone, Err(DeliverError::Gone)), "{gone:?}");
    for node in [&two, &one] {
        ok(inbox.beat(node, TTL).await, "beat");
    }
    assert_eq!(alive(inbox).await, [one.clone(), two.clone()]);
    advance(TTL * 2 / 3).await;
    ok(inbox.beat(&one, TTL).await, "beat");
    advance(TTL * 2 / 3).await;
    assert_eq!(
        alive(inbox).await,
        slice::from_ref(&one),
        "who says nothing dies"
    );
    let among = [one.clone(), two.clone(), node(9)];
    let dead = ok(inbox.dead(&among).await, "dead");
    assert_eq!(dead, among[1..], "so does who never said anything");
    let gone = inbox.deliver(&two, message("late")).await;
    assert!(matches!(gone, Err(DeliverError::Gone)), "{gone:?}");
    ok(inbox.beat(&two, TTL).await, "beat");
    assert_eq!(
        alive(inbox).await.len(),
        2,
        "and lives again when it is heard of"
    );
    ok(inbox.deliver(&one, message("unread")).await, "deliver");
    for node in [&one, &two] {
        ok(inbox.leave(node).await, "leave");
    }
    assert_eq!(alive(inbox).await, []);
    let gone = inbox.deliver(&one, message("late")).await;
    assert!(matches!(gone, Err(DeliverError::Gone)), "{gone:?}");
    ok(inbox.beat(&one, TTL).await, "beat");
    let taken = ok(inbox.take(&one, 9, SHORT).await, "take");
    assert_eq!(taken, Vec::<Bytes>::new(), "what waited is forgotten");
    ok(inbox.leave(&one).await, "leave");
}

async fn messages_arrive_in_order(inbox: &dyn Inbox) {
    let (one, two) = (node(3), node(4));
    for node in [&one, &two] {
        ok(inbox.beat(node, LONG).await, "beat");
    }
    let binary = Bytes::from_static(b"\x00\xff\r\n");
    for text in [&binary, &message("2"), &message("3")] {
        ok(inbox.deliver(&one, text.clone()).await, "deliver");
    }
    ok(inbox.deliver(&two, message("other")).await, "deliver");
    let taken = ok(inbox.take(&one, 2, SHORT).await, "take");
    assert_eq!(taken, [binary, message("2")], "no more than asked");
    let taken = ok(inbox.take(&one, 9, SHORT).await, "take");
    assert_eq!(taken, [message("3")]);
    let taken = ok(inbox.take(&one, 9, SHORT).await, "take");
    assert_eq!(taken, Vec::<Bytes>::new(), "each arrives once");
    let taken = ok(inbox.take(&two, 9, SHORT).await, "take");
    assert_eq!(taken, [message("other")]);
    for node in [&one, &two] {
        ok(inbox.leave(node).await, "leave");
    }
}

async fn each_sender_keeps_its_order(inbox: &Arc<dyn Inbox>) {
    let node = node(5);
    ok(inbox.beat(&node, LONG).await, "beat");
    let senders = all((0..4).map(|sender| {
        let (inbox, node) = (Arc::clone(inbox), node.clone());
        async move {
            for n in 0..50 {
                let sent = inbox
                    .deliver(&node, message(&format!("{sender}:{n}")))
                    .await;
                ok(sent, "deliver");
            }
        }
    }));
    let reader = async {
        let mut seen: Vec<Bytes> = Vec::new();
        while seen.len() < 200 {
            let taken = ok(inbox.take(&node, 7, LONG).await, "take");
            assert!(!taken.is_empty(), "{} of 200 arrived", seen.len());
            seen.extend(taken);
        }
        seen
    };
    let (_, seen) = tokio::join!(senders, reader);
    for sender in 0..4 {
        let prefix = format!("{sender}:");
        let of_one: Vec<_> = seen
            .iter()
            .filter(|m| m.starts_with(prefix.as_bytes()))
            .cloned()
            .collect();
        let wanted: Vec<_> = (0..50).map(|n| message(&format!("{sender}:{n}"))).collect();
        assert_eq!(of_one, wanted, "all, once, in order");
    }
    ok(inbox.leave(&node).await, "leave");
}

async fn who_waits_is_woken(inbox: &Arc<dyn Inbox>) {
    let node = node(6);
    ok(inbox.beat(&node, LONG).await, "beat");
    let waiting = inbox.take(&node, 9, LONG);
    let sending = async {
        // The one that waits has had a turn before.
        tokio::task::yield_now().await;
        ok(inbox.deliver(&node, message("come")).await, "deliver");
    };
    let (taken, ()) = tokio::join!(waiting, sending);
    assert_eq!(ok(taken, "take"), [message("come")]);
    ok(inbox.leave(&node).await, "leave");
}

/// A message is taken, or taken back, and never both.
async fn one_gets_what_is_taken_back(inbox: &Arc<dyn Inbox>) {
    let node = node(7);
    ok(inbox.beat(&node, LONG).await, "beat");
    let texts: Vec<_> = (0..50).map(|n| message(&format!("m{n}"))).collect();
    for text in &texts {
        ok(inbox.deliver(&node, text.clone()).await, "deliver");
    }
    let withdrawals = all(texts.clone().into_iter().rev().map(|text| {
        let (inbox, node) = (Arc::clone(inbox), node.clone());
        async move { (ok(inbox.withdraw(&node, &text).await, "withdraw"), text) }
    }));
    let reader = async {
        let mut seen = Vec::new();
        loop {
            let taken = ok(inbox.take(&node, 3, SHORT).await, "take");
            if taken.is_empty() {
                return seen;
            }
            seen.extend(taken);
        }
    };
    let (withdrawn, taken) = tokio::join!(withdrawals, reader);
    for (taken_back, text) in withdrawn {
        let times = taken.iter().filter(|taken| **taken == text).count();
        assert_eq!(
            times,
            usize::from(!taken_back),
            "{text:?}, taken back: {taken_back}"
        );
    }
    let again = ok(inbox.withdraw(&node, &texts[0]).await, "withdraw");
    assert!(!again, "nothing is taken back twice");
    ok(inbox.leave(&node).await, "leave");
}

async fn the_dead_are_taken_back_from<F>(inbox: &dyn Inbox, advance: &impl Fn(Duration) -> F)
where
    F: Future<Output = ()>,
{
    let dead = node(8);
    ok(inbox.beat(&dead, TTL).await, "beat");
    for text in ["a", "b"] {
        ok(inbox.deliver(&dead, message(text)).await, "deliver");
    }
    advance(TTL + KEPT_AFTER_DEATH / 2).await;
    assert_eq!(alive(inbox).await, []);
    assert!(
        ok(inbox.withdraw(&dead, &message("a")).await, "withdraw"),
        "it is still there"
    );
    advance(KEPT_AFTER_DEATH).await;
    assert!(
        !ok(inbox.withdraw(&dead, &message("b")).await, "withdraw"),
        "but not for ever"
    );
    ok(inbox.leave(&dead).await, "leave");
}

async fn what_waits_is_bounded(inbox: &Arc<dyn Inbox>) {
    let node = node(9);
    ok(inbox.beat(&node, LONG).await, "beat");
    let large = |n: u8| Bytes::from(vec![n; MAX_WAITING_BYTES / 16]);
    for n in 0..16 {
        ok(inbox.deliver(&node, large(n)).await, "deliver");
    }
    let full = inbox.deliver(&node, message("too much")).await;
    assert!(matches!(full, Err(DeliverError::Full)), "{full:?}");
    let found = ok(inbox.withdraw(&node, &large(7)).await, "withdraw");
    assert!(found, "it is there");
    ok(
        inbox.deliver(&node, message("small")).await,
        "there is room again",
    );
    for n in (0..16).filter(|n| *n != 7) {
        let taken = ok(inbox.take(&node, 1, SHORT).await, "take");
        assert!(taken == [large(n)], "message {n} in its turn");
    }
    let taken = ok(inbox.take(&node, 9, SHORT).await, "take");
    assert_eq!(taken, [message("small")]);
    ok(inbox.deliver(&node, message("first")).await, "deliver");
    let senders = all((0..20).map(|sender| {
        let (inbox, node) = (Arc::clone(inbox), node.clone());
        async move {
            // One less of the first sender, since one message is there already.
            for _ in usize::from(sender == 0)..MAX_WAITING / 20 {
                ok(
                    inbox.deliver(&node, message("more")).await,
                    "there is room again",
                );
            }
        }
    }));
    senders.await;
    let full = inbox.deliver(&node, message("one too many")).await;
    assert!(matches!(full, Err(DeliverError::Full)), "{full:?}");
    let taken = ok(inbox.take(&node, 1, SHORT).await, "take");
    assert_eq!(taken, [message("first")]);
    ok(
        inbox.deliver(&node, message("again")).await,
        "there is room again",
    );
    ok(inbox.leave(&node).await, "leave");
}

async fn secrets_are_shared(inbox: &Arc<dyn Inbox>) {
    let proposals = all((0..8).map(|n| {
        let inbox = Arc::clone(inbox);
        async move {
            ok(
                inbox.secret("seal", message(&format!("s{n}"))).await,
                "secret",
            )
        }
    }));
    let secrets = proposals.await;
    assert!(
        secrets.iter().all(|secret| *secret == secrets[0]),
        "{secrets:?}"
    );
    let late = ok(inbox.secret("seal", message("late")).await, "secret");
    assert_eq!(late, secrets[0]);
    let other = ok(inbox.secret("other", message("other")).await, "secret");
    assert_eq!(other, message("other"));
}

async fn alive(inbox: &dyn Inbox) -> Vec<NodeId> {
    let mut nodes = ok(inbox.nodes().await, "nodes");
    nodes.sort();
    nodes
}

fn node(n: u8) -> NodeId {
    NodeId::from_random([n; 12])
}

fn message(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
