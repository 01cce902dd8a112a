//! Subscriptions to resources over additional listens (protocol notes 5.3, O16).

use super::*;

fn listen(call: u64, uris: &[&str]) -> String {
    let filter = json!({"notifications": {"resourceSubscriptions": uris}});
    format!("{call} subscriptions/listen {filter}")
}

fn ready() -> Session {
    let mut session = Session::with(
        NEWEST,
        json!({}),
        json!({"resources": {"subscribe": true}}),
        |_| {},
    );
    session.says(notification("notifications/initialized", json!({})));
    assert!(session.opens().is_empty());
    session
}

impl Session {
    fn subscribes(&mut self, id: i64, uri: &str) -> Vec<String> {
        self.asks(id, "resources/subscribe", json!({"uri": uri}))
    }

    fn unsubscribes(&mut self, id: i64, uri: &str) -> Vec<String> {
        self.asks(id, "resources/unsubscribe", json!({"uri": uri}))
    }

    fn honours(&mut self, call: u64, uris: &[&str]) -> Vec<String> {
        self.acknowledges(call, json!({"resourceSubscriptions": uris}))
    }

    fn update(&mut self, call: u64, uri: &str) -> Vec<String> {
        let params = json!({"uri": uri, "_meta": stamp(call)});
        self.hears(
            call,
            notification("notifications/resources/updated", params),
        )
    }
}

fn empty(id: i64) -> String {
    result(json!(id), json!({}))
}

/// R220: answered once the acknowledgement has it; updates come as they are, unsubscribing ends them.
#[test]
fn r220_a_subscription_is_a_listen() {
    let mut session = ready();
    assert_eq!(session.subscribes(1, "a"), [listen(1, &["a"])]);
    assert_eq!(session.honours(1, &["a"]), [empty(1)]);
    assert_eq!(session.update(1, "a"), [updated("a")]);
    assert!(session.update(1, "b").is_empty());
    assert_eq!(session.subscribes(2, "a"), [empty(2)]);
    assert_eq!(
        session.unsubscribes(3, "a"),
        ["close 1".to_owned(), empty(3)]
    );
    assert!(session.update(1, "a").is_empty());
    session.is_quiet(0);
}

/// R220: what the acknowledgement leaves out is refused.
#[test]
fn r220_a_subscription_may_be_refused() {
    let mut session = ready();
    session.subscribes(1, "a");
    session.subscribes(2, "b");
    let text = "the server refused the subscription";
    let lines = session.honours(1, &[]);
    assert_eq!(
        lines,
        [
            error(json!(1), -32602, text),
            "close 1".to_owned(),
            listen(2, &["b"])
        ]
    );
    assert_eq!(session.refused(2, -32603, Value::Null).len(), 1);
    session.is_quiet(0);
    assert_eq!(session.machine.subscriptions(), 0);
}

/// R220: without the capability there is no such method.
#[test]
fn r220_a_server_without_subscriptions_has_none() {
    let mut session = Session::with(NEWEST, json!({}), json!({"resources": {}}), |_| {});
    assert_eq!(
        session.subscribes(1, "a"),
        [not_served(json!(1), "resources/subscribe")]
    );
}

/// R221, invariant 19: another subscription is another listen, and no notice of the first is lost or doubled.
#[test]
fn r221_a_change_makes_before_it_breaks() {
    let mut session = ready();
    session.subscribes(1, "a");
    session.honours(1, &["a"]);
    assert_eq!(session.subscribes(2, "b"), [listen(2, &["b"])]);
    assert_eq!(session.update(1, "a"), [updated("a")]);
    // Those asked for while one is opening share the next.
    assert!(session.subscribes(3, "c").is_empty());
    assert!(session.subscribes(4, "d").is_empty());
    let lines = session.honours(2, &["b"]);
    assert_eq!(lines, [empty(2), listen(3, &["c", "d"])]);
    assert_eq!(session.honours(3, &["c", "d"]), [empty(3), empty(4)]);
    assert_eq!(session.update(1, "a"), [updated("a")]);
    assert!(session.update(2, "a").is_empty());
    assert_eq!(session.unsubscribes(5, "c"), [empty(5)]);
    assert!(session.update(3, "c").is_empty());
    assert_eq!(session.update(3, "d"), [updated("d")]);
}

/// R221: the fifth listen takes the place of the others, which are told of once.
#[test]
fn r221_more_than_four_listens_become_one() {
    let mut session = ready();
    for (n, uri) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let (id, call) = (i64::try_from(n).unwrap() + 1, n as u64 + 1);
        session.subscribes(id, uri);
        session.honours(call, &[uri]);
    }
    assert_eq!(session.machine.calls(), 4);
    assert_eq!(
        session.subscribes(5, "e"),
        [listen(5, &["a", "b", "c", "d", "e"])]
    );
    assert_eq!(session.update(2, "b"), [updated("b")]);
    session.unsubscribes(6, "d");
    // The server does not honour one of the old ones again: it stays where it is.
    let lines = session.honours(5, &["a", "b", "d", "e"]);
    assert_eq!(
        lines,
        [
            empty(5),
            "close 1".into(),
            "close 2".into(),
            updated("a"),
            updated("b")
        ]
    );
    assert_eq!(session.machine.calls(), 2);
    assert_eq!(session.update(3, "c"), [updated("c")]);
    assert_eq!(session.update(5, "b"), [updated("b")]);
    assert!(session.update(5, "d").is_empty());
}

