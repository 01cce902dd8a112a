//! `subscriptions/listen` (R239).

use super::*;

const EVERYTHING: &str = r#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a","b"]}"#;

fn listen(id: &str, notifications: &str) -> String {
    let params = format!(r#","notifications":{notifications}"#);
    modern(id, "subscriptions/listen", &params, NOTHING, "")
}

fn uris(id: &str, uris: &str) -> String {
    listen(id, &format!(r#"{{"resourceSubscriptions":{uris}}}"#))
}

fn stamped(method: &str, params: &str, id: &str) -> String {
    notification(
        method,
        &format!(r#"{{{params}"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#),
    )
}

fn acknowledged(id: &str, notifications: &str) -> String {
    let params = format!(r#""notifications":{notifications},"#);
    stamped("notifications/subscriptions/acknowledged", &params, id)
}

fn tools(id: &str) -> String {
    stamped("notifications/tools/list_changed", "", id)
}

fn updated(uri: &str, id: &str) -> String {
    let params = format!(r#""uri":"{uri}","#);
    stamped("notifications/resources/updated", &params, id)
}

fn subscribe(id: &str, uri: &str) -> String {
    up(&request(
        id,
        "resources/subscribe",
        &format!(r#"{{"uri":"{uri}"}}"#),
    ))
}

fn unsubscribe(id: &str, uri: &str) -> String {
    up(&request(
        id,
        "resources/unsubscribe",
        &format!(r#"{{"uri":"{uri}"}}"#),
    ))
}

fn changed() -> String {
    notification("notifications/tools/list_changed", "{}")
}

fn ended(id: &str) -> String {
    result(
        id,
        &format!(
            r#"{{"resultType":"complete","_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#
        ),
    )
}

/// R239, invariant 18: the acknowledgement comes first, with what the server can tell; what came before is
/// held, once; and everything bears the listen's own stamp.
#[test]
fn r239_a_listen_is_acknowledged_first() {
    let mut session = Session::pipe();
    let lines = session.asks(1, &listen("\"l\"", EVERYTHING));
    assert_eq!(lines, [subscribe("2", "a"), subscribe("3", "b")]);
    assert_eq!(session.hears(&changed()), [""; 0]);
    assert_eq!(session.hears(&changed()), [""; 0]);
    assert_eq!(session.hears(&result("2", "{}")), [""; 0]);
    // The second resource cannot be subscribed to; the server has no changing prompts.
    let honoured =
        r#"{"toolsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a"]}"#;
    assert_eq!(
        session.hears(&error("3", -32602, "no")),
        [
            format!("1: {}", acknowledged("\"l\"", honoured)),
            format!("1 notice: {}", tools("\"l\"")),
        ]
    );
    let update = |uri| {
        notification(
            "notifications/resources/updated",
            &format!(r#"{{"uri":"{uri}"}}"#),
        )
    };
    assert_eq!(
        session.hears(&update("a")),
        [format!("1 notice: {}", updated("a", "\"l\""))]
    );
    assert_eq!(session.hears(&update("b")), [""; 0]);
    let prompts = notification("notifications/prompts/list_changed", "{}");
    assert_eq!(session.hears(&prompts), [""; 0]);
    assert_eq!(session.leaves(1), [unsubscribe("4", "a")]);
    assert_eq!(session.hears(&changed()), [""; 0], "nothing after its end");
}

/// Protocol notes 2.3.7, 5.4.3: tasks are for who has declared them, and nobody is told of any.
#[test]
fn tasks_are_listened_to_by_none_that_has_not_declared_them() {
    let listen = |declared: &str, tasks: &str| {
        let filter = format!(r#","notifications":{{"toolsListChanged":true,"taskIds":{tasks}}}"#);
        modern("1", "subscriptions/listen", &filter, declared, "")
    };
    let tasks = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let other = r#"{"extensions":{"io.modelcontextprotocol/tasks":7,"x":{}}}"#;
    let mut session = Session::pipe();
    for (declared, ids, refused) in [
        (NOTHING, r#"["t"]"#, Refused::TasksUndeclared),
        (NOTHING, "[]", Refused::TasksUndeclared),
        (other, r#"["t"]"#, Refused::TasksUndeclared),
        (
            tasks,
            r#""t""#,
            Refused::InvalidParameter {
                parameter: "notifications",
            },
        ),
        (
            tasks,
            "[7]",
            Refused::InvalidParameter {
                parameter: "notifications",
            },
        ),
    ] {
        assert_eq!(session.tries(1, &listen(declared, ids)), Err(refused));
    }
    let refused = Refused::TasksUndeclared;
    let answer = refused.answer(&parse(&listen(NOTHING, "[]")), "u").unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(
        (refused.status(), answer["error"]["code"].as_i64()),
        (400, Some(-32021))
    );
    let required: serde_json::Value = serde_json::from_str(tasks).unwrap();
    assert_eq!(answer["error"]["data"]["requiredCapabilities"], required);
    let lines = session.asks(1, &listen(tasks, r#"["t"]"#));
    let honoured = acknowledged("1", r#"{"toolsListChanged":true}"#);
    assert_eq!(lines, [format!("1: {honoured}")]);
}

/// R239: a change of a part of a resource is for who listens to the whole. What is kept until the acknowledgement are
/// resources that were asked for, however many parts of them have changed.
#[test]
fn r239_a_part_of_a_resource_concerns_who_has_the_whole() {
    let mut session = Session::pipe();
    let update = |uri: &str| {
        let params = format!(r#"{{"uri":"{uri}"}}"#);
        notification("notifications/resources/updated", &params)
    };
    let lines = session.asks(1, &uris("1", r#"["a"]"#));
    assert_eq!(lines, [subscribe("2", "a")]);
    for part in ["a/b", "a/c", "ab"] {
        assert_eq!(session.hears(&update(part)), [""; 0]);
    }
    let honoured = acknowledged("1", r#"{"resourceSubscriptions":["a"]}"#);
    assert_eq!(
        session.hears(&result("2", "{}")),
        [
            format!("1: {honoured}"),
            format!("1 notice: {}", updated("a", "1"))
        ]
    );
    assert_eq!(
        session.hears(&update("a/b")),
        [format!("1 notice: {}", updated("a/b", "1"))]
    );
    assert_eq!(session.hears(&update("ab")), [""; 0]);
}

/// An empty subset still gets an acknowledgement and an open stream.
#[test]
fn r239_an_empty_listen_is_open() {
    let mut session = Session::streams();
    assert_eq!(
        session.asks(1, &listen("1", "{}")),
        [format!("1: {}", acknowledged("1", "{}"))]
    );
    assert!(!session.machine.is_idle());
    let mut session = Session::open(Channel::Streams, Lifetime::Pooled, r#"{"tools":{}}"#);
    let lines = session.asks(1, &listen("1", EVERYTHING));
    assert_eq!(lines, [format!("1: {}", acknowledged("1", "{}"))]);
}

/// R239: over Streamable HTTP the standing stream is opened first, and closed when unused; 405 means that
/// nothing can come.
#[test]
fn r239_a_listen_needs_the_standing_stream() {
    let mut session = Session::streams();
    assert_eq!(
        session.asks(1, &listen("1", r#"{"toolsListChanged":true}"#)),
        ["open stream"]
    );
    let honoured = acknowledged("1", r#"{"toolsListChanged":true}"#);
    assert_eq!(session.stream_opened(), [format!("1: {honoured}")]);
    // Notices come on any stream.
    session.asks(2, &list("2"));
    assert_eq!(
        session.hears_on(2, &changed()),
        [format!("1 notice: {}", tools("1"))]
    );
    assert_eq!(session.leaves(1), ["close stream"]);

    session.asks(3, &listen("3", EVERYTHING));
    session.machine.stream_refused(session.now);
    assert_eq!(
        session.actions(),
        [format!("3: {}", acknowledged("3", "{}"))]
    );
    let lines = session.asks(4, &listen("4", EVERYTHING));
    assert_eq!(lines, [format!("4: {}", acknowledged("4", "{}"))]);
}

/// A refusal that comes after the acknowledgement ends what was promised.
#[test]
fn a_late_refusal_of_the_stream_ends_listens() {
    let mut session = Session::streams();
    session.asks(1, &listen("1", r#"{"toolsListChanged":true}"#));
    let since = thinpipe_proto::bridge::downgrade::STREAM_WAIT;
    assert_eq!(session.at(since).len(), 1, "taken for open");
    session.machine.stream_refused(session.now);
    assert_eq!(session.actions(), [format!("1 200: {}", ended("1"))]);
}

/// Invariant 20: one subscription for each resource that anybody wants, one request at a time.
#[test]
fn r239_subscriptions_are_counted() {
    let mut session = Session::pipe();
    session.asks(1, &uris("1", r#"["a"]"#));
    assert_eq!(session.asks(2, &uris("2", r#"["a"]"#)), [""; 0]);
    assert_eq!(session.hears(&result("2", "{}")).len(), 2);
    assert_eq!(session.leaves(1), [""; 0]);
    assert_eq!(session.leaves(2), [unsubscribe("3", "a")]);
    assert_eq!(session.asks(3, &uris("3", r#"["a"]"#)), [""; 0], "it waits");
    assert_eq!(session.hears(&result("3", "{}")), [subscribe("4", "a")]);
    // Nobody wants it any more before it is there.
    assert_eq!(session.leaves(3), [""; 0]);
    assert_eq!(session.hears(&result("4", "{}")), [unsubscribe("5", "a")]);
    assert_eq!(session.hears(&error("5", -32602, "no")), [""; 0]);
    assert!(session.machine.is_idle());
}

/// A subscription that is not answered in time is left out, and taken back.
#[test]
fn an_unanswered_subscription_is_left_out_and_taken_back() {
    let mut session = Session::pipe();
    session.asks(1, &uris("1", r#"["a"]"#));
    let lines = session.at(10 * SECOND);
    assert_eq!(
        lines,
        [
            unsubscribe("3", "a"),
            format!("1: {}", acknowledged("1", "{}"))
        ]
    );
}

/// A gap of the standing stream: everyone is told everything it hears.
#[test]
fn a_gap_is_made_up_for() {
    let mut session = Session::streams();
    session.asks(
        1,
        &listen(
            "1",
            r#"{"toolsListChanged":true,"resourceSubscriptions":["a"]}"#,
        ),
    );
    session.stream_opened();
    session.hears(&result("2", "{}"));
    session.machine.stream_opened(true, session.now);
    assert_eq!(
        session.actions(),
        [
            format!("1 notice: {}", tools("1")),
            format!("1 notice: {}", updated("a", "1"))
        ]
    );
}

/// Protocol notes 5.4.3, 7: another session goes on with a listen, without a second acknowledgement; or
/// the listen ends.
#[test]
fn a_listen_goes_on_on_another_session() {
    let mut lost = Session::pipe();
    lost.asks(1, &listen("1", EVERYTHING));
    lost.hears(&result("2", "{}"));
    lost.hears(&result("3", "{}"));
    lost.asks(2, &listen("2", r#"{"resourceSubscriptions":["c"]}"#));
    lost.machine.upstream_lost("it left", lost.now);
    let lines = lost.actions();
    assert_eq!(lines[..2], ["relisten 1", "relisten 2"]);
    assert!(lost.machine.is_finished());
    let mut again = lost.listenings.into_iter();
    let (first, second) = (again.next().unwrap(), again.next().unwrap());
    assert_eq!(first.final_result(), ended("1"));

    let mut session = Session::pipe();
    session.machine.adopt(first.clone(), session.now).unwrap();
    session.actions();
    session.hears(&result("2", "{}"));
    let lines = session.hears(&result("3", "{}"));
    let resources = stamped("notifications/resources/list_changed", "", "1");
    assert_eq!(
        lines,
        [tools("1"), resources, updated("a", "1"), updated("b", "1")]
            .map(|notice| format!("1 notice: {notice}"))
    );
    // One that was not acknowledged yet is, here.
    session.machine.adopt(second, session.now).unwrap();
    session.actions();
    let lines = session.hears(&result("4", "{}"));
    assert_eq!(
        lines,
        [format!(
            "2: {}",
            acknowledged("2", r#"{"resourceSubscriptions":["c"]}"#)
        )]
    );

    // It would hear less: the server has lost a feature, or refuses a resource.
    let mut session = Session::open(Channel::Pipe, Lifetime::Pooled, r#"{"tools":{}}"#);
    session.machine.adopt(first.clone(), session.now).unwrap();
    assert_eq!(session.actions(), [format!("1 200: {}", ended("1"))]);
    let mut session = Session::pipe();
    session.machine.adopt(first, session.now).unwrap();
    session.actions();
    let lines = session.hears(&error("2", -32602, "no"));
    assert_eq!(lines, [format!("1 200: {}", ended("1"))]);
    assert_eq!(session.hears(&result("3", "{}")), [unsubscribe("4", "b")]);
}
