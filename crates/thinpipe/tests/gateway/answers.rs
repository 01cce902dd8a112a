//! Which request a response answers, where that decides what interceptors do.

use serde_json::{Value, json};
use thinpipe_testkit::{Event, Script, rpc};

use crate::support::{events_of, start_with};

const REDACTING: &str = r#"
[[upstreams.interceptors]]
type = "redact"
rules = [{ pointer = "/result/content/*/text", methods = ["tools/call"], names = ["query"] }]
"#;

fn text_of(answer: &Value) -> &Value {
    &answer["result"]["content"][0]["text"]
}

/// E3, R101: the response to a call that was forgotten, and even one whose id was used again, is redacted like
/// any that may be meant when its client asks for it once more. That to another call is not.
#[tokio::test]
async fn e3_responses_to_forgotten_calls_are_redacted() {
    for (meanwhile, used_again) in [(0, false), (300, false), (300, true)] {
        let (upstream, _gateway, client) = start_with(REDACTING).await;
        let secret = rpc::text_result("secret").replace(rpc::REQUEST_ID, "1");
        let events = vec![
            Event::message(rpc::progress(1, 2)).with_id("late-0"),
            Event::message(secret).with_id("late-1"),
        ];
        upstream.publish("late", events);
        upstream.once("tools/call", Script::stream_part("late", 2));
        let seen = events_of(&client, rpc::call(1, "query")).await;
        assert_eq!(*text_of(&seen[1].json()), "[redacted]");
        for id in 0..meanwhile {
            let ping = rpc::request(id + 2, "ping", &json!({}));
            client.post(ping).await.read_to_end().await;
        }
        if used_again {
            let other = rpc::call_with(1, "echo", &json!({"text": "harmless"}));
            let answer = client.post(other).await.answer().await;
            assert!(!answer.to_string().contains("redacted"), "{answer}");
        }
        let mut again = client.resume("late-0").await;
        let answer = again.next_message().await;
        assert_eq!(*text_of(&answer), "[redacted]", "{meanwhile} {used_again}");
    }
}

/// E3: a client's answer is known by the server's request, if that was read; else it may be the one that is
/// meant. What a client asks for it cannot be.
#[tokio::test]
async fn e3_answers_of_clients_are_known_by_the_request_they_answer() {
    const READING: &str = "[[upstreams.interceptors]]\ntype = \"log\"\nlevel = \"trace\"\n";
    for (reading, method, redacted) in [
        ("", "elicitation/create", true),
        (READING, "elicitation/create", true),
        ("", "sampling/createMessage", true),
        (READING, "sampling/createMessage", false),
        ("", "tools/call", false),
    ] {
        let rule = format!(
            "{reading}[[upstreams.interceptors]]\ntype = \"redact\"\nrules = [{{ pointer = \"/result/content/name\", methods = [\"{method}\"], direction = \"to_upstream\" }}]"
        );
        let (upstream, _gateway, client) = start_with(&rule).await;
        let mut asking = client.post(rpc::call(1, "ask")).await;
        assert_eq!(asking.next_message().await["id"], "ask-1");
        let answer = json!({"action": "accept", "content": {"name": "alice"}});
        let answered = client.post(rpc::response("ask-1", &answer)).await;
        assert_eq!(answered.status, 202);
        assert_eq!(asking.next_message().await["id"], 1);
        let record = upstream.record();
        let answer = record
            .all("POST")
            .find(|request| request.json()["id"] == "ask-1")
            .expect("an answer");
        let expected = if redacted { "[redacted]" } else { "alice" };
        assert_eq!(
            answer.json()["result"]["content"]["name"],
            expected,
            "{method} {reading}"
        );
    }
}

/// E2: what a server puts where no response is due is looked at all the same. A response there is to another
/// request, and for nobody.
#[tokio::test]
async fn e2_bodies_beside_a_response_are_read() {
    const NOTES: &str = "[[upstreams.interceptors]]\ntype = \"redact\"\nrules = [{ pointer = \"/params/data\", methods = [\"notifications/message\"] }]\n";
    let (upstream, _gateway, client) = start_with(&format!("{REDACTING}{NOTES}")).await;
    for posted in [
        rpc::notification("notifications/roots/list_changed", &json!({})),
        rpc::response("unasked", &json!({})),
    ] {
        let note = rpc::notification("notifications/message", &json!({"data": "secret"}));
        upstream.once("POST", Script::json(note));
        let answer = client.post(posted.clone()).await.json().await;
        assert_eq!(answer["params"]["data"], "[redacted]", "{answer}");
        let smuggled = rpc::text_result("secret").replace(rpc::REQUEST_ID, "7");
        upstream.once("POST", Script::json(smuggled));
        let mut answer = client.post(posted).await;
        assert_eq!((answer.status, answer.read_to_end().await.len()), (200, 0));
    }
}
