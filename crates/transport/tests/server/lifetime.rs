//! Shutting down, and nothing left behind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::{call, config, start, until};

/// C22: nothing accepted is lost: a running request is answered, streams end with `retry`, new work
/// gets 503, and every task ends.
#[tokio::test]
async fn c22_shut_down_drains() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let mut stream = client.get().await;
    let waiting = client.post(call(1, "wait")).send().await;
    let idle = client.connect().await;
    let busy = client.post(call(2, "echo")).await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 2
    })
    .await;
    let server = running.server.clone();
    let mut down = Box::pin(async move { server.shut_down().await });
    let mut gate = Box::pin(async {
        assert!(stream.next_event().await.is_none_or(|e| e.retry.is_some()));
        running.sample.gate.lock().unwrap().open();
        let mut answered = waiting.response().await;
        assert_eq!(
            (answered.status, answered.header("connection")),
            (200, Some("close"))
        );
        assert_eq!(answered.json().await["id"], 1);
        assert!(
            idle.closed().await.is_empty(),
            "connections without a request are closed"
        );
        drop(busy);
    });
    tokio::select! {
        () = &mut down => panic!("it must wait for the running request"),
        () = &mut gate => {}
    }
    tokio::time::timeout(thinpipe_testkit::DEADLINE, down)
        .await
        .expect("every task ends");
    let stats = running.server.stats();
    assert_eq!(
        (
            stats.connections_open,
            stats.requests_open,
            stats.streams_open
        ),
        (0, 0, 0)
    );
    assert_eq!(stats.sessions, 0);
}

/// C22: what does not end within the time for draining is ended.
#[tokio::test]
async fn c22_draining_has_an_end() {
    let mut config = config();
    config.limits.drain = Duration::from_millis(50);
    config.limits.write_stall = Duration::from_millis(50);
    let running = start(config).await;
    let client = running.client("2025-11-25").await;
    client.post(call(1, "wait")).send().await.close();
    until("it runs on without its client", || {
        running.server.stats().detached == 1
    })
    .await;
    let down = running.server.shut_down();
    tokio::time::timeout(thinpipe_testkit::DEADLINE, down)
        .await
        .expect("it ends all the same");
    assert_eq!(running.sample.finished.load(Ordering::SeqCst), 0);
}

/// C22: ten times up and down, and no task is left.
#[tokio::test]
async fn c22_ten_start_stop_cycles() {
    for _ in 0..10 {
        let running = start(config()).await;
        let client = running.client("2025-11-25").await;
        let _stream = client.get().await;
        assert_eq!(client.post(call(1, "echo")).await.status, 200);
        let down = running.server.shut_down();
        tokio::time::timeout(thinpipe_testkit::DEADLINE, down)
            .await
            .expect("every task ends");
    }
}

/// A31, F11: thousands of clients that come and go leave nothing.
#[tokio::test]
async fn nothing_is_left_after_connect_drop_cycles() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    for round in 0..2000 {
        match round % 4 {
            0 => client.connect().await.reset(),
            1 => client.get().send().await.close(),
            2 => client.post(call(round, "echo")).send().await.reset(),
            _ => client.post(call(round, "stream")).send().await.close(),
        }
    }
    until("everything is gone", || {
        let stats = running.server.stats();
        stats.connections_open == 0 && stats.requests_open == 0 && stats.streams_open == 0
    })
    .await;
    assert_eq!(running.server.stats().sessions, 1);
    assert_eq!(running.server.sessions().list()[0].in_flight(), 0);
}
