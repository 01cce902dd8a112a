//! What interceptors do to messages on their way.

use serde_json::json;
use thinpipe_testkit::{Cut, Event, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings, events_of, start, start_with};

fn note(text: &str) -> String {
    rpc::notification(
        "notifications/message",
        &json!({"level": "info", "data": text}),
    )
}

const SETTING: &str = r#"
[[upstreams.interceptors]]
type = "rules"
rules = [
    { when = { methods = ["notifications/message"] }, then = [{ set = { pointer = "/params/data", value = "changed" } }] },
    { when = { methods = ["tools/call"], kinds = ["response"] }, then = [{ set = { pointer = "/result/content/0/text", value = "changed" } }] },
]
"#;

/// C7: an event whose data is changed keeps its id, its type and its `retry`; one that is not, every byte.
#[tokio::test]
async fn c7_changed_events_keep_id_type_and_retry() {
    let (upstream, _gateway, client) = start_with(SETTING).await;
    let events = [
        Event::message(note("first"))
            .with_id("c7-0")
            .with_retry(1234),
        Event::data(note("untyped")).with_id("c7-1"),
        Event::message(rpc::progress(1, 2))
            .with_id("c7-2")
            .with_retry(77),
        Event::message(rpc::text_result("last"))
            .with_id("c7-3")
            .with_retry(5),
    ];
    let script = events.iter().cloned().fold(Script::events(), Script::event);
    upstream.on("tools/call", script);
    let seen = events_of(&client, rpc::call(1, "echo")).await;
    assert_eq!(seen.len(), events.len());
    for (seen, sent) in seen.iter().zip(&events) {
        assert_eq!(
            (&seen.id, &seen.kind, seen.retry),
            (&sent.id, &sent.kind, sent.retry)
        );
    }
    assert_eq!(seen[0].json()["params"]["data"], "changed");
    assert_eq!(seen[1].json()["params"]["data"], "changed");
    assert_eq!(
        seen[2].data,
        Some(rpc::progress(1, 2).replace(rpc::PROGRESS_TOKEN, "1"))
    );
    assert_eq!(seen[3].json()["result"]["content"][0]["text"], "changed");
    assert_eq!(seen[3].json()["id"], 1);
}

/// E1: the same change reaches a JSON answer.
#[tokio::test]
async fn e1_changed_json_answers() {
    let (_upstream, _gateway, client) = start_with(SETTING).await;
    let mut response = client.post(rpc::call("e1", "echo")).await;
    let answer = response.json().await;
    assert_eq!(answer["id"], "e1");
    assert_eq!(answer["result"]["content"][0]["text"], "changed");
}

const REFUSING: &str = r#"
[[upstreams.interceptors]]
type = "rules"
rules = [
    { when = { methods = ["notifications/message"] }, then = [{ reject = {} }] },
    { when = { methods = ["tools/call"], kinds = ["response"], result = [{ pointer = "/content/0/text", equals = "secret" }] }, then = [{ reject = { message = "not for you" } }] },
]
"#;

/// E1, R101: an event that is taken out leaves its id, so that neither the client's cursor nor the
/// gateway's own stands still.
#[tokio::test]
async fn removed_events_keep_the_cursor() {
    let (upstream, _gateway, client) = start_with(REFUSING).await;
    upstream.set(|behaviour| behaviour.event_ids = true);
    let mut events = vec![
        Event::message(rpc::progress(1, 2)).with_retry(10),
        Event::message(note("removed")),
        Event::message(rpc::text_result("done")),
    ];
    for (index, event) in events.iter_mut().enumerate() {
        event.id = Some(format!("cut-{index}"));
    }
    upstream.publish("cut", events);
    let part = Script::stream_part("cut", 2).read_by_peer().cut(Cut::Fin);
    upstream.once("tools/call", part);
    let seen = events_of(&client, rpc::call(1, "echo")).await;
    let seen: Vec<_> = seen
        .iter()
        .map(|event| (event.id.as_deref(), event.has_message()))
        .collect();
    assert_eq!(
        seen,
        [
            (Some("cut-0"), true),
            (Some("cut-1"), false),
            (Some("cut-2"), true)
        ]
    );
    let cursor = upstream
        .record()
        .last("GET")
        .and_then(|get| get.last_event_id().map(str::to_owned));
    assert_eq!(cursor.as_deref(), Some("cut-1"));
}

