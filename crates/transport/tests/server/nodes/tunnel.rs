//! A request that comes to a node which does not hold its session.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderName;
use thinpipe_store::Inbox;
use thinpipe_testkit::{Client, Gate, SseClient};
use thinpipe_transport::server::ServerConfig;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::support::Shelf;
use crate::support::{HUGE, LARGE, call, until};

/// F8, R070: a session that lives on one node is served by any: its answer is the owner's, byte for byte, and
/// nothing runs twice.
#[tokio::test]
async fn f8_any_node_answers_for_a_session_that_another_holds() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    assert_eq!(
        shelf.owner(client.session().unwrap()).await,
        Some(one.name())
    );
    let visitor = other.as_client(&client);
    for tool in ["echo", "large", "nothing", "nonsense"] {
        let (mut here, mut there) = (
            client.post(call(1, tool)).await,
            visitor.post(call(1, tool)).await,
        );
        assert_eq!(here.status, there.status, "{tool}");
        for name in ["content-type", "cache-control", "content-length"] {
            assert_eq!(here.header(name), there.header(name), "{tool}: {name}");
        }
        assert_eq!(
            here.read_to_end().await,
            there.read_to_end().await,
            "{tool}"
        );
    }
    assert_eq!(one.sample().begun.load(Ordering::SeqCst), 8);
    assert_eq!(other.sample().begun.load(Ordering::SeqCst), 0);
    let told = visitor.post(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    assert_eq!(told.await.status, 202);
    assert_eq!(other.running.server.stats().sessions, 0);
    one.is_idle().await;
    other.is_idle().await;
}

/// F8: a body that is larger than what may be on its way comes whole.
#[tokio::test]
async fn f8_large_answers_are_the_same_bytes() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let mut huge = other.as_client(&client).post(call(1, "huge")).await;
    let body = huge.read_to_end().await;
    assert!(body.len() > HUGE && body.len() > LARGE);
    assert_eq!(body, client.post(call(1, "huge")).await.read_to_end().await);
    one.is_idle().await;
    other.is_idle().await;
}

/// F8, R085: a batch is a batch on the owner too.
#[tokio::test]
async fn f8_batches_go_through() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.running.client("2025-03-26").await;
    let visitor = other.as_client(&client);
    let batch = format!("[{},{}]", call(1, "echo"), call(2, "echo"));
    let mut answered = visitor
        .post(batch)
        .replace("mcp-protocol-version", "2025-03-26")
        .await;
    let answers = answered.json().await;
    assert_eq!(
        (&answers[0]["id"], &answers[1]["id"]),
        (&1.into(), &2.into())
    );
}

/// F8, 5.9.21: events come one by one, as the owner says them, on a POST and on a GET; and the standalone
/// stream ends when its client has left.
#[tokio::test]
async fn f8_streams_go_through_event_by_event() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let visitor = other.as_client(&client);
    for opening in [visitor.post(call(1, "stream")), visitor.get()] {
        let mut stream = opening.await;
        assert!(stream.is_stream());
        let sender = one.sample().newest_stream();
        for n in 0..3 {
            let event = format!("id: e{n}\ndata: {{\"n\":{n}}}\n\n");
            sender.send(event.into()).await.unwrap();
            let event = stream.next_event().await.unwrap();
            assert_eq!(event.id.as_deref(), Some(&*format!("e{n}")));
        }
        drop(stream);
        sender.closed().await;
    }
    one.is_idle().await;
    other.is_idle().await;
}

/// C25: a client that does not read stops the handler on the owner, which goes on when the client does.
#[tokio::test(start_paused = true)]
async fn c25_a_slow_reader_stops_the_owner() {
    const EVENT: usize = 32 << 10;
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let opening = other.as_client(&client).post(call(1, "stream"));
    let connection = opening.receive_buffer(8 << 10).send().await;
    until("the stream is open", || {
        !one.sample().streams.lock().unwrap().is_empty()
    })
    .await;
    let sender = one.sample().newest_stream();
    let event = format!("data: {}\n\n", "x".repeat(EVENT));
    let mut sent = 0;
    // The clock goes on only when nobody has anything to do: it has stopped for good then.
    let moment = Duration::from_millis(1);
    while let Ok(Ok(())) = timeout(moment, sender.send(event.clone().into())).await {
        sent += 1;
        assert!(sent < 1000, "nothing stops it");
    }
    assert!(sent * EVENT <= 8 << 20, "{sent} events were taken");
    // The client reads: everything comes, and then more does.
    let mut response = connection.response().await;
    for _ in 0..sent {
        assert_eq!(
            response.next_event().await.unwrap().data.unwrap().len(),
            EVENT
        );
    }
    sender.send(event.clone().into()).await.unwrap();
    drop((sender, one.sample().streams.lock().unwrap().drain(..)));
    while let Some(event) = response.next_event().await {
        assert_eq!(event.data.unwrap().len(), EVENT);
    }
    one.is_idle().await;
    other.is_idle().await;
}

