//! Two principals in front of one server, however its sessions are shared (protocol notes 5.2.1, F10): a server
//! that counts its sessions, over each transport, and clients of which none may see anything of another.

use serde_json::{Value, json};
use thinpipe_gateway::{HttpUpstream, Reached, Resume, Sharing, UpstreamSpec};
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::{Client, Response, Upstream, rpc};
use thinpipe_transport::upstream::UpstreamConfig;
use thinpipe_transport::upstream::stdio::StdioConfig;

use crate::front::{Front, tokens};

pub(crate) const REVISION: &str = "2025-11-25";

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Streamable,
    HttpSse,
    Stdio,
    /// At a URL, and it is asked what it speaks.
    Any,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Streamable, Self::HttpSse, Self::Stdio];

    pub(crate) fn reached(self, upstream: &Upstream) -> Reached {
        let (url, pin) = match self {
            Self::Any => (upstream.url().to_owned(), None),
            Self::Streamable => (upstream.url().to_owned(), Some(Binding::Sessions)),
            Self::HttpSse => (upstream.sse_url(), Some(Binding::HttpSse)),
            Self::Stdio => {
                let [program, argument] = upstream.program();
                let mut process = StdioConfig::new("up".into(), program);
                process.args.push(argument.into());
                return process.into();
            }
        };
        Reached::Http(HttpUpstream {
            pin,
            ..HttpUpstream::new(UpstreamConfig::new("up".into(), url.parse().unwrap()))
        })
    }
}

/// A full server, and a gateway that knows these principals.
pub(crate) struct Joint {
    pub(crate) upstream: Upstream,
    pub(crate) front: Front,
}

impl Joint {
    pub(crate) async fn start(way: Way, change: impl FnOnce(&mut UpstreamSpec)) -> Self {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.full = true);
        let front = Front::with(way.reached(&upstream), change, |config| {
            config.tokens = tokens(&["alice", "bob"]);
        })
        .await;
        Self { upstream, front }
    }

    pub(crate) async fn sharing(way: Way, sharing: Sharing) -> Self {
        Self::start(way, |spec| {
            spec.bridge.sessions = Some(sharing);
            if sharing == Sharing::PerClient {
                // Over messages, too.
                spec.resume = Resume::Log;
            }
        })
        .await
    }

    /// A client of this principal in a session, which declares this.
    pub(crate) async fn client(&self, principal: &str, declared: &Value) -> Client {
        let mut client = Client::new(&self.front.mcp).with_token(principal);
        client
            .open(rpc::initialize_declaring(0, REVISION, declared))
            .await;
        client
    }

    pub(crate) async fn asks(&self, principal: &str) -> Client {
        self.client(principal, &json!({"elicitation": {}})).await
    }
}

pub(crate) async fn listen(client: &Client) -> Response {
    let stream = client.get().await;
    assert_eq!(stream.status, 200);
    stream
}

/// The answer to a request, and what came before it.
pub(crate) async fn ask(client: &Client, request: String) -> (Vec<Value>, Value) {
    let mut response = client.post(request).await;
    assert_eq!(response.status, 200);
    if !response.is_stream() {
        return (Vec::new(), response.json().await);
    }
    let mut before = Vec::new();
    loop {
        let message = response.next_message().await;
        if message["method"].is_null() {
            return (before, message);
        }
        before.push(message);
    }
}

const SHARINGS: [Sharing; 3] = [Sharing::PerClient, Sharing::Pooled, Sharing::Shared];

/// 5.2.1, F6: how many sessions there are at the server, by who the clients are.
#[tokio::test]
async fn f6_sessions_are_shared_as_is_said() {
    for way in Way::ALL {
        for (sharing, count) in SHARINGS.into_iter().zip([4, 3, 1]) {
            let joint = Joint::sharing(way, sharing).await;
            let mut clients = Vec::new();
            for principal in ["alice", "alice", "bob"] {
                clients.push(joint.asks(principal).await);
            }
            clients.push(joint.client("alice", &json!({"sampling": {}})).await);
            for (id, client) in clients.iter().enumerate() {
                let (_, answer) = ask(client, rpc::call(id, "echo")).await;
                assert_eq!(answer["id"], id, "{way:?} {sharing:?}");
            }
            let sessions = joint.upstream.sessions().len();
            assert_eq!(sessions, count, "{way:?} {sharing:?}");
            assert_eq!(joint.upstream.record().count("initialize"), count);
        }
    }
}

