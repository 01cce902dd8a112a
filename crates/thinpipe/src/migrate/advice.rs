//! What to change in the gateway's file: a pure function of its settings, its clients and the time.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use thinpipe_proto::deprecation::{AfterSunset, DeprecationConfig, MigrationLevel, Timestamp};

use crate::config::{Config, Period};
use crate::sse_clients::SseClients;

/// How far ahead a sunset is proposed: clients are told for so long.
const NOTICE: Duration = Duration::from_secs(180 * 86_400);

/// Watched for less than this, that nobody came says little: some clients come once a week.
const ENOUGH: Duration = Duration::from_secs(7 * 86_400);

/// One setting that should be another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// Its key in the file.
    pub(super) key: &'static str,
    /// What it is; null: not set.
    pub(super) was: Value,
    /// What to write.
    pub(super) new: Value,
    /// When to do it.
    pub(super) when: When,
    /// What is gained.
    pub(super) why: String,
}

/// When to change a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    /// At once.
    Now,
    /// When no client is left, or the day has come.
    AtLast,
}

/// The settings in effect that matter here.
#[derive(Debug, Clone)]
pub(super) struct Effective {
    /// Whether HTTP+SSE is served.
    pub(super) enabled: bool,
    /// What is said of its end.
    pub(super) deprecation: DeprecationConfig,
    /// Whether the gateway that was asked seems to run by them.
    pub(super) in_force: bool,
}

impl Effective {
    /// Those of a file.
    pub(super) fn of(config: &Config, in_force: bool) -> Self {
        let mut upstreams = config.gateway.upstreams.iter();
        Self {
            enabled: upstreams.any(|upstream| upstream.sse.is_some()),
            deprecation: config.gateway.deprecation.clone(),
            in_force,
        }
    }
}

/// Whether the gateway has counted for so long that an empty list says something.
pub(super) fn is_long_enough(found: &SseClients, now: Timestamp) -> bool {
    watched(found, now) >= ENOUGH
}

/// How long the gateway has counted.
pub(super) fn watched(found: &SseClients, now: Timestamp) -> Duration {
    Duration::from_secs(now.unix().saturating_sub(found.served.since.unix()))
}

/// What to change, in the order in which to do it. Empty if HTTP+SSE is switched off.
pub(super) fn changes(settings: &Effective, found: &SseClients, now: Timestamp) -> Vec<Change> {
    if !settings.enabled {
        return Vec::new();
    }
    let deprecation = &settings.deprecation;
    if deprecation.is_gone(now) {
        // Who gets 410 is not counted, so that an empty list says nothing.
        let why = "clients get 410 and the new address until then, 404 from then on";
        return vec![switch_off(When::AtLast, why.to_owned())];
    }
    if found.report.sessions == 0 && settings.in_force && is_long_enough(found, now) {
        let why = format!("nobody has used it since {}", found.served.since);
        return vec![switch_off(When::Now, why)];
    }
    let mut changes = announcing(deprecation);
    let quiet = if found.report.sessions > 0 {
        changes.extend(ending(deprecation, now));
        "stays empty".to_owned()
    } else {
        format!("has been empty for {}", Period(ENOUGH))
    };
    let why = format!("when the list {quiet}; servers that speak HTTP+SSE are still reached");
    changes.push(switch_off(When::AtLast, why));
    changes
}

/// What clients and the log are told.
fn announcing(deprecation: &DeprecationConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    if !deprecation.warnings() {
        changes.push(now_to(
            "sse.deprecation.warnings",
            json!(false),
            json!(true),
            "as long as it is off, clients and the log are told nothing",
        ));
    }
    // What was set, whether or not it is switched off.
    let level = deprecation.clone().with_warnings(true).migration();
    if level < MigrationLevel::Active {
        changes.push(now_to(
            "sse.deprecation.migration",
            json!(level),
            json!(MigrationLevel::Active),
            "the log warns of each client, and every answer says that there is a successor",
        ));
    }
    changes
}

/// The day on which it ends.
fn ending(deprecation: &DeprecationConfig, now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    if deprecation.sunset().is_none() {
        let day = Timestamp::from_unix(now.unix().saturating_add(NOTICE.as_secs()));
        changes.push(now_to(
            "sse.deprecation.sunset",
            Value::Null,
            json!(day.date_text()),
            "a proposal, half a year from now: every answer says it, and from that day on clients get \
             410 and the new address",
        ));
    }
    if deprecation.after_sunset() == AfterSunset::Warn {
        let why = match deprecation.sunset() {
            Some(day) if day <= now => "the day is over, so that it ends at once",
            _ => "nothing ends on that day otherwise",
        };
        changes.push(now_to(
            "sse.deprecation.after_sunset",
            json!(AfterSunset::Warn),
            json!(AfterSunset::Gone),
            why,
        ));
    }
    changes
}

