//! What clients get, judged.

use bytes::Bytes;
use thinpipe_proto::bridge::downgrade::{Content, Delivery, InputRequired};
use thinpipe_proto::rpc::{Message, Object, elements, member, string};

use super::judge::{end, integer, mark_of, text};
use super::world::{Carries, LEVELS, Life, World};

pub(super) fn delivered(world: &mut World, delivery: &Delivery) {
    let number = delivery.attachment.0;
    let post = world.posts.get(&number).expect("a POST").clone();
    assert!(!post.over, "invariants 2 and 18: nothing after the last");
    match (&post.carries, &delivery.content) {
        (Carries::Exchange(mark), Content::Notification(message)) => {
            attached(world, *mark, number);
            notified(world, *mark, number, &parsed(message));
        }
        (Carries::Exchange(mark), Content::Response { message, .. }) => {
            attached(world, *mark, number);
            responded(world, *mark, &post.id, &parsed(message));
            end(world, *mark);
        }
        (Carries::Exchange(mark), Content::InputRequired(input)) => {
            attached(world, *mark, number);
            asked(world, *mark, number, input);
        }
        (Carries::Exchange(mark), Content::UrlRequired(urls)) => {
            attached(world, *mark, number);
            assert_eq!(mark_of(urls.exchange.0), *mark);
            assert!(
                matches!(world.exchanges[*mark].declared, 0 | 3),
                "invariant 10"
            );
            end(world, *mark);
        }
        (Carries::Listen { .. }, Content::Response { message, .. }) => {
            let message = parsed(message);
            assert_eq!(id_of(&message), post.id, "invariant 1");
            world.posts.get_mut(&number).expect("a POST").over = true;
        }
        (
            Carries::Listen { .. },
            Content::Notification(message) | Content::ChangeNotice(message),
        ) => {
            heard(world, number, &parsed(message));
        }
        (carries, content) => panic!("{carries:?} {content:?}"),
    }
}

fn parsed(bytes: &Bytes) -> Message {
    Message::parse(bytes.clone()).expect("what leaves is a message")
}

fn id_of(message: &Message) -> String {
    text(&Bytes::copy_from_slice(
        message.id().expect("an id").as_json(),
    ))
}

fn attached(world: &World, mark: usize, post: u64) {
    let life = world.exchanges[mark].life;
    assert_eq!(life, Life::Attached(post), "invariants 2 and 14");
}

fn notified(world: &mut World, mark: usize, number: u64, message: &Message) {
    let post = &world.posts[&number];
    let said = integer(message.param("s")).expect("it is numbered");
    let before = std::mem::replace(&mut world.exchanges[mark].heard, said);
    assert!(before < said, "invariant 21: in order, and once");
    if message.method() == Some("notifications/message") {
        let admitted = post.level.expect("it asked");
        let level = message.param_str("level").expect("a level");
        let level = LEVELS.iter().position(|known| *known == level);
        assert!(level.expect("known") >= admitted, "R240");
        assert_eq!(
            integer(message.param("k")),
            Some(mark),
            "invariants 8 and 9"
        );
        return;
    }
    assert_eq!(message.method(), Some("notifications/progress"));
    let token = message.param("progressToken").map(|token| text(&token));
    assert_eq!(token.as_deref(), post.token, "invariant 7");
    assert_eq!(integer(message.param("k")), Some(mark), "invariant 8");
    let value = integer(message.param("progress")).and_then(|value| u8::try_from(value).ok());
    let value = value.expect("a value");
    let before = world.exchanges[mark]
        .progress
        .insert(token.unwrap_or_default(), value);
    assert!(before.is_none_or(|before| before < value), "invariant 17");
}

fn responded(world: &World, mark: usize, id: &str, message: &Message) {
    assert_eq!(id_of(message), id, "invariant 1: the id as it was sent");
    let exchange = &world.exchanges[mark];
    let own = message.error().and_then(|error| member(&error, "data"));
    let own = own.is_some_and(|data| member(&data, "reason").is_some());
    if let Some(result) = message.result()
        && exchange.method != "server/discover"
    {
        assert_eq!(
            integer(member(&result, "k")),
            Some(mark),
            "invariants 7 and 8"
        );
        assert!(member(&result, "resultType").is_some(), "invariant 11");
    }
    if !own && exchange.method != "server/discover" {
        assert!(exchange.writes > 0, "it ran");
    }
    let timed_out = message.error().is_some_and(|error| {
        let data = member(&error, "data");
        let reason = data.and_then(|data| member(&data, "reason"));
        reason.is_some_and(|reason| reason == "\"upstream_timeout\"")
    });
    let absolute = world.machine.config().limits.absolute_cap;
    if timed_out && world.now < exchange.started + absolute {
        let mut open = world.questions.iter();
        let asked = open.any(|q| q.open && q.whose == Some(mark));
        assert!(!asked, "invariant 22: idle while the client is asked");
    }
}

