//! Editing messages, taking values apart, writing answers.

use super::*;

#[test]
fn edits_change_only_what_they_should() {
    let message = parse(CALL).unwrap();
    assert_eq!(
        message.with_id(&id("\"z\"")),
        CALL.replacen(":7,", ":\"z\",", 1)
    );
    let params = message.params().unwrap();
    let params = std::str::from_utf8(&params).unwrap();
    assert_eq!(message.with_params(b"{}"), CALL.replacen(params, "{}", 1));
    assert_eq!(
        message.with_meta("progressToken", Some(b"1")),
        CALL.replacen(r#":"t""#, ":1", 1)
    );
    assert_eq!(
        message.with_meta("a\"b", Some(b"1")),
        CALL.replacen(r#":"t""#, r#":"t","a\"b":1"#, 1)
    );
    assert_eq!(
        message.with_meta("progressToken", None),
        CALL.replacen(r#""progressToken":"t""#, "", 1)
    );
    assert_eq!(message.with_meta("absent", None), CALL);
    assert_eq!(message.with_result(b"1"), CALL);
}

/// What is known of the edited message is what reading it again would find.
#[test]
fn a_param_is_replaced_and_the_outline_with_it() {
    let many = r#"{"jsonrpc":"2.0","params":{"a":1,"b":"two","c":[3],"d":{},"e":null,"f":true,"g":7.5},"method":"m","id":"x"}"#;
    let progress = r#" {"method":"notifications/progress","params":{"progressToken":12,"progress":1,"_meta":{"k":"v"}},"jsonrpc":"2.0"} "#;
    for text in [CALL, many, progress] {
        let message = parse(text).unwrap();
        let params = members(&message.params().unwrap()).unwrap();
        for (name, old) in params.iter().filter(|(name, _)| name != "_meta") {
            for value in [
                "0",
                r#""a much longer value""#,
                std::str::from_utf8(old).unwrap(),
            ] {
                let edited = message.with_param(name, value.as_bytes()).unwrap();
                let read_again = Message::parse(edited.source().clone()).unwrap();
                assert_eq!(format!("{edited:?}"), format!("{read_again:?}"), "{name}");
                assert_eq!(edited.param(name).unwrap(), value);
            }
        }
    }
    let message = parse(CALL).unwrap();
    assert!(message.with_param("_meta", b"{}").is_none());
    assert!(message.with_param("absent", b"1").is_none());
}

#[test]
fn params_and_meta_are_made_where_they_are_missing() {
    let meta = |text: &str| {
        let edited = parse(text).unwrap().with_meta("k", Some(b"1"));
        let edited = String::from_utf8(edited.to_vec()).unwrap();
        assert_eq!(parse(&edited).unwrap().meta("k").unwrap(), "1");
        edited
    };
    let with = |params: &str| format!(r#"{{"jsonrpc":"2.0","method":"m"{params}}}"#);
    assert_eq!(meta(&with("")), with(r#","params":{"_meta":{"k":1}}"#));
    assert_eq!(
        meta(&with(r#","params":{}"#)),
        with(r#","params":{"_meta":{"k":1}}"#)
    );
    assert_eq!(
        meta(&with(r#","params":{"a":2 }"#)),
        with(r#","params":{"a":2 ,"_meta":{"k":1}}"#)
    );
    assert_eq!(
        meta(&with(r#","params":{"_meta":null}"#)),
        with(r#","params":{"_meta":{"k":1}}"#)
    );
    assert_eq!(
        meta(&with(r#","params":{"\u005fmeta":{ }}"#)),
        with(r#","params":{"\u005fmeta":{ "k":1}}"#)
    );
    assert_eq!(
        parse(&with("")).unwrap().with_params(b"{}"),
        with(r#","params":{}"#)
    );
}

#[test]
fn removing_a_member_takes_one_comma_along() {
    let with =
        |meta: &str| format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"_meta":{meta}}}}}"#);
    for (name, left) in [
        ("a", r#"{ "b" : 2, "\u0063":3 }"#),
        ("b", r#"{ "a":1, "\u0063":3 }"#),
        ("c", r#"{ "a":1 , "b" : 2 }"#),
    ] {
        let message = parse(&with(r#"{ "a":1 , "b" : 2, "\u0063":3 }"#)).unwrap();
        assert_eq!(message.with_meta(name, None), with(left));
    }
}

#[test]
fn responses_are_edited_too() {
    let message = parse(r#"{"result": {"a":1} ,"jsonrpc":"2.0","id":1}"#).unwrap();
    assert_eq!(
        message.with_result(b"[]"),
        r#"{"result": [] ,"jsonrpc":"2.0","id":1}"#
    );
    let error = parse(r#"{"jsonrpc":"2.0","error":{}}"#).unwrap();
    assert_eq!(error.error().unwrap(), "{}");
    assert_eq!(
        error.with_id(&id("1")),
        r#"{"jsonrpc":"2.0","error":{},"id":1}"#
    );
    let error = parse(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#).unwrap();
    assert_eq!(
        error.with_id(&id("1")),
        r#"{"jsonrpc":"2.0","id":1,"error":{}}"#
    );
    let notification = parse(r#"{"jsonrpc":"2.0","method":"m"}"#).unwrap();
    assert_eq!(notification.with_id(&id("1")), *notification.source());
}

#[test]
fn parts_of_other_values() {
    let object = Bytes::from_static(br#" { "a" : [1,2] , "\u0062":"x\n" } "#);
    let found = members(&object).unwrap();
    assert_eq!(found[0], ("a".to_owned(), Bytes::from_static(b"[1,2]")));
    assert_eq!(found[1].0, "b");
    assert_eq!(string(&found[1].1).unwrap(), "x\n");
    assert_eq!(member(&object, "b").unwrap(), "\"x\\n\"");
    assert_eq!(member(&object, "c"), None);
    assert_eq!(elements(&found[0].1).unwrap(), ["1", "2"]);
    assert_eq!(
        splice(&object, &found[0].1, b"0").unwrap(),
        r#" { "a" : 0 , "\u0062":"x\n" } "#
    );
    assert_eq!(splice(&object, &Bytes::from_static(b"[1,2]"), b"0"), None);
    assert_eq!(splice(&found[0].1, &object, b"0"), None);

    let twice = Bytes::from_static(br#"{"a":1,"a":2}"#);
    assert_eq!(members(&twice).unwrap_err().code, code::INVALID_REQUEST);
    assert_eq!(member(&twice, "a"), None);
    assert_eq!(
        members(&Bytes::from_static(b"[]")).unwrap_err().code,
        code::INVALID_REQUEST
    );
    assert_eq!(
        members(&Bytes::from_static(b"{} x")).unwrap_err().code,
        code::PARSE_ERROR
    );
    assert_eq!(
        elements(&Bytes::from_static(b"{}")).unwrap_err().code,
        code::INVALID_REQUEST
    );
    assert_eq!(
        elements(&Bytes::from_static(b"[1")).unwrap_err().code,
        code::PARSE_ERROR
    );
    assert!(elements(&Bytes::from_static(b"[ ]")).unwrap().is_empty());
    assert_eq!(string(b"\"a\" "), None);
    assert_eq!(string(b"\"a"), None);
    assert_eq!(string(b"1"), None);
}

#[test]
fn writes_compact_errors_and_responses() {
    assert_eq!(
        error_response(
            Some(&id("\"a\"")),
            -32602,
            "no \"x\"\u{1}\n\r\t\\ü",
            Some(b"{\"y\":1}")
        ),
        r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"no \"x\"\u0001\n\r\t\\ü","data":{"y":1}}}"#
    );
    assert_eq!(
        error_response(None, -32700, "x", None),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"x"}}"#
    );
    assert_eq!(
        error_response_null_id(-32700, "x", None),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}"#
    );
    assert_eq!(
        response(&id("1"), b"{}"),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#
    );
    assert_eq!(quoted("a/\""), r#""a/\"""#);
}
