use bytes::Bytes;

use super::*;

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn result(id: u32, result: &str) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":"probe-{id}","result":{result}}}"#
    ))
}

fn error(id: u32, code: i32, data: &str) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":"probe-{id}","error":{{"code":{code},"message":"m","data":{data}}}}}"#
    ))
}

fn initialize(id: u32, respawn: bool) -> Option<StdioNext> {
    Some(StdioNext::Initialize {
        id: format!("\"probe-{id}\""),
        revision: Revision::NEWEST_LEGACY,
        respawn,
    })
}

const INITIALIZED: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"old","version":"1"}}"#;

#[test]
fn r020_a_discover_result_is_modern() {
    let (mut probe, first) = StdioProbe::begin();
    let id = "\"probe-1\"".to_owned();
    let revision = Revision::NEWEST;
    assert_eq!(first, StdioNext::Discover { id, revision });
    let next = probe.received(&result(1, r#"{"supportedVersions":["2026-07-28"]}"#));
    let Some(StdioNext::Done(verdict)) = next else {
        panic!("{next:?}")
    };
    assert!(verdict.modern().is_some());
}

/// R021, R022.
#[test]
fn r021_unsupported_versions_are_as_over_http() {
    let (mut probe, _) = StdioProbe::begin();
    let next = probe.received(&error(1, -32022, r#"{"supported":["2026-07-28"]}"#));
    let id = "\"probe-2\"".to_owned();
    let revision = Revision::V2026_07_28;
    assert_eq!(next, Some(StdioNext::Discover { id, revision }));

    let (mut probe, _) = StdioProbe::begin();
    let next = probe.received(&error(1, -32022, r#"{"supported":["2025-06-18"]}"#));
    assert_eq!(next, initialize(2, false));
}

#[test]
fn modern_refusals_are_reported() {
    for code in [-32020, -32021] {
        let (mut probe, _) = StdioProbe::begin();
        let next = probe.received(&error(1, code, "null"));
        let failure = ProbeFailure::Refused { code };
        assert_eq!(next, Some(StdioNext::Failed(failure)));
    }
}

#[test]
fn r033_any_other_error_leads_to_initialize() {
    for code in [-32601, -32602, -32600, -32000, -32002, 0, 7] {
        let (mut probe, _) = StdioProbe::begin();
        let next = probe.received(&error(1, code, "null"));
        assert_eq!(next, initialize(2, false), "{code}");
        let next = probe.received(&result(2, INITIALIZED));
        let Some(StdioNext::Done(verdict)) = next else {
            panic!("{next:?}")
        };
        let revision = Revision::V2025_06_18;
        assert_eq!(verdict.speaks, Speaks::Legacy { revision });
    }
}

#[test]
fn r034_a_late_error_is_ignored() {
    let (mut probe, _) = StdioProbe::begin();
    assert_eq!(probe.timed_out(), initialize(2, false));
    assert_eq!(probe.received(&error(1, -32601, "null")), None);
    let request = r#"{"jsonrpc":"2.0","id":"probe-2","method":"ping"}"#;
    assert_eq!(probe.received(&message(request)), None);
    let next = probe.received(&result(2, INITIALIZED));
    assert!(matches!(next, Some(StdioNext::Done(_))), "{next:?}");
}

#[test]
fn r035_a_child_that_ends_is_started_again_and_not_probed() {
    let (mut probe, _) = StdioProbe::begin();
    assert_eq!(probe.exited(), initialize(2, true));
    assert_eq!(probe.exited(), None);
}

#[test]
fn r035_a_slow_child_that_ends_over_the_first_question_is_started_again() {
    let (mut probe, _) = StdioProbe::begin();
    assert_eq!(probe.timed_out(), initialize(2, false));
    assert_eq!(probe.timed_out(), None);
    assert_eq!(probe.exited(), initialize(3, true));
    let next = probe.received(&result(3, INITIALIZED));
    assert!(matches!(next, Some(StdioNext::Done(_))), "{next:?}");
}

/// What survived the first question and ends over the second would do so again.
#[test]
fn r035_a_slow_child_is_started_again_once_and_for_the_first_question_only() {
    let (mut probe, _) = StdioProbe::begin();
    probe.timed_out();
    probe.exited();
    assert_eq!(probe.exited(), None);

    let (mut probe, _) = StdioProbe::begin();
    probe.timed_out();
    assert_eq!(probe.received(&error(1, -32601, "null")), None);
    assert_eq!(probe.exited(), None);
}

const DISCOVERED: &str = r#"{"supportedVersions":["2026-07-28"],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"new","version":"2"}}}"#;

/// A probing of a child whose first answer is late.
fn slow() -> StdioProbe {
    let (mut probe, _) = StdioProbe::begin();
    assert_eq!(probe.timed_out(), initialize(2, false));
    probe
}

fn is_modern(next: Option<StdioNext>, legacy: Option<Revision>) {
    let Some(StdioNext::Done(verdict)) = next else {
        panic!("{next:?}")
    };
    assert_eq!(verdict.modern(), Some(&[Revision::V2026_07_28][..]));
    assert_eq!(verdict.legacy(), legacy);
    assert_eq!(verdict.server_name.as_deref(), Some("new"));
    assert!(verdict.discover.is_some());
}

/// A slow program that has no sessions, however it refuses them.
#[test]
fn r034_a_late_description_counts_if_initialize_is_refused() {
    let list = r#"{"supported":["2026-07-28"]}"#;
    for (code, data) in [
        (-32022, list),
        (-32022, "null"),
        (-32601, "null"),
        (-32602, r#"{"supported":["2025-06-18"]}"#),
    ] {
        let mut probe = slow();
        assert_eq!(probe.received(&result(1, DISCOVERED)), None);
        is_modern(probe.received(&error(2, code, data)), None);

        if code != -32602 {
            // The other way round: it answers side by side.
            let mut probe = slow();
            assert_eq!(probe.received(&error(2, code, data)), None);
            is_modern(probe.received(&result(1, DISCOVERED)), None);
        }
    }
}

#[test]
fn r034_a_slow_program_that_answers_both_speaks_both_eras() {
    let mut probe = slow();
    assert_eq!(probe.received(&result(1, DISCOVERED)), None);
    let next = probe.received(&result(2, INITIALIZED));
    is_modern(next, Some(Revision::V2025_06_18));
}

#[test]
fn r034_a_late_description_counts_if_initialize_is_never_answered() {
    let mut probe = slow();
    probe.received(&result(1, DISCOVERED));
    is_modern(probe.timed_out(), None);

    let mut probe = slow();
    probe.received(&result(1, DISCOVERED));
    is_modern(probe.exited(), None);
}

/// It is not waited for, once `initialize` is answered well.
#[test]
fn r034_a_verdict_is_not_put_off_for_a_late_answer() {
    let next = slow().received(&result(2, INITIALIZED));
    let Some(StdioNext::Done(verdict)) = next else {
        panic!("{next:?}")
    };
    let revision = Revision::V2025_06_18;
    assert_eq!(verdict.speaks, Speaks::Legacy { revision });
}

#[test]
fn r034_a_refused_initialize_stands_without_a_late_description() {
    let failed = |next| matches!(next, Some(StdioNext::Failed(_)));
    let refused = || {
        let mut probe = slow();
        assert_eq!(probe.received(&error(2, -32603, "null")), None);
        assert_eq!(probe.received(&error(2, -32603, "null")), None);
        probe
    };
    assert!(failed(refused().received(&error(1, -32601, "null"))));
    assert!(failed(refused().timed_out()));
    assert!(failed(refused().exited()));
}

/// A list of legacy revisions alone is what the timely one would be: `initialize` decides.
#[test]
fn r034_a_late_description_without_a_modern_revision_is_kept() {
    let mut probe = slow();
    let legacy = DISCOVERED.replace("2026-07-28", "2025-06-18");
    assert_eq!(probe.received(&result(1, &legacy)), None);
    let next = probe.received(&result(2, INITIALIZED));
    let Some(StdioNext::Done(verdict)) = next else {
        panic!("{next:?}")
    };
    assert!(verdict.modern().is_none() && verdict.discover.is_some());
}