/// R074, 5.9.14: a client that leaves a call on another node cancels nothing: it runs to its end.
#[tokio::test]
async fn r074_leaving_another_node_cancels_nothing() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();
    let connection = other.as_client(&client).post(call(1, "wait")).send().await;
    gate.reached().await;
    drop(connection);
    until("the owner knows", || {
        one.running.server.stats().detached == 1
    })
    .await;
    assert_eq!(one.sample().finished.load(Ordering::SeqCst), 0);
    gate.open();
    until("it ran to its end", || {
        one.sample().finished.load(Ordering::SeqCst) == 1
    })
    .await;
    one.is_idle().await;
    other.is_idle().await;
}

/// R098: an id that is in use on the owner is in use on all nodes.
#[tokio::test]
async fn r098_ids_in_use_are_known_on_every_node() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();
    let visitor = other.as_client(&client);
    let waiting = visitor.post(call(1, "wait")).send().await;
    gate.reached().await;
    assert_eq!(visitor.post(call(1, "echo")).await.status, 400);
    assert_eq!(client.post(call(1, "echo")).await.status, 400);
    gate.open();
    assert_eq!(waiting.response().await.status, 200);
    assert_eq!(visitor.post(call(1, "echo")).await.status, 200);
}

/// D8: DELETE on any node ends a session on all of them.
#[tokio::test]
async fn d8_delete_on_another_node_ends_the_session() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let visitor = other.as_client(&client);
    assert_eq!(visitor.delete().await.status, 202);
    assert_eq!(visitor.post(call(1, "echo")).await.status, 404);
    assert_eq!(client.post(call(1, "echo")).await.status, 404);
    assert_eq!(shelf.records().await, 0);
    assert_eq!(one.running.server.stats().sessions, 0);
}

/// A30: a message of a client of HTTP+SSE that comes to another node than its stream is answered on its stream.
#[tokio::test]
async fn a30_messages_reach_the_stream_from_any_node() {
    let shelf = Shelf::default();
    let [one, other] = shelf.passing().await;
    let url = format!("http://{}/sse", one.running.address);
    let mut client = SseClient::open(&url).await;
    let there = Client::new(&format!(
        "http://{}{}",
        other.running.address,
        client.endpoint()
    ));
    let post = |message: String| {
        let request = there.request("POST");
        request
            .header("content-type", "application/json")
            .body(message)
    };
    let initialize = thinpipe_testkit::rpc::initialize(1, "2024-11-05");
    let mut taken = post(initialize).await;
    assert_eq!(
        (taken.status, &*taken.read_to_end().await),
        (202, &b"Accepted"[..])
    );
    assert_eq!(client.stream.next_message().await["id"], 1);
    assert_eq!(post(call(7, "echo")).await.status, 202);
    assert_eq!(client.stream.next_message().await["id"], 7);
    assert_eq!(post("nonsense".to_owned()).await.status, 400);
    assert_eq!(other.sample().begun.load(Ordering::SeqCst), 0);
    drop(client);
    until("the session has ended", || {
        one.running.server.stats().sessions == 0
    })
    .await;
    assert_eq!(post(call(8, "echo")).await.status, 404);
    one.is_idle().await;
    other.is_idle().await;
}

/// F10, 5.9.8: another principal's session does not exist on any node, whoever holds it.
#[tokio::test]
async fn f10_sessions_of_others_do_not_exist_on_any_node() {
    use thinpipe_transport::server::AccessToken;
    let shelf = Shelf::default();
    let config = || {
        let mut config = crate::support::config();
        config.tokens = ["alice", "bob"]
            .map(|name| AccessToken {
                principal: name.into(),
                token: format!("{name}-secret"),
            })
            .into();
        config
    };
    let (one, other) = (shelf.node(config()).await, shelf.node(config()).await);
    one.sample().holds.store(true, Ordering::SeqCst);
    let mut client = Client::new(&one.running.url).with_token("alice-secret");
    client.initialize("2025-11-25").await;
    let as_whom = |token: &str| {
        let request = other.as_client(&client).post(call(1, "echo"));
        request.header("authorization", &format!("Bearer {token}"))
    };
    assert_eq!(as_whom("bob-secret").await.status, 404);
    assert_eq!(as_whom("alice-secret").await.status, 200);
}

