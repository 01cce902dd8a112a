//! What passes while the server drains, and how long draining can take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::session::Principal;
use thinpipe_testkit::{Client, Connection, DEADLINE, RequestBuilder, Response, rpc};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{
    Answer, Exchange, Handler, Negotiated, Server, Session, SessionEnd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::http2::{connect, post, session_of};
use crate::support::{Running, call, config, start, until};

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

/// A call in mid-stream that asks its client something, and the server begins to drain.
struct Asked {
    running: Running,
    client: Client,
    stream: Response,
    events: mpsc::Sender<Bytes>,
    down: JoinHandle<()>,
}

const QUESTION: &str = r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create"}"#;
const LAST: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;

impl Asked {
    async fn drains(running: Running) -> Self {
        let client = running.client("2025-11-25").await;
        let mut stream = client.post(call(1, "stream on")).await;
        let events = running.sample.newest_stream();
        let question = format!("data: {QUESTION}\n\n");
        events.send(question.into()).await.unwrap();
        assert_eq!(stream.next_message().await["id"], 7);
        let server = running.server.clone();
        let down = TaskTracker::new().spawn(async move { server.shut_down().await });
        running.server.draining().cancelled().await;
        running.sample.streams.lock().unwrap().clear();
        Self {
            running,
            client,
            stream,
            events,
            down,
        }
    }

    fn answer(&self) -> RequestBuilder {
        let accepted = json!({"action": "accept"});
        self.client.post(rpc::response(7, &accepted))
    }

    /// The call ends, and with it everything else.
    async fn ends(mut self) {
        self.events
            .send(format!("data: {LAST}\n\n").into())
            .await
            .unwrap();
        drop(self.events);
        assert_eq!(self.stream.next_message().await["id"], 1);
        assert_eq!(self.stream.next_event().await, None);
        tokio::time::timeout(DEADLINE, self.down)
            .await
            .expect("draining ends")
            .unwrap();
        let late = Connection::try_open(self.running.address, None).await;
        assert!(late.is_err(), "nobody listens any more");
    }
}

/// C22: the answer to a running call comes on a connection that has carried a reply since draining
/// began, or on a new one: both are there for as long as the call is.
#[tokio::test]
async fn c22_a_running_call_can_be_answered_over_any_connection() {
    let asked = Asked::drains(start(config()).await).await;
    let mut kept = asked.client.connect().await;
    for _ in 0..2 {
        let answered = asked.answer().on(kept).await;
        assert_eq!(
            (answered.status, answered.header("connection")),
            (202, None)
        );
        kept = answered.into_connection();
    }
    // New work is turned away, but the client of a running call stays.
    let mut refused = asked.client.post(call(2, "echo")).on(kept).await;
    assert_eq!((refused.status, refused.header("connection")), (503, None));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        refused.json().await["error"]["data"]["reason"],
        "shutting_down"
    );
    assert_eq!(asked.answer().await.status, 202, "on a new connection");

    // Others had better go elsewhere.
    let strange = asked.running.stranger();
    let refused = strange.post(rpc::initialize(3, "2025-11-25")).await;
    assert_eq!(
        (refused.status, refused.header("connection")),
        (503, Some("close"))
    );
    let kept = asked.answer().await.into_connection();
    asked.ends().await;
    assert!(kept.closed().await.is_empty(), "nothing runs any more");
}

/// C22: the same over HTTP/2, on the connection that was there before and on a new one.
#[tokio::test]
async fn c22_http2_drains_by_the_same_rule() {
    let running = start(config()).await;
    let mut before = connect(&running).await;
    let opened = before.send_request(post(&running, None, rpc::initialize(1, "2025-11-25")));
    let other = session_of(&opened.await.unwrap());
    let asked = Asked::drains(running).await;
    let (running, session) = (&asked.running, asked.client.session());
    let answer = || post(running, session, rpc::response(7, &json!({})));
    let cancelled = rpc::notification("notifications/cancelled", &json!({"requestId": 9}));
    let mut new = connect(running).await;
    for sender in [&mut before, &mut new] {
        for passing in [answer(), post(running, session, cancelled.clone())] {
            assert_eq!(sender.send_request(passing).await.unwrap().status(), 202);
        }
        let refused = sender.send_request(post(running, session, call(5, "echo")));
        let refused = refused.await.unwrap();
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "1");
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["id"], 5, "the body was read, as over HTTP/1.1");
        assert_eq!(body["error"]["data"]["reason"], "shutting_down");
        let again = sender.send_request(answer()).await;
        assert_eq!(again.unwrap().status(), 202, "the connection is still good");
    }
    let mut deleting = http::Request::delete(&running.url);
    deleting = deleting.header("mcp-session-id", &other);
    let deleting = deleting.body(Full::default()).unwrap();
    assert_eq!(new.send_request(deleting).await.unwrap().status(), 202);

    // Who has no call here is shown the way.
    let refused = new.send_request(post(running, None, rpc::initialize(6, "2025-11-25")));
    assert_eq!(refused.await.unwrap().status(), 503);
    until("it was told to go away", || new.is_closed()).await;
    let accepted = before.send_request(answer()).await;
    assert_eq!(accepted.unwrap().status(), 202);
    asked.ends().await;
}

