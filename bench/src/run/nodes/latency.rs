//! How long the store takes (F15).

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{Principal, SessionId};
use thinpipe_store::{LogLimits, RedisConfig, RedisStore, SessionRecord, SessionStore};

use super::quantile_ms;
use crate::run::measure::Metrics;
use crate::run::target::Tools;

/// One operation after the other on a Redis that nobody else uses, with this many sessions in it.
pub(super) async fn latency(tools: &Tools, sessions: u32) -> Result<Metrics> {
    let mut redis = tools.store()?;
    let config: RedisConfig = format!("redis://{}", redis.address).parse()?;
    let store = RedisStore::new(config, LogLimits::default());
    let any = |n: u32| record(n.wrapping_mul(7_919) % sessions).id;
    let mut metrics = Metrics::new();
    // The first operation connects.
    let _ = store.get(&any(0)).await?;
    let create = async |n| store.create(&record(n), TTL).await;
    measure(&mut metrics, "create", sessions, create).await?;
    measure(&mut metrics, "get", SAMPLES, async |n| {
        store.get(&any(n)).await
    })
    .await?;
    measure(&mut metrics, "touch", SAMPLES, async |n| {
        store.touch(&any(n), TTL).await
    })
    .await?;
    measure(&mut metrics, "list", SAMPLES, async |n| {
        store.list(Some(&any(n)), PAGE).await
    })
    .await?;
    redis.alive()?;
    Ok(metrics)
}

async fn measure<T, E: Debug, F: Future<Output = Result<T, E>>>(
    metrics: &mut Metrics,
    what: &str,
    count: u32,
    mut operation: impl FnMut(u32) -> F,
) -> Result<()> {
    let mut times = Vec::new();
    for n in 0..count {
        let start = Instant::now();
        let done = operation(n).await;
        times.push(start.elapsed());
        done.map_err(|error| anyhow!("{what}: {error:?}"))?;
    }
    for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
        let time = quantile_ms(&mut times, share);
        metrics.insert(format!("{what}_{name}_ms"), time);
    }
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

const TTL: Duration = Duration::from_secs(600);
const SAMPLES: u32 = 2_000;
/// Records of one page.
const PAGE: usize = 100;
