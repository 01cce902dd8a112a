//! What is left after load: nothing (invariant 5, J7).

use std::collections::HashMap;

use serde_json::json;
use thinpipe_testkit::{Baseline, Client, Redis, assert_returns_to_baseline, eventually};

use crate::support::{Gateway, Settings};
use crate::world::{BOTH, World, answers};

/// Sessions at one time.
const SESSIONS: usize = 200;
/// Of so many a standalone stream is open meanwhile.
const EVERY: usize = 4;

/// Invariant 5, J7, F13: after some hundred sessions, each used on all gateways, memory, threads and descriptors of the
/// gateways and the keys of Redis are what they were; and while sessions are there, each key has a time at which it goes.
#[tokio::test]
async fn j7_what_load_takes_is_given_back() {
    for upstream in BOTH {
        let world = World::with(Settings::of_upstream(upstream)).await;
        let gateways = world.three().await;
        // Pools and buffers have their size after that.
        let clients = load(&gateways).await;
        end(&clients, &gateways).await;
        let idle = keys(&world.redis[0]).await.len();
        let [one, two, three] = gateways.each_ref().map(baseline);
        let work = async || {
            let clients = load(&gateways).await;
            let keys = keys(&world.redis[0]).await;
            assert!(keys.len() >= SESSIONS, "{}", keys.len());
            let lasting: Vec<_> = keys.iter().filter(|(_, ttl)| **ttl <= 0).collect();
            assert!(lasting.is_empty(), "{lasting:?}");
            end(&clients, &gateways).await;
        };
        let work = async || assert_returns_to_baseline(three, work).await;
        let work = async || assert_returns_to_baseline(two, work).await;
        assert_returns_to_baseline(one, work).await;
        eventually("the keys are gone", async || {
            let left = keys(&world.redis[0]).await;
            if left.len() > idle {
                return Err(format!("{idle} before, now {left:?}"));
            }
            Ok(())
        })
        .await;
        assert!(world.upstream.sessions().is_empty());
    }
}

fn baseline(gateway: &Gateway) -> Baseline {
    // Connections to the server and the store are kept for a while, by each worker.
    Baseline::of(gateway.process.id()).descriptor_slack(16)
}

/// Sessions, each opened at one gateway and used on all.
async fn load(gateways: &[Gateway; 3]) -> Vec<Client> {
    let mut clients = Vec::new();
    let mut streams = Vec::new();
    for number in 0..SESSIONS {
        let client = gateways[number % 3].client().await;
        for gateway in gateways {
            answers(&client.at(&gateway.url), "used").await;
        }
        if number % EVERY == 0 {
            streams.push(client.at(&gateways[(number + 1) % 3].url).get().await);
        }
        clients.push(client);
    }
    clients
}

/// Each session ends at another gateway than it was opened at.
async fn end(clients: &[Client], gateways: &[Gateway; 3]) {
    for (number, client) in clients.iter().enumerate() {
        let ending = client.at(&gateways[(number + 2) % 3].url);
        assert_eq!(ending.delete().await.status, 200);
    }
    for gateway in gateways {
        eventually("sessions and streams have ended", async || {
            let status = gateway.status().await;
            let left = (
                &status["sessions"]["live"],
                &status["server"]["streams_open"],
            );
            if left != (&json!(0), &json!(0)) {
                return Err(format!("{left:?}"));
            }
            Ok(())
        })
        .await;
    }
}

/// All keys and the milliseconds they have left.
async fn keys(redis: &Redis) -> HashMap<String, i64> {
    let mut keys = HashMap::new();
    // Nobody else is served meanwhile, which is for a test to do.
    for key in redis.command(&["KEYS", "*"]).await.list() {
        let left = redis.command(&["PTTL", key.text()]).await.number();
        // Gone since.
        if left != -2 {
            keys.insert(key.text().to_owned(), left);
        }
    }
    keys
}
