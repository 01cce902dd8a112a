//! Sessions that their server has lost, opened anew by another gateway than the one that knew most of them.

use serde_json::json;
use thinpipe_gateway::{SessionLost, UpstreamSpec};
use thinpipe_testkit::{Client, Connection, Gate, Response, Script, rpc};

use crate::cluster::{Cluster, Node};

fn reopens(spec: &mut UpstreamSpec) {
    spec.session_lost = SessionLost::Reestablish;
}

async fn two(cluster: &Cluster) -> (Node, Node) {
    (
        cluster.node_with(reopens).await,
        cluster.node_with(reopens).await,
    )
}

fn forget_all(cluster: &Cluster) {
    for lost in cluster.upstream.sessions() {
        cluster.upstream.forget(&lost);
    }
}

/// While a call of this client runs, another gateway opens this session of the server's anew, and this one does not hear of
/// it. Gives the call, and who has opened it.
async fn opened_elsewhere(cluster: &Cluster, client: &Client, lost: &str) -> (Connection, Client) {
    let gate = Gate::new();
    let stalls = Script::events().wait(&gate).stall();
    cluster.upstream.once("tools/call:echo", stalls);
    let running = client.post(rpc::call(3, "echo")).send().await;
    gate.reached().await;
    let mut gateway = Client::new(cluster.upstream.url());
    gateway.initialize("2025-11-25").await;
    cluster.replace(lost, gateway.session().unwrap()).await;
    cluster.upstream.forget(lost);
    (running, gateway)
}

fn subscribe(id: usize, uri: &str) -> String {
    rpc::request(id, "resources/subscribe", &json!({ "uri": uri }))
}

/// R101, 5.8: what a client has set up at several gateways is set up again by each of them, from the record.
#[tokio::test]
async fn r101_what_was_set_up_anywhere_is_set_up_again() {
    let cluster = Cluster::start().await;
    let (one, other) = two(&cluster).await;
    let client = one.client().await;
    let visitor = other.visited_by(&client);
    let level = rpc::request(90, "logging/setLevel", &json!({"level": "debug"}));
    assert_eq!(client.post(level).await.status, 200);
    assert_eq!(client.post(subscribe(91, "test://a")).await.status, 200);
    assert_eq!(visitor.post(subscribe(92, "test://b")).await.status, 200);
    let unsubscribe = rpc::request(93, "resources/unsubscribe", &json!({"uri": "test://a"}));
    assert_eq!(client.post(unsubscribe).await.status, 200);
    forget_all(&cluster);
    assert_eq!(visitor.post(rpc::call(4, "echo")).await.status, 200);
    let upstream = &cluster.upstream;
    let [session] = &upstream.sessions()[..] else {
        panic!("{:?}", upstream.sessions());
    };
    assert_eq!(upstream.subscriptions(session), ["test://b"]);
    let counts = ["initialize", "logging/setLevel", "resources/subscribe"]
        .map(|what| upstream.requests(what).len());
    assert_eq!(counts, [2, 2, 3]);
}

/// R101, Q6: capabilities are compared with those that another gateway was told.
#[tokio::test]
async fn r101_another_server_is_not_taken_for_the_same_elsewhere() {
    let cluster = Cluster::start().await;
    let (one, other) = two(&cluster).await;
    let client = one.client().await;
    cluster.upstream.set(|it| it.full = false);
    forget_all(&cluster);
    let visitor = other.visited_by(&client);
    assert_eq!(visitor.post(rpc::call(4, "echo")).await.status, 404);
}

/// The messages of a standalone stream, up to this one.
async fn until(stream: &mut Response, method: &str) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let message = stream.next_message().await;
        let said = message["method"].as_str().unwrap().to_owned();
        if said == method {
            return seen;
        }
        seen.push(said);
    }
}

/// Q7: a session was opened anew by the gateway that a call came to. The client's stream at another one, of the session
/// that is lost, ends, and the next one tells the client what to read again, wherever it is opened; once.
#[tokio::test]
async fn q7_the_client_is_told_wherever_it_listens() {
    for listens_at_the_same in [true, false] {
        let cluster = Cluster::start().await;
        let (one, other) = two(&cluster).await;
        let client = one.client().await;
        let visitor = other.visited_by(&client);
        let mut stream = client.get().await;
        assert!(stream.is_stream());
        forget_all(&cluster);
        assert_eq!(visitor.post(rpc::call(4, "echo")).await.status, 200);
        let (_, end) = stream.try_read_to_end().await;
        assert!(end.is_ok(), "{end:?}");
        let sessions = cluster.upstream.sessions();
        assert_eq!(sessions.len(), 1);
        let mut heard = Vec::new();
        for round in 0..2 {
            let mut stream = match listens_at_the_same {
                true => client.get().await,
                false => visitor.get().await,
            };
            assert!(stream.is_stream());
            let mark = format!("notifications/mark{round}");
            let notice = rpc::notification(&mark, &json!({}));
            cluster.upstream.notify(&sessions[0], notice);
            heard.push(until(&mut stream, &mark).await);
        }
        let lists = ["tools", "prompts", "resources"]
            .map(|list| format!("notifications/{list}/list_changed"));
        assert_eq!(heard, [lists.to_vec(), vec![]]);
    }
}

/// 5.8, R101: a session that another gateway has opened anew is not lost, though this one has not heard of that, and may
/// not open it anew itself, as something else runs in it.
#[tokio::test]
async fn r101_what_another_gateway_has_opened_anew_is_not_lost() {
    let cluster = Cluster::start().await;
    let node = cluster.node_with(reopens).await;
    let client = node.client().await;
    let [lost] = &cluster.upstream.sessions()[..] else {
        panic!("{:?}", cluster.upstream.sessions());
    };
    let (_running, gateway) = opened_elsewhere(&cluster, &client, lost).await;
    assert_eq!(client.post(rpc::call(4, "echo")).await.status, 200);
    assert!(client.get().await.is_stream());
    let sessions = cluster.upstream.sessions();
    assert_eq!(sessions, [gateway.session().unwrap()]);
    assert_eq!(cluster.upstream.requests("initialize").len(), 2);
}

/// The same of GET.
#[tokio::test]
async fn r101_a_stream_of_what_another_gateway_has_opened_anew_is_opened() {
    let cluster = Cluster::start().await;
    let node = cluster.node_with(reopens).await;
    let client = node.client().await;
    let lost = cluster.upstream.sessions().pop().unwrap();
    let _there = opened_elsewhere(&cluster, &client, &lost).await;
    assert!(client.get().await.is_stream());
    assert_eq!(client.post(rpc::call(4, "echo")).await.status, 200);
}
