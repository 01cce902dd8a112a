//! The sets of measurements.

mod nodes;

use std::time::Duration;

use super::nodes::Nodes;
use super::target::Target;
use crate::message::Call;

/// Where the figures of a set are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Page {
    /// Proxies, over Streamable HTTP on both sides.
    Gateway,
    /// Servers on the library, HTTP+SSE, and servers on stdio behind the gateway.
    Servers,
    /// Clients of one era in front of a server of the other.
    Bridges,
    /// Several gateways with a store, what sessions cost, and what is left after load.
    Nodes,
}

impl Page {
    pub(crate) const ALL: [Self; 4] = [Self::Gateway, Self::Servers, Self::Bridges, Self::Nodes];
}

/// One kind of measurement, done to each of its targets.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) page: Page,
    pub(crate) about: &'static str,
    pub(crate) work: Work,
    pub(crate) targets: &'static [Target],
    /// Rounds are cut to this many, for what is slow and hardly varies.
    pub(crate) rounds: usize,
}

#[derive(Clone, Copy)]
pub(crate) enum Work {
    Load(Load),
    /// This many clients hold a listening stream on which nothing happens.
    Idle {
        streams: usize,
    },
    /// This many clients stop reading a stream without end.
    Stalled {
        streams: usize,
    },
    /// This many calls wait for what their clients were asked.
    Parked {
        calls: usize,
    },
    /// The process is started and asked at once.
    Start,
    /// This many clients stay connected.
    Connections {
        clients: usize,
    },
    /// This many clients connect and leave.
    Cycles {
        clients: usize,
    },
    Nodes(Nodes),
}

/// Calls over a number of connections, one session and one call at a time on each.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    pub(crate) call: Call,
    pub(crate) drive: Drive,
    pub(crate) stateless: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Drive {
    /// Each connection's next call follows its last answer.
    Closed,
    /// Calls by the clock, this many a second over all connections.
    Open { rate: f64 },
    /// Each call is answered by a stream of events.
    Stream,
}

/// What of the sets can be chosen.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct Choices {
    /// Calls a second of the open loop.
    #[arg(long, default_value_t = 5000.0)]
    pub(crate) rate: f64,
    /// Seconds that clients stay in the scenarios in which they stay.
    #[arg(long, default_value_t = 10)]
    pub(crate) hold: u64,
    /// Seconds of mixed load.
    #[arg(long, default_value_t = 60)]
    pub(crate) soak: u64,
}

/// What is chosen where nobody chooses.
#[cfg(test)]
impl Default for Choices {
    fn default() -> Self {
        Self {
            rate: 1.0,
            hold: 1,
            soak: 1,
        }
    }
}

/// Every set, in the order in which they run.
pub(crate) fn all(choices: Choices) -> Vec<Set> {
    let mut sets = loads(choices.rate);
    let mut add = |name, about, work, targets, rounds| {
        sets.push(Set {
            name,
            page: Page::Gateway,
            about,
            work,
            targets,
            rounds,
        });
    };
    for (name, streams, rounds) in [("idle1000", 1_000, 3), ("idle9500", 9_500, 2)] {
        let about = "GET streams with nothing on them, one session each, in a fresh process";
        add(name, about, Work::Idle { streams }, PROXIES, rounds);
    }
    let about =
        "eight clients stop reading an endless stream of 1,000-byte events for 6 s, fresh process";
    add("slow", about, Work::Stalled { streams: 8 }, PROXIES, 3);
    let about = "from the start of the process to the first answer through it, median of 5 starts";
    add("start", about, Work::Start, PROXIES, usize::MAX);
    sets.extend(servers());
    sets.extend(bridges());
    let (hold, soak) = (choices.hold, choices.soak);
    sets.extend(nodes::sets(
        Duration::from_secs(hold),
        Duration::from_secs(soak),
    ));
    sets
}

fn bridges() -> [Set; 3] {
    let load = |stateless| {
        Work::Load(Load {
            connections: 32,
            call: Call::SMALL,
            drive: Drive::Closed,
            stateless,
        })
    };
    let set = |name, about, work, targets, rounds| Set {
        name,
        page: Page::Bridges,
        about,
        work,
        targets,
        rounds,
    };
    [
        set(
            "upgrade",
            "clients with sessions, closed loop, 32 connections, 200-byte results: the server has sessions \
             (`pass`), or is a server of 2026-07-28 only (`upgrade`)",
            load(false),
            &[Target::Pass, Target::Upgrade],
            usize::MAX,
        ),
        set(
            "downgrade",
            "clients of 2026-07-28, closed loop, 32 connections, 200-byte results: so is the server (`pass`), \
             or it has sessions only (`downgrade`)",
            load(true),
            &[Target::Pass, Target::Downgrade],
            usize::MAX,
        ),
        set(
            "parked",
            "clients of 2026-07-28 call a tool of a server with sessions, which asks them; each call waits for \
             its retry, fresh process",
            Work::Parked { calls: 1_000 },
            &[Target::Downgrade],
            3,
        ),
    ]
}

