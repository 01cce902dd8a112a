//! The figures of servers on the library, of HTTP+SSE, and of servers on stdio (J1, J2, A31, A32, C24).

use super::{Figure, at_most, rate_at_least, ratio_at_most};
use crate::run::target::Target;

pub(super) const FIGURES: &[Figure] = &[
    ratio_at_most(
        "library, JSON: CPU per call, against the bare hyper server",
        ("library", "cpu_us"),
        (Target::Library, Target::Bare),
        1.3,
    ),
    at_most(
        "library, JSON: CPU per call",
        "us",
        ("library", "cpu_us"),
        Target::Library,
        10.0,
    ),
    at_most(
        "library, JSON, one client: median",
        "us",
        ("single", "latency_p50_us"),
        Target::Library,
        100.0,
    ),
    at_most(
        "library: KiB for each of 10,000 clients, all of them answered",
        "KiB",
        ("clients10000", "kib_per_client"),
        Target::Library,
        12.0,
    ),
    at_most(
        "library: RSS at rest",
        "MiB",
        ("rest", "rest_mib"),
        Target::Library,
        20.0,
    ),
    ratio_at_most(
        "HTTP+SSE: CPU per call, against Streamable HTTP",
        ("library", "cpu_us"),
        (Target::HttpSse, Target::Library),
        2.2,
    ),
    rate_at_least(
        "HTTP+SSE: calls, 32 clients",
        ("library", "per_second"),
        Target::HttpSse,
        10_000.0,
    ),
    at_most(
        "HTTP+SSE, 32 clients: median",
        "us",
        ("library", "latency_p50_us"),
        Target::HttpSse,
        1_000.0,
    ),
    at_most(
        "HTTP+SSE: RSS with 1,000 clients",
        "MiB",
        ("clients1000", "rss_mib"),
        Target::HttpSse,
        50.0,
    ),
    ratio_at_most(
        "Streamable HTTP beside 1,000 idle streams of HTTP+SSE: CPU per call, against without",
        ("beside", "cpu_us"),
        (Target::Beside, Target::Library),
        1.05,
    ),
    ratio_at_most(
        "the same: p99 (see `again` for the noise)",
        ("beside", "latency_p99_us"),
        (Target::Beside, Target::Library),
        1.15,
    ),
    at_most(
        "10,000 clients of HTTP+SSE come and go: descriptors left",
        "",
        ("cycles", "descriptors_left"),
        Target::HttpSse,
        0.0,
    ),
    at_most(
        "the same: tasks left",
        "",
        ("cycles", "tasks_left"),
        Target::HttpSse,
        0.0,
    ),
    at_most(
        "the same: sessions left",
        "",
        ("cycles", "sessions_left"),
        Target::HttpSse,
        0.0,
    ),
    at_most(
        "the same: RSS growth",
        "KiB",
        ("cycles", "growth_kib"),
        Target::HttpSse,
        512.0,
    ),
    at_most(
        "stdio behind the gateway: CPU of the gateway alone per call",
        "us",
        ("stdio", "alone_us"),
        Target::Stdio,
        60.0,
    ),
    rate_at_least(
        "stdio behind the gateway, 8 clients: calls",
        ("stdio", "per_second"),
        Target::Stdio,
        1_000.0,
    ),
    at_most(
        "stdio behind the gateway, 8 clients: p95",
        "us",
        ("stdio", "latency_p95_us"),
        Target::Stdio,
        20_000.0,
    ),
];
