//! A cluster that changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use thinpipe_store::{Inbox, RedisConfig, RedisStore, SessionStore, conformance};
use thinpipe_testkit::{Redis, RedisCluster, eventually};
use tokio::task::JoinSet;

use crate::outage::{goes_round, is_used_again};
use crate::{all_of, store};

const TTL: Duration = Duration::from_secs(60);
/// Until the client has tried a few times to reach what stands still.
const STANDS_STILL: Duration = Duration::from_secs(15);
/// Enough for each of the servers to have some.
const SESSIONS: u8 = 24;

/// A part of a cluster is gone: what the others have is there all the same, and the rest when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_goes_on_when_a_server_is_gone() {
    let mut cluster = RedisCluster::start().await;
    let store = store(&cluster.url());
    fill(&store).await;
    cluster.nodes[1].kill().await;
    let found = found(&store).await;
    assert!((8..SESSIONS).contains(&found), "{found} are on the others");
    cluster.nodes[1].restart().await;
    is_used_again(&store).await;
}

/// The same of one that stands still.
#[tokio::test(flavor = "multi_thread")]
async fn the_rest_goes_on_when_a_server_stands_still() {
    let cluster = RedisCluster::start().await;
    let store = store(&cluster.url());
    fill(&store).await;
    cluster.nodes[1].pause().await;
    let found = found(&store).await;
    assert!((8..SESSIONS).contains(&found), "{found} are on the others");
    cluster.nodes[1].resume().await;
    is_used_again(&store).await;
}

/// F17: nor does one that stands still for long keep the others from being asked, when its connection has broken and the
/// client tries to connect to it again and again.
#[tokio::test(flavor = "multi_thread")]
async fn f17_the_rest_goes_on_when_a_server_stands_still_for_long() {
    let cluster = RedisCluster::start().await;
    let store = store(&cluster.url());
    fill(&store).await;
    let still = &cluster.nodes[1];
    let (there, _) = nodes_by_place(&cluster, still.port()).await;
    store.beat(&there[0], TTL).await.unwrap();
    still.pause().await;
    let paused = Instant::now();
    // More than the system takes for a server that does not read: its connection breaks.
    let large = Bytes::from(vec![b'x'; 4 << 20]);
    store.deliver(&there[0], large).await.unwrap_err();
    while paused.elapsed() < STANDS_STILL {
        let mut asked = JoinSet::new();
        for n in 0..SESSIONS {
            let store = Arc::clone(&store);
            asked.spawn(async move { store.get(&conformance::sample(n).id).await });
        }
        let answers = asked.join_all().await;
        let found = answers.iter().filter(|a| matches!(a, Ok(Some(_)))).count();
        assert!(
            found > usize::from(SESSIONS) / 2,
            "{found} are on the others"
        );
    }
    still.resume().await;
    is_used_again(&store).await;
}

/// Slots move from one server to another: who asks the wrong one is told, and asks the right one.
#[tokio::test(flavor = "multi_thread")]
async fn what_moved_is_followed() {
    let cluster = RedisCluster::start().await;
    let store = store(&cluster.url());
    goes_round(&store, 1).await.unwrap();
    let id = conformance::sample(1).id;
    let slot = slot_of(&cluster, id.as_str()).await;
    let (old, new) = owner_and_other(&cluster, &slot).await;
    let new_id = new.command(&["CLUSTER", "MYID"]).await;
    // All are told, as those who move slots do: a server that has not heard of it yet would send clients back.
    let third = cluster
        .nodes
        .iter()
        .filter(|node| ![new.port(), old.port()].contains(&node.port()));
    for node in [new, old].into_iter().chain(third) {
        node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", new_id.text()])
            .await;
    }
    store.create(&conformance::sample(1), TTL).await.unwrap();
    let there = new.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).await;
    assert_eq!(there.number(), 1, "it is where the slot is");
    goes_round(&store, 1).await.unwrap();
}

/// A slot that is on its way: what has gone already is found where it is, and what is new is put there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_moving_is_followed() {
    let cluster = RedisCluster::start().await;
    let store = store(&cluster.url());
    let record = conformance::sample(1);
    store.create(&record, TTL).await.unwrap();
    let slot = slot_of(&cluster, record.id.as_str()).await;
    let (old, new) = on_its_way(&cluster, &slot).await;
    let found = store.get(&record.id).await.unwrap();
    assert!(found.is_some(), "it has not gone yet");
    let keys = old.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "9"]).await;
    let [key] = keys.list() else {
        panic!("a session is one key: {keys:?}")
    };
    let port = new.port().to_string();
    old.command(&["MIGRATE", "127.0.0.1", &port, key.text(), "0", "5000"])
        .await;
    let found = store.get(&record.id).await.unwrap();
    assert!(found.is_some(), "it has gone");
    goes_round(&store, 1).await.unwrap();
    store.create(&record, TTL).await.unwrap();
    let there = new.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).await;
    assert_eq!(there.number(), 1, "it is where the slot goes");
}