/// R249, invariants 7 and 8: equal ids and tokens at one time, and each has its own answer and progress.
#[tokio::test]
async fn r249_ids_and_tokens_never_cross() {
    for way in Way::ALL {
        for sharing in SHARINGS {
            let joint = Joint::sharing(way, sharing).await;
            let (alice, bob) = (joint.asks("alice").await, joint.asks("bob").await);
            let call = |who: &str| rpc::call_with(1, "progress", &json!({"steps": 3, "who": who}));
            let (of_alice, of_bob) =
                tokio::join!(ask(&alice, call("alice")), ask(&bob, call("bob")));
            for (before, answer) in [of_alice, of_bob] {
                assert_eq!(answer["id"], 1, "{way:?} {sharing:?}");
                let progress = before
                    .iter()
                    .filter(|m| m["method"] == "notifications/progress");
                assert_eq!(progress.count(), 3, "{way:?} {sharing:?} {before:?}");
                assert!(before.iter().all(|m| m["params"]["progressToken"] == 1));
            }
        }
    }
}

/// Invariants 8 and 9: what the server asks for the sake of one call, its client is asked and nobody else.
#[tokio::test]
async fn questions_reach_whom_they_are_for_or_nobody() {
    for way in Way::ALL {
        for sharing in SHARINGS {
            let joint = Joint::sharing(way, sharing).await;
            let (alice, bob) = (joint.asks("alice").await, joint.asks("bob").await);
            let mut of_bob = listen(&bob).await;
            let mut answering = alice.post(rpc::call(1, "ask")).await;
            // In a row with others, nobody can tell of whom it is asked.
            if sharing == Sharing::Shared && way != Way::Streamable {
                let answer = answering.answer().await;
                assert_eq!(answer["id"], 1, "{way:?}: {answer}");
                continue;
            }
            let question = answering.next_message().await;
            assert_eq!(question["method"], "elicitation/create");
            // Whoever answers in her place is not heard.
            let forged = rpc::response(question["id"].clone(), &json!({"action": "decline"}));
            assert_eq!(bob.post(forged).await.status, 202);
            let accepted = json!({"action": "accept", "content": {"answer": "alice"}});
            let accepted = rpc::response(question["id"].clone(), &accepted);
            assert_eq!(alice.post(accepted).await.status, 202);
            let answer = answering.next_message().await;
            let said = &answer["result"]["structuredContent"]["answers"]["seat"]["content"];
            assert_eq!(said["answer"], "alice", "{way:?} {sharing:?}: {answer}");
            // All that bob hears is what is said after it.
            joint
                .upstream
                .announce("notifications/tools/list_changed", &json!({}));
            let heard = of_bob.next_message().await;
            assert_eq!(heard["method"], "notifications/tools/list_changed");
        }
    }
}

/// Invariant 8, row "change notices": updates go to those subscribed, lists to all.
#[tokio::test]
async fn updates_go_to_who_is_subscribed() {
    for way in Way::ALL {
        for sharing in SHARINGS {
            let joint = Joint::sharing(way, sharing).await;
            let (alice, bob) = (joint.asks("alice").await, joint.asks("bob").await);
            let mut streams = [listen(&alice).await, listen(&bob).await];
            for (client, uri) in [(&alice, "file:///a"), (&bob, "file:///b")] {
                let params = json!({ "uri": uri });
                let (_, answer) =
                    ask(client, rpc::request(1, "resources/subscribe", &params)).await;
                assert!(
                    answer["result"].is_object(),
                    "{way:?} {sharing:?}: {answer}"
                );
            }
            for uri in ["file:///b", "file:///a"] {
                let updated = "notifications/resources/updated";
                joint.upstream.announce(updated, &json!({ "uri": uri }));
            }
            for (stream, uri) in streams.iter_mut().zip(["file:///a", "file:///b"]) {
                let heard = stream.next_message().await;
                assert_eq!(heard["params"]["uri"], uri, "{way:?} {sharing:?}");
            }
            joint
                .upstream
                .announce("notifications/prompts/list_changed", &json!({}));
            for stream in &mut streams {
                let heard = stream.next_message().await;
                let expected = "notifications/prompts/list_changed";
                assert_eq!(heard["method"], expected, "{way:?} {sharing:?}");
            }
        }
    }
}

