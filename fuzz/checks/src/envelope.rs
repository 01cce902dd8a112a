//! JSON-RPC messages: judged as `serde_json` judges them, and edited without a change to the rest.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use thinpipe_proto::rpc::{self, Kind, Message, MessageError, Payload, RequestId};

/// Refusals that `serde_json` does not know begin here: nesting.
const MAX_DEPTH: usize = 128;

/// Larger inputs may reach limits of number.
const MAX_LENGTH: usize = 1 << 16;

/// Checks one input: a body.
pub fn check(input: &[u8]) {
    let source = Bytes::copy_from_slice(input);
    for end in 0..input.len().min(256) {
        let _ = rpc::peek_is_response(&input[..end]);
    }
    if let Ok(id) = RequestId::parse(source.clone()) {
        assert_eq!(id.as_json(), input.trim_ascii(), "the text of an id");
    }
    if input.len() > MAX_LENGTH {
        return;
    }
    let payload = Payload::parse(source.clone());
    check_verdict(input, payload.as_ref().map(|_| ()));
    match Message::parse(source) {
        Ok(message) => {
            assert!(matches!(payload, Ok(Payload::Single(_))));
            check_message(&message);
        }
        Err(_) => match payload {
            Ok(Payload::Batch(messages)) => messages.iter().for_each(check_message),
            Ok(Payload::Single(_)) => panic!("a message, but not alone"),
            Err(_) => {}
        },
    }
}

/// `Value` refuses lone surrogates and numbers beyond `f64`, which `RawValue` takes; so between them
/// lies what is JSON by its grammar.
fn check_verdict(input: &[u8], verdict: Result<(), &MessageError>) {
    let nests = input
        .iter()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count();
    if nests > MAX_DEPTH {
        return;
    }
    match verdict {
        Ok(()) => {
            let raw = serde_json::from_slice::<&RawValue>(input);
            assert!(raw.is_ok(), "taken, but not JSON: {raw:?}");
        }
        Err(error) if error.code == rpc::code::PARSE_ERROR => {
            let value = serde_json::from_slice::<Value>(input);
            assert!(
                value.is_err(),
                "refused as not JSON ({error}), but it is: {value:?}"
            );
        }
        Err(error) => assert_eq!(error.code, rpc::code::INVALID_REQUEST),
    }
}

fn check_message(message: &Message) {
    let source = message.source();
    if let Some(is_response) = rpc::peek_is_response(source) {
        assert_eq!(is_response, message.kind().is_response(), "the peek");
    }
    if let Some(id) = message.id() {
        assert_eq!(message.with_id(id), source, "the same id");
    }
    if let Some(params) = message.params() {
        assert_eq!(message.with_params(&params), source, "the same params");
    }
    if let Some(result) = message.result() {
        assert_eq!(message.with_result(&result), source, "the same result");
    }
    // A number beyond `f64` is JSON, but not a `Value`.
    let Ok(value) = serde_json::from_slice::<Value>(source) else {
        return;
    };
    check_parts(message, &value);
    check_edits(message, &value);
}

fn check_parts(message: &Message, value: &Value) {
    let json = |text: Option<Bytes>| {
        text.map(|text| serde_json::from_slice::<Value>(&text).expect("a part is JSON"))
    };
    let id = message.id().map(|id| Bytes::copy_from_slice(id.as_json()));
    assert_eq!(
        json(id).as_ref(),
        value.get("id").filter(|id| !id.is_null()),
        "id"
    );
    assert_eq!(
        message.method(),
        value.get("method").and_then(Value::as_str),
        "method"
    );
    assert_eq!(
        json(message.params()).as_ref(),
        value.get("params"),
        "params"
    );
    assert_eq!(
        json(message.result()).as_ref(),
        value.get("result"),
        "result"
    );
    assert_eq!(json(message.error()).as_ref(), value.get("error"), "error");
    let members = value.get("params").and_then(Value::as_object);
    for (name, member) in members.into_iter().flatten() {
        assert_eq!(
            json(message.param(name)).as_ref(),
            Some(member),
            "param {name}"
        );
        assert_eq!(
            message.param_str(name).as_deref(),
            member.as_str(),
            "param {name}"
        );
    }
    let meta = value.pointer("/params/_meta").and_then(Value::as_object);
    for (name, member) in meta.into_iter().flatten() {
        assert_eq!(
            json(message.meta(name)).as_ref(),
            Some(member),
            "meta {name}"
        );
    }
}

fn check_edits(message: &Message, value: &Value) {
    let length = |part: Option<Bytes>| part.map_or(0, |part| part.len());
    if let Some(old) = message.id() {
        let id = RequestId::parse(Bytes::from_static(b"\"new\"")).expect("a string is an id");
        let mut expected = value.clone();
        expected["id"] = json!("new");
        check_edit(
            message,
            &message.with_id(&id),
            &expected,
            old.as_json().len(),
        );
    }
    if let Some(old) = message.result() {
        let mut expected = value.clone();
        expected["result"] = json!([1]);
        check_edit(message, &message.with_result(b"[1]"), &expected, old.len());
    }
    if !matches!(message.kind(), Kind::Request | Kind::Notification) {
        return;
    }
    let mut expected = value.clone();
    expected["params"] = json!({"a": 1});
    let after = message.with_params(br#"{"a":1}"#);
    check_edit(message, &after, &expected, length(message.params()));

    let mut without = value.clone();
    for pointer in ["", "/params"] {
        let name = if pointer.is_empty() {
            "params"
        } else {
            "_meta"
        };
        let outer = without
            .pointer_mut(pointer)
            .expect("made in the step before");
        if !outer[name].is_object() {
            outer[name] = json!({});
        }
    }
    let name = "a\"/b";
    let mut expected = without.clone();
    expected["params"]["_meta"][name] = json!({"c": 1});
    let old = message.meta(name).or_else(|| {
        message
            .param("_meta")
            .filter(|meta| meta.first() != Some(&b'{'))
    });
    let after = message.with_meta(name, Some(br#"{"c":1}"#));
    let set = check_edit(message, &after, &expected, length(old));
    assert_eq!(set.meta(name).as_deref(), Some(&br#"{"c":1}"#[..]));

    without["params"]["_meta"]
        .as_object_mut()
        .expect("set above")
        .remove(name);
    let removed = set.with_meta(name, None);
    check_edit(&set, &removed, &without, set.source().len() - removed.len());
}

/// The edited text says what it should and is a message of the same kind. Only one run of bytes has
/// changed, and no more than `replaced` bytes of the old text are gone.
fn check_edit(before: &Message, after: &Bytes, expected: &Value, replaced: usize) -> Message {
    let value = serde_json::from_slice::<Value>(after).expect("an edited message is JSON");
    assert_eq!(value, *expected);
    let edited = Message::parse(after.clone()).expect("an edited message is one");
    assert_eq!(edited.kind(), before.kind());
    let old = before.source();
    let pairs = || old.iter().zip(after);
    let head = pairs().take_while(|(a, b)| a == b).count();
    let pairs = old.iter().rev().zip(after.iter().rev());
    let tail = pairs.take_while(|(a, b)| a == b).count();
    assert!(
        head + tail + replaced >= old.len(),
        "more than one part of the text has changed"
    );
    edited
}
