//! One test for each row of the table, named by it; then the rules of 2.3.3 and 2.2.6.

mod modern;

use bytes::Bytes;
use http::HeaderValue;

use super::*;
use crate::rpc::RequestId;

const BOTH: Served = Served {
    legacy: true,
    modern: true,
};
const LEGACY: Served = Served {
    legacy: true,
    modern: false,
};
const MODERN: Served = Served {
    legacy: false,
    modern: true,
};

const SESSION: (&str, &str) = ("Mcp-Session-Id", "s1");
const VERSION_MODERN: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");
const VERSION_LEGACY: (&str, &str) = ("MCP-Protocol-Version", "2025-06-18");
const VERSION_UNKNOWN: (&str, &str) = ("MCP-Protocol-Version", "2031-01-01");

type Headers<'a> = &'a [(&'static str, &'a str)];

fn headers(list: Headers<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn post(body: &str, list: Headers<'_>, served: Served) -> Result<Class, Refusal> {
    let payload = Payload::parse(Bytes::copy_from_slice(body.as_bytes()))?;
    classify_post(payload, &headers(list), served)
}

/// Status and code of a refusal.
fn refused(body: &str, list: Headers<'_>, served: Served) -> (u16, i32) {
    let refusal = post(body, list, served).expect_err(body);
    (refusal.status, refusal.code)
}

fn bodiless(method: &Method, list: Headers<'_>, served: Served) -> Result<Class, Refusal> {
    classify_bodiless(method, &headers(list), served)
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#)
}

fn notification(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#)
}

/// `params` with a claim (JSON text) and empty capabilities.
fn claiming(claim: &str, rest: &str) -> String {
    format!(
        r#"{{"_meta":{{"{}":{claim},"{}":{{}}}}{rest}}}"#,
        meta_key::PROTOCOL_VERSION,
        meta_key::CLIENT_CAPABILITIES
    )
}

/// R018
#[test]
fn row_3_get_with_a_modern_version_is_not_allowed() {
    for list in [
        &[VERSION_MODERN][..],
        &[VERSION_MODERN, SESSION],
        &[VERSION_LEGACY, VERSION_MODERN],
    ] {
        let refusal = bodiless(&Method::GET, list, BOTH).unwrap_err();
        assert_eq!((refusal.status, refusal.allow), (405, Some("POST")));
    }
}

#[test]
fn row_4_get_in_a_session_listens() {
    for list in [
        &[SESSION][..],
        &[SESSION, VERSION_LEGACY],
        &[SESSION, ("Last-Event-ID", "9")],
    ] {
        assert!(matches!(
            bodiless(&Method::GET, list, BOTH),
            Ok(Class::Listen)
        ));
    }
}

#[test]
fn row_6_get_without_a_session_is_left_to_the_caller() {
    assert!(matches!(
        bodiless(&Method::GET, &[], LEGACY),
        Ok(Class::Listen)
    ));
    let refusal = bodiless(&Method::GET, &[], MODERN).unwrap_err();
    assert_eq!((refusal.status, refusal.allow), (405, Some("POST")));
}

/// R018, K6
#[test]
fn row_7_delete_terminates_unless_the_version_is_modern() {
    assert!(matches!(
        bodiless(&Method::DELETE, &[SESSION], BOTH),
        Ok(Class::Terminate)
    ));
    for (list, served) in [(&[SESSION, VERSION_MODERN][..], BOTH), (&[SESSION], MODERN)] {
        let refusal = bodiless(&Method::DELETE, list, served).unwrap_err();
        assert_eq!((refusal.status, refusal.allow), (405, Some("POST")));
    }
}

/// R065
#[test]
fn row_8_what_is_no_message_is_refused_with_its_code() {
    assert_eq!(refused("{", &[], BOTH), (400, code::PARSE_ERROR));
    assert_eq!(refused("{}", &[], BOTH), (400, code::INVALID_REQUEST));
    let refusal = post(r#"{"jsonrpc":"1.0","id":3,"method":"m"}"#, &[], BOTH).unwrap_err();
    assert_eq!(refusal.id, Some(RequestId::from_integer(3)));
    let refusal = bodiless(&Method::POST, &[], BOTH).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (400, code::PARSE_ERROR));
}

/// R085, R086
#[test]
fn row_9_arrays_are_batches() {
    let call = request("tools/list", "{}");
    let note = notification("{}");
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let assumed = ("MCP-Protocol-Version", "2025-03-26");
    for batch in [
        format!("[{call},{note}]"),
        format!("[{note}]"),
        format!("[{answer},{answer}]"),
    ] {
        for list in [&[][..], &[SESSION], &[assumed], &[SESSION, assumed]] {
            let class = post(&batch, list, BOTH).unwrap();
            assert!(matches!(class, Class::Batch(messages) if !messages.is_empty()));
        }
    }
    assert_eq!(
        refused(&format!("[{call},{answer}]"), &[], BOTH),
        (400, code::INVALID_REQUEST)
    );
}

/// R087, R089, R090: batches that no revision has.
#[test]
fn row_9_other_arrays_are_refused() {
    let call = format!("[{}]", request("tools/list", "{}"));
    let claim = format!(
        "[{}]",
        request("tools/list", &claiming("\"2026-07-28\"", ""))
    );
    let initialize = format!("[{}]", request("initialize", "{}"));
    for (body, list, served) in [
        (&call, &[VERSION_LEGACY][..], BOTH),
        (&call, &[VERSION_MODERN], BOTH),
        (&call, &[], MODERN),
        (&claim, &[], BOTH),
        (&claim, &[SESSION], LEGACY),
        (&initialize, &[], BOTH),
    ] {
        assert_eq!(
            refused(body, list, served),
            (400, code::INVALID_REQUEST),
            "{body}"
        );
    }
    assert_eq!(
        refused(&call, &[VERSION_UNKNOWN], BOTH),
        (400, code::SERVER_ERROR)
    );
    assert!(batch_allowed(Revision::V2025_03_26).is_ok());
    for revision in [
        Revision::V2024_11_05,
        Revision::V2025_06_18,
        Revision::V2025_11_25,
    ] {
        assert_eq!(
            batch_allowed(revision).unwrap_err().code,
            code::INVALID_REQUEST
        );
    }
}

/// R002
#[test]
fn row_13_initialize_without_a_claim_starts_a_session() {
    let body = request("initialize", r#"{"protocolVersion":"2025-11-25"}"#);
    for list in [&[][..], &[VERSION_LEGACY], &[SESSION]] {
        assert!(matches!(post(&body, list, BOTH), Ok(Class::Initialize(_))));
        assert!(matches!(
            post(&body, list, LEGACY),
            Ok(Class::Initialize(_))
        ));
    }
    for claim in ["\"2025-11-25\"", "5", "null"] {
        let body = request("initialize", &claiming(claim, ""));
        assert!(
            matches!(post(&body, &[], BOTH), Ok(Class::Initialize(_))),
            "{claim}"
        );
    }
}

/// R016
#[test]
fn row_13_initialize_with_a_modern_header_is_a_mismatch() {
    let body = request("initialize", r#"{"protocolVersion":"2025-11-25"}"#);
    for served in [BOTH, LEGACY, MODERN] {
        assert_eq!(
            refused(&body, &[VERSION_MODERN], served),
            (400, code::HEADER_MISMATCH)
        );
    }
}

/// R017: legacy clients have nothing but this error to show.
#[test]
fn row_13_a_modern_only_endpoint_names_what_it_serves() {
    let body = request("initialize", r#"{"protocolVersion":"2025-11-25"}"#);
    let refusal = post(&body, &[], MODERN).unwrap_err();
    assert_eq!(
        (refusal.status, refusal.code),
        (400, code::UNSUPPORTED_VERSION)
    );
    let data =
        r#"{"supported":["2026-07-28"],"requested":"2025-11-25","reason":"unsupported_version"}"#;
    assert_eq!(refusal.data.as_deref(), Some(data));
    assert_eq!(refusal.id, Some(RequestId::from_integer(7)));
    let refusal = post(&request("initialize", "{}"), &[], MODERN).unwrap_err();
    let data = r#"{"supported":["2026-07-28"],"requested":"","reason":"unsupported_version"}"#;
    assert_eq!(refusal.data.as_deref(), Some(data));
}

/// R061, R129
#[test]
fn row_15_answers_belong_to_a_session() {
    for body in [
        r#"{"jsonrpc":"2.0","id":"s1","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"s1","error":{"code":1,"message":"no"}}"#,
    ] {
        assert!(matches!(
            post(body, &[SESSION, VERSION_LEGACY], BOTH),
            Ok(Class::Message(_))
        ));
        assert_eq!(refused(body, &[], BOTH), (400, code::SERVER_ERROR));
        assert_eq!(
            refused(body, &[SESSION, VERSION_MODERN], BOTH),
            (400, code::INVALID_REQUEST)
        );
        assert_eq!(
            refused(body, &[SESSION], MODERN),
            (400, code::INVALID_REQUEST)
        );
        // The id is one of the other side's: an error with it would answer something else.
        assert_eq!(post(body, &[], BOTH).unwrap_err().id, None);
    }
}

#[test]
fn row_16_messages_in_a_session() {
    let claims_legacy = notification(&claiming("\"2025-11-25\"", ""));
    for body in [
        request("tools/list", "{}"),
        request("ping", "{}"),
        notification("{}"),
        claims_legacy,
    ] {
        for list in [
            &[SESSION][..],
            &[SESSION, VERSION_LEGACY],
            &[SESSION, VERSION_UNKNOWN],
        ] {
            assert!(
                matches!(post(&body, list, BOTH), Ok(Class::Message(_))),
                "{body}"
            );
        }
    }
}

#[test]
fn row_17_messages_without_a_session() {
    for body in [request("tools/list", "{}"), notification("{}")] {
        assert!(matches!(post(&body, &[], BOTH), Ok(Class::Message(_))));
        assert!(matches!(
            post(&body, &[VERSION_LEGACY], LEGACY),
            Ok(Class::Message(_))
        ));
    }
}

/// R019
#[test]
fn row_18_other_methods_are_not_allowed() {
    for method in [
        Method::PUT,
        Method::PATCH,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
    ] {
        let refusal = bodiless(&method, &[], BOTH).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.allow),
            (405, Some("GET, POST, DELETE"))
        );
        assert_eq!(
            bodiless(&method, &[], MODERN).unwrap_err().allow,
            Some("POST")
        );
        let body = refusal.body(None);
        assert!(body.starts_with(br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"#));
    }
}

/// R012, R013, R014, R015, B16
#[test]
fn b16_the_revision_in_a_session_is_the_headers_else_the_sessions_else_assumed() {
    let of = |list: Headers<'_>, session| legacy_revision(&headers(list), session);
    let session = Some(Revision::V2025_11_25);
    assert_eq!(of(&[], session), Ok(Revision::V2025_11_25));
    assert_eq!(of(&[], None), Ok(Revision::V2025_03_26));
    for revision in Revision::ALL {
        let named = of(&[("MCP-Protocol-Version", revision.as_str())], session);
        if revision.is_modern() {
            assert_eq!(named.map_err(|refusal| refusal.status), Err(400));
        } else {
            assert_eq!(named, Ok(revision));
        }
    }
    for list in [
        &[VERSION_UNKNOWN][..],
        &[("MCP-Protocol-Version", "")],
        &[("MCP-Protocol-Version", "2025-06-18, 2025-06-18")],
        &[VERSION_LEGACY, VERSION_LEGACY],
    ] {
        let refusal = of(list, session).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (400, code::SERVER_ERROR));
    }
}

#[test]
fn endpoints_name_what_they_serve_newest_first() {
    use Revision::{V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25, V2026_07_28};
    assert_eq!(
        BOTH.revisions(),
        [
            V2026_07_28,
            V2025_11_25,
            V2025_06_18,
            V2025_03_26,
            V2024_11_05
        ]
    );
    assert_eq!(
        LEGACY.revisions(),
        [V2025_11_25, V2025_06_18, V2025_03_26, V2024_11_05]
    );
    assert_eq!(MODERN.revisions(), [V2026_07_28]);
}

/// Protocol notes 2.5: who gets no id, and who gets `null`.
#[test]
fn refusals_write_their_own_bodies() {
    let refusal = Refusal::bad_request(code::PARSE_ERROR, "x");
    let omitted = r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"x"}}"#;
    let null = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}"#;
    assert_eq!(refusal.body(Some(Revision::V2026_07_28)), omitted);
    assert_eq!(refusal.body(Some(Revision::V2025_11_25)), omitted);
    assert_eq!(refusal.body(Some(Revision::V2025_06_18)), null);
    assert_eq!(refusal.body(None), null);
    let with_id = refusal.with_id(Some(RequestId::from_text("a"))).body(None);
    assert_eq!(
        with_id,
        r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32700,"message":"x"}}"#
    );
}
