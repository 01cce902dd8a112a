//! Limits, time-outs and bounds of pools.

use std::time::Duration;

use thinpipe_transport::server::Limits;

use super::toml;

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
    let client = &config.gateway.upstreams[0].client;
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