/// E2: a refused answer still answers the client, as JSON and on a stream, and the stream ends properly.
#[tokio::test]
async fn e2_refused_answers_still_answer() {
    let (upstream, _gateway, client) = start_with(REFUSING).await;
    let secret = rpc::text_result("secret");
    let scripts = [
        Script::json(&secret),
        Script::events()
            .message(rpc::progress(1, 2))
            .message(&secret),
    ];
    for (id, script) in scripts.into_iter().enumerate() {
        upstream.once("tools/call", script);
        let mut response = client.post(rpc::call(id, "echo")).await;
        assert_eq!(response.status, 200);
        let answer = response.answer().await;
        assert_eq!(
            (&answer["id"], &answer["error"]["message"]),
            (&json!(id), &json!("not for you")),
            "{answer}"
        );
        assert!(!answer.to_string().contains("secret"));
    }
}

/// E3, R101: a response that is sent again because its client asks for it is looked at again, also when its
/// id was used for something else meanwhile, and when its request is long forgotten.
#[tokio::test]
async fn e3_repeated_responses_are_inspected_again() {
    for meanwhile in [0, 1, 300] {
        let denying =
            "[[upstreams.interceptors]]\ntype = \"access\"\ntools = { deny = [\"hidden\"] }";
        let (upstream, _gateway, client) = start_with(denying).await;
        let tools = rpc::result(json!({"tools": [
            {"name": "hidden", "inputSchema": {"type": "object"}},
            {"name": "shown", "inputSchema": {"type": "object"}},
        ]}));
        let events = vec![
            Event::message(note("first")).with_id("again-0"),
            Event::message(tools.replace(rpc::REQUEST_ID, "1")).with_id("again-1"),
        ];
        upstream.publish("again", events);
        upstream.once("tools/list", Script::stream_part("again", 2));
        let list = rpc::request(1, "tools/list", &json!({}));
        let (seen, _) = client.post(list).await.events_to_end().await;
        let mut answers = vec![seen[1].json()];
        for id in 0..meanwhile {
            let ping = rpc::request(id + 1, "ping", &json!({}));
            client.post(ping).await.read_to_end().await;
        }
        let mut again = client.resume("again-0").await;
        answers.push(again.next_message().await);
        for answer in answers {
            let tools = &answer["result"]["tools"];
            assert_eq!(
                tools.as_array().map(Vec::len),
                Some(1),
                "{meanwhile} {answer}"
            );
            assert_eq!(tools[0]["name"], "shown");
        }
    }
}

/// E2: a refused answer to `initialize` opens no session, neither here nor at the upstream.
#[tokio::test]
async fn e2_a_refused_initialize_opens_no_session() {
    let upstream = Upstream::start().await;
    let refusing = "[[upstreams.interceptors]]\ntype = \"rules\"\nrules = [{ when = { methods = [\"initialize\"], kinds = [\"response\"] }, then = [{ reject = {} }] }]";
    let gateway = Gateway::with_interceptors(&upstream, refusing).await;
    let mut response = gateway
        .stranger()
        .post(rpc::initialize(1, "2025-11-25"))
        .await;
    assert_eq!(response.header("Mcp-Session-Id"), None);
    let answer = response.answer().await;
    assert!(answer["error"].is_object(), "{answer}");
    assert_eq!(answer["id"], 1);
    upstream
        .wait_until(|seen| {
            seen.last("DELETE")
                .is_some_and(|delete| delete.session().is_some())
        })
        .await;
    assert_eq!(gateway.status().await["sessions"]["live"], 0);
}

