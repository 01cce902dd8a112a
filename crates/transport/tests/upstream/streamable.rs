//! Sessions of Streamable HTTP, over real sockets.

mod limits;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use thinpipe_proto::revision::Revision;
use thinpipe_testkit::{Cut, Event, Gate, Script, Upstream as Server, rpc};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::pipe::{Incoming, Pipe, PipeError, PipeReceiver};
use thinpipe_transport::upstream::streamable::{self, Reading};
use thinpipe_transport::upstream::{Upstream, UpstreamConfig};
use tokio_util::task::TaskTracker;

struct Setup {
    server: Server,
    upstream: Upstream,
    tasks: TaskTracker,
    pipe: Pipe,
}

fn bytes(text: impl Into<String>) -> Bytes {
    Bytes::from(text.into())
}

fn open(upstream: &Upstream, reading: Reading, tasks: &TaskTracker) -> Pipe {
    let budget = ByteBudget::default();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer x"));
    headers.insert("mcp-session-id", HeaderValue::from_static("other"));
    streamable::open(upstream, headers, reading, &budget, tasks)
}

/// An open session.
async fn session() -> Setup {
    session_of(Server::start().await).await
}

async fn session_of(server: Server) -> Setup {
    session_read(server, Reading::default()).await
}

async fn session_read(server: Server, reading: Reading) -> Setup {
    let url = server.url().parse().unwrap();
    let upstream = Upstream::new(UpstreamConfig::new("server".into(), url));
    let tasks = TaskTracker::new();
    let mut pipe = open(&upstream, reading, &tasks);
    let initialize = bytes(rpc::initialize("i", "2025-11-25"));
    pipe.sender.send(initialize).await.unwrap();
    let (answer, _) = message(&mut pipe.receiver).await;
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    pipe.sender.negotiated(Revision::V2025_11_25);
    pipe.sender.send(bytes(rpc::initialized())).await.unwrap();
    Setup {
        server,
        upstream,
        tasks,
        pipe,
    }
}

/// What comes next, but for signs of life.
async fn receive(receiver: &mut PipeReceiver) -> Incoming {
    loop {
        match receiver.receive().await.unwrap().unwrap() {
            Incoming::Alive { .. } => {}
            incoming => return incoming,
        }
    }
}

/// The next message, and the request on whose stream it came.
async fn message(receiver: &mut PipeReceiver) -> (Value, Option<Value>) {
    match receive(receiver).await {
        Incoming::Message { message, via } => {
            let via = via.map(|id| serde_json::from_slice(id.as_json()).unwrap());
            (serde_json::from_slice(message.source()).unwrap(), via)
        }
        other => panic!("{other:?}"),
    }
}

/// The request that was lost, and why.
async fn lost(receiver: &mut PipeReceiver) -> (String, PipeError) {
    match receive(receiver).await {
        Incoming::Lost { request, error } => {
            (String::from_utf8_lossy(request.as_json()).into(), error)
        }
        other => panic!("{other:?}"),
    }
}

/// R250: whoever keeps the time of a request hears that an event stream answers it, and of each comment on that.
#[tokio::test]
async fn r250_a_stream_shows_signs_of_life() {
    let Setup {
        server, mut pipe, ..
    } = session().await;
    let (head, comment) = (Gate::new(), Gate::new());
    let script = Script::events()
        .wait(&head)
        .event(Event::comment("still here"));
    let script = script.wait(&comment).message(rpc::text_result("done"));
    server.on("tools/call:echo", script);
    pipe.sender.send(bytes(rpc::call(7, "echo"))).await.unwrap();
    for gate in [head, comment] {
        let alive = pipe.receiver.receive().await.unwrap().unwrap();
        let is_it = matches!(&alive, Incoming::Alive { request } if request.as_json() == b"7");
        assert!(is_it, "{alive:?}");
        gate.open();
    }
    let (answer, _) = message(&mut pipe.receiver).await;
    assert_eq!(answer["result"]["content"][0]["text"], "done", "{answer}");
}

