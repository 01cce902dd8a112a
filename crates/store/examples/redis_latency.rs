//! How long operations take in Redis, with as many sessions as are asked for.
//!
//! ```text
//! cargo run --release -p thinpipe-store --features redis --example redis_latency -- redis://127.0.0.1 10000
//! ```
//!
//! The Redis should be one that nobody else uses. One operation at a time: what is measured is latency. Everything
//! is under a prefix of its own, and deleted at the end.

use std::error::Error;
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
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the URL of a Redis is missing")?;
    let sessions: u32 = arguments.next().map_or(Ok(10_000), |count| count.parse())?;
    let mut config: RedisConfig = url.parse()?;
    config.prefix = "thinpipe-latency".to_owned();
    let store = RedisStore::new(config, LogLimits::default());
    println!(
        "{:10} {:>6} {:>9} {:>9} {:>9}",
        "operation", "count", "p50", "p95", "p99"
    );
    measure("create", sessions, async |n| {
        store.create(&record(n), TTL).await
    })
    .await?;
    let any = |n: u32| record(n.wrapping_mul(7_919) % sessions);
    measure("get", SAMPLES, async |n| store.get(&any(n).id).await).await?;
    measure("touch", SAMPLES, async |n| {
        store.touch(&any(n).id, TTL).await
    })
    .await?;
    measure("list 100", SAMPLES, async |n| {
        store.list(Some(&any(n).id), 100).await
    })
    .await?;
    measure("count", 200, async |_| store.count().await).await?;
    streams(&store).await?;
    messages(&store).await?;
    measure("delete", sessions, async |n| {
        store.delete(&record(n).id).await
    })
    .await?;
    Ok(())
}

async fn streams(store: &RedisStore) -> Result<(), Box<dyn Error>> {
    let head = StreamHead {
        owner: NodeId::from_random([1; 12]),
        request: None,
    };
    let key = StreamKey {
        session: record(0).id,
        stream: StreamId(0),
    };
    store.open(&key, &head).await?;
    let entry = |n: u32| LogEntry {
        sequence: u64::from(n) + 1,
        message: Bytes::from(vec![b'x'; 500]),
        is_last: false,
    };
    let append = async |n| store.append(&key, &head.owner, &[entry(n)]).await;
    measure("append", SAMPLES, append).await?;
    let after = u64::from(SAMPLES) - 100;
    measure("read 100", SAMPLES, async |_| {
        store.read(&key, after, 100).await
    })
    .await?;
    store.forget(&key.session).await?;
    Ok(())
}

async fn messages(store: &RedisStore) -> Result<(), Box<dyn Error>> {
    let node = NodeId::from_random([1; 12]);
    store.beat(&node, TTL).await?;
    let message = Bytes::from(vec![b'x'; 500]);
    // From one who sends to one who waits.
    let pass = async |_| {
        let send = store.deliver(&node, message.clone());
        let (taken, sent) = tokio::join!(store.take(&node, 1, TTL), send);
        sent?;
        Ok::<_, Box<dyn Error>>(taken?)
    };
    measure("message", SAMPLES, pass).await?;
    store.leave(&node).await?;
    Ok(())
}

async fn measure<T, E: Into<Box<dyn Error>>, F: Future<Output = Result<T, E>>>(
    what: &str,
    count: u32,
    mut operation: impl FnMut(u32) -> F,
) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for n in 0..count {
        let start = Instant::now();
        operation(n).await.map_err(Into::into)?;
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
    Ok(())
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
