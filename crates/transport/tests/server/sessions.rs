//! Sessions as clients see them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use thinpipe_testkit::{Client, rpc};
use thinpipe_transport::server::{AccessToken, SessionEnd, SessionLimits};

use crate::support::{call, config, start, until};

/// B15, R068: the id is on the answer to `initialize` only if that succeeded, and is random.
#[tokio::test]
async fn r068_session_id_only_on_success() {
    let running = start(config()).await;
    let mut failed = running.stranger().post(rpc::initialize(1, "refuse")).await;
    assert_eq!(failed.header("mcp-session-id"), None);
    assert_eq!(failed.json().await["error"]["code"], -32602);
    until("the place is free again", || {
        running.server.stats().sessions == 0
    })
    .await;
    let one = running
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    let two = running
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    let (one, two) = (one.header("mcp-session-id"), two.header("mcp-session-id"));
    assert!(one.is_some() && two.is_some() && one != two);
    let id = one.unwrap();
    assert!(
        id.len() >= 22 && id.bytes().all(|b| (0x21..=0x7e).contains(&b)),
        "{id}"
    );
}

/// R069, R070, R071: missing 400, unknown 404, ended 404, on POST, GET and DELETE alike.
#[tokio::test]
async fn r070_unknown_and_ended_sessions_get_404() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    assert_eq!(
        client
            .post(call(1, "echo"))
            .without("mcp-session-id")
            .await
            .status,
        400
    );
    assert_eq!(client.get().without("mcp-session-id").await.status, 400);
    assert_eq!(client.delete().without("mcp-session-id").await.status, 400);
    for id in ["invented", "00000000000000000000000000000000"] {
        assert_eq!(
            client
                .post(call(1, "echo"))
                .replace("mcp-session-id", id)
                .await
                .status,
            404
        );
        assert_eq!(client.get().replace("mcp-session-id", id).await.status, 404);
        assert_eq!(
            client.delete().replace("mcp-session-id", id).await.status,
            404
        );
    }
    assert!(client.delete().await.status < 300);
    let mut gone = client.post(call(8, "echo")).await;
    assert_eq!(gone.status, 404);
    assert_eq!(gone.json().await["id"], 8);
    assert_eq!(client.get().await.status, 404);
    assert_eq!(client.delete().await.status, 404);
    until("the handler was told", || {
        *running.sample.ended.lock().unwrap() == [SessionEnd::Deleted]
    })
    .await;
}

/// R078, protocol notes 2.2.2: a handler may answer DELETE with 405, and then the session stays.
#[tokio::test]
async fn r078_delete_that_is_not_allowed_keeps_the_session() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let keeps = &running.sample.keeps_sessions;
    keeps.store(true, Ordering::SeqCst);
    assert_eq!(client.delete().await.status, 405);
    assert_eq!(client.post(call(1, "echo")).await.status, 200);
    assert!(running.sample.ended.lock().unwrap().is_empty());
    keeps.store(false, Ordering::SeqCst);
    assert_eq!(client.delete().await.status, 202);
    assert_eq!(client.post(call(2, "echo")).await.status, 404);
}

/// R072: a second `initialize` in a live session is refused, and the session lives on.
#[tokio::test]
async fn r072_second_initialize_is_refused() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let mut again = client.post(rpc::initialize(2, "2025-11-25")).await;
    assert_eq!(again.status, 400);
    let error = &again.json().await["error"];
    assert_eq!(error["code"], -32600);
    assert_eq!(error["data"]["reason"], "initialized");
    assert_eq!(client.post(call(3, "echo")).await.status, 200);
}

/// F10, R073: to another principal a session does not exist; a wrong token gets nothing.
#[tokio::test]
async fn r073_another_principals_session_does_not_exist() {
    let mut config = config();
    config.tokens = ["alice", "bob"]
        .map(|name| AccessToken {
            principal: name.into(),
            token: format!("{name}-secret"),
        })
        .into();
    let running = start(config).await;
    let anonymous = running
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    assert_eq!(anonymous.status, 401);
    assert_eq!(anonymous.header("www-authenticate"), Some("Bearer"));
    let opened = running
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .header("authorization", "Bearer alice-secret")
        .await;
    let id = opened
        .header("mcp-session-id")
        .expect("a session")
        .to_owned();
    let as_who = |token: &str| {
        let request = Client::new(&running.url).post(call(1, "echo"));
        request
            .header("mcp-session-id", &id)
            .header("authorization", token)
    };
    assert_eq!(as_who("Bearer alice-secret").await.status, 200);
    assert_eq!(as_who("Bearer bob-secret").await.status, 404);
    let wrong = as_who("Bearer mallory").await;
    assert_eq!(wrong.status, 401);
    assert_eq!(
        wrong.header("www-authenticate"),
        Some("Bearer error=\"invalid_token\"")
    );
}

