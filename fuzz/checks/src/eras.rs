//! What is made over from one era to the other: nothing modern reaches a legacy peer, nothing that must be there
//! is missing, and headers say what arguments say.

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::capabilities::{Declared, fingerprint};
use thinpipe_proto::bridge::envelope::{self, Envelope};
use thinpipe_proto::bridge::shape::{
    Caching, InputRequired, Responses, ResultType, error_to_legacy, error_to_modern,
    result_to_legacy, result_to_modern,
};
use thinpipe_proto::bridge::tools::{ToolHeaders, without_violating};
use thinpipe_proto::cache::Question;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, Object, canonical, meta_key};

/// Checks one input: a message, a result, an error or capabilities; or a schema, and after a line feed the
/// arguments of a call.
pub fn check(input: &[u8]) {
    let source = Bytes::copy_from_slice(input);
    if let Ok(text) = canonical(&source) {
        assert_eq!(canonical(&text).as_ref(), Ok(&text), "the one text");
    }
    if let Ok(message) = Message::parse(source.clone()) {
        check_message(&message);
    }
    check_result(&source);
    check_error(&source);
    if let Ok(declared) = Declared::parse(&source) {
        for revision in Revision::ALL {
            let further = Declared::parse(&declared.to_modern(revision));
            let further = further.expect("what is declared further can be read");
            assert!(declared.can_be_asked() || !further.can_be_asked());
        }
        if let Ok(key) = fingerprint(&source) {
            assert_eq!(fingerprint(&key), Ok(key.clone()), "the one key");
        }
    }
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let schema = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let arguments = parts.next().map(Bytes::copy_from_slice);
    check_headers(&schema, arguments.as_ref());
}

fn check_message(message: &Message) {
    let _ = Question::of(message);
    let _ = Responses::of(message);
    let stripped = Message::parse(envelope::strip(message)).expect("stripped, it is a message");
    let keys = [
        meta_key::PROTOCOL_VERSION,
        meta_key::CLIENT_CAPABILITIES,
        meta_key::CLIENT_INFO,
        meta_key::LOG_LEVEL,
    ];
    assert!(keys.iter().all(|key| stripped.meta_json(key).is_none()));
    assert_eq!(envelope::strip(&stripped), stripped.source());
    if message.method().is_none() {
        return;
    }
    let added = Envelope {
        revision: Revision::NEWEST,
        capabilities: Bytes::from_static(b"{}"),
        client_info: None,
        log_level: None,
    };
    let modern = Message::parse(envelope::add(message, &added)).expect("added to, it is one");
    assert_eq!(Envelope::of(&modern), Ok(added));
    assert_eq!(modern.id(), message.id());
}

fn check_result(source: &Bytes) {
    let _ = without_violating(source);
    if let Ok(round) = InputRequired::of(source) {
        let again = InputRequired::of(&round.written(None));
        assert_eq!(again, Ok(round), "a round is written as it is read");
    }
    for method in ["tools/list", "tools/call", "resources/read"] {
        if let Ok(legacy) = result_to_legacy(method, source) {
            let legacy = Object::parse(&legacy).expect("an object");
            let modern = ["resultType", "ttlMs", "cacheScope"];
            assert!(modern.iter().all(|name| !legacy.has(name)));
        }
        if let Ok(modern) = result_to_modern(method, source, None, Caching::default()) {
            assert_eq!(ResultType::of(&modern), Ok(ResultType::Complete));
            result_to_legacy(method, &modern).expect("it goes back");
        }
    }
}

fn check_error(source: &Bytes) {
    for error in [error_to_legacy(source), error_to_modern(source, None).error] {
        let error = Object::parse(&error).expect("an error is an object");
        let code = error.get("code").expect("it has a code");
        assert!(code.iter().all(|byte| b"-0123456789".contains(byte)));
    }
    let modern = error_to_modern(source, Some("u")).error;
    assert!(!modern.starts_with(b"{\"code\":-32002"));
}

/// The headers that are built for a call are those that it is checked for.
fn check_headers(schema: &Bytes, arguments: Option<&Bytes>) {
    let Ok(tool) = ToolHeaders::of(schema) else {
        return;
    };
    let Ok(built) = tool.build(arguments) else {
        return;
    };
    let headers = HeaderMap::from_iter(built);
    let Err(mismatch) = tool.check(&headers, arguments) else {
        return;
    };
    // What no header can carry has none, and is missed.
    assert!(!headers.contains_key(&mismatch.header), "{mismatch}");
    assert!(arguments.is_some(), "nothing to miss: {mismatch}");
}
