//! How children end, and that nothing is left of them.

use std::time::Duration;

use serde_json::json;
use thinpipe_testkit::{eventually, rpc};
use thinpipe_transport::upstream::pipe::PipeError;
use thinpipe_transport::upstream::stdio::StdioStats;

use super::{Scripted, bytes, last, next, scripted};
use crate::log::Log;

/// Announces the process ids of the script and of a process that it has started.
const ANNOUNCE: &str = r#"sleep 1000 & printf '{"jsonrpc":"2.0","method":"%s %s"}\n' $$ $!"#;

/// Grace times so short that they pass: what is tested here is the order of the steps.
fn hasty(script: &str) -> Scripted {
    scripted(script, |config| {
        config.stdin_grace = Duration::from_millis(20);
        config.term_grace = Duration::from_millis(20);
    })
}

pub(super) fn is_gone(process: &str) -> Result<(), String> {
    // Whoever was adopted may stay as a zombie, if the adopter does not wait for it.
    match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) if !stat.contains(") Z ") => Err(stat),
        _ => Ok(()),
    }
}

pub(super) async fn all_gone(processes: &str) {
    for process in processes.split(' ') {
        eventually("the process is gone", async || is_gone(process)).await;
    }
}

/// C24: what it wrote before is delivered, then comes how it ended, at once.
#[tokio::test]
async fn c24_the_end_of_the_child_is_the_end_of_the_session() {
    let message = r#"printf '{"jsonrpc":"2.0","method":"x"}\n'"#;
    for (end, expected) in [("exit 3", "exit status: 3"), ("kill -9 $$", "signal: 9")] {
        let scripted = scripted(&format!("{message}; {end}"), |_| {});
        let mut pipe = scripted.spawn();
        assert_eq!(next(&mut pipe.receiver).await["method"], "x");
        let error = last(&mut pipe.receiver).await;
        assert!(matches!(error, PipeError::Exited { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        let error = pipe
            .sender
            .send(bytes(rpc::initialized()))
            .await
            .unwrap_err();
        assert!(matches!(error, PipeError::Closed { .. }), "{error:?}");
        scripted.ended().await;
    }
}

/// C24: also while a process that it started holds its output open; that one does not outlive it.
#[tokio::test]
async fn c24_a_grandchild_does_not_hide_the_end() {
    let scripted = scripted(&format!("{ANNOUNCE}; exit 3"), |_| {});
    let mut pipe = scripted.spawn();
    let processes = next(&mut pipe.receiver).await["method"].clone();
    let error = last(&mut pipe.receiver).await;
    assert!(matches!(error, PipeError::Exited { .. }), "{error:?}");
    all_gone(processes.as_str().unwrap()).await;
}

/// EPIPE is an error, not a panic; and a child that only closed its output is no dead child.
#[tokio::test]
async fn a_child_that_closes_its_streams_is_done_with() {
    let scripted =
        hasty(r#"exec 0<&-; printf '{"jsonrpc":"2.0","method":"x"}\n'; exec sleep 1000"#);
    let mut pipe = scripted.spawn();
    next(&mut pipe.receiver).await;
    let error = pipe
        .sender
        .send(bytes(rpc::initialized()))
        .await
        .unwrap_err();
    assert!(matches!(error, PipeError::Write { .. }), "{error:?}");
    assert!(error.is_undelivered());
    drop(pipe);
    scripted.ended().await;

    let scripted = hasty("exec 1>&-; exec sleep 1000");
    let error = last(&mut scripted.spawn().receiver).await;
    assert!(matches!(error, PipeError::Ended { .. }), "{error:?}");
    scripted.ended().await;
}

/// A server that leaves when its input ends is not signalled.
#[tokio::test]
async fn the_end_of_the_input_comes_first() {
    let scripted = scripted("trap 'kill -9 $$' TERM; serve", |config| {
        config.stdin_grace = Duration::from_secs(600);
    });
    for round in 1..=2 {
        let mut pipe = scripted.spawn();
        if round == 1 {
            pipe.sender.close();
            assert!(pipe.receiver.next().await.is_none());
        } else {
            drop(pipe);
        }
        scripted.ended().await;
        let stats = scripted.upstream.stats();
        let expected = StdioStats {
            spawned: round,
            running: 0,
            exited: round,
            killed: 0,
            noise: 0,
        };
        assert_eq!(stats, expected);
    }
}

/// Whoever waits for room gets it when a child has ended, not when it is told to.
#[tokio::test]
async fn there_is_room_when_a_child_has_ended() {
    let scripted = scripted("serve", |_| {});
    let (first, _second) = (scripted.spawn(), scripted.spawn());
    scripted.upstream.fewer_than(3).await;
    let mut room = std::pin::pin!(scripted.upstream.fewer_than(2));
    tokio::select! {
        biased;
        () = &mut room => panic!("two run"),
        () = std::future::ready(()) => {}
    }
    drop(first);
    room.await;
    let StdioStats {
        running, exited, ..
    } = scripted.upstream.stats();
    assert_eq!((running, exited), (1, 1));
}

/// What it writes when its input has ended is taken, more than a pipe holds, so that it ends in order: with
/// EPIPE or SIGPIPE it would not come to its last line.
#[tokio::test]
async fn what_is_written_after_the_end_of_the_input_can_be_written() {
    let (log, _logging) = Log::of("thinpipe::stderr");
    let script = "serve; head -c 300000 /dev/zero && printf bye && echo 'ended in order' >&2";
    let scripted = scripted(script, |config| {
        config.stdin_grace = Duration::from_secs(600);
    });
    for is_closed in [false, true] {
        let pipe = scripted.spawn();
        if is_closed {
            pipe.sender.close();
        }
        drop(pipe.receiver);
        scripted.ended().await;
        let lines = std::mem::take(&mut *log.lines());
        assert!(
            lines.concat().contains("message=ended in order;"),
            "{lines:?}"
        );
    }
    assert_eq!(scripted.upstream.stats().killed, 0);
}

/// SIGTERM comes next, to the whole group.
#[tokio::test]
async fn sigterm_comes_second() {
    let scripted = scripted(&format!("{ANNOUNCE}; wait"), |config| {
        config.stdin_grace = Duration::from_millis(20);
        config.term_grace = Duration::from_secs(600);
    });
    let mut pipe = scripted.spawn();
    let processes = next(&mut pipe.receiver).await["method"].clone();
    drop(pipe);
    scripted.ended().await;
    assert_eq!(scripted.upstream.stats().killed, 0);
    all_gone(processes.as_str().unwrap()).await;
}

/// SIGKILL is the last, and ends what ignores everything else.
#[tokio::test]
async fn sigkill_comes_third() {
    let scripted = hasty(&format!("trap '' TERM; {ANNOUNCE}; while :; do wait; done"));
    let mut pipe = scripted.spawn();
    let processes = next(&mut pipe.receiver).await["method"].clone();
    pipe.sender.close();
    scripted.ended().await;
    assert_eq!(scripted.upstream.stats().killed, 1);
    all_gone(processes.as_str().unwrap()).await;
}

/// The shutdown of the gateway ends all sessions, and no other begins.
#[tokio::test]
async fn stopping_ends_all_sessions() {
    let scripted = scripted("serve", |_| {});
    let mut pipes = [scripted.spawn(), scripted.spawn()];
    assert_eq!(scripted.upstream.stats().running, 2);
    scripted.stop.cancel();
    for pipe in &mut pipes {
        assert!(pipe.receiver.next().await.is_none());
    }
    scripted.ended().await;
    let error = scripted.upstream.spawn().unwrap_err();
    assert!(matches!(error, PipeError::Closed { .. }), "{error:?}");
}

/// A child that does not read does not stop its session from ending.
#[tokio::test]
async fn a_child_that_does_not_read_can_be_left() {
    let scripted = hasty("exec sleep 1000");
    let pipe = scripted.spawn();
    let long = rpc::notification("x", &json!({"text": "x".repeat(1 << 20)}));
    let sending = pipe.sender.send(bytes(long));
    let leaving = async {
        drop(pipe.receiver);
        scripted.ended().await;
    };
    let (sent, ()) = tokio::join!(sending, leaving);
    assert!(matches!(sent.unwrap_err(), PipeError::Lost { .. }));
}

/// The runtime of a session that goes away takes the child with it.
#[test]
fn a_runtime_that_ends_leaves_no_child() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let scripted = scripted(&format!("trap '' TERM; {ANNOUNCE}; serve; wait"), |_| {});
    let (pipe, processes) = runtime.block_on(async {
        let mut pipe = scripted.spawn();
        let processes = next(&mut pipe.receiver).await["method"].clone();
        (pipe, processes)
    });
    drop(runtime);
    drop(pipe);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(all_gone(processes.as_str().unwrap()));
}
