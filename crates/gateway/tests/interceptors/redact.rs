//! Values replaced by JSON pointer.

use thinpipe_gateway::interceptor::{Carrier, MessageContext};

use super::{
    TO_CLIENT, TO_UPSTREAM, call, chain, changed, cx, forwarded, message, named, run, text,
};

/// C14: numbers, order, escapes and white space around a redacted value stay as they came.
#[test]
fn c14_only_the_bytes_of_the_value_change() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "redact"
        rules = [
            { pointer = "/params/arguments/password" },
            { pointer = "/result/content/*/text", replace = "***" },
            { pointer = "/result/structuredContent/card", replace = { hidden = true, n = 0 } },
            { pointer = "/error/data/stack", replace = false },
        ]
        "#,
    );
    let request = r#"{ "id" : 9007199254740993,"method":"tools/call", "jsonrpc":"2.0","params": {"arguments": {"n": 1.10, "password" : "a\"b", "z":1e2}, "name":"x"}, "extra":[ ] }"#;
    let expected = request.replace(r#""a\"b""#, r#""[redacted]""#);
    let outcome = run(&chain, &cx(TO_UPSTREAM, "tools/call"), &message(request));
    assert_eq!(changed(outcome), expected);

    let response = r#"{"jsonrpc":"2.0","id":"1","result":{"content":[{"type":"text","text":"a"},{"text" : {"deep":[1]}}, 3],"structuredContent":{"card":[1,2 ],"big":123456789012345678901234567890}}}"#;
    let expected = r#"{"jsonrpc":"2.0","id":"1","result":{"content":[{"type":"text","text":"***"},{"text" : "***"}, 3],"structuredContent":{"card":{"hidden":true,"n":0},"big":123456789012345678901234567890}}}"#;
    for carrier in [Carrier::Body, Carrier::Event] {
        let cx = MessageContext {
            carrier,
            ..cx(TO_CLIENT, "tools/call")
        };
        assert_eq!(changed(run(&chain, &cx, &message(response))), expected);
    }

    let error =
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m","data":{"stack":"at"}}}"#;
    let outcome = run(&chain, &cx(TO_CLIENT, "tools/call"), &message(error));
    assert_eq!(changed(outcome), error.replace("\"at\"", "false"));

    // A second time there is nothing left to change.
    let redacted = message(expected);
    let outcome = run(&chain, &cx(TO_CLIENT, "tools/call"), &redacted);
    assert_eq!(forwarded(outcome), text(&redacted));
}

/// A member that is there twice is redacted twice.
#[test]
fn a_value_cannot_hide_behind_its_double() {
    let chain = chain(
        r#"interceptors = [{ type = "redact", rules = [{ pointer = "/params/arguments/key" }] }]"#,
    );
    let twice = call("x", r#"{"key":1,"\u006bey":2}"#);
    let outcome = run(&chain, &cx(TO_UPSTREAM, "tools/call"), &twice);
    let expected = call("x", r#"{"key":"[redacted]","\u006bey":"[redacted]"}"#);
    assert_eq!(changed(outcome), text(&expected));
}

#[test]
fn rules_overlap_without_harm_and_the_outer_one_wins() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "redact"
        rules = [
            { pointer = "/params/arguments/a/b/c", replace = 1 },
            { pointer = "/params/arguments/a/b", replace = 2 },
            { pointer = "/params/arguments/*/b", replace = 3 },
        ]
        "#,
    );
    let given = call("x", r#"{"a":{"b":{"c":"d"},"e":0},"f":{"b":[]}}"#);
    let outcome = run(&chain, &cx(TO_UPSTREAM, "tools/call"), &given);
    assert_eq!(
        changed(outcome),
        text(&call("x", r#"{"a":{"b":2,"e":0},"f":{"b":3}}"#))
    );
}

#[test]
fn rules_are_about_directions_methods_and_names() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "redact"
        rules = [{
            pointer = "/params/arguments/key",
            direction = "to_upstream",
            methods = ["tools/*"],
            names = ["login", "sign*"],
        }]
        "#,
    );
    assert!(chain.wants(TO_UPSTREAM, Some("tools/call")) && !chain.wants_any(TO_CLIENT));
    assert!(!chain.wants(TO_UPSTREAM, Some("prompts/get")));
    let given = call("sign_in", r#"{"key":1}"#);
    changed(run(
        &chain,
        &named(TO_UPSTREAM, "tools/call", "sign_in"),
        &given,
    ));
    forwarded(run(
        &chain,
        &named(TO_UPSTREAM, "tools/call", "read"),
        &given,
    ));
    forwarded(run(&chain, &cx(TO_UPSTREAM, "tools/call"), &given));
}
