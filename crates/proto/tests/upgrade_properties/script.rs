//! What happens in one step: what the client and the transport do, and the clock.

use std::time::Duration;

use serde_json::json;
use thinpipe_proto::bridge::Refused;

use super::judge::judge;
use super::model::{Asked, IN_FLIGHT, Kind, SUBSCRIPTIONS, World, message, request_id};
use super::server;

/// Ids that clients choose: of both types, and one value in two spellings.
const IDS: [&str; 6] = ["1", "\"1\"", "2", "\"x\"", "\"\\u0078\"", "-3"];
const TOKENS: [Option<&str>; 4] = [None, Some("1"), Some("\"1\""), Some("2")];
pub(super) const URIS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

pub(super) fn pick<T: Clone>(of: &[T], choice: u8) -> T {
    of[usize::from(choice) % of.len()].clone()
}

/// One step of a script.
pub(super) fn step(world: &mut World, [kind, a, b, c]: [u8; 4]) {
    world.begin();
    match kind % 24 {
        0..=2 => ask(world, a, b, c),
        3 | 4 => subscribe(world, a, b, c),
        5 => cancel(world, a),
        6 | 7 => reply(world, a, b),
        8 => alive(world, a),
        9..=11 => server::completes(world, a),
        12 | 13 => server::asks(world, a, b, c),
        14 => server::progresses(world, a, b),
        15 => server::announces(world, a),
        16 | 17 => server::acknowledges(world, a, b),
        18 => server::fails(world, a, b),
        19 => server::refuses(world, a, b),
        20 => server::says(world, a, b),
        21 => pass(world, a),
        22 => stream(world, a),
        _ => rare(world, a, b),
    }
}

/// One step that has to do with subscriptions.
pub(super) fn subscription_step(world: &mut World, [kind, a, b, c]: [u8; 4]) {
    world.begin();
    match kind % 16 {
        0..=5 => subscribe(world, a, b, c),
        6..=9 => server::acknowledges(world, a, b),
        10..=12 => server::announces(world, a),
        13 => server::fails(world, a, b),
        14 => pass(world, a),
        _ if b % 4 == 0 => cancel(world, a),
        _ => stream(world, a),
    }
}

