//! What a server asks, as rounds of `input_required` (R233, R235, R236).

use serde_json::json;
use thinpipe_testkit::rpc;

use crate::place::{
    ALICE, Place, WAYS, Way, accepted, answers, ask, asked, call, listen, request, retry,
};

/// R233: a server request is a round; the retry answers it, and the call has run once.
#[tokio::test]
async fn r233_what_a_server_asks_is_a_round() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        for (id, request) in [
            (1, call(1, "ask")),
            (3, request(3, "prompts/get", json!({"name": "ask"}))),
            (5, request(5, "resources/read", json!({"uri": "ask:///"}))),
        ] {
            let first = asked(&client, &request).await;
            let requests = first["result"]["inputRequests"].as_object().unwrap();
            assert_eq!(requests.len(), 1, "{way:?} {first}");
            let question = requests.values().next().unwrap();
            assert_eq!(question["method"], "elicitation/create");
            assert_eq!(question["params"]["message"], "Seat?");
            let again = retry(id + 1, &request, &first, &answers(&first, &accepted()));
            let done = ask(&client, &again).await;
            assert_eq!(done["id"], id + 1, "{way:?} {done}");
            assert_eq!(done["result"]["resultType"], "complete");
            let seat = &done["result"]["structuredContent"]["answers"]["seat"];
            assert_eq!(*seat, accepted(), "{way:?} {done}");
        }
        for method in ["tools/call", "prompts/get", "resources/read"] {
            assert_eq!(place.count(method), 1, "{way:?} {method}");
        }
    }
}

/// R233: questions that come together make one round, and one after the other several.
#[tokio::test]
async fn r233_rounds_have_what_came_together() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let both = call(1, "both");
        let first = asked(&client, &both).await;
        assert_eq!(
            first["result"]["inputRequests"].as_object().unwrap().len(),
            2,
            "{way:?}"
        );
        let mut answer = accepted();
        // It fits what is sampled, too.
        answer["role"] = "assistant".into();
        let again = retry(2, &both, &first, &answers(&first, &answer));
        let done = ask(&client, &again).await;
        assert_eq!(
            done["result"]["content"][0]["text"], "answered",
            "{way:?} {done}"
        );

        let twice = call(3, "twice");
        let first = asked(&client, &twice).await;
        let again = retry(4, &twice, &first, &answers(&first, &accepted()));
        let second = asked(&client, &again).await;
        let states = [&first, &second].map(|asked| asked["result"]["requestState"].clone());
        assert_ne!(states[0], states[1]);
        let last = retry(5, &twice, &second, &answers(&second, &accepted()));
        let done = ask(&client, &last).await;
        assert_eq!(
            done["result"]["content"][0]["text"], "answered",
            "{way:?} {done}"
        );
        assert_eq!(place.count("tools/call"), 2, "{way:?}");
    }
}

/// R233: what a retry leaves out is asked again.
#[tokio::test]
async fn r233_what_is_left_out_is_asked_again() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let request = call(1, "ask");
        let first = asked(&client, &request).await;
        let second = asked(&client, &retry(2, &request, &first, &json!({}))).await;
        assert_eq!(
            first["result"]["inputRequests"],
            second["result"]["inputRequests"]
        );
        let again = retry(3, &request, &second, &answers(&second, &accepted()));
        let done = ask(&client, &again).await;
        assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        assert_eq!(place.count("tools/call"), 1);
    }
}

/// Protocol notes 5.4.2: one call that may be asked at a time on a pipe; another takes another session.
#[tokio::test]
async fn r233_calls_that_may_be_asked_have_a_pipe_each() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let (one, two) = (call(1, "ask"), call(2, "ask"));
        let first = asked(&client, &one).await;
        let second = asked(&client, &two).await;
        let sessions = if way == Way::Sessions { 1 } else { 2 };
        assert_eq!(place.count("initialize"), sessions, "{way:?}");
        for (request, asked) in [(&two, &second), (&one, &first)] {
            let again = retry(9, request, asked, &answers(asked, &accepted()));
            let done = ask(&client, &again).await;
            assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        }
        assert_eq!(place.count("tools/call"), 2);
    }
}

/// R235: what is asked outside of calls that may be asked is refused, and never shown.
#[tokio::test]
async fn r235_what_nobody_can_be_asked_is_refused() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        ask(&client, &request(1, "tools/list", json!({}))).await;
        // Its standing stream is open while somebody listens.
        let (_listen, _) = listen(&client, "l", json!({"toolsListChanged": true})).await;
        let session = place.upstream.sessions().remove(0);
        let question = rpc::request("idle", "elicitation/create", &json!({"message": "?"}));
        place.upstream.notify(&session, question);
        let id = "\"idle\"";
        place
            .upstream
            .wait_until(|record| {
                record.received.iter().any(|request| {
                    request.id_text() == Some(id) && request.json()["error"]["code"] == -32603
                })
            })
            .await;
    }
}

/// R236: what a client did not declare is not declared to the server, and not asked of the client.
#[tokio::test]
async fn r236_what_is_not_declared_is_not_asked() {
    for way in WAYS {
        let place = Place::start(way).await;
        let client = place.client(ALICE);
        let declared = json!({"sampling": {}});
        let undeclared = call(1, "undeclared").declaring(&declared);
        let done = ask(&client, &undeclared).await;
        assert_eq!(done["result"]["resultType"], "complete", "{way:?} {done}");
        let initialize = place.upstream.requests("initialize");
        assert_eq!(
            initialize[0].param("/capabilities").get("elicitation"),
            None
        );
        let refused = ask(&client, &call(2, "ask").declaring(&declared)).await;
        assert_eq!(
            refused["result"]["resultType"], "complete",
            "{way:?} {refused}"
        );
        let answers = place.upstream.requests("*");
        let errors = answers
            .iter()
            .filter(|request| request.json()["error"].is_object());
        let codes: Vec<_> = errors
            .map(|request| request.json()["error"]["code"].clone())
            .collect();
        assert_eq!(codes, [-32602, -32601], "{way:?}");
    }
}
