//! The probe of a child process.

use thinpipe_proto::probe::{DISCOVER_TIMEOUT, ProbeFailure, Speaks};
use thinpipe_proto::revision::Revision;
use thinpipe_transport::upstream::pipe::PipeError;
use thinpipe_transport::upstream::probe::{ProbeError, probe_stdio};

use super::scripted;

const SESSIONS: Speaks = Speaks::Legacy {
    revision: Revision::V2025_06_18,
};

/// R020, R033: a modern server is asked once, one of sessions twice, each in one child that is left.
#[tokio::test]
async fn r033_a_child_is_asked_until_it_answers() {
    let modern = r#"IFS= read -r line; answer "$line" '{"supportedVersions":["2026-07-28"]}'; cat"#;
    for (script, is_modern) in [("serve", false), (modern, true)] {
        let scripted = scripted(script, |_| {});
        let verdict = probe_stdio(&scripted.upstream).await.unwrap();
        assert_eq!(verdict.modern().is_some(), is_modern);
        if !is_modern {
            assert_eq!(verdict.speaks, SESSIONS);
            assert_eq!(verdict.server_name.as_deref(), Some("script"));
        }
        scripted.ended().await;
        let stats = scripted.upstream.stats();
        assert_eq!((stats.spawned, stats.killed), (1, 0));
    }
}

/// R035: and it is not asked the first question again.
#[tokio::test]
async fn r035_a_child_that_dies_of_the_question_is_started_again() {
    let script = r#"IFS= read -r line
        case $line in *server/discover*) exit 1 ;; esac
        answer "$line" '{"protocolVersion":"2025-06-18","serverInfo":{"name":"s","version":"1"}}'
        serve"#;
    let scripted = scripted(script, |_| {});
    let verdict = probe_stdio(&scripted.upstream).await.unwrap();
    assert_eq!(verdict.speaks, SESSIONS);
    scripted.ended().await;
    assert_eq!(scripted.upstream.stats().spawned, 2);
}

/// R034, R035: a child that starts so slowly that it finds both questions may still end over the first.
#[tokio::test]
async fn r035_a_slow_child_that_dies_of_the_question_is_started_again() {
    let script = r#"IFS= read -r line
        case $line in *server/discover*) echo starting; IFS= read -r second; exit 1 ;; esac
        answer "$line" '{"protocolVersion":"2025-06-18","serverInfo":{"name":"s","version":"1"}}'
        serve"#;
    let scripted = scripted(script, |_| {});
    tokio::time::pause();
    // While something blocks, the clock moves only when it is told to.
    let (resume, held) = std::sync::mpsc::channel::<()>();
    let holding = tokio::task::spawn_blocking(move || held.recv().is_err());
    let asked = async {
        while scripted.upstream.stats().noise == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(2 * DISCOVER_TIMEOUT).await;
    };
    let (verdict, ()) = tokio::join!(probe_stdio(&scripted.upstream), asked);
    assert_eq!(verdict.unwrap().speaks, SESSIONS);
    drop(resume);
    assert!(holding.await.unwrap());
    scripted.ended().await;
    assert_eq!(scripted.upstream.stats().spawned, 2);
}

/// A child that never answers is a failure that passes; so is one that cannot be started.
#[tokio::test]
async fn r028_a_child_that_ends_gives_no_verdict() {
    let scripted = scripted("exit 7", |_| {});
    let error = probe_stdio(&scripted.upstream).await.unwrap_err();
    let ended = matches!(
        error,
        ProbeError::Pipe(PipeError::Exited { .. } | PipeError::Write { .. })
    );
    assert!(ended && error.is_passing(), "{error:?}");
    scripted.ended().await;
    assert_eq!(scripted.upstream.stats().spawned, 2);
}

#[tokio::test]
async fn a_child_that_refuses_everything_is_no_mcp_server() {
    let script = r#"while IFS= read -r line; do refuse "$line" -32601; done"#;
    let error = probe_stdio(&scripted(script, |_| {}).upstream)
        .await
        .unwrap_err();
    let ProbeError::Failed(ProbeFailure::NotMcp { initialize, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(initialize, "an answer with error -32601");
}
