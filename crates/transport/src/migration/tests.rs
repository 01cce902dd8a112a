//! What becomes of configurations, and what people are told.

use std::time::Duration;

use thinpipe_proto::deprecation::{DeprecationConfig, Readiness, Urgency};

use super::*;
use crate::mcp::config::{ConfigError, Resumability};

fn config() -> HttpSseConfig {
    HttpSseConfig::default()
}

/// A24, T15: what is larger wins, and nothing is multiplied.
#[test]
fn a24_limits_are_raised_to_what_was_served_and_no_further() {
    let unchanged = MigrationHelper::generate_streamable_config(&config());
    assert_eq!(unchanged, config().base_config);

    let mut old = config();
    old.max_streams = 20_000;
    old.session_timeout = Duration::from_secs(900);
    old.base_config.max_connections = 30_000;
    old.base_config.max_streams = 25_000;
    let new = MigrationHelper::generate_streamable_config(&old);
    assert_eq!(new.max_sessions, 20_000);
    assert_eq!((new.max_connections, new.max_streams), (30_000, 25_000));
    assert_eq!(new.session_timeout, Duration::from_secs(900));

    // Shorter and smaller than those of Streamable HTTP: these stay.
    old.session_timeout = Duration::from_secs(1);
    old.max_streams = 1;
    let new = MigrationHelper::generate_streamable_config(&old);
    assert_eq!(new, old.base_config);
}

/// A24, T15: whatever the two say, the result is valid if they were, and never below either.
#[test]
fn a24_what_was_valid_stays_valid() {
    for streams in [1, 10, 999, 9_999] {
        for base in [1, 10, 1_000, 10_000] {
            for seconds in [1, 300, 7 * 86_400] {
                let mut old = config();
                old.max_streams = streams;
                old.base_config.max_sessions = base;
                old.session_timeout = Duration::from_secs(seconds);
                let new = MigrationHelper::new(old.clone()).unwrap().plan().config;
                assert!(new.server_config().is_ok());
                assert_eq!(new.max_sessions, streams.max(base));
                assert!(new.session_timeout >= old.session_timeout);
                assert!(new.session_timeout >= old.base_config.session_timeout);
            }
        }
    }
}

/// A24: every setting is accounted for, with what it said.
#[test]
fn a24_nothing_is_silently_lost() {
    let mut old = config();
    old.max_streams = 9_000;
    old.base_config.max_sessions = 5_000;
    old.heartbeat = Duration::from_secs(7);
    old.base_config.resumability = Some(Resumability::default());
    let plan = MigrationHelper::new(old.clone()).unwrap().plan();
    let count = |value: serde_json::Value| value.as_object().unwrap().len();
    let own = count(serde_json::to_value(&old).unwrap()) - 1;
    let shared = count(serde_json::to_value(&old.base_config).unwrap());
    assert_eq!(plan.settings.len(), own + shared);

    let found = |name: &str| plan.settings.iter().find(|it| it.name == name).unwrap();
    let raised = Fate::Raised {
        to: "9000".to_owned(),
        by: "max_streams",
    };
    assert_eq!(found("base_config.max_sessions").fate, raised);
    assert_eq!(found("base_config.resumability").fate, Fate::Carried);
    assert_eq!(found("heartbeat").value, "7s");
    assert!(matches!(found("heartbeat").fate, Fate::Dropped { .. }));
    assert!(matches!(found("sse_endpoint").fate, Fate::Covered { .. }));
}

