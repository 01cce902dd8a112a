//! The tables of several gateways.

use super::{Column, column};
use crate::run::nodes::{Nodes, Scenario};
use crate::run::set::{Drive, Load};
use crate::run::target::Target;

pub(super) fn columns(work: Nodes) -> &'static [Column] {
    match work {
        Nodes::Resume => RESUME,
        Nodes::Kills { .. } => KILLS,
        Nodes::Sessions { .. } => SESSIONS,
        Nodes::Logged => LOGGED,
        Nodes::Rolling { .. } => ROLLING,
        Nodes::Latency { .. } => LATENCY,
        Nodes::HalfOpen { .. } => HALF_OPEN,
        Nodes::Scenario(Scenario::Streams { .. }) => STREAMS,
        Nodes::Scenario(_) => SCENARIO,
        Nodes::Soak { .. } => SOAK,
    }
}

/// Of load, with what the store takes for it.
pub(super) fn load(load: &Load) -> &'static [Column] {
    match load.drive {
        Drive::Stream if load.call.rate > 0.0 => PACED,
        Drive::Stream => EVENTS,
        Drive::Closed | Drive::Open { .. } => CALLS,
    }
}

/// What the page says of itself.
pub(super) const NOTE: &str = "Gateways are processes of their own before one server, with a `redis-server` beside \
them where the target says so; what that uses itself has a column of its own. Scenarios and mixed load go on for as long as \
`--hold SECONDS` and `--soak SECONDS` say. `--against docs/figures-nodes.jsonl` compares a run with the recorded one, \
and fails if it is worse: by more than 5 % in the 95th percentile or the rate, as ratios within the run, or by more \
than 10 % in memory, and by more than the rounds differ.\n\n";

/// What CPU and latency are divided by.
pub(super) const AGAINST: &[(&str, &str, Target)] = &[
    ("cpu_us", "CPU", Target::Pass),
    ("cpu_us", "CPU", Target::Inspect(3)),
    ("cpu_us", "CPU", Target::Untracked),
    ("latency_p99_us", "p99", Target::Pass),
];
const CALLS: &[Column] = &[
    column("requests/s", "per_second"),
    column("p50 us", "latency_p50_us"),
    column("p95 us", "latency_p95_us"),
    column("p99 us", "latency_p99_us"),
    column("gateway, CPU us/request", "cpu_us"),
    column("Redis, CPU us/request", "store_us"),
    column("RSS MiB", "rss_mib"),
    column("others", "other_cores"),
];
const EVENTS: &[Column] = &[
    column("events/s", "per_second"),
    column("gateway, CPU us/event", "cpu_us"),
    column("Redis, CPU us/event", "store_us"),
    column("RSS MiB", "rss_mib"),
    column("others", "other_cores"),
];
const PACED: &[Column] = &[
    column("events/s", "per_second"),
    column("age p50 us", "age_p50_us"),
    column("age p99 us", "age_p99_us"),
    column("gateway, CPU us/event", "cpu_us"),
    column("Redis, CPU us/event", "store_us"),
    column("RSS MiB", "rss_mib"),
    column("others", "other_cores"),
];
const RESUME: &[Column] = &[
    column("same node, p50 ms", "same_p50_ms"),
    column("p95 ms", "same_p95_ms"),
    column("another node, p50 ms", "other_p50_ms"),
    column("p95 ms", "other_p95_ms"),
    column("streams", "samples"),
    column("calls doubled", "doubled"),
];
const KILLS: &[Column] = &[
    column("gap p50, ms", "gap_p50_ms"),
    column("worst, ms", "gap_worst_ms"),
    column("kills", "kills"),
    column("sessions", "sessions"),
    column("calls refused meanwhile", "errors"),
    column("clients sent to start anew", "over"),
    column("calls doubled", "doubled"),
];
const SESSIONS: &[Column] = &[
    column("gateway, RSS KiB/session", "rss_kib_per_session"),
    column("Redis, KiB/session", "store_kib_per_session"),
    column("RSS before, MiB", "rss_before_mib"),
    column("after, MiB", "rss_mib"),
];
const LOGGED: &[Column] = &[
    column("gateway, RSS MiB/1,000 events", "rss_mib_per_1000"),
    column("Redis, MiB/1,000 events", "store_mib_per_1000"),
    column("RSS before, MiB", "rss_before_mib"),
];
const ROLLING: &[Column] = &[
    column("answers lost", "lost"),
    column("calls doubled", "doubled"),
    column("calls answered", "calls"),
    column("made again, as nobody had taken them", "again"),
    column("calls/s", "per_second"),
    column("longest end of a node, s", "restart_s"),
];
const LATENCY: &[Column] = &[
    column("get p50, ms", "get_p50_ms"),
    column("p95", "get_p95_ms"),
    column("touch p50, ms", "touch_p50_ms"),
    column("p95", "touch_p95_ms"),
    column("create p50, ms", "create_p50_ms"),
    column("p95", "create_p95_ms"),
    column("list p50, ms", "list_p50_ms"),
    column("p95", "list_p95_ms"),
];
const HALF_OPEN: &[Column] = &[
    column("found after, p50 s", "found_p50_s"),
    column("the last, s", "found_last_s"),
    column("not found", "unfound"),
];
const SCENARIO: &[Column] = &[
    column("errors", "errors"),
    column("calls doubled", "doubled"),
    column("calls", "calls"),
    column("p50 us", "latency_p50_us"),
    column("p99 us", "latency_p99_us"),
    column("RSS at its end, MiB", "rss_mib"),
    column("growth, KiB", "growth_kib"),
    column("descriptors left", "descriptors_left"),
    column("sessions left", "sessions_left"),
];
const STREAMS: &[Column] = &[
    column("errors", "errors"),
    column("calls doubled", "doubled"),
    column("streams", "calls"),
    column("age p50 us", "latency_p50_us"),
    column("age p99 us", "latency_p99_us"),
    column("RSS at its end, MiB", "rss_mib"),
    column("growth, KiB", "growth_kib"),
    column("descriptors left", "descriptors_left"),
    column("streams left", "streams_left"),
];
const SOAK: &[Column] = &[
    column("minutes", "minutes"),
    column("turns", "turns"),
    column("RSS, KiB/minute", "rss_kib_per_minute"),
    column("descriptors/minute", "descriptors_per_minute"),
    column("RSS MiB", "rss_mib"),
    column("calls doubled", "doubled"),
];