fn asked(world: &mut World, mark: usize, number: u64, input: &InputRequired) {
    let post = world.posts[&number].clone();
    let exchange = &world.exchanges[mark];
    assert_eq!(mark_of(input.ticket.exchange.0), mark);
    assert_eq!(
        input.ticket.round,
        exchange.rounds + 1,
        "rounds are counted"
    );
    assert!(input.ticket.round <= 10);
    assert!(
        !exchange.outcome,
        "invariant 16: no prompt after an outcome"
    );
    let message = parsed(&input.message("S"));
    assert_eq!(id_of(&message), post.id, "invariant 1");
    let result = message.result().expect("a result");
    let requests = member(&result, "inputRequests").expect("requests");
    let requests = Object::parse(&requests).expect("an object");
    assert!(!requests.is_empty());
    for (key, request) in requests.iter() {
        let params = member(request, "params").expect("params");
        let question = integer(member(&params, "n")).expect("a question");
        let declared = world.exchanges[mark].declared;
        let kind = world.questions[question].kind;
        assert!(world.may_be_asked(kind, declared), "invariant 10");
        let clash = world.questions.iter().enumerate().any(|(other, q)| {
            other != question && q.whose == Some(mark) && q.key.as_deref() == Some(key)
        });
        assert!(!clash, "a key is used twice");
        let question = &mut world.questions[question];
        assert!(question.open, "it was withdrawn or answered");
        assert_eq!(question.whose, Some(mark), "invariants 8 and 9");
        let before = question.key.replace(key.to_owned());
        assert!(before.is_none_or(|before| before == key), "its key stays");
    }
    let exchange = &mut world.exchanges[mark];
    exchange.rounds += 1;
    exchange.shown = true;
    exchange.life = Life::Parked(Some(number));
    world.parked += 1;
    world.posts.get_mut(&number).expect("a POST").over = true;
}

fn heard(world: &mut World, number: u64, message: &Message) {
    let stamp = message
        .meta("io.modelcontextprotocol/subscriptionId")
        .expect("a stamp");
    let post = world.posts.get_mut(&number).expect("a POST");
    assert_eq!(text(&stamp), post.id, "invariant 18: its own stamp");
    let Carries::Listen {
        wants,
        acknowledged,
        told,
    } = &mut post.carries
    else {
        panic!("no listen");
    };
    if message.method() == Some("notifications/subscriptions/acknowledged") {
        assert_eq!(*acknowledged, None, "once");
        let honoured = message.param("notifications").expect("what is honoured");
        let honoured = Object::parse(&honoured).expect("an object");
        let mut kinds: Vec<String> = Vec::new();
        for (name, value) in honoured.iter() {
            if name == "resourceSubscriptions" {
                let uris = elements(value).expect("URIs");
                let uris = uris
                    .iter()
                    .map(|uri| string(uri).expect("text").into_owned());
                kinds.extend(uris);
            } else {
                kinds.push(name.to_owned());
            }
        }
        assert!(
            kinds.iter().all(|kind| wants.contains(kind)),
            "invariant 18"
        );
        *acknowledged = Some(kinds.into_iter().collect());
        return;
    }
    let kind = match message.method().unwrap_or_default() {
        "notifications/tools/list_changed" => "toolsListChanged".to_owned(),
        "notifications/resources/list_changed" => "resourcesListChanged".to_owned(),
        "notifications/resources/updated" => message.param_str("uri").expect("a URI"),
        other => panic!("invariant 18: {other}"),
    };
    let heard = acknowledged
        .as_ref()
        .expect("invariant 18: the acknowledgement first");
    assert!(heard.contains(&kind), "invariant 18: only what is honoured");
    *told += 1;
}
