//! What interceptors read is held whole, within one budget for everything.

use std::time::Duration;

use serde_json::json;
use thinpipe_testkit::{DEADLINE, Event, Gate, Response, Script, Upstream, rpc};

use crate::support::{Gateway, Mode, Settings};

/// Room for one large message and not for two.
const LIMITS: &str = "limits = { max_buffered = \"1 MiB\", max_body = \"1 MiB\" }";
const MESSAGES: &str = "max_message = \"1 MiB\"";
const LARGE: usize = 700 << 10;

async fn start(upstream: &Upstream, interceptors: &str) -> Gateway {
    let settings = Settings {
        gateway: LIMITS,
        upstream: &format!("{MESSAGES}\n{interceptors}"),
    };
    let mode = match interceptors {
        "" => Mode::Inspect,
        _ => Mode::Pass,
    };
    Gateway::start(upstream, mode, settings).await
}

/// Until `/status` says that so many bytes are held.
async fn holds(gateway: &Gateway, what: &str, fits: impl Fn(u64) -> bool) {
    let look = async {
        loop {
            let status = gateway.status().await;
            let held = status["server"]["buffered_bytes"]
                .as_u64()
                .expect("a figure");
            if fits(held) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let looked = tokio::time::timeout(DEADLINE, look).await;
    assert!(
        looked.is_ok(),
        "never so: {what}; {}",
        gateway.status().await["server"]
    );
}

/// Three quarters of a large answer, then the rest.
fn slow_answer(gate: &Gate, announced: bool) -> Script {
    let result = rpc::result(json!({"text": "x".repeat(LARGE)})).replace(rpc::REQUEST_ID, "1");
    let (first, rest) = result.split_at(LARGE / 4 * 3);
    let script = Script::status(200).content_type("application/json");
    let script = match announced {
        true => script.length(result.len() as u64),
        false => script.chunked(),
    };
    script
        .body(first.to_owned())
        .wait(gate)
        .body(rest.to_owned())
}

async fn assert_no_room(mut response: Response, id: u64) {
    assert_eq!(
        (response.status, response.header("Retry-After")),
        (502, None),
        "its call may have run"
    );
    let error = response.json().await;
    assert_eq!(
        (&error["id"], &error["error"]["data"]["reason"]),
        (&json!(id), &json!("buffer_full"))
    );
    assert_eq!(error["error"]["data"]["upstream"], "server");
    let text = error["error"]["message"].as_str().expect("a text");
    assert!(text.contains("may have run"), "{text}");
}

/// C10, B10: answers that interceptors read share the budget. One without room is an error that invites no
/// retry, small ones pass, and a client that leaves in the middle leaves nothing behind.
#[tokio::test]
async fn c10_answers_that_are_read_share_one_budget() {
    for announced in [true, false] {
        let upstream = Upstream::start().await;
        let gateway = start(&upstream, "").await;
        let client = gateway.client().await;
        let gate = Gate::new();
        upstream.on("tools/call:slow", slow_answer(&gate, announced));
        let first = client.post(rpc::call(1, "slow")).send().await;
        holds(&gateway, "the first answer is held", |held| {
            held >= LARGE as u64 / 4 * 3
        })
        .await;
        let refused = client.post(rpc::call(2, "slow")).await;
        assert_no_room(refused, 2).await;
        assert_eq!(client.post(rpc::call(3, "echo")).await.status, 200);

        first.close();
        gate.open();
        holds(&gateway, "nothing is held", |held| held == 0).await;
        let mut answered = client.post(rpc::call(1, "slow")).await;
        assert_eq!(answered.status, 200);
        assert!(answered.read_to_end().await.len() > LARGE);
        holds(&gateway, "nothing is held", |held| held == 0).await;
    }
}

/// C10, C25: an answer is held until its client has read it, also one that an interceptor changed.
#[tokio::test]
async fn c25_answers_are_held_until_they_are_read() {
    const ANSWER: usize = 12 << 20;
    let changes =
        "[[upstreams.interceptors]]\ntype = \"redact\"\nrules = [{ pointer = \"/result/secret\" }]";
    let upstream = Upstream::start().await;
    let settings = Settings {
        gateway: "limits = { max_buffered = \"30 MiB\" }",
        upstream: changes,
    };
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    let client = gateway.client().await;
    let plain = rpc::result(json!({"text": "x".repeat(ANSWER)}));
    let secret = rpc::result(json!({"text": "x".repeat(ANSWER), "secret": "s"}));
    for answer in [plain, secret] {
        upstream.on("tools/call", Script::json(answer));
        let unread = client.post(rpc::call(1, "echo")).receive_buffer(4096);
        let response = unread.await;
        assert_eq!(response.status, 200);
        holds(&gateway, "the answer is held once", |held| {
            (ANSWER as u64..ANSWER as u64 + (1 << 20)).contains(&held)
        })
        .await;
        drop(response);
        holds(&gateway, "nothing is held", |held| held == 0).await;
    }
}

/// B2, B10: a request that an interceptor changed is held as the one that came.
#[tokio::test]
async fn b10_changed_requests_share_the_budget() {
    let changes = "[[upstreams.interceptors]]\ntype = \"redact\"\nrules = [{ pointer = \"/params/arguments/secret\" }]";
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, changes).await;
    let client = gateway.client().await;
    let gate = Gate::new();
    let answer = Script::json(rpc::text_result("done")).late(&gate);
    upstream.on("tools/call", answer);
    let call = |id: u64, length: usize| {
        let arguments = json!({"secret": "s", "text": "x".repeat(length)});
        rpc::call_with(id, "echo", &arguments)
    };
    let first = client.post(call(1, LARGE / 2)).send().await;
    gate.reached().await;
    holds(&gateway, "the changed request is held", |held| {
        (LARGE as u64 / 2..LARGE as u64).contains(&held)
    })
    .await;
    let mut refused = client.post(call(2, LARGE / 2)).await;
    let error = refused.json().await;
    assert_eq!(
        (&error["id"], &error["error"]["data"]["reason"]),
        (&json!(2), &json!("buffer_full")),
        "there is room for what came, and not for what is put in its place"
    );
    assert_eq!(upstream.record().count("tools/call"), 1);
    gate.open();
    assert_eq!(first.response().await.status, 200);
    holds(&gateway, "nothing is held", |held| held == 0).await;
}

/// E1, B10: events that interceptors read share the budget. Where one has no room, its request is answered with
/// an error in band; other streams go on.
#[tokio::test]
async fn b10_events_that_are_read_share_the_budget() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, "").await;
    let client = gateway.client().await;
    let gate = Gate::new();
    let large = Event::message(rpc::notification("x", &json!({"p": "y".repeat(LARGE)})));
    let most = LARGE / 4 * 3;
    let script = Script::events()
        .message(rpc::progress(1, 2))
        .part_of(large.clone(), most)
        .wait(&gate)
        .rest_of(large, most)
        .message(rpc::text_result("done"));
    upstream.on("tools/call:large", script);
    let mut first = client.post(rpc::call(1, "large")).await;
    first.next_message().await;
    holds(&gateway, "most of the event is held", |held| {
        held >= most as u64
    })
    .await;
    let mut second = client.post(rpc::call(2, "large")).await;
    second.next_message().await;
    let error = second.next_message().await;
    assert_eq!(
        (&error["id"], &error["error"]["data"]["reason"]),
        (&json!(2), &json!("buffer_full"))
    );
    assert_eq!(second.next_event().await, None);

    gate.open();
    assert_eq!(first.next_message().await["method"], "x");
    assert_eq!(first.next_message().await["id"], 1);
    holds(&gateway, "nothing is held", |held| held == 0).await;
}

