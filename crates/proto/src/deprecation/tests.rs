//! What clients are told, in every phase and at every level.

mod clients;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

const SUNSET: Timestamp = Timestamp::from_unix(1_816_732_800);
const LEVELS: [MigrationLevel; 4] = [
    MigrationLevel::Silent,
    MigrationLevel::Passive,
    MigrationLevel::Active,
    MigrationLevel::Aggressive,
];

fn before(sunset: Timestamp, time: Duration) -> Timestamp {
    Timestamp::from_unix(sunset.unix() - time.as_secs())
}

fn successor() -> LinkTarget {
    "/mcp".parse().unwrap()
}

fn with_sunset() -> DeprecationConfig {
    DeprecationConfig::default()
        .with_sunset(Some(SUNSET))
        .unwrap()
}

/// The headers as they are written.
fn lines(config: &DeprecationConfig) -> Vec<String> {
    let line = |(name, value): (http::HeaderName, http::HeaderValue)| {
        format!("{name}: {}", value.to_str().unwrap())
    };
    headers(config, &successor())
        .into_iter()
        .map(line)
        .collect()
}

/// A21, T2: every threshold, the second before it and the second after.
#[test]
fn a21_phases_begin_365_180_90_30_and_0_days_before_the_sunset() {
    let phases = [
        (365, Phase::Deprecated, Phase::Announced),
        (180, Phase::Announced, Phase::Approaching),
        (90, Phase::Approaching, Phase::Soon),
        (30, Phase::Soon, Phase::Imminent),
        (0, Phase::Imminent, Phase::Sunset),
    ];
    for (days, earlier, later) in phases {
        let threshold = before(SUNSET, DAY * days);
        let at = |seconds: u64| Phase::at(Timestamp::from_unix(seconds), Some(SUNSET));
        assert_eq!(at(threshold.unix() - 1), earlier, "{days} days");
        assert_eq!(at(threshold.unix()), later, "{days} days");
        assert_eq!(at(threshold.unix() + 1), later, "{days} days");
        assert!(earlier < later);
    }
    assert_eq!(Phase::at(Timestamp::MAX, Some(SUNSET)), Phase::Sunset);
    assert_eq!(Phase::at(Timestamp::MAX, None), Phase::Deprecated);
}

/// A20, A4: the standard headers, to the letter of protocol notes section 7.
#[test]
fn a20_the_standard_headers_are_those_of_the_notes() {
    let expected = [
        "deprecation: @1742947200",
        "link: <https://modelcontextprotocol.io/specification/2026-07-28/deprecated>; \
         rel=\"deprecation\"; type=\"text/html\"",
        "link: </mcp>; rel=\"successor-version\"",
    ];
    assert_eq!(lines(&DeprecationConfig::default()), expected);
    let dated = lines(&with_sunset());
    assert_eq!(dated[..3], expected);
    assert_eq!(dated[3..], ["sunset: Wed, 28 Jul 2027 00:00:00 GMT"]);
}

/// A4: documentation and sunset reach the wire.
#[test]
fn a4_the_configured_documentation_is_linked_to() {
    let url: LinkTarget = "https://example.com/leaving".parse().unwrap();
    let config = with_sunset().with_documentation_url(url.clone());
    assert!(
        lines(&config)[1].starts_with("link: <https://example.com/leaving>; rel=\"deprecation\"")
    );
    let gone = gone(&config, SUNSET, &successor()).unwrap();
    assert_eq!((gone.kind, gone.sunset), (url, SUNSET));
}