/// Invariant 9: a log line that cannot be tied to one principal reaches nobody; others go with their call.
#[tokio::test]
async fn lines_go_to_their_principal() {
    for way in Way::ALL {
        for sharing in SHARINGS {
            let joint = Joint::sharing(way, sharing).await;
            let (alice, bob) = (joint.asks("alice").await, joint.asks("bob").await);
            for (client, level) in [(&alice, "debug"), (&bob, "error")] {
                let params = json!({ "level": level });
                ask(client, rpc::request(1, "logging/setLevel", &params)).await;
            }
            let lines = |heard: &[Value]| -> Vec<String> {
                let levels = heard.iter().map(|line| &line["params"]["level"]);
                levels
                    .map(|level| level.as_str().unwrap().to_owned())
                    .collect()
            };
            let (of_alice, _) = ask(&alice, rpc::call(2, "log")).await;
            let (of_bob, _) = ask(&bob, rpc::call(2, "log")).await;
            let told = (lines(&of_alice), lines(&of_bob));
            let all = vec!["debug".into(), "info".into(), "error".into()];
            let expected = if sharing == Sharing::Shared && way != Way::Streamable {
                (Vec::new(), Vec::new())
            } else {
                (all, vec!["error".into()])
            };
            assert_eq!(told, expected, "{way:?} {sharing:?}");
        }
    }
}

/// Invariant 8, row "tasks": nobody finds another's task, and nobody hears of it.
#[tokio::test]
async fn tasks_belong_to_who_made_them() {
    for sharing in [Sharing::Pooled, Sharing::Shared] {
        let joint = Joint::sharing(Way::Streamable, sharing).await;
        let task = |id: &str| json!({"taskId": id, "status": "working"});
        joint.upstream.on_each("tools/call:echo", move |request| {
            let id = request.param("/name_of_task").as_str()?.to_owned();
            let made = rpc::result(json!({"task": {"taskId": id, "status": "working"}}));
            Some(thinpipe_testkit::Script::json(made))
        });
        let both = rpc::result(json!({"tasks": [task("a"), task("b")]}));
        joint
            .upstream
            .on("tasks/list", thinpipe_testkit::Script::json(both));
        let got = thinpipe_testkit::Script::json(rpc::result(task("a")));
        joint.upstream.on("tasks/get", got);
        let (alice, bob) = (joint.asks("alice").await, joint.asks("alice").await);
        for (client, id) in [(&alice, "a"), (&bob, "b")] {
            let params = json!({"name": "echo", "task": {}, "name_of_task": id});
            let (_, made) = ask(client, rpc::request(1, "tools/call", &params)).await;
            assert_eq!(made["result"]["task"]["taskId"], id);
        }
        let get = |id: &str| rpc::request(2, "tasks/get", &json!({ "taskId": id }));
        assert!(ask(&alice, get("a")).await.1["result"].is_object());
        let foreign = ask(&bob, get("a")).await.1;
        assert_eq!(foreign["error"]["code"], -32602, "{sharing:?}: {foreign}");
        let listed = ask(&bob, rpc::request(3, "tasks/list", &json!({}))).await.1;
        assert_eq!(listed["result"]["tasks"], json!([task("b")]), "{sharing:?}");
        assert_eq!(joint.upstream.sessions().len(), 1);
        assert_eq!(joint.upstream.record().count("tasks/get"), 1);
    }
}

/// H1: ten clients, fewer connections to the server, and no header of one on a request of another.
#[tokio::test]
async fn h1_clients_share_sockets_and_no_headers() {
    for sharing in SHARINGS {
        let joint = Joint::sharing(Way::Streamable, sharing).await;
        let mut clients = Vec::new();
        for n in 0..10 {
            let principal = if n % 2 == 0 { "alice" } else { "bob" };
            clients.push(joint.asks(principal).await);
        }
        for (n, client) in clients.iter().enumerate() {
            let request = client.post(rpc::call_with(n, "echo", &json!({ "n": n })));
            let mut answer = request.header("traceparent", &trace(n)).await;
            assert_eq!(answer.answer().await["id"], n);
        }
        let record = joint.upstream.record();
        let calls: Vec<_> = record.all("tools/call:echo").collect();
        assert_eq!(calls.len(), 10, "{sharing:?}");
        for call in calls {
            let n = call.param("/arguments/n").as_u64().unwrap();
            let expected = trace(usize::try_from(n).unwrap());
            assert_eq!(call.headers.get("traceparent"), Some(&*expected));
            assert_eq!(call.headers.get("authorization"), None);
        }
        assert!(
            record.connections < 10,
            "{sharing:?}: {}",
            record.connections
        );
    }
}

