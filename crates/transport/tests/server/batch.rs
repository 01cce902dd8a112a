//! Batches: 2025-03-26 only, never seen by the handler.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use thinpipe_testkit::rpc;
use tokio_util::task::TaskTracker;

use crate::support::{LARGE, Running, call, config, start, until};

fn array(messages: &[String]) -> String {
    format!("[{}]", messages.join(","))
}

/// R085, B17: one response for each request, as an array.
#[tokio::test]
async fn r085_requests_of_a_batch_are_all_answered() {
    let running = start(config()).await;
    let client = running.client("2025-03-26").await;
    let body = array(&[call(1, "echo"), rpc::initialized(), call(2, "echo")]);
    let mut response = client.post(body).await;
    assert_eq!(response.status, 200);
    let ids: Vec<Value> = response
        .json()
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].clone())
        .collect();
    assert_eq!(ids, [json!(1), json!(2)]);
    let mut single = client.post(array(&[call(3, "echo")])).await;
    assert_eq!(
        single.json().await.as_array().map(Vec::len),
        Some(1),
        "one is an array too"
    );
}

/// R085: with an answer that streams, all answers travel as events of one stream.
#[tokio::test]
async fn r085_batch_with_a_stream_is_one_stream() {
    let running = start(config()).await;
    let client = running.client("2025-03-26").await;
    let mut response = client
        .post(array(&[call(1, "stream"), call(2, "echo")]))
        .await;
    assert!(response.is_stream());
    assert_eq!(response.next_message().await["id"], 2);
    let sender = running.sample.newest_stream();
    running.sample.streams.lock().unwrap().clear();
    sender
        .send("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n".into())
        .await
        .unwrap();
    drop(sender);
    assert_eq!(response.next_message().await["id"], 1);
    assert_eq!(
        response.next_event().await,
        None,
        "and then the stream ends"
    );
}

/// R086: notifications and responses alone get 202.
#[tokio::test]
async fn r086_batch_without_requests_gets_202() {
    let running = start(config()).await;
    let client = running.client("2025-03-26").await;
    let response = rpc::response(1, &json!({}));
    assert_eq!(
        client
            .post(array(&[rpc::initialized(), rpc::initialized()]))
            .await
            .status,
        202
    );
    assert_eq!(client.post(array(&[response])).await.status, 202);
}

/// R087, R088, R089: what no batch may be.
#[tokio::test]
async fn r089_batches_that_are_refused() {
    let running = start(config()).await;
    let old = running.client("2025-03-26").await;
    let initialize = rpc::initialize(9, "2025-03-26");
    for body in [
        "[]".to_owned(),
        array(&[initialize]),
        array(&[call(1, "a"), call(1, "a")]),
        "[1]".into(),
    ] {
        let mut refused = old.post(&body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.json().await["error"]["code"], -32600, "{body}");
    }
    for revision in ["2025-06-18", "2025-11-25"] {
        let client = running.client(revision).await;
        let mut refused = client.post(array(&[call(1, "echo")])).await;
        assert_eq!(refused.status, 400, "{revision}");
        assert_eq!(refused.json().await["error"]["code"], -32600);
    }
}

/// R085: what is no response to its request becomes an error with its id.
#[tokio::test]
async fn r085_elements_that_are_no_response_become_errors() {
    let running = start(config()).await;
    let client = running.client("2025-03-26").await;
    let body = array(&[call(1, "nothing"), call(2, "nonsense"), call(3, "echo")]);
    let answers = client.post(body).await.json().await;
    for (at, id) in [(0, 1), (1, 2)] {
        assert_eq!(answers[at]["id"], id, "{answers}");
        assert_eq!(answers[at]["error"]["code"], -32603, "{answers}");
    }
    assert!(answers[2]["result"].is_object(), "{answers}");
}

/// B10: a batch cannot get around the limit of requests, outside of a session either.
#[tokio::test]
async fn b10_batch_is_bounded_without_a_session() {
    let mut config = config();
    config.allow_sessionless = true;
    config.limits.max_requests_per_session = 2;
    let running = start(config).await;
    let post = |body| {
        let stranger = running.stranger().post(body);
        stranger.header("mcp-protocol-version", "2025-03-26")
    };
    let two = array(&[call(1, "echo"), call(2, "echo")]);
    assert_eq!(post(two).await.status, 200);
    let three = array(&[call(1, "echo"), call(2, "echo"), call(3, "echo")]);
    assert_eq!(post(three).await.status, 400);
}