/// A23, A20: what each level has, and that no two are the same.
#[test]
fn a23_levels_differ_in_headers_log_and_hints() {
    let now = before(SUNSET, DAY * 200);
    let seen = LEVELS.map(|level| {
        let config = with_sunset().with_migration(level);
        let extra = lines(&config).split_off(lines(&config).len().min(4));
        (
            lines(&config).len(),
            extra.len(),
            severity(&config, now),
            hint(&config, now, &successor()).is_some(),
        )
    });
    assert_eq!(
        seen,
        [
            (0, 0, None, false),
            (4, 0, Some(Severity::Info), false),
            (7, 3, Some(Severity::Warning), false),
            (7, 3, Some(Severity::Warning), true),
        ]
    );
    let active = lines(&with_sunset().with_migration(MigrationLevel::Active));
    assert_eq!(
        active[4..],
        [
            "x-transport-deprecated: true",
            "x-migration-available: true",
            "x-mcp-migration: http-streamable-available"
        ]
    );
}

/// A21: a phase is not only a word: the log gets louder.
#[test]
fn a21_the_passive_level_warns_from_90_days_before_the_sunset() {
    let config = with_sunset();
    for (days, expected) in [
        (91, Severity::Info),
        (90, Severity::Warning),
        (0, Severity::Warning),
    ] {
        let now = before(SUNSET, DAY * days);
        assert_eq!(severity(&config, now), Some(expected), "{days} days");
    }
    let undated = DeprecationConfig::default();
    assert_eq!(severity(&undated, Timestamp::MAX), Some(Severity::Info));
}

/// A3: off is off, whatever else is configured.
#[test]
fn a3_without_warnings_there_is_no_header_no_log_line_and_no_event() {
    for level in LEVELS {
        let config = with_sunset().with_migration(level).with_warnings(false);
        for now in [DEPRECATED_SINCE, before(SUNSET, DAY), SUNSET] {
            assert_eq!(lines(&config), [""; 0]);
            assert_eq!(severity(&config, now), None);
            assert_eq!(hint(&config, now, &successor()), None);
        }
        let on = config.with_warnings(true);
        assert_eq!(on.migration(), level, "the level is not forgotten");
    }
}

/// A23: a log notification that says what to do, for those who may get it.
#[test]
fn a23_the_hint_is_a_log_notification() {
    let config = with_sunset().with_migration(MigrationLevel::Aggressive);
    let hint = hint(&config, before(SUNSET, DAY), &successor()).unwrap();
    let hint: Value = serde_json::from_slice(&hint).unwrap();
    assert_eq!(hint["method"], "notifications/message");
    assert_eq!(hint.get("id"), None);
    assert_eq!(hint["params"]["level"], "warning");
    let data = &hint["params"]["data"];
    assert_eq!(data["successor"], "/mcp");
    assert_eq!(data["sunset"], "2027-07-28T00:00:00Z");
    let message = data["message"].as_str().unwrap();
    assert!(
        message.contains("2027-07-28") && message.ends_with("at /mcp"),
        "{message}"
    );
}

/// A21: 410 from the sunset on, unless it is to go on; RFC 9457.
#[test]
fn a21_after_the_sunset_it_is_gone_with_the_way_to_go() {
    let config = with_sunset();
    let earlier = Timestamp::from_unix(SUNSET.unix() - 1);
    assert_eq!(gone(&config, earlier, &successor()), None);
    let problem = gone(&config, SUNSET, &successor()).unwrap();
    let body: Value = serde_json::from_slice(&problem.to_json()).unwrap();
    assert_eq!(
        body,
        json!({
            "type": DeprecationConfig::DOCUMENTATION,
            "title": "HTTP+SSE is not served any more",
            "status": 410,
            "detail": "This server stopped serving the HTTP+SSE transport on 2027-07-28. Configure the \
                client to use the Streamable HTTP transport at /mcp: messages are posted there, and \
                there is no stream to be opened first.",
            "successor": "/mcp",
            "sunset": "2027-07-28T00:00:00Z",
        })
    );
    assert_eq!(Gone::STATUS.as_u16(), problem.status);
    assert_eq!(serde_json::from_value::<Gone>(body).unwrap(), problem);

    let warn = config.clone().with_after_sunset(AfterSunset::Warn);
    assert_eq!(gone(&warn, Timestamp::MAX, &successor()), None);
    let silent = config.with_warnings(false);
    assert!(silent.is_gone(SUNSET), "an action is no warning");
    assert!(!DeprecationConfig::default().is_gone(Timestamp::MAX));
}

