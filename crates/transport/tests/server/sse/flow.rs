//! What a client sees when all is well.

use bytes::Bytes;
use serde_json::json;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_testkit::{Client, SseClient, rpc};

use super::support::{Setup, start};
use crate::support::{call, until};

/// A8, A9, R040, R041, T3: the stream's headers, and its first event: raw text, an absolute path.
#[tokio::test]
async fn a9_the_first_event_names_where_to_post() {
    let running = start(Setup::default()).await;
    let mut stream = Client::new(&running.sse_url()).request("GET").await;
    assert_eq!(stream.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(stream.header(name), Some(value), "{name}");
    }
    let first = stream.next_event().await.unwrap();
    assert_eq!(first.kind.as_deref(), Some("endpoint"));
    assert_eq!((first.retry, first.id), (Some(3_000), None));
    let endpoint = first.data.unwrap();
    let id = endpoint.strip_prefix("/messages?sessionId=").unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
}

/// A10, A11, R042, T3, T5, T9: a whole session as an SDK's client leads it. Each answer is one `message`
/// event with the JSON as it is, and the response to the POST says nothing but that it was taken.
#[tokio::test]
async fn a10_answers_come_as_message_events() {
    let running = start(Setup::default()).await;
    let mut client = running.sse().await;
    let mut taken = client.post(rpc::initialize(0, "2024-11-05")).await;
    assert_eq!(taken.status, 202);
    assert_eq!(taken.read_to_end().await, "Accepted");
    let event = client.stream.next_event().await.unwrap();
    assert_eq!(event.kind.as_deref(), Some("message"));
    let answer = event.json();
    assert_eq!(answer["id"], 0);
    assert_eq!(answer["result"]["protocolVersion"], "2024-11-05");
    client.tell(rpc::initialized()).await;
    let answer = client.ask(rpc::call("0", "echo")).await;
    assert_eq!(answer["id"], "0", "an id keeps its type");
    assert_eq!(answer["result"]["content"][0]["text"], "done");
    client.tell(rpc::response(7, &json!({}))).await;
}

/// A5, T7: such a session is in the one list of sessions, knows its binding, and its record says so too.
#[tokio::test]
async fn a5_sessions_of_both_bindings_are_in_one_list() {
    let running = start(Setup::default()).await;
    let streamable = running.client("2025-11-25").await;
    let mut client = running.sse().await;
    let sessions = running.server.sessions();
    let legacy = || {
        let mut found = sessions.list().into_iter();
        found.find(|s| s.binding() == Binding::HttpSse).unwrap()
    };
    assert_eq!(legacy().revision(), Revision::V2024_11_05);
    client.initialize("2025-06-18").await;
    assert_eq!(
        (sessions.list().len(), running.server.stats().sessions),
        (2, 2)
    );
    let record = legacy().record();
    assert_eq!(legacy().revision(), Revision::V2025_06_18);
    assert_eq!(
        (record.binding, record.revision),
        (Binding::HttpSse, Revision::V2025_06_18)
    );
    assert_eq!(record.attachment, "the handler's own");
    let params = String::from_utf8_lossy(&record.initialize_params).into_owned();
    assert!(params.contains("clientInfo"), "{params}");
    // Neither kind is found where the other one lives.
    let other = Client::new(&running.url).post(call(1, "echo"));
    assert_eq!(
        other
            .header("mcp-session-id", client.session())
            .await
            .status,
        404
    );
    let id = streamable.session().unwrap();
    let other = Client::new(&format!(
        "http://{}/messages?sessionId={id}",
        running.address
    ));
    let other = other
        .request("POST")
        .header("content-type", "application/json");
    assert_eq!(other.body(call(1, "echo")).await.status, 404);
}

/// A6, A12, B20, T4: three sessions with equal ids in flight; each gets its own answer, and no other.
#[tokio::test]
async fn a12_equal_ids_in_different_sessions() {
    let running = start(Setup::default()).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(running.sse_client().await);
    }
    for client in &clients {
        client.tell(call(1, "wait")).await;
    }
    until("all of them run", || {
        running
            .sample
            .begun
            .load(std::sync::atomic::Ordering::SeqCst)
            == 3
    })
    .await;
    // One that is answered meanwhile, to see that nothing of the others comes in between.
    let answer = clients[1].ask(call(2, "echo")).await;
    assert_eq!(answer["id"], 2);
    running.sample.gate.lock().unwrap().open();
    for client in &mut clients {
        let answer = client.stream.next_message().await;
        assert_eq!(answer["id"], 1);
        assert_eq!(answer["result"]["content"], json!([]));
        let next = client.ask(call(3, "echo")).await;
        assert_eq!(next["id"], 3, "each got one answer");
    }
}

