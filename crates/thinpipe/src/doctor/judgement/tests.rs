//! Observations in, findings out: each thing that breaks behind a gateway is told, with a mend.

use std::collections::BTreeMap;

use thinpipe_proto::revision::Revision;

use super::*;
use crate::doctor::list::List;
use crate::doctor::observation::Identity;
use crate::doctor::report;

/// A server with sessions that does everything right.
fn good() -> Sessions {
    Sessions {
        id: SessionId::Valid,
        second: Second::Own {
            differing: Vec::new(),
        },
        unknown: Some(404),
        missing: Some(400),
        deleted: Some(200),
        after_delete: Some(404),
        json_only: Some(406),
        foreign_origin: Some(403),
        stream: Stream::Open {
            watched: Duration::from_secs(20),
            alive: true,
            ended: false,
        },
        event_ids: vec!["1".to_owned(), "2".to_owned()],
        streams_answers: true,
        primes: true,
        resumed: Some(Resumed::Replayed),
        ids_kept: true,
        ..Sessions::default()
    }
}

/// What a report says of these alone.
fn found<'a>(seen: &'a Observations, findings: &'a [Finding]) -> report::Found<'a> {
    report::Found {
        seen,
        findings,
        pin: None,
        clients: &[],
    }
}

fn of(transport: Transport) -> Observations {
    Observations {
        capabilities: serde_json::Map::new(),
        target: "http://h/mcp".to_owned(),
        identity: Ok(Identity {
            name: Some("files".to_owned()),
            bindings: vec![Binding::Sessions],
            ..Identity::default()
        }),
        lists: BTreeMap::from([("tools/list", Ok(names(&["a"])))]),
        transport,
        successor: None,
        stderr: Vec::new(),
    }
}

fn with_sessions(change: impl FnOnce(&mut Sessions)) -> Observations {
    let mut sessions = good();
    change(&mut sessions);
    of(Transport::Streamable {
        sessions: Some(Box::new(sessions)),
        stateless_get: None,
    })
}

/// The level of a check, the worst if there are several.
fn level(seen: &Observations, check: &str) -> Option<Level> {
    let findings = judge(seen);
    let found = findings.iter().filter(|finding| finding.check == check);
    found.map(|finding| finding.level).max()
}

#[test]
fn nothing_is_said_against_a_server_that_does_everything_right() {
    let findings = judge(&with_sessions(|_| {}));
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| finding.level > Level::Fine)
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(is_usable(&findings) && findings.len() >= 8, "{findings:?}");
}

/// Each row: what is wrong, the check that tells it, and how bad that is.
#[test]
fn what_breaks_behind_a_gateway_is_told() {
    type Change = fn(&mut Sessions);
    let rows: [(Change, &str, Level); 21] = [
        (|s| s.unknown = Some(400), "unknown_session", Level::Warning),
        (|s| s.unknown = Some(200), "unknown_session", Level::Warning),
        (|s| s.missing = Some(200), "missing_session", Level::Note),
        (|s| s.missing = Some(404), "missing_session", Level::Note),
        (|s| s.id = SessionId::None, "session", Level::Note),
        (|s| s.id = SessionId::Invalid, "session", Level::Warning),
        (|s| s.deleted = Some(405), "delete", Level::Note),
        (|s| s.deleted = Some(500), "delete", Level::Note),
        (|s| s.after_delete = Some(200), "delete", Level::Warning),
        (
            |s| s.second = Second::Refused(400),
            "second_session",
            Level::Warning,
        ),
        (
            |s| s.second = Second::Same,
            "second_session",
            Level::Warning,
        ),
        (
            |s| {
                s.second = Second::Own {
                    differing: vec!["tools/list"],
                }
            },
            "second_session",
            Level::Note,
        ),
        (|s| s.stream = Stream::Refused(405), "stream", Level::Note),
        (
            |s| s.stream = Stream::Refused(404),
            "stream",
            Level::Warning,
        ),
        (|s| s.stream = Stream::NotEvents, "stream", Level::Warning),
        (
            |s| s.event_ids.push("1".to_owned()),
            "event_ids",
            Level::Warning,
        ),
        (|s| s.event_ids.clear(), "resume", Level::Note),
        (
            |s| s.resumed = Some(Resumed::Silent),
            "resume",
            Level::Warning,
        ),
        (
            |s| s.resumed = Some(Resumed::Refused(400)),
            "resume",
            Level::Warning,
        ),
        (|s| s.foreign_origin = Some(200), "origin", Level::Note),
        (|s| s.ids_kept = false, "request_ids", Level::Warning),
    ];
    for (change, check, expected) in rows {
        let seen = with_sessions(change);
        assert_eq!(level(&seen, check), Some(expected), "{check}: {seen:?}");
        let findings = judge(&seen);
        let bad = findings.iter().filter(|f| f.level > Level::Fine);
        assert!(bad.clone().all(|finding| finding.mend.is_some()));
        assert!(is_usable(&findings), "all of these can be lived with");
    }
}