/// A25, T10: the guide names what this server has, not what servers have in general.
#[test]
fn a25_the_guide_names_the_actual_paths_limits_and_dates() {
    let deprecation = DeprecationConfig::default()
        .with_documentation_url("https://example.com/why".parse().unwrap())
        .with_sunset(Some("2027-07-28".parse().unwrap()))
        .unwrap();
    let mut old = config();
    old.sse_endpoint = "/old/events".to_owned();
    old.messages_endpoint = "/old/post".to_owned();
    old.base_config.endpoint = "/new".to_owned();
    old.public_base = Some("/tools/".to_owned());
    old.max_streams = 777;
    old.base_config.max_sessions = 700;
    old.deprecation = deprecation;
    let guide = MigrationHelper::new(old.clone()).unwrap().migration_guide();
    for expected in [
        "`GET /old/events`",
        "`POST /old/post?sessionId=…`",
        "`POST /tools/new`",
        "https://example.com/why",
        "stops serving it on 2027-07-28",
        "| `base_config.max_sessions` | `700` | raised to 777, for `max_streams` of HTTP+SSE |",
        "| `max_streams` | `777` | covered by",
        "777 sessions",
        "\"endpoint\": \"/new\"",
        "`resumability` is not set",
    ] {
        assert!(guide.contains(expected), "{expected} is not in:\n{guide}");
    }
    old.deprecation = DeprecationConfig::default();
    let undated = MigrationHelper::new(old).unwrap().migration_guide();
    assert!(undated.contains("has set no date"));
}

/// A25, A24: the configuration in the guide is the one that is meant, and can be read.
#[test]
fn a25_the_configuration_in_the_guide_can_be_used() {
    let helper = MigrationHelper::new(config()).unwrap();
    let guide = helper.migration_guide();
    let (_, rest) = guide.split_once("```json\n").unwrap();
    let (json, _) = rest.split_once("\n```").unwrap();
    let read: HttpTransportConfig = serde_json::from_str(json).unwrap();
    assert_eq!(read, helper.plan().config);
}

/// A27, T10: figures come from the file that the benchmark writes, whole; there are no others.
#[test]
fn a27_figures_are_those_of_the_benchmark() {
    let guide = MigrationHelper::new(config()).unwrap().migration_guide();
    let figures = include_str!("figures.md").trim_end();
    let (before, after) = guide.split_once("## What it costs to stay\n\n").unwrap();
    assert_eq!(after.trim_end(), figures);
    for claim in ["faster", "less memory", " times ", "10x", "%"] {
        assert!(!before.contains(claim), "{claim}");
    }
}

/// A26: by the headers and by this server's date.
#[test]
fn a26_a_client_is_checked_by_its_headers_and_the_sunset() {
    let passed = config()
        .deprecation
        .with_sunset(Some("2025-03-26".parse().unwrap()));
    let mut late = config();
    late.deprecation = passed.unwrap();
    let helper = MigrationHelper::new(late).unwrap();
    let mut headers = HeaderMap::new();
    let advice = helper.compatibility_check(&headers);
    assert_eq!(
        (advice.level, advice.urgency),
        (Readiness::Unknown, Urgency::Critical)
    );
    headers.insert("mcp-session-id", "abc".parse().unwrap());
    let advice = helper.compatibility_check(&headers);
    assert_eq!(
        (advice.level, advice.urgency),
        (Readiness::Migrated, Urgency::None)
    );
    headers.clear();
    let undated = MigrationHelper::new(config()).unwrap();
    assert_eq!(undated.compatibility_check(&headers).urgency, Urgency::Low);
}

/// A20: clients are sent to an address that they can reach, or the server does not start.
#[test]
fn a20_the_successor_is_the_endpoint_as_clients_see_it() {
    let successor = |base: Option<&str>, endpoint: &str| {
        let mut config = config();
        config.public_base = base.map(str::to_owned);
        config.base_config.endpoint = endpoint.to_owned();
        MigrationHelper::new(config).map(|helper| helper.successor.to_string())
    };
    for (base, endpoint, expected) in [
        (None, "/mcp", "/mcp"),
        (Some("/tools"), "/mcp", "/tools/mcp"),
        (
            Some("https://example.com/"),
            "/mcp",
            "https://example.com/mcp",
        ),
    ] {
        assert_eq!(successor(base, endpoint).unwrap(), expected);
    }
    for (base, endpoint) in [
        (Some("tools"), "/mcp"),
        (Some("//evil"), "/mcp"),
        (None, "/a<b>"),
    ] {
        let refused = successor(base, endpoint);
        assert!(
            matches!(
                refused,
                Err(ConfigError::Successor { .. } | ConfigError::PublicBase { .. })
            ),
            "{refused:?}"
        );
    }
}
