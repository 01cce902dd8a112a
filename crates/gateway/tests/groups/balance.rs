//! How requests are shared out.

use thinpipe_proto::balance::Strategy;
use thinpipe_testkit::{Client, rpc};

use crate::replicas::Replicas;

async fn calls(client: &Client, count: usize) {
    for id in 0..count {
        let answer = client.post_modern(&rpc::modern_call(id, "echo")).await;
        assert_eq!(answer.status, 200);
    }
}

/// C18: in turn and by weight; every call reaches one server, once.
#[tokio::test]
async fn c18_calls_are_shared_out_by_weight() {
    let replicas = Replicas::stateless(3).await;
    let front = replicas.front(|group| group.replicas[0].weight = 2).await;
    calls(&Client::new(&front.url), 40).await;
    assert_eq!(replicas.counts("tools/call"), [20, 10, 10]);
    replicas.saw_nothing_twice();
    let stats = front.replicas();
    let requests: Vec<_> = stats.iter().map(|it| it.requests).collect();
    assert_eq!(requests, [20, 10, 10]);
    assert!(stats.iter().all(|it| it.is_healthy && it.failures == 0));
}

/// C18: whoever is busy gets nothing while others are free.
#[tokio::test]
async fn c18_least_connections_avoids_who_is_busy() {
    for strategy in [Strategy::LeastConnections, Strategy::PowerOfTwo] {
        let replicas = Replicas::stateless(2).await;
        let front = replicas
            .front(|group| group.balance.strategy = strategy)
            .await;
        let client = Client::new(&front.url);
        let slow = client
            .post_modern(&rpc::modern_call("slow", "slow"))
            .send()
            .await;
        let busy = thinpipe_testkit::eventually("one of them is busy", async || {
            let counts = replicas.counts("tools/call");
            let busy = counts.iter().position(|count| *count == 1);
            busy.ok_or_else(|| format!("{counts:?}"))
        });
        let busy = busy.await;
        calls(&client, 10).await;
        let mut expected = [10, 10];
        expected[busy] = 1;
        assert_eq!(replicas.counts("tools/call"), expected, "{strategy:?}");
        for replica in &replicas.0 {
            replica.gate("slow").open();
        }
        assert_eq!(slow.response().await.status, 200);
    }
}

/// C18: by chance nobody is left out.
#[tokio::test]
async fn c18_random_reaches_all() {
    let replicas = Replicas::stateless(2).await;
    let front = replicas
        .front(|group| group.balance.strategy = Strategy::Random)
        .await;
    calls(&Client::new(&front.url), 64).await;
    let counts = replicas.counts("tools/call");
    assert_eq!(counts.iter().sum::<usize>(), 64);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