/// R230, R073: the session id that `initialize` gave and the revision go with everything after it, the
/// caller's headers with all of it; the end is told by DELETE, once.
#[tokio::test]
async fn r230_a_session_is_opened_used_and_ended() {
    let Setup {
        server,
        tasks,
        mut pipe,
        ..
    } = session().await;
    let id = server.sessions().remove(0);
    pipe.sender.send(bytes(rpc::call(7, "echo"))).await.unwrap();
    let (answer, via) = message(&mut pipe.receiver).await;
    assert_eq!((&answer["id"], via), (&json!(7), Some(json!(7))));
    tasks.close();
    drop(pipe);
    tasks.wait().await;
    assert!(server.sessions().is_empty());

    let record = server.record();
    let [initialize, initialized, call, delete] = &record.received[..] else {
        panic!("{record}")
    };
    assert_eq!(initialize.session(), None);
    assert_eq!(initialize.headers.get("mcp-protocol-version"), None);
    for request in [initialized, call, delete] {
        assert_eq!(request.session(), Some(&*id));
        let version = request.headers.get("mcp-protocol-version");
        assert_eq!(version, Some("2025-11-25"));
        assert_eq!(request.headers.get("authorization"), Some("Bearer x"));
    }
    assert_eq!(delete.method, "DELETE");
}

/// A server without sessions is told nothing, and 405 to DELETE is no error.
#[tokio::test]
async fn r230_a_server_may_have_no_session_and_no_delete() {
    let server = Server::start().await;
    server.set(|behaviour| behaviour.sessions = false);
    let setup = session_of(server).await;
    setup.tasks.close();
    setup.pipe.sender.close();
    setup.tasks.wait().await;
    assert_eq!(setup.server.record().count("DELETE"), 0);

    let setup = session().await;
    setup.server.on("DELETE", Script::status(405));
    setup.tasks.close();
    drop(setup.pipe);
    setup.tasks.wait().await;
    assert_eq!(setup.server.record().count("DELETE"), 1);
}

/// 5.1 "Association": each message comes with the request on whose stream it was sent, however many are open.
#[tokio::test]
async fn r233_messages_tell_their_stream() {
    let Setup {
        server, mut pipe, ..
    } = session().await;
    let gate = Gate::new();
    let asking = Script::events()
        .message(rpc::request("q", "elicitation/create", &json!({})))
        .wait(&gate)
        .message(rpc::text_result("asked"));
    server.once("tools/call:ask", asking);
    pipe.sender
        .send(bytes(rpc::call("a", "ask")))
        .await
        .unwrap();
    let (question, via) = message(&mut pipe.receiver).await;
    assert_eq!(question["id"], "q");
    assert_eq!(via, Some(json!("a")));
    // Another one is answered meanwhile.
    let progress = bytes(rpc::call(2, "progress"));
    pipe.sender.send(progress).await.unwrap();
    for method in [Some("notifications/progress"); 3]
        .into_iter()
        .chain([None])
    {
        let (heard, via) = message(&mut pipe.receiver).await;
        assert_eq!(heard.get("method").and_then(Value::as_str), method);
        assert_eq!(via, Some(json!(2)));
    }
    gate.open();
    let (answer, via) = message(&mut pipe.receiver).await;
    assert_eq!(answer["id"], "a");
    assert_eq!(via, Some(json!("a")));
}

/// R241: a stream that breaks off is resumed by GET after its last event, and counts as the same.
#[tokio::test]
async fn r241_a_stream_with_ids_is_resumed() {
    let Setup {
        server, mut pipe, ..
    } = session().await;
    server.open_stream(
        "s",
        vec![
            Event::priming("s-0").with_retry(10),
            Event::message(rpc::progress(1, 2)).with_id("s-1"),
        ],
    );
    server.once("tools/call", Script::stream_part("s", 2).cut(Cut::Fin));
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    let (progress, via) = message(&mut pipe.receiver).await;
    assert_eq!(progress["method"], "notifications/progress");
    assert_eq!(via, Some(json!(1)));
    server.append("s", Event::message(rpc::text_result("done")).with_id("s-2"));
    server.finish("s");
    let (answer, via) = message(&mut pipe.receiver).await;
    assert_eq!(answer["result"]["content"][0]["text"], "done");
    assert_eq!((&answer["id"], via), (&json!(1), Some(json!(1))));
    let record = server.record();
    let get = record.last("GET").unwrap();
    assert_eq!(get.last_event_id(), Some("s-1"));
    assert!(get.session().is_some());
    assert_eq!(record.count("tools/call"), 1, "{record}");
}