/// R091: an array in an event is split into messages, of which each is looked at; the cursor moves with the
/// last of them.
#[tokio::test]
async fn r091_arrays_in_events_are_split() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, REFUSING).await;
    let client = gateway.client_of("2025-03-26").await;
    let (progress, result) = (rpc::progress(1, 2), rpc::text_result("done"));
    let array = |messages: &[&str]| format!("[{}]", messages.join(","));
    let script = Script::events()
        .event(Event::message(array(&[&progress, &note("removed"), &progress])).with_id("b-0"))
        .event(Event::message(array(&[&result, &note("removed")])).with_id("b-1"));
    upstream.on("tools/call", script);
    let seen = events_of(&client, rpc::call(1, "echo")).await;
    let messages: Vec<_> = seen
        .iter()
        .filter(|event| event.has_message())
        .map(Event::json)
        .collect();
    assert!(
        messages.iter().all(serde_json::Value::is_object),
        "{messages:?}"
    );
    let kinds: Vec<_> = messages
        .iter()
        .map(|message| (&message["method"], &message["id"]))
        .collect();
    let (progress, null) = (&json!("notifications/progress"), &json!(null));
    assert_eq!(
        kinds,
        [(progress, null), (progress, null), (null, &json!(1))]
    );
    let ids: Vec<_> = seen
        .iter()
        .filter_map(|event| event.id.as_deref())
        .collect();
    assert_eq!(ids, ["b-0", "b-1"], "{seen:?}");
}

/// R091: so is an array in a JSON body; where no revision has them, it is no answer.
#[tokio::test]
async fn r091_arrays_in_bodies_are_taken_apart() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::with_interceptors(&upstream, REFUSING).await;
    for (revision, secret) in [
        ("2025-03-26", "done"),
        ("2025-03-26", "secret"),
        ("2025-06-18", "done"),
    ] {
        let client = gateway.client_of(revision).await;
        let result = rpc::text_result(secret);
        let array = format!("[{},{},{result}]", rpc::progress(1, 2), note("removed"));
        upstream.once("tools/call", Script::json(array));
        let mut response = client.post(rpc::call(1, "echo")).await;
        let answer = response.json().await;
        if revision == "2025-06-18" {
            let reason = &answer["error"]["data"]["reason"];
            assert_eq!(
                (response.status, reason),
                (502, &json!("upstream_invalid")),
                "{answer}"
            );
            continue;
        }
        let kept: Vec<_> = answer
            .as_array()
            .into_iter()
            .flatten()
            .map(|message| &message["method"])
            .collect();
        assert_eq!(
            kept,
            [&json!("notifications/progress"), &json!(null)],
            "{answer}"
        );
        assert_eq!(answer[1]["id"], 1);
        assert_eq!(
            answer[1]["result"].is_object(),
            secret == "done",
            "{answer}"
        );
        assert_eq!(
            answer[1]["error"].is_object(),
            secret == "secret",
            "{answer}"
        );
    }
}

/// E1, E2: a server's request that is refused never reaches the client, and the server gets an answer.
#[tokio::test]
async fn e2_refused_server_requests_are_answered_upstream() {
    let denying = "[[upstreams.interceptors]]\ntype = \"access\"\nserver_methods = { deny = [\"elicitation/*\"] }";
    let (upstream, _gateway, client) = start_with(denying).await;
    let events = events_of(&client, rpc::call(1, "ask")).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].json()["id"], 1);
    let record = upstream.record();
    let answer = record
        .all("POST")
        .find(|request| request.rpc_method().is_none())
        .expect("an answer");
    assert_eq!(answer.json()["id"], "ask-1");
    assert!(answer.json()["error"]["code"].is_i64(), "{}", answer.json());
    assert_eq!(
        answer.session(),
        upstream.sessions().last().map(String::as_str)
    );
}

