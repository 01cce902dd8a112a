//! Gateways that share a store, of which one goes: its sessions go on at the other (F8, F9; protocol notes 5.8,
//! (10)).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use thinpipe_gateway::{Resume, SessionLost, Sharing, UpstreamSpec};
use thinpipe_proto::session::NodeId;
use thinpipe_store::{
    BoxFuture, DeliverError, Inbox, LogLimits, MemoryInbox, MemoryLog, MemoryStore, StoreError,
};
use thinpipe_testkit::{Client, Cut, Event, Gate, RequestBuilder, Response, Script, Upstream, rpc};
use thinpipe_transport::server::{ServerConfig, SharedStores, Stores};

use crate::front::{Front, tokens};
use crate::joint::{REVISION, Way};

/// The inbox as one node reaches it, until it is killed.
struct Line {
    inbox: Arc<MemoryInbox>,
    is_cut: AtomicBool,
}

impl Line {
    fn inbox(&self) -> Result<&MemoryInbox, StoreError> {
        match self.is_cut.load(Ordering::SeqCst) {
            true => Err(StoreError::Unavailable("it is cut".into())),
            false => Ok(&self.inbox),
        }
    }
}

impl Inbox for Line {
    fn beat<'a>(
        &'a self,
        node: &'a NodeId,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.inbox()?.beat(node, ttl).await })
    }

    fn leave<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.inbox()?.leave(node).await })
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeId>, StoreError>> {
        Box::pin(async move { self.inbox()?.nodes().await })
    }

    fn dead<'a>(&'a self, among: &'a [NodeId]) -> BoxFuture<'a, Result<Vec<NodeId>, StoreError>> {
        Box::pin(async move { self.inbox()?.dead(among).await })
    }

    fn deliver<'a>(
        &'a self,
        to: &'a NodeId,
        message: Bytes,
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(async move { self.inbox()?.deliver(to, message).await })
    }

    fn withdraw<'a>(
        &'a self,
        to: &'a NodeId,
        message: &'a Bytes,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.inbox()?.withdraw(to, message).await })
    }

    fn take<'a>(
        &'a self,
        node: &'a NodeId,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        Box::pin(async move { self.inbox()?.take(node, limit, wait).await })
    }

    fn secret<'a>(
        &'a self,
        name: &'a str,
        proposed: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        Box::pin(async move { self.inbox()?.secret(name, proposed).await })
    }
}

/// A full server, and two gateways in front of it.
pub(crate) struct Pair {
    pub(crate) upstream: Upstream,
    pub(crate) one: Front,
    pub(crate) other: Front,
    line: Arc<Line>,
    inbox: Arc<MemoryInbox>,
}

