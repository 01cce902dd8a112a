//! What is said when Redis is not what the configuration says.

use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::NodeId;
use thinpipe_store::{DeliverError, Inbox, RedisStore, SessionStore, StoreError, conformance};
use thinpipe_testkit::{Redis, RedisCluster, RedisSentinel};

use crate::{reason, store};

async fn said(url: &str) -> String {
    let store = store(url);
    // Of several sessions, since one may be just where a cluster's node has it.
    for n in 0..9 {
        let said = reason(store.get(&conformance::sample(n).id).await);
        if said != "it works" {
            return said;
        }
    }
    "it works".to_owned()
}

/// A13: the password is not shown, and that it is wrong is said.
#[tokio::test]
async fn a13_a_wrong_password_is_said_to_be_wrong() {
    let redis = Redis::start().await;
    redis
        .command(&["ACL", "SETUSER", "alice", "on", ">right", "~*", "+@all"])
        .await;
    redis
        .command(&["ACL", "SETUSER", "bob", "on", ">right", "~other:*", "+@all"])
        .await;
    let with = |user: &str| format!("redis://{user}@127.0.0.1:{}", redis.port());
    assert_eq!(said(&with("alice:right")).await, "it works");
    let wrong = said(&with("alice:hunter2")).await;
    assert!(
        wrong.contains("refuses the user or the password"),
        "{wrong}"
    );
    assert!(!wrong.contains("hunter2"), "{wrong}");
    let forbidden = said(&with("bob:right")).await;
    assert!(
        forbidden.contains("may not run this command or use this key"),
        "{forbidden}"
    );
}

/// The same of a cluster, and of the server that sentinels name.
#[tokio::test]
async fn a13_a_wrong_password_is_said_to_be_wrong_anywhere() {
    let cluster = RedisCluster::start().await;
    let sentinel = RedisSentinel::start().await;
    for url in [cluster.url(), sentinel.url()] {
        let wrong = said(&url.replace("://", "://alice:hunter2@")).await;
        assert!(
            wrong.contains("refuses the user or the password"),
            "{wrong}"
        );
        assert!(!wrong.contains("hunter2"), "{wrong}");
    }
}

#[tokio::test]
async fn a_url_of_the_wrong_kind_is_answered_with_the_right_one() {
    let single = Redis::start().await;
    let cluster = RedisCluster::start().await;
    let sentinel = RedisSentinel::start().await;
    let node = said(&cluster.nodes[0].url()).await;
    assert!(node.contains("begins with redis+cluster://"), "{node}");
    let no_cluster = said(&single.url().replace("redis:", "redis+cluster:")).await;
    assert!(
        no_cluster.contains("of a single server begins with redis://"),
        "{no_cluster}"
    );
    let no_sentinel = said(&format!(
        "redis+sentinel://127.0.0.1:{}/main",
        single.port()
    ))
    .await;
    assert!(
        no_sentinel.contains("of a single server begins with redis://"),
        "{no_sentinel}"
    );
    let unknown = said(&sentinel.url().replace("/main", "/other")).await;
    assert!(unknown.contains("knows the name"), "{unknown}");
    let is_sentinel = sentinel
        .url()
        .replace("redis+sentinel:", "redis:")
        .replace("/main", "");
    let is_sentinel = said(&is_sentinel).await;
    assert!(
        is_sentinel.contains("begins with redis+sentinel://"),
        "{is_sentinel}"
    );
    let id = conformance::sample(0).id;
    assert!(!is_sentinel.contains(id.as_str()), "ids are not shown");
}