fn switch_off(when: When, why: String) -> Change {
    Change {
        key: "sse.enabled",
        was: json!(true),
        new: json!(false),
        when,
        why,
    }
}

fn now_to(key: &'static str, was: Value, new: Value, why: &str) -> Change {
    Change {
        key,
        was,
        new,
        when: When::Now,
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use thinpipe_proto::deprecation::Inventory;

    use super::*;
    use crate::sse_clients::SseServed;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn found(sessions: u32) -> SseClients {
        let mut inventory = Inventory::default();
        for _ in 0..sessions {
            let session = inventory.opened("files", "Inspector", "1", NOW);
            inventory.closed(session, NOW);
        }
        SseClients {
            report: inventory.report(),
            served: SseServed {
                since: Timestamp::from_unix(NOW.unix() - ENOUGH.as_secs()),
                sunset: None,
                after_sunset: AfterSunset::Gone,
                endpoints: Vec::new(),
            },
        }
    }

    /// Keys and new values.
    fn of(enabled: bool, deprecation: &DeprecationConfig, sessions: u32) -> Vec<(String, Value)> {
        let settings = Effective {
            enabled,
            deprecation: deprecation.clone(),
            in_force: true,
        };
        let changes = changes(&settings, &found(sessions), NOW);
        let change = |change: Change| (change.key.replace("sse.", ""), change.new);
        changes.into_iter().map(change).collect()
    }

    fn on(day: &str) -> DeprecationConfig {
        let day = day.parse().unwrap();
        let config = DeprecationConfig::default().with_migration(MigrationLevel::Aggressive);
        config.with_sunset(Some(day)).unwrap()
    }

    /// A21, A23: what is proposed is what is missing in the settings.
    #[test]
    fn a23_only_what_is_missing_is_proposed() {
        let off = ("enabled".to_owned(), json!(false));
        let key = |key: &str, value: Value| (format!("deprecation.{key}"), value);
        let silent = DeprecationConfig::default().with_warnings(false);
        let later = NOW.unix() + 180 * 86_400;
        let day = Timestamp::from_unix(later).date_text();
        let warn = AfterSunset::Warn;
        for (deprecation, expected) in [
            (
                silent,
                vec![
                    key("warnings", json!(true)),
                    key("migration", json!("active")),
                    key("sunset", json!(day)),
                ],
            ),
            (on("2030-01-01"), Vec::new()),
            (on("2026-01-01"), Vec::new()),
            (
                on("2026-01-01").with_after_sunset(warn),
                vec![key("after_sunset", json!("gone"))],
            ),
        ] {
            let with_end: Vec<_> = expected.into_iter().chain([off.clone()]).collect();
            assert_eq!(of(true, &deprecation, 1), with_end);
        }
        let default = DeprecationConfig::default();
        assert_eq!(of(true, &default, 0), [off], "nobody is left");
        let over = Effective {
            enabled: true,
            deprecation: on("2026-01-01"),
            in_force: true,
        };
        let changes = changes(&over, &found(0), NOW);
        assert_eq!((changes.len(), changes[0].when), (1, When::AtLast));
        assert_eq!(of(false, &default, 1), [], "it is off already");
    }

    /// A31: to switch it off at once is proposed only where nobody came for long enough, to a gateway
    /// that runs by these settings.
    #[test]
    fn a31_an_empty_list_is_believed_after_a_week() {
        let settings = |in_force| Effective {
            enabled: true,
            deprecation: on("2030-01-01"),
            in_force,
        };
        let mut found = found(0);
        let week = found.served.since.unix() + ENOUGH.as_secs();
        for (in_force, now, when) in [
            (true, week, When::Now),
            (true, week - 1, When::AtLast),
            (false, week, When::AtLast),
            // A clock that went back.
            (true, 0, When::AtLast),
        ] {
            let changes = changes(&settings(in_force), &found, Timestamp::from_unix(now));
            let [change] = &changes[..] else {
                panic!("{changes:?}");
            };
            assert_eq!((change.key, change.when), ("sse.enabled", when), "{now}");
        }
        found.served.since = NOW;
        let silent = Effective {
            deprecation: DeprecationConfig::default(),
            ..settings(true)
        };
        let keys: Vec<_> = changes(&silent, &found, NOW)
            .into_iter()
            .map(|it| it.key)
            .collect();
        assert_eq!(keys, ["sse.deprecation.migration", "sse.enabled"]);
    }
}
