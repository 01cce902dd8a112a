//! The figures of several gateways, of what sessions and logged events cost (F12, F15, F16, G5), and of load as users
//! bring it (J5-J10).

use super::{Figure, at_most, rate_at_least, ratio_at_most};
use crate::run::target::Target;

/// What the store takes for an operation, 95 of 100 times (F15).
const fn operation(what: &'static str, metric: &'static str, must: f64) -> Figure {
    at_most(what, "ms", ("store", metric), Target::Redis, must)
}

/// Clients that got an error in a scenario (J9).
const fn errors(what: &'static str, set: &'static str) -> Figure {
    at_most(what, "", (set, "errors"), Target::Redis, 0.0)
}

/// Descriptors that a gateway has after a scenario and had not before (J9). It keeps some connections to its server for
/// a while.
const fn left(what: &'static str, set: &'static str) -> Figure {
    at_most(what, "", (set, "descriptors_left"), Target::Redis, 16.0)
}

const HELD: Target = Target::LogRedis(0);

pub(super) const FIGURES: &[Figure] = &[
    ratio_at_most(
        "sessions in Redis: the gateway's CPU per passed JSON request, against memory",
        ("sessions", "cpu_us"),
        (Target::Redis, Target::Pass),
        1.3,
    ),
    ratio_at_most(
        "own event ids and log in memory: CPU per small event flat out, against `inspect`",
        ("log", "cpu_us"),
        (Target::Log(3), Target::Inspect(3)),
        1.5,
    ),
    ratio_at_most(
        "own event ids and log in Redis: the gateway's CPU per small event flat out, against `inspect`",
        ("log", "cpu_us"),
        (Target::LogRedis(3), Target::Inspect(3)),
        4.0,
    ),
    ratio_at_most(
        "the same, 32 streams of 300 events/s, in memory: CPU per event, against `inspect`",
        ("log-paced", "cpu_us"),
        (Target::Log(3), Target::Inspect(3)),
        1.5,
    ),
    ratio_at_most(
        "the same, in Redis: the gateway's CPU per event, against `inspect`",
        ("log-paced", "cpu_us"),
        (Target::LogRedis(3), Target::Inspect(3)),
        4.0,
    ),
    at_most(
        "a stream is resumed on another node, 100 events behind: p50",
        "ms",
        ("resume", "other_p50_ms"),
        HELD,
        10.0,
    ),
    at_most(
        "the same on the same node, log in memory: p50",
        "ms",
        ("resume", "same_p50_ms"),
        Target::Log(0),
        100.0,
    ),
    at_most(
        "kill -9 of the owner of held sessions, until another node answers in them: p50",
        "ms",
        ("kill", "gap_p50_ms"),
        HELD,
        5_000.0,
    ),
    at_most(
        "the same: the longest of all",
        "ms",
        ("kill", "gap_worst_ms"),
        HELD,
        5_000.0,
    ),
    at_most(
        "Redis' memory for an idle session",
        "KiB",
        ("idle-sessions", "store_kib_per_session"),
        Target::Redis,
        1.5,
    ),
    at_most(
        "the gateway's RSS for an idle session, kept in Redis",
        "KiB",
        ("idle-sessions", "rss_kib_per_session"),
        Target::Redis,
        1.0,
    ),
    at_most(
        "the gateway's RSS for an idle session, kept in memory",
        "KiB",
        ("idle-sessions", "rss_kib_per_session"),
        Target::Pass,
        1.0,
    ),
    at_most(
        "10,000 sessions over three nodes, rolling restart under load: answers lost",
        "",
        ("rolling", "lost"),
        Target::Redis,
        0.0,
    ),
    at_most(
        "the same: calls doubled",
        "",
        ("rolling", "doubled"),
        Target::Redis,
        0.0,
    ),
    at_most(
        "the same with held sessions: answers lost",
        "",
        ("rolling", "lost"),
        HELD,
        0.0,
    ),
    at_most(
        "the same with held sessions: calls doubled",
        "",
        ("rolling", "doubled"),
        HELD,
        0.0,
    ),
    operation("Redis, `get`: p95", "get_p95_ms", 2.0),
    operation("Redis, `touch`: p95", "touch_p95_ms", 1.0),
    operation("Redis, `create`: p95", "create_p95_ms", 10.0),
    operation("Redis, `list` of 100: p95", "list_p95_ms", 50.0),
    at_most(
        "the gateway's RSS for 1,000 events that are kept in memory",
        "MiB",
        ("kept", "rss_mib_per_1000"),
        Target::Log(0),
        1.0,
    ),
    at_most(
        "half-open clients with silent streams: the last is found after",
        "s",
        ("half-open", "found_last_s"),
        Target::Pass,
        30.0,
    ),
    ratio_at_most(
        "events with the server's ids, of which the last is kept in mind: CPU per event, against not",
        ("tracking", "cpu_us"),
        (Target::Pass, Target::Untracked),
        1.01,
    ),
    // J6
    rate_at_least(
        "sessions in Redis, 32 clients: calls",
        ("sessions", "per_second"),
        Target::Redis,
        10_000.0,
    ),
    // J7
    at_most(
        "sessions in Redis, 500 clients without a pause: p99",
        "us",
        ("callers500", "latency_p99_us"),
        Target::Redis,
        100_000.0,
    ),
    // J5, J7
    at_most(
        "the gateway's RSS with 1,000 clients without a pause, sessions in memory",
        "MiB",
        ("callers1000", "rss_mib"),
        Target::Pass,
        100.0,
    ),
    errors("10 to 1,000 clients: errors", "ramp"),
    left("the same: descriptors left", "ramp"),
    errors("1,000 clients at once: errors", "burst"),
    left("the same: descriptors left", "burst"),
    errors("500 clients that stay: errors", "hold"),
    left("the same: descriptors left", "hold"),
    errors("100 clients a second that come and go: errors", "churn"),
    left("the same: descriptors left", "churn"),
    errors("100 streams: errors", "streams"),
    left("the same: descriptors left", "streams"),
    // J10. What allocators and pools do in a minute is no growth; `--soak` tells more.
    at_most(
        "mixed load: RSS grows by",
        "KiB a minute",
        ("soak", "rss_kib_per_minute"),
        Target::Redis,
        256.0,
    ),
    at_most(
        "the same: descriptors grow by",
        "a minute",
        ("soak", "descriptors_per_minute"),
        Target::Redis,
        4.0,
    ),
];