/// B10: the answer to `initialize` is read too, as JSON and as events.
#[tokio::test]
async fn b10_answers_to_initialize_share_the_budget() {
    let upstream = Upstream::start().await;
    let gateway = start(&upstream, "").await;
    let client = gateway.client().await;
    let gate = Gate::new();
    upstream.on("tools/call:slow", slow_answer(&gate, true));
    let first = client.post(rpc::call(1, "slow")).send().await;
    let most = LARGE as u64 / 4 * 3;
    holds(&gateway, "what has come of it is held", |held| held >= most).await;
    let result = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "instructions": "x".repeat(LARGE),
        "serverInfo": {"name": "s", "version": "1"},
    });
    let as_json = Script::json(rpc::result(result.clone()));
    let as_events = Script::events().message(rpc::result(result));
    for script in [as_json.clone(), as_events.clone()] {
        upstream.once("initialize", script);
        let stranger = gateway.stranger();
        let refused = stranger.post(rpc::initialize(4, "2025-11-25")).await;
        assert_no_room(refused, 4).await;
    }
    gate.open();
    assert_eq!(first.response().await.status, 200);
    holds(&gateway, "nothing is held", |held| held == 0).await;
    for script in [as_json, as_events] {
        upstream.once("initialize", script);
        let opened = gateway.stranger().post(rpc::initialize(5, "2025-11-25"));
        let answer = opened.await.answer().await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
        holds(&gateway, "nothing is held", |held| held == 0).await;
    }
}

/// B2, B17: what is held of a batch has a bound of its own. Of two answers that say how long they are, the
/// second is refused before it is read, and its call has a place in the array all the same.
#[tokio::test]
async fn b2_answers_to_a_batch_have_a_bound_of_their_own() {
    let upstream = Upstream::start().await;
    let settings = Settings {
        gateway: "limits = { max_batch = \"1 MiB\" }",
        upstream: "",
    };
    let gateway = Gateway::start(&upstream, Mode::Pass, settings).await;
    let client = gateway.client_of("2025-03-26").await;
    let large = rpc::result(json!({"text": "x".repeat(LARGE)}));
    upstream.on("tools/call", Script::json(large));
    let batch = format!("[{},{}]", rpc::call(1, "a"), rpc::call(2, "b"));
    let answers = client.post(batch).await.json().await;
    let mut refused = Vec::new();
    for answer in answers.as_array().expect("an array") {
        refused.extend(answer["error"]["data"]["reason"].as_str());
    }
    assert_eq!(
        (refused, answers[1]["id"].as_u64()),
        (vec!["message_too_large"], Some(2))
    );
    holds(&gateway, "nothing is held", |held| held == 0).await;
}