/// R241: without ids, or when the server does not resume, the request is lost and the session goes on.
#[tokio::test]
async fn r241_a_stream_that_cannot_be_resumed_is_lost() {
    let Setup {
        server, mut pipe, ..
    } = session().await;
    let event = Event::message(rpc::progress(1, 2));
    let cut = Script::events().event(event.clone()).cut(Cut::Fin);
    server.once("tools/call", cut);
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    message(&mut pipe.receiver).await;
    let (request, error) = lost(&mut pipe.receiver).await;
    assert_eq!(request, "1");
    let ended = matches!(error, PipeError::Ended { .. } | PipeError::Body { .. });
    assert!(ended, "{error:?}");

    let cut = Script::events()
        .event(Event::priming("x-1").with_retry(10))
        .event(event);
    server.once("tools/call", cut);
    server.once("GET", Script::status(503));
    server.once("GET", Script::error(400, -32600, "no such event"));
    pipe.sender.send(bytes(rpc::call(2, "echo"))).await.unwrap();
    message(&mut pipe.receiver).await;
    let (request, error) = lost(&mut pipe.receiver).await;
    assert_eq!(request, "2");
    let refused = matches!(error, PipeError::Refused { status, .. } if status == 400);
    assert!(refused, "{error:?}");
    assert_eq!(server.record().count("GET"), 2);

    pipe.sender.send(bytes(rpc::call(3, "echo"))).await.unwrap();
    assert_eq!(message(&mut pipe.receiver).await.0["id"], 3);
}

/// An answer that is none loses its request, whatever it is instead; what refuses a request in its own name
/// answers it.
#[tokio::test]
async fn what_answers_a_request_is_its_answer() {
    let Setup {
        server, mut pipe, ..
    } = session().await;
    let sender = pipe.sender.clone();
    for script in [
        Script::json("{\"jsonrpc\":"),
        Script::json("[]"),
        Script::accepted(),
        Script::status(200).content_type("text/plain").whole("x"),
        Script::events(),
    ] {
        server.once("tools/call", script);
        sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
        assert_eq!(lost(&mut pipe.receiver).await.0, "1");
    }
    server.once("tools/call", Script::error(400, -32602, "no such tool"));
    sender.send(bytes(rpc::call(2, "echo"))).await.unwrap();
    let (answer, _) = message(&mut pipe.receiver).await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(2), &json!(-32602))
    );

    let other = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"x"}}"#;
    for (status, undelivered) in [(400, true), (401, true), (429, true), (500, false)] {
        let refusal = Script::status(status).content_type("application/json");
        server.once("tools/call", refusal.whole(other));
        let refused = sender.send(bytes(rpc::call(3, "echo"))).await.unwrap_err();
        let saw = matches!(refused, PipeError::Refused { status: saw, .. } if saw == status);
        assert!(saw, "{refused:?}");
        assert_eq!(refused.is_undelivered(), undelivered);
    }
}

/// 5.4.1: 404 to a request means that it did not run; nobody tells the server that the session ends.
#[tokio::test]
async fn a_lost_session_is_told_by_404() {
    let Setup {
        server,
        mut pipe,
        tasks,
        ..
    } = session().await;
    server.forget(&server.sessions()[0]);
    let refused = pipe.sender.send(bytes(rpc::call(1, "echo"))).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, PipeError::SessionLost { .. }), "{error:?}");
    assert!(error.is_undelivered());
    let error = pipe.sender.listen().await.unwrap_err();
    assert!(matches!(error, PipeError::SessionLost { .. }), "{error:?}");
    pipe.sender.close();
    assert!(pipe.receiver.receive().await.is_none());
    tasks.close();
    tasks.wait().await;
    assert_eq!(server.record().count("DELETE"), 0);
}

