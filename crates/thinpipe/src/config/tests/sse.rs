//! HTTP+SSE beside every endpoint.

use std::time::Duration;

use thinpipe_gateway::SsePaths;
use thinpipe_proto::deprecation::{AfterSunset, MigrationLevel};
use thinpipe_transport::server::SseConfig;

use super::messages::wrong;
use super::*;

fn paths(config: &Config) -> Vec<(&str, &str)> {
    let specs = config.gateway.upstreams.iter();
    let sse = specs.filter_map(|spec| spec.sse.as_ref());
    sse.map(|sse| (&*sse.stream, &*sse.messages)).collect()
}

/// A2: own paths beside each endpoint, which can be others.
#[test]
fn a2_http_sse_has_paths_of_its_own() {
    assert_eq!(paths(&toml(ONE).unwrap().config), [("/sse", "/messages")]);
    let two = "[[upstreams]]\nname = \"a\"\nurl = \"http://h/a\"\n[[upstreams]]\nname = \"b\"\nurl = \"http://h/b\"\nsse_path = \"/b/events\"\nmessages_path = \"/b/post\"\n";
    assert_eq!(
        paths(&toml(two).unwrap().config),
        [
            ("/servers/a/sse", "/servers/a/messages"),
            ("/b/events", "/b/post")
        ]
    );
    for (line, message) in [
        (
            "path = \"/sse\"",
            "upstreams[0].sse_path: /sse is there for something else already",
        ),
        (
            "sse_path = \"/messages\"",
            "upstreams[0].messages_path: /messages is there for something else already",
        ),
    ] {
        wrong(
            &format!("{ONE}{line}\n"),
            message,
            "give each a path of its own",
        );
    }
    let crossed = two.replace("/b/events", "/servers/a/messages");
    wrong(
        &crossed,
        "upstreams[1].sse_path: two upstreams are served on /servers/a/messages",
        "give each a path of its own",
    );
    wrong(
        &format!("{ONE}sse_path = \"sse\"\n"),
        "upstreams[0].sse_path: `sse` is no path of an endpoint",
        "write it as in \"/sse\"",
    );
}

/// A17, T11: the library's defaults, whose sessions end sooner than those of Streamable HTTP.
#[test]
fn a17_the_defaults_are_the_librarys() {
    let config = toml(ONE).unwrap().config;
    let sse = &config.gateway.upstreams[0].sse.as_ref().unwrap().config;
    assert_eq!(*sse, SseConfig::default());
    assert_eq!(sse.session_timeout, Duration::from_secs(300));
    assert!(sse.session_timeout < config.server.sessions.idle);
}

const WHOLE: &str = r#"
[sse]
public_base = "https://mcp.example.com/base"
max_streams = 2
connection_timeout = "3s"
session_timeout = "4s"
heartbeat = "5s"
retry = "6s"
event_buffer = 7
buffer_bytes = "8 KiB"
max_message = "9 KiB"
max_requests_per_session = 10
inline_json = true
[sse.deprecation]
warnings = true
migration = "active"
documentation_url = "https://example.com/moving"
sunset = "2031-07-28"
after_sunset = "warn"
warn_every = "1m"
[[upstreams]]
url = "http://127.0.0.1:3001/mcp"
"#;

/// A4, A16 to A19, A21 to A23: every setting is its own: none takes another's place on the way.
#[test]
fn a4_every_setting_of_http_sse_reaches_its_place() {
    let loaded = toml(WHOLE).unwrap();
    let gateway = &loaded.config.gateway;
    let SsePaths { config: sse, .. } = gateway.upstreams[0].sse.as_ref().unwrap();
    assert_eq!(sse.public_base.as_str(), "https://mcp.example.com/base");
    assert_eq!(sse.max_streams, 2);
    assert_eq!(sse.connection_timeout.as_secs(), 3);
    assert_eq!(sse.session_timeout.as_secs(), 4);
    assert_eq!(sse.heartbeat.get().as_secs(), 5);
    assert_eq!(sse.retry.as_secs(), 6);
    assert_eq!(sse.event_buffer.get(), 7);
    assert_eq!((sse.buffer_bytes, sse.max_message), (8 << 10, 9 << 10));
    assert_eq!(sse.max_requests_per_session, 10);
    assert!(sse.inline_json);
    let deprecation = &gateway.deprecation;
    assert_eq!(deprecation.migration(), MigrationLevel::Active);
    assert_eq!(
        deprecation.documentation_url().as_str(),
        "https://example.com/moving"
    );
    assert_eq!(deprecation.sunset().unwrap().date_text(), "2031-07-28");
    assert_eq!(deprecation.after_sunset(), AfterSunset::Warn);
    assert_eq!(deprecation.warn_every().as_secs(), 60);
    let shown = loaded.to_toml().unwrap();
    assert_eq!(toml(&shown).unwrap().to_toml().unwrap(), shown);
    assert!(
        shown.contains("sunset = \"2031-07-28T00:00:00Z\""),
        "{shown}"
    );
}

