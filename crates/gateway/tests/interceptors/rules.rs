//! E3: rules.

use std::time::Duration;

use thinpipe_gateway::interceptor::{MessageContext, Outcome};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use tokio::time::Instant;

use super::{
    TO_CLIENT, TO_UPSTREAM, by, call, chain, changed, cx, finish, forwarded, message, named,
    rejected, response, run, text,
};

/// Whether a condition holds.
fn holds(when: &str, cx: &MessageContext, message: &Message) -> bool {
    let chain = chain(&format!(
        r#"interceptors = [{{ type = "rules", rules = [{{ when = {when}, then = [{{ reject = {{}} }}] }}] }}]"#
    ));
    matches!(run(&chain, cx, message), Outcome::Rejected(_))
}

/// E3
#[test]
fn e3_conditions_on_the_context() {
    let request = call("read", "{}");
    let base = by("alice", named(TO_UPSTREAM, "tools/call", "read"));
    let sessionless = MessageContext {
        session: None,
        revision: Revision::V2026_07_28,
        ..base.clone()
    };
    let anonymous = named(TO_UPSTREAM, "tools/call", "read");
    for (when, expected) in [
        ("{}", [true, true, true]),
        (r#"{ direction = "to_upstream" }"#, [true, true, true]),
        (r#"{ direction = "to_client" }"#, [false, false, false]),
        (
            r#"{ kinds = ["notification", "request"] }"#,
            [true, true, true],
        ),
        (r#"{ kinds = ["response"] }"#, [false, false, false]),
        (r#"{ methods = ["ping", "tools/*"] }"#, [true, true, true]),
        (r#"{ methods = ["*/list"] }"#, [false, false, false]),
        (r#"{ names = ["re*d"] }"#, [true, true, true]),
        (r#"{ principals = ["al*"] }"#, [true, true, false]),
        (r#"{ principals = ["*"] }"#, [true, true, false]),
        (r#"{ authenticated = false }"#, [false, false, true]),
        (r#"{ session = true }"#, [true, false, true]),
        (r#"{ session = false }"#, [false, true, false]),
        (
            r#"{ revisions = ["2026-07-28", "2024-11-05"] }"#,
            [false, true, false],
        ),
        (
            r#"{ names = ["read"], session = false }"#,
            [false, true, false],
        ),
    ] {
        let cases = [&base, &sessionless, &anonymous];
        assert_eq!(
            cases.map(|cx| holds(when, cx, &request)),
            expected,
            "{when}"
        );
    }
}

/// E3
#[test]
fn e3_conditions_on_values() {
    let arguments = r#"{"path":"/etc/passwd","n":42,"f":4.20,"big":9007199254740993,"list":[{"a":1},{"a":"x"}],"e":"\u0061","t":true,"z":null,"o":{"b":[1,2.0]}}"#;
    let request = call("read", arguments);
    let cx = named(TO_UPSTREAM, "tools/call", "read");
    for (test, expected) in [
        (r#"{ pointer = "/name", equals = "read" }"#, true),
        (
            r#"{ pointer = "/arguments/path", matches = "/etc/*" }"#,
            true,
        ),
        (
            r#"{ pointer = "/arguments/path", matches = "/etc" }"#,
            false,
        ),
        (r#"{ pointer = "/arguments/n", equals = 42 }"#, true),
        (r#"{ pointer = "/arguments/n", equals = 42.0 }"#, true),
        (r#"{ pointer = "/arguments/n", equals = "42" }"#, false),
        (r#"{ pointer = "/arguments/n", matches = "4*" }"#, true),
        (r#"{ pointer = "/arguments/f", equals = 4.2 }"#, true),
        (
            r#"{ pointer = "/arguments/big", equals = 9007199254740993 }"#,
            true,
        ),
        (
            r#"{ pointer = "/arguments/big", equals = 9007199254740992 }"#,
            false,
        ),
        (r#"{ pointer = "/arguments/list/1/a", equals = "x" }"#, true),
        (r#"{ pointer = "/arguments/list/*/a", equals = 1 }"#, true),
        (r#"{ pointer = "/arguments/list/*/a", equals = 2 }"#, false),
        (r#"{ pointer = "/arguments/e", equals = "a" }"#, true),
        (r#"{ pointer = "/arguments/t", equals = true }"#, true),
        (r#"{ pointer = "/arguments/t", equals = false }"#, false),
        (
            r#"{ pointer = "/arguments/o", equals = { b = [1, 2.0] } }"#,
            true,
        ),
        (r#"{ pointer = "/arguments/o/b", equals = [1] }"#, false),
        (r#"{ pointer = "/arguments/z", exists = true }"#, true),
        (r#"{ pointer = "/arguments/q", exists = true }"#, false),
        (r#"{ pointer = "/arguments/q", exists = false }"#, true),
    ] {
        assert_eq!(
            holds(&format!("{{ params = [{test}] }}"), &cx, &request),
            expected,
            "{test}"
        );
        // The same, in a result.
        let answer = response(&format!(r#"{{"name":"read","arguments":{arguments}}}"#));
        let when = format!("{{ result = [{test}] }}");
        assert_eq!(
            holds(&when, &super::cx(TO_CLIENT, "tools/call"), &answer),
            expected,
            "{test}"
        );
        // A message of the other kind fits neither way.
        assert!(!holds(&when, &cx, &request), "{test}");
    }
    let both = r#"{ params = [{ pointer = "/name", equals = "read" }, { pointer = "/x", exists = true }] }"#;
    assert!(!holds(both, &cx, &request), "all tests must hold");
}

/// E3
#[test]
fn e3_conditions_combine() {
    let cx = by("alice", named(TO_UPSTREAM, "tools/call", "delete_all"));
    let request = call("delete_all", r#"{"force":true}"#);
    for (when, expected) in [
        (r#"{ not = { principals = ["alice"] } }"#, false),
        (r#"{ not = { principals = ["bob"] } }"#, true),
        (
            r#"{ any = [{ names = ["read"] }, { names = ["delete_*"] }] }"#,
            true,
        ),
        (
            r#"{ any = [{ names = ["read"] }, { names = ["write"] }] }"#,
            false,
        ),
        (
            r#"{ all = [{ names = ["delete_*"] }, { principals = ["alice"] }] }"#,
            true,
        ),
        (
            r#"{ all = [{ names = ["delete_*"] }, { principals = ["bob"] }] }"#,
            false,
        ),
        (
            r#"{ methods = ["tools/call"], any = [{ principals = ["root"] }, { all = [{ names = ["delete_*"] }, { not = { params = [{ pointer = "/arguments/force", equals = false }] } }] }] }"#,
            true,
        ),
        (r#"{ methods = ["tools/list"], any = [{}] }"#, false),
        (r#"{ not = { not = {} } }"#, true),
    ] {
        assert_eq!(holds(when, &cx, &request), expected, "{when}");
    }
}

/// E3
#[test]
fn e3_the_first_rule_that_holds_decides_and_priority_goes_first() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "rules"
        [[interceptors.rules]]
        name = "late"
        when.names = ["a*"]
        then = [{ reject = { code = -32001, message = "late" } }]
        [[interceptors.rules]]
        name = "later"
        when.names = ["*"]
        then = [{ reject = {} }]
        [[interceptors.rules]]
        name = "lowest"
        priority = -1
        then = [{ reject = { message = "lowest" } }]
        [[interceptors.rules]]
        priority = 5
        when.names = ["ab"]
        then = ["continue"]
        "#,
    );
    let outcome = |name: &str| {
        let cx = named(TO_UPSTREAM, "tools/call", name);
        run(&chain, &cx, &call(name, "{}"))
    };
    forwarded(outcome("ab"));
    let late = rejected(outcome("aa"));
    assert_eq!(
        (late.code, &*late.message, &*late.reason),
        (-32001, "late", "late")
    );
    let later = rejected(outcome("b"));
    assert_eq!(
        (later.code, &*later.message, &*later.reason),
        (-32600, "Refused by a rule", "later")
    );
    let nameless = run(
        &chain,
        &cx(TO_UPSTREAM, "ping"),
        &message(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
    );
    assert_eq!(rejected(nameless).reason, "lowest");
}

/// E1, C14: values are set or added, and no other byte changes.
#[test]
fn values_are_set_and_added() {
    let set = |sets: &str| {
        chain(&format!(
            r#"interceptors = [{{ type = "rules", rules = [{{ then = [{sets}] }}] }}]"#
        ))
    };
    let cx = named(TO_UPSTREAM, "tools/call", "x");
    for (sets, before, after) in [
        (
            r#"{ set = { pointer = "/params/arguments/a", value = 2 } }"#,
            r#"{ "a" : 1.0, "b":1.0 }"#,
            r#"{ "a" : 2, "b":1.0 }"#,
        ),
        (
            r#"{ set = { pointer = "/params/arguments/c", value = ["x"] } }"#,
            r#"{"a":1 }"#,
            r#"{"a":1 ,"c":["x"]}"#,
        ),
        (
            r#"{ set = { pointer = "/params/arguments/q\"~1", value = true } }"#,
            r#"{}"#,
            r#"{"q\"/":true}"#,
        ),
        (
            r#"{ set = { pointer = "/params/arguments/o", value = {} } }, { set = { pointer = "/params/arguments/o/p", value = 1 } }"#,
            "{}",
            r#"{"o":{"p":1}}"#,
        ),
        (
            r#"{ set = { pointer = "/params/arguments/l/1", value = 9 } }"#,
            r#"{"l":[1,2,3]}"#,
            r#"{"l":[1,9,3]}"#,
        ),
    ] {
        let outcome = run(&set(sets), &cx, &call("x", before));
        assert_eq!(changed(outcome), text(&call("x", after)), "{sets}");
    }
    for (sets, given) in [
        // Already so; nothing that could hold it; an element that is not there.
        (
            r#"{ set = { pointer = "/params/arguments/a", value = 1 } }"#,
            r#"{"a":1}"#,
        ),
        (
            r#"{ set = { pointer = "/params/arguments/a/b", value = 1 } }"#,
            r#"{"a":1}"#,
        ),
        (
            r#"{ set = { pointer = "/params/arguments/l/3", value = 9 } }"#,
            r#"{"l":[1,2,3]}"#,
        ),
        (r#"{ set = { pointer = "/result/a", value = 9 } }"#, "{}"),
    ] {
        let request = call("x", given);
        assert_eq!(
            forwarded(run(&set(sets), &cx, &request)),
            text(&request),
            "{sets}"
        );
    }
    let results = set(r#"{ set = { pointer = "/result/isError", value = true } }"#);
    let outcome = run(
        &results,
        &super::cx(TO_CLIENT, "tools/call"),
        &response(r#"{"content":[]}"#),
    );
    assert_eq!(
        changed(outcome),
        text(&response(r#"{"content":[],"isError":true}"#))
    );
}

/// E1
#[tokio::test(start_paused = true)]
async fn a_rule_delays_and_then_does_the_rest() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "rules"
        rules = [
            { when.names = ["a"], then = [{ delay = { ms = 300 } }, { set = { pointer = "/params/x", value = 1 } }, { delay = { ms = 200 } }] },
            { when.names = ["b"], then = [{ delay = { ms = 500 } }, { reject = {} }] },
        ]
        "#,
    );
    let start = Instant::now();
    let outcome = finish(
        &chain,
        &named(TO_UPSTREAM, "tools/call", "a"),
        &call("a", "{}"),
    )
    .await;
    assert!(changed(outcome).contains(r#""x":1"#));
    assert_eq!(start.elapsed(), Duration::from_millis(500));
    let outcome = finish(
        &chain,
        &named(TO_UPSTREAM, "tools/call", "b"),
        &call("b", "{}"),
    )
    .await;
    assert_eq!(rejected(outcome).reason, "rule");
    assert_eq!(start.elapsed(), Duration::from_millis(1_000));
}

/// E8: rules that are all about some methods read no others.
#[test]
fn e8_rules_read_only_the_methods_they_are_about() {
    let some = chain(
        r#"interceptors = [{ type = "rules", rules = [
            { when = { direction = "to_upstream", methods = ["tools/*"] }, then = ["continue"] },
            { when = { methods = ["ping"] }, then = ["continue"] },
        ] }]"#,
    );
    assert!(some.wants(TO_UPSTREAM, Some("tools/call")) && some.wants(TO_UPSTREAM, Some("ping")));
    assert!(!some.wants(TO_UPSTREAM, Some("prompts/get")));
    assert!(some.wants(TO_CLIENT, Some("ping")) && !some.wants(TO_CLIENT, Some("tools/call")));
    let all = chain(
        r#"interceptors = [{ type = "rules", rules = [{ when.methods = ["*/list"], then = ["continue"] }] }]"#,
    );
    assert!(all.wants(TO_UPSTREAM, None));
}
