//! What the machine does, judged.

use bytes::Bytes;
use thinpipe_proto::bridge::{Action, CallId, Delivery, End, Nature};
use thinpipe_proto::rpc::{Kind as MessageKind, Message, RequestId, member};

use super::model::{Kind, Received, State, World};

/// Takes all actions of one input.
pub(super) fn judge(world: &mut World) {
    world.deliveries = 0;
    let mut actions = 0;
    while let Some(action) = world.machine.poll_action() {
        assert!(!world.over, "the end is the last action");
        actions += 1;
        match action {
            Action::Write { message, call } => written(world, &message, call),
            Action::Deliver(delivery) => delivered(world, &delivery),
            Action::Finish { member, request } => finished(world, member.0, &request),
            Action::Release(call) => panic!("{call:?} has no stream of its own"),
            Action::Close(end) => closed(world, &end),
        }
    }
    let untold = world.questions.iter().find(|question| question.untold);
    assert!(untold.is_none(), "withdrawn in silence: {untold:?}");
    // A request may be cancelled, answered and have three questions taken back at once.
    assert!(actions <= 128, "invariant 23: {actions} actions");
}

fn parsed(bytes: &Bytes) -> Message {
    Message::parse(bytes.clone()).expect("what leaves is a message")
}

fn json(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8")
}

fn text(id: &RequestId) -> String {
    String::from_utf8(id.as_json().to_vec()).expect("JSON is UTF-8")
}

fn number(bytes: Option<Bytes>) -> Option<u64> {
    json(&bytes?).parse().ok()
}

fn written(world: &mut World, bytes: &Bytes, call: Option<CallId>) {
    let message = parsed(bytes);
    match message.kind() {
        MessageKind::Request => request_written(world, &message, call.expect("it is a request")),
        MessageKind::Notification => {
            assert_eq!(call, None);
            notification_written(world, &message);
        }
        MessageKind::Response | MessageKind::ErrorResponse => answer_written(world, &message),
    }
}

fn request_written(world: &mut World, message: &Message, call: CallId) {
    let id = message.id().expect("a request has an id");
    assert_eq!(*id, call.to_request_id());
    let id: u64 = text(id).parse().expect("invariant 7: ids are ours");
    let method = message.method().unwrap_or_default().to_owned();
    let mark = number(message.param("k")).and_then(|mark| usize::try_from(mark).ok());
    let token = number(message.meta("progressToken"));
    if let Some(mark) = mark {
        let asked = &mut world.asked[mark];
        assert!(asked.open, "invariant 2: written after its end");
        assert!(!asked.written, "invariant 3: written twice");
        asked.written = true;
        let expected = asked.token.is_some().then_some(id);
        assert_eq!(
            token, expected,
            "invariant 7: tokens are ours, and asked for"
        );
    } else {
        assert!(world.shared && method == "resources/unsubscribe");
    }
    if world.shared && method == "initialize" {
        let declared = message.param("capabilities");
        assert_eq!(declared.as_deref(), Some(&b"{}"[..]), "invariant 10");
    }
    let received = Received {
        mark,
        call,
        method,
        uri: message.param_str("uri"),
        state: State::Running,
    };
    let before = world.received.insert(id, received);
    assert!(before.is_none(), "invariant 7: an id is used twice");
}

fn notification_written(world: &mut World, message: &Message) {
    match message.method().unwrap_or_default() {
        "notifications/cancelled" => {
            let id = number(message.param("requestId")).expect("an id of ours");
            let now = world.now;
            let received = world.received.get_mut(&id).expect("an id of ours");
            assert_eq!(
                received.state,
                State::Running,
                "cancelled once, while it runs"
            );
            let mark = received.mark.expect("a request of a client");
            assert_ne!(world.asked[mark].kind, Kind::Initialize);
            received.state = State::Cancelled(now);
        }
        "notifications/progress" => {
            let token = json(&message.param("progressToken").expect("a token"));
            let value = number(message.param("progress")).and_then(|v| u8::try_from(v).ok());
            let speaker = world.speaker;
            let question = world
                .questions
                .iter_mut()
                .find(|q| q.open && q.member == speaker && q.token.as_deref() == Some(&token));
            let question = question.expect("invariant 17: progress on what is open");
            assert!(value > question.progress, "invariant 17: it rises");
            question.progress = value;
        }
        "notifications/initialized" if world.shared => {
            assert!(!std::mem::replace(&mut world.notified, true), "once");
        }
        method => assert!(!(world.shared && method.contains("roots")), "{method}"),
    }
}

