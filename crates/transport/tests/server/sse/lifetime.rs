//! The session is the stream: when it goes, nothing is left.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use thinpipe_proto::rpc::Message;
use thinpipe_testkit::{Client, SseClient, rpc};
use thinpipe_transport::server::SessionEnd;

use super::support::{Setup, beside, start};
use crate::support::{Running, call, config, until};

async fn nothing_is_left(running: &Running) {
    until("everything is gone", || {
        let stats = running.server.stats();
        let open = (stats.sessions, stats.streams_open, stats.connections_open);
        let work = (stats.requests_open, stats.detached, stats.buffered_bytes);
        (open, work) == ((0, 0, 0), (0, stats.detached, 0))
            && running.server.broadcaster().is_empty()
            && running.server.sessions().list().is_empty()
    })
    .await;
}

/// A8, R044: closing the stream ends the session and drops what runs in it; its handler is told.
#[tokio::test]
async fn r044_closing_the_stream_ends_the_session() {
    let running = start(Setup::default()).await;
    let client = running.sse_client().await;
    client.tell(call(1, "wait")).await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    let late = client.post(call(2, "echo"));
    client.stream.close();
    until("the handler was told", || {
        *running.sample.ended.lock().unwrap() == [SessionEnd::Disconnected]
    })
    .await;
    assert_eq!(late.await.status, 404);
    nothing_is_left(&running).await;
    running.sample.gate.lock().unwrap().open();
    assert_eq!(
        running.sample.finished.load(Ordering::SeqCst),
        0,
        "it was dropped"
    );
}

/// A8: a stream that is killed in any state of its session leaves nothing. Who never got as far as opening
/// a session is no affair of the handler's.
#[tokio::test]
async fn a8_killed_in_every_state() {
    let running = start(Setup::default()).await;
    // Before its first event was read.
    let sse = Client::new(&running.sse_url());
    SseClient::opening(&sse).send().await.reset();
    // Nothing negotiated.
    running.sse().await.stream.into_raw().reset();
    nothing_is_left(&running).await;
    assert!(running.sample.ended.lock().unwrap().is_empty());
    // `initialize` is being answered: it runs on, and what it opens is not left open.
    let client = running.sse().await;
    client.tell(rpc::initialize(0, "wait")).await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    client.stream.into_raw().reset();
    until("it runs on", || running.server.stats().detached == 1).await;
    running.sample.gate.lock().unwrap().open();
    until("the session is gone", || {
        running.server.stats().sessions == 0
    })
    .await;
    assert!(running.sample.ended.lock().unwrap().is_empty());
    // Initialized, with a stream of its handler's.
    let client = running.sse_client().await;
    client.tell(call(1, "stream")).await;
    until("both streams", || {
        running.sample.streams.lock().unwrap().len() == 2
    })
    .await;
    client.stream.into_raw().reset();
    until("the handler's streams are dropped", || {
        let streams = running.sample.streams.lock().unwrap();
        streams.iter().all(tokio::sync::mpsc::Sender::is_closed)
    })
    .await;
    assert_eq!(
        *running.sample.ended.lock().unwrap(),
        [SessionEnd::Disconnected]
    );
    // Inside of a message that is being posted.
    let client = running.sse_client().await;
    let mut half = client.post("").header("content-length", "100").send().await;
    half.send(Bytes::from_static(b"{\"jsonrpc\"")).await;
    client.stream.close();
    until("its session is gone", || {
        running.server.stats().sessions == 0
    })
    .await;
    half.send(Bytes::from(vec![b' '; 91])).await;
    assert_eq!(half.response().await.status, 404, "it had ended meanwhile");
    until("the connections are closed", || {
        running.server.stats().connections_open == 0
    })
    .await;
}

/// A31: ten thousand clients that come and go, some in the middle of something.
#[tokio::test]
async fn a31_ten_thousand_cycles_leave_nothing() {
    let running = start(Setup::default()).await;
    let sse = Client::new(&running.sse_url());
    let before = thinpipe_testkit::Usage::of_this().descriptors;
    for round in 0..10_000_u64 {
        match round % 20 {
            0 => {
                let client = running.sse_client().await;
                client.tell(call(round, "wait")).await;
                client.stream.close();
            }
            1 => running.sse().await.stream.into_raw().reset(),
            n if n % 2 == 0 => SseClient::opening(&sse).send().await.reset(),
            _ => SseClient::opening(&sse).send().await.close(),
        }
    }
    nothing_is_left(&running).await;
    let usage = thinpipe_testkit::Usage::of_this();
    assert!(
        usage.descriptors <= before + 2,
        "{} then {}",
        before,
        usage.descriptors
    );
    let down = running.server.shut_down();
    tokio::time::timeout(thinpipe_testkit::DEADLINE, down)
        .await
        .expect("no task is left");
}

