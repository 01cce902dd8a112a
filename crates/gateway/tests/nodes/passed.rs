//! Sessions of which nothing lives in a process: any gateway serves them by itself.

use thinpipe_gateway::SessionLost;
use thinpipe_testkit::{Client, Event, Gate, Script, SseClient, eventually, rpc};

use crate::cluster::{ALICE, Cluster};

/// F8, F9, Q1: POST and GET on either node, on one upstream session; and again after the node that opened it has shut
/// down, which ends nothing.
#[tokio::test]
async fn f9_a_session_outlives_the_gateway_that_opened_it() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let client = one.client().await;
    let visitor = other.visited_by(&client);
    assert_eq!(client.post(rpc::call(2, "echo")).await.status, 200);
    assert_eq!(visitor.post(rpc::call(3, "echo")).await.status, 200);
    one.server.shut_down().await;
    assert_eq!(visitor.post(rpc::call(4, "echo")).await.status, 200);
    let upstream = &cluster.upstream;
    assert_eq!(upstream.sessions().len(), 1);
    assert_eq!(upstream.requests("initialize").len(), 1);
    assert_eq!(upstream.requests("DELETE").len(), 0);
}

/// D8: DELETE on one node ends the session on all of them, and at its server once.
#[tokio::test]
async fn d8_delete_reaches_the_server_once() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let client = one.client().await;
    let visitor = other.visited_by(&client);
    assert_eq!(visitor.post(rpc::call(3, "echo")).await.status, 200);
    assert_eq!(visitor.delete().await.status, 200);
    eventually("it has ended there too", async || {
        match one.server.stats().sessions {
            0 => Ok(()),
            sessions => Err(format!("{sessions} sessions")),
        }
    })
    .await;
    assert_eq!(client.post(rpc::call(4, "echo")).await.status, 404);
    assert_eq!(cluster.upstream.requests("DELETE").len(), 1);
}

/// D8: who has ended a session does not wait for a server that takes its time over that.
#[tokio::test]
async fn d8_a_server_that_hangs_over_delete_is_not_waited_for() {
    let cluster = Cluster::start().await;
    let node = cluster.node().await;
    let client = node.client().await;
    let gate = Gate::new();
    let late = Script::status(200).late(&gate);
    cluster.upstream.once("DELETE", late);
    assert_eq!(client.delete().await.status, 200);
    assert_eq!(gate.arrivals(), 1);
    assert_eq!(client.post(rpc::call(2, "echo")).await.status, 404);
    gate.open();
}

/// R101, Q6: a session that its server has lost is opened anew by one node, and the others go on with that.
#[tokio::test]
async fn r101_a_session_is_opened_anew_for_all_nodes() {
    let cluster = Cluster::start().await;
    let reopens = |spec: &mut thinpipe_gateway::UpstreamSpec| {
        spec.session_lost = SessionLost::Reestablish;
    };
    let (one, other) = (
        cluster.node_with(reopens).await,
        cluster.node_with(reopens).await,
    );
    let client = one.client().await;
    let visitor = other.visited_by(&client);
    assert_eq!(visitor.post(rpc::call(2, "echo")).await.status, 200);
    for lost in cluster.upstream.sessions() {
        cluster.upstream.forget(&lost);
    }
    // At one time: both find out, and one upstream session is left.
    let asked = [
        client.post(rpc::call(3, "echo")).send().await,
        visitor.post(rpc::call(4, "echo")).send().await,
    ];
    for asked in asked {
        assert_eq!(asked.response().await.status, 200);
    }
    assert_eq!(client.post(rpc::call(5, "echo")).await.status, 200);
    assert_eq!(visitor.post(rpc::call(6, "echo")).await.status, 200);
    eventually("one session is left", async || {
        match cluster.upstream.sessions().len() {
            1 => Ok(()),
            sessions => Err(format!("{sessions} sessions")),
        }
    })
    .await;
}

/// R111, 5.8: a standalone stream that is opened on another node takes the place of the one here, also where the
/// server allows only one.
#[tokio::test]
async fn r111_the_newest_standalone_stream_wins_over_all_nodes() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let client = one.client().await;
    let mut old = client.get().await;
    assert!(old.is_stream());
    let new = other.visited_by(&client).get().await;
    assert!(new.is_stream());
    let (_, end) = old.try_read_to_end().await;
    assert!(end.is_ok(), "{end:?}");
}

/// R111: three replacements within ten seconds count for the session, wherever its streams are opened; the fourth is
/// refused.
#[tokio::test]
async fn r111_replacements_count_over_all_nodes() {
    let cluster = Cluster::start().await;
    // A server that lets several be open: one that ends the older one itself has none replaced.
    let listening = Script::events().event(Event::message(rpc::progress(1, 2)));
    cluster.upstream.on("GET", listening.stall());
    let (one, other) = (cluster.node().await, cluster.node().await);
    let client = one.client().await;
    let visitor = other.visited_by(&client);
    let mut old = client.get().await;
    for round in 0..3 {
        let new = match round % 2 {
            0 => visitor.get().await,
            _ => client.get().await,
        };
        assert_eq!(new.status, 200, "replacement {round}");
        let (_, end) = old.try_read_to_end().await;
        assert!(end.is_ok(), "{end:?}");
        old = new;
    }
    // It has heard of the second one from the other node, before that one asked for its own stream to end.
    let mut refused = client.get().await;
    assert_eq!(refused.status, 409);
    let reason = refused.json().await["error"]["data"]["reason"].clone();
    assert_eq!(reason, "stream_contended");
    assert_eq!(old.status, 200);
}

/// A30: a client of HTTP+SSE posts to another node than the one that has its stream.
#[tokio::test]
async fn a30_messages_reach_the_gateway_with_the_stream() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let opening = Client::new(&one.sse).with_token(ALICE);
    let stream = SseClient::opening(&opening).await;
    let mut client = SseClient::of(stream, &opening).await;
    client.initialize("2024-11-05").await;
    let url = other.sse.replace("/sse", client.endpoint());
    let posted = Client::new(&url)
        .with_token(ALICE)
        .request("POST")
        .header("content-type", "application/json")
        .body(rpc::call(7, "echo"))
        .await;
    assert_eq!(posted.status, 202);
    assert_eq!(client.stream.next_message().await["id"], 7);
}

/// C22, F9, 5.9.25: a call that a gateway has no more time for is not answered with an error where its client can
/// resume it: the stream ends with a cursor and a delay, and another gateway gives the answer, once.
#[tokio::test]
async fn c22_a_long_call_goes_on_at_another_gateway() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.node().await, cluster.node().await);
    let client = one.client().await;
    let first = Event::message(rpc::progress(1, 2)).with_id("long-0");
    cluster.upstream.open_stream("long", vec![first]);
    cluster.upstream.once("tools/call", Script::stream("long"));
    let mut call = client.post(rpc::call(7, "echo")).await;
    let event = call.next_event().await.unwrap();
    assert_eq!(event.id.as_deref(), Some("long-0"));
    tokio::join!(one.server.shut_down(), async {
        assert_eq!(call.next_event().await.unwrap().retry, Some(1000));
        assert_eq!(call.next_event().await, None);
    });
    let answer = rpc::text_result("done").replace(rpc::REQUEST_ID, "7");
    let answer = Event::message(answer).with_id("long-1");
    cluster.upstream.append("long", answer);
    cluster.upstream.finish("long");
    let resuming = other.visited_by(&client).get();
    let mut resumed = resuming.header("last-event-id", "long-0").await;
    assert_eq!(resumed.next_message().await["id"], 7);
    assert_eq!(cluster.upstream.requests("tools/call").len(), 1);
}
