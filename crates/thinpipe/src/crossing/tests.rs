use std::collections::BTreeSet;

use thinpipe_proto::revision::Binding;

use super::*;
use crate::config::{Manner, Settings, for_url};

const SERVERS: [Server; 5] = [
    Server::HttpSse,
    Server::Sessions,
    Server::LegacyProgram,
    Server::Stateless,
    Server::ModernProgram,
];

fn spec() -> UpstreamSpec {
    let config = for_url(
        "http://h/mcp",
        Manner::default(),
        &Settings::default(),
        &|_| None,
    );
    config.unwrap().gateway.upstreams.remove(0)
}

fn keys(client: Client, server: Server, bridge: &BridgeConfig, has_principals: bool) -> Vec<&str> {
    let crossing = Crossing {
        client,
        server,
        features: Features::ALL,
        bridge,
        resume: Resume::Upstream,
        has_principals,
    };
    crossing.lost().into_iter().map(|lost| lost.key).collect()
}

/// 5.1: two pairs of fifteen are of one transport and one era.
#[test]
fn two_pairs_of_fifteen_pass() {
    let bridge = BridgeConfig::default();
    let passed = Client::ALL.into_iter().flat_map(|client| {
        let bridge = &bridge;
        SERVERS.into_iter().filter(move |&server| {
            let (features, has_principals) = (Features::ALL, false);
            let crossing = Crossing {
                client,
                server,
                features,
                bridge,
                resume: Resume::Upstream,
                has_principals,
            };
            crossing.way() == Way::Passed
        })
    });
    assert_eq!(
        passed.collect::<Vec<_>>(),
        [Server::Sessions, Server::Stateless]
    );
}

/// 5.2.1: what several use, or what the gateway keeps a log of, is not passed.
#[test]
fn sessions_that_are_held_do_not_pass() {
    let way = |sessions, resume| {
        let bridge = BridgeConfig {
            sessions,
            ..BridgeConfig::default()
        };
        let crossing = Crossing {
            client: Client::Sessions,
            server: Server::Sessions,
            features: Features::ALL,
            bridge: &bridge,
            resume,
            has_principals: true,
        };
        crossing.way()
    };
    for (sessions, resume, expected) in [
        (None, Resume::Off, Way::Passed),
        (Some(Sharing::PerClient), Resume::Upstream, Way::Passed),
        (Some(Sharing::Pooled), Resume::Upstream, Way::Bridged),
        (Some(Sharing::Shared), Resume::Upstream, Way::Bridged),
        (None, Resume::Log, Way::Bridged),
    ] {
        assert_eq!(way(sessions, resume), expected, "{sessions:?} {resume:?}");
    }
}

/// A client is given what is nearest to it of what a server speaks.
#[test]
fn a_client_reaches_its_own_era_where_there_is_one() {
    let both = [Server::Stateless, Server::Sessions];
    assert_eq!(Client::Stateless.reaches(&both), Some(Server::Stateless));
    assert_eq!(Client::Sessions.reaches(&both), Some(Server::Sessions));
    assert_eq!(Client::HttpSse.reaches(&both), Some(Server::Sessions));
    assert_eq!(Client::HttpSse.reaches(&both[..1]), Some(Server::Stateless));
    assert_eq!(Client::HttpSse.reaches(&[]), None);
}

/// 5.2 to 5.5: what is lost depends on the pair and on how it is set up.
#[test]
fn what_is_lost_depends_on_the_pair_and_the_settings() {
    let default = BridgeConfig::default();
    let at = |client, server| keys(client, server, &default, true);
    assert!(at(Client::Sessions, Server::Sessions).is_empty());
    assert_eq!(
        at(Client::Stateless, Server::Stateless),
        ["resuming-2026-07-28"]
    );
    assert_eq!(at(Client::HttpSse, Server::Sessions), ["resuming-http-sse"]);
    assert_eq!(
        at(Client::Sessions, Server::LegacyProgram),
        ["questions-without-a-stream"]
    );
    let up = at(Client::Sessions, Server::ModernProgram);
    assert!(
        up.contains(&"roots-list-changed") && up.contains(&"log-before-a-level"),
        "{up:?}"
    );
    let down = at(Client::Stateless, Server::HttpSse);
    assert!(down.contains(&"roots-on-pooled-sessions"), "{down:?}");
    assert!(!down.contains(&"state-between-requests"), "{down:?}");
    let anonymous = keys(Client::Stateless, Server::HttpSse, &default, false);
    assert!(
        anonymous.contains(&"state-between-requests"),
        "{anonymous:?}"
    );
    let silent = BridgeConfig {
        mrtr: Mrtr::Off,
        ..default.clone()
    };
    let silent = keys(Client::Stateless, Server::Sessions, &silent, true);
    assert!(silent.contains(&"questions-switched-off"), "{silent:?}");
    assert!(
        !silent.contains(&"questions-outside-of-calls"),
        "{silent:?}"
    );
}