/// A3: warnings off is another thing than HTTP+SSE off.
#[test]
fn a3_http_sse_and_its_warnings_can_be_turned_off() {
    let off = format!("[sse]\nenabled = false\n{ONE}");
    let loaded = toml(&off).unwrap();
    assert!(paths(&loaded.config).is_empty());
    let shown = loaded.to_toml().unwrap();
    assert_eq!(toml(&shown).unwrap().to_toml().unwrap(), shown);
    wrong(
        &format!("{off}sse_path = \"/x\"\n"),
        "upstreams[0].sse_path: HTTP+SSE is not served",
        "remove it, or `sse.enabled = false`",
    );
    wrong(
        &format!("legacy = \"refused\"\n{ONE}sse_path = \"/x\"\n"),
        "upstreams[0].sse_path: HTTP+SSE is not served",
        "remove it, or `legacy = \"refused\"`",
    );
    let silent = format!("[sse.deprecation]\nwarnings = false\nmigration = \"aggressive\"\n{ONE}");
    let config = toml(&silent).unwrap().config;
    assert_eq!(
        config.gateway.deprecation.migration(),
        MigrationLevel::Silent
    );
    assert_eq!(paths(&config).len(), 1);
}

/// A18, A19, A21: what is out of range is refused with its line.
#[test]
fn a18_settings_out_of_range_are_refused() {
    for (line, message, mend) in [
        (
            "heartbeat = \"0s\"",
            "sse.heartbeat: 0s is not from 1s to 1m",
            "the default is 15s",
        ),
        (
            "heartbeat = \"2m\"",
            "sse.heartbeat: 2m is not from 1s to 1m",
            "the default is 15s",
        ),
        (
            "event_buffer = 1001",
            "sse.event_buffer: 1001 is not from 1 to 1000",
            "the default is 100",
        ),
        (
            "max_streams = 0",
            "sse.max_streams: 0 is not from 1 to 1000000",
            "the default is 1000",
        ),
        (
            "session_timeout = \"2d\"",
            "sse.session_timeout: 48h is not from 10ms to 24h",
            "the default is 5m",
        ),
        (
            "max_message = \"512 MiB\"",
            "sse.max_message: 512 MiB is more than limits.max_buffered, which is 256 MiB",
            "raise limits.max_buffered, or lower this",
        ),
        (
            "public_base = \"gateway\"",
            "sse.public_base: `gateway`: the public base is an absolute path or an http(s) origin, without query and fragment",
            "write it as in \"/gateway\" or \"https://mcp.example.com/gateway\"",
        ),
        (
            "deprecation = { sunset = \"2020-01-01\" }",
            "sse.deprecation.sunset: the sunset 2020-01-01T00:00:00Z is earlier than the deprecation, 2025-03-26T00:00:00Z",
            "choose a later day, or none",
        ),
        (
            "deprecation = { sunset = \"next year\" }",
            "sse.deprecation.sunset: not a date such as 2027-07-28, 2027-07-28T00:00:00Z or Wed, 28 Jul 2027 00:00:00 GMT, from 1970 to 9999",
            "write the day on which HTTP+SSE ends here: \"2027-07-28\"",
        ),
        (
            "deprecation = { warn_every = \"500ms\" }",
            "sse.deprecation.warn_every: 500ms is not from 1s to 24h",
            "the default is 5m",
        ),
        (
            "deprecation = { migration = \"loud\" }",
            "sse.deprecation.migration: `loud` is not known here",
            "known here: silent, passive, active, aggressive",
        ),
    ] {
        wrong(&format!("[sse]\n{line}\n{ONE}"), message, mend);
    }
}
