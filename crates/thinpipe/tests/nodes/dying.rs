//! Gateways that are killed, and started again (F9, invariant 4).

use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Era, Event, Gate, Response, Script, SseClient, rpc};

use crate::support::{Gateway, Settings};
use crate::world::{BOTH, HELD, Way, World, answers, is_gone};

/// How long after a kill a session may be out of use.
const USABLE_AGAIN: Duration = Duration::from_secs(5);

/// Until `work` is done, which a kill has just made hard.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(USABLE_AGAIN, work).await;
    done.expect("what a kill concerns is settled within five seconds")
}

/// The error that says that nobody knows what became of a call.
fn is_unknown(message: &Value, id: &Value) {
    let error = &message["error"];
    assert_eq!(
        (&message["id"], &error["code"], &error["data"]["reason"]),
        (id, &json!(-32603), &json!("outcome_unknown")),
        "{message}"
    );
}

/// F9: a gateway that is killed takes no session with it that others can go on with, nor does the kill of all.
#[tokio::test]
async fn f9_a_session_outlives_all_gateways() {
    for upstream in BOTH {
        let world = World::with(Settings::of_upstream(upstream)).await;
        let mut gateways = world.three().await;
        let client = gateways[0].client().await;
        answers(&client, "first").await;
        gateways[0].process.kill().await;
        in_time(answers(&client.at(&gateways[1].url), "elsewhere")).await;
        for gateway in &mut gateways[1..] {
            gateway.process.kill().await;
        }
        let again = world.three().await;
        in_time(answers(&client.at(&again[2].url), "again")).await;
        for gateway in &again {
            answers(&client.at(&gateway.url), "all of them").await;
        }
        let counted = ["initialize", "DELETE"].map(|what| world.counted(what));
        assert_eq!(counted, [1, 0], "{upstream:?}");
    }
}

/// F9: a restart ends no session that another gateway can go on with.
#[tokio::test]
async fn f9_a_session_outlives_a_restart() {
    for upstream in BOTH {
        let world = World::with(Settings::of_upstream(upstream)).await;
        let (mut one, other) = (world.gateway().await, world.gateway().await);
        let client = one.client().await;
        one.process.signal("TERM").await;
        assert!(one.process.wait().await.success());
        answers(&client.at(&other.url), "elsewhere").await;
        let counted = ["initialize", "DELETE"].map(|what| world.counted(what));
        assert_eq!(counted, [1, 0], "{upstream:?}");
    }
}

/// Calls that run when their session's gateway is killed: one that came to it, and one that came to another.
struct Running {
    /// At the gateway that is killed: a stream, and the last id on it.
    here: (Response, String),
    /// At another.
    there: thinpipe_testkit::Connection,
    /// What both wait for at the server.
    gate: Gate,
}

impl Running {
    async fn start(world: &World, client: &Client, other: &Gateway) -> Self {
        let gate = Gate::new();
        let script = Script::events()
            .event(Event::message(rpc::progress(1, 2)))
            .wait(&gate)
            .event(Event::message(rpc::text_result("too late")));
        world.upstream.on("tools/call:slow", script);
        let there = client.at(&other.url).post(rpc::call("there", "slow"));
        let there = there.send().await;
        world.upstream.nth("tools/call", 0).await;
        let mut here = client.post(rpc::call("here", "slow")).await;
        let mut last = String::new();
        loop {
            let event = here.next_event().await.expect("the call runs");
            last = event.id.clone().unwrap_or(last);
            if event.has_message() {
                break;
            }
        }
        Self {
            here: (here, last),
            there,
            gate,
        }
    }

    /// The connection to the dead gateway has ended, and the other call got its error. The id to resume by.
    async fn are_settled(self) -> String {
        let (mut here, last) = self.here;
        let (events, end) = here.events_to_end().await;
        assert!(end.is_err(), "{events:?}");
        assert!(!events.iter().any(Event::has_message), "{events:?}");
        let mut there = in_time(self.there.response()).await;
        is_unknown(&in_time(there.answer()).await, &json!("there"));
        self.gate.open();
        last
    }
}

