//! The connections of a server, those of each of its replicas, or its children.

use thinpipe_gateway::{ReplicaStats, Route};
use thinpipe_proto::balance::Condition;
use thinpipe_transport::upstream::UpstreamStats;

use crate::figures::Figure;

/// The replicas that there is something to be said of: not the only one, which is asked in any case.
pub(super) fn shown(replicas: &[ReplicaStats]) -> Vec<ReplicaStats> {
    let balanced = replicas.iter().filter(|it| it.condition.is_some());
    balanced.cloned().collect()
}

/// The figures of a server's connections and replicas, or of its children.
pub(super) fn of_server(route: &Route) -> Vec<Figure> {
    let replicas = route.replicas();
    if replicas.is_empty() {
        return of_children(route);
    }
    let mut figures = of_connections(&replicas);
    for replica in shown(&replicas) {
        let name = replica
            .name
            .as_deref()
            .unwrap_or_else(|| route.name())
            .to_owned();
        let of = of_replica(&replica);
        figures.extend(of.map(|figure| figure.labelled("replica", name.clone())));
    }
    figures
}

fn of_connections(replicas: &[ReplicaStats]) -> Vec<Figure> {
    let sum = |of: fn(&UpstreamStats) -> u64| replicas.iter().map(|it| of(&it.connections)).sum();
    vec![
        Figure::counter(
            "connects",
            "Connections opened to the upstream",
            sum(|it| it.connects),
        ),
        Figure::counter(
            "reused",
            "Requests over a connection opened before",
            sum(|it| it.reused),
        ),
        Figure::gauge(
            "connections_open",
            "Connections to the upstream, idle ones too",
            sum(|it| it.open as u64),
        ),
        Figure::gauge(
            "connections_idle",
            "Connections that wait for a request",
            sum(|it| it.idle as u64),
        ),
        Figure::gauge(
            "streams_open",
            "Event streams read from the upstream",
            sum(|it| it.streams as u64),
        ),
    ]
}

fn of_replica(replica: &ReplicaStats) -> [Figure; 6] {
    let gets_requests = !matches!(
        replica.condition,
        Some(Condition::Down | Condition::Open(_))
    );
    [
        Figure::gauge(
            "replica_up",
            "Whether the replica answers its health checks",
            u64::from(replica.is_healthy),
        ),
        Figure::gauge(
            "replica_in_rotation",
            "Whether the replica gets requests",
            u64::from(gets_requests),
        ),
        Figure::counter(
            "replica_requests",
            "Requests the replica was chosen for",
            replica.requests,
        ),
        Figure::counter(
            "replica_failures",
            "Requests the replica failed",
            replica.failures,
        ),
        Figure::counter(
            "replica_repeated",
            "Requests the replica got because another one had failed them",
            replica.repeated,
        ),
        Figure::gauge(
            "replica_connections_open",
            "Connections to the replica, idle ones too",
            replica.connections.open as u64,
        ),
    ]
}

fn of_children(route: &Route) -> Vec<Figure> {
    let children = route.children().unwrap_or_default();
    vec![
        Figure::counter("children", "Child processes started", children.spawned),
        Figure::counter(
            "children_killed",
            "Child processes that had to be killed",
            children.killed,
        ),
        Figure::gauge(
            "children_running",
            "Child processes that run",
            children.running as u64,
        ),
    ]
}
