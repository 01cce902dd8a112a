//! Processes: what they write, how they end, and what they hold.

use thinpipe_testkit::{
    Baseline, Client, Process, Upstream, Usage, assert_returns_to_baseline, eventually,
};

fn shell(script: &str) -> Process {
    Process::start("sh", ["-c", script])
}

#[tokio::test]
async fn lines_of_both_streams_are_collected() {
    let mut process = shell("echo one; echo listening on http://a/mcp now >&2; echo three");
    assert_eq!(process.word_after("listening on ").await, "http://a/mcp");
    assert_eq!(process.line_with("three").await, "three");
    assert!(process.wait().await.success());
    assert_eq!(process.lines().len(), 3);
}

#[tokio::test]
async fn a_signal_reaches_it() {
    let mut process =
        shell("trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    process.line_with("ready").await;
    process.signal("TERM").await;
    assert_eq!(process.wait().await.code(), Some(3));
    process.line_with("caught").await;
}

#[tokio::test]
#[should_panic(expected = "it ended without a line with \"never\"")]
async fn a_process_that_ends_early_is_noticed() {
    shell("echo something").line_with("never").await;
}

#[tokio::test]
async fn it_is_killed_when_dropped() {
    let process = shell("echo ready; exec sleep 1000");
    process.line_with("ready").await;
    let stat = format!("/proc/{}/stat", process.id());
    assert!(process.usage().descriptors >= 3 && process.usage().threads == 1);
    drop(process);
    eventually(
        "the process is gone",
        async || match std::fs::read_to_string(&stat) {
            Ok(stat) if !stat.contains(") Z ") => Err(stat),
            _ => Ok(()),
        },
    )
    .await;
}

/// One test for both: tests beside it would open descriptors of their own.
#[test]
fn descriptors_are_counted_and_given_back() {
    if std::env::var_os("ALONE").is_none() {
        let exe = std::env::current_exe().unwrap();
        let mut alone = std::process::Command::new(exe);
        alone.args(["--exact", "descriptors_are_counted_and_given_back"]);
        let output = alone.env("ALONE", "1").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let before = Usage::of_this();
        let baseline = Baseline::of(std::process::id());
        assert_returns_to_baseline(baseline, async || {
            let upstream = Upstream::start().await;
            let mut client = Client::new(upstream.url());
            client.initialize("2025-11-25").await;
            let _stream = client.get().await;
            assert!(Usage::of_this().descriptors >= before.descriptors + 3);
            assert!(before.rss_bytes > 0);
        })
        .await;
    });
}
