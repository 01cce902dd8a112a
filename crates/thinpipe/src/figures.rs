//! Figures on their way from whoever counts them to whoever shows them.

use std::borrow::Cow;

use thinpipe_transport::server::{NodeStats, ServerStats};

use crate::store::Observations;

/// One number, with what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figure {
    /// Name, without prefix: "connections_open".
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) help: &'static str,
    /// Whether it only grows.
    pub(crate) kind: Kind,
    /// What it is told apart by from others of its name: ("status", "2xx").
    pub(crate) label: Option<(&'static str, Cow<'static, str>)>,
    /// The number.
    pub(crate) value: u64,
}

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Figure {
    /// A figure that only grows.
    pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            kind: Kind::Counter,
            label: None,
            value,
        }
    }

    /// A figure that goes up and down.
    pub(crate) fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            kind: Kind::Gauge,
            ..Self::counter(name, help, value)
        }
    }

    /// The same, told apart from others of its name.
    pub(crate) fn labelled(self, label: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        Self {
            label: Some((label, value.into())),
            ..self
        }
    }
}

/// The figures of the server side.
pub(crate) fn of_server(stats: &ServerStats) -> Vec<Figure> {
    let mut figures = vec![
        Figure::counter("connections", "Connections accepted", stats.connections),
        Figure::counter(
            "connections_refused",
            "Connections refused because all places were taken",
            stats.connections_refused,
        ),
        Figure::gauge(
            "connections_open",
            "Connections open now",
            stats.connections_open as u64,
        ),
        Figure::counter("requests", "Requests from clients", stats.requests),
        Figure::gauge(
            "requests_open",
            "Requests being answered now",
            stats.requests_open as u64,
        ),
        Figure::gauge(
            "buffered_bytes",
            "Bytes of requests and answers held whole now",
            stats.buffered_bytes as u64,
        ),
        Figure::counter("streams", "Event streams to clients", stats.streams),
        Figure::gauge(
            "streams_open",
            "Event streams being written now",
            stats.streams_open as u64,
        ),
        Figure::counter(
            "clients_stalled",
            "Clients disconnected because they did not read",
            stats.stalled,
        ),
        Figure::counter(
            "detached",
            "Answers run to their end after their client had left",
            stats.detached,
        ),
        Figure::counter(
            "keep_alives",
            "Keep-alive comments written",
            stats.keep_alives,
        ),
        Figure::gauge("sessions_live", "Sessions now", stats.sessions as u64),
    ];
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    for (class, value) in classes.into_iter().zip(stats.answers) {
        let figure = Figure::counter("answers", "Answers by class of status", value);
        figures.push(figure.labelled("status", class));
    }
    figures
}

/// The figures of one of several processes.
pub(crate) fn of_node(stats: &NodeStats) -> [Figure; 3] {
    [
        Figure::gauge(
            "node_asked",
            "Requests that other processes answer for this one now",
            stats.asked as u64,
        ),
        Figure::gauge(
            "node_served",
            "Requests of other processes that this one answers now",
            stats.served as u64,
        ),
        Figure::gauge(
            "node_cut_off",
            "Whether the others take this process for dead, since it did not reach the store",
            u64::from(stats.is_cut_off),
        ),
    ]
}

/// The figures of a store that can fail.
pub(crate) fn of_store(seen: &Observations) -> Vec<Figure> {
    let up = u64::from(seen.is_up());
    let mut figures = vec![
        Figure::gauge("store_up", "Whether the store answers", up),
        Figure::gauge(
            "node_live",
            "Processes alive in the store, this one among them",
            seen.nodes() as u64,
        ),
    ];
    for stats in seen.operations() {
        let figure = Figure::counter(
            "store_failures",
            "Operations for which the store could not be reached",
            stats.failed,
        );
        figures.push(figure.labelled("operation", stats.operation));
    }
    figures
}

/// The figures of this process, where the system tells them.
pub(crate) fn of_process() -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(bytes) = resident_bytes() {
        figures.push(Figure::gauge(
            "process_resident_bytes",
            "Memory in use",
            bytes,
        ));
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        // Reading the directory opens one descriptor more.
        let open = entries.count().saturating_sub(1) as u64;
        figures.push(Figure::gauge(
            "process_open_descriptors",
            "Descriptors open now",
            open,
        ));
    }
    figures
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