/// A6, A7, T5, A19: a client that does not read holds up nobody else (no lock is held over a delivery), and is
/// cut; then nothing of it is left.
#[tokio::test]
async fn t5_a_stalled_reader_is_cut_and_others_never_notice() {
    let mut config = config();
    config.limits.write_stall = std::time::Duration::from_millis(300);
    let mut setup = Setup {
        config: Some(config),
        ..Setup::default()
    };
    setup.sse.max_message = 64 << 20;
    let running = start(setup).await;
    let mut quick = running.sse_client().await;
    let stalled = running.sse_client().await;
    stalled.tell(call(0, "huge")).await;
    for id in 1..60 {
        // More than its queue holds, so that who answers has to wait; or it has been cut already.
        let status = stalled.post(call(id, "large")).await.status;
        assert!(matches!(status, 202 | 404), "{status}");
        assert_eq!(quick.ask(call(id, "echo")).await["id"], id);
    }
    until("it was cut", || running.server.stats().stalled == 1).await;
    until("its session is gone", || {
        running.server.stats().sessions == 1
    })
    .await;
    assert_eq!(stalled.post(call(99, "echo")).await.status, 404);
    assert_eq!(quick.ask(call(99, "echo")).await["id"], 99);
    assert_eq!(
        *running.sample.ended.lock().unwrap(),
        [SessionEnd::Disconnected]
    );
}

/// A session that its handler ends (its upstream is gone) closes the stream, after what was said.
#[tokio::test]
async fn an_ended_session_closes_its_stream() {
    let running = start(Setup::default()).await;
    let mut client = running.sse_client().await;
    let session = running.server.sessions().list().remove(0);
    let last = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/last"}"#);
    let last = Message::parse(last).unwrap();
    let sent = running.server.broadcaster().send(session.id(), &last).await;
    assert_eq!(sent, Ok(()));
    let ending = running
        .server
        .sessions()
        .end(&session, SessionEnd::UpstreamGone);
    ending.await.unwrap();
    let (events, end) = client.stream.events_to_end().await;
    assert_eq!((events.len(), end), (1, Ok(())));
    assert_eq!(client.post(call(1, "echo")).await.status, 404);
    assert_eq!(
        *running.sample.ended.lock().unwrap(),
        [SessionEnd::UpstreamGone]
    );
}

/// C22: while the server drains, new work is refused, what runs is answered, and then the stream closes.
#[tokio::test]
async fn c22_streams_close_once_nothing_runs_for_them() {
    let running = start(Setup::default()).await;
    let mut idle = running.sse_client().await;
    let mut busy = running.sse_client().await;
    busy.tell(call(1, "wait")).await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    let server = running.server.clone();
    let down = beside(async move { server.shut_down().await });
    assert_eq!(idle.stream.events_to_end().await.1, Ok(()));
    let mut refused = busy.post(call(2, "echo")).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(refused.json().await["id"], 2);
    busy.tell(rpc::response(3, &serde_json::json!({}))).await;
    let opening = SseClient::opening(&Client::new(&running.sse_url())).await;
    assert_eq!(opening.status, 503);
    running.sample.gate.lock().unwrap().open();
    let (events, end) = busy.stream.events_to_end().await;
    assert_eq!((events.len(), end), (1, Ok(())));
    assert_eq!(events[0].json()["id"], 1);
    let down = tokio::time::timeout(thinpipe_testkit::DEADLINE, down).await;
    down.expect("every task ends").unwrap();
    assert_eq!(running.server.stats().sessions, 0);
    let ended = running.sample.ended.lock().unwrap().clone();
    assert_eq!(ended, [SessionEnd::ShutDown, SessionEnd::ShutDown]);
}

/// C22, R045: when the time for draining is over, who still waits gets an error in band.
#[tokio::test]
async fn c22_who_still_waits_gets_an_error() {
    let mut config = config();
    config.limits.drain = std::time::Duration::from_millis(50);
    let running = start(Setup {
        config: Some(config),
        ..Setup::default()
    })
    .await;
    let mut client = running.sse_client().await;
    client.tell(rpc::call("waiting", "wait")).await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    let server = running.server.clone();
    let down = beside(async move { server.shut_down().await });
    let (events, end) = client.stream.events_to_end().await;
    assert_eq!((events.len(), end), (1, Ok(())));
    let error = events[0].json();
    assert_eq!(error["id"], "waiting");
    assert_eq!(error["error"]["data"]["reason"], "shutting_down");
    let down = tokio::time::timeout(thinpipe_testkit::DEADLINE, down).await;
    down.expect("every task ends").unwrap();
}
