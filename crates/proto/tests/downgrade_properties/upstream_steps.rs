//! What the upstream says in one step.

use super::judge::judge;
use super::steps::{URIS, pick};
use super::world::{Life, QUESTIONS, Question, State, World};
use thinpipe_proto::bridge::downgrade::Channel;

/// Ids that the server chooses.
const SERVER_IDS: [&str; 5] = ["1", "\"1\"", "\"q\"", "2", "3"];
const INITIALIZED: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"prompts":{},"completions":{},"logging":{}},"serverInfo":{"name":"s"}}"#;

/// The handshake is answered.
pub(super) fn open(world: &mut World) {
    if world.over || world.open || !world.is_running(1) {
        return;
    }
    world.received.get_mut(&1).expect("initialize").state = State::Over;
    world.open = true;
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{INITIALIZED}}}"#);
    world.hears(&text, None);
}

/// A request is answered, or one that was, or was cancelled, is answered again.
pub(super) fn answer(world: &mut World, a: u8, b: u8, c: u8) {
    let numbers = world.numbers();
    if numbers.is_empty() {
        return open(world);
    }
    let running = numbers
        .iter()
        .copied()
        .filter(|number| world.is_running(*number));
    let running: Vec<u64> = running.collect();
    let number = match running.is_empty() || b == 0 {
        true => pick(&numbers, a),
        false => pick(&running, a),
    };
    answer_to(world, number, c);
}

pub(super) fn answer_to(world: &mut World, number: u64, c: u8) {
    if world.over {
        return;
    }
    let received = world.received.get_mut(&number).expect("received");
    let was = std::mem::replace(&mut received.state, State::Over);
    let (mark, uri) = (received.mark, received.uri.clone());
    let fails = c % 8 == 7;
    if let Some(uri) = uri
        && was == State::Running
        && !fails
    {
        match received.method.as_str() {
            "resources/subscribe" => world.held.insert(uri),
            _ => world.held.remove(&uri),
        };
    } else if let Some(uri) = received.uri.clone()
        && was == State::Running
        && received.method == "resources/unsubscribe"
    {
        world.murky.insert(uri);
    }
    let k = mark.map_or_else(|| "null".to_owned(), |mark| mark.to_string());
    let text = match c % 8 {
        7 => format!(
            r#"{{"jsonrpc":"2.0","id":{number},"error":{{"code":-32000,"message":"k{k}"}}}}"#
        ),
        6 if mark.is_some() => format!(
            r#"{{"jsonrpc":"2.0","id":{number},"error":{{"code":-32042,"message":"u","data":{{"elicitations":[{{"url":"u","elicitationId":"e"}}]}}}}}}"#
        ),
        5 => format!(
            r#"{{"jsonrpc":"2.0","id":{number},"result":{{"k":{k},"x":"{}"}}}}"#,
            "x".repeat(500)
        ),
        _ => format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"k":{k}}}}}"#),
    };
    if let Some(mark) = mark.filter(|_| was == State::Running) {
        let exchange = &mut world.exchanges[mark];
        exchange.outcome |= matches!(exchange.life, Life::Parked(_));
    }
    let before = world.machine.dropped().responses;
    world.hears(&text, None);
    let dropped = world.machine.dropped().responses > before;
    assert_eq!(dropped, was != State::Running, "the first answer counts");
    if let Some(mark) = mark.filter(|_| was == State::Running) {
        let open = world
            .questions
            .iter()
            .find(|q| q.open && q.whose == Some(mark));
        assert!(open.is_none(), "invariant 5: {open:?}");
    }
}

/// The stream that a message comes on: a request's, one that is over included, or none.
fn via(world: &World, choice: u8) -> Option<u64> {
    if world.channel == Channel::Pipe || choice.is_multiple_of(4) {
        return None;
    }
    let numbers = world.numbers();
    if numbers.is_empty() {
        return None;
    }
    Some(pick(&numbers, choice / 4))
}

