//! Several servers that count, as replicas of one.

use std::time::Duration;

use thinpipe_gateway::{
    GroupConfig, HealthConfig, HttpUpstream, Reached, ReplicaConfig, UpstreamSpec,
};
use thinpipe_testkit::{Client, Era, Script, Upstream, rpc};
use thinpipe_transport::upstream::UpstreamConfig;

use crate::front::Front;

/// Replicas, called `a`, `b` and so on.
pub(crate) struct Replicas(pub(crate) Vec<Upstream>);

impl Replicas {
    pub(crate) async fn start(count: usize) -> Self {
        let mut replicas = Vec::new();
        for _ in 0..count {
            replicas.push(Upstream::start().await);
        }
        Self(replicas)
    }

    /// Those that speak 2026-07-28 only.
    pub(crate) async fn stateless(count: usize) -> Self {
        let replicas = Self::start(count).await;
        for replica in &replicas.0 {
            replica.set(|it| it.era = Era::Stateless);
        }
        replicas
    }

    /// A gateway in front of them that checks nobody's health, so that what the servers see is what clients send.
    pub(crate) async fn front(&self, change: impl FnOnce(&mut GroupConfig)) -> Front {
        self.front_with(change, |_| {}).await
    }

    pub(crate) async fn front_with(
        &self,
        change: impl FnOnce(&mut GroupConfig),
        spec: impl FnOnce(&mut UpstreamSpec),
    ) -> Front {
        Front::start(self.spec(change, spec)).await
    }

    /// A gateway in front of the streams of HTTP+SSE that they have, too.
    pub(crate) async fn front_of_streams(&self) -> Front {
        let urls: Vec<_> = self.0.iter().map(Upstream::sse_url).collect();
        let unchecked = |spec: &mut UpstreamSpec| spec.health.interval = Duration::ZERO;
        Front::start(spec_at(&urls, |_| {}, unchecked)).await
    }

    /// What such a gateway is told of them.
    pub(crate) fn spec(
        &self,
        change: impl FnOnce(&mut GroupConfig),
        spec: impl FnOnce(&mut UpstreamSpec),
    ) -> UpstreamSpec {
        let urls: Vec<_> = self.0.iter().map(|it| it.url().to_owned()).collect();
        spec_at(&urls, change, spec)
    }

    /// How many requests that `what` names each of them got.
    pub(crate) fn counts(&self, what: &str) -> Vec<usize> {
        self.0.iter().map(|it| it.record().count(what)).collect()
    }

    /// Answers what `what` names, everywhere.
    pub(crate) fn on(&self, what: &str, script: &Script) {
        for replica in &self.0 {
            replica.on(what, script.clone());
        }
    }

    /// Two clients for each of three of them, whose sessions are served where they were opened.
    pub(crate) async fn two_clients_each(&self, front: &Front) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(front.client().await);
        }
        assert_eq!(self.counts("initialize"), [2, 2, 2]);
        for client in &clients {
            for id in 0..5 {
                let mut answer = client.post(rpc::call(id, "echo")).await;
                assert_eq!(answer.status, 200);
                assert!(answer.answer().await["result"].is_object());
            }
        }
        assert_eq!(self.counts("tools/call"), [10, 10, 10]);
        clients
    }

    /// The same end their sessions, and each of the three is told of its own.
    pub(crate) async fn see_two_leave_each(&self, clients: &[Client]) {
        for client in clients {
            assert_eq!(client.delete().await.status, 200);
        }
        for replica in &self.0 {
            replica
                .wait_until(|record| record.count("DELETE") == 2)
                .await;
            assert!(replica.sessions().is_empty());
        }
    }

    /// Not one of them got the same request twice.
    pub(crate) fn saw_nothing_twice(&self) {
        for replica in &self.0 {
            assert_eq!(replica.record().duplicates, 0);
        }
    }
}

/// Checks often enough for a test, and no oftener than they are made.
pub(crate) fn checked(spec: &mut UpstreamSpec) {
    spec.health = HealthConfig {
        interval: Duration::from_millis(20),
        failures: 2,
        ..HealthConfig::default()
    };
}

fn spec_at(
    urls: &[String],
    change: impl FnOnce(&mut GroupConfig),
    spec: impl FnOnce(&mut UpstreamSpec),
) -> UpstreamSpec {
    let replicas = urls.iter().zip('a'..);
    let replicas =
        replicas.map(|(url, name)| ReplicaConfig::new(name.to_string(), url.parse().unwrap()));
    let mut group = GroupConfig::new(replicas.collect());
    change(&mut group);
    let client = UpstreamConfig::new("up".into(), urls[0].parse().unwrap());
    let reached = Reached::Http(HttpUpstream {
        group: Some(Box::new(group)),
        ..HttpUpstream::new(client)
    });
    let mut of = UpstreamSpec::new("/mcp", reached);
    of.health.interval = Duration::ZERO;
    spec(&mut of);
    of
}
