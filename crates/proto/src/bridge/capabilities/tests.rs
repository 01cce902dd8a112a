use super::*;
use crate::bridge::shape::{Caching, InvalidResult};
use crate::revision::Revision;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn declared(text: &str) -> Declared {
    Declared::parse(&bytes(text)).expect("capabilities")
}

/// R224: what goes up is no more than the legacy client declared, in the session's revision.
#[test]
fn r224_a_legacy_client_declares_what_the_gateway_can_deliver() {
    use Revision::{V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25};
    let newest = r#"{"roots":{"listChanged":true},"sampling":{"tools":{},"context":{"n":1e400},"x":1},"elicitation":{"form":{},"url":{}},"tasks":{"list":{}},"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{"n":9007199254740993}},"experimental":{"e":{}},"other":{}}"#;
    for (revision, text, expected) in [
        (
            V2025_11_25,
            newest,
            r#"{"experimental":{"e":{}},"roots":{},"sampling":{"context":{"n":1e400},"tools":{}},"elicitation":{"form":{},"url":{}},"extensions":{"a/b":{"n":9007199254740993}}}"#,
        ),
        (
            V2025_06_18,
            newest,
            r#"{"experimental":{"e":{}},"roots":{},"sampling":{},"elicitation":{},"extensions":{"a/b":{"n":9007199254740993}}}"#,
        ),
        (V2025_03_26, r#"{"elicitation":{}}"#, "{}"),
        (V2024_11_05, r#"{"sampling":{}}"#, r#"{"sampling":{}}"#),
        (
            V2025_06_18,
            r#"{"elicitation":{}}"#,
            r#"{"elicitation":{}}"#,
        ),
        (V2025_06_18, r#"{"elicitation":{"url":{}}}"#, "{}"),
        (
            V2025_11_25,
            r#"{"elicitation":{"url":{}}}"#,
            r#"{"elicitation":{"url":{}}}"#,
        ),
        (
            V2025_11_25,
            r#"{"elicitation":{"form":{}}}"#,
            r#"{"elicitation":{}}"#,
        ),
        (
            V2025_11_25,
            r#"{"roots":null,"sampling":true,"elicitation":[],"extensions":7,"experimental":"x"}"#,
            "{}",
        ),
        (
            V2025_11_25,
            r#"{"sampling":{"tools":null}}"#,
            r#"{"sampling":{}}"#,
        ),
        (V2025_11_25, "{}", "{}"),
    ] {
        assert_eq!(
            declared(text).to_modern(revision),
            expected,
            "{revision} {text}"
        );
    }
}

/// R236: nothing is declared upstream that the client did not declare, or that cannot be carried.
#[test]
fn r236_a_modern_client_is_declared_as_far_as_it_can_be_carried() {
    let all = declared(
        r#"{"roots":{},"sampling":{"context":{}},"elicitation":{"url":{},"form":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
    );
    let carried = |rounds, roots| all.to_legacy(Carried { rounds, roots });
    assert_eq!(
        carried(true, true),
        r#"{"roots":{},"sampling":{"context":{}},"elicitation":{"form":{},"url":{}}}"#
    );
    assert_eq!(
        carried(true, false),
        r#"{"sampling":{"context":{}},"elicitation":{"form":{},"url":{}}}"#
    );
    assert_eq!(carried(false, true), "{}");
    let (rounds, roots) = (true, true);
    assert_eq!(
        Declared::nothing().to_legacy(Carried { rounds, roots }),
        "{}"
    );
}

/// Protocol notes 5.1, "Refusing a server request"
#[test]
fn a_server_may_ask_for_what_was_declared() {
    let forms = r#"{"elicitation":{}}"#;
    let urls = r#"{"elicitation":{"url":{}}}"#;
    let url = r#"{"mode":"url","url":"https://x"}"#;
    for (capabilities, method, params, expected) in [
        (r#"{"roots":{}}"#, "roots/list", "{}", None),
        ("{}", "roots/list", "{}", Some(-32601)),
        ("{}", "sampling/createMessage", "{}", Some(-32601)),
        ("{}", "elicitation/create", "{}", Some(-32601)),
        (
            r#"{"sampling":{}}"#,
            "sampling/createMessage",
            r#"{"messages":[]}"#,
            None,
        ),
        (
            r#"{"sampling":{}}"#,
            "sampling/createMessage",
            r#"{"tools":[]}"#,
            Some(-32602),
        ),
        (
            r#"{"sampling":{}}"#,
            "sampling/createMessage",
            r#"{"toolChoice":{}}"#,
            Some(-32602),
        ),
        (
            r#"{"sampling":{"tools":{}}}"#,
            "sampling/createMessage",
            r#"{"tools":[]}"#,
            None,
        ),
        (forms, "elicitation/create", r#"{"message":"?"}"#, None),
        (forms, "elicitation/create", r#"{"mode":"form"}"#, None),
        (forms, "elicitation/create", url, Some(-32602)),
        (urls, "elicitation/create", url, None),
        (urls, "elicitation/create", "{}", Some(-32602)),
        (
            forms,
            "elicitation/create",
            r#"{"mode":"voice"}"#,
            Some(-32602),
        ),
        (
            forms,
            "elicitation/create",
            r#"{"mode":null}"#,
            Some(-32602),
        ),
        (
            urls,
            "elicitation/create",
            r#"{"mode":"url","mode":"form"}"#,
            Some(-32602),
        ),
        (forms, "elicitation/create", "[]", Some(-32602)),
        (r#"{"roots":{},"x/y":{}}"#, "x/y", "{}", Some(-32601)),
    ] {
        let allowed = declared(capabilities).allows(method, Some(&bytes(params)));
        let refused = allowed.err().map(|undeclared| undeclared.code());
        assert_eq!(refused, expected, "{capabilities} {method} {params}");
    }
    assert_eq!(declared(forms).allows("elicitation/create", None), Ok(()));
    assert!(declared(forms).can_be_asked() && !Declared::nothing().can_be_asked());
    assert!(declared(urls).has_url_elicitation() && !declared(forms).has_url_elicitation());
}

/// Protocol notes 5.4.1: key order, and `elicitation: {}` is form.
#[test]
fn equal_capabilities_have_one_fingerprint() {
    let of = |text: &str| fingerprint(&bytes(text)).unwrap();
    let one = of(r#"{"elicitation":{},"sampling":{"tools":{},"context":{}}}"#);
    for same in [
        r#" {"sampling":{"context":{}, "tools":{}}, "elicitation":{"form":{}}}"#,
        r#"{"\u0065licitation":{},"sampling":{"tools":{},"context":{}}}"#,
    ] {
        assert_eq!(of(same), one);
    }
    for other in [
        r#"{"elicitation":{"url":{}},"sampling":{"tools":{},"context":{}}}"#,
        r#"{"elicitation":{},"sampling":{"tools":{}}}"#,
        "{}",
    ] {
        assert_ne!(of(other), one);
    }
}

#[test]
fn capabilities_that_cannot_be_read_are_refused() {
    let long = format!(
        r#"{{"experimental":{{"x":"{}"}}}}"#,
        "x".repeat(MAX_DECLARED)
    );
    for refused in ["[]", "null", "7", r#"{"roots":{},"roots":{}}"#, "{", &long] {
        assert!(Declared::parse(&bytes(refused)).is_err(), "{refused:.40}");
        assert!(fingerprint(&bytes(refused)).is_err());
    }
}

/// R216
#[test]
fn r216_initialize_is_answered_from_discover() {
    let discovered = bytes(
        r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":9,"cacheScope":"public","capabilities":{"tools":{"listChanged":true,"n":1e400},"logging":{},"prompts":null,"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}},"new":{}},"instructions":"do","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"3"}}}"#,
    );
    let result = initialize_result(&discovered, Revision::V2025_06_18, "up").unwrap();
    assert_eq!(
        result,
        r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true,"n":1e400},"logging":{},"extensions":{"a/b":{}}},"serverInfo":{"name":"s","version":"3"},"instructions":"do"}"#
    );
    for nameless in [
        r#"{"capabilities":{}}"#,
        r#"{"capabilities":{},"_meta":null,"instructions":7}"#,
        r#"{"capabilities":{},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#,
        r#"{"capabilities":{},"_meta":{"io.modelcontextprotocol/serverInfo":"s"}}"#,
    ] {
        assert_eq!(
            initialize_result(&bytes(nameless), Revision::V2025_11_25, "u\"p").unwrap(),
            r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"u\"p","version":"unknown"}}"#
        );
    }
    for invalid in [
        "[]",
        "{}",
        r#"{"capabilities":[]}"#,
        r#"{"capabilities":{},"capabilities":{}}"#,
    ] {
        let refused = initialize_result(&bytes(invalid), Revision::V2025_11_25, "up");
        assert!(refused.is_err(), "{invalid}");
    }
}

