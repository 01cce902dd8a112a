//! How long operations take in Redis, with as many sessions as are asked for.
//!
//! ```text
//! cargo run --release -p thinpipe-store --features redis --example redis_latency -- redis://127.0.0.1 10000
//! ```
//!
//! The Redis should be one that nobody else uses. One operation at a time: what is measured is latency. Everything
//! is under a prefix of its own, and deleted at the end.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{NodeId, Principal, SessionId, StreamId};
use thinpipe_store::{
    EventLog, Inbox, LogEntry, LogLimits, RedisConfig, RedisStore, SessionRecord, SessionStore,
    StreamHead, StreamKey,
};

const TTL: Duration = Duration::from_secs(600);
/// Of each operation but the first.
const SAMPLES: u32 = 2_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the URL of a Redis comes first");
    let sessions = arguments
        .next()
        .map(|count| count.parse().expect("a number comes second"));
    let sessions = sessions.unwrap_or(10_000_u32);
    let mut config: RedisConfig = url.parse().expect("it is the URL of a Redis");
    config.prefix = "thinpipe-latency".to_owned();
    let store = RedisStore::new(config, LogLimits::default());
    println!(
        "{:10} {:>6} {:>9} {:>9} {:>9}",
        "operation", "count", "p50", "p95", "p99"
    );
    measure("create", sessions, async |n| {
        store.create(&record(n), TTL).await
    })
    .await;
    let any = |n: u32| record(n.wrapping_mul(7_919) % sessions);
    measure("get", SAMPLES, async |n| store.get(&any(n).id).await).await;
    measure("touch", SAMPLES, async |n| {
        store.touch(&any(n).id, TTL).await
    })
    .await;
    measure("list 100", SAMPLES, async |n| {
        store.list(Some(&any(n).id), 100).await
    })
    .await;
    measure("count", 200, async |_| store.count().await).await;
    streams(&store).await;
    messages(&store).await;
    measure("delete", sessions, async |n| {
        store.delete(&record(n).id).await
    })
    .await;
}

async fn streams(store: &RedisStore) {
    let head = StreamHead {
        owner: NodeId::from_random([1; 12]),
        request: None,
    };
    let key = StreamKey {
        session: record(0).id,
        stream: StreamId(0),
    };
    store.open(&key, &head).await.expect("open");
    let entry = |n: u32| LogEntry {
        sequence: u64::from(n) + 1,
        message: Bytes::from(vec![b'x'; 500]),
        is_last: false,
    };
    let append = async |n| store.append(&key, &head.owner, &[entry(n)]).await;
    measure("append", SAMPLES, append).await;
    let after = u64::from(SAMPLES) - 100;
    measure("read 100", SAMPLES, async |_| {
        store.read(&key, after, 100).await
    })
    .await;
    store.forget(&key.session).await.expect("forget");
}

async fn messages(store: &RedisStore) {
    let node = NodeId::from_random([1; 12]);
    store.beat(&node, TTL).await.expect("beat");
    let message = Bytes::from(vec![b'x'; 500]);
    // From one who sends to one who waits.
    let pass = async |_| {
        let send = store.deliver(&node, message.clone());
        let (taken, sent) = tokio::join!(store.take(&node, 1, TTL), send);
        sent.expect("deliver");
        taken
    };
    measure("message", SAMPLES, pass).await;
    store.leave(&node).await.expect("leave");
}

async fn measure<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    count: u32,
    mut operation: impl FnMut(u32) -> F,
) {
    let mut times = Vec::new();
    for n in 0..count {
        let start = Instant::now();
        operation(n).await.expect(what);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    let [p50, p95, p99] = [50, 95, 99].map(at);
    println!("{what:10} {count:>6} {p50:>9.1?} {p95:>9.1?} {p99:>9.1?}");
}

/// Of the size that a client's session has.
fn record(n: u32) -> SessionRecord {
    let mut id = [0; 16];
    // Spread as random ids are.
    id[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    SessionRecord {
        id: SessionId::from_random(id),
        principal: Principal::Named("alice".into()),
        endpoint: "everything".into(),
        binding: Binding::Sessions,
        revision: Revision::V2025_11_25,
        initialize_params: Bytes::from(format!(r#"{{"padding":"{}"}}"#, "x".repeat(600))),
        attachment: Bytes::from_static(b"{}"),
        owner: None,
        created_ms: 0,
    }
}