/// The server asks for something.
pub(super) fn ask(world: &mut World, a: u8, b: u8, c: u8) {
    if world.over {
        return;
    }
    let kind = usize::from(a % 7).min(QUESTIONS.len() - 1);
    let kind = if a % 7 == 6 { 0 } else { kind };
    let (method, more, _) = QUESTIONS[kind];
    let id = pick(&SERVER_IDS, b);
    if world.question(id).is_some() {
        return;
    }
    let via = via(world, c);
    let whose = world.asks(via);
    let number = world.questions.len();
    let allowed =
        whose.is_some_and(|mark| world.may_be_asked(kind, world.exchanges[mark].declared));
    world.questions.push(Question {
        id: id.to_owned(),
        kind,
        whose,
        key: None,
        open: true,
    });
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"n":{number}{more}}}}}"#
    );
    world.hears(&text, via);
    let open = world.questions[number].open;
    assert!(allowed || !open, "invariants 9 and 10: refused at once");
    if !open {
        world.questions[number].whose = None;
    }
}

/// It takes a request back, also one that is not open.
pub(super) fn withdraw(world: &mut World, a: u8) {
    if world.over {
        return;
    }
    let id = pick(&SERVER_IDS, a);
    if let Some(question) = world.question(id) {
        world.questions[question].open = false;
    }
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    );
    world.hears(&text, None);
    assert_eq!(world.step.actions, 0);
}

pub(super) fn progress(world: &mut World, a: u8, b: u8) {
    let numbers: Vec<u64> = world.received.keys().copied().collect();
    if world.over || numbers.is_empty() {
        return;
    }
    let number = pick(&numbers, a);
    let mark = world.received[&number].mark;
    let k = mark.map_or_else(|| "null".to_owned(), |mark| mark.to_string());
    let value = b % 16;
    world.said += 1;
    let said = world.said;
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{number},"progress":{value},"k":{k},"s":{said}}}}}"#
    );
    let ran = world.is_running(number);
    world.hears(&text, None);
    assert!(
        ran || world.step.actions == 0,
        "invariant 17: it ends with the request"
    );
}

pub(super) fn log(world: &mut World, a: u8, b: u8) {
    if world.over {
        return;
    }
    let via = via(world, b);
    let whose = world.speaks_for(via);
    let k = whose.map_or_else(|| "null".to_owned(), |mark| mark.to_string());
    let level = pick(&super::world::LEVELS, a);
    world.said += 1;
    let said = world.said;
    let text = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","k":{k},"s":{said}}}}}"#
    );
    world.hears(&text, via);
    assert!(whose.is_some() || world.step.actions == 0, "invariant 9");
}

/// Something changes: whoever listens to it hears of it.
pub(super) fn change(world: &mut World, a: u8) {
    if world.over {
        return;
    }
    let uri = pick(&URIS, a / 4);
    let (kind, text) = match a % 4 {
        0 => (
            "toolsListChanged",
            r#""method":"notifications/tools/list_changed""#.to_owned(),
        ),
        1 => (
            "resourcesListChanged",
            r#""method":"notifications/resources/list_changed""#.to_owned(),
        ),
        _ => (
            uri,
            format!(r#""method":"notifications/resources/updated","params":{{"uri":"{uri}"}}"#),
        ),
    };
    let listening = world.listening(kind);
    world.hears(&format!(r#"{{"jsonrpc":"2.0",{text}}}"#), None);
    assert_eq!(
        world.step.actions, listening,
        "invariant 18: one notice each"
    );
    judge(world);
}

/// Elicitations are complete.
pub(super) fn settle(world: &mut World, a: u8) {
    if world.over || a > 64 {
        return;
    }
    world.completed = true;
    for exchange in &mut world.exchanges {
        exchange.waits_until = None;
    }
    let text = r#"{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":"e"}}"#;
    world.hears(text, None);
}

impl World {
    fn listening(&self, kind: &str) -> usize {
        let open = self.posts.values().filter(|post| !post.over);
        let listening = open.filter(|post| match &post.carries {
            super::world::Carries::Listen {
                acknowledged: Some(heard),
                ..
            } => heard.contains(kind),
            _ => false,
        });
        listening.count()
    }
}
