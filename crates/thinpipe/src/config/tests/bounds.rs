//! Limits, time-outs and bounds of pools.

use std::time::Duration;

use thinpipe_gateway::EventLogLimits;
use thinpipe_transport::server::Limits;

use super::messages::{says, upstream_says, wrong};
use super::{client, toml};

/// C17, B10: every limit, time-out and bound of a pool is its own: none takes another's place on the way.
#[test]
fn c17_every_bound_reaches_its_place() {
    let text = r#"
[limits]
max_connections = 1
max_streams = 2
max_requests = 3
max_requests_per_session = 4
max_body = "5 KiB"
max_buffered = "6 MiB"
max_batch = "28 KiB"
max_head = "7 KiB"
max_headers = 8
head_timeout = "9s"
body_timeout = "10s"
idle_timeout = "11s"
write_stall = "12s"
keep_alive = "13s"
drain = "14s"
max_detached = 15
detached_timeout = "16s"
[limits.event_log]
max_events = 31
max_bytes = "32 KiB"
age = "33s"
finished_for = "30s"
session_bytes = "34 KiB"
total_bytes = "35 MiB"
[[upstreams]]
url = "http://h/mcp"
max_message = "1 MiB"
timeouts = { connect = "17s", first_byte = "18s", idle = "19s", request = "20s", stream_idle = "21s" }
[upstreams.pool]
max_connections = 22
max_streams = 23
max_idle = 24
idle_timeout = "25s"
rotate_after_requests = 26
rotate_after = "27s"
"#;
    let config = toml(text).unwrap().config;
    let seconds = Duration::from_secs;
    let limits = Limits {
        max_connections: 1,
        max_streams: 2,
        max_requests: 3,
        max_requests_per_session: 4,
        max_body: 5 << 10,
        max_buffered: 6 << 20,
        max_batch: 28 << 10,
        max_head: 7 << 10,
        max_headers: 8,
        head_timeout: seconds(9),
        body_timeout: seconds(10),
        idle_timeout: seconds(11),
        write_stall: seconds(12),
        keep_alive: seconds(13),
        drain: seconds(14),
        max_detached: 15,
        detached_timeout: seconds(16),
    };
    assert_eq!(config.server.limits, limits);
    let log = EventLogLimits {
        max_events: 31,
        max_bytes: 32 << 10,
        age: seconds(33),
        finished_for: seconds(30),
        session_bytes: 34 << 10,
    };
    assert_eq!(config.gateway.upstreams[0].event_log, log);
    assert_eq!(config.server.sessions.max_history, 35 << 20);
    let client = client(&config.gateway.upstreams[0]);
    let timeouts = [
        client.connect_timeout,
        client.first_byte_timeout,
        client.idle_timeout,
        client.request_timeout,
        client.stream_idle_timeout,
    ];
    assert_eq!(timeouts, [17, 18, 19, 20, 21].map(seconds));
    assert_eq!((client.max_connections, client.max_streams), (22, 23));
    assert_eq!(client.pool_max_idle, 24);
    assert_eq!(client.pool_idle_timeout, seconds(25));
    assert_eq!(client.rotate_after_requests, 26);
    assert_eq!(client.rotate_after, seconds(27));
}

/// I5: values out of range are named with their path.
#[test]
fn i5_values_out_of_range_are_named_with_their_path() {
    says(
        "t.toml",
        "[limits]\nmax_connections = 0\n[sessions]\nidle = \"2d\"\n[[upstreams]]\nurl = \"http://h/mcp\"\n",
        r#"
error: limits.max_connections: 0 is not from 1 to 1000000
 --> t.toml:2:19
  |
2 | max_connections = 0
  |                   ^
  = help: the default is 16384

error: sessions.idle: 48h is longer than a session can grow old (24h)
 --> t.toml:4:8
  |
4 | idle = "2d"
  |        ^^^^
  = help: make `sessions.age` longer, or `sessions.idle` shorter"#,
    );
    wrong(
        "[sessions]\nage = \"10m\"\n[[upstreams]]\nurl = \"http://h/\"",
        "sessions.age: 10m is shorter than `sessions.idle`, 30m (the default)",
        "make `sessions.age` longer, or `sessions.idle` shorter",
    );
    wrong(
        "workers = 0\n[[upstreams]]\nurl=\"http://h/\"",
        "workers: `0` is no number from 1 to 1024",
        "one worker for each CPU is the default: leave it out",
    );
    wrong(
        "[limits]\nmax_headers = 129\n[[upstreams]]\nurl=\"http://h/\"",
        "limits.max_headers: 129 is not from 8 to 128",
        "the default is 100",
    );
    wrong(
        "[limits]\nmax_body = \"1 GiB\"\n[[upstreams]]\nurl=\"http://h/\"",
        "limits.max_body: 1 GiB is more than limits.max_buffered, which is 256 MiB",
        "raise limits.max_buffered, or lower this",
    );
    upstream_says(
        "max_message = \"512 MiB\"",
        "upstreams[0].max_message: 512 MiB is more than limits.max_buffered, which is 256 MiB",
        "raise limits.max_buffered, or lower this",
    );
    upstream_says(
        "max_message = 1",
        "upstreams[0].max_message: 1 B is not from 1 KiB to 1 GiB",
        "the default is 16 MiB",
    );
    upstream_says(
        "pool = { rotate_after = \"1ms\" }",
        "upstreams[0].pool.rotate_after: 1ms is not from 1s to 24h",
        "the default is 5m",
    );
    upstream_says(
        "health = { failures = 0 }",
        "upstreams[0].health.failures: 0 is not from 1 to 1000",
        "the default is 2",
    );
    wrong(
        "[limits.event_log]\nage = \"30s\"",
        "limits.event_log.finished_for: 1m is longer than events are kept (30s)",
        "make `limits.event_log.age` longer, or `finished_for` shorter",
    );
    wrong(
        "[limits.event_log]\ntotal_bytes = \"4 MiB\"",
        "limits.event_log.session_bytes: 8 MiB is more than all streams may keep, which is 4 MiB",
        "raise `limits.event_log.total_bytes`, or lower this",
    );
    wrong(
        "[limits]\nkeep_alive = \"0s\"",
        "limits.keep_alive: 0s is not from 10ms to 5m",
        "the default is 15s",
    );
}