/// C6, E9: interceptors see each event of a stream, in its order.
#[tokio::test]
async fn c6_every_event_is_seen_in_order() {
    let settings = Settings {
        gateway: "log = { format = \"json\", level = \"thinpipe=info,thinpipe::messages=info\" }",
        upstream: "[[upstreams.interceptors]]\ntype = \"log\"",
    };
    let (_upstream, gateway, client) = start(Mode::Pass, settings).await;
    let call = rpc::call_with("seen", "progress", &json!({"steps": 20}));
    assert_eq!(client.post(call).await.events_to_end().await.0.len(), 21);
    gateway.process.line_with("\"sequence\":20").await;
    let lines = gateway.process.lines();
    let messages = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let events: Vec<_> = messages
        .filter(|line| line["direction"] == "ToClient")
        .filter(|line| line["method"] == "\"notifications/progress\"" || line["id"] == "\"seen\"")
        .map(|line| line["sequence"].clone())
        .collect();
    assert_eq!(
        events,
        (0..=20).map(|n| json!(n)).collect::<Vec<_>>(),
        "{lines:#?}"
    );
}

/// C14, R164, R165, R166, R169: what nobody changes leaves as it came, even when all of it is read. (Only a
/// comment within an event is left out, and a lone CR at the end of one is completed.)
#[tokio::test]
async fn c14_read_events_leave_as_they_came() {
    let (upstream, _gateway, client) = start(Mode::Inspect, Settings::default()).await;
    let (x, done) = (
        r#"{"jsonrpc":"2.0","method":"x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    );
    let bytes = [
        format!(": comment\n\ndata: {x}\n\n"),
        format!("data: {x}\r\n\r\n"),
        format!("id: 1\r\nevent: message\r\nfoo: bar\r\ndata:{x}\r\nretry: 12\r\n\r\n"),
        "data: {\ndata:  \"jsonrpc\": \"2.0\",\ndata: \"method\":\"x\"  \ndata: }\n\n".to_owned(),
        "id: priming\ndata:\n\n".to_owned(),
        "id: only an id\n\n".to_owned(),
        format!("event: foreign\ndata: anything at all\n\ndata: {done}\n\n"),
    ]
    .concat();
    let offsets: Vec<_> = (1..bytes.len()).step_by(7).collect();
    upstream.on(
        "tools/call",
        Script::events().split(bytes.clone(), &offsets),
    );
    let body = client.post(rpc::call(1, "echo")).await.read_to_end().await;
    assert_eq!(String::from_utf8_lossy(&body), bytes);
}

/// Protocol notes 3.2: an event that is no message cannot be judged, so it is not shown; the stream goes on,
/// and so does the cursor.
#[tokio::test]
async fn events_that_are_no_messages_are_skipped() {
    let (upstream, _gateway, client) = start(Mode::Inspect, Settings::default()).await;
    let script = Script::events()
        .event(Event::data("{\"jsonrpc\":").with_id("bad-0"))
        .event(Event::data("{\"id\":1,\"id\":2}"))
        .message(rpc::text_result("done"));
    upstream.on("tools/call", script);
    let events = events_of(&client, rpc::call(1, "echo")).await;
    let shown: Vec<_> = events
        .iter()
        .map(|event| (event.id.as_deref(), event.has_message()))
        .collect();
    assert_eq!(shown, [(Some("bad-0"), false), (None, true)]);
}

/// R171: an event larger than may be read ends the request with an error, within bounded memory.
#[tokio::test]
async fn r171_oversized_events_end_the_request() {
    let settings = Settings::of_upstream("max_message = \"64 KiB\"");
    let (upstream, _gateway, client) = start(Mode::Inspect, settings).await;
    let long = rpc::notification("x", &json!({"long": "x".repeat(100_000)}));
    let script = Script::events().message(rpc::progress(1, 2)).message(long);
    upstream.on("tools/call", script.stall());
    let mut response = client.post(rpc::call(1, "echo")).await;
    assert_eq!(response.next_message().await["params"]["progress"], 1);
    let answer = response.next_message().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["data"]["reason"]),
        (&json!(1), &json!("message_too_large"))
    );
    assert_eq!(response.next_event().await, None);
}
