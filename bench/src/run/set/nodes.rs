//! Several gateways with a store, what sessions and logged events cost, and load as users bring it (F12, F15, F16, G5,
//! J5-J10).

use std::time::Duration;

use super::{Drive, Load, Page, Set, Work};
use crate::message::Call;
use crate::run::nodes::{Nodes, Scenario};
use crate::run::target::Target;

/// `hold` is how long clients stay who stay, `soak` how long mixed load goes on.
pub(super) fn sets(hold: Duration, soak: Duration) -> Vec<Set> {
    let set = |name, about, work, targets, rounds| Set {
        name,
        page: Page::Nodes,
        about,
        work,
        targets,
        rounds,
    };
    let nodes =
        |name, about, work, targets, rounds| set(name, about, Work::Nodes(work), targets, rounds);
    let load = |name, about, load, targets| set(name, about, Work::Load(load), targets, usize::MAX);
    let mut sets = vec![
        load(
            "sessions",
            "closed loop, 32 connections, 200-byte results; sessions in memory (`pass`), and in Redis",
            CALLS,
            EITHER,
        ),
        load(
            "log",
            "8 streams flat out, events with 200 bytes of text, one write each, through three interceptors: with \
             the server's ids if any (`inspect`), and with the gateway's own and a log of them",
            STREAMS,
            &[Target::Inspect(3), Target::Log(3), Target::LogRedis(3)],
        ),
        load(
            "log-paced",
            "as log, with 32 streams of 300 events/s each",
            Load {
                connections: 32,
                call: Call {
                    events: 600,
                    rate: 300.0,
                    ..STREAMS.call
                },
                ..STREAMS
            },
            &[Target::Inspect(3), Target::Log(3), Target::LogRedis(3)],
        ),
        nodes(
            "resume",
            "streams of calls that their clients left, resumed 100 events of 200 bytes later, from the first byte of \
             a new connection to the last of these events, one client at a time",
            Nodes::Resume,
            &[Target::Log(0), Target::LogRedis(0)],
            3,
        ),
        nodes(
            "kill",
            "kill -9 of the node that opened 16 sessions (and owns them, where they are held: `log+redis`); from \
             then on until another node has answered a call in each of them",
            Nodes::Kills { kills: 3 },
            &[Target::Redis, Target::LogRedis(0)],
            3,
        ),
        nodes(
            "idle-sessions",
            "10,000 sessions that clients of one program have opened, without a call, and left open; fresh \
             processes",
            Nodes::Sessions { sessions: 10_000 },
            EITHER,
            3,
        ),
        nodes(
            "rolling",
            "10,000 sessions over three nodes, 25 clients that call in them at one node after the other, a new \
             connection each time; each node is ended (SIGTERM) and replaced in turn",
            Nodes::Rolling { sessions: 10_000 },
            &[Target::Redis, Target::LogRedis(0)],
            3,
        ),
        nodes(
            "store",
            "the store by itself, 10,000 sessions in Redis, one operation at a time; a page of `list` is 100 sessions",
            Nodes::Latency { sessions: 10_000 },
            &[Target::Redis],
            3,
        ),
        nodes(
            "kept",
            "48 streams of 1,000 messages (200 bytes of text), read to their ends and kept, fresh processes",
            Nodes::Logged,
            &[Target::Log(0), Target::LogRedis(0)],
            3,
        ),
        nodes(
            "half-open",
            "8 clients with silent streams whose kernels take in nothing any more, and acknowledge nothing; until \
             the gateway has ended their streams at the server",
            Nodes::HalfOpen { clients: 8 },
            &[Target::Pass],
            1,
        ),
        load(
            "tracking",
            "8 streams flat out, events with 200 bytes of text and ids, one write each; the gateway keeps the last id in \
             mind (`pass`), or does not resume its server (`untracked`)",
            Load {
                call: Call {
                    ids: true,
                    ..STREAMS.call
                },
                ..STREAMS
            },
            &[Target::Pass, Target::Untracked],
        ),
        load(
            "callers500",
            "closed loop, 500 connections with a session each, 200-byte results",
            Load {
                connections: 500,
                ..CALLS
            },
            EITHER,
        ),
        load(
            "callers1000",
            "as callers500, with 1,000",
            Load {
                connections: 1_000,
                ..CALLS
            },
            EITHER,
        ),
        nodes(
            "soak",
            "mixed load by 40 clients, 800 turns a second: of 100, 60 calls, 20 lists, 10 streamed calls, 5 new \
             sessions, 5 streams that are left before their end. The slopes are those of the last two thirds",
            Nodes::Soak { lasts: soak },
            &[Target::Redis],
            1,
        ),
    ];
    let scenarios = [
        (
            "ramp",
            "10, 30, 100, 300 and 1,000 clients that call without a pause",
            Scenario::Ramp { lasts: hold },
        ),
        (
            "burst",
            "1,000 clients at once, three times, ten calls each",
            Scenario::Burst,
        ),
        (
            "hold",
            "500 clients that call once a second",
            Scenario::Hold { lasts: hold },
        ),
        (
            "churn",
            "100 new clients a second, a call each",
            Scenario::Churn { lasts: hold },
        ),
        (
            "streams",
            "100 streams of ten events a second each",
            Scenario::Streams { lasts: hold },
        ),
    ];
    for (name, about, scenario) in scenarios {
        let work = Nodes::Scenario(scenario);
        sets.push(nodes(name, about, work, &[Target::Redis], 1));
    }
    sets
}

const EITHER: &[Target] = &[Target::Pass, Target::Redis];

const CALLS: Load = Load {
    connections: 32,
    call: Call::SMALL,
    drive: Drive::Closed,
    stateless: false,
};
const STREAMS: Load = Load {
    connections: 8,
    call: Call {
        events: 5_000,
        batch: 1,
        ..Call::SMALL
    },
    drive: Drive::Stream,
    stateless: false,
};