/// R150, R232
#[test]
fn r150_discover_is_answered_from_initialize() {
    let served = [Revision::V2026_07_28, Revision::V2025_11_25];
    let initialized = |version: &str, capabilities: &str| {
        bytes(&format!(
            r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"serverInfo":{{"name":"s","version":"1"}},"instructions":"do"}}"#
        ))
    };
    let discovered = |initialized: &Bytes, notices| {
        let caching = Caching::default();
        discover_result(initialized, &served, Heard { notices }, caching)
    };
    let whole = initialized(
        "2025-11-25",
        r#"{"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"tasks":{"list":{}},"extensions":{"io.modelcontextprotocol/tasks":{}},"own":{}}"#,
    );
    assert_eq!(
        discovered(&whole, true).unwrap(),
        r#"{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true}},"instructions":"do","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#
    );
    let deaf = discovered(&whole, false).unwrap();
    let deaf = Object::parse(&deaf).unwrap();
    assert_eq!(
        deaf.get("capabilities").unwrap(),
        r#"{"tools":{},"resources":{}}"#
    );
    for (version, capabilities, expected) in [
        (
            "2024-11-05",
            r#"{"prompts":{}}"#,
            r#"{"prompts":{},"completions":{}}"#,
        ),
        ("2024-11-05", r#"{"tools":{}}"#, r#"{"tools":{}}"#),
        ("2025-03-26", r#"{"prompts":{}}"#, r#"{"prompts":{}}"#),
    ] {
        let result = discovered(&initialized(version, capabilities), true).unwrap();
        let result = Object::parse(&result).unwrap();
        assert_eq!(result.get("capabilities").unwrap(), expected);
    }
    let invalid = discovered(&bytes(r#"{"protocolVersion":"2025-11-25"}"#), true);
    assert!(matches!(invalid, Err(InvalidResult::Lacks("capabilities"))));
}
