//! `requestState` that is none any more (R234).

use std::time::Duration;

use serde_json::{Value, json};

use crate::place::{
    ALICE, BOB, Place, WAYS, Way, accepted, answers, ask, asked, call, request, retry,
};

fn refused(answer: &Value) {
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(
        answer["error"]["message"], "requestState invalid or expired",
        "{answer}"
    );
}

/// R234: tampered with, of another principal, for other params, replayed: nothing is executed, nothing has
/// changed, until the right one comes.
#[tokio::test]
async fn r234_states_that_are_not_valid_change_nothing() {
    for way in WAYS {
        let place = Place::start(way).await;
        let (alice, bob) = (place.client(ALICE), place.client(BOB));
        let call = call(1, "ask");
        let first = asked(&alice, &call).await;
        let answers = answers(&first, &accepted());
        let valid = retry(2, &call, &first, &answers);
        refused(&ask(&bob, &valid).await);

        let mut tampered = first.clone();
        let state = tampered["result"]["requestState"].as_str().unwrap();
        let middle = state.len() / 2;
        let other = if &state[middle..=middle] == "A" {
            "B"
        } else {
            "A"
        };
        let state = format!("{}{other}{}", &state[..middle], &state[middle + 1..]);
        tampered["result"]["requestState"] = state.into();
        refused(&ask(&alice, &retry(3, &call, &tampered, &answers)).await);
        tampered["result"]["requestState"] = "nonsense".into();
        refused(&ask(&alice, &retry(4, &call, &tampered, &answers)).await);

        let params = json!({"name": "ask", "arguments": {"other": 1}});
        let elsewhere = request(5, "tools/call", params);
        refused(&ask(&alice, &retry(5, &elsewhere, &first, &answers)).await);

        let wrong = [
            json!(7),
            json!({}),
            json!({"action": "nope"}),
            json!({"action": "accept", "content": "x"}),
        ];
        for wrong in wrong {
            let malformed = retry(6, &call, &first, &json!({"k1": wrong}));
            let answer = ask(&alice, &malformed).await;
            assert_eq!(answer["error"]["code"], -32602, "{way:?} {answer}");
            let text = answer["error"]["message"].as_str().unwrap();
            assert!(text.contains("k1"), "{way:?} {text}");
        }
        let params = json!({"name": "ask", "arguments": {}, "requestState": 5});
        let answer = ask(&alice, &request(7, "tools/call", params)).await;
        assert_eq!(answer["error"]["code"], -32602, "{way:?} {answer}");
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(
            text.starts_with("\"requestState\" is a string"),
            "{way:?} {text}"
        );

        let done = ask(&alice, &valid).await;
        assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        refused(&ask(&alice, &valid).await);
        assert_eq!(place.count("tools/call"), 1, "{way:?}");
    }
}

/// R234: a state expires, and its call with it.
#[tokio::test]
async fn r234_a_state_expires() {
    for way in WAYS {
        let place = Place::with(
            way,
            |_| {},
            |spec| spec.bridge.parked.age = Duration::from_millis(50),
        )
        .await;
        let client = place.client(ALICE);
        let call = call(1, "ask");
        let first = asked(&client, &call).await;
        place
            .upstream
            .wait_until(|record| record.count("notifications/cancelled") > 0)
            .await;
        let late = retry(2, &call, &first, &answers(&first, &accepted()));
        refused(&ask(&client, &late).await);
        assert_eq!(place.count("tools/call"), 1, "{way:?}");
    }
}

/// Protocol notes 5.4.2: without a principal the state alone is the key.
#[tokio::test]
async fn r234_without_a_principal_the_state_is_the_key() {
    for way in WAYS {
        let place = Place::anonymous(way).await;
        let client = thinpipe_testkit::Client::new(&place.front.mcp);
        let call = call(1, "ask");
        let first = asked(&client, &call).await;
        let other = thinpipe_testkit::Client::new(&place.front.mcp);
        let done = ask(
            &other,
            &retry(2, &call, &first, &answers(&first, &accepted())),
        )
        .await;
        assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        refused(&ask(&client, &retry(3, &call, &first, &json!({}))).await);
    }
}

/// `mrtr = "off"`: nothing is declared to the server, so that nothing is asked.
#[tokio::test]
async fn r236_rounds_can_be_switched_off() {
    let off =
        |spec: &mut thinpipe_gateway::UpstreamSpec| spec.bridge.mrtr = thinpipe_gateway::Mrtr::Off;
    let place = Place::with(Way::Sessions, |_| {}, off).await;
    let done = ask(&place.client(ALICE), &call(1, "ask")).await;
    assert_eq!(done["result"]["resultType"], "complete", "{done}");
    let initialize = place.upstream.requests("initialize");
    assert_eq!(*initialize[0].param("/capabilities"), json!({}));
}
