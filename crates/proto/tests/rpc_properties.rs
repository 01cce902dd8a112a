//! Properties of the JSON-RPC outline, with `serde_json` as the second opinion.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use thinpipe_proto::rpc::{self, Kind, Message, RequestId, code};

/// An object's members as `serde_json` reads them: in order, duplicates kept.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl Members {
    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.get())
    }

    fn unique(&self) -> bool {
        let mut seen = HashSet::new();
        self.0.iter().all(|(key, _)| seen.insert(key))
    }
}

/// Whether `serde_json` takes the text for JSON; `None` where it cannot say, as its numbers have a
/// range.
fn is_json(text: &[u8]) -> Option<bool> {
    // RawValue checks the grammar, but lets lone surrogates pass; Value refuses those.
    if serde_json::from_slice::<&RawValue>(text).is_err() {
        return Some(false);
    }
    match serde_json::from_slice::<Value>(text) {
        Ok(_) => Some(true),
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(_) => Some(false),
    }
}

fn as_value(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

fn parse(text: impl Into<Vec<u8>>) -> Result<Message, rpc::MessageError> {
    Message::parse(Bytes::from(text.into()))
}

/// What a message must be, spelled out slowly.
fn kind_of(text: &str) -> Option<Kind> {
    let message = Members::read(text)?;
    let version = message
        .get("jsonrpc")
        .and_then(|v| serde_json::from_str::<String>(v).ok());
    if !message.unique() || version.as_deref() != Some("2.0") {
        return None;
    }
    if let Some(params) = message.get("params") {
        let params = Members::read(params)?;
        let meta = params.get("_meta").filter(|meta| meta.starts_with('{'));
        if !params.unique() || meta.is_some_and(|m| !Members::read(m).unwrap().unique()) {
            return None;
        }
    }
    let id = message.get("id");
    let integer = |text: &str| {
        text.trim_start_matches('-')
            .bytes()
            .all(|b| b.is_ascii_digit())
    };
    let valid_id = id.is_some_and(|id| id.starts_with('"') || integer(id));
    match (
        message.get("method"),
        message.get("result"),
        message.get("error"),
    ) {
        (Some(method), None, None) if !method.starts_with('"') => None,
        (Some(_), None, None) if id.is_none() => Some(Kind::Notification),
        (Some(_), None, None) => valid_id.then_some(Kind::Request),
        (None, Some(_), None) => valid_id.then_some(Kind::Response),
        (None, None, Some(error)) => {
            let fits = error.starts_with('{') && (valid_id || matches!(id, None | Some("null")));
            fits.then_some(Kind::ErrorResponse)
        }
        _ => None,
    }
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(""), 1 => Just(" "), 1 => Just("\n\t"), 1 => Just("\r\n  ")]
}

fn pick(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(texts).prop_map(str::to_owned)
}

fn string() -> impl Strategy<Value = String> {
    let escapes = &[
        r"\n",
        r"\\",
        r#"\""#,
        r"\/",
        r"\u0000",
        r"\u00e4",
        r"\ud83d\ude00",
        r"\uD800\uDFFF",
        r"\b\f\r\t",
    ];
    let piece = prop_oneof![
        6 => "[ -!#-\\[\\]-~]{0,12}",
        1 => "[ -!#-\\[\\]-~]{60,150}",
        1 => "[äß日本語😀\u{7f}\u{80}\u{2028}]{1,5}",
        2 => pick(escapes),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][+-]?[0-9])?"
}

