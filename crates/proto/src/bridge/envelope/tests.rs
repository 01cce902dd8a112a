use super::*;

fn message(params: &str) -> Message {
    let text =
        format!(r#"{{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call"{params}}}"#);
    Message::parse(text.into()).expect("a message")
}

fn with_meta(meta: &str) -> Message {
    message(&format!(
        r#","params":{{"name":"t","_meta":{meta},"arguments":{{"n":1e400}}}}"#
    ))
}

const MODERN: &str = r#"{"a":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"sampling":{}},"traceparent":"00-1","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"io.modelcontextprotocol/logLevel":"warning","progressToken":12345678901234567890}"#;

fn envelope() -> Envelope {
    Envelope {
        revision: Revision::V2026_07_28,
        capabilities: Bytes::from_static(b"{}"),
        client_info: None,
        log_level: None,
    }
}

/// Protocol notes 2.3.1
#[test]
fn an_envelope_is_read_from_meta() {
    let read = Envelope::of(&with_meta(MODERN)).unwrap();
    assert_eq!(read.revision, Revision::V2026_07_28);
    assert_eq!(read.capabilities, r#"{"sampling":{}}"#);
    assert_eq!(
        read.client_info.as_deref(),
        Some(&br#"{"name":"c","version":"1"}"#[..])
    );
    assert_eq!(read.log_level, Some(LogLevel::Warning));
    assert_eq!(read.detached(), read);
}

/// R136: and R009.
#[test]
fn r136_an_envelope_of_wrong_types_is_refused() {
    let meta = |version: &str, capabilities: &str, rest: &str| {
        with_meta(&format!(
            r#"{{"io.modelcontextprotocol/protocolVersion":{version},"io.modelcontextprotocol/clientCapabilities":{capabilities}{rest}}}"#
        ))
    };
    let v = r#""2026-07-28""#;
    let refused = |message: &Message| Envelope::of(message).unwrap_err().code();
    assert_eq!(refused(&meta("null", "{}", "")), -32602);
    assert_eq!(refused(&meta("7", "{}", "")), -32602);
    assert_eq!(refused(&meta(r#""2027-01-01""#, "{}", "")), -32022);
    for capabilities in ["null", "[]", "true", r#""{}""#] {
        assert_eq!(refused(&meta(v, capabilities, "")), -32602);
    }
    for level in [r#""loud""#, "null", "3", "[]", r#""Warning""#] {
        let rest = format!(r#","io.modelcontextprotocol/logLevel":{level}"#);
        assert_eq!(refused(&meta(v, "{}", &rest)), -32602);
    }
    assert_eq!(refused(&with_meta("7")), -32602);
    assert_eq!(refused(&message("")), -32602);
    let odd = meta(v, "{}", r#","io.modelcontextprotocol/clientInfo":"me""#);
    assert_eq!(Envelope::of(&odd).unwrap().client_info, None);
}

/// R230: nothing else of the message changes, and no number of it.
#[test]
fn r230_the_envelope_is_stripped_and_nothing_else() {
    assert_eq!(
        strip(&with_meta(MODERN)),
        r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"t","_meta":{"a":1,"traceparent":"00-1","progressToken":12345678901234567890},"arguments":{"n":1e400}}}"#
    );
    let only = with_meta(r#"{"io.modelcontextprotocol/\u0070rotocolVersion":"2026-07-28"}"#);
    assert_eq!(
        strip(&only),
        r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"t","arguments":{"n":1e400}}}"#
    );
    for kept in [
        with_meta("{}"),
        with_meta("null"),
        with_meta(r#"{"a":1}"#),
        message(""),
        message(r#","params":{}"#),
    ] {
        assert_eq!(strip(&kept), kept.source());
    }
}

/// R139: and what a client said of itself there does not count.
#[test]
fn r139_the_envelope_is_added() {
    let added = |message: &Message| Message::parse(add(message, &envelope())).unwrap();
    for bare in [
        message(""),
        message(r#","params":{}"#),
        with_meta("null"),
        with_meta("[1]"),
    ] {
        assert_eq!(Envelope::of(&added(&bare)), Ok(envelope()));
    }
    let replaced = added(&with_meta(MODERN));
    assert_eq!(Envelope::of(&replaced), Ok(envelope()));
    assert_eq!(replaced.meta("traceparent").unwrap(), r#""00-1""#);
    assert_eq!(
        replaced.meta("progressToken").unwrap(),
        "12345678901234567890"
    );
    assert_eq!(replaced.param("arguments").unwrap(), r#"{"n":1e400}"#);
    let whole = Envelope {
        client_info: Some(Bytes::from_static(br#"{"name":"c"}"#)),
        log_level: Some(LogLevel::Debug),
        ..envelope()
    };
    let added = Message::parse(add(&with_meta(r#"{"a":1}"#), &whole)).unwrap();
    assert_eq!(Envelope::of(&added), Ok(whole));
}

/// R217, R220
#[test]
fn r217_the_id_of_a_listen_is_taken_off() {
    let stamped = with_meta(r#"{"a":1,"io.modelcontextprotocol/subscriptionId":"L1"}"#);
    assert_eq!(
        without_subscription_id(&stamped),
        with_meta(r#"{"a":1}"#).source()
    );
    let bare = with_meta(r#"{"a":1}"#);
    assert_eq!(without_subscription_id(&bare), bare.source());
}