/// F11: a session that nobody uses ends; one with an open stream does not.
#[tokio::test]
async fn f11_idle_sessions_end_and_used_ones_stay() {
    let mut config = config();
    config.sessions = SessionLimits {
        idle: Duration::from_millis(60),
        sweep: Duration::from_millis(10),
        ..SessionLimits::default()
    };
    let running = start(config).await;
    let listening = running.client("2025-11-25").await;
    let _stream = listening.get().await;
    let idle = running.client("2025-11-25").await;
    until("the idle one is gone", || {
        running.server.stats().sessions == 1
    })
    .await;
    assert_eq!(idle.post(call(1, "echo")).await.status, 404);
    assert_eq!(listening.post(call(1, "echo")).await.status, 200);
    assert_eq!(*running.sample.ended.lock().unwrap(), [SessionEnd::Expired]);
}

/// An id that is running already is refused, and free again afterwards.
#[tokio::test]
async fn a_running_id_is_taken() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let waiting = client.post(call(1, "wait")).send().await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    let mut twice = client.post(call(1, "echo")).await;
    assert_eq!(twice.status, 400);
    assert_eq!(twice.json().await["error"]["code"], -32600);
    let text = rpc::call("1", "echo");
    assert_eq!(
        client.post(text).await.status,
        200,
        "\"1\" is another id than 1"
    );
    running.sample.gate.lock().unwrap().open();
    assert_eq!(waiting.response().await.status, 200);
    assert_eq!(client.post(call(1, "echo")).await.status, 200);
}

/// R107: in a session a client that leaves has not cancelled; R134, K7: outside of one it has.
#[tokio::test]
async fn r107_leaving_cancels_only_stateless_calls() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let begun = || running.sample.begun.load(Ordering::SeqCst);
    let finished = || running.sample.finished.load(Ordering::SeqCst);
    client.post(call(1, "wait")).send().await.close();
    until("it runs on without its client", || {
        running.server.stats().detached == 1
    })
    .await;
    let stateless = running
        .stranger()
        .post_modern(&rpc::modern_call(2, "wait"))
        .send()
        .await;
    until("the other one runs", || begun() == 2).await;
    stateless.close();
    until("its connection is gone", || {
        running.server.stats().requests_open == 1
    })
    .await;
    running.sample.gate.lock().unwrap().open();
    until("the first call is finished", || finished() == 1).await;
    until("nothing is left", || {
        running.server.stats().requests_open == 0
    })
    .await;
    assert_eq!(finished(), 1, "the second was dropped");
}

/// R107, K7: a client that closes its half of the connection has left: before it is written to, nothing
/// tells it from one that is gone.
#[tokio::test]
async fn r107_half_closing_is_leaving() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let mut half = client.post(call(1, "wait")).send().await;
    half.half_close().await;
    assert!(half.closed().await.is_empty());
    let stats = || running.server.stats();
    assert_eq!(stats().detached, 1, "it runs on, in a session");

    let stateless = rpc::modern_call(2, "wait");
    let mut half = running.stranger().post_modern(&stateless).send().await;
    half.half_close().await;
    assert!(half.closed().await.is_empty());
    until("the call is cancelled", || stats().requests_open == 1).await;
}

/// R107, K7: a client that has pipelined more than is read meanwhile is missed all the same.
#[tokio::test]
async fn r107_who_pipelines_and_leaves_is_missed() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let stats = || running.server.stats();
    let much = bytes::Bytes::from(vec![b'x'; 48 << 10]);
    let mut pipelining = client.post(call(1, "wait")).send().await;
    pipelining.send(much.clone()).await;
    pipelining.close();
    until("it runs on without its client", || stats().detached == 1).await;

    let stateless = rpc::modern_call(2, "wait");
    let mut pipelining = running.stranger().post_modern(&stateless).send().await;
    pipelining.send(much).await;
    until("both run", || stats().requests_open == 2).await;
    pipelining.close();
    until("the call is cancelled", || stats().requests_open == 1).await;
}

/// R014, R015, R012: the revision header in a session.
#[tokio::test]
async fn b16_protocol_version_header() {
    let running = start(config()).await;
    let client = running.client("2025-06-18").await;
    let with = |version: &'static str| {
        client
            .post(call(1, "echo"))
            .replace("mcp-protocol-version", version)
    };
    assert_eq!(
        client
            .post(call(1, "echo"))
            .without("mcp-protocol-version")
            .await
            .status,
        200
    );
    assert_eq!(with("2025-06-18").await.status, 200);
    assert_eq!(with("1999-01-01").await.status, 400);
    assert_eq!(with("garbage").await.status, 400);
    let old = running.client("2024-11-05").await;
    assert_eq!(
        old.post(call(1, "echo"))
            .replace("mcp-protocol-version", "2024-11-05")
            .await
            .status,
        200
    );
}

/// B6: a session whose client left before it learned the id does not stay.
#[tokio::test]
async fn b6_session_that_nobody_knows_is_ended() {
    let running = start(config()).await;
    let leaving = running.stranger().post(rpc::initialize(1, "wait"));
    let connection = leaving.send().await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 1
    })
    .await;
    connection.close();
    until("it runs on", || running.server.stats().detached == 1).await;
    running.sample.gate.lock().unwrap().open();
    until(
        "it is ended, and not as if its client had asked for it",
        || *running.sample.ended.lock().unwrap() == [SessionEnd::Abandoned],
    )
    .await;
    assert_eq!(running.server.stats().sessions, 0);
}
