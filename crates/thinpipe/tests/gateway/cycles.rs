//! Clients that come and go.

use std::sync::Arc;

use serde_json::{Value, json};
use thinpipe_testkit::{
    Baseline, Client, Script, Upstream, assert_returns_to_baseline, eventually, rpc,
};
use tokio::task::JoinSet;

use crate::support::{Gateway, Mode, Settings};

const CYCLES: usize = 10_000;
const CLIENTS: usize = 40;

/// A31, C8, J10: nothing is left (tasks, descriptors, sessions, map entries) after ten thousand clients came and
/// left: before their answer, in the middle of it, with and without a session.
#[tokio::test]
async fn nothing_is_left_after_ten_thousand_cycles() {
    let upstream = Upstream::start().await;
    let settings = Settings {
        gateway: "sessions = { idle = \"1s\", sweep = \"200ms\" }",
        upstream: "pool = { idle_timeout = \"500ms\" }\nhealth = { interval = \"200ms\" }",
    };
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    gateway.knows_upstream().await;
    // An answer that never ends, and one that never begins.
    upstream.on(
        "tools/call:ask",
        Script::events().message(rpc::progress(1, 2)).stall(),
    );
    upstream.on("tools/call:slow", Script::silent());
    // Whatever is allocated once is there before the figures are taken.
    cycles(&gateway.url, CYCLES / 10).await;
    idle(&gateway).await;
    // Health checks keep a connection or two.
    let baseline = Baseline::of(gateway.process.id()).descriptor_slack(4);
    assert_returns_to_baseline(baseline, async || {
        cycles(&gateway.url, CYCLES).await;
        idle(&gateway).await;
    })
    .await;
    eventually(
        "no connection, stream or session at the upstream",
        || async {
            let record = upstream.record();
            let sessions = upstream.sessions().len();
            let left = (record.open_streams, sessions, record.open_connections);
            if (left.0, left.1) == (0, 0) && left.2 <= 4 {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        },
    )
    .await;
}

async fn cycles(gateway: &str, count: usize) {
    let client = Arc::new(Client::new(gateway));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Arc::clone(&client);
        clients.spawn(async move {
            // A session of its own, used by every fifth cycle, and left without a word.
            let mut session = (*client).clone();
            session.initialize("2025-11-25").await;
            for cycle in 0..count / CLIENTS {
                one(&client, &session, cycle, cycle * CLIENTS + number).await;
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client that could do its rounds");
    }
}

async fn one(stranger: &Client, session: &Client, cycle: usize, id: usize) {
    match cycle % 10 {
        0 => stranger.connect().await.close(),
        1 => {
            let listen = json!({"notifications": {"toolsListChanged": true}});
            let listen = rpc::modern(id, "subscriptions/listen", listen);
            stranger.post_modern(&listen).await.close();
        }
        2 => stranger
            .post_modern(&rpc::modern_call(id, "ask"))
            .await
            .into_raw()
            .reset(),
        3 => stranger
            .post_modern(&rpc::modern_call(id, "slow"))
            .send()
            .await
            .close(),
        4 => stranger
            .post_modern(&rpc::modern_call(id, "echo"))
            .send()
            .await
            .reset(),
        // The newest wins, but not too often.
        5 => session.get().send().await.close(),
        6 => session.post(rpc::call(id, "progress")).await.close(),
        7 => session.post(rpc::call(id, "echo")).send().await.close(),
        8 => drop(session.post("no JSON").await),
        // Some see their session begin, and some leave before.
        _ if id.is_multiple_of(2) => drop(stranger.post(rpc::initialize(id, "2025-11-25")).await),
        _ => drop(
            stranger
                .post(rpc::initialize(id, "2025-11-25"))
                .send()
                .await,
        ),
    }
}

/// Until the gateway says itself that it does nothing and holds nothing.
async fn idle(gateway: &Gateway) {
    eventually("a gateway that holds nothing", || async {
        let status = gateway.status().await;
        let left: Vec<_> = ["connections_open", "requests_open", "streams_open"]
            .into_iter()
            .map(|name| (name, status["server"][name].as_u64().unwrap_or_default()))
            .chain([
                (
                    "sessions",
                    status["sessions"]["live"].as_u64().unwrap_or(u64::MAX),
                ),
                ("upstream streams", figure(&status, "streams_open")),
            ])
            .filter(|(_, value)| *value > 0)
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}

fn figure(status: &Value, name: &str) -> u64 {
    status["upstreams"][0]["figures"][name]
        .as_u64()
        .unwrap_or(u64::MAX)
}
