use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::bridge::capabilities::{Declared, Undeclared};
use crate::revision::Revision;
use crate::rpc::{Message, Object, RequestId};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn message(text: &str) -> Message {
    Message::parse(bytes(text)).expect("a message")
}

/// R217, R188: and what else is in a result stays as it came.
#[test]
fn r217_legacy_results_have_nothing_modern() {
    for (method, modern, legacy) in [
        ("ping", r#"{"resultType":"complete"}"#, "{}"),
        (
            "resources/read",
            r#"{"contents":[],"ttlMs":5,"cacheScope":"public","resultType":"complete","n":1e400}"#,
            r#"{"contents":[],"n":1e400}"#,
        ),
        (
            "tools/call",
            r#"{ "content": [], "n": 9007199254740993 }"#,
            r#"{ "content": [], "n": 9007199254740993 }"#,
        ),
        ("prompts/get", r#"{"\u0072esultType":"complete"}"#, "{}"),
        (
            "tools/list",
            r#"{"tools":7,"resultType":"complete"}"#,
            r#"{"tools":7}"#,
        ),
        (
            "tools/call",
            r#"{"structuredContent":{"a":1},"content":[]}"#,
            r#"{"structuredContent":{"a":1},"content":[]}"#,
        ),
    ] {
        assert_eq!(result_to_legacy(method, &bytes(modern)).unwrap(), legacy);
    }
    for invalid in [
        "[]",
        "null",
        r#"{"resultType":"input_required"}"#,
        r#"{"resultType":"task"}"#,
        r#"{"resultType":"other"}"#,
        r#"{"resultType":null}"#,
        r#"{"resultType":"complete","resultType":"task"}"#,
    ] {
        assert!(
            result_to_legacy("tools/call", &bytes(invalid)).is_err(),
            "{invalid}"
        );
    }
}

/// Protocol notes 5.3.2, first two rows.
#[test]
fn output_that_is_no_object_becomes_text_for_legacy_clients() {
    let list = bytes(
        r#"{"tools":[{"name":"a","outputSchema":{"type":"array"},"n":1e400},{"name":"b","outputSchema":{"type":"object"}},{"name":"c","outputSchema":{"anyOf":[]}},{"name":"d","outputSchema":true},7]}"#,
    );
    assert_eq!(
        result_to_legacy("tools/list", &list).unwrap(),
        r#"{"tools":[{"name":"a","n":1e400},{"name":"b","outputSchema":{"type":"object"}},{"name":"c"},{"name":"d"},7]}"#
    );
    let said = |result: &str| result_to_legacy("tools/call", &bytes(result)).unwrap();
    let text = r#"{"content":[{"type":"text","text":"[1, 2]"}]}"#;
    assert_eq!(
        said(r#"{"content":[{"type":"text","text":"[1, 2]"}],"structuredContent":[1,2]}"#),
        text
    );
    assert_eq!(
        said(r#"{"content":[{"type":"text","text":"two"}],"structuredContent":"\u0022é"}"#),
        r#"{"content":[{"type":"text","text":"two"},{"type":"text","text":"\"\\u0022é\""}]}"#
    );
    assert_eq!(
        said(r#"{"structuredContent":null}"#),
        r#"{"content":[{"type":"text","text":"null"}]}"#
    );
}

/// R131, R132, R232
#[test]
fn r232_modern_results_have_what_their_revision_wants() {
    let info = bytes(r#"{"name":"s","version":"1"}"#);
    let caching = Caching {
        ttl: Duration::from_secs(2),
        scope: CachingScope::Public,
    };
    for (method, legacy, modern) in [
        (
            "tools/call",
            r#"{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"},"n":1e400}}"#,
            r#"{"content":[],"_meta":{"n":1e400,"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}},"resultType":"complete"}"#,
        ),
        (
            "tools/list",
            r#"{"tools":[{"name":"a","execution":{"taskSupport":"required"}},{"name":"b"}],"ttlMs":7}"#,
            r#"{"tools":[{"name":"a"},{"name":"b"}],"ttlMs":2000,"resultType":"complete","cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#,
        ),
        (
            "prompts/get",
            r#"{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"own"}}}"#,
            r#"{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"own"}},"resultType":"complete"}"#,
        ),
    ] {
        let shaped = result_to_modern(method, &bytes(legacy), Some(&info), caching);
        assert_eq!(shaped.unwrap(), modern);
    }
    let bare = result_to_modern("x/y", &bytes(r#"{"_meta":null}"#), None, caching);
    assert_eq!(bare.unwrap(), r#"{"resultType":"complete"}"#);
}

/// R142: absent is complete, an unknown value an error.
#[test]
fn r142_a_result_says_what_it_is() {
    for (result, kind) in [
        ("{}", ResultType::Absent),
        (r#"{"resultType":"complete"}"#, ResultType::Complete),
        (
            r#"{"resultType":"input_required"}"#,
            ResultType::InputRequired,
        ),
        (r#"{"resultType":"t\u0061sk"}"#, ResultType::Task),
        (
            r#"{"resultType":"x"}"#,
            ResultType::Unknown("\"x\"".to_owned()),
        ),
        (r#"{"resultType":1}"#, ResultType::Unknown("1".to_owned())),
    ] {
        assert_eq!(ResultType::of(&bytes(result)), Ok(kind));
    }
    assert!(ResultType::of(&bytes("[]")).is_err());
    let claims = result_to_modern(
        "tools/call",
        &bytes(r#"{"resultType":"x"}"#),
        None,
        Caching::default(),
    );
    assert_eq!(claims, Err(InvalidResult::Type("\"x\"".to_owned())));
}

/// Protocol notes 2.3.5: absent or negative is 0, and private.
#[test]
fn hints_that_cannot_be_read_are_none() {
    let of = |text: &str| Caching::of(&Object::parse(&bytes(text)).unwrap());
    assert_eq!(
        of(r#"{"ttlMs":1500,"cacheScope":"public"}"#),
        Caching {
            ttl: Duration::from_millis(1500),
            scope: CachingScope::Public
        }
    );
    for none in [
        "{}",
        r#"{"ttlMs":-1,"cacheScope":"all"}"#,
        r#"{"ttlMs":"5","cacheScope":null}"#,
        r#"{"ttlMs":1.5}"#,
        r#"{"ttlMs":99999999999999999999999}"#,
    ] {
        assert_eq!(of(none), Caching::default(), "{none}");
    }
}

/// R152, R153, R155, R232
#[test]
fn r232_errors_of_legacy_servers_get_modern_codes() {
    for (error, uri, expected, status) in [
        (
            r#"{"code":-32002,"message":"m"}"#,
            Some("file:///\"x"),
            r#"{"code":-32602,"message":"m","data":{"uri":"file:///\"x"}}"#,
            200,
        ),
        (
            r#"{"code":-32002,"message":"m","data":{"uri":"own","n":1e400}}"#,
            Some("x"),
            r#"{"code":-32602,"message":"m","data":{"uri":"own","n":1e400}}"#,
            200,
        ),
        (
            r#"{"code":-32002,"message":"m","data":7}"#,
            None,
            r#"{"code":-32602,"message":"m","data":7}"#,
            200,
        ),
        (
            r#"{"code":-32601,"message":"m"}"#,
            None,
            r#"{"code":-32601,"message":"m"}"#,
            404,
        ),
        (
            r#"{"code":-32021,"message":"m"}"#,
            None,
            r#"{"code":-32603,"message":"m"}"#,
            200,
        ),
        (
            r#"{"code":-32099,"message":"m"}"#,
            None,
            r#"{"code":-32603,"message":"m"}"#,
            200,
        ),
        (
            r#"{"code":-32042,"message":"m"}"#,
            None,
            r#"{"code":-32603,"message":"m"}"#,
            200,
        ),
        (
            r#"{"code":-32019,"message":"m"}"#,
            None,
            r#"{"code":-32019,"message":"m"}"#,
            200,
        ),
        (
            r#"{"code":-32602, "message":"m"}"#,
            None,
            r#"{"code":-32602, "message":"m"}"#,
            200,
        ),
        (
            r#"{"code":"x"}"#,
            None,
            r#"{"code":-32603,"message":"invalid upstream error"}"#,
            200,
        ),
        (
            r#"{"code":1e9}"#,
            None,
            r#"{"code":-32603,"message":"invalid upstream error"}"#,
            200,
        ),
        (
            r#"{"code":1,"code":2}"#,
            None,
            r#"{"code":-32603,"message":"invalid upstream error"}"#,
            200,
        ),
    ] {
        let shaped = error_to_modern(&bytes(error), uri);
        assert_eq!(
            (shaped.error, shaped.status),
            (bytes(expected), status),
            "{error}"
        );
    }
    for code in [-32700, -32600, -32020, -32021, -32022] {
        assert_eq!(modern_status(code), 400);
    }
    assert_eq!(error_code(&bytes(r#"{"code":-32021}"#)), Some(-32021));
}

/// Protocol notes 5.3: `-32021` keeps its code and names the capability, what is the gateway's fault does not
/// reach the client under its own name.
#[test]
fn errors_of_modern_servers_reach_legacy_clients() {
    for (error, expected) in [
        (
            r#"{"code":-32021,"message":"no","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}"#,
            r#"{"code":-32021,"message":"no (the client has not declared elicitation)","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}"#,
        ),
        (
            r#"{"code":-32021,"message":"needs elicitation","data":{"requiredCapabilities":{"elicitation":{}}}}"#,
            r#"{"code":-32021,"message":"needs elicitation","data":{"requiredCapabilities":{"elicitation":{}}}}"#,
        ),
        (
            r#"{"code":-32021,"message":"no"}"#,
            r#"{"code":-32021,"message":"no"}"#,
        ),
        (
            r#"{"code":-32020,"message":"m"}"#,
            r#"{"code":-32603,"message":"m"}"#,
        ),
        (
            r#"{"code":-32022,"message":"m"}"#,
            r#"{"code":-32603,"message":"m"}"#,
        ),
        (
            r#"{"code":-32602,"message":"m","n":1e400}"#,
            r#"{"code":-32602,"message":"m","n":1e400}"#,
        ),
        (
            "{}",
            r#"{"code":-32603,"message":"invalid upstream error"}"#,
        ),
    ] {
        assert_eq!(error_to_legacy(&bytes(error)), expected);
    }
}

/// Protocol notes 2.3.6 and 5.3.1
#[test]
fn r222_a_round_is_read_and_written() {
    let text = r#"{"resultType":"input_required","inputRequests":{"seat":{"method":"elicitation/create","params":{"message":"?","n":1e400}},"roots":{"method":"roots/list"}},"requestState":"v1.\u0041"}"#;
    let round = InputRequired::of(&bytes(text)).unwrap();
    assert_eq!(round.requests.len(), 2);
    assert_eq!(round.requests[0].key, "seat");
    assert_eq!(round.state.as_deref(), Some(&br#""v1.\u0041""#[..]));
    assert_eq!(round.written(None), text);
    let declared = Declared::parse(&bytes(r#"{"elicitation":{}}"#)).unwrap();
    assert_eq!(round.allowed_by(&declared), Err(Undeclared::Kind("roots")));

    let only_state = InputRequired::of(&bytes(r#"{"requestState":""}"#)).unwrap();
    assert!(only_state.requests.is_empty());
    let many: Vec<String> = (0..=MAX_INPUT_REQUESTS)
        .map(|n| format!(r#""{n}":{{"method":"roots/list"}}"#))
        .collect();
    let many = format!(r#"{{"inputRequests":{{{}}}}}"#, many.join(","));
    for invalid in [
        "{}",
        r#"{"inputRequests":{}}"#,
        r#"{"inputRequests":null,"requestState":"s"}"#,
        r#"{"inputRequests":{"a":7}}"#,
        r#"{"inputRequests":{"a":{}}}"#,
        r#"{"inputRequests":{"a":{"method":7}}}"#,
        r#"{"inputRequests":{"a":{"method":"roots/list","params":null}}}"#,
        r#"{"inputRequests":{"a":{"method":"roots/list"},"\u0061":{"method":"roots/list"}}}"#,
        r#"{"requestState":7}"#,
        r#"{"requestState":null}"#,
        &many,
    ] {
        assert!(InputRequired::of(&bytes(invalid)).is_err(), "{invalid}");
    }
}

/// Protocol notes 5.4.2, `inputRequests`
#[test]
fn r233_a_server_request_becomes_part_of_a_round() {
    let declared = Declared::parse(&bytes(r#"{"elicitation":{"url":{}},"sampling":{}}"#)).unwrap();
    let asked = |text: &str| InputRequest::of("k".to_owned(), &message(text), &declared);
    let params = |text: &str| asked(text).unwrap().params.unwrap();
    assert_eq!(
        params(
            r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"mode":"url","elicitationId":"e","task":{},"n":1e400,"_meta":{"progressToken":1}}}"#
        ),
        r#"{"mode":"url","n":1e400}"#
    );
    assert_eq!(
        params(
            r#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"includeContext":"none","_meta":{"progressToken":1,"a":2,"io.modelcontextprotocol/related-task":{}}}}"#
        ),
        r#"{"_meta":{"a":2}}"#
    );
    assert_eq!(
        asked(r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#),
        Err(Undeclared::Kind("roots"))
    );
}

/// R226: a legacy client of 2025-11-25 gets an id with an elicitation that leads to a page.
#[test]
fn r226_a_part_of_a_round_becomes_a_request() {
    let id = RequestId::from_integer(7);
    let token = RequestId::from_text("t");
    let request = |params: Option<&str>| InputRequest {
        key: "k".to_owned(),
        method: "elicitation/create".to_owned(),
        params: params.map(bytes),
    };
    let url = request(Some(
        r#"{"mode":"url","_meta":{"progressToken":"up","io.modelcontextprotocol/clientInfo":{},"a":1}}"#,
    ));
    assert_eq!(
        url.prompt(&id, Revision::V2025_11_25, Some(&token), Some("e")),
        r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"mode":"url","_meta":{"a":1,"progressToken":"t"},"elicitationId":"e"}}"#
    );
    assert_eq!(
        request(Some(r#"{"message":"?"}"#)).prompt(&id, Revision::V2025_11_25, None, Some("e")),
        r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"?"}}"#
    );
    assert_eq!(
        request(None).prompt(&id, Revision::V2025_06_18, None, None),
        r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create"}"#
    );
}

/// R158, protocol notes 5.4.2: checked before the seal is opened.
#[test]
fn r158_answers_are_objects_or_refused() {
    let retry = |params: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        Responses::of(&message(&text))
    };
    let given = retry(r#"{"inputResponses":{"a":{"n":1e400}},"requestState":"s"}"#).unwrap();
    assert_eq!(given.get("a").unwrap(), r#"{"n":1e400}"#);
    assert_eq!(
        (given.get("b"), given.state.as_deref()),
        (None, Some(&b"\"s\""[..]))
    );
    assert_eq!(retry("{}"), Ok(Responses::default()));
    for invalid in [
        r#"{"inputResponses":null}"#,
        r#"{"inputResponses":[]}"#,
        r#"{"inputResponses":{"a":null}}"#,
        r#"{"inputResponses":{"a":"x"}}"#,
        r#"{"inputResponses":{"a":{},"a":{}}}"#,
        r#"{"inputResponses":{},"requestState":7}"#,
        r#"{"requestState":null}"#,
    ] {
        assert!(retry(invalid).is_err(), "{invalid}");
    }
}

/// R222, R223: the original parameters, the answers of this round only, the state only if there was one.
#[test]
fn r223_a_leg_has_the_answers_of_its_round_only() {
    let original = message(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1e400},"inputResponses":{"old":{}},"requestState":"old"}}"#,
    );
    let state = bytes(r#""v\u0031""#);
    let answers = [("k\"".to_owned(), bytes(r#"{"action":"accept"}"#))];
    assert_eq!(
        with_responses(&original, &answers, Some(&state)),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1e400},"inputResponses":{"k\"":{"action":"accept"}},"requestState":"v\u0031"}}"#
    );
    assert_eq!(
        with_responses(&original, &[], None),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":1e400}}}"#
    );
}

/// R247, protocol notes 5.6, "Off"
#[test]
fn r247_tasks_are_taken_off() {
    let asks = message(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"task":{"ttl":5},"name":"t","n":1e400}}"#,
    );
    assert_eq!(
        without_task(&asks),
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","n":1e400}}"#
    );
    let plain = message(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(without_task(&plain), plain.source());
    assert_eq!(without_related_task(&plain), plain.source());
    let notice = message(
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"},"a":1}}}"#,
    );
    assert_eq!(
        without_related_task(&notice),
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"_meta":{"a":1}}}"#
    );
    let answer = message(
        r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"a":1e400,"io.modelcontextprotocol/related-task":{"taskId":"t"}}}}"#,
    );
    assert_eq!(
        without_related_task(&answer),
        r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"a":1e400}}}"#
    );
}
