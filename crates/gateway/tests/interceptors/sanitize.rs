//! E11: control and escape characters.

use super::{
    TO_CLIENT, TO_UPSTREAM, chain, changed, cx, forwarded, message, rejected, response, run, text,
};

const REFUSE: &str = r#"interceptors = [{ type = "sanitize" }]"#;
const STRIP: &str = r#"interceptors = [{ type = "sanitize", mode = "strip" }]"#;
const HIDDEN: &str = r#"interceptors = [{ type = "sanitize", mode = "strip", hidden = true }]"#;

/// E11: a definition with escape characters anywhere in it is left out; the others stay as they are.
#[test]
fn e11_definitions_with_control_characters_are_left_out() {
    let clean = r#"{"name":"ok", "description":"two\nlines\tand \\u001b in letters","n":1.0}"#;
    for unclean in [
        r#"{"name":"a","description":"\u001b[2Jhidden"}"#,
        r#"{"name":"a","title":"x\u0007"}"#,
        r#"{"name":"a\u0000"}"#,
        r#"{"name":"a","inputSchema":{"properties":{"p":{"description":"\u009b1m"}}}}"#,
        r#"{"name":"a","inputSchema":{"properties":{"p\u001b":{}}}}"#,
        r#"{"name":"a","inputSchema":{"enum":["\b"]}}"#,
        "{\"name\":\"a\",\"description\":\"del \u{7f}\"}",
        "{\"name\":\"a\",\"description\":\"c1 \u{9b}\"}",
    ] {
        let list = response(&format!(
            r#"{{"nextCursor":"n","tools":[{unclean}, {clean} ]}}"#
        ));
        let outcome = run(&chain(REFUSE), &cx(TO_CLIENT, "tools/list"), &list);
        let expected = response(&format!(r#"{{"nextCursor":"n","tools":[{clean}]}}"#));
        assert_eq!(changed(outcome), text(&expected), "{unclean}");
    }
    let list = response(&format!(r#"{{"tools":[{clean}]}}"#));
    let outcome = run(&chain(REFUSE), &cx(TO_CLIENT, "tools/list"), &list);
    assert_eq!(forwarded(outcome), text(&list));
}

/// E11: what is there to be read is stripped; what names something is refused in this mode, too.
#[test]
fn e11_stripping_never_renames() {
    let list = response(concat!(
        r#"{"prompts":[{"name":"bad\u001b[0m"}, {"name":"a","title":"\u001b[1mT\u001b[0m", "n":1.0,"#,
        r#""arguments":[{"name":"x","description":"d\u0008e"}]},{"name":"b"},"#,
        r#"{"name":"c","description":"\u0000C"},{"name":"d","_meta":{"k":"\u0000"}}]}"#
    ));
    let expected = response(concat!(
        r#"{"prompts":[{"name":"a","title":"T", "n":1.0,"#,
        r#""arguments":[{"name":"x","description":"de"}]},{"name":"b"},"#,
        r#"{"name":"c","description":"C"}]}"#
    ));
    let outcome = run(&chain(STRIP), &cx(TO_CLIENT, "prompts/list"), &list);
    assert_eq!(changed(outcome), text(&expected));
    // Without anything to leave out, the list itself is not rewritten.
    let list = response(r#"{"tools":[ {"name":"a","description":"\u001b[1mA"} , {"name":"b"} ]}"#);
    let expected = response(r#"{"tools":[ {"name":"a","description":"A"} , {"name":"b"} ]}"#);
    let outcome = run(&chain(STRIP), &cx(TO_CLIENT, "tools/list"), &list);
    assert_eq!(changed(outcome), text(&expected));
}

#[test]
fn e11_results_and_messages_are_refused_or_stripped() {
    let result = r#"{"content":[{"type":"text","text":"a\u001b]0;t\u0007b\n"}],"structuredContent":{"a":["\u0000"]}}"#;
    let clean = r#"{"content":[{"type":"text","text":"ab\n"}],"structuredContent":{"a":[""]}}"#;
    let tool = cx(TO_CLIENT, "tools/call");
    let rejection = rejected(run(&chain(REFUSE), &tool, &response(result)));
    assert_eq!(rejection.reason, "control_characters");
    assert_eq!(
        changed(run(&chain(STRIP), &tool, &response(result))),
        text(&response(clean))
    );
    // A response whose request is not known is looked at, too.
    let mut unknown = tool;
    unknown.method = None;
    rejected(run(&chain(REFUSE), &unknown, &response(result)));

    for (method, unclean, clean) in [
        (
            "elicitation/create",
            r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"\u001b[8mhi"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"hi"}}"#,
        ),
        (
            "notifications/message",
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":{"x":"\u001bc"}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":{"x":""}}}"#,
        ),
        (
            "tools/call",
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"\u001b[31mfailed"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"failed"}}"#,
        ),
    ] {
        let cx = cx(TO_CLIENT, method);
        rejected(run(&chain(REFUSE), &cx, &message(unclean)));
        assert_eq!(
            changed(run(&chain(STRIP), &cx, &message(unclean))),
            clean,
            "{method}"
        );
    }

    // What a server calls itself cannot be stripped; what it says about itself can.
    let init = cx(TO_CLIENT, "initialize");
    let says = response(r#"{"serverInfo":{"name":"s"},"instructions":"\u001b[1mread"}"#);
    let clean = response(r#"{"serverInfo":{"name":"s"},"instructions":"read"}"#);
    assert_eq!(changed(run(&chain(STRIP), &init, &says)), text(&clean));
    let called = response(r#"{"serverInfo":{"name":"s\u001b[1m"}}"#);
    rejected(run(&chain(STRIP), &init, &called));
}

#[test]
fn e11_hidden_characters_are_an_option() {
    let given =
        response("{\"content\":[{\"text\":\"a\u{202e}b\u{200b}c \\udb40\\udc41 é 日本 – 👍\"}]}");
    let clean = response("{\"content\":[{\"text\":\"abc  é 日本 – 👍\"}]}");
    let tool = cx(TO_CLIENT, "tools/call");
    assert_eq!(forwarded(run(&chain(REFUSE), &tool, &given)), text(&given));
    assert_eq!(changed(run(&chain(HIDDEN), &tool, &given)), text(&clean));
    assert_eq!(forwarded(run(&chain(HIDDEN), &tool, &clean)), text(&clean));
}

/// E8
#[test]
fn e8_only_what_servers_send_is_read() {
    assert!(!chain(REFUSE).wants_any(TO_UPSTREAM));
    let definitions =
        chain(r#"interceptors = [{ type = "sanitize", results = false, messages = false }]"#);
    assert!(definitions.wants(TO_CLIENT, Some("tools/list")));
    assert!(!definitions.wants(TO_CLIENT, Some("tools/call")));
    let unclean = response(r#"{"content":[{"text":"\u001b"}]}"#);
    let results = chain(r#"interceptors = [{ type = "sanitize", results = false }]"#);
    forwarded(run(&results, &cx(TO_CLIENT, "tools/call"), &unclean));
}
