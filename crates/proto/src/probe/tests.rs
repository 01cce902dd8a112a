use super::*;
use crate::rpc::Message;

const DISCOVERED: &str = r#"{"jsonrpc":"2.0","id":"p","result":{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25","2025-06-18"],"capabilities":{},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","id":"p","result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"old","version":"0.9"}}}"#;

fn message(text: &str) -> Option<Message> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).ok()
}

fn error(code: i32, data: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"p","error":{{"code":{code},"message":"m","data":{data}}}}}"#)
}

fn listing(versions: &str) -> String {
    error(
        -32022,
        &format!(r#"{{"supported":{versions},"requested":"2026-07-28"}}"#),
    )
}

/// What follows one answer to `server/discover`.
fn discover(status: u16, body: &str) -> Next {
    Probe::begin("/mcp")
        .0
        .answered(status, message(body).as_ref())
}

/// What follows one answer to `initialize`, after a 404.
fn initialize(status: u16, body: &str) -> Next {
    let mut probe = Probe::begin("/mcp").0;
    assert_eq!(
        probe.answered(404, None),
        Next::Initialize(Revision::NEWEST_LEGACY)
    );
    probe.answered(status, message(body).as_ref())
}

fn done(next: Next) -> Verdict {
    let Next::Done(verdict) = next else {
        panic!("{next:?}")
    };
    verdict
}

fn failed(next: Next) -> ProbeFailure {
    let Next::Failed(failure) = next else {
        panic!("{next:?}")
    };
    failure
}

/// R020; the list names legacy revisions, so `initialize` is not needed for them either.
#[test]
fn r020_a_discover_result_is_the_verdict() {
    let verdict = done(discover(200, DISCOVERED));
    assert_eq!(verdict.modern(), Some(&[Revision::V2026_07_28][..]));
    assert_eq!(verdict.legacy(), Some(Revision::V2025_11_25));
    assert_eq!(verdict.server_name.as_deref(), Some("s"));
    assert_eq!(verdict.server_version.as_deref(), Some("1"));
    assert!(verdict.discover.unwrap().starts_with(b"{\"resultType\""));
    let only = DISCOVERED.replace(r#","2025-11-25","2025-06-18""#, "");
    assert_eq!(done(discover(200, &only)).legacy(), None);
}

#[test]
fn r020_a_discover_result_without_a_known_modern_revision() {
    let legacy = DISCOVERED.replace("2026-07-28", "2027-01-01");
    let mut probe = Probe::begin("/mcp").0;
    let next = probe.answered(200, message(&legacy).as_ref());
    assert_eq!(next, Next::Initialize(Revision::NEWEST_LEGACY));
    let verdict = done(probe.answered(200, message(INITIALIZED).as_ref()));
    assert_eq!(
        (verdict.modern(), verdict.legacy()),
        (None, Some(Revision::V2025_06_18))
    );
    assert!(verdict.discover.is_some());

    let unknown = r#"{"jsonrpc":"2.0","id":"p","result":{"supportedVersions":["2027-01-01","x"]}}"#;
    let ProbeFailure::VersionMismatch { supported } = failed(discover(200, unknown)) else {
        panic!()
    };
    assert_eq!(supported, ["2027-01-01", "x"]);
}

#[test]
fn r021_unsupported_version_with_a_modern_one_is_one_retry() {
    assert_eq!(
        discover(400, &listing(r#"["2026-07-28","2025-11-25"]"#)),
        Next::Discover(Revision::V2026_07_28)
    );
}

#[test]
fn r022_unsupported_version_with_legacy_ones_is_initialize() {
    assert_eq!(
        discover(400, &listing(r#"["2025-06-18"]"#)),
        Next::Initialize(Revision::NEWEST_LEGACY)
    );
    let failure = failed(discover(400, &listing(r#"["2027-01-01"]"#)));
    assert!(matches!(failure, ProbeFailure::VersionMismatch { .. }));
}

/// E11: an error is not as long as a server's list.
#[test]
fn e11_unknown_versions_are_named_in_short() {
    let list = format!("[{}\"{}\"]", "\"x\",".repeat(100), "y".repeat(1000));
    let failure = failed(discover(400, &listing(&list))).to_string();
    assert!(
        failure.contains("\"x\", \"x\"") && failure.len() < 200,
        "{failure}"
    );
    let failure = failed(discover(
        400,
        &listing(&format!("[\"{}\"]", "y".repeat(1000))),
    ));
    assert!(failure.to_string().len() < 200, "{failure}");
}

#[test]
fn r023_a_second_unsupported_version_is_the_end() {
    for second in [r#"["2026-07-28"]"#, r#"["2025-06-18"]"#] {
        let mut probe = Probe::begin("/mcp").0;
        let list = message(&listing(r#"["2026-07-28"]"#));
        assert_eq!(
            probe.answered(400, list.as_ref()),
            Next::Discover(Revision::V2026_07_28)
        );
        let failure = failed(probe.answered(400, message(&listing(second)).as_ref()));
        assert!(matches!(failure, ProbeFailure::VersionMismatch { .. }));
    }
}

#[test]
fn r023_a_second_unsupported_version_is_the_end_without_a_list_too() {
    for second in [error(-32022, "null"), listing("[1]")] {
        let mut probe = Probe::begin("/mcp").0;
        let list = message(&listing(r#"["2026-07-28"]"#));
        probe.answered(400, list.as_ref());
        let failure = failed(probe.answered(400, message(&second).as_ref()));
        assert!(matches!(failure, ProbeFailure::VersionMismatch { .. }));
    }
}

#[test]
fn r024_400_with_anything_else_is_initialize() {
    for body in ["", "<html>", "{}", "[]", r#"{"error":"no"}"#, "null"] {
        assert_eq!(
            discover(400, body),
            Next::Initialize(Revision::NEWEST_LEGACY),
            "{body}"
        );
    }
}

#[test]
fn r025_statuses_of_servers_that_know_no_discover_are_initialize() {
    for status in [404, 405, 406, 409, 410, 415, 422] {
        assert_eq!(
            discover(status, ""),
            Next::Initialize(Revision::NEWEST_LEGACY)
        );
    }
    // 2xx that is neither JSON nor events.
    for status in [200, 202, 204] {
        assert_eq!(
            discover(status, ""),
            Next::Initialize(Revision::NEWEST_LEGACY)
        );
    }
}

#[test]
fn r026_other_errors_are_initialize() {
    for code in [-32601, -32602, -32600, -32000, -32001, 0] {
        for status in [200, 400, 404] {
            let next = discover(status, &error(code, "null"));
            assert_eq!(next, Next::Initialize(Revision::NEWEST_LEGACY), "{code}");
        }
    }
    // Modern codes prove nothing under another status, nor without a list that can be used.
    for (status, body) in [
        (200, error(-32020, "null")),
        (404, error(-32021, "null")),
        (400, error(-32022, "null")),
        (400, listing("[1]")),
        (400, listing("\"2026-07-28\"")),
    ] {
        assert_eq!(
            discover(status, &body),
            Next::Initialize(Revision::NEWEST_LEGACY)
        );
    }
}

#[test]
fn header_mismatch_and_missing_capability_are_modern_refusals() {
    for code in [-32020, -32021] {
        let failure = failed(discover(400, &error(code, "null")));
        assert_eq!(failure, ProbeFailure::Refused { code });
        assert!(!failure.is_passing());
    }
}

/// R027, for both requests.
#[test]
fn r027_401_and_403_are_no_verdict() {
    for status in [401, 403] {
        for next in [
            discover(status, &error(-32022, "null")),
            initialize(status, INITIALIZED),
        ] {
            let failure = failed(next);
            assert_eq!(failure, ProbeFailure::Unauthorized { status });
            assert!(failure.is_passing());
        }
    }
}

/// R028, for both requests; a JSON-RPC error in the body does not change it.
#[test]
fn r028_passing_troubles_are_no_verdict() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        for next in [
            discover(status, &error(-32601, "null")),
            initialize(status, ""),
        ] {
            let failure = failed(next);
            assert_eq!(failure, ProbeFailure::Unavailable { status });
            assert!(failure.is_passing());
        }
    }
}

#[test]
fn an_initialize_result_of_a_known_revision_is_the_verdict() {
    let verdict = done(initialize(200, INITIALIZED));
    assert_eq!(
        (verdict.modern(), verdict.legacy()),
        (None, Some(Revision::V2025_06_18))
    );
    assert_eq!(verdict.server_name.as_deref(), Some("old"));
    assert_eq!(verdict.discover, None);
    for version in ["2027-01-01", "2026-07-28"] {
        let failure = failed(initialize(200, &INITIALIZED.replace("2025-06-18", version)));
        let supported = vec![version.to_owned()];
        assert_eq!(failure, ProbeFailure::VersionMismatch { supported });
    }
}

#[test]
fn initialize_is_repeated_once_with_a_listed_version() {
    let list = error(-32602, r#"{"supported":["2025-03-26","2024-11-05"]}"#);
    let mut probe = Probe::begin("/mcp").0;
    probe.answered(404, None);
    let next = probe.answered(200, message(&list).as_ref());
    assert_eq!(next, Next::Initialize(Revision::V2025_03_26));
    let failure = failed(probe.answered(200, message(&list).as_ref()));
    assert!(matches!(failure, ProbeFailure::VersionMismatch { .. }));
}

#[test]
fn r038_initialize_refused_as_modern_is_a_version_error() {
    for code in [-32020, -32021, -32022] {
        let failure = failed(initialize(
            400,
            &error(code, r#"{"supported":["2027-01-01"]}"#),
        ));
        let supported = vec!["2027-01-01".to_owned()];
        assert_eq!(failure, ProbeFailure::VersionMismatch { supported });
    }
}

/// What all requests saw is said.
#[test]
fn a_server_that_is_none_is_described() {
    let failure = failed(initialize(200, &error(-32603, "null")));
    assert!(matches!(failure, ProbeFailure::NotMcp { stream: None, .. }));
    let failure = failure.to_string();
    assert!(
        failure.contains("status 200 with error -32603"),
        "{failure}"
    );

    let mut probe = Probe::begin("/mcp").0;
    probe.answered(404, None);
    probe.answered(405, None);
    let failure = failed(probe.not_opened(NotOpened::Other(406))).to_string();
    for saw in ["status 404", "status 405", "status 406"] {
        assert!(failure.contains(saw), "{failure}");
    }
}

/// A33, R029, R030: what refuses `initialize` may be HTTP+SSE.
#[test]
fn r029_a_refused_initialize_leads_to_the_stream() {
    for status in [400, 404, 405, 406, 415, 422] {
        assert_eq!(initialize(status, ""), Next::OpenStream);
        assert_eq!(initialize(status, &error(-32000, "null")), Next::OpenStream);
    }
}

/// R031.
#[test]
fn r031_a_stream_without_an_endpoint_is_the_end() {
    for saw in [
        NotOpened::BadEndpoint,
        NotOpened::NoEndpoint,
        NotOpened::Silence,
        NotOpened::Unusable,
        NotOpened::Other(200),
    ] {
        let mut probe = Probe::begin("/mcp").0;
        probe.answered(404, None);
        probe.answered(405, None);
        let failure = failed(probe.not_opened(saw));
        let described = matches!(
            failure,
            ProbeFailure::NotMcp {
                stream: Some(_),
                ..
            }
        );
        assert!(described && !failure.is_passing(), "{failure:?}");
    }
    let mut probe = Probe::begin("/mcp").0;
    probe.answered(404, None);
    probe.answered(405, None);
    assert!(failed(probe.not_opened(NotOpened::Other(503))).is_passing());
}

/// The path is a hint: it spares two requests, or costs one.
#[test]
fn a_path_of_sse_is_asked_for_its_stream_first() {
    for path in ["/mcp", "/", "/sse/", "/lesse"] {
        let (_, first) = Probe::begin(path);
        assert_eq!(first, Next::Discover(Revision::NEWEST), "{path}");
    }
    let (mut probe, first) = Probe::begin("/base/sse");
    assert_eq!(first, Next::OpenStream);
    let next = probe.not_opened(NotOpened::Other(503));
    assert_eq!(next, Next::Discover(Revision::NEWEST));
    probe.answered(404, None);
    let failure = failed(probe.answered(404, None));
    let ProbeFailure::NotMcp { stream, .. } = failure else {
        panic!("{failure:?}")
    };
    assert_eq!(
        stream.as_deref(),
        Some("status 503 without an event stream")
    );
}

#[test]
fn http_sse_is_a_verdict_whatever_initialize_says() {
    let verdict = http_sse(message(INITIALIZED).as_ref());
    let revision = Some(Revision::V2025_06_18);
    assert_eq!(verdict.speaks, Speaks::HttpSse { revision });
    assert_eq!(verdict.legacy(), revision);
    assert_eq!(verdict.server_name.as_deref(), Some("old"));
    let modern = INITIALIZED.replace("2025-06-18", "2026-07-28");
    for other in [None, message(&modern), message(&error(-32603, "null"))] {
        let verdict = http_sse(other.as_ref());
        assert_eq!(verdict.speaks, Speaks::HttpSse { revision: None });
    }
}

/// R037: the two requests, and nothing else.
#[test]
fn r037_only_discover_and_initialize_are_sent() {
    let discover = Message::parse(discover_request("\"p\"", Revision::NEWEST)).unwrap();
    assert_eq!(discover.method(), Some("server/discover"));
    assert_eq!(
        discover
            .meta_text("io.modelcontextprotocol/protocolVersion")
            .as_deref(),
        Some("2026-07-28")
    );
    assert!(
        discover
            .meta("io.modelcontextprotocol/clientCapabilities")
            .is_some()
    );
    let initialize = initialize_request("\"p\"", Revision::NEWEST_LEGACY);
    let initialize = Message::parse(initialize).unwrap();
    assert_eq!(initialize.method(), Some("initialize"));
    assert_eq!(
        initialize.param_str("protocolVersion").as_deref(),
        Some("2025-11-25")
    );
}