fn ask(world: &mut World, a: u8, b: u8, c: u8) {
    let kinds = [
        ("tools/call", Kind::Call),
        ("tools/call", Kind::Call),
        ("resources/read", Kind::Read),
        ("resources/list", Kind::List),
        ("ping", Kind::Here),
    ];
    let (method, kind) = pick(&kinds, a);
    let mark = world.asked.len();
    let token = pick(&TOKENS, c);
    let meta = token.map_or_else(String::new, |t| {
        format!(r#","_meta":{{"progressToken":{t}}}"#)
    });
    let params = format!(r#"{{"name":"t","k":{mark}{meta}}}"#);
    take(world, pick(&IDS, b), method, &params, kind, token);
}

fn subscribe(world: &mut World, a: u8, b: u8, c: u8) {
    let uri = pick(&URIS, a);
    let params = json!({"uri": uri}).to_string();
    let id = pick(&IDS, b);
    if c.is_multiple_of(3) {
        let kind = Kind::Unsubscribe(uri.to_owned());
        take(world, id, "resources/unsubscribe", &params, kind, None);
    } else {
        let kind = Kind::Subscribe(uri.to_owned());
        take(world, id, "resources/subscribe", &params, kind, None);
    }
}

/// The client sends a request.
fn take(world: &mut World, id: &str, method: &str, params: &str, kind: Kind, token: Option<&str>) {
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
    let (in_use, now) = (world.open(&request_id(id)), world.now);
    let open = world.asked.iter().filter(|asked| asked.open).count();
    // Before it is given: what comes of it at once is judged against it.
    world.asked.push(Asked {
        id: id.to_owned(),
        kind,
        token: token.map(str::to_owned),
        open: true,
        done: false,
        started: now,
        progress: None,
        writes: 0,
        may: 1,
        causes: Default::default(),
        round: None,
        seen: 0,
    });
    let taken = world.machine.client(&message(&text), now);
    match taken {
        Ok(()) => assert_eq!(in_use, None, "an id that is in use"),
        Err(refused) => {
            world.asked.pop();
            match refused {
                Refused::IdInUse => assert!(in_use.is_some()),
                Refused::TooManyInFlight { .. } => assert!(open >= IN_FLIGHT),
                Refused::TooManySubscriptions { .. } => {
                    let waiting = world
                        .asked
                        .iter()
                        .filter(|asked| asked.open && matches!(asked.kind, Kind::Subscribe(_)));
                    assert!(world.wants.len() + waiting.count() >= SUBSCRIPTIONS);
                }
                other => panic!("refused: {other}"),
            }
        }
    }
    judge(world);
}

fn cancel(world: &mut World, a: u8) {
    let id = pick(&IDS, a);
    let known = request_id(id);
    world.given_up = world.open(&known);
    if world.given_up.is_none() {
        world.remember_early(known);
    }
    let params = format!(r#"{{"requestId":{id}}}"#);
    tell(world, "notifications/cancelled", &params);
    let given_up = world.given_up.map(|mark| world.asked[mark].open);
    assert_ne!(
        given_up,
        Some(true),
        "invariant 2: a cancelled request is over"
    );
}

fn tell(world: &mut World, method: &str, params: &str) {
    let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#);
    world.machine.client(&message(&text), world.now).unwrap();
    judge(world);
}

/// The client answers a question: one that is open, or any other.
fn reply(world: &mut World, a: u8, b: u8) {
    let count = world.prompts.len();
    let at = (count > 0).then(|| count - 1 - usize::from(a) % count.min(4));
    let id = at.map_or_else(|| "77".to_owned(), |at| world.prompts[at].id.clone());
    world.said += 1;
    let (answer, result) = match b % 6 {
        0 => (r#""error":{"code":-1,"message":"no"}"#.to_string(), None),
        1 => (r#""result":[]"#.to_owned(), None),
        _ => {
            let result = json!({"said": world.said});
            (format!(r#""result":{result}"#), Some(result))
        }
    };
    if let Some(prompt) = at
        .map(|at| &mut world.prompts[at])
        .filter(|prompt| prompt.open)
    {
        prompt.open = false;
        let (mark, key) = (prompt.mark, prompt.key.clone());
        if let (Some(result), Some(round)) = (result, &mut world.asked[mark].round) {
            round.answers.insert(key, result);
        }
    }
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#);
    world.machine.client(&message(&text), world.now).unwrap();
    judge(world);
}

fn alive(world: &mut World, a: u8) {
    let count = world.prompts.len().max(1);
    let prompt = world.prompts.get(usize::from(a) % count);
    let token = prompt.map_or("5", |prompt| &prompt.id).to_owned();
    let params = format!(r#"{{"progressToken":{token},"progress":1}}"#);
    tell(world, "notifications/progress", &params);
}

fn pass(world: &mut World, a: u8) {
    let times = [1, 100, 300, 1000, 9000, 61_000, 200_000, 600_000];
    world.pass(Duration::from_millis(pick(&times, a)));
}

fn stream(world: &mut World, a: u8) {
    if a.is_multiple_of(2) && world.streams < 3 {
        world.streams += 1;
        world.machine.stream_opened(world.now);
    } else if world.streams > 0 {
        world.streams -= 1;
        world.machine.stream_closed(world.now);
    }
    judge(world);
}

/// The client is there, and wants to be told.
pub(super) fn come(world: &mut World) {
    world.begin();
    tell(world, "notifications/initialized", "{}");
    world.streams += 1;
    world.machine.stream_opened(world.now);
    judge(world);
}

fn rare(world: &mut World, a: u8, b: u8) {
    match a % 12 {
        0..=3 => {
            let open = world
                .prompts
                .iter_mut()
                .filter(|prompt| prompt.open)
                .nth(usize::from(b % 3));
            if let Some(prompt) = open {
                prompt.open = false;
                let id = request_id(&prompt.id);
                world.machine.undeliverable(&id, world.now);
            }
        }
        4..=6 => {
            let id = request_id(pick(&IDS, b));
            world.given_up = world.open(&id);
            world.machine.abandon(&id, world.now);
        }
        7 | 8 => tell(world, "notifications/initialized", "{}"),
        9 | 10 => {
            let id = "\"level\"";
            world.logs = true;
            let params = r#"{"level":"info"}"#;
            take(world, id, "logging/setLevel", params, Kind::Here, None);
        }
        _ if b.is_multiple_of(8) => {
            world.lost = true;
            world.machine.upstream_lost("it ended");
        }
        _ => {}
    }
    judge(world);
}
