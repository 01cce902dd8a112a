//! What a client has not declared is not asked of it (protocol notes 5.1, "Refusing a server request";
//! invariant 10).

use thinpipe_proto::bridge::capabilities::MAX_DECLARED;

use super::*;

const FORM: &str = r#"{"message":"?","requestedSchema":{}}"#;
const URL: &str = r#"{"mode":"url","message":"?","url":"https://x/"}"#;
const WITH_TOOLS: &str = r#"{"messages":[],"maxTokens":1,"tools":[]}"#;

/// How a question ends: at the client, or refused with this code.
fn fate(pipe: &mut Pipe, method: &str, params: &str) -> Option<i32> {
    let ask = request_with("\"q\"", method, params);
    let lines = pipe.hears(&ask);
    let [line] = lines.as_slice() else {
        panic!("one thing happens: {lines:?}");
    };
    if *line == format!("1/-: {ask}") {
        assert_eq!(pipe.says(1, &result("\"q\"", "{}")).len(), 1);
        return None;
    }
    assert_eq!(pipe.machine.server_requests(), 0);
    let start = r#"up: {"jsonrpc":"2.0","id":"q","error":{"code":"#;
    let rest = line.strip_prefix(start).expect(line);
    let (code, text) = rest.split_once(',').unwrap();
    assert!(text.contains("has not declared") || text.contains("cannot be read"));
    Some(code.parse().unwrap())
}

/// Each kind, mode and use of tools, for clients that have declared more and more.
#[test]
fn what_is_not_declared_is_refused() {
    let (kind, part) = (Some(-32601), Some(-32602));
    let questions = [
        ("roots/list", "{}"),
        ("sampling/createMessage", "{}"),
        ("sampling/createMessage", WITH_TOOLS),
        ("elicitation/create", FORM),
        ("elicitation/create", URL),
    ];
    for (declared, fates) in [
        ("{}", [kind, kind, kind, kind, kind]),
        (r#"{"roots":{}}"#, [None, kind, kind, kind, kind]),
        (r#"{"sampling":{}}"#, [kind, None, part, kind, kind]),
        (
            r#"{"sampling":{"tools":{}}}"#,
            [kind, None, None, kind, kind],
        ),
        (r#"{"elicitation":{}}"#, [kind, kind, kind, None, part]),
        (
            r#"{"elicitation":{"url":{}}}"#,
            [kind, kind, kind, part, None],
        ),
        (EVERYTHING, [None, None, None, None, None]),
    ] {
        let mut pipe = Pipe::per_client().declaring(declared);
        for ((method, params), expected) in questions.into_iter().zip(fates) {
            let fate = fate(&mut pipe, method, params);
            assert_eq!(fate, expected, "{method} {params} of {declared}");
        }
    }
}

/// Neither a `ping` nor a method of an extension is a capability of the protocol.
#[test]
fn what_needs_no_declaring_is_asked() {
    let mut pipe = Pipe::per_client().declaring("{}");
    for method in ["ping", "tasks/get", "com.example/ask"] {
        assert_eq!(fate(&mut pipe, method, "{}"), None, "{method}");
    }
    let odd = fate(
        &mut Pipe::per_client().declaring(EVERYTHING),
        "elicitation/create",
        r#"{"mode":"telepathy"}"#,
    );
    assert_eq!(odd, Some(-32602));
}

/// Who has not said anything has not declared anything, and who has said nothing of it neither.
#[test]
fn before_initialize_nothing_is_declared() {
    let mut pipe = Pipe::per_client();
    assert_eq!(fate(&mut pipe, "roots/list", "{}"), Some(-32601));
    assert_eq!(fate(&mut pipe, "ping", "{}"), None);
    pipe.says(
        1,
        &request_with("0", "initialize", r#"{"protocolVersion":"2025-06-18"}"#),
    );
    pipe.hears(&initialized(1, "{}"));
    assert_eq!(fate(&mut pipe, "roots/list", "{}"), Some(-32601));
}

/// The server is not told what nobody here could judge by; and a request that was not taken declares nothing.
#[test]
fn what_cannot_be_read_is_not_declared() {
    let mut pipe = Pipe::per_client();
    let long = format!(
        r#"{{"roots":{{}},"experimental":{{"x":"{}"}}}}"#,
        "x".repeat(MAX_DECLARED)
    );
    for declared in ["[]", "1", "null", r#"{"roots":{},"roots":{}}"#, &long] {
        let refused = pipe.tries(1, &initialize("0", declared)).unwrap_err();
        let parameter = "capabilities";
        assert_eq!(refused, Refused::InvalidParameter { parameter });
        assert_eq!(fate(&mut pipe, "roots/list", "{}"), Some(-32601));
    }
    let mut pipe = pipe.declaring(r#"{"roots":{}}"#);
    assert_eq!(fate(&mut pipe, "roots/list", "{}"), None);
}