/// F9, 5.9.25, invariants 2 and 4: the gateway that holds a session is killed: calls that ran there are not run again,
/// and their clients are told so, also those that come to resume; the session goes on.
#[tokio::test]
async fn f9_a_held_session_outlives_its_gateway() {
    let world = World::with(Settings::of_upstream(HELD)).await;
    let mut gateways = world.three().await;
    let client = gateways[0].client().await;
    let running = Running::start(&world, &client, &gateways[1]).await;
    gateways[0].process.kill().await;
    in_time(answers(&client.at(&gateways[2].url), "elsewhere")).await;
    let last = running.are_settled().await;
    let mut resumed = client.at(&gateways[1].url).resume(&last).await;
    is_unknown(&resumed.next_message().await, &json!("here"));
    assert_eq!(resumed.next_event().await, None);
    answers(&client.at(&gateways[1].url), "on the third").await;
    let slow = world.counted("tools/call:slow");
    assert_eq!((slow, world.counted("initialize")), (2, 1));
}

/// F9, 5.8, (10): the same of a client with a session and a server without any (group B).
#[tokio::test]
async fn f9_a_bridged_session_outlives_its_gateway() {
    let settings = Settings::of_upstream("era = \"stateless\"");
    let world = World::of(settings, |behaviour| behaviour.era = Era::Stateless).await;
    let mut gateways = world.three().await;
    let client = gateways[0].client().await;
    let gate = world.upstream.gate("slow");
    let there = client.at(&gateways[1].url).post(rpc::call("there", "slow"));
    let there = there.send().await;
    gate.reached().await;
    gateways[0].process.kill().await;
    in_time(answers(&client.at(&gateways[2].url), "elsewhere")).await;
    let mut there = in_time(there.response()).await;
    is_unknown(&there.answer().await, &json!("there"));
    answers(&client.at(&gateways[1].url), "on the third").await;
    assert_eq!(world.counted("tools/call:slow"), 1);
}

/// A30, invariant 4: the stream of a client of HTTP+SSE ends with its gateway, and what it posts elsewhere tells it to
/// start anew.
#[tokio::test]
async fn a30_a_stream_of_http_sse_ends_with_its_gateway() {
    let world = World::start().await;
    let (mut one, other) = (world.gateway().await, world.gateway().await);
    let mut client = SseClient::open(&one.url.replace("/mcp", "/sse")).await;
    client.initialize("2024-11-05").await;
    one.process.kill().await;
    let (_, end) = client.stream.events_to_end().await;
    assert!(end.is_err());
    let elsewhere = Client::new(&other.url.replace("/mcp", client.endpoint()));
    in_time(is_gone(&elsewhere)).await;
    let mut anew = SseClient::open(&other.url.replace("/mcp", "/sse")).await;
    anew.initialize("2024-11-05").await;
    assert_eq!(anew.ask(rpc::call(1, "echo")).await["id"], 1);
}

/// F9, invariant 4: a session with a server that only the dead gateway could reach in it is over, and its client is told
/// so, wherever it asks.
#[tokio::test]
async fn f9_a_session_of_an_older_server_ends_with_its_gateway() {
    // It is not asked what it speaks, so that only clients' sessions are opened.
    for (way, upstream) in [(Way::Program, ""), (Way::HttpSse, "era = \"http+sse\"")] {
        let world = World::reached(way, Settings::of_upstream(upstream)).await;
        let mut gateways = world.three().await;
        let client = gateways[0].client().await;
        answers(&client.at(&gateways[1].url), "first").await;
        gateways[0].process.kill().await;
        for gateway in &gateways[1..] {
            in_time(is_gone(&client.at(&gateway.url))).await;
        }
        assert_eq!(world.opened_called_ended()[..2], [1, 1], "{way:?}");
        answers(&gateways[1].client().await, "anew").await;
    }
}