/// R221, protocol notes 5.3, "listen ended or lost": what was on a listen that is lost while another one takes its
/// place goes on there, and is left out if the server does not honour it any more.
#[test]
fn r221_what_is_lost_while_it_moves_is_not_asked_for_again() {
    let mut session = ready();
    for (id, uri) in (1..).zip(["a", "b", "c", "d"]) {
        session.subscribes(id, uri);
        session.honours(id.unsigned_abs(), &[uri]);
    }
    session.subscribes(5, "e");
    for lost in [1, 2] {
        assert!(session.fails(lost, false).is_empty());
    }
    let moved = [updated("b"), updated("c"), updated("d")];
    let closed = [empty(5), "close 3".into(), "close 4".into()];
    let lines = session.honours(5, &["b", "c", "d", "e"]);
    assert_eq!(lines, [closed, moved].concat());
    assert!(session.passes(60 * SECOND).is_empty());
    assert_eq!(session.machine.subscriptions(), 4);
    assert_eq!(session.update(5, "b"), [updated("b")]);
    assert!(session.update(5, "a").is_empty());
}

/// R221: a lost listen is opened again, and each of its resources may have changed.
#[test]
fn r221_a_gap_is_told_for_each_resource() {
    let mut session = ready();
    session.subscribes(1, "a");
    session.honours(1, &["a"]);
    session.fails(1, false);
    assert_eq!(session.subscribes(2, "a"), [empty(2)]);
    assert_eq!(session.passes(SECOND), [listen(2, &["a"])]);
    assert_eq!(session.honours(2, &["a"]), [updated("a")]);
    session.gets(2, json!({"resultType": "complete"}));
    session.passes(SECOND);
    // What is not honoured again is left out.
    assert_eq!(session.honours(3, &[]), ["close 3"]);
    session.is_quiet(0);
    assert!(session.passes(600 * SECOND).is_empty());
}

/// Invariant 19: what is taken back while it is asked for is answered, and not told of.
#[test]
fn a_subscription_may_be_taken_back_while_it_is_opened() {
    let mut session = ready();
    session.subscribes(1, "a");
    session.subscribes(2, "b");
    assert_eq!(session.unsubscribes(3, "b"), [empty(2), empty(3)]);
    assert_eq!(session.unsubscribes(4, "a"), [empty(4)]);
    assert_eq!(session.honours(1, &["a"]), [empty(1), "close 1".to_owned()]);
    session.is_quiet(0);
}

/// Invariant 1: it may be cancelled like any request.
#[test]
fn a_subscription_may_be_cancelled() {
    let mut session = ready();
    session.subscribes(1, "a");
    session.subscribes(2, "b");
    assert_eq!(session.cancels(json!(1)), ["finish 1"]);
    assert_eq!(session.cancels(json!(2)), ["finish 2"]);
    assert_eq!(session.honours(1, &["a"]), ["close 1"]);
    session.is_quiet(0);
}

/// R250: a listen that is not acknowledged is an error.
#[test]
fn r250_a_listen_without_acknowledgement_is_given_up() {
    let mut session = ready();
    session.subscribes(1, "a");
    let text = "the server did not acknowledge in time";
    let lines = session.at(60 * SECOND);
    assert_eq!(
        lines,
        [
            "close 1".to_owned(),
            own_error(json!(1), text, "upstream_timeout")
        ]
    );
    session.subscribes(2, "a");
    let lines = session.fails(2, false);
    assert_eq!(
        lines,
        [own_error(json!(2), "it broke", "upstream_stream_lost")]
    );
    session.is_quiet(0);
}

/// Protocol notes 5.3, row "GET stream drops": it ends with the client's absence, and begins with its return.
#[test]
fn subscriptions_outlive_the_absence_of_the_client() {
    let mut session = ready();
    session.subscribes(1, "a");
    session.honours(1, &["a"]);
    session.closes();
    assert_eq!(session.passes(300 * SECOND), ["close 1"]);
    assert_eq!(session.machine.subscriptions(), 1);
    assert_eq!(session.machine.poll_timeout(), None);
    assert_eq!(session.opens(), [listen(2, &["a"])]);
    assert_eq!(session.honours(2, &["a"]), [updated("a")]);
}

/// A client that never opens a stream is subscribed for as long as it may come.
#[test]
fn who_has_no_stream_is_subscribed_for_a_while() {
    let mut session = Session::new(json!({}));
    assert_eq!(session.subscribes(1, "a"), [listen(1, &["a"])]);
    session.honours(1, &["a"]);
    session.passes(200 * SECOND);
    session.subscribes(2, "b");
    session.honours(2, &["b"]);
    assert!(session.passes(299 * SECOND).is_empty());
    assert_eq!(session.passes(SECOND), ["close 1", "close 2"]);
    // It shows itself again, and is told of what it was subscribed to.
    assert_eq!(session.subscribes(3, "c"), [listen(3, &["a", "b", "c"])]);
    let lines = session.honours(3, &["a", "b", "c"]);
    assert_eq!(lines, [empty(3), updated("a"), updated("b")]);
}

/// Invariant 23.
#[test]
fn there_are_only_so_many_subscriptions() {
    let mut session = Session::with(NEWEST, json!({}), everything(), |config| {
        config.limits.subscriptions = 1;
    });
    session.subscribes(1, "a");
    let more = session.tries(request(
        json!(2),
        "resources/subscribe",
        json!({"uri": "b"}),
    ));
    assert_eq!(
        more.unwrap_err(),
        Refused::TooManySubscriptions { limit: 1 }
    );
    let long = "x".repeat(5000);
    let more = session.tries(request(
        json!(2),
        "resources/subscribe",
        json!({"uri": long}),
    ));
    assert!(matches!(more.unwrap_err(), Refused::TooLong { .. }));
}