fn answer_written(world: &mut World, message: &Message) {
    let id = message.id().expect("an answer has an id");
    let (speaker, out_of_reach) = (world.speaker, world.out_of_reach);
    let result = message.result();
    let code = message.error().and_then(|error| member(&error, "code"));
    let undeclared = matches!(code.as_deref(), Some(b"-32601" | b"-32602"));
    let able = world.clients.values().next().map(|client| client.able);
    let shared = world.shared;
    let by_client = speaker.is_some() && world.given_up.is_none();
    let question = world.question(id);
    let question = question.expect("invariant 5: answered once, while it is open");
    if let Some(by) = result.and_then(|result| number(member(&result, "by"))) {
        assert_eq!(Some(by), speaker);
        assert_eq!(
            Some(by),
            question.member,
            "invariant 6: by the one that was asked"
        );
    }
    if undeclared && !shared {
        let needs = question.needs.expect("it needs no declaring");
        assert!(!able.is_some_and(|able| able.contains(&needs)), "declared");
    }
    assert_eq!(question.id.as_json(), id.as_json(), "the server's own text");
    question.open = false;
    question.untold = question.member.is_some() && !by_client && !out_of_reach;
}

fn delivered(world: &mut World, delivery: &Delivery) {
    let member = delivery.member.0;
    assert!(
        world.clients.contains_key(&member),
        "invariant 8: to a client that is there"
    );
    world.deliveries += 1;
    let message = parsed(&delivery.message);
    let mark = delivery.related.as_ref().map(|id| {
        let id = text(id);
        let open = |a: &super::model::Asked| a.open && a.member == member && a.id == id;
        let found = world.asked.iter().position(open);
        found.expect("invariant 2: related to an open request, by its own id")
    });
    in_order(world, member, &message);
    let is_progress = message.method() == Some("notifications/progress");
    let is_cancelled = message.method() == Some("notifications/cancelled");
    match &delivery.nature {
        Nature::Response => {
            assert!(delivery.is_last());
            answered(world, mark.expect("a response is related"), &message);
        }
        Nature::Request(id) => asked(world, member, id, mark, &delivery.message),
        Nature::Notification if is_progress => progress(world, mark, &message),
        Nature::Notification if is_cancelled => withdrawn(world, member, &message),
        Nature::ChangeNotice if world.shared => {
            assert_eq!(mark, None);
            let client = &world.clients[&member];
            match message.param_str("uri") {
                Some(uri) => assert!(client.wants.contains(&uri), "invariant 8"),
                None => assert!(client.ready, "invariant 8"),
            }
        }
        Nature::Log | Nature::Notification | Nature::ChangeNotice => {
            assert!(
                !world.shared,
                "invariants 8 and 9: nobody can tell whose it is"
            );
            assert_eq!(mark, world.only(), "association");
        }
    }
}

/// What carries a number of the upstream's messages comes in their order, and once.
fn in_order(world: &mut World, member: u64, message: &Message) {
    let number = number(message.param("s"));
    if let (Some(number), Some(client)) = (number, world.clients.get_mut(&member)) {
        assert!(number > client.seen, "invariant 21");
        client.seen = number;
    }
}

