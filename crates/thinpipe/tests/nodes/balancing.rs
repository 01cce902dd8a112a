//! Behind nginx, which sends each request to the next gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use thinpipe_testkit::{Balancer, Client, Event, Gate, Script, SseClient, rpc};

use crate::support::{Gateway, Settings};
use crate::world::{BOTH, World, answers, is_gone};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Clients that call at one time.
const CLIENTS: usize = 8;
/// Calls that are answered while a gateway drains.
const MEANWHILE: usize = 60;

/// What users are given.
const DEPLOYED: &str = include_str!("../../../../deploy/nginx.conf");

/// nginx in front of these, and where it is.
async fn balance(gateways: &[Gateway; 3]) -> (Balancer, String) {
    let addresses = gateways
        .each_ref()
        .map(|gateway| Client::new(&gateway.url).address());
    let balancer = Balancer::start(DEPLOYED, &addresses).await;
    let url = balancer.before(&gateways[0].url);
    (balancer, url)
}

/// A30, F8: a client's whole session, without any affinity: requests, a stream that breaks and is resumed, a question,
/// the standalone stream, and the end.
#[tokio::test]
async fn a30_a_session_needs_no_affinity() {
    for upstream in BOTH {
        let settings = Settings::of_upstream(upstream);
        let world = World::of(settings, |behaviour| behaviour.event_ids = true).await;
        let gateways = world.three().await;
        let (_balancer, url) = balance(&gateways).await;
        let mut client = Client::new(&url);
        client.initialize("2025-11-25").await;
        for turn in 0..6 {
            answers(&client, &format!("{turn}")).await;
        }

        let gate = Gate::new();
        let event = |step: usize| Event::message(rpc::progress(step, 2));
        let script = Script::events()
            .event(event(1).with_id("s-1"))
            .wait(&gate)
            .event(event(2).with_id("s-2"))
            .event(Event::message(rpc::text_result("done")).with_id("s-3"));
        world.upstream.on("tools/call:slow", script);
        let mut stream = client.post(rpc::call("slow", "slow")).await;
        let progress = stream.next_message().await;
        assert_eq!(progress["params"]["progress"], 1);
        gate.open();
        assert_eq!(stream.next_message().await["params"]["progress"], 2);
        assert_eq!(stream.next_message().await["id"], "slow");

        let mut call = client.post(rpc::call("ask", "ask")).await;
        let question = call.next_message().await;
        let accepted = json!({"action": "accept", "content": {"answer": "4A"}});
        let answer = rpc::response(question["id"].clone(), &accepted);
        assert_eq!(client.post(answer).await.status, 202);
        assert_eq!(call.next_message().await["id"], "ask");

        let session = world.upstream.sessions().pop().expect("a session");
        let mut listening = client.get().await;
        assert_eq!(listening.status, 200);
        world
            .upstream
            .notify(&session, rpc::notification("notifications/x", &json!({})));
        assert_eq!(listening.next_message().await["method"], "notifications/x");

        assert_eq!(client.delete().await.status, 200);
        // Whichever of them is asked.
        for _ in &gateways {
            is_gone(&client).await;
        }
        assert_eq!(world.opened_called_ended(), [1, 8, 1], "{upstream:?}");
    }
}

/// A30: HTTP+SSE without affinity.
#[tokio::test]
async fn a30_http_sse_needs_no_affinity() {
    let world = World::start().await;
    let gateways = world.three().await;
    let (_balancer, url) = balance(&gateways).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = SseClient::open(&url.replace("/mcp", "/sse")).await;
        client.initialize("2024-11-05").await;
        clients.push(client);
    }
    for turn in 0..4 {
        for client in &mut clients {
            assert_eq!(client.ask(rpc::call(turn, "echo")).await["id"], turn);
        }
    }
    assert_eq!(world.counted("tools/call"), 16);
}

/// F9, invariant 4: a gateway is killed, and nginx finds the others: no call that has not run is lost for that.
#[tokio::test]
async fn f9_a_killed_gateway_is_passed_over() {
    let world = World::start().await;
    let mut gateways = world.three().await;
    let (_balancer, url) = balance(&gateways).await;
    let mut client = Client::new(&url);
    client.initialize("2025-11-25").await;
    for (at, gateway) in gateways.iter_mut().enumerate().take(2) {
        gateway.process.kill().await;
        for turn in 0..6 {
            answers(&client, &format!("{at}-{turn}")).await;
        }
    }
    assert_eq!(world.counted("tools/call"), 12);
    assert_eq!(world.counted("initialize"), 1);
}

/// C22: gateways that all refused a moment ago, as in a restart of one after the other, are asked again at once when one is
/// there.
#[tokio::test]
async fn c22_a_gateway_that_is_back_is_asked_at_once() {
    let places = [there().await, there().await].map(|listener| listener.local_addr().unwrap());
    let balancer = Balancer::start(DEPLOYED, &places).await;
    let client = Client::new(&balancer.before("http://gateway/mcp"));
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 502);
    let back = TcpListener::bind(places[0]).await.unwrap();
    let asked = async { client.post(rpc::call(2, "echo")).await };
    // Nothing is lost with the one that is dropped: the test ends.
    tokio::select! {
        response = asked => panic!("the gateway was not asked: {}", response.status),
        connection = back.accept() => drop(connection.unwrap()),
    }
}

async fn there() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("there are free ports")
}

/// C22, A30: gateways are stopped one after the other, each with a call that runs on it, and of the clients behind nginx
/// nobody is refused: none of them ever sends anything again.
#[tokio::test]
async fn c22_gateways_are_stopped_and_nobody_is_refused() {
    for upstream in BOTH {
        let world = World::with(Settings::of_upstream(upstream)).await;
        let mut gateways = world.three().await;
        let (_balancer, url) = balance(&gateways).await;
        let enough = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let mut client = Client::new(&url);
            client.initialize("2025-11-25").await;
            clients.spawn(call_on(client, number, Arc::clone(&enough)));
        }
        let called = async |more: usize| {
            let before = world.counted("tools/call");
            let has_more =
                |seen: &thinpipe_testkit::Record| seen.count("tools/call") >= before + more;
            world.upstream.wait_until(has_more).await;
        };
        called(MEANWHILE).await;
        for gateway in gateways.iter_mut().take(2) {
            let gate = Gate::new();
            let script = Script::events()
                .event(Event::message(rpc::progress(1, 1)))
                .wait(&gate)
                .event(Event::message(rpc::text_result("done")));
            world.upstream.on("tools/call:slow", script);
            let client = gateway.client().await;
            let mut stream = client.post(rpc::call("slow", "slow")).await;
            stream.next_message().await;
            gateway.process.signal("TERM").await;
            called(MEANWHILE).await;
            gate.open();
            assert_eq!(stream.next_message().await["id"], "slow");
            assert!(gateway.process.wait().await.success());
            called(MEANWHILE).await;
        }
        enough.store(true, Ordering::Relaxed);
        let mut answered = 0;
        while let Some(of_one) = clients.join_next().await {
            answered += of_one.expect("every call is answered");
        }
        assert_eq!(world.counted("tools/call"), answered + 2, "{upstream:?}");
    }
}

/// Calls until it is enough, and says how often.
async fn call_on(client: Client, number: usize, enough: Arc<AtomicBool>) -> usize {
    let mut calls = 0;
    while !enough.load(Ordering::Relaxed) {
        answers(&client, &format!("{number}-{calls}")).await;
        calls += 1;
    }
    calls
}
