//! Against the suites that everything must pass: on one server, behind sentinels, in a cluster, and under TLS with a
//! user of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use thinpipe_proto::session::{NodeId, StreamId};
use thinpipe_store::{
    EventLog, Inbox, RedisConfig, RedisStore, SessionStore, StreamHead, StreamKey, conformance,
};
use thinpipe_testkit::{Redis, RedisCluster, RedisSentinel};

use crate::servers::{advance, keys};
use crate::store;

/// F1, F3, F13, F20: what memory does, a server does, and nothing is left of it but the secrets.
#[tokio::test(flavor = "multi_thread")]
async fn f1_a_single_server_passes_the_suites() {
    let redis = Redis::start().await;
    passes_the_suites(store(&redis.url()), &[&redis]).await;
}

/// F1: in a cluster each script uses keys of one slot.
#[tokio::test(flavor = "multi_thread")]
async fn f1_a_cluster_passes_the_suites() {
    let cluster = RedisCluster::start().await;
    let nodes: Vec<_> = cluster.nodes.iter().collect();
    passes_the_suites(store(&cluster.url()), &nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_a_server_behind_sentinels_passes_the_suites() {
    let sentinel = RedisSentinel::start().await;
    passes_the_suites(store(&sentinel.url()), &[&sentinel.server]).await;
}

/// The user of the URL may use keys with the prefix only, and the certificate is trusted because the
/// configuration says so.
#[tokio::test(flavor = "multi_thread")]
async fn f1_a_server_with_tls_and_users_passes_the_suites() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let redis = Redis::start_with_tls(&cert.pem(), &signing_key.serialize_pem()).await;
    let user = [
        "ACL",
        "SETUSER",
        "gateway",
        "on",
        ">p@ss",
        "~mine:*",
        "+@all",
        "-@dangerous",
    ];
    redis.command(&user).await;
    let url = format!("rediss://gateway:p%40ss@localhost:{}", redis.tls_port());
    let mut config: RedisConfig = url.parse().unwrap();
    config.tls_roots = Some(cert.pem().into());
    config.prefix = "mine".to_owned();
    let store = Arc::new(RedisStore::new(config, conformance::LIMITS));
    passes_the_suites(store, &[&redis]).await;
    let left = keys(&[&redis]).await;
    assert!(left.iter().all(|key| key.starts_with("mine:")), "{left:?}");
}

/// Invariant 5, F13: every key has an end, and those of what was ended are gone.
#[tokio::test]
async fn f13_every_key_expires() {
    let redis = Redis::start().await;
    let store = store(&redis.url());
    let record = conformance::sample(1);
    let node = NodeId::from_random([1; 12]);
    let ttl = Duration::from_secs(60);
    let key = StreamKey {
        session: record.id.clone(),
        stream: StreamId(1),
    };
    let head = StreamHead {
        owner: node.clone(),
        request: None,
    };
    store.create(&record, ttl).await.unwrap();
    store.beat(&node, ttl).await.unwrap();
    store
        .deliver(&node, Bytes::from_static(b"a"))
        .await
        .unwrap();
    store
        .secret("seal", Bytes::from_static(b"s"))
        .await
        .unwrap();
    store.open(&key, &head).await.unwrap();
    store.append(&key, &node, &[]).await.unwrap();
    store.finish(&key, Bytes::from_static(b"{}")).await.unwrap();
    let all = keys(&[&redis]).await;
    // Record and index; head, events, list of streams, what they keep and since when; life sign, inbox, its size,
    // its bell, and list of nodes; secret.
    assert_eq!(all.len(), 13, "{all:?}");
    for key in &all {
        let left = redis.command(&["PTTL", key]).await.number();
        assert!(left > 0, "{key} is kept for ever");
    }
    store.forget(&record.id).await.unwrap();
    store.delete(&record.id).await.unwrap();
    store.leave(&node).await.unwrap();
    assert_eq!(keys(&[&redis]).await, ["thinpipe:secret:seal"]);
}

async fn passes_the_suites(store: Arc<RedisStore>, servers: &[&Redis]) {
    let advance = |by| advance(servers, by);
    conformance::sessions(Arc::clone(&store) as Arc<dyn SessionStore>, advance).await;
    conformance::event_log(Arc::clone(&store) as Arc<dyn EventLog>, advance).await;
    conformance::inbox(Arc::clone(&store) as Arc<dyn Inbox>, advance).await;
    let left = keys(servers).await;
    let is_secret = |key: &String| key.contains(":secret:");
    assert!(left.iter().all(is_secret), "{left:?}");
}