impl Pair {
    pub(crate) async fn start(way: Way, change: impl Fn(&mut UpstreamSpec)) -> Self {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.full = true);
        Self::around(upstream, way, change).await
    }

    /// In front of a server of 2026-07-28.
    async fn before_calls() -> Self {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| {
            behaviour.full = true;
            behaviour.era = thinpipe_testkit::Era::Stateless;
        });
        Self::around(upstream, Way::Any, |_| {}).await
    }

    async fn around(upstream: Upstream, way: Way, change: impl Fn(&mut UpstreamSpec)) -> Self {
        let inbox = Arc::new(MemoryInbox::default());
        let (sessions, log) = (
            Arc::new(MemoryStore::default()),
            Arc::new(MemoryLog::new(LogLimits::default())),
        );
        let line = || {
            Arc::new(Line {
                inbox: Arc::clone(&inbox),
                is_cut: AtomicBool::new(false),
            })
        };
        let lines = [line(), line()];
        let mut fronts = Vec::new();
        for line in &lines {
            let stores = Stores {
                sessions: Arc::clone(&sessions) as _,
                shared: Some(SharedStores {
                    log: Arc::clone(&log) as _,
                    inbox: Arc::clone(line) as _,
                }),
            };
            let configure = |config: &mut ServerConfig| config.tokens = tokens(&["alice", "bob"]);
            let front = Front::among(way.reached(&upstream), &change, configure, stores).await;
            fronts.push(front);
        }
        let [line, _] = lines;
        let other = fronts.pop().unwrap();
        let one = fronts.pop().unwrap();
        for front in [&one, &other] {
            let this = front.server.nodes().unwrap().this().clone();
            while !inbox.nodes().await.unwrap().contains(&this) {
                tokio::task::yield_now().await;
            }
        }
        Self {
            upstream,
            one,
            other,
            line,
            inbox,
        }
    }

    /// A client of the first gateway that has set up a level and a subscription.
    pub(crate) async fn client(&self) -> Client {
        let mut client = Client::new(&self.one.mcp).with_token("alice");
        client
            .open(rpc::initialize_declaring(
                0,
                REVISION,
                &json!({"elicitation": {}}),
            ))
            .await;
        for (id, method, params) in [
            (1, "logging/setLevel", json!({"level": "error"})),
            (2, "resources/subscribe", json!({"uri": "file:///a"})),
        ] {
            let mut answer = client.post(rpc::request(id, method, &params)).await;
            assert!(answer.answer().await["result"].is_object(), "{method}");
        }
        client
    }

    /// The first one shuts down in order.
    async fn shut_down(&self) {
        self.one.server.shut_down().await;
        self.one.gateway.finish().await;
    }

    /// The first one is gone for the other.
    pub(crate) async fn kill(&self) {
        let this = self.one.server.nodes().unwrap().this().clone();
        self.line.is_cut.store(true, Ordering::SeqCst);
        thinpipe_testkit::eventually("it counts as dead", async || {
            match self.inbox.nodes().await.unwrap().contains(&this) {
                true => Err("it is alive".to_owned()),
                false => Ok(()),
            }
        })
        .await;
    }

    pub(crate) fn moved(&self, client: &Client) -> Moved {
        Moved {
            client: Client::new(&self.other.mcp).with_token("alice"),
            session: client.session().unwrap().to_owned(),
        }
    }
}

/// A client whose requests come to the other gateway now.
pub(crate) struct Moved {
    client: Client,
    session: String,
}

impl Moved {
    fn with_session(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("Mcp-Session-Id", &self.session);
        request.header("MCP-Protocol-Version", REVISION)
    }

    pub(crate) async fn post(&self, message: impl ToString) -> Response {
        self.with_session(self.client.post(message)).await
    }

    pub(crate) async fn answer(&self, request: String) -> Value {
        let mut answer = self.post(request).await;
        assert_eq!(answer.status, 200);
        answer.answer().await
    }

    async fn listen(&self) -> Response {
        let stream = self.with_session(self.client.get()).await;
        assert_eq!(stream.status, 200);
        stream
    }
}

/// It hears what changed, is asked, and gets the lines that it wants.
async fn goes_on(pair: &Pair, client: &Moved) {
    let (_, id) = (client.answer(rpc::call(1, "echo")).await, 2);
    let mut stream = client.listen().await;
    // It reads again what may have changed meanwhile.
    let mut changed = Vec::new();
    for _ in 0..4 {
        let method = stream.next_message().await["method"].take();
        changed.push(method.as_str().unwrap().to_owned());
    }
    changed.sort();
    let lists = ["prompts", "resources", "tools"];
    let mut expected = lists
        .map(|list| format!("notifications/{list}/list_changed"))
        .to_vec();
    expected.insert(2, "notifications/resources/updated".to_owned());
    assert_eq!(changed, expected);
    for uri in ["file:///b", "file:///a"] {
        let updated = "notifications/resources/updated";
        pair.upstream.announce(updated, &json!({ "uri": uri }));
    }
    assert_eq!(stream.next_message().await["params"]["uri"], "file:///a");
    let mut lines = client.post(rpc::call(id, "log")).await;
    assert_eq!(lines.next_message().await["params"]["level"], "error");
    assert_eq!(lines.next_message().await["id"], id);
    let mut asking = client.post(rpc::call(3, "ask")).await;
    let question = asking.next_message().await;
    assert_eq!(question["method"], "elicitation/create");
    let answer = rpc::response(question["id"].clone(), &json!({"action": "decline"}));
    assert_eq!(client.post(answer).await.status, 202);
    assert_eq!(asking.next_message().await["id"], 3);
}

