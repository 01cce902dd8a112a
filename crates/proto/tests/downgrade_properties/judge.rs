//! What the machine does, judged: what is written, and how things end.

use bytes::Bytes;
use thinpipe_proto::bridge::downgrade::{Action, AnswerId, Written};
use thinpipe_proto::rpc::{Kind, Message, RequestId, member};

use super::judge_client::delivered;
use super::world::{Carries, Life, Received, State, World};

/// Takes all actions of one input.
pub(super) fn judge(world: &mut World) {
    world.step.actions = 0;
    while let Some(action) = world.machine.poll_action() {
        world.step.actions += 1;
        assert!(
            world.step.actions <= 200,
            "invariant 23: {}",
            world.step.actions
        );
        match action {
            Action::Write { message, written } => {
                assert!(!world.over, "nothing is written after the end");
                wrote(world, &message, written);
            }
            Action::Deliver(delivery) => delivered(world, &delivery),
            Action::Unparked(exchange) => unparked(world, exchange.0),
            Action::Resend(request) => {
                let mark = mark_of(request.exchange.0);
                let exchange = &mut world.exchanges[mark];
                assert!(exchange.writes <= exchange.allowed, "invariant 3");
                assert!(!exchange.shown, "invariant 4");
                end(world, mark);
                world.resent.push(request);
            }
            Action::Relisten(listening) => {
                let post = world
                    .posts
                    .get_mut(&listening.attachment.0)
                    .expect("a listen");
                assert!(!std::mem::replace(&mut post.over, true), "invariant 2");
                world.listenings.push(listening);
            }
            Action::Release(call) => {
                let number = number(call.to_request_id());
                let state = world.received[&number].state;
                assert!(matches!(state, State::Cancelled(_)), "it may be needed");
            }
            Action::OpenStream => assert!(!std::mem::replace(&mut world.stream, true)),
            Action::CloseStream => assert!(std::mem::replace(&mut world.stream, false)),
            Action::Close(_) => closed(world),
        }
    }
    unparked_rounds(world);
}

/// Rounds that this step does not let be parked.
fn unparked_rounds(world: &mut World) {
    if !std::mem::take(&mut world.unparkable) {
        return;
    }
    let asked = world
        .exchanges
        .iter()
        .enumerate()
        .find_map(|(mark, exchange)| {
            matches!(exchange.life, Life::Parked(Some(_))).then_some((mark, exchange.rounds))
        });
    let Some((mark, round)) = asked else { return };
    let Life::Parked(Some(post)) = world.exchanges[mark].life else {
        return;
    };
    // It is as if the round had never been.
    for question in &mut world.questions {
        if question.whose == Some(mark) {
            question.key = None;
        }
    }
    world.exchanges[mark].life = Life::Attached(post);
    world.exchanges[mark].rounds -= 1;
    world.exchanges[mark].outcome = false;
    world.posts.get_mut(&post).expect("a POST").over = false;
    world.parked -= 1;
    let ticket = super::steps::ticket(mark, round);
    world.step.retried = Some(mark);
    world.machine.unparkable(ticket, "r", "text", world.now);
    let mut told = false;
    while let Some(action) = world.machine.poll_action() {
        match action {
            Action::Unparked(_) => told = true,
            Action::Write { message, written } => wrote(world, &message, written),
            Action::Deliver(delivery) => delivered(world, &delivery),
            Action::Close(_) => closed(world),
            other => panic!("{other:?}"),
        }
    }
    world.step.retried = None;
    assert!(told);
}

fn unparked(world: &mut World, exchange: u128) {
    let mark = mark_of(exchange);
    assert!(
        matches!(world.exchanges[mark].life, Life::Parked(_)),
        "once"
    );
    world.parked -= 1;
    if world.step.retried == Some(mark) {
        let post = world.next_post - 1;
        world.exchanges[mark].life = Life::Attached(post);
    } else {
        world.exchanges[mark].life = Life::Over;
    }
}

pub(super) fn mark_of(exchange: u128) -> usize {
    usize::try_from(exchange).expect("a mark")
}

/// An exchange is over, and its POST.
pub(super) fn end(world: &mut World, mark: usize) {
    let Life::Attached(post) = world.exchanges[mark].life else {
        panic!("invariant 2: {mark} {:?}", world.exchanges[mark].life);
    };
    world.exchanges[mark].life = Life::Over;
    let post = world.posts.get_mut(&post).expect("a POST");
    assert!(!std::mem::replace(&mut post.over, true), "invariant 2");
}

fn closed(world: &mut World) {
    assert!(!std::mem::replace(&mut world.over, true), "once");
    world
        .received
        .values_mut()
        .for_each(|received| received.state = State::Over);
    world
        .questions
        .iter_mut()
        .for_each(|question| question.open = false);
    let listens = world.posts.values().filter(|post| !post.over);
    let listens = listens.filter(|post| matches!(post.carries, Carries::Listen { .. }));
    assert_eq!(listens.count(), 0, "invariant 1");
    world.stream = false;
}

