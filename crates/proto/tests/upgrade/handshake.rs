//! `initialize`, and what the gateway answers in the server's place.

use super::*;

/// R216: `initialize` is answered from `server/discover`, and nothing modern leaks.
#[test]
fn r216_initialize_is_answered_from_discover() {
    let mut offered = everything();
    offered["tasks"] = json!({});
    offered["extensions"] = json!({"io.modelcontextprotocol/tasks": {}, "a/b": {}});
    let opening = |revision| {
        let initialize = initialize(revision, json!({}));
        let opening = upgrade::initialize(&initialize, &discovered(offered.clone()), "u").unwrap();
        value(&opening.result)
    };
    let mut expected = everything();
    expected["extensions"] = json!({"a/b": {}});
    assert_eq!(
        opening("2025-06-18"),
        json!({
            "protocolVersion": "2025-06-18", "capabilities": expected,
            "serverInfo": {"name": "s", "version": "3"},
        })
    );
    for (asked, answered) in [
        ("2024-11-05", "2024-11-05"),
        ("2026-07-28", NEWEST),
        ("2030-01-01", NEWEST),
    ] {
        assert_eq!(opening(asked)["protocolVersion"], answered);
    }
}

/// R216: the mandatory `serverInfo` is there for a server that does not name itself.
#[test]
fn r216_server_info_is_always_present() {
    let discovered = json!({"supportedVersions": ["2026-07-28"], "capabilities": {}});
    let asked = initialize(NEWEST, json!({}));
    let opening = upgrade::initialize(&asked, &discovered.to_string().into(), "u").unwrap();
    let info = &value(&opening.result)["serverInfo"];
    assert_eq!(*info, json!({"name": "u", "version": "unknown"}));
}

/// Protocol notes 5.3, row `initialize`: what cannot be used opens no session.
#[test]
fn what_cannot_be_used_opens_no_session() {
    let asked = initialize(NEWEST, json!({}));
    for discovered in ["{}", "[]", r#"{"capabilities":7}"#] {
        let opened = upgrade::initialize(&asked, &discovered.into(), "u");
        assert_eq!(opened.unwrap_err(), Refused::InvalidUpstream);
    }
    let nameless = parse(request(json!(0), "initialize", json!({"capabilities": {}})));
    let opened = upgrade::initialize(&nameless, &discovered(json!({})), "u");
    assert_eq!(opened.unwrap_err().code(), -32602);
    let odd = initialize(NEWEST, json!([]));
    assert!(upgrade::initialize(&odd, &discovered(json!({})), "u").is_err());
}

/// R219.
#[test]
fn r219_ping_is_answered_here() {
    let mut session = Session::new(json!({}));
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
    assert_eq!(session.says(ping), [result(json!("p"), json!({}))]);
    session.is_quiet(0);
}

/// R218: no level goes up before it is set, and then with every request; lines below it do not come down.
#[test]
fn r218_the_log_level_goes_with_every_request() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/list", json!({}));
    assert_eq!(session.envelope["level"], Value::Null);
    let line =
        |level: &str| notification("notifications/message", json!({"level": level, "data": 1}));
    assert!(session.hears(1, line("error")).is_empty());

    let set = session.asks(2, "logging/setLevel", json!({"level": "warning"}));
    assert_eq!(set, [result(json!(2), json!({}))]);
    session.asks(3, "tools/list", json!({}));
    assert_eq!(session.envelope["level"], "warning");
    assert!(session.hears(2, line("info")).is_empty());
    assert_eq!(
        session.hears(2, line("error")),
        [format!("3: {}", line("error"))]
    );

    let odd = request(json!(4), "logging/setLevel", json!({"level": "loud"}));
    let refused = session.tries(odd).unwrap_err();
    assert_eq!(refused.code(), -32602);
    let levels =
        "\"level\": it is one of debug, info, notice, warning, error, critical, alert, emergency";
    assert!(refused.to_string().contains(levels), "{refused}");
}

/// R218: a server that does not log has no level to set.
#[test]
fn r218_without_logging_there_is_no_level() {
    let mut session = Session::with(NEWEST, json!({}), json!({}), |_| {});
    let set = session.asks(2, "logging/setLevel", json!({"level": "info"}));
    assert_eq!(set, [not_served(json!(2), "logging/setLevel")]);
}

/// R224, invariant 10: what is declared is what the client declared, and no revision's future.
#[test]
fn r224_declared_upstream_is_what_the_client_declared() {
    let all = json!({
        "roots": {"listChanged": true}, "sampling": {"tools": {}},
        "elicitation": {"form": {}, "url": {}}, "tasks": {}, "experimental": {"x": {}},
    });
    for (revision, expected) in [
        (
            "2025-11-25",
            json!({
                "roots": {}, "sampling": {"tools": {}}, "elicitation": {"form": {}, "url": {}},
                "experimental": {"x": {}},
            }),
        ),
        (
            "2025-03-26",
            json!({"roots": {}, "sampling": {}, "experimental": {"x": {}}}),
        ),
    ] {
        let mut session = Session::with(revision, all.clone(), everything(), |_| {});
        session.asks(1, "tools/list", json!({}));
        assert_eq!(session.envelope["capabilities"], expected, "{revision}");
        assert_eq!(
            session.envelope["info"],
            json!({"name": "c", "version": "2"})
        );
    }
}

/// R247: what no legacy client has, and what is not translated, is not there.
#[test]
fn r247_methods_of_tasks_and_of_2026_07_28_are_not_served() {
    let mut session = Session::new(json!({}));
    let methods = ["tasks/get", "tasks/result", "tasks/list", "tasks/cancel"];
    for method in methods
        .into_iter()
        .chain(["server/discover", "subscriptions/listen"])
    {
        assert_eq!(
            session.asks(1, method, json!({})),
            [not_served(json!(1), method)]
        );
    }
}

/// Protocol notes 6.4: an id is used once at a time, and a session begins once.
#[test]
fn an_id_in_use_and_a_second_initialize_are_refused() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/list", json!({}));
    let again = request(json!(1), "prompts/list", json!({}));
    assert_eq!(session.tries(again).unwrap_err(), Refused::IdInUse);
    let again = request(json!(2), "initialize", json!({}));
    assert_eq!(session.tries(again).unwrap_err(), Refused::Initialized);
}
