//! Several servers that count, as replicas of one.

use std::time::Duration;

use thinpipe_gateway::{
    GroupConfig, HealthConfig, HttpUpstream, Reached, ReplicaConfig, UpstreamSpec,
};
use thinpipe_testkit::{Era, Script, Upstream};
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
