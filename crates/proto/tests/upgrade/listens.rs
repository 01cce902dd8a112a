//! What the client is told unasked: the listen for lists (protocol notes 5.3, rows "GET stream", "listen").

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn all() -> Value {
    json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true})
}

fn listen(call: u64, filter: Value) -> String {
    format!(
        "{call} subscriptions/listen {}",
        json!({"notifications": filter})
    )
}

fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

/// A session with an acknowledged listen, which is call 1.
fn listening() -> Session {
    let mut session = Session::new(json!({}));
    assert!(session.says(initialized()).is_empty());
    assert_eq!(session.opens(), [listen(1, all())]);
    assert!(session.acknowledges(1, all()).is_empty());
    session
}

fn list_changed(kind: &str, call: u64) -> Value {
    let method = format!("notifications/{kind}/list_changed");
    notification(&method, json!({"_meta": stamp(call)}))
}

/// R217, R220: notices come without the id of the listen.
#[test]
fn r217_notices_come_without_subscription_id() {
    let mut session = listening();
    for kind in ["tools", "prompts", "resources"] {
        let told = session.hears(1, list_changed(kind, 1));
        let notice = json!({"jsonrpc": "2.0", "method": format!("notifications/{kind}/list_changed"), "params": {}});
        assert_eq!(told, [format!("-: {notice}")]);
    }
    assert!(
        session
            .hears(
                1,
                notification("notifications/message", json!({"level": "error"}))
            )
            .is_empty()
    );
}

/// Protocol notes 5.3: a listen is opened for who can be told, of what there is.
#[test]
fn a_listen_is_opened_for_a_stream_and_for_what_is_offered() {
    let mut session = Session::with(NEWEST, json!({}), json!({"tools": {}}), |_| {});
    session.says(initialized());
    assert!(session.opens().is_empty());

    let offered = json!({"tools": {"listChanged": true}, "prompts": {"listChanged": false}});
    let mut session = Session::with(NEWEST, json!({}), offered, |_| {});
    assert!(session.opens().is_empty());
    assert_eq!(
        session.says(initialized()),
        [listen(1, json!({"toolsListChanged": true}))]
    );
    // A second stream, or the next one, opens no other.
    assert!(session.opens().is_empty());
    assert!(session.closes().is_empty());
}

/// R221: after a gap the client reads everything anew.
#[test]
fn r221_a_lost_listen_is_opened_again_and_the_gap_is_told() {
    for ending in [None, Some(json!({"resultType": "complete"}))] {
        let mut session = listening();
        let lost = match ending {
            None => session.fails(1, false),
            Some(result) => session.gets(1, result),
        };
        assert!(lost.is_empty());
        let again = session.passes(SECOND);
        assert_eq!(again, [listen(2, all())]);
        let told = session.acknowledges(2, all());
        assert_eq!(
            told,
            [changed("tools"), changed("prompts"), changed("resources")]
        );
        session.is_quiet(1);
    }
}

/// R221: a server that drops every listen gets no hot loop.
#[test]
fn r221_listens_are_opened_again_more_and_more_slowly() {
    let mut session = listening();
    session.fails(1, false);
    let mut opened = 1;
    while session.now < session.start + 10 * MINUTE {
        session.passes(100 * MILLI);
        while session.calls.len() > opened {
            opened += 1;
            // That it is acknowledged is no progress.
            session.acknowledges(opened as u64, all());
            session.fails(opened as u64, false);
        }
    }
    assert!(
        (10..100).contains(&opened),
        "{opened} listens in ten minutes"
    );
}

/// Protocol notes 5.3: what is refused for good is left out.
#[test]
fn what_is_refused_for_good_is_left_out() {
    let mut session = Session::new(json!({}));
    session.says(initialized());
    session.opens();
    assert!(
        session
            .acknowledges(1, json!({"toolsListChanged": true}))
            .is_empty()
    );
    assert!(session.hears(1, list_changed("prompts", 1)).is_empty());
    session.fails(1, false);
    assert_eq!(
        session.passes(SECOND),
        [listen(2, json!({"toolsListChanged": true}))]
    );
    assert!(session.refused(2, -32601, Value::Null).is_empty());
    assert!(session.passes(60 * MINUTE).is_empty());
    session.is_quiet(0);

    let mut session = Session::new(json!({}));
    session.says(initialized());
    session.opens();
    assert_eq!(session.acknowledges(1, json!({})), ["close 1"]);
    session.is_quiet(0);
}

/// Protocol notes 5.3: what comes before the acknowledgement is dropped, and it has ten seconds from there.
#[test]
fn the_acknowledgement_comes_first() {
    let mut session = Session::new(json!({}));
    session.says(initialized());
    session.opens();
    assert!(session.hears(1, list_changed("tools", 1)).is_empty());
    assert!(session.passes(9 * SECOND).is_empty());
    let lines = session.passes(2 * SECOND);
    assert_eq!(lines, ["close 1".to_owned(), listen(2, all())]);
}

/// Protocol notes 5.3, row "GET stream drops": kept for a while, then closed; who comes back then has a gap.
#[test]
fn listens_are_kept_for_a_client_that_may_come_back() {
    let mut session = listening();
    assert!(session.closes().is_empty());
    assert!(session.passes(4 * MINUTE).is_empty());
    // What it is told meanwhile is held by the shell.
    assert_eq!(session.hears(1, list_changed("tools", 1)).len(), 1);
    assert!(session.opens().is_empty());
    assert!(session.passes(10 * MINUTE).is_empty());

    session.closes();
    assert_eq!(session.passes(5 * MINUTE), ["close 1"]);
    session.is_quiet(0);
    assert_eq!(session.machine.poll_timeout(), None);
    assert_eq!(session.opens(), [listen(2, all())]);
    assert_eq!(session.acknowledges(2, all()).len(), 3);
}