fn answered(world: &mut World, mark: usize, message: &Message) {
    let now = world.now;
    let absolute = world.machine.config().limits.absolute_cap;
    let asked = &mut world.asked[mark];
    asked.open = false;
    let id = message.id().expect("a response has an id");
    assert_eq!(text(id), asked.id, "invariant 1: the id as it was sent");
    let data = message.error().and_then(|error| member(&error, "data"));
    let body = message.result().or_else(|| data.clone());
    let whose = body.and_then(|body| number(member(&body, "k")));
    let reason = data.and_then(|data| member(&data, "reason"));
    if asked.kind == Kind::Plain && reason.is_none() {
        assert_eq!(
            whose,
            u64::try_from(mark).ok(),
            "invariants 7 and 8: answers crossed"
        );
    }
    let timed_out = reason.as_deref() == Some(&b"\"upstream_timeout\""[..]);
    if timed_out && now < asked.started + absolute {
        let held = world
            .questions
            .iter()
            .any(|q| q.open && q.holds.contains(&mark));
        assert!(!held, "invariant 22: idle while the client is asked");
    }
    let (kind, owner) = (asked.kind.clone(), asked.member);
    if let Kind::Subscribe(uri) | Kind::Unsubscribe(uri) = &kind
        && timed_out
    {
        world.murky.insert(uri.clone());
    }
    let Some(client) = world.clients.get_mut(&owner) else {
        return;
    };
    if message.result().is_some() {
        match kind {
            Kind::Initialize => client.ready = true,
            Kind::Subscribe(uri) => {
                client.wants.insert(uri);
            }
            Kind::Unsubscribe(uri) => {
                client.wants.remove(&uri);
            }
            Kind::Plain | Kind::Level => {}
        }
    }
}

fn asked(world: &mut World, member: u64, id: &RequestId, mark: Option<usize>, bytes: &Bytes) {
    assert!(!world.shared, "invariant 9");
    assert_eq!(mark, world.only(), "association");
    let open = world.asked.iter().enumerate().filter(|(_, a)| a.open);
    let all: Vec<usize> = open.map(|(mark, _)| mark).collect();
    let able = world.clients[&member].able;
    let question = world.question(id).expect("it was asked");
    assert_eq!(question.member, None, "invariant 21: delivered once");
    assert_eq!(json(bytes), question.text, "as it came");
    if let Some(needs) = question.needs {
        assert!(able.contains(&needs), "invariant 10: {needs}, of {able:?}");
    }
    question.member = Some(member);
    question.holds = match mark {
        _ if question.is_ping => Vec::new(),
        Some(mark) => vec![mark],
        None => all,
    };
}

fn progress(world: &mut World, mark: Option<usize>, message: &Message) {
    let asked = &mut world.asked[mark.expect("progress is related")];
    let token = message.param("progressToken").map(|token| json(&token));
    assert_eq!(token, asked.token, "invariant 7: the client's own token");
    let whose = number(message.param("k"));
    assert_eq!(
        whose,
        mark.and_then(|m| u64::try_from(m).ok()),
        "invariant 7"
    );
    let value = number(message.param("progress")).and_then(|v| u8::try_from(v).ok());
    assert!(value > asked.progress, "invariant 17");
    asked.progress = value;
}

/// The server took its request back, or it was refused on the client's behalf.
fn withdrawn(world: &mut World, member: u64, message: &Message) {
    let id = RequestId::parse(message.param("requestId").expect("an id")).expect("an id");
    let last = world.questions.iter_mut().rev().find(|q| q.id == id);
    let question = last.expect("it was asked");
    assert_eq!(question.member, Some(member), "invariant 6");
    question.open = false;
    question.untold = false;
}

fn finished(world: &mut World, member: u64, request: &RequestId) {
    let mark = world.open(member, &text(request)).expect("invariant 2");
    if world.given_up != Some(mark) {
        let id = world.asked[mark].id.clone();
        assert!(!world.asked[mark].written);
        assert!(
            world.take_early(member, &id),
            "invariant 1: nobody cancelled it"
        );
    }
    let asked = &mut world.asked[mark];
    assert_ne!(asked.kind, Kind::Initialize);
    asked.open = false;
    if let Kind::Subscribe(uri) | Kind::Unsubscribe(uri) = &asked.kind {
        world.murky.insert(uri.clone());
    }
}

fn closed(world: &mut World, end: &End) {
    world.over = true;
    // Its own client left, or the answer to each open request was given.
    let open = world.asked.iter().filter(|asked| asked.open).count();
    assert!(open == 0 || *end == End::ClientLeft, "invariant 1");
    world.clients.clear();
    for question in &mut world.questions {
        question.open = false;
    }
    for asked in &mut world.asked {
        asked.open = false;
    }
}
