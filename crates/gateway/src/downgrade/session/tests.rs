use thinpipe_proto::bridge::downgrade::{Channel, Request};
use thinpipe_proto::session::Principal;
use thinpipe_transport::{ByteBudget, Random};
use tokio_util::task::TaskTracker;

use super::super::place::Place;
use super::super::post::{Client, Kind};
use super::super::{Downgrade, Settings};
use super::*;
use crate::config::{BridgeConfig, Clients};
use crate::pipe::owed::MAX_OWED;
use crate::seal::Seals;

const OPENED: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25",
    "capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}"#;

/// A session over a pipe that a server has opened, with nobody who writes to it.
fn session() -> Arc<Session> {
    let session = unopened();
    session.heard(&message(OPENED), None);
    while session.next_write().is_some() {}
    session
}

/// One that the server has not answered yet.
fn unopened() -> Arc<Session> {
    let settings = Settings {
        upstream: "up".into(),
        bridge: BridgeConfig::default(),
        total_key: "session_pool.total",
        clients: Clients::Any,
        idle: Duration::from_secs(60),
        stream_idle: Duration::from_secs(60),
        budget: ByteBudget::default(),
    };
    let seals = Arc::new(Seals::new(&[], Random::default()).unwrap());
    let stop = CancellationToken::new();
    let shared = Downgrade::new(settings, seals, TaskTracker::new(), stop).unwrap();
    let place = place(&message(CALL));
    let machine = Downgrading::new(shared.config(&place));
    Arc::new(Session::new(SessionKey(1), shared, machine))
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;

fn message(text: &str) -> Message {
    Message::parse(text.to_owned().into()).unwrap()
}

fn place(request: &Message) -> Place {
    let principal = Principal::Named("alice".into());
    Place::of(request, &principal, &BridgeConfig::default(), Channel::Pipe).unwrap()
}

fn ask(session: &Session, number: u64) -> Arc<Post> {
    let request = message(CALL);
    let client = Client {
        principal: Principal::Named("alice".into()),
        address: None,
    };
    let post = Post::new(
        (AttachmentId(number), RequestId::from_integer(7)),
        client,
        place(&request),
        Kind::Plain,
        (HeaderMap::new(), request.clone()),
        ("up".into(), session.shared.settings.budget.clone()),
    );
    let exchange = ExchangeId(number.into());
    let asked = session.request(Request::new(exchange, post.id, request), &post);
    asked.unwrap();
    post
}

fn written(session: &Session) -> Vec<String> {
    let next = std::iter::from_fn(|| session.next_write());
    next.map(|write| String::from_utf8(write.message.to_vec()).unwrap())
        .collect()
}

/// 5.1, "Cancel": not yet written, never written, and its place is free; else cancelled once.
#[tokio::test]
async fn what_is_cancelled_before_it_is_written_is_never_written() {
    let session = session();
    let post = ask(&session, 1);
    session.detach(post.id);
    assert_eq!(written(&session), [""; 0]);
    // A call that may still run would be in the way of what is asked.
    let post = ask(&session, 2);
    assert_eq!(written(&session).len(), 1);
    session.detach(post.id);
    let told = written(&session);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("notifications/cancelled"), "{told:?}");
}

/// 5.4.1: who waits for a session hears of one that nobody uses any more, also when that is so because of what
/// the gateway itself had asked, and of one whose cancelled call has ended.
#[tokio::test]
async fn whoever_waits_hears_of_a_session_that_has_nothing_to_do() {
    // Opened by itself, for a client that has left.
    let opening = unopened();
    let freed = opening.shared.freed_count();
    opening.heard(&message(OPENED), None);
    assert!(opening.lock().machine.is_idle());
    assert!(opening.shared.freed_count() > freed);

    // Cancelled: idle, but it takes no call beside one that may be running.
    let session = session();
    let post = ask(&session, 1);
    let call: serde_json::Value = serde_json::from_str(&written(&session)[0]).unwrap();
    session.detach(post.id);
    written(&session);
    let freed = session.shared.freed_count();
    let ended = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, call["id"]);
    session.heard(&message(&ended), None);
    assert!(session.shared.freed_count() > freed);
}

/// Memory: a server that asks on and takes no answer is not read any more; what clients ask does not count.
#[tokio::test]
async fn a_server_that_takes_no_answers_is_not_read() {
    let session = session();
    ask(&session, 1);
    for _ in 0..MAX_OWED {
        assert!(session.may_say_more());
        let ping = message(r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#);
        session.heard(&ping, None);
    }
    assert!(!session.may_say_more());
    // The call, and then an answer.
    session.next_write();
    assert!(!session.may_say_more());
    session.next_write();
    assert!(session.may_say_more());
    session.to_read.notified().await;
}
