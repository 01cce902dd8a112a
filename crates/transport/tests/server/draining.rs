//! What passes while the server drains, and how long draining can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::session::Principal;
use thinpipe_testkit::{DEADLINE, rpc};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{
    Answer, Exchange, Handler, Negotiated, Server, Session, SessionEnd,
};
use tokio_util::task::TaskTracker;

use crate::support::{call, config, start, until};

/// C22: a running call may wait for its client. While it runs, what the client has to say to it and
/// the end of the session pass on the connections the client has; only new work gets 503.
#[tokio::test]
async fn c22_a_client_can_answer_while_the_server_drains() {
    let running = start(config()).await;
    let client = running.client("2025-11-25").await;
    let waiting = client.post(call(1, "wait")).send().await;
    let mut idle = Vec::new();
    for _ in 0..7 {
        idle.push(client.connect().await);
    }
    let last = client.connect().await;
    until("it runs", || {
        running.sample.begun.load(Ordering::SeqCst) == 1
            && running.server.stats().connections_open >= 9
    })
    .await;
    let server = running.server.clone();
    let down = TaskTracker::new().spawn(async move { server.shut_down().await });
    running.server.draining().cancelled().await;
    let mut connection = || idle.pop().unwrap();

    let answer = client.post(rpc::response(7, &json!({"action": "accept"})));
    assert_eq!(answer.on(connection()).await.status, 202);
    let cancelled = rpc::notification("notifications/cancelled", &json!({"requestId": 1}));
    assert_eq!(client.post(cancelled).on(connection()).await.status, 202);
    for (request, id) in [
        (client.post(call(2, "echo")), 2),
        (client.post(rpc::initialize(3, "2025-11-25")), 3),
        (client.post_modern(&rpc::modern_call(4, "echo")), 4),
    ] {
        let mut refused = request.on(connection()).await;
        assert_eq!(refused.status, 503, "{id}");
        assert_eq!(refused.json().await["id"], id);
    }
    assert_eq!(client.get().on(connection()).await.status, 503);
    assert_eq!(client.delete().on(connection()).await.status, 202);

    running.sample.gate.lock().unwrap().open();
    assert_eq!(waiting.response().await.status, 200);
    assert!(last.closed().await.is_empty(), "nothing runs any more");
    tokio::time::timeout(DEADLINE, down)
        .await
        .expect("draining ends")
        .unwrap();
}

/// A handler whose upstream hangs when it is told that a session ended.
#[derive(Default)]
struct Hanging {
    told: AtomicUsize,
}

impl Handler for Hanging {
    fn handle(self: Arc<Self>, _: Exchange) -> BoxFuture<Answer> {
        Box::pin(std::future::ready(Answer::accepted()))
    }

    fn session_ended(self: Arc<Self>, _: Arc<Session>, _: SessionEnd) -> BoxFuture<()> {
        self.told.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }
}

/// C22: upstreams that hang do not keep the process from ending. The clock is tokio's: it stands still
/// unless everything waits.
#[tokio::test(start_paused = true)]
async fn c22_hanging_upstreams_do_not_hold_up_the_end() {
    let handler = Arc::new(Hanging::default());
    let server = Server::builder(config())
        .endpoint("/mcp", "hanging", Arc::clone(&handler) as _)
        .build();
    for _ in 0..3 {
        let owner: Arc<dyn Handler> = Arc::clone(&handler) as _;
        let sessions = server.sessions();
        let slot = sessions.reserve(owner, "hanging".into(), Principal::Anonymous);
        let negotiated = Negotiated {
            revision: Revision::NEWEST_LEGACY,
            initialize_params: "{}".into(),
            attachment: Bytes::new(),
        };
        let opened = slot.await.expect("there is room").open(negotiated).await;
        opened.expect("memory does not fail");
    }
    let bound = config().limits.drain + Duration::from_secs(10);
    tokio::time::timeout(bound, server.shut_down())
        .await
        .expect("it ends all the same");
    assert_eq!(handler.told.load(Ordering::SeqCst), 3, "all were told");
    assert_eq!(server.stats().sessions, 0);
}
