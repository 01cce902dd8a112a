//! Properties of what crosses between the eras, with `serde_json` as the second opinion.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use thinpipe_proto::bridge::capabilities::{Carried, Declared, fingerprint};
use thinpipe_proto::bridge::envelope::{self, Envelope, LogLevel};
use thinpipe_proto::bridge::shape::{Caching, result_to_legacy, result_to_modern};
use thinpipe_proto::bridge::tools::ToolHeaders;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, Object, canonical};

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[a-z\"\\\\é\u{1}]{0,4}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object_of(inner).prop_map(Value::Object),
        ]
    })
}

fn object_of(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((name(), inner), 0..4).prop_map(|members| members.into_iter().collect())
}

/// Names that mean something as often as those that do not.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z\"\\\\é]{0,3}",
        prop::sample::select(vec![
            "_meta",
            "name",
            "tools",
            "content",
            "resultType",
            "ttlMs",
            "cacheScope",
            "structuredContent",
            "io.modelcontextprotocol/protocolVersion",
            "io.modelcontextprotocol/clientCapabilities",
            "io.modelcontextprotocol/clientInfo",
            "io.modelcontextprotocol/logLevel",
            "io.modelcontextprotocol/serverInfo",
            "progressToken",
            "roots",
            "sampling",
            "elicitation",
            "extensions",
            "experimental",
            "form",
            "url",
        ])
        .prop_map(str::to_owned),
    ]
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    object_of(value())
}

fn text(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap().into()
}

