//! Gateways that are restarted one after the other while clients call.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Connection, rpc};
use tokio::task::JoinSet;

use crate::support::Settings;
use crate::world::{BOTH, World};

/// Clients that call at one time.
const CLIENTS: usize = 12;
/// Calls that are answered between two restarts.
const BETWEEN: usize = 60;

/// Where the gateways are now; `None` of the whole: enough has been called.
type Places = Arc<Mutex<Option<[String; 3]>>>;

/// C22, F9, invariant 2: 0 answers lost, 0 doubled. Clients send again only what certainly was not taken: where nobody
/// listened, or 503 said so.
#[tokio::test]
async fn c22_a_rolling_restart_loses_no_answer() {
    for upstream in BOTH {
        let world = World::with(Settings::of_upstream(upstream)).await;
        let mut gateways = world.three().await;
        let places = gateways.each_ref().map(|gateway| gateway.url.clone());
        let places: Places = Arc::new(Mutex::new(Some(places)));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = gateways[number % 3].client().await;
            clients.spawn(call_on(client, number, Arc::clone(&places)));
        }
        for at in 0..gateways.len() {
            let before = world.counted("tools/call");
            let has_more =
                |seen: &thinpipe_testkit::Record| seen.count("tools/call") >= before + BETWEEN;
            world.upstream.wait_until(has_more).await;
            gateways[at].process.signal("TERM").await;
            assert!(gateways[at].process.wait().await.success());
            gateways[at] = world.gateway().await;
            if let Some(places) = &mut *places.lock().unwrap() {
                places[at].clone_from(&gateways[at].url);
            }
        }
        let before = world.counted("tools/call");
        world
            .upstream
            .wait_until(|seen| seen.count("tools/call") >= before + BETWEEN)
            .await;
        places.lock().unwrap().take();
        let mut answered = HashSet::new();
        while let Some(of_one) = clients.join_next().await {
            answered.extend(of_one.unwrap());
        }
        let calls = world.upstream.requests("tools/call");
        let ran: HashSet<String> = calls
            .iter()
            .map(|call| call.param("/arguments/token").to_string())
            .collect();
        assert_eq!(ran.len(), calls.len(), "a call came twice: {upstream:?}");
        assert_eq!(ran, answered, "{upstream:?}");
        assert_eq!(world.counted("initialize"), CLIENTS);
    }
}

/// Calls at one gateway after the other until there are none. Tokens of the calls, all of which were answered.
async fn call_on(client: Client, number: usize, places: Places) -> Vec<String> {
    let mut answered = Vec::new();
    for turn in number.. {
        let token = json!(format!("{number}-{turn}"));
        let call = rpc::call_with(turn, "echo", &json!({ "token": token }));
        let Some(answer) = answer_to(&client, &call, turn, &places).await else {
            break;
        };
        assert_eq!(answer["id"], turn, "{answer}");
        let text = answer["result"]["content"][0]["text"].as_str();
        let echo: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
        assert_eq!(echo, Some(json!({ "token": token })), "{answer}");
        answered.push(token.to_string());
    }
    answered
}

/// What a call is answered, wherever it is taken; `None`: there are no gateways any more.
async fn answer_to(client: &Client, call: &str, turn: usize, places: &Places) -> Option<Value> {
    for attempt in turn.. {
        let place = places.lock().expect("nobody panics with it").as_ref()?[attempt % 3].clone();
        let there = client.at(&place);
        let Ok(connection) = Connection::try_open(there.address(), None).await else {
            continue;
        };
        let mut response = there.post(call).on(connection).await;
        if response.status == 503 {
            assert!(response.header("retry-after").is_some());
            continue;
        }
        let answer = response.answer().await;
        assert_eq!(response.status, 200, "{answer}");
        return Some(answer);
    }
    None
}
