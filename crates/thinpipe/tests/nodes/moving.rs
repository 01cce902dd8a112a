//! Streams that go on at another gateway (F8, G4).

use serde_json::{Value, json};
use thinpipe_testkit::{Event, Gate, Response, Script, rpc};

use crate::support::Settings;
use crate::world::{HELD, Way, World};

/// Events of two gateways on one stream: what came, and the last id.
#[derive(Default)]
struct Seen {
    last: String,
    messages: Vec<Value>,
}

impl Seen {
    /// Reads to the next event that holds a message.
    async fn next(&mut self, stream: &mut Response) -> &Value {
        loop {
            let event = stream.next_event().await.expect("the stream goes on");
            if let Some(id) = &event.id {
                self.last.clone_from(id);
            }
            if event.has_message() {
                self.messages.push(event.json());
                return self.messages.last().expect("it was pushed");
            }
        }
    }

    fn progress(&self) -> Vec<&Value> {
        let steps = self.messages.iter();
        steps
            .filter_map(|message| message.pointer("/params/progress"))
            .collect()
    }
}

/// F8, G4, invariant 1: the stream of a call moves over three gateways by resuming, while its server goes on. Nothing
/// is lost and nothing comes twice, whether the ids of events are the server's or the gateways' own.
#[tokio::test]
async fn f8_a_live_stream_moves_from_gateway_to_gateway() {
    for upstream in ["", HELD] {
        let settings = Settings::of_upstream(upstream);
        let world = World::of(settings, |behaviour| behaviour.event_ids = true).await;
        let gateways = world.three().await;
        let client = gateways[0].client().await;
        world.upstream.open_stream("long", Vec::new());
        world.upstream.once("tools/call", Script::stream("long"));
        let call = client.post(rpc::call(7, "echo")).send().await;
        // Gateways that hold a session have ids and tokens of their own at its server.
        let asked = world.upstream.nth("tools/call", 0).await;
        let token = asked.param("/_meta/progressToken").to_string();
        let progress = |step: usize| {
            let text = rpc::progress(step, 9).replace(rpc::PROGRESS_TOKEN, &token);
            let event = Event::message(text).with_id(format!("long-{step}"));
            world.upstream.append("long", event);
        };
        progress(0);
        let mut stream = call.response().await;
        let mut seen = Seen::default();
        seen.next(&mut stream).await;
        for step in 1..9 {
            progress(step);
            // Every third comes while its client is away, or is under way and lost.
            if step % 3 == 0 {
                stream.close();
                let visitor = client.at(&gateways[step / 3].url);
                stream = visitor.resume(&seen.last).await;
                assert_eq!(stream.status, 200, "{upstream:?}");
            }
            seen.next(&mut stream).await;
        }
        let id = asked.id_text().expect("it is a request");
        let answer = rpc::text_result("done").replace(rpc::REQUEST_ID, id);
        let answer = Event::message(answer).with_id("long-9");
        world.upstream.append("long", answer);
        world.upstream.finish("long");
        assert_eq!(seen.next(&mut stream).await["id"], 7);
        let steps: Vec<Value> = (0..9).map(Value::from).collect();
        assert_eq!(seen.progress(), steps.iter().collect::<Vec<_>>());
        assert_eq!(world.counted("tools/call"), 1, "{upstream:?}");
    }
}

/// F8, F18: the same of a server that cannot resume, and of those of older kinds.
#[tokio::test]
async fn f18_a_stream_of_any_server_moves() {
    for world in [
        World::with(Settings::of_upstream(HELD)).await,
        World::reached(Way::Program, Settings::of_upstream(HELD)).await,
        World::reached(Way::HttpSse, Settings::of_upstream(HELD)).await,
    ] {
        let gateways = world.three().await;
        let gate = Gate::new();
        let script = Script::events()
            .event(Event::message(rpc::progress(1, 3)))
            .wait(&gate)
            .event(Event::message(rpc::progress(2, 3)))
            .event(Event::message(rpc::text_result("done")));
        world.upstream.on("tools/call:echo", script);
        let client = gateways[0].client().await;
        let mut seen = Seen::default();
        let mut stream = client.post(rpc::call(1, "echo")).await;
        seen.next(&mut stream).await;
        stream.close();
        // It moves before anything new is said, and once more after that.
        let mut stream = client.at(&gateways[1].url).resume(&seen.last).await;
        assert_eq!(stream.status, 200);
        gate.open();
        seen.next(&mut stream).await;
        stream.close();
        let mut stream = client.at(&gateways[2].url).resume(&seen.last).await;
        assert_eq!(seen.next(&mut stream).await["id"], 1);
        assert_eq!(stream.next_event().await, None);
        assert_eq!(seen.progress(), [&json!(1), &json!(2)]);
        assert_eq!(world.counted("tools/call"), 1);
    }
}

/// G4: the standalone stream goes on at another gateway; what was said while its client was away is not lost.
#[tokio::test]
async fn g4_the_standalone_stream_moves() {
    for upstream in ["", HELD] {
        let settings = Settings::of_upstream(upstream);
        let world = World::of(settings, |behaviour| behaviour.event_ids = true).await;
        let gateways = world.three().await;
        let client = gateways[0].client().await;
        let session = world.upstream.sessions().pop().expect("a session");
        let notify = |turn: usize| {
            let params = json!({"turn": turn});
            let said = rpc::notification("notifications/x", &params);
            world.upstream.notify(&session, said);
        };
        let mut seen = Seen::default();
        let mut stream = client.get().await;
        notify(0);
        seen.next(&mut stream).await;
        for turn in 1..6 {
            stream.close();
            notify(2 * turn - 1);
            stream = client.at(&gateways[turn % 3].url).resume(&seen.last).await;
            assert_eq!(stream.status, 200, "{upstream:?}");
            notify(2 * turn);
            seen.next(&mut stream).await;
            seen.next(&mut stream).await;
        }
        let turns = seen.messages.iter();
        let turns: Vec<_> = turns.map(|message| &message["params"]["turn"]).collect();
        let all: Vec<Value> = (0..11).map(Value::from).collect();
        assert_eq!(turns, all.iter().collect::<Vec<_>>(), "{upstream:?}");
    }
}
