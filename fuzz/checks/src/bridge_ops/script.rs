//! What happens in one step: what clients and the transport do, and the clock.

use std::time::Duration;

use thinpipe_proto::bridge::{MemberId, Refused};

use super::judge::judge;
use super::model::{Asked, Kind, State, World, message, request_id};
use super::server::{answer, answer_to, progress, server_asks, server_notifies};

/// Ids that clients choose: of both types, and one value in two spellings.
const IDS: [&str; 6] = ["1", "\"1\"", "2", "\"x\"", "\"\\u0078\"", "-3"];
pub(super) const TOKENS: [Option<&str>; 4] = [None, Some("1"), Some("\"1\""), Some("2")];
/// Ids that the server chooses.
pub(super) const SERVER_IDS: [&str; 4] = ["1", "\"1\"", "\"q\"", "\"\\u0071\""];
pub(super) const URIS: [&str; 3] = ["a", "b", "c"];

pub(super) fn pick<T: Copy>(of: &[T], choice: u8) -> T {
    of[usize::from(choice) % of.len()]
}

/// What clients declare, and what that makes them able to answer.
const DECLARED: [(&str, &[&str]); 6] = [
    (
        r#"{"roots":{},"sampling":{"tools":{}},"elicitation":{"form":{},"url":{}}}"#,
        &["roots", "sampling", "tools", "form", "url"],
    ),
    (r#"{"roots":{}}"#, &["roots"]),
    (r#"{"elicitation":{}}"#, &["form"]),
    (r#"{"elicitation":{"url":{}}}"#, &["url"]),
    (r#"{"sampling":{}}"#, &["sampling"]),
    ("{}", &[]),
];

/// One step of a script.
pub(super) fn step(world: &mut World, kind: u8, a: u8, b: u8, c: u8) {
    world.given_up = None;
    world.speaker = None;
    world.out_of_reach = false;
    match kind % 20 {
        0..=3 => ask(world, a, b, c),
        4 => initialize(world, a, b, c),
        5 => cancel(world, a, b),
        6 => answer_question(world, a, b, c),
        7 => client_progress(world, a, b, c),
        8..=10 => answer(world, a, b, c),
        11 => progress(world, a, b),
        12 => server_asks(world, a, b, c),
        13 => server_notifies(world, a, b),
        14 => pass_time(world, a),
        15 => comes_or_goes(world, a, b),
        16 => unreachable(world, a, b),
        17 => gives_up(world, a, b, c),
        18 => notify(world, a, b),
        _ => settings(world, a, b, c),
    }
}

/// A client's request goes in; the model learns whether it was taken.
fn send(
    world: &mut World,
    member: u64,
    id: &str,
    token: Option<&str>,
    kind: Kind,
    rest: &str,
) -> bool {
    let mark = world.asked.len();
    let method = match kind {
        Kind::Plain => "tools/call",
        Kind::Initialize => "initialize",
        Kind::Level => "logging/setLevel",
        Kind::Subscribe(_) => "resources/subscribe",
        Kind::Unsubscribe(_) => "resources/unsubscribe",
    };
    let meta = token.map_or(String::new(), |token| {
        format!(r#","_meta":{{"progressToken":{token}}}"#)
    });
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"k":{mark}{rest}{meta}}}}}"#
    );
    let in_use = world.open(member, id).is_some();
    let stopped = kind != Kind::Initialize && !in_use && world.is_early(member, id);
    let full = world.machine.in_flight() >= super::model::IN_FLIGHT;
    world.asked.push(Asked {
        member,
        id: id.to_owned(),
        token: token.map(str::to_owned),
        kind,
        open: true,
        written: false,
        started: world.now,
        progress: None,
    });
    let taken = world
        .machine
        .client(MemberId(member), &message(&text), world.now);
    match taken {
        Ok(()) => {
            assert!(!in_use, "invariant 1: an id that is running was taken");
            judge(world);
            let asked = &world.asked[mark];
            assert!(!(stopped && asked.open), "cancelled before it came");
            true
        }
        Err(refused) => {
            let expected = match refused {
                Refused::IdInUse => in_use,
                Refused::TooManyInFlight { .. } => full,
                _ => world.shared,
            };
            assert!(expected, "{refused}");
            assert!(
                world.machine.poll_action().is_none(),
                "a refusal does nothing"
            );
            world.asked.pop();
            false
        }
    }
}

fn ask(world: &mut World, a: u8, b: u8, c: u8) {
    if let Some(member) = world.member(a) {
        send(
            world,
            member,
            pick(&IDS, b),
            pick(&TOKENS, c),
            Kind::Plain,
            "",
        );
    }
}

