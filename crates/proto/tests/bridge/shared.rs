//! Several client sessions on one upstream session (protocol notes 5.2.1).

use thinpipe_proto::bridge::{AttachError, End, without_capabilities};
use thinpipe_proto::session::Principal;

use super::*;

fn subscribe(id: &str, uri: &str) -> String {
    request_with(id, "resources/subscribe", &format!(r#"{{"uri":"{uri}"}}"#))
}

fn unsubscribe(id: &str, uri: &str) -> String {
    request_with(
        id,
        "resources/unsubscribe",
        &format!(r#"{{"uri":"{uri}"}}"#),
    )
}

fn updated(uri: &str) -> String {
    notification(
        "notifications/resources/updated",
        &format!(r#"{{"uri":"{uri}"}}"#),
    )
}

fn level(id: &str, level: &str) -> String {
    request_with(id, "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#))
}

fn empty(member: u64, id: &str) -> String {
    format!("{member}/{id}!: {}", result(id, "{}"))
}

fn up(message: &str) -> String {
    format!("up: {message}")
}

/// Row "initialize": one is forwarded, without capabilities; the others get its result.
#[test]
fn one_handshake_serves_all_and_declares_nothing() {
    let mut pipe = Pipe::new(Sharing::Shared, Limits::default(), 3);
    let first = pipe.says(1, &initialize("0", r#"{"roots":{"listChanged":true}}"#));
    assert_eq!(first, [up(&initialize("1", "{}"))]);
    assert!(pipe.says(2, &initialize("\"x\"", "{}")).is_empty());
    let older = initialize("0", "{}").replace("2025-06-18", "2025-03-26");
    assert_eq!(pipe.tries(3, &older), Err(Refused::OtherRevision));
    assert_eq!(
        pipe.tries(2, &request("1", "tools/list")),
        Err(Refused::NotInitialized)
    );
    let offered = r#"{"tools":{},"tasks":{"list":{}},"logging":{}}"#;
    let lines = pipe.hears(&initialized(1, offered));
    let expected = format!(r#"{{"protocolVersion":"2025-06-18","capabilities":{offered}}}"#);
    let expected = &expected;
    let answers = [
        format!("1/0!: {}", result("0", expected)),
        format!("2/\"x\"!: {}", result("\"x\"", expected)),
    ];
    assert_eq!(lines, answers);
    assert_eq!(pipe.tries(3, &older), Err(Refused::OtherRevision));
    let third = pipe.says(3, &initialize("0", "{}"));
    assert_eq!(third, [format!("3/0!: {}", result("0", expected))]);
}

/// `notifications/initialized` goes up once, and only from a client that is initialized.
#[test]
fn initialized_goes_up_once() {
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let mut pipe = Pipe::new(Sharing::Shared, Limits::default(), 3);
    assert!(pipe.says(1, ready).is_empty());
    pipe.says(1, &initialize("0", "{}"));
    pipe.hears(&initialized(1, "{}"));
    pipe.says(2, &initialize("0", "{}"));
    assert!(pipe.says(3, ready).is_empty());
    assert_eq!(pipe.says(2, ready), [up(ready)]);
    assert!(pipe.says(1, ready).is_empty());
}

/// A handshake that fails, fails for all that wait; the next one is tried anew.
#[test]
fn a_refused_handshake_is_refused_to_all_and_begins_anew() {
    let mut pipe = Pipe::new(Sharing::Shared, Limits::default(), 2);
    pipe.says(1, &initialize("0", "{}"));
    pipe.says(2, &initialize("0", "{}"));
    let no = |id: &str| error(id, -32602, "no");
    let lines = pipe.hears(&no("1"));
    assert_eq!(
        lines,
        [format!("1/0!: {}", no("0")), format!("2/0!: {}", no("0"))]
    );
    assert_eq!(
        pipe.says(2, &initialize("0", "{}")),
        [up(&initialize("3", "{}"))]
    );
}

/// The client whose `initialize` was forwarded may leave; the others get the answer.
#[test]
fn a_handshake_outlives_the_client_that_began_it() {
    let mut pipe = Pipe::new(Sharing::Shared, Limits::default(), 3);
    pipe.says(1, &initialize("0", "{}"));
    pipe.says(2, &initialize("0", "{}"));
    pipe.says(3, &initialize("0", "{}"));
    assert!(pipe.leaves(1).is_empty());
    assert!(pipe.leaves(3).is_empty());
    let lines = pipe.hears(&initialized(1, "{}"));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("2/0!"));
    assert_eq!(pipe.machine.in_flight(), 0);
}

/// R249, invariant 7: clients choose the same ids and tokens, and nothing crosses.
#[test]
fn r249_equal_ids_and_tokens_of_two_clients_never_cross() {
    let mut pipe = Pipe::shared(2);
    assert_eq!(pipe.says(1, &tracked("1", "1")), [up(&tracked("2", "2"))]);
    assert_eq!(pipe.says(2, &tracked("1", "1")), [up(&tracked("3", "3"))]);
    assert_eq!(
        pipe.hears(&progress("3", "1")),
        [format!("2/1: {}", progress("1", "1"))]
    );
    assert_eq!(
        pipe.says(1, &cancelled("1", "")),
        [up(&cancelled("2", "")), "finish 1/1".to_owned()]
    );
    assert!(pipe.hears(&progress("2", "1")).is_empty());
    assert!(pipe.hears(&result("2", "{}")).is_empty());
    assert_eq!(pipe.hears(&result("3", "{}")), [empty(2, "1")]);
}

/// Invariants 8 and 9: what cannot be tied to one client is refused or dropped, even if there is only
/// one, or only one request.
#[test]
fn nothing_is_guessed_on_a_shared_session() {
    let mut pipe = Pipe::shared(1);
    pipe.says(1, &request("1", "tools/call"));
    assert_eq!(pipe.hears(&request("7", "ping")), [up(&result("7", "{}"))]);
    for method in ["roots/list", "sampling/createMessage", "elicitation/create"] {
        let lines = pipe.hears(&request("8", method));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with(r#"up: {"jsonrpc":"2.0","id":8,"error":{"code":-32601,"#));
    }
    for method in [
        "notifications/message",
        "notifications/tasks/status",
        "notifications/x",
    ] {
        assert!(
            pipe.hears(&notification(method, "{}")).is_empty(),
            "{method}"
        );
    }
    assert!(pipe.says(1, &result("7", "{}")).is_empty());
    for method in [
        "notifications/roots/list_changed",
        "notifications/tasks/status",
    ] {
        assert!(
            pipe.says(1, &notification(method, "{}")).is_empty(),
            "{method}"
        );
    }
    assert_eq!(pipe.machine.dropped().notifications, 5);
}

/// O4: a client's ping is answered here.
#[test]
fn pings_of_clients_are_answered_here() {
    let mut pipe = Pipe::shared(1);
    assert_eq!(pipe.says(1, &request("9", "ping")), [empty(1, "9")]);
}

/// Row "change notices": `list_changed` reaches each client once.
#[test]
fn list_changed_reaches_each_initialized_client_once() {
    let mut pipe = Pipe::shared(2);
    pipe.machine.attach(MemberId(3)).unwrap();
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    assert_eq!(
        pipe.hears(changed),
        [format!("1/-: {changed}"), format!("2/-: {changed}")]
    );
}

/// Row "change notices", invariant 20: the upstream has one subscription while anybody wants it.
#[test]
fn subscriptions_are_counted() {
    let mut pipe = Pipe::shared(2);
    assert_eq!(
        pipe.says(1, &subscribe("1", "a")),
        [up(&subscribe("2", "a"))]
    );
    assert!(
        pipe.says(2, &subscribe("1", "a")).is_empty(),
        "it waits for the first"
    );
    assert_eq!(
        pipe.hears(&result("2", "{}")),
        [empty(1, "1"), empty(2, "1")]
    );
    let update = updated("a");
    assert_eq!(
        pipe.hears(&update),
        [format!("1/-: {update}"), format!("2/-: {update}")]
    );
    assert!(pipe.hears(&updated("b")).is_empty());
    assert_eq!(pipe.says(1, &unsubscribe("2", "a")), [empty(1, "2")]);
    assert_eq!(pipe.hears(&update), [format!("2/-: {update}")]);
    assert_eq!(
        pipe.says(2, &unsubscribe("2", "a")),
        [up(&unsubscribe("5", "a"))]
    );
    // A subscribe that meets a pending unsubscribe waits for it.
    assert!(pipe.says(1, &subscribe("3", "a")).is_empty());
    assert_eq!(
        pipe.hears(&result("5", "{}")),
        [empty(2, "2"), up(&subscribe("6", "a"))]
    );
    assert_eq!(pipe.hears(&result("6", "{}")), [empty(1, "3")]);
    assert_eq!(pipe.hears(&update), [format!("1/-: {update}")]);
}

/// Row "change notices": a change of a part of a resource is for who subscribed to the whole, once.
#[test]
fn a_part_of_a_resource_concerns_who_has_the_whole() {
    let mut pipe = Pipe::shared(2);
    pipe.says(1, &subscribe("1", "a"));
    pipe.hears(&result("2", "{}"));
    pipe.says(1, &subscribe("2", "a/b"));
    pipe.hears(&result("3", "{}"));
    let update = updated("a/b");
    assert_eq!(pipe.hears(&update), [format!("1/-: {update}")]);
    let update = updated("a/c");
    assert_eq!(pipe.hears(&update), [format!("1/-: {update}")]);
    assert!(pipe.hears(&updated("ab")).is_empty());
}

/// Row "client leaves": its subscriptions go, the others' stay.
#[test]
fn a_client_that_leaves_gives_its_subscriptions_up() {
    let mut pipe = Pipe::shared(2);
    pipe.says(1, &subscribe("1", "a"));
    pipe.hears(&result("2", "{}"));
    pipe.says(2, &subscribe("1", "a"));
    pipe.says(1, &subscribe("2", "b"));
    pipe.says(1, &request("3", "m"));
    // The one to "b" is not answered yet: how it comes out decides what follows.
    let lines = pipe.leaves(1);
    assert_eq!(lines, [up(&cancelled("5", "the client's session is over"))]);
    assert_eq!(pipe.hears(&result("4", "{}")), [up(&unsubscribe("6", "b"))]);
    assert!(pipe.hears(&error("6", -1, "no")).is_empty());
    assert_eq!(pipe.leaves(2), [up(&unsubscribe("7", "a"))]);
    assert!(pipe.hears(&result("7", "{}")).is_empty());
    assert!(!pipe.machine.is_over());
    assert!(pipe.hears(&result("5", "{}")).is_empty());
    assert_eq!(pipe.machine.in_flight(), 0);
    assert_eq!(pipe.machine.poll_timeout(), None);
}

/// A subscription that its client cancels, or that times out, is taken back once it is there.
#[test]
fn a_subscription_nobody_waits_for_is_taken_back() {
    let mut pipe = Pipe::shared(1);
    pipe.says(1, &subscribe("1", "a"));
    assert_eq!(pipe.says(1, &cancelled("1", "")), ["finish 1/1"]);
    assert_eq!(pipe.hears(&result("2", "{}")), [up(&unsubscribe("3", "a"))]);
    pipe.hears(&result("3", "{}"));
    pipe.says(1, &subscribe("2", "b"));
    let lines = pipe.at(60 * SECOND);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("1/2!"), "{lines:?}");
    assert_eq!(lines[1], up(&unsubscribe("5", "b")));
    assert!(pipe.hears(&updated("b")).is_empty());
    assert!(pipe.at(120 * SECOND).is_empty(), "asked once");
    assert_eq!(pipe.machine.in_flight(), 0);
    assert_eq!(pipe.machine.poll_timeout(), None);
}

/// What waits for its turn is never written if it is cancelled first.
#[test]
fn a_waiting_subscription_is_cancelled_unwritten() {
    let mut pipe = Pipe::shared(2);
    pipe.says(1, &subscribe("1", "a"));
    pipe.says(2, &subscribe("1", "a"));
    assert_eq!(pipe.says(2, &cancelled("1", "")), ["finish 2/1"]);
    assert_eq!(
        pipe.hears(&error("2", -1, "no")),
        [format!("1/1!: {}", error("1", -1, "no"))]
    );
    assert_eq!(pipe.machine.in_flight(), 0);
    assert_eq!(pipe.machine.poll_timeout(), None);
}

/// The bound of subscriptions, running ones counted.
#[test]
fn subscriptions_have_their_bound() {
    let limits = Limits {
        subscriptions: 2,
        ..Limits::default()
    };
    let mut pipe = Pipe::new(Sharing::Shared, limits, 1);
    pipe.says(1, &initialize("0", "{}"));
    pipe.hears(&initialized(1, "{}"));
    pipe.says(1, &subscribe("1", "a"));
    pipe.says(1, &subscribe("2", "b"));
    let refused = Refused::TooManySubscriptions { limit: 2 };
    assert_eq!(pipe.tries(1, &subscribe("3", "c")), Err(refused.clone()));
    pipe.hears(&result("2", "{}"));
    assert_eq!(pipe.tries(1, &subscribe("3", "c")), Err(refused));
    assert_eq!(pipe.says(1, &subscribe("3", "a")), [empty(1, "3")]);
    pipe.says(1, &unsubscribe("4", "a"));
    pipe.hears(&result("5", "{}"));
    assert_eq!(pipe.says(1, &subscribe("5", "c")).len(), 1);
}

/// Row "log level": the lines of a shared server reach nobody, so levels are taken and go nowhere.
#[test]
fn levels_are_answered_here() {
    let mut pipe = Pipe::shared(2);
    assert_eq!(pipe.says(1, &level("1", "info")), [empty(1, "1")]);
    assert_eq!(pipe.says(2, &level("1", "debug")), [empty(2, "1")]);
    let unknown = pipe.tries(2, &level("5", "loud")).unwrap_err();
    assert_eq!(unknown.code(), -32602);
    assert!(unknown.to_string().contains("critical"), "{unknown}");
}

/// Row "upstream session lost": all attached.
#[test]
fn a_lost_upstream_fails_the_requests_of_all() {
    let mut pipe = Pipe::shared(2);
    pipe.says(1, &request("1", "m"));
    pipe.says(2, &subscribe("1", "a"));
    pipe.says(1, &subscribe("2", "a"));
    pipe.machine.upstream_lost("gone");
    let lines = pipe.actions();
    let unsent = "the upstream was lost: gone; the request was not sent";
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(
        lines[2],
        format!("1/2!: {}", own_error("2", unsent, "upstream_stream_lost"))
    );
}

/// Members are bounded, and the session stays when they leave.
#[test]
fn members_come_and_go() {
    let limits = Limits {
        members: 1,
        ..Limits::default()
    };
    let mut pipe = Pipe::new(Sharing::Shared, limits, 1);
    assert_eq!(
        pipe.machine.attach(MemberId(2)),
        Err(AttachError::Full { limit: 1 })
    );
    assert!(pipe.leaves(1).is_empty());
    assert_eq!(pipe.machine.attach(MemberId(2)), Ok(()));
}

/// No principal takes all there is of what several share: not by many sessions, nor by requests that it cancels or
/// leaves behind. Who has no name is told from nobody.
#[test]
fn one_principal_leaves_something_for_others() {
    let limits = Limits {
        members: 4,
        in_flight: 4,
        ..Limits::default()
    };
    let mut pipe = Pipe::new(Sharing::Shared, limits, 0);
    let [ann, bob] = ["ann", "bob"].map(|name| Principal::Named(name.into()));
    let attach = |pipe: &mut Pipe, id, who| pipe.machine.attach_of(MemberId(id), who);
    attach(&mut pipe, 1, &ann).unwrap();
    attach(&mut pipe, 2, &ann).unwrap();
    let full = AttachError::FullOfOne { limit: 2 };
    assert_eq!(attach(&mut pipe, 3, &ann), Err(full));
    attach(&mut pipe, 3, &bob).unwrap();
    pipe.says(1, &initialize("0", "{}"));
    pipe.hears(&initialized(1, "{}"));
    for member in [2, 3] {
        pipe.says(member, &initialize("0", "{}"));
    }
    pipe.says(1, &request("1", "m"));
    pipe.says(2, &subscribe("1", "a"));
    let refused = || Err(Refused::TooManyOfOne { limit: 2 });
    assert_eq!(pipe.tries(2, &request("2", "m")), refused());
    pipe.says(2, &cancelled("1", ""));
    pipe.leaves(1);
    assert_eq!(
        pipe.tries(2, &request("2", "m")),
        refused(),
        "they may be running"
    );
    pipe.says(3, &request("1", "m"));
    pipe.says(3, &request("2", "m"));
    pipe.hears(&result("2", "{}"));
    pipe.says(2, &request("2", "m"));
    attach(&mut pipe, 4, &ann).unwrap();
    attach(&mut pipe, 5, &Principal::Anonymous).unwrap();
}

/// An `initialize` that declares nothing stays as it is.
#[test]
fn what_declares_nothing_needs_no_edit() {
    let bare = request("1", "initialize");
    assert_eq!(without_capabilities(&parse(&bare)), bare);
}

/// Row "client leaves": the session stays until its idle time is over, which is nobody's loss.
#[test]
fn an_idle_session_is_closed_and_not_lost() {
    let mut pipe = Pipe::shared(1);
    pipe.machine.close_idle();
    assert!(pipe.machine.poll_action().is_none(), "a client uses it");
    pipe.leaves(1);
    pipe.machine.close_idle();
    let closed = pipe.machine.poll_action();
    assert!(
        matches!(closed, Some(Action::Close(End::Idle))),
        "{closed:?}"
    );
    pipe.machine.close_idle();
    assert!(pipe.machine.poll_action().is_none(), "once");
}