/// A slot whose keys are on their way one by one: what needs several of them waits until they are all there, as long as
/// an operation may take, and is done once.
#[tokio::test(flavor = "multi_thread")]
async fn what_needs_all_keys_waits_for_them() {
    let cluster = RedisCluster::start().await;
    let mut config: RedisConfig = cluster.url().parse().unwrap();
    config.operation_timeout = Duration::from_secs(30);
    let store = RedisStore::new(config, conformance::LIMITS);
    let node = NodeId::from_random([1; 12]);
    store.beat(&node, TTL).await.unwrap();
    let slot = slot_of(&cluster, &format!("{{{}}}", node.as_str())).await;
    let (old, new) = on_its_way(&cluster, &slot).await;
    let new_id = new.command(&["CLUSTER", "MYID"]).await;
    let message = Bytes::from_static(b"a");
    let moving = async {
        // More often than anything else is tried.
        eventually("it is tried again", async || {
            let stats = old.command(&["INFO", "errorstats"]).await;
            let (_, count) = stats
                .text()
                .split_once("TRYAGAIN:count=")
                .unwrap_or_default();
            match count.lines().next().unwrap_or_default().parse() {
                Ok(5_u32..) => Ok(()),
                _ => Err(stats.text().to_owned()),
            }
        })
        .await;
        let keys = old.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "9"]).await;
        let port = new.port().to_string();
        for key in keys.list() {
            old.command(&["MIGRATE", "127.0.0.1", &port, key.text(), "0", "5000"])
                .await;
        }
        for of in [new, old] {
            of.command(&["CLUSTER", "SETSLOT", &slot, "NODE", new_id.text()])
                .await;
        }
    };
    let (delivered, ()) = tokio::join!(store.deliver(&node, message.clone()), moving);
    delivered.unwrap();
    let taken = store.take(&node, 9, Duration::ZERO).await.unwrap();
    assert_eq!(taken, [message]);
}

/// 5.8: a node is alive as long as its life sign is heard, whatever has become of the list of all nodes, which is in
/// one place.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_lives_without_the_list_of_all() {
    let mut cluster = RedisCluster::start().await;
    let store = store(&cluster.url());
    let slot = slot_of(&cluster, "thinpipe:nodes").await;
    let lists = owner_and_other(&cluster, &slot).await.0.port();
    let (_, elsewhere) = nodes_by_place(&cluster, lists).await;
    let [alive, silent, ..] = &elsewhere[..] else {
        panic!("some are elsewhere")
    };
    store.beat(alive, TTL).await.unwrap();
    let lists = cluster.nodes.iter_mut().find(|node| node.port() == lists);
    lists.expect("it is one of them").kill().await;
    store.nodes().await.unwrap_err();
    store.beat(alive, TTL).await.unwrap();
    let among = [alive.clone(), silent.clone()];
    assert_eq!(store.dead(&among).await.unwrap(), among[1..]);
    store.deliver(alive, "message".into()).await.unwrap();
}

/// Nodes of which a server knows whether they are alive, and others.
async fn nodes_by_place(cluster: &RedisCluster, port: u16) -> (Vec<NodeId>, Vec<NodeId>) {
    let (mut there, mut elsewhere) = (Vec::new(), Vec::new());
    for n in 0..SESSIONS {
        let node = NodeId::from_random([n; 12]);
        let slot = slot_of(cluster, node.as_str()).await;
        match owner_and_other(cluster, &slot).await.0.port() == port {
            true => there.push(node),
            false => elsewhere.push(node),
        }
    }
    (there, elsewhere)
}

async fn slot_of(cluster: &RedisCluster, key: &str) -> String {
    let asked = ["CLUSTER", "KEYSLOT", key];
    let slot = cluster.nodes[0].command(&asked).await;
    slot.number().to_string()
}

/// A slot begins to move, from the first of these to the second.
async fn on_its_way<'a>(cluster: &'a RedisCluster, slot: &str) -> (&'a Redis, &'a Redis) {
    let (old, new) = owner_and_other(cluster, slot).await;
    let old_id = old.command(&["CLUSTER", "MYID"]).await;
    let new_id = new.command(&["CLUSTER", "MYID"]).await;
    new.command(&["CLUSTER", "SETSLOT", slot, "IMPORTING", old_id.text()])
        .await;
    old.command(&["CLUSTER", "SETSLOT", slot, "MIGRATING", new_id.text()])
        .await;
    (old, new)
}

async fn owner_and_other<'a>(cluster: &'a RedisCluster, slot: &str) -> (&'a Redis, &'a Redis) {
    let mut own = None;
    let mut other = None;
    for node in &cluster.nodes {
        let info = node.command(&["CLUSTER", "NODES"]).await;
        let is_mine = |line: &&str| line.contains("myself");
        let mine = info
            .text()
            .lines()
            .find(is_mine)
            .unwrap_or_default()
            .to_owned();
        let range = mine
            .rsplit(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        let (from, to) = range.expect("each has one range");
        let number = |text: &str| text.parse::<u16>().expect("slots are numbers");
        if (number(from)..=number(to)).contains(&number(slot)) {
            own = Some(node);
        } else {
            other = Some(node);
        }
    }
    own.zip(other).expect("one has it and others do not")
}

async fn fill(store: &RedisStore) {
    for n in 0..SESSIONS {
        store
            .create(&conformance::sample(n), TTL)
            .await
            .expect("all of the cluster is there");
    }
}

/// How many sessions are found, asked for until the answer is not that it is too early to ask.
async fn found(store: &RedisStore) -> u8 {
    let mut found = 0;
    for n in 0..SESSIONS {
        let id = conformance::sample(n).id;
        let is_there = eventually("leave to ask", async || match store.get(&id).await {
            Ok(record) => Ok(record.is_some()),
            Err(error) if all_of(&error).contains("only asked now and then") => {
                Err("no".to_owned())
            }
            Err(_) => Ok(false),
        });
        found += u8::from(is_there.await);
    }
    found
}