/// A4, RFC 9745 section 4: no sunset before the deprecation.
#[test]
fn a4_what_makes_no_sense_cannot_be_configured() {
    let config = DeprecationConfig::default;
    let early = Timestamp::from_unix(DEPRECATED_SINCE.unix() - 1);
    assert_eq!(
        config().with_sunset(Some(early)),
        Err(InvalidDeprecation::SunsetTooEarly { sunset: early })
    );
    assert!(config().with_sunset(Some(DEPRECATED_SINCE)).is_ok());
    for (millis, is_valid) in [
        (0, false),
        (999, false),
        (1000, true),
        (86_400_000, true),
        (86_400_001, false),
    ] {
        let every = Duration::from_millis(millis);
        assert_eq!(
            config().with_warn_every(every).is_ok(),
            is_valid,
            "{millis}"
        );
    }
    for text in [
        r#"{"sunset":"2025-03-25"}"#,
        r#"{"sunset":"soon"}"#,
        r#"{"warn_every":"0s"}"#,
        r#"{"warn_every":300}"#,
        r#"{"documentation_url":"javascript:alert(1)"}"#,
        r#"{"migration":"loud"}"#,
        r#"{"sunrise":"2027-07-28"}"#,
    ] {
        assert!(
            serde_json::from_str::<DeprecationConfig>(text).is_err(),
            "{text}"
        );
    }
}

/// A4: nothing is lost between the file and the value.
#[test]
fn a4_a_configuration_is_written_and_read() {
    let config = with_sunset()
        .with_warnings(false)
        .with_migration(MigrationLevel::Aggressive)
        .with_after_sunset(AfterSunset::Warn)
        .with_documentation_url("/docs/sse".parse().unwrap())
        .with_warn_every(Duration::from_millis(60_500))
        .unwrap();
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!(
        written,
        json!({
            "warnings": false,
            "documentation_url": "/docs/sse",
            "sunset": "2027-07-28T00:00:00Z",
            "migration": "aggressive",
            "after_sunset": "warn",
            "warn_every": "60500ms",
        })
    );
    let read: DeprecationConfig = serde_json::from_value(written).unwrap();
    assert_eq!(read, config);
    let empty: DeprecationConfig = serde_json::from_str("{}").unwrap();
    assert_eq!(empty, DeprecationConfig::default());
    let defaults = serde_json::to_value(empty).unwrap();
    assert_eq!(
        defaults,
        json!({
            "warnings": true,
            "documentation_url": DeprecationConfig::DOCUMENTATION,
            "migration": "passive",
            "after_sunset": "gone",
            "warn_every": "5m",
        })
    );
}

/// A20: what is in a header's angle brackets ends neither them nor the header.
#[test]
fn a20_links_are_addresses_or_paths() {
    let longest = format!("/{}", "x".repeat(LinkTarget::MAX - 1));
    for text in [
        DeprecationConfig::DOCUMENTATION,
        "/mcp",
        "/",
        "/base/mcp?x=%20",
        "http://[::1]:3000/mcp",
        longest.as_str(),
    ] {
        let target: LinkTarget = text.parse().unwrap();
        assert_eq!(target.as_str(), text);
    }
    for text in [
        "",
        "mcp",
        "//example.com/mcp",
        "ftp://example.com",
        "https://",
        "https:///x",
        "/a b",
        "/a>; rel=\"x\"",
        "/a\r\nX: y",
        "/grüße",
        "/a\\b",
        format!("{longest}x").as_str(),
    ] {
        assert_eq!(text.parse::<LinkTarget>(), Err(InvalidLink), "{text}");
    }
}