fn wrote(world: &mut World, bytes: &Bytes, written: Written) {
    for key in [
        "io.modelcontextprotocol/",
        "resultType",
        "ttlMs",
        "requestState",
    ] {
        let found = bytes
            .windows(key.len())
            .any(|window| window == key.as_bytes());
        assert!(!found, "invariant 11: {key}");
    }
    let message = Message::parse(bytes.clone()).expect("what leaves is a message");
    match (message.kind(), written) {
        (Kind::Request, Written::Request(call)) => {
            let id = message.id().expect("a request has an id").clone();
            assert_eq!(id, call.to_request_id());
            request(world, &message, call, number(id));
        }
        (Kind::Notification, Written::Other | Written::Cancel(_)) => notification(world, &message),
        (Kind::Response, Written::Answer(answer)) => answered(world, &message, answer, bytes),
        (Kind::Response | Kind::ErrorResponse, Written::Other) => refused(world, &message),
        other => panic!("{other:?}"),
    }
}

pub(super) fn number(id: RequestId) -> u64 {
    text(&Bytes::copy_from_slice(id.as_json()))
        .parse()
        .expect("invariant 7: ids are ours")
}

pub(super) fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8")
}

pub(super) fn integer(bytes: Option<Bytes>) -> Option<usize> {
    text(&bytes?).parse().ok()
}

fn request(world: &mut World, message: &Message, call: thinpipe_proto::bridge::CallId, id: u64) {
    let mark = integer(message.param("k"));
    let method = message.method().unwrap_or_default().to_owned();
    if let Some(mark) = mark {
        assert!(world.open, "after the handshake");
        let exchange = &mut world.exchanges[mark];
        assert!(matches!(exchange.life, Life::Attached(_)), "invariant 2");
        exchange.writes += 1;
        assert!(exchange.writes <= exchange.allowed, "invariant 3");
        assert!(!exchange.shown, "invariant 4");
        assert!(exchange.waits_until.is_none_or(|until| until <= world.now));
        let token = message.meta("progressToken").map(|token| text(&token));
        assert_eq!(token, Some(id.to_string()), "invariant 7");
    } else {
        assert!(
            matches!(&*method, "initialize" | "logging/setLevel")
                || method == "resources/subscribe"
                || method == "resources/unsubscribe",
            "{method}"
        );
    }
    let uri = message.param_str("uri").filter(|_| mark.is_none());
    if let Some(uri) = &uri {
        let twice = world
            .received
            .values()
            .any(|other| other.state == State::Running && other.uri.as_ref() == Some(uri));
        assert!(
            !twice || world.murky.contains(uri),
            "invariant 20: one at a time"
        );
    }
    let received = Received {
        mark,
        call,
        method,
        uri,
        at: world.now,
        state: State::Running,
    };
    let before = world.received.insert(id, received);
    assert!(before.is_none(), "invariant 7: an id is used twice");
}

fn notification(world: &mut World, message: &Message) {
    if message.method() == Some("notifications/initialized") {
        return;
    }
    assert_eq!(message.method(), Some("notifications/cancelled"));
    let id = message.param("requestId").expect("an id");
    let id: u64 = text(&id).parse().expect("an id of ours");
    let now = world.now;
    let received = world.received.get_mut(&id).expect("an id of ours");
    assert_eq!(
        received.state,
        State::Running,
        "cancelled once, while it runs"
    );
    assert!(
        received.mark.is_some(),
        "the gateway's own are not cancelled"
    );
    received.state = State::Cancelled(now);
}

fn refused(world: &mut World, message: &Message) {
    let id = text(&Bytes::copy_from_slice(
        message.id().expect("an id").as_json(),
    ));
    assert!(message.error().is_some(), "only clients answer");
    let question = world.question(&id).expect("invariant 5: answered once");
    world.questions[question].open = false;
}

fn answered(world: &mut World, message: &Message, answer: AnswerId, bytes: &Bytes) {
    let result = message.result().expect("a result");
    let number = integer(member(&result, "n")).expect("a client's answer");
    let id = text(&Bytes::copy_from_slice(
        message.id().expect("an id").as_json(),
    ));
    let question = &mut world.questions[number];
    assert_eq!(question.id, id, "invariant 6: to the request that asked it");
    assert!(question.open, "invariants 5 and 6: once");
    assert!(question.key.is_some(), "it was shown");
    let whose = question.whose.expect("it was shown");
    assert_eq!(
        world.step.retried,
        Some(whose),
        "invariant 6: by who was asked"
    );
    question.open = false;
    world.answers.push((answer, bytes.clone(), whose));
}
