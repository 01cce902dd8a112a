use thinpipe_proto::deprecation::DeprecationConfig;

use super::*;

/// B1
#[test]
fn b1_defaults_are_those_that_are_documented() {
    let config = HttpTransportConfig::builder().build().unwrap();
    assert_eq!(config.bind_address.to_string(), "127.0.0.1:3000");
    assert_eq!(config.endpoint, "/mcp");
    assert_eq!(
        (config.max_connections, config.max_concurrent_requests),
        (1_000, 10)
    );
    assert_eq!(config.session_timeout, Duration::from_secs(300));
    assert_eq!(config.keep_alive_timeout, Duration::from_secs(30));
    assert_eq!(config.request_timeout, Duration::from_secs(30));
    assert_eq!(config.max_message_size, 16 << 20);
}

/// A1, A2, A3, A16 to A19
#[test]
fn a1_one_value_configures_both_and_survives_a_file() {
    let config = HttpSseConfig::builder()
        .base_config(
            HttpTransportConfig::builder()
                .endpoint("/streamable")
                .build()
                .unwrap(),
        )
        .max_streams(500_usize)
        .session_timeout(Duration::from_millis(1_500))
        .build()
        .unwrap();
    let written = serde_json::to_string(&config).unwrap();
    assert!(
        written.contains(r#""session_timeout":"1500ms""#),
        "{written}"
    );
    assert!(written.contains(r#""heartbeat":"15s""#), "{written}");
    assert_eq!(
        serde_json::from_str::<HttpSseConfig>(&written).unwrap(),
        config
    );
    let default: HttpSseConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(default, HttpSseConfig::default());
    assert_eq!(
        (&*default.sse_endpoint, &*default.messages_endpoint),
        ("/sse", "/messages")
    );
    assert!(default.deprecation_warnings);
}

/// A1, A16: a part of `base_config` leaves the rest as it is, and the streams of HTTP+SSE take nothing from
/// it, however it was said.
#[test]
fn a1_a_part_of_the_base_is_enough() {
    let file = r#"{"base_config":{"bind_address":"127.0.0.1:3200"}}"#;
    let read: HttpSseConfig = serde_json::from_str(file).unwrap();
    let base = HttpTransportConfig::builder()
        .bind_address(([127, 0, 0, 1], 3200))
        .build()
        .unwrap();
    let built = HttpSseConfig::builder().base_config(base).build().unwrap();
    assert_eq!(read, built);
    let limits = built.server_config().unwrap().limits;
    assert_eq!((limits.max_connections, limits.max_streams), (2_000, 2_000));
    let huge = HttpSseConfig {
        max_streams: usize::MAX,
        ..built
    };
    let limits = huge.server_config().unwrap().limits;
    assert_eq!(limits.max_connections, usize::MAX);
}

/// A3: either switch turns all warnings off, and none of them what else is configured.
#[test]
fn a3_either_switch_turns_the_warnings_off() {
    for (outer, inner) in [(true, true), (true, false), (false, true), (false, false)] {
        let deprecation = DeprecationConfig::default().with_warnings(inner);
        let config = HttpSseConfig::builder()
            .deprecation_warnings(outer)
            .deprecation(deprecation)
            .build()
            .unwrap();
        assert_eq!(config.effective_deprecation().warnings(), outer && inner);
    }
    let read: HttpSseConfig =
        serde_json::from_str(r#"{"deprecation":{"sunset":"2027-07-28","warn_every":"1m"}}"#)
            .unwrap();
    let sunset = read.effective_deprecation().sunset().unwrap();
    assert_eq!(sunset.to_string(), "2027-07-28T00:00:00Z");
}

#[test]
fn what_is_unknown_or_has_no_unit_is_refused() {
    for wrong in [
        r#"{"max_conections":1}"#,
        r#"{"session_timeout":30}"#,
        r#"{"session_timeout":"30"}"#,
        r#"{"resumability":{"max_event":1}}"#,
    ] {
        assert!(
            serde_json::from_str::<HttpTransportConfig>(wrong).is_err(),
            "{wrong}"
        );
    }
    assert!(serde_json::from_str::<HttpSseConfig>(r#"{"base":{}}"#).is_err());
}

/// A18, T2, T8
#[test]
fn a18_what_is_not_possible_is_refused() {
    let refused = |change: fn(HttpSseConfigBuilder) -> HttpSseConfigBuilder| {
        change(HttpSseConfig::builder())
            .build()
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(|b| b.heartbeat(Duration::ZERO)),
        "heartbeat: 1 s to 60 s"
    );
    assert_eq!(
        refused(|b| b.heartbeat(Duration::from_secs(61))),
        "heartbeat: 1 s to 60 s"
    );
    assert_eq!(
        refused(|b| b.event_buffer(1_001_usize)),
        "event_buffer: 1 to 1,000"
    );
    assert_eq!(
        refused(|b| b.sse_endpoint("/mcp")),
        "\"/mcp\" is the path of two endpoints"
    );
    assert_eq!(
        refused(|b| b.public_base("tools".to_owned())),
        "public_base: \"tools\" is neither a path that begins with / nor an origin (https://mcp.example.com)"
    );
    let relative = HttpSseConfig {
        base_config: HttpTransportConfig {
            endpoint: "mcp".to_owned(),
            ..HttpTransportConfig::default()
        },
        ..HttpSseConfig::default()
    };
    let path = "endpoint: \"mcp\" is not an absolute path without query";
    assert_eq!(relative.successor().unwrap_err().to_string(), path);
    let wrong = HttpTransportConfig {
        max_sessions: 0,
        ..HttpTransportConfig::default()
    };
    assert_eq!(
        wrong.server_config().unwrap_err().to_string(),
        "max_sessions: at least 1"
    );
    assert!(
        HttpTransportConfig::builder()
            .endpoint("mcp?a")
            .build()
            .is_err()
    );
}

/// B18
#[test]
fn b18_an_address_for_others_needs_the_names_it_is_reached_by() {
    let everywhere: SocketAddr = "0.0.0.0:80".parse().unwrap();
    let refused = HttpTransportConfig::builder()
        .bind_address(everywhere)
        .build();
    assert!(matches!(refused, Err(ConfigError::HostsMissing { .. })));
    let named = HttpTransportConfig::builder()
        .bind_address(everywhere)
        .allowed_hosts(vec!["MCP.example".to_owned()])
        .build()
        .unwrap();
    let access = named.server_config().unwrap().access;
    assert!(access.allows_host(Some(b"mcp.example")) && !access.allows_host(Some(b"localhost")));
}

/// B18: a name or an origin that no request can have is refused, as the gateway does.
#[test]
fn b18_what_is_allowed_can_be_met() {
    let config = |hosts: &[&str], origins: &[&str]| HttpTransportConfig {
        allowed_hosts: hosts.iter().map(ToString::to_string).collect(),
        allowed_origins: origins.iter().map(ToString::to_string).collect(),
        ..HttpTransportConfig::default()
    };
    let refused = |config: HttpTransportConfig| match config.server_config() {
        Err(ConfigError::Access { field, value, .. }) => format!("{field} {value}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(config(&["http://foo"], &[])),
        "allowed_hosts http://foo"
    );
    assert_eq!(refused(config(&[], &["foo"])), "allowed_origins foo");
    let right = config(
        &["MCP.example", "mcp.example:80"],
        &["https://A.example", "null"],
    );
    assert!(right.server_config().is_ok());
}

/// B1: what is wrong in a file is named, with what it should be.
#[test]
fn b1_mistakes_in_files_are_named() {
    let refused = |text| serde_json::from_str::<HttpSseConfig>(text).unwrap_err();
    let heartbeat = refused(r#"{"heartbeat":15}"#).to_string();
    assert!(heartbeat.contains("such as \"500ms\""), "{heartbeat}");
    let address = refused(r#"{"base_config":{"bind_address":"x"}}"#).to_string();
    assert!(
        address.contains("bind_address: ") && address.contains("127.0.0.1:3000"),
        "{address}"
    );
}
