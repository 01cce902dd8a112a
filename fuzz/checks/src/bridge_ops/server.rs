//! What the upstream does in one step.

use super::judge::judge;
use super::model::{Question, State, World, message, request_id};
use super::script::{SERVER_IDS, TOKENS, URIS, pick};

/// What the server asks: method, parameters, and what the client has to have declared.
const QUESTIONS: [(&str, &str, Option<&str>); 8] = [
    ("elicitation/create", "", Some("form")),
    ("ping", "", None),
    ("roots/list", "", Some("roots")),
    ("elicitation/create", r#","mode":"form""#, Some("form")),
    ("elicitation/create", r#","mode":"url""#, Some("url")),
    ("sampling/createMessage", "", Some("sampling")),
    ("sampling/createMessage", r#","tools":[]"#, Some("tools")),
    ("x/ask", "", None),
];

fn hear(world: &mut World, text: &str) {
    world.machine.upstream(&message(text), world.now);
    judge(world);
}

/// The upstream answers one of its requests, or something that it never had.
pub(super) fn answer(world: &mut World, a: u8, b: u8, c: u8) {
    let open: Vec<u64> = world
        .received
        .iter()
        .filter(|(_, received)| received.state != State::Over || b.is_multiple_of(8))
        .map(|(id, _)| *id)
        .collect();
    if open.is_empty() || b.is_multiple_of(16) {
        return hear(world, r#"{"jsonrpc":"2.0","id":9999,"result":{}}"#);
    }
    answer_to(world, pick(&open, a), !c.is_multiple_of(4));
}

pub(super) fn answer_to(world: &mut World, id: u64, well: bool) {
    let received = world.received.get_mut(&id).expect("it was received");
    let mark = received.mark.map_or(-1, |mark| mark.cast_signed());
    let before = std::mem::replace(&mut received.state, State::Over);
    let (method, uri) = (received.method.clone(), received.uri.clone());
    if let (Some(uri), State::Running) = (uri, before) {
        match (method.as_str(), well) {
            ("resources/subscribe", true) => {
                world.held.insert(uri);
            }
            ("resources/unsubscribe", true) => {
                world.held.remove(&uri);
            }
            ("resources/unsubscribe", false) => {
                world.murky.insert(uri);
            }
            _ => {}
        }
    }
    let outcome = if well {
        format!(r#""result":{{"k":{mark},"protocolVersion":"2025-06-18"}}"#)
    } else {
        format!(r#""error":{{"code":-5,"message":"no","data":{{"k":{mark}}}}}"#)
    };
    hear(
        world,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},{outcome}}}"#),
    );
    match before {
        State::Running => {}
        State::Cancelled(_) | State::Over => {
            assert_eq!(world.deliveries, 0, "invariant 2: late answers are dropped");
        }
    }
}

pub(super) fn progress(world: &mut World, a: u8, b: u8) {
    let known: Vec<(u64, i64)> = world
        .received
        .iter()
        .map(|(id, r)| {
            (
                *id,
                r.mark.and_then(|m| i64::try_from(m).ok()).unwrap_or(-1),
            )
        })
        .collect();
    if known.is_empty() {
        return;
    }
    let (token, mark) = pick(&known, a);
    world.said += 1;
    let params = format!(
        r#"{{"progressToken":{token},"progress":{},"k":{mark},"s":{}}}"#,
        b % 8,
        world.said
    );
    hear(
        world,
        &format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#),
    );
}

pub(super) fn server_asks(world: &mut World, a: u8, b: u8, c: u8) {
    let id = pick(&SERVER_IDS, a);
    let (method, rest, needs) = pick(&QUESTIONS, b);
    let token = pick(&TOKENS, c);
    world.said += 1;
    let meta = token.map_or(String::new(), |token| {
        format!(r#","_meta":{{"progressToken":{token}}}"#)
    });
    let said = world.said;
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"s":{said}{rest}{meta}}}}}"#
    );
    if world.question(&request_id(id)).is_some() {
        hear(world, &text);
        assert_eq!(world.deliveries, 0, "invariant 5: its id is in use");
        return;
    }
    // Two open requests with one token: nobody can tell their progress apart.
    let taken = world
        .questions
        .iter()
        .any(|q| q.open && q.token.as_deref() == token);
    if token.is_some() && taken {
        return;
    }
    world.questions.push(Question {
        id: request_id(id),
        text: text.clone(),
        is_ping: method == "ping",
        needs,
        token: token.map(str::to_owned),
        progress: None,
        member: None,
        open: true,
        untold: false,
        holds: Vec::new(),
    });
    hear(world, &text);
    if let Some(question) = world.question(&request_id(id)) {
        assert!(
            question.member.is_some(),
            "invariant 5: neither asked nor refused"
        );
    }
}

pub(super) fn server_notifies(world: &mut World, a: u8, b: u8) {
    world.said += 1;
    let said = world.said;
    let (method, rest) = match a % 5 {
        0 => ("notifications/message", String::new()),
        1 => ("notifications/tools/list_changed", String::new()),
        2 => (
            "notifications/resources/updated",
            format!(r#","uri":"{}""#, pick(&URIS, b)),
        ),
        3 => (
            "notifications/cancelled",
            format!(r#","requestId":{}"#, pick(&SERVER_IDS, b)),
        ),
        _ => ("notifications/x", String::new()),
    };
    let ready = world.clients.values().filter(|client| client.ready).count();
    let uri = pick(&URIS, b);
    let wanting = world
        .clients
        .values()
        .filter(|client| client.wants.contains(uri))
        .count();
    hear(
        world,
        &format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"s":{said}{rest}}}}}"#),
    );
    match a % 5 {
        1 if world.shared => assert_eq!(world.deliveries, ready, "to each client once"),
        2 if world.shared && !world.murky.contains(uri) => {
            assert_eq!(world.deliveries, wanting, "to each subscriber once");
        }
        3 => assert!(world.question(&request_id(pick(&SERVER_IDS, b))).is_none()),
        _ => {}
    }
}