fn log(spec: &mut UpstreamSpec) {
    spec.resume = Resume::Log;
}

/// F9: the server's session goes on under its id; nobody opens another, and nobody ends it.
#[tokio::test]
async fn f9_a_session_of_streamable_http_goes_on_under_its_id() {
    for is_killed in [false, true] {
        let pair = Pair::start(Way::Streamable, log).await;
        let client = pair.client().await;
        let sessions = pair.upstream.sessions();
        match is_killed {
            true => pair.kill().await,
            false => pair.shut_down().await,
        }
        let moved = pair.moved(&client);
        goes_on(&pair, &moved).await;
        assert_eq!(pair.upstream.sessions(), sessions);
        let record = pair.upstream.record();
        assert_eq!((record.count("initialize"), record.count("DELETE")), (1, 0));
        assert_eq!(record.count("tools/call"), 3);
        let deleted = moved.with_session(moved.client.delete()).await;
        assert_eq!(deleted.status, 200);
        let is_deleted = |record: &thinpipe_testkit::Record| record.count("DELETE") == 1;
        pair.upstream.wait_until(is_deleted).await;
        assert_eq!(moved.post(rpc::call(9, "echo")).await.status, 404);
    }
}

/// What ended with its process is opened again, set up as it was, if that is wanted.
#[tokio::test]
async fn f9_a_session_of_a_pipe_is_opened_again() {
    for way in [Way::Stdio, Way::HttpSse] {
        let pair = Pair::start(way, |spec| {
            log(spec);
            spec.session_lost = SessionLost::Reestablish;
        })
        .await;
        let client = pair.client().await;
        pair.shut_down().await;
        goes_on(&pair, &pair.moved(&client)).await;
        assert_eq!(pair.upstream.record().count("initialize"), 2, "{way:?}");
    }
}

/// While the server is away the session waits for it, as clients do.
#[tokio::test]
async fn f9_a_session_whose_server_is_away_is_taken_over_later() {
    let pair = Pair::start(Way::HttpSse, |spec| {
        log(spec);
        spec.session_lost = SessionLost::Reestablish;
    })
    .await;
    let client = pair.client().await;
    pair.shut_down().await;
    pair.upstream.die().await;
    let moved = pair.moved(&client);
    let mut refused = moved.post(rpc::call(1, "echo")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "upstream_unavailable");
    pair.upstream.come_back();
    goes_on(&pair, &moved).await;
}

/// So does one that several clients use, however its server is away: that says nothing of what the server is.
#[tokio::test]
async fn f9_a_shared_session_whose_server_is_away_is_taken_over_later() {
    for sharing in [Sharing::Pooled, Sharing::Shared] {
        let pair = Pair::start(Way::Streamable, |spec| {
            spec.bridge.sessions = Some(sharing);
        })
        .await;
        let client = pair.client().await;
        pair.kill().await;
        let moved = pair.moved(&client);
        let failing = [
            Script::status(500),
            Script::status(503),
            Script::new().cut(Cut::Reset),
        ];
        for (way, failing) in failing.into_iter().enumerate() {
            pair.upstream.once("initialize", failing);
            let mut refused = moved.post(rpc::call(1, "echo")).await;
            assert_eq!(refused.status, 503, "{sharing:?}, {way}");
            assert!(refused.header("retry-after").is_some());
            let reason = refused.json().await["error"]["data"]["reason"].clone();
            assert_eq!(reason, "upstream_unavailable");
        }
        assert_eq!(moved.answer(rpc::call(2, "echo")).await["id"], 2);
    }
}

/// If it is not, the session has ended.
#[tokio::test]
async fn f9_without_that_it_has_ended() {
    let pair = Pair::start(Way::Stdio, log).await;
    let client = pair.client().await;
    pair.kill().await;
    let moved = pair.moved(&client);
    assert_eq!(moved.post(rpc::call(1, "echo")).await.status, 404);
    assert_eq!(pair.upstream.record().count("initialize"), 1);
}

