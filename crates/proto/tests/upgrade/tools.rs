//! Schemas of tools, as far as calls need them (protocol notes 5.3, 5.3.2).

use super::*;

fn over_http() -> Session {
    Session::with(NEWEST, json!({}), everything(), |config| {
        config.headers = true
    })
}

fn tool(name: &str, header: Value) -> Value {
    let mut property = json!({"type": "string"});
    if header != Value::Null {
        property["x-mcp-header"] = header;
    }
    json!({"name": name, "inputSchema": {"type": "object", "properties": {"who": property}}})
}

fn call(id: i64, name: &str) -> Value {
    let params = json!({"name": name, "arguments": {"who": "me"}});
    request(json!(id), "tools/call", params)
}

const CALL: &str = r#"tools/call {"arguments":{"who":"me"},"name":"t"}"#;

/// Protocol notes 5.3: none known yet: the list first, once for all that wait.
#[test]
fn r140_the_schemas_are_read_before_the_first_call() {
    let mut session = over_http();
    assert_eq!(session.says(call(1, "t")), ["1 tools/list {}"]);
    assert!(session.says(call(2, "t")).is_empty());
    let more = json!({"tools": [tool("x", Value::Null)], "nextCursor": "2"});
    assert_eq!(
        session.complete(1, more),
        [r#"2 tools/list {"cursor":"2"}"#]
    );
    let calls = session.complete(2, json!({"tools": [tool("t", json!("Who"))]}));
    assert_eq!(calls, [format!("3 {CALL}"), format!("4 {CALL}")]);
    assert_eq!(
        session.headers,
        [("mcp-param-who".to_owned(), "me".to_owned())]
    );
    session.complete(3, json!({"content": []}));
    assert_eq!(session.says(call(3, "t")), [format!("5 {CALL}")]);
}

/// R140, protocol notes 2.3.4: a number that no header can carry is refused, and not sent without the headers of
/// the other arguments.
#[test]
fn r140_a_call_whose_headers_cannot_all_be_written_is_not_made() {
    let mut session = over_http();
    let properties = json!({
        "who": {"type": "string", "x-mcp-header": "Who"},
        "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
    });
    let schema = json!({"type": "object", "properties": properties});
    let tools = json!({"tools": [{"name": "t", "inputSchema": schema}]});
    let call = |id: i64, n: i64| {
        let arguments = json!({"who": "me", "deep": {"n": n}});
        request(
            json!(id),
            "tools/call",
            json!({"name": "t", "arguments": arguments}),
        )
    };
    let refused = |id: i64| {
        let text =
            "the argument \"deep/n\" is beyond 2^53 - 1, which no mcp-param-n header can repeat";
        let data = json!({"reason": "invalid_parameter", "upstream": "u"});
        let error = json!({"code": -32602, "message": text, "data": data});
        format!(
            "{id}!: {}",
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        )
    };
    // One that waits for the list, and one that need not.
    session.says(call(1, 1 << 53));
    assert_eq!(session.complete(1, tools), [refused(1)]);
    assert_eq!(session.says(call(2, -(1 << 53))), [refused(2)]);
    session.is_quiet(0);
    session.says(call(3, (1 << 53) - 1));
    assert_eq!(session.headers.len(), 2);
}

/// Protocol notes 5.3: still unknown, no headers.
#[test]
fn a_call_goes_without_schemas_if_there_are_none() {
    let mut session = over_http();
    session.says(call(1, "t"));
    assert_eq!(
        session.refused(1, -32601, Value::Null),
        [format!("2 {CALL}")]
    );
    assert!(session.headers.is_empty());
    session.says(call(2, "t"));
    assert_eq!(session.fails(3, false), [format!("4 {CALL}")]);
    session.says(call(3, "t"));
    assert_eq!(
        session.passes(15 * SECOND)[..2],
        ["close 5".to_owned(), format!("6 {CALL}")]
    );
}

/// What the client has listed itself need not be read again.
#[test]
fn what_the_client_has_listed_is_known() {
    let mut session = over_http();
    session.asks(1, "tools/list", json!({}));
    session.complete(1, json!({"tools": [tool("t", json!("Who"))]}));
    assert_eq!(session.says(call(2, "t")), [format!("2 {CALL}")]);
    assert_eq!(session.headers.len(), 1);
}

/// Protocol notes 5.3: a mismatch is the gateway's fault: it reads the schemas anew, and tries once more.
#[test]
fn a_header_mismatch_is_tried_once_more_with_fresh_schemas() {
    let mut session = over_http();
    session.asks(1, "tools/list", json!({}));
    session.complete(1, json!({"tools": [tool("t", Value::Null)]}));
    session.says(call(2, "t"));
    assert_eq!(session.refused(2, -32020, Value::Null), ["3 tools/list {}"]);
    let again = session.complete(3, json!({"tools": [tool("t", json!("Who"))]}));
    assert_eq!(again, [format!("4 {CALL}")]);
    assert_eq!(session.headers.len(), 1);
    let answered = session.refused(4, -32020, Value::Null);
    assert!(answered[0].starts_with("2!: ") && answered[0].contains("-32603"));
}

/// R141: a tool that breaks the rules is not shown, and cannot be called.
#[test]
fn r141_tools_that_break_the_rules_are_not_there() {
    let mut session = over_http();
    session.asks(1, "tools/list", json!({}));
    let tools = json!({"tools": [tool("bad", json!("no token")), tool("t", Value::Null)]});
    let listed = session.complete(1, tools);
    assert_eq!(
        listed,
        [result(json!(1), json!({"tools": [tool("t", Value::Null)]}))]
    );
    let refused = session.says(call(2, "bad"));
    assert!(
        refused[0].starts_with("2!: ") && refused[0].contains("-32602"),
        "{refused:?}"
    );
    session.is_quiet(0);
}

/// R141: the same if nobody has listed it before.
#[test]
fn r141_a_call_that_waits_for_the_list_is_refused() {
    let mut session = over_http();
    session.says(call(1, "bad"));
    let refused = session.complete(1, json!({"tools": [tool("bad", json!(""))]}));
    assert!(
        refused[0].starts_with("1!: ") && refused[0].contains("-32602"),
        "{refused:?}"
    );
}

/// When the tools change, what is known of them is not.
#[test]
fn changed_tools_are_read_anew() {
    let mut session = over_http();
    session.asks(1, "tools/list", json!({}));
    session.complete(1, json!({"tools": [tool("t", Value::Null)]}));
    session.opens();
    session.acknowledges(2, json!({"toolsListChanged": true}));
    session.hears(
        2,
        notification("notifications/tools/list_changed", json!({})),
    );
    assert_eq!(session.says(call(2, "t")), ["3 tools/list {}"]);
    assert_eq!(session.cancels(json!(2)), ["finish 2"]);
    assert!(session.complete(3, json!({"tools": []})).is_empty());
}

/// Protocol notes 5.3.2: what an older schema does not have becomes what it has.
#[test]
fn structured_content_that_is_no_object_becomes_a_text() {
    let mut session = Session::new(json!({}));
    session.asks(1, "tools/call", json!({"name": "t"}));
    let answered = session.complete(1, json!({"content": [], "structuredContent": [1]}));
    let content = json!([{"type": "text", "text": "[1]"}]);
    assert_eq!(answered, [result(json!(1), json!({"content": content}))]);
}