/// C22: a call that does not end is answered when the time for draining is over, over either version of HTTP,
/// with an error under its id.
#[tokio::test]
async fn c22_calls_that_do_not_end_are_answered_at_the_end() {
    let mut config = config();
    config.limits.drain = Duration::from_millis(50);
    let running = start(config).await;
    let client = running.client("2025-11-25").await;
    let waiting = client.post(call(1, "wait")).send().await;
    let mut http2 = connect(&running).await;
    let other = http2.send_request(post(&running, client.session(), call(2, "wait")));
    let begun = || running.sample.begun.load(Ordering::SeqCst) == 2;
    let other = TaskTracker::new().spawn(other);
    until("both run", begun).await;

    let ended = tokio::time::timeout(DEADLINE, running.server.shut_down());
    let (cut_off, other, ended) = tokio::join!(waiting.response(), other, ended);
    ended.expect("draining ends");
    let mut cut_off = cut_off;
    assert_eq!(cut_off.status, 503);
    assert_eq!(cut_off.header("retry-after"), None, "it may have run");
    let error = cut_off.json().await;
    assert_eq!(
        (&error["id"], &error["error"]["data"]["reason"]),
        (&json!(1), &json!("shutting_down"))
    );
    let other = other.unwrap().unwrap();
    assert_eq!(other.status(), 503);
    let body = other.into_body().collect().await.unwrap().to_bytes();
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(error["id"], 2);
}

/// C22: what is turned away does not keep the server draining, however much of it there is: connections
/// close when the last call has ended, though a request of new work is still coming in.
#[tokio::test]
async fn c22_refused_work_does_not_prolong_draining() {
    let asked = Asked::drains(start(config()).await).await;
    let idle = asked.client.connect().await;
    let request = asked.running.stranger().post(call(9, "echo")).to_bytes();
    let (most, last) = request.split_at(request.len() - 1);
    let mut slow = Connection::open(asked.running.address).await;
    slow.send(Bytes::copy_from_slice(most)).await;
    until("it is being read", || {
        asked.running.server.stats().requests_open == 1
    })
    .await;
    let ending = asked.ends();
    let others = async {
        assert!(idle.closed().await.is_empty());
        slow.send(Bytes::copy_from_slice(last)).await;
        let refused = slow.response().await;
        let closes = refused.header("connection");
        assert_eq!((refused.status, closes), (503, Some("close")));
    };
    tokio::join!(ending, others);
}

/// C22: a connection that comes as the server stops is told so, and not merely closed. The clock stands
/// still unless everything waits.
#[tokio::test(start_paused = true)]
async fn c22_who_comes_last_is_told() {
    let handler: Arc<dyn Handler> = Arc::new(Hanging::default());
    let server = Server::builder(config())
        .endpoint("/mcp", "hanging", handler)
        .build();
    let acceptor = server.acceptor();
    let stopping = server.clone();
    let down = TaskTracker::new().spawn(async move { stopping.shut_down().await });
    server.draining().cancelled().await;
    let (mut ours, theirs) = tokio::io::duplex(4096);
    let serving = TaskTracker::new().spawn(server.serve_io(theirs, None));
    acceptor.closing().await;
    drop(acceptor);
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_millis(100)).await;

    let request = Client::new("http://127.0.0.1:80/mcp").post(call(1, "echo"));
    ours.write_all(&request.to_bytes()).await.unwrap();
    let mut seen = String::new();
    ours.read_to_string(&mut seen).await.unwrap();
    assert!(seen.starts_with("HTTP/1.1 503 "), "{seen}");
    assert!(seen.contains("shutting_down"), "{seen}");
    serving.await.unwrap();
    down.await.unwrap();
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
            held: false,
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