/// A session that several clients of one principal use goes on as one that they use there.
#[tokio::test]
async fn f9_a_shared_session_goes_on_with_those_who_share() {
    for way in Way::ALL {
        let pair = Pair::start(way, |spec| {
            spec.bridge.sessions = Some(Sharing::Pooled);
        })
        .await;
        let clients = [pair.client().await, pair.client().await];
        assert_eq!(pair.upstream.record().count("initialize"), 1, "{way:?}");
        pair.kill().await;
        let moved = clients.each_ref().map(|client| pair.moved(client));
        goes_on(&pair, &moved[0]).await;
        assert_eq!(moved[1].answer(rpc::call(7, "echo")).await["id"], 7);
        assert_eq!(pair.upstream.record().count("initialize"), 2, "{way:?}");
    }
}

/// A server of 2026-07-28 knows nothing of sessions: theirs go on with what the record says.
#[tokio::test]
async fn f9_a_session_in_front_of_calls_goes_on() {
    let pair = Pair::before_calls().await;
    let client = pair.client().await;
    pair.kill().await;
    goes_on(&pair, &pair.moved(&client)).await;
}

/// Protocol notes 5.8: requests that the process before has made on the server's session keep their ids to themselves.
#[tokio::test]
async fn f9_ids_are_not_used_again() {
    let pair = Pair::start(Way::Streamable, log).await;
    let client = pair.client().await;
    let gate = Gate::new();
    let script = Script::events()
        .event(Event::message(rpc::progress(1, 2)))
        .wait(&gate)
        .stall();
    pair.upstream.once("tools/call:echo", script);
    let _running = client.post(rpc::call(5, "echo")).send().await;
    gate.reached().await;
    pair.kill().await;
    let moved = pair.moved(&client);
    for id in 1..5 {
        assert_eq!(moved.answer(rpc::call(id, "echo")).await["id"], id);
    }
    let calls = pair.upstream.requests("tools/call:echo");
    let mut ids: Vec<_> = calls.iter().map(|call| call.id_text()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), count), (5, 5));
    assert_eq!(pair.upstream.sessions().len(), 1);
}

/// 5.8 (8): the gateway's ids of questions are unique in a session over all nodes, so that what a client still answers
/// to a node that is gone is not taken for an answer to the next one.
#[tokio::test]
async fn f9_no_question_has_the_id_of_one_that_another_gateway_asked() {
    let pair = Pair::before_calls().await;
    let client = pair.client().await;
    let mut left = client.post(rpc::call(3, "ask")).await;
    let first = left.next_message().await["id"].clone();
    pair.kill().await;
    let moved = pair.moved(&client);
    let mut asking = moved.post(rpc::call(4, "ask")).await;
    let second = asking.next_message().await["id"].clone();
    assert_ne!(first, second);
    for (id, action) in [(first, "cancel"), (second, "decline")] {
        let answer = rpc::response(id, &json!({ "action": action }));
        assert_eq!(moved.post(answer).await.status, 202);
    }
    let answer = asking.next_message().await;
    assert_eq!(answer["id"], 4);
    let answers = pair.upstream.requests("tools/call:ask");
    let answered = answers.last().unwrap().param("/inputResponses").to_string();
    assert!(answered.contains("decline"), "{answered}");
}

/// F17, 5.8.6: a gateway that is cut off says of no answer that it was taken which another one may wait for; what it has
/// asked itself is answered there.
#[tokio::test]
async fn f17_answers_are_taken_where_they_are_waited_for() {
    let pair = Pair::start(Way::Streamable, log).await;
    let client = pair.client().await;
    pair.kill().await;
    let moved = pair.moved(&client);
    let mut asking = moved.post(rpc::call(3, "ask")).await;
    let question = asking.next_message().await;
    let answer = rpc::response(question["id"].clone(), &json!({"action": "decline"}));
    let mut refused = client.post(&answer).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "session_store_unavailable");
    assert_eq!(moved.post(answer).await.status, 202);
    assert_eq!(asking.next_message().await["id"], 3);

    let mut asking = client.post(rpc::call(4, "ask")).await;
    let question = asking.next_message().await;
    let answer = rpc::response(question["id"].clone(), &json!({"action": "decline"}));
    assert_eq!(client.post(answer).await.status, 202);
    assert_eq!(asking.next_message().await["id"], 4);
}