/// Silence is held against a server only after it was waited for.
#[test]
fn a_silent_stream_is_judged_by_how_long_it_was_watched() {
    for (watched, alive, ended, expected) in [
        (2, false, false, Level::Fine),
        (20, false, false, Level::Warning),
        (20, true, false, Level::Fine),
        (2, false, true, Level::Warning),
    ] {
        let watched = Duration::from_secs(watched);
        let seen = with_sessions(|s| {
            s.stream = Stream::Open {
                watched,
                alive,
                ended,
            };
        });
        assert_eq!(level(&seen, "stream"), Some(expected), "{seen:?}");
    }
}

/// 1.4: children that die, are slow, or write what is no message.
#[test]
fn children_are_judged_by_what_they_do_to_their_parent() {
    let good = Stdio {
        first_answer: Some(Duration::from_millis(80)),
        left_after: Some(Duration::from_millis(10)),
        ..Stdio::default()
    };
    type Change = fn(&mut Stdio);
    let rows: [(Change, &str, Level); 6] = [
        (|_| {}, "shutdown", Level::Fine),
        (|s| s.died_on_discover = true, "discover", Level::Note),
        (
            |s| s.first_answer = Some(Duration::from_secs(9)),
            "start",
            Level::Warning,
        ),
        (|s| s.noise = 3, "stdout", Level::Warning),
        (|s| s.left_after = None, "shutdown", Level::Note),
        (|_| {}, "stdout", Level::Fine),
    ];
    for (change, check, expected) in rows {
        let mut stdio = good.clone();
        change(&mut stdio);
        let seen = of(Transport::Stdio(stdio));
        assert_eq!(level(&seen, check), Some(expected), "{check}: {seen:?}");
    }
}

#[test]
fn a_server_without_a_verdict_is_not_usable_and_the_reason_has_a_mend() {
    for why in [
        Why::Unavailable,
        Why::Unauthorized,
        Why::HeadersMissing,
        Why::ForeignEndpoint,
        Why::Version,
        Why::Program,
        Why::NotMcp,
    ] {
        let seen = Observations {
            identity: Err(Unusable {
                why,
                text: "it is so".to_owned(),
            }),
            lists: BTreeMap::new(),
            ..of(Transport::Unknown)
        };
        let findings = judge(&seen);
        assert!(!is_usable(&findings), "{why:?}");
        assert!(findings[0].mend.is_some());
        let shown = report::json(&found(&seen, &findings));
        assert_eq!(shown["usable"], false);
        assert_eq!(shown["checks"][0]["level"], "failure");
        assert!(report::table(&found(&seen, &findings)).contains("it is so"));
    }
}

#[test]
fn a_list_that_fails_though_it_was_announced_is_told() {
    let mut seen = with_sessions(|_| {});
    seen.lists
        .insert("prompts/list", Err("error -32601: no".to_owned()));
    assert_eq!(level(&seen, "lists"), Some(Level::Warning));
}

/// What was not read to its end, or not said to be all, is not said to be all.
#[test]
fn what_may_be_more_is_at_least_that() {
    let mut seen = with_sessions(|_| {});
    let identity = seen.identity.as_mut().unwrap();
    identity.revisions = vec![Revision::V2025_11_25];
    let table = |seen: &Observations| report::table(&found(seen, &judge(seen)));
    assert!(table(&seen).contains("tools/list: 1"), "{}", table(&seen));
    assert!(table(&seen).contains("at least 2025-11-25"));
    let goes_on = List {
        goes_on: true,
        ..names(&["a"])
    };
    seen.lists.insert("tools/list", Ok(goes_on));
    let shown = report::json(&found(&seen, &judge(&seen)));
    assert!(table(&seen).contains("tools/list: at least 1"));
    assert_eq!(shown["unfinished_lists"][0], "tools/list");
}

fn names(names: &[&str]) -> List {
    List {
        names: names.iter().map(ToString::to_string).collect(),
        goes_on: false,
    }
}

/// What a server says does nothing to the terminal, and lines stay short.
#[test]
fn the_table_shows_what_servers_say_as_text() {
    let mut seen = with_sessions(|s| s.unknown = Some(400));
    if let Ok(identity) = &mut seen.identity {
        identity.name = Some("evil\u{1b}[2J\nname".to_owned());
    }
    let table = report::table(&found(&seen, &judge(&seen)));
    assert!(table.contains(r"evil\u{1b}[2J\nname"), "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 100),
        "{table}"
    );
    assert!(table.contains("-> answer 404"), "{table}");
}

/// Programs go by the names of checks: each is explained.
#[test]
fn every_check_is_explained() {
    let operations = include_str!("../../../../../docs/src/operations.md");
    let judgement = include_str!("../judgement.rs");
    let calls = judgement
        .match_indices("self.")
        .chain(judgement.match_indices("findings."));
    // What is said of a pin, beside those of `judgement`.
    let mut names = std::collections::BTreeSet::from(["era"]);
    for (at, _) in calls {
        let call = &judgement[at..];
        let Some((method, rest)) = call.split_once('(') else {
            continue;
        };
        let method = method.rsplit('.').next().unwrap();
        if ["fine", "note", "warning", "add"].contains(&method)
            && let Some(name) = rest.trim_start().strip_prefix('"')
        {
            names.insert(name.split('"').next().unwrap());
        }
    }
    assert!(names.len() >= 19, "{names:?}");
    for name in names {
        assert!(operations.contains(&format!("| `{name}` |")), "{name}");
    }
}