/// F13: a record of a later release is an error that says so, and not a session that is not there.
#[tokio::test]
async fn f13_a_record_of_a_later_release_is_not_taken_for_none() {
    let redis = Redis::start().await;
    let store: &RedisStore = &store(&redis.url());
    let record = conformance::sample(1);
    let key = format!("thinpipe:{{{}}}:session", record.id.as_str());
    redis
        .command(&["HSET", &key, "record", r#"{"v":2}"#, "version", "1"])
        .await;
    let said = reason(store.get(&record.id).await);
    assert!(said.contains("it is of version 2"), "{said}");
    // Nor is it Redis' fault: others are not held back.
    for _ in 0..9 {
        assert!(reason(store.get(&record.id).await).contains("it is of version 2"));
    }
    let other = conformance::sample(2).id;
    assert_eq!(store.get(&other).await.unwrap(), None);
    let both = store.get_many(&[other, record.id]).await;
    assert!(matches!(both, Err(StoreError::Unreadable(_))), "{both:?}");
}

/// F13: what is no record at all is told from that, is not Redis' fault, and can be deleted and made anew.
#[tokio::test]
async fn f13_a_damaged_record_is_said_to_be_damaged() {
    let redis = Redis::start().await;
    let store: &RedisStore = &store(&redis.url());
    let record = conformance::sample(1);
    let key = format!("thinpipe:{{{}}}:session", record.id.as_str());
    let ttl = Duration::from_secs(60);
    for damage in [
        &["HSET", &key, "record", r#"{"v":1,"princ"#][..],
        &["HSET", &key, "record", r#"{"v":1,"principal":7}"#],
        &["HSET", &key, "version", "many"],
        &["SET", &key, "text"],
    ] {
        store.create(&record, ttl).await.unwrap();
        redis.command(damage).await;
        for _ in 0..9 {
            let found = store.get(&record.id).await;
            assert!(matches!(found, Err(StoreError::Damaged(_))), "{found:?}");
        }
        let many = store.get_many(std::slice::from_ref(&record.id)).await;
        assert!(matches!(many, Err(StoreError::Damaged(_))), "{many:?}");
        assert!(store.delete(&record.id).await.unwrap());
    }
    assert_eq!(store.get(&record.id).await.unwrap(), None);
}

/// Trap 26: a Redis that is a cache loses sessions.
#[tokio::test]
async fn a_redis_that_drops_keys_is_found_out() {
    let cluster = RedisCluster::start().await;
    let single = Redis::start().await;
    for (url, server) in [(single.url(), &single), (cluster.url(), &cluster.nodes[2])] {
        let store = store(&url);
        assert_eq!(store.eviction_policy().await.unwrap(), None);
        server
            .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
            .await;
        assert_eq!(
            store.eviction_policy().await.unwrap(),
            None,
            "it has no bound"
        );
        server
            .command(&["CONFIG", "SET", "maxmemory", "100mb"])
            .await;
        let found = store.eviction_policy().await.unwrap();
        assert_eq!(found.as_deref(), Some("allkeys-lru"));
        server
            .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
            .await;
        assert_eq!(store.eviction_policy().await.unwrap(), None);
    }
}

/// F14: a full Redis is said to be full. Nodes live on, take what was said to them, and use and end the sessions that
/// there are; nothing is held back once there is room.
#[tokio::test]
async fn f14_a_full_redis_is_said_to_be_full_and_ends_nothing() {
    let redis = Redis::start().await;
    let store: &RedisStore = &store(&redis.url());
    let (ttl, node) = (Duration::from_secs(60), NodeId::from_random([1; 12]));
    let (old, new) = (conformance::sample(1), conformance::sample(2));
    let message = Bytes::from_static(b"a");
    store.create(&old, ttl).await.unwrap();
    store.beat(&node, ttl).await.unwrap();
    store.deliver(&node, message.clone()).await.unwrap();
    let secret = Bytes::from_static(b"s");
    store.secret("seal", secret.clone()).await.unwrap();
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for _ in 0..9 {
        let said = reason(store.create(&new, ttl).await);
        assert!(said.contains("Redis failed: it is out of memory"), "{said}");
    }
    let told = store.deliver(&node, message.clone()).await;
    assert!(matches!(told, Err(DeliverError::Refused(_))), "{told:?}");
    for _ in 0..2 {
        store.beat(&node, 2 * ttl).await.unwrap();
    }
    let [alive, nodes] = [
        format!("thinpipe:{{{}}}:alive", node.as_str()),
        "thinpipe:nodes".into(),
    ];
    for key in [&alive, &nodes] {
        let left = redis.command(&["PTTL", key]).await.number();
        assert!(left > 60_000, "{key} is prolonged");
    }
    let again = store.secret("seal", message.clone()).await.unwrap();
    assert_eq!(again, secret);
    let taken = store.take(&node, 9, Duration::ZERO).await.unwrap();
    assert_eq!(taken, [message]);
    let taken = store.take(&node, 9, Duration::ZERO).await.unwrap();
    assert!(taken.is_empty(), "it is taken once: {taken:?}");
    store.touch(&old.id, ttl).await.unwrap();
    assert!(store.get(&old.id).await.unwrap().is_some());
    assert!(store.delete(&old.id).await.unwrap());
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    store.create(&new, ttl).await.unwrap();
}

/// F9: what a server refuses that takes no writes is certainly not delivered.
#[tokio::test]
async fn f9_what_a_replica_refuses_is_not_delivered() {
    let redis = Redis::start().await;
    let (store, node) = (store(&redis.url()), NodeId::from_random([1; 12]));
    store.beat(&node, Duration::from_secs(60)).await.unwrap();
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let refused = store.deliver(&node, Bytes::from("a")).await;
    assert!(
        matches!(refused, Err(DeliverError::Refused(_))),
        "{refused:?}"
    );
}
