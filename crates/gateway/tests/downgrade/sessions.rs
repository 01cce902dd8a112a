//! Which upstream session a request runs on (R230, R231).

use serde_json::{Value, json};
use thinpipe_testkit::rpc;

use crate::place::{ALICE, BOB, Place, WAYS, Way, ask, call, request};

/// R230: requests of one principal that declare the same run on one session, in the declared words, without
/// the envelope.
#[tokio::test]
async fn r230_one_session_for_equal_requests() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        for id in 1..=3 {
            let answer = ask(&client, &call(id, "echo")).await;
            assert_eq!(answer["id"], id, "{way:?} {answer}");
            assert!(answer["result"]["content"].is_array(), "{way:?} {answer}");
        }
        assert_eq!(place.count("initialize"), 1, "{way:?}");
        let initialize = place.upstream.requests("initialize");
        let declared = initialize[0].param("/capabilities");
        assert_eq!(declared["sampling"], json!({}), "{way:?}");
        assert!(declared["elicitation"].is_object());
        assert_eq!(declared.get("roots"), None, "not where sessions are pooled");
        for call in place.upstream.requests("tools/call") {
            let text = call.json().to_string();
            assert!(!text.contains("io.modelcontextprotocol/"), "{way:?} {text}");
        }
    }
}

/// R230: other capabilities, another session.
#[tokio::test]
async fn r230_other_capabilities_have_another_session() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        ask(&client, &call(1, "echo")).await;
        let nothing = rpc::modern_call(2, "echo");
        ask(&client, &nothing).await;
        let spelled = call(3, "echo")
            .declaring(&json!({"sampling": {}, "elicitation": {"url": {}, "form": {}}}));
        ask(&client, &spelled).await;
        assert_eq!(place.count("initialize"), 2, "{way:?}");
    }
}

/// R231: two principals never share a session, nor what a call says.
#[tokio::test]
async fn r231_principals_never_share() {
    for way in WAYS {
        let place = Place::start(way).await;
        for token in [ALICE, BOB, ALICE] {
            ask(&place.client(token), &call(1, "echo")).await;
        }
        assert_eq!(place.count("initialize"), 2, "{way:?}");
        let calls = place.upstream.requests("tools/call");
        let sessions: Vec<_> = calls
            .iter()
            .map(|call| call.session().map(str::to_owned))
            .collect();
        assert_eq!(sessions[0], sessions[2], "{way:?}");
        assert_ne!(sessions[0], sessions[1], "{way:?}");
    }
}

/// R231: who has no principal has a session per request, which ends with it; all pages of a list are fetched
/// inside of it.
#[tokio::test]
async fn r231_anonymous_requests_have_sessions_of_their_own() {
    for way in WAYS {
        let place = Place::anonymous(way).await;
        let client = thinpipe_testkit::Client::new(&place.front.mcp);
        ask(&client, &call(1, "echo")).await;
        let listed = ask(&client, &request(2, "prompts/list", json!({}))).await;
        let prompts = listed["result"]["prompts"].as_array().unwrap();
        assert_eq!(prompts.len(), 2, "{way:?} {listed}");
        assert_eq!(listed["result"].get("nextCursor"), None);
        assert_eq!(place.count("initialize"), 2, "{way:?}");
        place.no_session_is_left().await;
    }
}

/// Protocol notes 5.4.3: a cursor belongs to the session that gave it, and to its principal.
#[tokio::test]
async fn r231_cursors_belong_to_their_principal() {
    for way in WAYS {
        let place = Place::start(way).await;
        let (alice, bob) = (place.client(ALICE), place.client(BOB));
        let first = ask(&alice, &request(1, "prompts/list", json!({}))).await;
        let cursor = first["result"]["nextCursor"].clone();
        assert!(cursor.is_string(), "{way:?} {first}");
        let next = request(2, "prompts/list", json!({"cursor": cursor}));
        let second = ask(&alice, &next).await;
        assert_eq!(
            second["result"]["prompts"][0]["name"], "ask",
            "{way:?} {second}"
        );
        let refused = ask(&bob, &next).await;
        assert_eq!(refused["error"]["code"], -32602, "{way:?} {refused}");
    }
}

/// R230: sessions that are opened at the same time for one key are one.
#[tokio::test]
async fn r230_opening_is_done_once() {
    let place = Place::start(Way::Sessions).await;
    let client = place.client(ALICE);
    let list = |id: i64| rpc::modern(id, "tools/list", json!({}));
    let mut connections = Vec::new();
    for id in 0..5 {
        connections.push(crate::place::send(&client, &list(id)).await);
    }
    for connection in connections {
        let answer: Value = connection.response().await.answer().await;
        assert!(answer["result"]["tools"].is_array(), "{answer}");
    }
    assert_eq!(place.count("initialize"), 1);
}
