mod edit;

use std::collections::HashMap;

use super::*;

fn parse(text: &str) -> Result<Message, MessageError> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn refused(text: &str) -> MessageError {
    parse(text).expect_err(text)
}

fn id(text: &str) -> RequestId {
    RequestId::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

const CALL: &str = r#"{ "jsonrpc":"2.0", "id":7, "method":"tools/call",
  "params":{"name":"b\u006fok","arguments":{"n":12345678901234567890.10},"_meta":{"progressToken":"t"}}, "x":1 }"#;

#[test]
fn outlines_a_request_and_keeps_its_bytes() {
    let message = parse(CALL).unwrap();
    assert_eq!(message.kind(), Kind::Request);
    assert_eq!(message.id(), Some(&id("7")));
    assert_eq!(message.method(), Some("tools/call"));
    assert_eq!(message.param_str("name").as_deref(), Some("book"));
    assert_eq!(message.param("name").unwrap(), r#""b\u006fok""#);
    assert_eq!(
        message.param("arguments").unwrap(),
        r#"{"n":12345678901234567890.10}"#
    );
    assert_eq!(message.param_str("arguments"), None);
    assert_eq!(message.meta("progressToken").unwrap(), r#""t""#);
    assert_eq!(message.meta_text("progressToken").as_deref(), Some("t"));
    assert_eq!(message.param("progressToken"), None);
    assert_eq!(message.params_len(), message.params().unwrap().len());
    assert_eq!(message.source(), CALL);
    assert_eq!(message.result(), None);
}

/// C14: nothing is copied; the parts are slices of the source.
#[test]
fn c14_parts_share_the_source() {
    let source = Bytes::from(CALL);
    let message = Message::parse(source.clone()).unwrap();
    let inside = |part: &Bytes| source.as_ptr_range().contains(&part.as_ptr());
    assert!(inside(message.source()));
    assert!(inside(&message.params().unwrap()));
    let Payload::Batch(batch) = Payload::parse(Bytes::from(format!("[{CALL}]"))).unwrap() else {
        panic!("not a batch");
    };
    assert_eq!(batch[0].source(), CALL);
    assert_eq!(batch[0].param_str("name").as_deref(), Some("book"));
}

/// C13, R188
#[test]
fn c13_ids_keep_type_and_text() {
    let long = format!("\"{}\"", "u".repeat(100));
    for text in [
        "0",
        "\"0\"",
        "-1",
        "9223372036854775808",
        "\"\"",
        "\"a\\u0061\"",
        &long,
    ] {
        let whole = format!(r#"{{"id":{text},"jsonrpc":"2.0","method":"ping"}}"#);
        let message = parse(&whole).unwrap();
        assert_eq!(message.id().unwrap().as_json(), text.as_bytes());
        assert_eq!(message.with_id(&id(text)), whole);
        assert_eq!(message.id().unwrap().is_string(), text.starts_with('"'));
    }
}

/// C14, R249: id and token change in one step, in whichever order they stand.
#[test]
fn r249_id_and_token_change_together() {
    for whole in [
        r#"{"jsonrpc":"2.0","id":"long","method":"m","params":{"_meta":{"t":7,"b":1}}}"#,
        r#"{"params":{"_meta":{"t":7,"b":1}},"id":"long","jsonrpc":"2.0","method":"m"}"#,
    ] {
        let edited = parse(whole)
            .unwrap()
            .with_id_and_meta(&id("1"), "t", b"[22]");
        assert_eq!(
            edited,
            whole.replace("\"long\"", "1").replace(":7", ":[22]")
        );
        let absent = parse(whole).unwrap().with_id_and_meta(&id("1"), "x", b"2");
        assert_eq!(absent, whole.replace("\"long\"", "1"));
    }
}

/// C13
#[test]
fn c13_other_ids_are_refused() {
    for text in ["1.5", "1e3", "1.0", "null", "true", "{}", "[1]"] {
        let error = refused(&format!(
            r#"{{"jsonrpc":"2.0","id":{text},"method":"ping"}}"#
        ));
        assert_eq!(
            (error.code, error.id),
            (code::INVALID_REQUEST, None),
            "{text}"
        );
        assert!(RequestId::parse(Bytes::copy_from_slice(text.as_bytes())).is_err());
    }
    for text in ["", " ", "01", "\"", "1 2"] {
        assert!(
            RequestId::parse(Bytes::copy_from_slice(text.as_bytes())).is_err(),
            "{text}"
        );
    }
}

#[test]
fn ids_are_equal_by_value() {
    let mut pending = HashMap::new();
    pending.insert(id(r#""a""#), 1);
    assert_eq!(pending.get(&id(r#""\u0061""#)), Some(&1));
    assert_eq!(pending.get(&id(r#""b""#)), None);
    assert_ne!(id("1"), id("\"1\""));
    assert_ne!(id(r#""\"""#), id(r#""""#));
    assert_eq!(id("-0"), id("0"));
    assert_eq!(id(r#""\ud83d\ude00\n""#), RequestId::from_text("😀\n"));
    assert_eq!(RequestId::from_integer(-5), id("-5"));
    assert_eq!(format!("{:?}", id("\"x\"")), "\"x\"");
}

#[test]
fn tells_the_kinds_apart() {
    for (text, kind, has_id) in [
        (
            r#"{"jsonrpc":"2.0","method":"m"}"#,
            Kind::Notification,
            false,
        ),
        (
            r#"{"jsonrpc":"2.0","result":null,"id":1}"#,
            Kind::Response,
            true,
        ),
        (
            r#"{"jsonrpc":"2.0","error":{},"id":1}"#,
            Kind::ErrorResponse,
            true,
        ),
        (
            r#"{"jsonrpc":"2.0","error":{},"id":null}"#,
            Kind::ErrorResponse,
            false,
        ),
        (
            r#"{"jsonrpc":"2.0","error":{}}"#,
            Kind::ErrorResponse,
            false,
        ),
        (
            "\t\r\n {\"jsonrpc\":\"2\\u002e0\",\"method\":\"\\u006d\"}\n",
            Kind::Notification,
            false,
        ),
    ] {
        let message = parse(text).unwrap();
        assert_eq!(
            (message.kind(), message.id().is_some()),
            (kind, has_id),
            "{text}"
        );
        assert_eq!(message.kind().is_response(), message.method().is_none());
        assert!(message.method().is_none_or(|method| method == "m"));
    }
}

/// R065, R187: what is JSON, but no message. The id comes back wherever it can be read.
#[test]
fn r065_wrong_shapes_are_invalid_requests_with_the_id() {
    for (rest, id_readable) in [
        (r#""jsonrpc":"2.0""#, true),
        (r#""jsonrpc":"1.0","method":"m""#, true),
        (r#""method":"m""#, true),
        (r#""jsonrpc":"2.0","method":5"#, true),
        (r#""jsonrpc":"2.0","method":"m","params":[]"#, true),
        (r#""jsonrpc":"2.0","method":"m","params":null"#, true),
        (r#""jsonrpc":"2.0","method":"m","result":1"#, true),
        (r#""jsonrpc":"2.0","method":"m","error":{}"#, true),
        (r#""jsonrpc":"2.0","method":"m","method":"m""#, true),
        (r#""jsonrpc":"2.0","method":"m","\u006dethod":"m""#, true),
        (r#""jsonrpc":"2.0","method":"m","x":1,"\u0078":2"#, true),
        (
            r#""jsonrpc":"2.0","method":"m","params":{},"params":{}"#,
            true,
        ),
        (
            r#""jsonrpc":"2.0","method":"m","params":{"a":1,"b":2,"a":3}"#,
            true,
        ),
        (
            r#""jsonrpc":"2.0","method":"m","params":{"a":1,"\u0061":3}"#,
            true,
        ),
        (
            r#""jsonrpc":"2.0","method":"m","params":{"_meta":{},"_meta":{}}"#,
            true,
        ),
        (
            r#""jsonrpc":"2.0","method":"m","params":{"_meta":{"a":1,"a":3}}"#,
            true,
        ),
        (
            r#""jsonrpc":"2.0","method":"m","params":{"\u005fmeta":{"a":1,"a":3}}"#,
            true,
        ),
        (r#""jsonrpc":"2.0","method":"m","id":1"#, false),
        // An answer's id names a request of the other side.
        (r#""jsonrpc":"2.0","result":1,"error":{}"#, false),
        (r#""jsonrpc":"2.0","error":"no""#, false),
        (r#""result":{}"#, false),
    ] {
        for text in [
            format!("{{{rest},\"id\":1}}"),
            format!("{{\"id\":1,{rest}}}"),
        ] {
            let error = refused(&text);
            assert_eq!(error.code, code::INVALID_REQUEST, "{text}");
            assert_eq!(error.id, id_readable.then(|| id("1")), "{text}");
        }
    }
    for text in [
        r#"{"jsonrpc":"2.0","result":1}"#,
        r#"{"jsonrpc":"2.0","result":1,"id":null}"#,
    ] {
        assert_eq!(refused(text).code, code::INVALID_REQUEST);
    }
    for text in ["1", "\"x\"", "null", "{}", "[1]"] {
        assert_eq!(refused(text).code, code::INVALID_REQUEST, "{text}");
    }
}

/// The names are compared after escapes, beyond the number that is compared pair by pair as well.
#[test]
fn r187_duplicates_among_many_members() {
    let mut names: Vec<String> = (0..300).map(|n| format!("\"k{n}\":0")).collect();
    let text = |names: &[String]| {
        let names = names.join(",");
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{{names}}}}}"#)
    };
    assert_eq!(parse(&text(&names)).unwrap().param("k299").unwrap(), "0");
    names.push("\"\\u006b7\":0".to_owned());
    assert_eq!(refused(&text(&names)).code, code::INVALID_REQUEST);
}

/// R065: what is not JSON at all.
#[test]
fn r065_malformed_text_is_a_parse_error() {
    let inside = |text: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","x":{text}}}"#);
    for text in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0061""#,
        r#""\ud800x""#,
        r#""\u12g4""#,
        r#""\x""#,
        "\"\t\"",
        "\"\u{0}\"",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "tru",
        "nulL",
        "[1,]",
        "[,]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "[1 2]",
        "[}",
        "{]",
        "",
        "'a'",
        "\u{a0}1",
    ] {
        let error = refused(&inside(text));
        assert_eq!(error.code, code::PARSE_ERROR, "{text}");
        assert_eq!(error.id, Some(id("1")), "{text}");
    }
    for text in [
        "",
        " ",
        "{",
        "{\"jsonrpc\"",
        "\u{feff}{}",
        "{} {}",
        "[",
        "[}",
        "[{]",
    ] {
        assert_eq!(refused(text).code, code::PARSE_ERROR, "{text}");
        let error = Payload::parse(Bytes::copy_from_slice(text.as_bytes())).expect_err(text);
        assert!(
            matches!(error.code, code::PARSE_ERROR | code::INVALID_REQUEST),
            "{text}"
        );
    }
    for tail in [
        &b"\"\xff\""[..],
        b"\"\xc3\"",
        b"\"abcdefghijklmnopqrstuvwxyz\xed\xa0\x80\"",
        b"\xff",
    ] {
        let text = [br#"{"jsonrpc":"2.0","method":"m","x":"#, tail, b"}"].concat();
        let error = Message::parse(Bytes::from(text)).unwrap_err();
        assert_eq!((error.code, error.id), (code::PARSE_ERROR, None));
    }
}

#[test]
fn nesting_is_bounded_at_128() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","x":{open}{close}}}"#)
    };
    assert!(parse(&nested(127)).is_ok());
    let error = refused(&nested(128));
    assert_eq!(
        (error.code, error.id),
        (code::INVALID_REQUEST, Some(id("1")))
    );
    assert!(refused(&nested(100_000)).reason.contains("128"));
    let objects = format!("{}{}", "{\"a\":".repeat(200), "}".repeat(200));
    assert_eq!(refused(&objects).code, code::INVALID_REQUEST);
    assert!(Payload::parse(Bytes::from(format!("[{}]", nested(127)))).is_err());
    assert!(Payload::parse(Bytes::from(format!("[{}]", nested(126)))).is_ok());
}

#[test]
fn the_number_of_members_and_messages_is_bounded() {
    let members: Vec<String> = (0..=outline::MAX_MEMBERS)
        .map(|n| format!("\"{n}\":0"))
        .collect();
    let object = |members: &[String]| format!("{{{}}}", members.join(","));
    let message = |params| format!(r#"{{"jsonrpc":"2.0","method":"m","params":{params}}}"#);
    assert_eq!(
        refused(&message(object(&members))).code,
        code::INVALID_REQUEST
    );
    assert!(parse(&message(object(&members[1..]))).is_ok());
    assert!(
        elements(&Bytes::from(format!(
            "[0{}]",
            ",0".repeat(outline::MAX_MEMBERS)
        )))
        .is_err()
    );

    let batch = |count| {
        let messages = vec![r#"{"jsonrpc":"2.0","method":"m"}"#; count];
        Payload::parse(Bytes::from(format!("[{}]", messages.join(","))))
    };
    assert!(batch(MAX_BATCH).is_ok());
    assert_eq!(
        batch(MAX_BATCH + 1).unwrap_err().code,
        code::INVALID_REQUEST
    );
}

/// R088: an empty batch, and one with an element that is no message.
#[test]
fn r088_batches_hold_messages_and_nothing_else() {
    let parse = |text: &'static str| Payload::parse(Bytes::from_static(text.as_bytes()));
    for (text, code) in [
        ("[]", code::INVALID_REQUEST),
        ("[ ]", code::INVALID_REQUEST),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"m"},1]"#,
            code::INVALID_REQUEST,
        ),
        (
            r#"[[{"jsonrpc":"2.0","id":1,"method":"m"}]]"#,
            code::INVALID_REQUEST,
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"m"}"#,
            code::PARSE_ERROR,
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"m"},]"#,
            code::PARSE_ERROR,
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"m"}] x"#,
            code::PARSE_ERROR,
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!((error.code, error.id), (code, None), "{text}");
    }
    let text = "[ {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"} ,\n{\"jsonrpc\":\"2.0\",\"method\":\"n\"} ] ";
    let Ok(Payload::Batch(messages)) = parse(text) else {
        panic!("not a batch")
    };
    let methods: Vec<_> = messages
        .iter()
        .map(|message| message.method().unwrap())
        .collect();
    assert_eq!(methods, ["m", "n"]);
    assert!(Message::parse(Bytes::from_static(text.as_bytes())).is_err());
}

#[test]
fn peek_stops_at_the_first_decisive_member() {
    for (prefix, verdict) in [
        (r#"{"jsonrpc":"2.0","id":1,"method""#, None),
        (r#"{"jsonrpc":"2.0","id":1,"method":"#, Some(false)),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"a":"#, Some(true)),
        (r#" {"id":{"method":1},"err\u006fr":{"#, Some(true)),
        (r#"{"params":{"result":1},"#, None),
        (r#"[ {"method":1"#, Some(false)),
        ("", None),
        ("{", None),
        ("1", None),
        ("{}", None),
    ] {
        assert_eq!(peek_is_response(prefix.as_bytes()), verdict, "{prefix}");
    }
}

#[test]
fn a_request_is_known_before_its_parameters() {
    for (prefix, request) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"#,
            Some(("1", "a")),
        ),
        (r#"{"m\u0065thod":"\u0061","id":"x","#, Some(("\"x\"", "a"))),
        (r#"{"jsonrpc":"2.0","id":1,"method":"#, None),
        (r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"method":"a"}}"#, None),
        (r#"{"jsonrpc":"2.0","method":"a","params":{"id":1}}"#, None),
        (r#"[{"id":1,"method":"a"}]"#, None),
        ("", None),
    ] {
        let found = peek_request(prefix.as_bytes());
        let found = found
            .as_ref()
            .map(|(id, method)| (id.as_json(), method.as_ref()));
        let request = request.map(|(id, method)| (id.as_bytes(), method));
        assert_eq!(found, request, "{prefix}");
    }
}

/// Strings are scanned in words and blocks; whatever ends one is seen at every place in them.
#[test]
fn strings_are_scanned_right_at_every_offset() {
    for length in 0..200 {
        let plain = "a".repeat(length);
        for (rest, valid) in [
            ("", true),
            ("\\n", true),
            ("é", true),
            ("\\\"é\\\\", true),
            ("\u{7f}!#[]", true),
            ("\u{1f}", false),
            ("\n", false),
            ("\\", false),
            ("\"", false),
        ] {
            let value = format!("{plain}{rest}{}", &plain[length / 2..]);
            let text = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"v":"{value}"}}}}"#);
            let parsed = parse(&text);
            assert_eq!(parsed.is_ok(), valid, "{text}");
            if let Ok(message) = parsed {
                assert_eq!(message.param("v").unwrap(), format!("\"{value}\""));
            }
        }
        let bad = [
            br#"{"jsonrpc":"2.0","method":""#,
            plain.as_bytes(),
            b"\xc3\"}",
        ]
        .concat();
        assert_eq!(
            Message::parse(Bytes::from(bad)).unwrap_err().code,
            code::PARSE_ERROR
        );
    }
}