fn trace(n: usize) -> String {
    format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902{n:02x}-01")
}

/// The status of a client's `initialize`, and why it has no session.
async fn refused(joint: &Joint, principal: &str) -> (u16, String) {
    let client = Client::new(&joint.front.mcp).with_token(principal);
    let declared = json!({"elicitation": {}});
    let initialize = rpc::initialize_declaring(0, REVISION, &declared);
    let mut refused = client.post(initialize).await;
    let error = refused.json().await["error"].take();
    if refused.status == 503 {
        assert!(refused.header("Retry-After").is_some());
        assert_eq!(error["data"]["reason"], "upstream_overloaded");
    }
    let text = error["message"].as_str().unwrap_or_default();
    (refused.status, text.to_owned())
}

/// T15: what one session takes is bounded; the clients of one principal get another one.
#[tokio::test]
async fn t15_clients_of_a_session_are_bounded() {
    let few = |sharing| {
        move |spec: &mut UpstreamSpec| {
            spec.bridge.sessions = Some(sharing);
            spec.bridge.pool.clients = 2;
        }
    };
    let joint = Joint::start(Way::Streamable, few(Sharing::Shared)).await;
    let _clients = [joint.asks("alice").await, joint.asks("bob").await];
    let (status, text) = refused(&joint, "alice").await;
    assert_eq!(status, 503);
    assert!(text.contains("(1)") || text.contains("(2)"), "{text}");
    let joint = Joint::start(Way::Streamable, few(Sharing::Pooled)).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(joint.asks("alice").await);
    }
    assert_eq!(joint.upstream.sessions().len(), 2);
    assert_eq!(joint.front.route().route_stats().sessions_pooled, 2);
}

/// T15: so are sessions, of one principal and of all; one that nobody uses makes room.
#[tokio::test]
async fn t15_sessions_are_bounded() {
    for (max, total, who, key) in [
        (1, 9, "alice", "session_pool.max"),
        (1, 1, "bob", "session_pool.total"),
    ] {
        let joint = Joint::start(Way::Streamable, |spec| {
            spec.bridge.sessions = Some(Sharing::Pooled);
            (spec.bridge.pool.max, spec.bridge.pool.total) = (max, total);
        })
        .await;
        let declares_other = joint.client("alice", &json!({"sampling": {}})).await;
        let (status, text) = refused(&joint, who).await;
        assert_eq!(status, 503, "{key}");
        assert!(text.contains(key), "{text}");
        assert_eq!(declares_other.delete().await.status, 200);
        thinpipe_testkit::eventually("there is room", async || match refused(&joint, who).await {
            (200, _) => Ok(()),
            refused => Err(format!("{refused:?}")),
        })
        .await;
        joint
            .upstream
            .wait_until(|record| record.count("DELETE") == 1)
            .await;
    }
}

/// 5.2.1, "after a cancel": where all comes in one row, nobody joins a session on which a cancelled call may run.
#[tokio::test]
async fn after_a_cancel_others_have_another_session() {
    for (way, sessions) in [(Way::Stdio, 2), (Way::Streamable, 1)] {
        let joint = Joint::sharing(way, Sharing::Pooled).await;
        let gate = thinpipe_testkit::Gate::new();
        let script = thinpipe_testkit::Script::events().wait(&gate).stall();
        joint.upstream.on("tools/call:echo", script);
        let first = joint.asks("alice").await;
        let asked = first.post(rpc::call(7, "echo")).send().await;
        gate.reached().await;
        let cancelled = rpc::notification("notifications/cancelled", &json!({"requestId": 7}));
        assert_eq!(first.post(cancelled).await.status, 202);
        drop(asked);
        let _second = joint.asks("alice").await;
        assert_eq!(joint.upstream.sessions().len(), sessions, "{way:?}");
    }
}