/// Everything in the table can happen, and is told in its place in the book; every page is of something in
/// the table.
#[test]
fn every_thing_that_cannot_cross_has_its_page() {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src");
    let pages = std::fs::read_dir(format!("{book}/cannot-cross")).expect("the pages");
    let pages: BTreeSet<_> = pages
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let keys: BTreeSet<_> = LOST.iter().map(|lost| format!("{}.md", lost.key)).collect();
    assert_eq!(pages, keys);
    assert!(LOST.is_sorted_by_key(|lost| lost.key));
    let summary = std::fs::read_to_string(format!("{book}/SUMMARY.md")).unwrap();
    let overview = std::fs::read_to_string(format!("{book}/cannot-cross/README.md")).unwrap();
    for page in &pages {
        assert!(
            summary.contains(&format!("(cannot-cross/{page})")),
            "{page}"
        );
        assert!(overview.contains(&format!("({page})")), "{page}");
        let text = std::fs::read_to_string(format!("{book}/cannot-cross/{page}")).unwrap();
        for part in ["## Why", "## What is seen", "## What to do"] {
            assert!(text.contains(part), "{page} lacks {part}");
        }
    }

    let mut seen = BTreeSet::new();
    let sharings = [
        None,
        Some(Sharing::PerClient),
        Some(Sharing::Pooled),
        Some(Sharing::Shared),
    ];
    for (sessions, mrtr) in sharings
        .into_iter()
        .flat_map(|s| [(s, Mrtr::On), (s, Mrtr::Off)])
    {
        let bridge = BridgeConfig {
            sessions,
            mrtr,
            ..BridgeConfig::default()
        };
        for (client, server) in Client::ALL
            .into_iter()
            .flat_map(|c| SERVERS.map(|s| (c, s)))
        {
            for stream in [true, false] {
                let features = Features {
                    stream,
                    ..Features::ALL
                };
                let has_principals = true;
                let bridge = &bridge;
                let crossing = Crossing {
                    client,
                    server,
                    features,
                    bridge,
                    resume: Resume::Upstream,
                    has_principals,
                };
                seen.extend(crossing.lost().into_iter().map(|lost| lost.key));
            }
        }
    }
    assert_eq!(seen.len(), LOST.len());
}

/// The start says who is served, how, and who is not and why.
#[test]
fn the_start_says_who_is_served_and_who_is_not() {
    let mut spec = spec();
    let front = Front {
        legacy: LegacyMode::Served,
        has_principals: false,
        is_sse_over: false,
    };
    let both = [Server::Stateless, Server::Sessions];
    let said = service(&spec, front, &both);
    assert_eq!(
        said,
        "serves clients of HTTP+SSE (bridged), Streamable HTTP with sessions (as it is), 2026-07-28 (as it is)"
    );
    let known = Front {
        has_principals: true,
        ..front
    };
    let said = service(&spec, known, &[Server::LegacyProgram]);
    assert!(
        said.ends_with("2026-07-28 (bridged: sessions by principal and capabilities)"),
        "{said}"
    );
    // Some servers of 2026-07-28 have sessions and do not say so; what is pinned is not tried.
    let said = service(&spec, front, &both[..1]);
    let open = "Streamable HTTP with sessions (as it is if the server has sessions, else bridged), 2026-07-28 (as it is)";
    assert!(said.ends_with(open), "{said}");
    if let Reached::Http(http) = &mut spec.reached {
        http.pin = Some(Binding::Stateless);
    }
    let said = service(&spec, front, &both[..1]);
    let pinned = "Streamable HTTP with sessions (bridged), 2026-07-28 (as it is)";
    assert!(said.ends_with(pinned), "{said}");
    spec.clients = Clients::Legacy;
    spec.sse = None;
    let said = service(&spec, front, &[]);
    assert_eq!(
        said,
        "serves clients of Streamable HTTP with sessions, whatever it turns out to speak; not those of \
         HTTP+SSE (`sse.enabled = false`), 2026-07-28 (`clients = \"legacy\"`)"
    );
}
