//! Gateways, clients and servers in one process, on a network that loses, delays and cuts, and a clock that waits
//! for nobody (G10, C22): whatever happens, the invariants of protocol notes 5.9 hold, as far as a client or
//! a server sees them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod caller;
mod client;
mod ledger;
mod listener;
mod log;
mod node;
mod process;
mod seeds;
mod server;
mod settings;
mod stateless;
mod store;
mod world;

use ledger::Figures;

/// Without faults every call is answered, and nothing is lost.
#[test]
fn g10_in_calm_weather_every_call_is_answered() {
    let figures = seeds::run(settings::CALM, 6);
    let Figures {
        calls, told, lost, ..
    } = figures;
    assert!(calls > 0 && told == 0 && lost == 0, "{figures:?}");
}

/// G3, G10; 5.9, 1 and 21: one gateway, connections break.
#[test]
fn g10_connections_break() {
    let figures = seeds::run(settings::BREAKING, 15);
    assert!(
        figures.resumed > 0 && figures.answered > figures.told,
        "{figures:?}"
    );
}

/// F8, F9, G10; 5.9, 1, 3 and 25: any of three gateways is killed, and sessions go on at the others.
#[test]
fn f9_gateways_are_killed() {
    let figures = seeds::run(settings::KILLED, 15);
    assert!(
        figures.resumed > 0 && figures.answered > figures.told,
        "{figures:?}"
    );
}

/// F17, G10: the store fails and is out of reach.
#[test]
fn f17_the_store_fails() {
    seeds::run(settings::STORELESS, 12);
}

/// G10: the server loses its sessions.
#[test]
fn g10_the_server_loses_its_sessions() {
    let figures = seeds::run(settings::FORGETFUL, 10);
    assert!(figures.lost > 0, "{figures:?}");
}

/// A30, F8, G10: sessions that one node holds, asked for at any.
#[test]
fn a30_sessions_are_held_by_one_node() {
    let figures = seeds::run(settings::HELD, 8);
    assert!(figures.told == 0 && figures.lost == 0, "{figures:?}");
}

/// G10; 5.9, 1, 3 and 25: a node that holds sessions is killed.
#[test]
fn g10_nodes_that_hold_sessions_are_killed() {
    seeds::run(settings::HELD_KILLED, 15);
}

/// C22, G10: nodes are asked to stop, and others go on.
#[test]
fn c22_gateways_are_restarted() {
    let figures = seeds::run(settings::RESTARTED, 8);
    let Figures {
        lost, unanswered, ..
    } = figures;
    assert!(lost == 0 && unanswered == 0, "{figures:?}");
}

/// F17, G10; 5.9, 25: the store fails for nodes that hold sessions.
#[test]
fn f17_the_store_fails_nodes_that_hold_sessions() {
    seeds::run(settings::HELD_STORELESS, 10);
}

/// F17, G10; 5.9, 1, 3, 4 and 25: the same, and they are killed, and connections break.
#[test]
fn g10_everything_befalls_nodes_that_hold_sessions() {
    seeds::run(settings::EVERYTHING, 15);
}

/// F6, G10; 5.9, 3, 7 and 8: clients of one principal share sessions of the server, on each of two nodes.
#[test]
fn f6_clients_share_sessions_of_the_server() {
    let figures = seeds::run(settings::POOLED, 12);
    assert!(figures.answered > figures.told, "{figures:?}");
}

/// F6, G10; 5.9, 3, 7 and 8: all clients share one session of the server, on each of two nodes.
#[test]
fn f6_all_clients_share_one_session_of_the_server() {
    let figures = seeds::run(settings::SHARED, 12);
    assert!(figures.answered > figures.told, "{figures:?}");
}

/// G4, G10; 5.9, 1, 3 and 4: a server of two replicas, of which each may be killed, as may gateways.
#[test]
fn g10_replicas_of_a_server_are_killed() {
    let figures = seeds::run(settings::REPLICAS, 12);
    assert!(
        figures.lost > 0 && figures.answered > figures.told,
        "{figures:?}"
    );
}

/// R233, G10; 5.9, 1, 3, 4, 7 and 14: clients of 2026-07-28 use a server with sessions, over any of two nodes. What it
/// asks is answered at any of them.
#[test]
fn g10_clients_without_sessions_use_a_server_with_sessions() {
    let figures = seeds::run(settings::DOWNGRADED, 8);
    // Most that are told so have found no gateway: they come back at once.
    assert!(
        figures.asked > 0 && figures.answered > 2 * figures.unanswered,
        "{figures:?}"
    );
}

/// G10; 5.9, 1: no event is lost and none comes twice over 5,000 resumes, on any node.
#[test]
fn g10_streams_that_pass_are_resumed_thousands_of_times() {
    let figures = seeds::run(settings::HAILING, 36);
    assert!(figures.resumed >= 5_000, "{figures:?}");
}

/// G10; 5.9, 1: the same over 5,000 others, with histories that gateways keep.
#[test]
fn g10_streams_that_are_held_are_resumed_thousands_of_times() {
    let figures = seeds::run(settings::HELD_HAILING, 40);
    assert!(figures.resumed >= 5_000, "{figures:?}");
}

/// G10: a seed that fails is of use, as it fails each time.
#[test]
fn g10_a_seed_has_its_world() {
    for (name, setting) in settings::ALL {
        seeds::repeat(name, setting, 1);
    }
}
