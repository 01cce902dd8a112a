//! What happens while Redis is gone or stands still, and afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, StreamId};
use thinpipe_store::{
    EventLog, Inbox, LogEntry, RedisStore, SessionRecord, SessionStore, StoreError, StreamHead,
    StreamKey, conformance,
};
use thinpipe_testkit::{DEADLINE, Redis, RedisSentinel, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{all_of, reason, store};

const TTL: Duration = Duration::from_secs(60);

/// F14, F17: while Redis is gone calls fail, and soon without asking it; when it is back they succeed again by
/// themselves.
#[tokio::test(flavor = "multi_thread")]
async fn f14_calls_fail_while_redis_is_gone_and_succeed_when_it_is_back() {
    let mut redis = Redis::start().await;
    let store = store(&redis.url());
    goes_round(&store, 1).await.unwrap();
    redis.kill().await;
    for _ in 0..5 {
        let failed = reason(goes_round(&store, 1).await);
        assert!(
            failed.starts_with("the session store is unreachable: "),
            "{failed}"
        );
    }
    is_held_back(&store).await;
    redis.restart().await;
    is_used_again(&store).await;
}

/// F14: whatever is under way when Redis dies is answered.
#[tokio::test(flavor = "multi_thread")]
async fn f14_calls_under_way_are_answered_when_redis_dies() {
    let mut redis = Redis::start().await;
    let store = store(&redis.url());
    let mut callers = JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let mut calls = 0;
            while goes_round(&store, n).await.is_ok() {
                calls += 1;
            }
            calls
        });
    }
    eventually("calls under way", async || match store.count().await {
        Ok(1..) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    redis.kill().await;
    let ended = tokio::time::timeout(DEADLINE, callers.join_all()).await;
    ended.expect("no call waits for ever");
    redis.restart().await;
    is_used_again(&store).await;
}

/// F14, F17: a server that stands still costs the first calls their time and later ones nothing.
#[tokio::test(flavor = "multi_thread")]
async fn f17_a_server_that_stands_still_is_left_alone() {
    let redis = Redis::start().await;
    let store = store(&redis.url());
    goes_round(&store, 1).await.unwrap();
    redis.pause().await;
    let mut calls = JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&store);
        calls.spawn(async move { reason(store.get(&conformance::sample(n).id).await) });
    }
    let reasons = calls.join_all().await;
    let are_late = reasons
        .iter()
        .all(|reason| reason.contains("did not answer within 1s"));
    assert!(are_late, "{reasons:?}");
    is_held_back(&store).await;
    redis.resume().await;
    is_used_again(&store).await;
}

/// Scripts are sent again to a server that has forgotten them.
#[tokio::test]
async fn scripts_that_are_forgotten_are_sent_again() {
    let redis = Redis::start().await;
    let store = store(&redis.url());
    for _ in 0..2 {
        goes_round(&store, 1).await.unwrap();
        redis.command(&["SCRIPT", "FLUSH"]).await;
    }
    // Arguments may be of any bytes then, too.
    let key = StreamKey {
        session: conformance::sample(1).id,
        stream: StreamId(0),
    };
    let head = StreamHead {
        owner: NodeId::from_random([1; 12]),
        request: None,
    };
    let entry = LogEntry {
        sequence: 1,
        message: Bytes::from_static(b"\x00\xff\r\n"),
        is_last: false,
    };
    store.open(&key, &head).await.unwrap();
    store
        .append(&key, &head.owner, std::slice::from_ref(&entry))
        .await
        .unwrap();
    assert_eq!(store.read(&key, 0, 9).await.unwrap().entries, [entry]);
}

/// Sentinels say who takes writes when the server is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over() {
    let mut sentinel = RedisSentinel::start().await;
    let store = store(&sentinel.url());
    goes_round(&store, 1).await.unwrap();
    sentinel.server.kill().await;
    is_used_again(&store).await;
}

/// Everything that is done to a session, in turn.
pub(crate) async fn goes_round(store: &RedisStore, n: u8) -> Result<(), StoreError> {
    let record: SessionRecord = conformance::sample(n);
    match store.create(&record, TTL).await {
        Ok(()) | Err(StoreError::Exists) => {}
        Err(error) => return Err(error),
    }
    store.touch(&record.id, TTL).await?;
    store.get(&record.id).await?;
    store.count().await?;
    store.delete(&record.id).await?;
    Ok(())
}

async fn is_held_back(store: &RedisStore) {
    eventually("calls that are held back", async || {
        let failed = reason(store.get(&conformance::sample(1).id).await);
        if failed.contains("only asked now and then") {
            Ok(())
        } else {
            Err(failed)
        }
    })
    .await;
}

/// Many calls in a row succeed, more than would be let through to see whether Redis is back.
pub(crate) async fn is_used_again(store: &RedisStore) {
    eventually("Redis is used again", async || {
        for n in 0..10 {
            goes_round(store, n).await.map_err(|error| all_of(&error))?;
        }
        Ok(())
    })
    .await;
}

/// F9: a beat takes one round trip, so that a node is alive also where Redis is far away: nothing of it waits for the
/// answer to anything else.
#[tokio::test(flavor = "multi_thread")]
async fn f9_all_of_a_beat_is_on_its_way_at_once() {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = format!("redis://{}", listener.local_addr().unwrap());
    // Scripts that have to be on their way before any answer is let through.
    let (wanted, heeded) = watch::channel(0_usize);
    let port = redis.port();
    let mut passing = JoinSet::new();
    passing.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            connections.spawn(pass(near, far, heeded.clone()));
        }
    });
    let (store, node) = (store(&near), NodeId::from_random([1; 12]));
    // Redis has both scripts, and there is a connection.
    store.beat(&node, TTL).await.unwrap();
    wanted.send_replace(2);
    store.beat(&node, TTL).await.unwrap();
}

/// Passes on what is said both ways; answers wait until so many scripts were asked for.
async fn pass(near: TcpStream, far: TcpStream, wanted: watch::Receiver<usize>) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let (asked, mut asked_so_far) = watch::channel(0);
    let there = async {
        let mut piece = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_near.read(&mut piece).await {
            let scripts = piece[..length].windows(7).filter(|w| w == b"EVALSHA");
            if *wanted.borrow() > 0 {
                asked.send_modify(|so_far| *so_far += scripts.count());
            }
            let passed_on = to_far.write_all(&piece[..length]).await;
            passed_on.expect("Redis reads");
        }
    };
    let back = async {
        let mut piece = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_far.read(&mut piece).await {
            let enough = *wanted.borrow();
            let heard = asked_so_far.wait_for(|asked| *asked >= enough).await;
            heard.expect("the other half is not dropped before");
            let passed_on = to_near.write_all(&piece[..length]).await;
            passed_on.expect("the store reads");
        }
    };
    tokio::join!(there, back);
}