fn servers() -> Vec<Set> {
    let load = |connections| {
        Work::Load(Load {
            connections,
            call: Call {
                bytes: 200,
                ..Call::default()
            },
            drive: Drive::Closed,
            stateless: false,
        })
    };
    let table: [(_, _, _, &[Target], _); 9] = [
        (
            "library",
            "a server of one thread; closed loop, 32 clients, 200-byte results",
            load(32),
            SERVERS,
            usize::MAX,
        ),
        (
            "single",
            "as library, with one client",
            load(1),
            SERVERS,
            usize::MAX,
        ),
        (
            "beside",
            "as library, over Streamable HTTP: without and with 1,000 idle streams of HTTP+SSE on the same \
             server. `again` is the same as `library`: what noise there is",
            load(32),
            BESIDE,
            usize::MAX,
        ),
        (
            "clients1000",
            "1,000 clients that stay connected after a call, in a fresh process; then one call of each",
            Work::Connections { clients: 1_000 },
            SERVERS,
            3,
        ),
        (
            "clients10000",
            "as clients1000, with 10,000 over one connection each",
            Work::Connections { clients: 10_000 },
            &[Target::Bare, Target::Library],
            2,
        ),
        (
            "cycles",
            "10,000 clients of HTTP+SSE connect, make a call and leave; then what is left beyond the base line",
            Work::Cycles { clients: 10_000 },
            &[Target::HttpSse],
            3,
        ),
        (
            "rest",
            "from the start of the process to the first answer, median of 5 starts, and memory after that",
            Work::Start,
            &[Target::Bare, Target::Library],
            3,
        ),
        (
            "stdio",
            "closed loop, 8 clients, each with a server of its own behind the gateway; 200-byte results",
            load(8),
            &[Target::Stdio],
            usize::MAX,
        ),
        (
            "stdio1",
            "as stdio, with one client",
            load(1),
            &[Target::Stdio],
            usize::MAX,
        ),
    ];
    let set = |(name, about, work, targets, rounds)| Set {
        name,
        page: Page::Servers,
        about,
        work,
        targets,
        rounds,
    };
    table.into_iter().map(set).collect()
}

fn loads(rate: f64) -> Vec<Set> {
    let json = |bytes| Call {
        bytes,
        ..Call::default()
    };
    let events = |bytes, events, rate, batch| Call {
        bytes,
        events,
        rate,
        batch,
        ..Call::default()
    };
    let closed = Drive::Closed;
    let load = |connections, call, drive| Load {
        connections,
        call,
        drive,
        stateless: false,
    };
    let stateless = Load {
        stateless: true,
        ..load(32, json(200), closed)
    };
    let table: [(_, _, _, &[Target]); 8] = [
        (
            "json",
            "closed loop, 32 connections, 200-byte results",
            load(32, json(200), closed),
            ALL,
        ),
        (
            "json16k",
            "closed loop, 32 connections, 16 KiB results",
            load(32, json(16_384), closed),
            ALL,
        ),
        (
            "stateless",
            "as json, in revision 2026-07-28 without sessions",
            stateless,
            ALL,
        ),
        (
            "open",
            "open loop, 32 connections, calls by the clock; latency from when a call was due",
            load(32, json(200), Drive::Open { rate }),
            ALL,
        ),
        (
            "sse",
            "8 streams flat out, events with 200 bytes of text, one write each",
            load(8, events(200, 5_000, 0.0, 1), Drive::Stream),
            ALL,
        ),
        (
            "bulk",
            "8 streams flat out, 4 KiB events, 8 a write",
            load(8, events(4_096, 5_000, 0.0, 8), Drive::Stream),
            ALL,
        ),
        (
            "paced",
            "32 streams of 300 events/s each; age of an event on arrival",
            load(32, events(200, 600, 300.0, 1), Drive::Stream),
            ALL,
        ),
        (
            "chain",
            "32 streams of 313 events/s each (10,000 in all) through 0, 1, 5 and 10 interceptors",
            load(32, events(200, 626, 313.0, 1), Drive::Stream),
            CHAINS,
        ),
    ];
    let set = |(name, about, load, targets)| Set {
        name,
        page: Page::Gateway,
        about,
        work: Work::Load(load),
        targets,
        rounds: usize::MAX,
    };
    table.into_iter().map(set).collect()
}

const ALL: &[Target] = &[
    Target::Direct,
    Target::Floor,
    Target::Nginx,
    Target::Pass,
    Target::Inspect(3),
];
const PROXIES: &[Target] = &[
    Target::Floor,
    Target::Nginx,
    Target::Pass,
    Target::Inspect(3),
];
const CHAINS: &[Target] = &[
    Target::Pass,
    Target::Inspect(1),
    Target::Inspect(5),
    Target::Inspect(10),
];
const SERVERS: &[Target] = &[Target::Bare, Target::Library, Target::HttpSse];
const BESIDE: &[Target] = &[Target::Library, Target::Again, Target::Beside];