fn read(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

fn request(params: Option<Map<String, Value>>) -> Message {
    let mut message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call" });
    if let Some(params) = params {
        message["params"] = params.into();
    }
    Message::parse(text(&message)).unwrap()
}

const KEYS: [&str; 4] = [
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/logLevel",
];

/// What a legacy server is to see of a request: no envelope, and no `_meta` that held nothing else.
fn expected_stripped(message: &Message) -> Value {
    let mut expected = read(message.source());
    let Some(params) = expected.get_mut("params").and_then(Value::as_object_mut) else {
        return expected;
    };
    if let Some(meta) = params.get_mut("_meta").and_then(Value::as_object_mut) {
        let before = meta.len();
        meta.retain(|name, _| !KEYS.contains(&name.as_str()));
        if meta.is_empty() && before > 0 {
            params.remove("_meta");
        }
    }
    expected
}

fn an_envelope() -> impl Strategy<Value = Envelope> {
    let level = prop::option::of((0u8..8).prop_map(|n| LogLevel::from_number(n).unwrap()));
    (object(), prop::option::of(object()), level).prop_map(|(capabilities, info, log_level)| {
        Envelope {
            revision: Revision::NEWEST,
            capabilities: text(&capabilities),
            client_info: info.map(|info| text(&info)),
            log_level,
        }
    })
}

proptest! {
    /// R139, R230: what was added is what is read, and comes off again without a trace.
    #[test]
    fn r230_an_envelope_goes_on_and_comes_off(
        params in prop::option::of(object()),
        added in an_envelope(),
    ) {
        let bare = Message::parse(envelope::strip(&request(params))).unwrap();
        let modern = Message::parse(envelope::add(&bare, &added)).unwrap();
        prop_assert_eq!(Envelope::of(&modern), Ok(added.clone()));
        // Again: one envelope takes the place of the other.
        let twice = envelope::add(&modern, &added);
        prop_assert_eq!(read(&twice), read(modern.source()));

        let back = read(&envelope::strip(&modern));
        let mut expected = read(bare.source());
        if expected.get("params").is_none() {
            expected["params"] = json!({});
        }
        // A `_meta` that is no object, or holds nothing, makes room for the envelope.
        let meta = expected["params"].get("_meta");
        if meta.is_some_and(|meta| meta.as_object().is_none_or(Map::is_empty)) {
            expected["params"].as_object_mut().unwrap().remove("_meta");
        }
        prop_assert_eq!(back, expected);
    }

    /// R230, invariant 11: nothing of the envelope stays, everything else does.
    #[test]
    fn r230_stripping_takes_the_envelope_only(params in prop::option::of(object())) {
        let message = request(params);
        prop_assert_eq!(read(&envelope::strip(&message)), expected_stripped(&message));
    }

    /// R217, R232, invariant 11: a legacy result that went over and back says what it said.
    #[test]
    fn r217_shaping_is_undone_by_shaping_back(mut result in object()) {
        for name in ["resultType", "ttlMs", "cacheScope", "structuredContent", "tools"] {
            result.remove(name);
        }
        // Only an object can be added to, and an empty one is none.
        if result.get("_meta").is_some_and(|meta| meta.as_object().is_none_or(Map::is_empty)) {
            result.remove("_meta");
        }
        for method in ["tools/call", "tools/list", "resources/read", "ping"] {
            let modern = result_to_modern(method, &text(&result), None, Caching::default());
            let modern = modern.unwrap();
            prop_assert_eq!(&read(&modern)["resultType"], "complete");
            let back = result_to_legacy(method, &modern).unwrap();
            prop_assert_eq!(read(&back), Value::Object(result.clone()));
        }
    }

    /// Invariant 10: whatever was declared, no more than that is declared further.
    #[test]
    fn r224_no_more_is_declared_than_was(declared in object()) {
        let parsed = Declared::parse(&text(&declared)).unwrap();
        let carried = Carried { rounds: true, roots: true };
        let further = Revision::ALL.map(|revision| parsed.to_modern(revision));
        for further in further.iter().chain([&parsed.to_legacy(carried)]) {
            for (name, value) in read(further).as_object().unwrap() {
                prop_assert!(declared[name].is_object(), "{} {:?}", name, declared);
                for inner in value.as_object().unwrap().keys() {
                    // Nothing said of modes means forms.
                    let said = declared[name].get(inner).is_some() || inner == "form";
                    prop_assert!(said, "{}.{} {:?}", name, inner, declared);
                }
            }
            let again = Declared::parse(further).unwrap();
            for method in ["roots/list", "sampling/createMessage", "elicitation/create"] {
                let allowed = again.allows(method, None).is_ok();
                prop_assert!(!allowed || parsed.allows(method, None).is_ok());
            }
        }
    }

    /// Protocol notes 5.4.1 and 5.4.2: one text for one value, whatever order it came in.
    #[test]
    fn canonical_texts_are_equal_for_equal_values(value in object(), spaced in any::<bool>()) {
        let members: Vec<_> = value.clone().into_iter().rev().collect();
        let mut reversed = Object::new();
        for (name, member) in &members {
            reversed.set(name, text(member));
        }
        let plain = canonical(&text(&value)).unwrap();
        let other = if spaced {
            serde_json::to_vec_pretty(&value).unwrap().into()
        } else {
            reversed.into_bytes()
        };
        prop_assert_eq!(&canonical(&other).unwrap(), &plain);
        prop_assert_eq!(&canonical(&plain).unwrap(), &plain);
        prop_assert_eq!(read(&plain), Value::Object(value));
        prop_assert_eq!(fingerprint(&other).unwrap(), fingerprint(&plain).unwrap());
    }

    /// R124, R140: the headers that are built for a call are those it is checked for, and no others are.
    #[test]
    fn r140_headers_that_are_built_are_right(
        region in prop::option::of("\\PC{0,6}| x|=\\?base64\\?eA==\\?=|\u{1}"),
        number in prop::option::of(-(1i64 << 53) + 1..1 << 53),
        yes in prop::option::of(any::<bool>()),
        other in "\\PC{0,6}",
    ) {
        let schema = json!({"properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "yes": {"type": "boolean", "x-mcp-header": "Yes"},
        }});
        let tool = ToolHeaders::of(&text(&schema)).unwrap();
        let arguments = json!({"region": region, "deep": {"n": number}, "yes": yes});
        let arguments = text(&arguments);
        let built = HeaderMap::from_iter(tool.build(Some(&arguments)).unwrap());
        let there = usize::from(region.is_some())
            + usize::from(number.is_some())
            + usize::from(yes.is_some());
        prop_assert_eq!(built.len(), there);
        prop_assert_eq!(tool.check(&built, Some(&arguments)), Ok(()));
        if region.as_deref() != Some(&other) {
            let changed = json!({"region": other, "deep": {"n": number}, "yes": yes});
            prop_assert!(tool.check(&built, Some(&text(&changed))).is_err());
        }
    }

    /// No text makes any of them panic.
    #[test]
    fn whatever_a_peer_sends_is_taken_or_refused(garbage in "[{}\\[\\]\",:a-z0-9 ]{0,40}") {
        let garbage = Bytes::from(garbage);
        let _ = canonical(&garbage);
        let _ = fingerprint(&garbage);
        let _ = result_to_legacy("tools/call", &garbage);
        let _ = result_to_modern("tools/list", &garbage, Some(&garbage), Caching::default());
    }
}