fn initialize(world: &mut World, a: u8, b: u8, c: u8) {
    let version = if c % 8 == 7 {
        "2025-03-26"
    } else {
        "2025-06-18"
    };
    let (declared, able) = pick(&DECLARED, c / 8);
    let rest = format!(r#","protocolVersion":"{version}","capabilities":{declared}"#);
    let Some(member) = world.member(a) else {
        return;
    };
    let taken = send(world, member, pick(&IDS, b), None, Kind::Initialize, &rest);
    if let Some(client) = world.clients.get_mut(&member).filter(|_| taken) {
        client.able = able;
    }
}

/// The handshake of a client that can be asked for anything, before the run.
pub(super) fn introduce(world: &mut World) {
    initialize(world, 0, 0, 0);
    answer_to(world, 1, true);
}

/// Subscriptions and log levels.
fn settings(world: &mut World, a: u8, b: u8, c: u8) {
    let Some(member) = world.member(a) else {
        return;
    };
    let uri = pick(&URIS, c / 3);
    let (kind, rest) = match c % 3 {
        0 => (
            Kind::Subscribe(uri.to_owned()),
            format!(r#","uri":"{uri}""#),
        ),
        1 => (
            Kind::Unsubscribe(uri.to_owned()),
            format!(r#","uri":"{uri}""#),
        ),
        _ => {
            let level = pick(&["debug", "info", "error"], c / 3);
            (Kind::Level, format!(r#","level":"{level}""#))
        }
    };
    send(world, member, pick(&IDS, b), None, kind, &rest);
}

fn cancel(world: &mut World, a: u8, b: u8) {
    let (Some(member), id) = (world.member(a), pick(&IDS, b)) else {
        return;
    };
    world.given_up = world.open(member, id);
    if world.given_up.is_none() {
        world.remember_early(member, id);
    }
    tell(
        world,
        member,
        "notifications/cancelled",
        &format!(r#"{{"requestId":{id}}}"#),
    );
    gone(world);
}

/// What was given up is over, except for `initialize`.
fn gone(world: &World) {
    if let Some(mark) = world.given_up {
        let asked = &world.asked[mark];
        assert_eq!(asked.open, asked.kind == Kind::Initialize, "{asked:?}");
    }
}

fn tell(world: &mut World, member: u64, method: &str, params: &str) {
    let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
    world.speaker = Some(member);
    let taken = world
        .machine
        .client(MemberId(member), &message(&text), world.now);
    assert_eq!(taken, Ok(()), "notifications are taken");
    judge(world);
}

fn notify(world: &mut World, a: u8, b: u8) {
    let method = pick(
        &[
            "notifications/initialized",
            "notifications/roots/list_changed",
            "notifications/x",
        ],
        b,
    );
    if let Some(member) = world.member(a) {
        tell(world, member, method, "{}");
    }
}

fn client_progress(world: &mut World, a: u8, b: u8, c: u8) {
    let token = pick(&TOKENS, b).unwrap_or("7");
    let params = format!(r#"{{"progressToken":{token},"progress":{}}}"#, c % 8);
    if let Some(member) = world.member(a) {
        tell(world, member, "notifications/progress", &params);
    }
}

fn answer_question(world: &mut World, a: u8, b: u8, c: u8) {
    let Some(member) = world.member(a) else {
        return;
    };
    let id = pick(&SERVER_IDS, b);
    let answer = if c.is_multiple_of(4) {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-1,"message":""}}}}"#)
    } else {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"by":{member}}}}}"#)
    };
    world.speaker = Some(member);
    let taken = world
        .machine
        .client(MemberId(member), &message(&answer), world.now);
    assert_eq!(taken, Ok(()));
    judge(world);
    assert!(
        world.question(&request_id(id)).is_none(),
        "invariant 5: it is answered"
    );
}

fn pass_time(world: &mut World, a: u8) {
    let seconds = pick(&[0, 1, 2, 5, 31, 61, 300, 660], a);
    if seconds > 60 {
        // Whatever is running about a resource may time out.
        let running = world
            .received
            .values()
            .filter(|r| r.state == State::Running);
        let uris: Vec<String> = running.filter_map(|r| r.uri.clone()).collect();
        world.murky.extend(uris);
    }
    world.pass(Duration::from_secs(seconds));
}

fn comes_or_goes(world: &mut World, a: u8, b: u8) {
    // Mostly coming, so that there is somebody.
    if !b.is_multiple_of(4) {
        return world.attach();
    }
    if let Some(member) = world.member(a) {
        leave(world, member);
    }
}

pub(super) fn leave(world: &mut World, member: u64) {
    world.out_of_reach = true;
    // It gets nothing any more, not even on the way out (invariants 8 and 14).
    world.clients.remove(&member);
    for asked in &mut world.asked {
        if asked.member == member {
            asked.open = false;
        }
    }
    world.machine.detach(MemberId(member), world.now);
    judge(world);
    let asked = world
        .questions
        .iter()
        .any(|q| q.open && q.member == Some(member));
    assert!(!asked, "invariant 5");
    assert_eq!(world.over, !world.shared, "invariant 14");
}

fn unreachable(world: &mut World, a: u8, b: u8) {
    let id = request_id(pick(&SERVER_IDS, b));
    let Some(member) = world.member(a) else {
        return;
    };
    world.out_of_reach = true;
    world
        .machine
        .undeliverable(MemberId(member), &id, world.now);
    judge(world);
    assert!(world.question(&id).is_none());
}

/// The transport gives up a request, or the whole upstream.
fn gives_up(world: &mut World, a: u8, b: u8, c: u8) {
    match c % 8 {
        0 => {
            world.machine.upstream_lost("it ended");
            judge(world);
            assert!(
                world.over && world.asked.iter().all(|asked| !asked.open),
                "invariant 1"
            );
        }
        1..=3 => {
            let known: Vec<u64> = world.received.keys().copied().collect();
            if !known.is_empty() {
                fail(world, pick(&known, a));
            }
        }
        _ => {
            let (Some(member), id) = (world.member(a), pick(&IDS, b)) else {
                return;
            };
            world.given_up = world.open(member, id);
            world
                .machine
                .abandon(MemberId(member), &request_id(id), world.now);
            judge(world);
            gone(world);
        }
    }
}

fn fail(world: &mut World, id: u64) {
    let received = world.received.get_mut(&id).expect("it was written");
    if received.state == State::Running {
        received.state = State::Over;
    }
    if let Some(uri) = received.uri.clone() {
        world.murky.insert(uri);
    }
    let call = received.call;
    world
        .machine
        .write_failed(call, "upstream_unavailable", "no", world.now);
    judge(world);
}