/// F10, C15: who can read what nodes say to each other learns no credentials of clients, nor what may be one.
#[tokio::test]
async fn f10_credentials_stay_where_they_were_sent_to() {
    let shelf = Shelf::default();
    let config = || ServerConfig {
        carried_headers: vec![HeaderName::from_static("x-tenant")],
        ..crate::support::config()
    };
    let (one, other) = (shelf.node(config()).await, shelf.node(config()).await);
    one.sample().holds.store(true, Ordering::SeqCst);
    let client = one.client().await;
    one.deafen().await;
    let asking = other.as_client(&client).post(call(1, "echo"));
    let asking = asking
        .header("authorization", "Bearer confidential")
        .header("proxy-authorization", "Basic confidential")
        .header("cookie", "login=confidential")
        .header("x-api-key", "confidential")
        .header("x-goog-api-key", "confidential")
        .header("x-nobody-knows", "confidential")
        .header("x-tenant", "what may be told")
        .header("traceparent", "a trace")
        .send()
        .await;
    let owner = one.name();
    let taken = shelf.inbox.take(&owner, 1, Duration::from_secs(10));
    let message = taken.await.unwrap().pop().expect("the request");
    let message = String::from_utf8_lossy(&message);
    for carried in ["what may be told", "a trace", "text/event-stream"] {
        assert!(message.contains(carried), "{message}");
    }
    assert!(!message.contains("confidential"), "{message}");
    drop(asking);
}

/// 5.8.2, 5.9.2: a failover of the store may bring back a request that was taken already: what has run does not run
/// again.
#[tokio::test]
async fn r073_a_request_that_comes_back_is_not_run_again() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let visitor = other.as_client(&client);
    one.deafen().await;
    let asking = visitor.post(call(1, "echo")).send().await;
    let owner = one.name();
    let taken = shelf.inbox.take(&owner, 1, Duration::from_secs(10));
    let request = taken.await.unwrap().pop().expect("the request");
    one.undeafen();
    shelf.inbox.deliver(&owner, request.clone()).await.unwrap();
    assert_eq!(asking.response().await.status, 200);
    one.is_idle().await;
    shelf.inbox.deliver(&owner, request).await.unwrap();
    // Messages are heeded in order.
    assert_eq!(visitor.post(call(2, "echo")).await.status, 200);
    one.is_idle().await;
    assert_eq!(one.sample().begun.load(Ordering::SeqCst), 2);
}

/// F8: what other nodes ask is answered by the threads that serve connections, as long as there are any, and not by
/// the one that reads what nodes say and says that this one is alive.
#[tokio::test]
async fn f8_threads_that_serve_connections_answer_for_other_nodes() {
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let client = one.client().await;
    let visitor = other.as_client(&client);
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, is_ready) = oneshot::channel();
    let server = one.running.server.clone();
    let worker = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(async {
            let _place = server.works_here();
            ready.send(()).unwrap();
            let _ = stopped.await;
        });
    });
    is_ready.await.unwrap();
    let who = || one.sample().thread.lock().unwrap().take();
    for call in [call(1, "echo"), call(2, "echo")] {
        assert_eq!(visitor.post(call).await.status, 200);
        assert_eq!(who(), Some(worker.thread().id()));
    }
    one.is_idle().await;
    stop.send(()).unwrap();
    worker.join().unwrap();
    assert_eq!(visitor.post(call(3, "echo")).await.status, 200);
    assert_eq!(who(), Some(std::thread::current().id()));
}

/// B10: a thousand calls at one time through another node are all answered, and nothing stays behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b10_a_thousand_calls_through_another_node() {
    const CLIENTS: u64 = 20;
    const CALLS: u64 = 50;
    let shelf = Shelf::default();
    let [one, other] = shelf.holding().await;
    let gate = Gate::new();
    *one.sample().gate.lock().unwrap() = gate.clone();
    let mut waiting = Vec::new();
    for _ in 0..CLIENTS {
        let client = one.client().await;
        for id in 0..CALLS {
            let request = other.as_client(&client).post(call(id, "wait"));
            waiting.push((id, request.send().await));
        }
    }
    until("all of them run", || {
        one.sample().begun.load(Ordering::SeqCst) as u64 == CLIENTS * CALLS
    })
    .await;
    gate.open();
    for (id, connection) in waiting {
        assert_eq!(connection.response().await.json().await["id"], id);
    }
    one.is_idle().await;
    other.is_idle().await;
}