fn value() -> impl Strategy<Value = String> {
    let words = &["true", "false", "null", "{}", "[]", "[ ]", "{\n}"];
    let leaf = prop_oneof![string(), number(), pick(words)];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let element = (space(), inner.clone(), space()).prop_map(|(a, v, b)| format!("{a}{v}{b}"));
        let member = (space(), string(), space(), inner, space())
            .prop_map(|(a, k, b, v, c)| format!("{a}{k}{b}:{v}{c}"));
        prop_oneof![
            prop::collection::vec(element, 1..6).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(member, 1..6).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

/// An object of any of the members, also twice.
fn object(member: impl Strategy<Value = (String, String)>) -> impl Strategy<Value = String> {
    let member = (space(), member, space(), space())
        .prop_map(|(a, (name, value), b, c)| format!("{a}\"{name}\"{b}:{c}{value}"));
    prop::collection::vec(member, 0..6).prop_map(|all| format!("{{{}}}", all.join(",")))
}

/// An object of some of the members, each once.
fn distinct(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let values = prop::collection::vec(value(), names.len());
    (prop::sample::subsequence(names, 0..=names.len()), values).prop_map(|(names, values)| {
        let member = |(name, value): (&&str, &String)| format!("\"{name}\":{value}");
        let members: Vec<_> = names.iter().zip(&values).map(member).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// Objects that are messages, nearly messages, or far from it.
fn near_message() -> impl Strategy<Value = String> {
    let meta = object((pick(&["a", r"\u0061", "b", "progressToken"]), value()));
    let meta = prop_oneof![4 => meta, 1 => value()];
    let name = pick(&["name", "_meta", r"\u005fmeta", "arguments", "uri"]);
    let params = object((name, prop_oneof![value(), meta]));
    let ids = &[
        "1",
        "\"1\"",
        "0",
        "-7",
        "null",
        "1.5",
        "99999999999999999999",
        r#""\u0031""#,
    ];
    let member = prop_oneof![
        4 => Just(("jsonrpc".to_owned(), "\"2.0\"".to_owned())),
        4 => (pick(&["id", "id", r"i\u0064"]), pick(ids)),
        3 => (pick(&["method", r"m\u0065thod"]), string()),
        3 => (Just("params".to_owned()), prop_oneof![4 => params, 1 => value()]),
        2 => (pick(&["result", "error"]), value()),
        1 => (pick(&["x", "y", r"\u0078", "jsonrpc", "method"]), value()),
    ];
    object(member)
}

/// Requests and responses, with whatever beside their members, in any order.
fn message() -> impl Strategy<Value = String> {
    let meta = prop::option::of(distinct(&["progressToken", "k", "l"]));
    let params = (distinct(&["name", "uri", "cursor"]), meta);
    let params = params.prop_map(|(params, meta)| match meta {
        Some(meta) if params == "{}" => format!("{{\"_meta\":{meta}}}"),
        Some(meta) => format!("{{\"_meta\":{meta},{}", &params[1..]),
        None => params,
    });
    let body = prop_oneof![
        string().prop_map(|method| vec![format!("\"method\":{method}")]),
        (string(), params).prop_map(|(method, params)| {
            vec![
                format!("\"method\":{method}"),
                format!("\"params\":{params}"),
            ]
        }),
        value().prop_map(|result| vec![format!("\"result\":{result}")]),
    ];
    let id = prop_oneof!["-?[1-9][0-9]{0,30}", Just("0".to_owned()), string()];
    let other = prop::option::of(value().prop_map(|value| format!("\"other\":{value}")));
    (id, body, other, space())
        .prop_flat_map(|(id, mut members, other, space)| {
            members.push("\"jsonrpc\":\"2.0\"".to_owned());
            members.push(format!("\"id\" : {id}"));
            members.extend(other);
            (Just(members).prop_shuffle(), Just(space))
        })
        .prop_map(|(members, space)| format!("{space}{{{space}{}}}{space}", members.join(",")))
}

/// The message as a value, with `to` in place of what `path` names.
fn replaced(message: &str, path: &[&str], to: &[u8]) -> Value {
    let mut whole = as_value(message.as_bytes());
    let mut at = &mut whole;
    for name in path {
        let members = at.as_object_mut().unwrap();
        at = members
            .entry(*name)
            .or_insert_with(|| serde_json::json!({}));
    }
    *at = as_value(to);
    whole
}

/// The value with its members the other way round, blanks between, and its strings all escapes.
fn rewritten(value: &Value) -> String {
    let string = |text: &str| {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\"", units.collect::<String>())
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(elements) => {
            let elements: Vec<_> = elements.iter().map(rewritten).collect();
            format!("[ {}]", elements.join("\n,"))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("{} :{}", string(name), rewritten(value))
            };
            let members: Vec<_> = members.iter().rev().map(member).collect();
            format!("{{{} }}", members.join(",\t"))
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// R234: the canonical form says the same, is its own, and is that of every other way to write it.
    #[test]
    fn r234_there_is_one_canonical_form(text in value()) {
        let canonical = match rpc::canonical(text.as_bytes()) {
            Ok(canonical) => canonical,
            // A member that is there twice.
            Err(error) => {
                prop_assert_eq!(error.code, code::INVALID_REQUEST);
                return Ok(());
            }
        };
        prop_assert_eq!(as_value(&canonical), as_value(text.as_bytes()));
        prop_assert_eq!(&rpc::canonical(&canonical).unwrap(), &canonical);
        let value = as_value(&canonical);
        let (one, other) = (value.to_string(), rewritten(&value));
        let one = rpc::canonical(one.as_bytes()).unwrap();
        prop_assert_eq!(rpc::canonical(other.as_bytes()).unwrap(), one);
    }

    /// R065: JSON is what `serde_json` takes for JSON, also after some bytes were changed.
    #[test]
    fn r065_agrees_with_serde_json_on_what_json_is(
        text in prop_oneof![value(), near_message()],
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3, any::<u8>()), 0..3),
        likely in prop::sample::select(&b"\"\\{}[],:0-1.eEu \n\x00\x1f\x7f\xc3\xa4\xffft"[..]),
    ) {
        let mut bytes = text.into_bytes();
        for (index, change, random) in changes {
            let at = index.index(bytes.len() + 1);
            let byte = if random % 4 == 0 { random } else { likely };
            match change {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
        }
        let refused = parse(bytes.clone()).is_err_and(|e| e.code == code::PARSE_ERROR);
        if let Some(expected) = is_json(&bytes) {
            prop_assert_eq!(!refused, expected, "{}", String::from_utf8_lossy(&bytes));
        }
    }

    /// R065, R187: of JSON, a message is what the slow reading says it is.
    #[test]
    fn r187_agrees_with_a_slow_reading_on_what_a_message_is(text in near_message()) {
        let parsed = parse(text.as_str());
        prop_assert_eq!(parsed.as_ref().ok().map(Message::kind), kind_of(&text), "{}", text);
        if let Err(error) = parsed {
            prop_assert_eq!(error.code, code::INVALID_REQUEST);
        }
    }

    /// C13, R188: what was outlined is what `serde_json` finds, with the text it has there.
    #[test]
    fn r188_parts_are_found_and_keep_their_text(text in message()) {
        let message = parse(text.as_str()).unwrap();
        let members = Members::read(&text).unwrap();
        let copied = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        prop_assert_eq!(message.params(), members.get("params").map(copied));
        prop_assert_eq!(message.result(), members.get("result").map(copied));
        let id = members.get("id").unwrap();
        prop_assert_eq!(message.id().unwrap().as_json(), id.as_bytes());
        let method = members.get("method").map(|m| serde_json::from_str::<String>(m).unwrap());
        prop_assert_eq!(message.method(), method.as_deref());

        let params = members.get("params").and_then(Members::read);
        for name in ["name", "uri", "cursor", "_meta", "absent"] {
            let expected = params.as_ref().and_then(|params| params.get(name));
            prop_assert_eq!(message.param(name), expected.map(copied));
            let text = expected.and_then(|text| serde_json::from_str::<String>(text).ok());
            prop_assert_eq!(message.param_str(name), text);
        }
        let meta = params.as_ref().and_then(|params| Members::read(params.get("_meta")?));
        for name in ["progressToken", "k", "l", "absent"] {
            let expected = meta.as_ref().and_then(|meta| meta.get(name));
            prop_assert_eq!(message.meta(name), expected.map(copied));
        }
    }

    /// C14: an edit does what it says, and undoing it gives the same bytes again.
    #[test]
    fn c14_edits_change_their_part_only(text in message(), part in value(), id in string()) {
        let message = parse(text.as_str()).unwrap();
        let id = RequestId::parse(Bytes::from(id)).unwrap();
        let edited = message.with_id(&id);
        prop_assert_eq!(as_value(&edited), replaced(&text, &["id"], id.as_json()));
        let back = parse(edited).unwrap().with_id(message.id().unwrap());
        prop_assert_eq!(&back, text.as_bytes());

        if let Some(result) = message.result() {
            let edited = message.with_result(part.as_bytes());
            prop_assert_eq!(as_value(&edited), replaced(&text, &["result"], part.as_bytes()));
            prop_assert_eq!(parse(edited.clone()).unwrap().with_result(&result), text.as_bytes());
            let spliced = rpc::splice(message.source(), &result, part.as_bytes());
            prop_assert_eq!(spliced, Some(edited));
            return Ok(());
        }
        let edited = message.with_params(b"{}");
        prop_assert_eq!(as_value(&edited), replaced(&text, &["params"], b"{}"));
        if let Some(params) = message.params() {
            prop_assert_eq!(parse(edited).unwrap().with_params(&params), text.as_bytes());
        }
        for name in ["k", "new \"name\""] {
            let edited = message.with_meta(name, Some(part.as_bytes()));
            let expected = replaced(&text, &["params", "_meta", name], part.as_bytes());
            prop_assert_eq!(as_value(&edited), expected);
            let edited = parse(edited).unwrap();
            let back = edited.with_meta(name, message.meta(name).as_deref());
            if message.param("_meta").is_some() {
                prop_assert_eq!(back, text.as_bytes());
            } else {
                prop_assert_eq!(parse(back).unwrap().meta(name), None);
            }
        }
    }

    #[test]
    fn members_and_elements_agree_with_serde_json(text in value()) {
        let source = Bytes::from(text.clone());
        let found = rpc::members(&source).ok();
        let expected = Members::read(&text).filter(Members::unique).map(|members| members.0);
        prop_assert_eq!(found.as_ref().map(Vec::len), expected.as_ref().map(Vec::len));
        for ((name, value), (key, raw)) in found.iter().flatten().zip(expected.iter().flatten()) {
            prop_assert_eq!((name, value.as_ref()), (key, raw.get().as_bytes()));
            prop_assert_eq!(rpc::member(&source, name), Some(value.clone()));
        }
        let found = rpc::elements(&source).ok();
        let expected = serde_json::from_str::<Vec<&RawValue>>(&text).ok();
        let copied = |raw: &&RawValue| Bytes::copy_from_slice(raw.get().as_bytes());
        let expected: Option<Vec<_>> = expected.map(|all| all.iter().map(copied).collect());
        prop_assert_eq!(found, expected);
        let expected = serde_json::from_str::<String>(&text).ok();
        prop_assert_eq!(rpc::string(text.as_bytes()).map(Cow::into_owned), expected);
    }

    /// Wherever the message is cut off, a verdict is the right one, and it stays.
    #[test]
    fn peek_agrees_with_the_outline_on_every_prefix(text in message()) {
        let answer = parse(text.as_str()).unwrap().kind().is_response();
        let mut told = false;
        for end in 0..=text.len() {
            let verdict = rpc::peek_is_response(&text.as_bytes()[..end]);
            prop_assert!(verdict == Some(answer) || verdict.is_none() && !told);
            told |= verdict.is_some();
        }
        prop_assert!(told);
    }

    /// What is a request to the one is a request to the other, with the same id and method.
    #[test]
    fn peeking_at_a_request_agrees_with_the_outline(text in message()) {
        let parsed = parse(text.as_str()).unwrap();
        let request = Some(&parsed).filter(|it| it.kind() == Kind::Request);
        let expected = request.and_then(|it| Some((it.id()?.clone(), it.method()?)));
        let found = rpc::peek_request(text.as_bytes());
        let found = found.as_ref().map(|(id, method)| (id.clone(), method.as_ref()));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn errors_are_messages_themselves(text in any::<String>(), code in any::<i32>()) {
        let id = RequestId::from_text(&text);
        let parsed = Message::parse(rpc::error_response(Some(&id), code, &text, None)).unwrap();
        prop_assert_eq!(parsed.id(), Some(&id));
        prop_assert_eq!(parsed.kind(), Kind::ErrorResponse);
        let error = as_value(&parsed.error().unwrap());
        prop_assert_eq!(error["message"].as_str(), Some(text.as_str()));
        prop_assert_eq!(error["code"].as_i64(), Some(i64::from(code)));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let bytes = Bytes::from(bytes);
        let _ = rpc::peek_is_response(&bytes);
        let _ = rpc::peek_request(&bytes);
        let _ = rpc::Payload::parse(bytes.clone());
        let _ = RequestId::parse(bytes);
    }
}