/// A6, R045: what the handler says unasked, and an answer that comes as events, go to the same stream.
#[tokio::test]
async fn a6_streams_of_the_handler_are_merged() {
    let running = start(Setup::default()).await;
    let mut client = running.sse_client().await;
    let streams = || running.sample.streams.lock().unwrap().len();
    until("the handler was asked what it says unasked", || {
        streams() == 1
    })
    .await;
    let unasked = running.sample.newest_stream();
    client.tell(call(1, "stream")).await;
    until("the call runs", || streams() == 2).await;
    let answering = running.sample.newest_stream();
    let say = |text: &'static str| Bytes::from_static(text.as_bytes());
    unasked
        .send(say(": ka\n\nid: 4\ndata: {\"jsonrpc\":\"2.0\",\n"))
        .await
        .unwrap();
    unasked
        .send(say(
            "data: \"method\":\"notifications/a\"}\n\nid: 5\ndata:\n\n",
        ))
        .await
        .unwrap();
    let first = client.stream.next_event().await.unwrap();
    assert_eq!(
        (first.id.as_deref(), first.kind.as_deref()),
        (None, Some("message"))
    );
    assert_eq!(first.json()["method"], "notifications/a");
    let both = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/b\"}\n\n\
                data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n";
    answering.send(say(both)).await.unwrap();
    assert_eq!(
        client.stream.next_message().await["method"],
        "notifications/b"
    );
    assert_eq!(client.stream.next_message().await["id"], 1);
    // Once: a client that says it is initialized again does not get everything twice.
    client.tell(rpc::initialized()).await;
    assert_eq!(client.ask(call(2, "echo")).await["id"], 2);
    assert_eq!(streams(), 2);
}

/// R041: the messages path as the client sees it, behind a proxy that strips a prefix.
#[tokio::test]
async fn r041_the_public_base_is_in_the_endpoint() {
    let mut setup = Setup::default();
    setup.sse.public_base = "/gateway".parse().unwrap();
    let running = start(setup).await;
    let client = running.sse().await;
    let prefix = "/gateway/messages?sessionId=";
    assert!(
        client.endpoint().starts_with(prefix),
        "{}",
        client.endpoint()
    );
}

/// T6, A13: an id or a cursor that a client brings along is not taken: a new stream is a new session.
#[tokio::test]
async fn t6_a_stream_is_always_a_new_session() {
    let running = start(Setup::default()).await;
    let first = running.sse_client().await;
    let again = Client::new(&format!(
        "{}?sessionId={}",
        running.sse_url(),
        first.session()
    ));
    let again = SseClient::opening(&again).header("last-event-id", "7");
    let again = again.header("mcp-session-id", first.session()).await;
    let mut second = SseClient::of(again, &Client::new(&running.sse_url())).await;
    assert_ne!(first.session(), second.session());
    let before = second.ask(call(1, "echo")).await;
    assert_eq!(before["error"]["code"], -32600, "it is not initialized");
}

/// A11, A20: the answer in the response to the POST, where that was configured, and then not on the stream.
#[tokio::test]
async fn a11_inline_answers_are_not_on_the_stream() {
    let mut setup = Setup::default();
    setup.sse.inline_json = true;
    let running = start(setup).await;
    let mut client = running.sse().await;
    let mut opened = client.post(rpc::initialize(0, "2024-11-05")).await;
    assert_eq!(
        (opened.status, opened.header("content-type")),
        (200, Some("application/json"))
    );
    assert_eq!(opened.json().await["id"], 0);
    client.tell(rpc::initialized()).await;
    let mut answer = client.post(call(1, "echo")).await;
    assert_eq!(answer.json().await["id"], 1);
    drop((opened, answer));
    // Of an answer in events, the response only.
    let calling = client.post(call(2, "stream")).send().await;
    until("both streams", || {
        running.sample.streams.lock().unwrap().len() == 2
    })
    .await;
    let both = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/b\"}\n\n\
                data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n\n";
    let answering = running.sample.newest_stream();
    answering
        .send(Bytes::from_static(both.as_bytes()))
        .await
        .unwrap();
    assert_eq!(calling.response().await.json().await["id"], 2);
    let only = client.stream.next_message().await;
    assert_eq!(
        only["method"], "notifications/b",
        "nothing was there before it"
    );
    // Its client has left: the session has not, so the answer comes on the stream.
    client.post(call(3, "wait")).send().await.close();
    until("it runs", || {
        running
            .sample
            .begun
            .load(std::sync::atomic::Ordering::SeqCst)
            == 3
    })
    .await;
    until("its POST is gone", || {
        running.server.stats().connections_open == 1
    })
    .await;
    running.sample.gate.lock().unwrap().open();
    assert_eq!(client.stream.next_message().await["id"], 3);
}