/// A server with room for one large answer, but not for two.
async fn with_little_room() -> Running {
    let mut config = config();
    config.limits.max_batch = LARGE + LARGE / 2;
    start(config).await
}

fn reasons(answers: &Value) -> Vec<&str> {
    let answers = answers.as_array().into_iter().flatten();
    answers
        .map(|answer| {
            answer["error"]["data"]["reason"]
                .as_str()
                .unwrap_or_default()
        })
        .collect()
}

/// B2: what is held of a batch has one bound for all its answers: the one that has no room becomes an error
/// that says so, the others arrive.
#[tokio::test]
async fn b2_answers_of_a_batch_share_one_bound() {
    let running = with_little_room().await;
    let client = running.client("2025-03-26").await;
    let calls = [call(1, "large"), call(2, "large"), call(3, "echo")];
    let answers = client.post(array(&calls)).await.json().await;
    assert_eq!(reasons(&answers), ["", "message_too_large", ""]);
    assert_eq!(answers[1]["id"], 2);
    let alone = client.post(array(&[call(4, "large")])).await.json().await;
    assert_eq!(reasons(&alone), [""]);
}

/// B2: the same for answers that come little by little; what an answer that was given up had taken is there
/// for the others.
#[tokio::test]
async fn b2_answers_that_grow_share_the_bound() {
    let running = with_little_room().await;
    let client = running.client("2025-03-26").await;
    let calls = [call(1, "slow body"), call(2, "slow body")];
    let waiting = client.post(array(&calls)).send().await;
    until("both bodies have begun", || {
        running.sample.streams.lock().unwrap().len() == 2
    })
    .await;
    let bodies = std::mem::take(&mut *running.sample.streams.lock().unwrap());
    let [first, second] = &bodies[..] else {
        panic!("two bodies");
    };
    let large = "x".repeat(LARGE);
    let begin = |id: u64| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"text":"{large}"#);
    first.send(begin(1).into()).await.unwrap();
    second.send(begin(2).into()).await.unwrap();
    // It is given up: nobody takes any more of it.
    second.closed().await;
    first.send(r#""}}"#.into()).await.unwrap();
    drop(bodies);
    let answers = waiting.response().await.json().await;
    assert_eq!(reasons(&answers), ["", "message_too_large"]);
    assert_eq!(answers[0]["result"]["text"], large);
}

/// B2: on a stream an answer gives its room back as soon as it is written, so that any number of them fit.
#[tokio::test]
async fn b2_answers_on_a_stream_give_their_room_back() {
    let running = with_little_room().await;
    let client = running.client("2025-03-26").await;
    let calls = [
        call(1, "stream"),
        call(2, "slow body"),
        call(3, "slow body"),
    ];
    let mut response = client.post(array(&calls)).await;
    until("both bodies have begun", || {
        running.sample.streams.lock().unwrap().len() == 3
    })
    .await;
    let bodies = std::mem::take(&mut *running.sample.streams.lock().unwrap());
    let large = "x".repeat(LARGE);
    for (body, id) in bodies.into_iter().skip(1).zip([2, 3]) {
        let whole = rpc::response(id, &json!({ "text": large }));
        body.send(whole.into()).await.unwrap();
        drop(body);
        let answer = response.next_message().await;
        assert_eq!(
            (&answer["id"], &answer["result"]["text"]),
            (&json!(id), &json!(large))
        );
    }
}

/// C22: at the end of the drain whoever waits on the stream of a batch hears, by the id, that no answer comes.
#[tokio::test]
async fn c22_a_batch_that_is_cut_short_says_so() {
    let mut config = config();
    config.limits.drain = Duration::from_millis(200);
    let running = start(config).await;
    let client = running.client("2025-03-26").await;
    let calls = [call(1, "stream"), call(2, "wait"), call(3, "slow body")];
    let mut response = client.post(array(&calls)).await;
    until("all have begun", || {
        running.sample.begun.load(Ordering::SeqCst) == 3
    })
    .await;
    let server = running.server.clone();
    let down = TaskTracker::new().spawn(async move { server.shut_down().await });
    let (events, end) = response.events_to_end().await;
    assert_eq!(end, Ok(()));
    let answers: Vec<_> = events
        .iter()
        .filter(|event| event.has_message())
        .map(|event| event.json())
        .collect();
    let told: Vec<_> = answers
        .iter()
        .map(|answer| (&answer["id"], &answer["error"]["data"]["reason"]))
        .collect();
    let reason = &json!("shutting_down");
    assert_eq!(told, [(&json!(2), reason), (&json!(3), reason)]);
    down.await.unwrap();
}