/// Found out when a stream is to be resumed, it is the end of the session.
#[tokio::test]
async fn a_session_that_is_lost_meanwhile_ends() {
    let Setup {
        server, mut pipe, ..
    } = session().await;
    let primed = Script::events().event(Event::priming("x-1").with_retry(10));
    server.once("tools/call", primed.cut(Cut::Fin));
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    server.forget(&server.sessions()[0]);
    let error = pipe.receiver.receive().await.unwrap().unwrap_err();
    assert!(matches!(error, PipeError::SessionLost { .. }), "{error:?}");
    assert!(pipe.receiver.receive().await.is_none());
    assert!(pipe.sender.is_closed());
}

/// 5.4.3: the standalone stream is opened when it is asked for, once; 405 says that there is none.
#[tokio::test]
async fn r239_the_standalone_stream_is_opened_on_request() {
    let Setup {
        server,
        mut pipe,
        upstream,
        ..
    } = session().await;
    assert_eq!(server.record().count("GET"), 0);
    assert!(pipe.sender.listen().await.unwrap());
    assert!(pipe.sender.listen().await.unwrap());
    let session = server.sessions().remove(0);
    let changed = rpc::notification("notifications/tools/list_changed", &json!({}));
    server.notify(&session, &changed);
    let (notice, via) = message(&mut pipe.receiver).await;
    assert_eq!(notice["method"], "notifications/tools/list_changed");
    assert_eq!(via, None);
    assert_eq!(server.record().count("GET"), 1);
    assert_eq!(upstream.stats().streams, 1);
    pipe.sender.unlisten();
    assert_eq!(upstream.stats().streams, 0);
    server.wait_until(|record| record.open_streams == 0).await;

    server.set(|behaviour| behaviour.standalone = false);
    assert!(!pipe.sender.listen().await.unwrap());
    // The last stream may not have been missed yet.
    server.once("GET", Script::status(409));
    server.once("GET", Script::events().stall());
    assert!(pipe.sender.listen().await.unwrap());
}

/// 5.4.3: it is opened again when it breaks off, after its last event; what cannot be resumed is a gap.
#[tokio::test]
async fn r239_the_standalone_stream_is_opened_again() {
    let Setup {
        server, mut pipe, ..
    } = session().await;
    let one = Event::message(rpc::notification("x", &json!({})));
    let cut = Script::events()
        .event(one.clone().with_retry(10))
        .cut(Cut::Fin);
    server.once("GET", cut);
    let with_id = one.clone().with_id("g-1").with_retry(10);
    server.once("GET", Script::events().event(with_id).cut(Cut::Fin));
    server.once("GET", Script::events().event(one).stall());
    assert!(pipe.sender.listen().await.unwrap());
    message(&mut pipe.receiver).await;
    assert!(matches!(receive(&mut pipe.receiver).await, Incoming::Gap));
    message(&mut pipe.receiver).await;
    message(&mut pipe.receiver).await;
    let gets = server.requests("GET");
    let cursors: Vec<_> = gets.iter().map(|get| get.last_event_id()).collect();
    assert_eq!(cursors, [None, None, Some("g-1")]);
}

/// G2: where streams are not to be resumed, no event id goes back to the server: a request is lost with its stream,
/// and the standalone stream is opened anew.
#[tokio::test]
async fn g2_streams_that_are_not_to_be_resumed_are_not() {
    let reading = Reading {
        resumes: false,
        ..Reading::default()
    };
    let Setup {
        server, mut pipe, ..
    } = session_read(Server::start().await, reading).await;
    let primed = Script::events().event(Event::priming("x-1").with_retry(10));
    server.once("tools/call", primed.cut(Cut::Fin));
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    let (request, error) = lost(&mut pipe.receiver).await;
    assert_eq!(request, "1");
    assert!(matches!(error, PipeError::Body { .. }), "{error:?}");

    let one = Event::message(rpc::notification("x", &json!({})));
    let with_id = one.clone().with_id("g-1").with_retry(10);
    server.once("GET", Script::events().event(with_id).cut(Cut::Fin));
    server.once("GET", Script::events().event(one).stall());
    assert!(pipe.sender.listen().await.unwrap());
    message(&mut pipe.receiver).await;
    assert!(matches!(receive(&mut pipe.receiver).await, Incoming::Gap));
    message(&mut pipe.receiver).await;
    let gets = server.requests("GET");
    let cursors: Vec<_> = gets.iter().map(|get| get.last_event_id()).collect();
    assert_eq!(cursors, [None, None]);
}
