use thinpipe_proto::deprecation::{DeprecationConfig, Inventory};

use super::*;
use crate::migrate::advice::{self, Effective};
use crate::sse_clients::SseServed;

const MIGRATION: &str = include_str!("../../../../../docs/src/migration.md");

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What a gateway with one server says of these clients.
fn found(inventory: &Inventory) -> SseClients {
    SseClients {
        report: inventory.report(),
        served: SseServed {
            since: at("2026-11-23T07:00:12Z"),
            sunset: None,
            after_sunset: AfterSunset::Gone,
            endpoints: vec![SseServedAt {
                name: "calculator".to_owned(),
                url: "http://127.0.0.1:8080/sse".to_owned(),
                successor: "http://127.0.0.1:8080/mcp".to_owned(),
            }],
        },
    }
}

fn shown(found: SseClients) -> String {
    let settings = Effective {
        in_force: true,
        enabled: true,
        deprecation: DeprecationConfig::default(),
    };
    let now = at("2026-11-26T12:00:00Z");
    let changes = advice::changes(&settings, &found, now);
    let gateway = FileChanges {
        differences: Vec::new(),
        file: "thinpipe.toml".to_owned(),
        changes,
    };
    text(&Migration::new(found, Some(gateway)), now)
}

/// A29: what the guide shows is what is printed.
#[test]
fn a29_the_report_in_the_guide_is_real() {
    let mut inventory = Inventory::default();
    let mut session = |name: &str, version: &str, from: &str, to: Option<&str>| {
        let session = inventory.opened("calculator", name, version, at(from));
        if let Some(to) = to {
            inventory.closed(session, at(to));
        }
    };
    session(
        "Inspector",
        "0.15.0",
        "2026-11-23T09:15:02Z",
        Some("2026-11-23T09:40:00Z"),
    );
    session("Inspector", "0.15.0", "2026-11-26T10:02:41Z", None);
    session(
        "reporter",
        "2.1",
        "2026-11-24T05:00:00Z",
        Some("2026-11-24T05:00:09Z"),
    );
    let text = shown(found(&inventory));
    let indented = MIGRATION
        .lines()
        .map(|line| line.strip_prefix("   ").unwrap_or(line));
    let guide: Vec<_> = indented.collect();
    let guide = guide.join("\n");
    assert!(guide.contains(&text), "{text}");
}

/// A31: an empty list is said to be empty, and since when.
#[test]
fn a31_where_nobody_is_left_it_can_be_switched_off() {
    let text = shown(found(&Inventory::default()));
    assert!(
        text.starts_with("Since 2026-11-23T07:00:12Z, when the gateway was started, no client has"),
        "{text}"
    );
    assert!(text.contains("sse.enabled = false  (it is true)"), "{text}");
    assert!(!text.contains("mcpServers"), "{text}");
}

/// A21: the day is said, and whether it still counts.
#[test]
fn a21_the_day_of_the_end_is_said() {
    for (day, after_sunset, expected) in [
        (
            "2027-07-28",
            AfterSunset::Gone,
            "It ends here on 2027-07-28.",
        ),
        (
            "2026-11-01",
            AfterSunset::Gone,
            "It ended here on 2026-11-01: ",
        ),
        (
            "2026-11-01",
            AfterSunset::Warn,
            "it is served after that day",
        ),
    ] {
        let mut found = found(&Inventory::default());
        found.served.sunset = Some(at(day));
        found.served.after_sunset = after_sunset;
        let text = shown(found);
        assert!(text.contains(expected), "{text}");
    }
}

/// A31, E11: whoever answers on the admin address does not choose what the terminal does.
#[test]
fn a31_names_do_nothing_to_the_terminal() {
    let mut found = found(&Inventory::default());
    let client = ClientUse {
        endpoint: "calculator".to_owned(),
        name: "evil\u{1b}[2J\n".to_owned(),
        version: String::new(),
        first_seen: at("2026-11-23"),
        last_seen: at("2026-11-24"),
        sessions: 1,
        open: 0,
    };
    found.report.sessions = 1;
    found.report.other = Some(client.clone());
    found.report.clients.push(client);
    let text = shown(found);
    assert!(text.contains("evil\\u{1b}[2J"), "{text}");
    assert!(text.contains("(others)"), "{text}");
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
}
