//! What is read and how much of it, and for how long.

use std::collections::VecDeque;
use std::time::Duration;

use http::HeaderMap;
use serde_json::json;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_testkit::{Script, Upstream as Server, rpc};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::upstream::pipe::{DEFAULT_MAX_MESSAGE, Incoming, PipeError};
use thinpipe_transport::upstream::streamable::{self, Reading};
use tokio::join;
use tokio_util::task::TaskTracker;

use super::{Setup, bytes, lost, message, open, session, session_of};
use crate::peer::network;

/// What nobody waits for any more is closed; who is held is read no further than a part of an event.
#[tokio::test]
async fn a_stream_can_be_let_go_and_held() {
    let server = Server::start().await;
    server.send_buffer(16 << 10).await;
    let Setup {
        server, mut pipe, ..
    } = session_of(server).await;
    let primed = Script::events().message(rpc::progress(1, 2));
    let id = RequestId::from_integer(1);

    server.once("tools/call", primed.clone().stall());
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    message(&mut pipe.receiver).await;
    pipe.sender.let_go(&id);
    server.wait_until(|record| record.open_streams == 0).await;

    let long = rpc::text_result(&"x".repeat(2 << 20));
    server.once("tools/call", primed.message(long));
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    message(&mut pipe.receiver).await;
    pipe.sender.hold(&id, true);
    let held = async {
        let sent = server.blocked("tools/call").await;
        assert!(sent < 1 << 20, "{sent}");
        pipe.sender.hold(&id, false);
    };
    let ((answer, _), ()) = join!(message(&mut pipe.receiver), held);
    assert_eq!(answer["id"], 1);
}

/// What has come is given together, within limits, and nothing of it is lost or told twice; the end of the session comes
/// after it.
#[tokio::test]
async fn what_has_come_is_given_together() {
    let Setup {
        server, mut pipe, ..
    } = session().await;
    let told = (1..=100).fold(Script::events(), |script, n| {
        script.message(rpc::progress(n, 100))
    });
    server.once("tools/call", told.message(rpc::text_result("done")));
    pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
    let (mut batch, mut told, mut batches) = (VecDeque::new(), Vec::new(), 0);
    while told
        .last()
        .is_none_or(|message: &Message| message.id().is_none())
    {
        pipe.receiver
            .receive_batch(&mut batch)
            .await
            .unwrap()
            .unwrap();
        assert!((1..=64).contains(&batch.len()), "{}", batch.len());
        batches += 1;
        told.extend(batch.drain(..).filter_map(|incoming| match incoming {
            Incoming::Message { message, .. } => Some(message),
            _ => None,
        }));
    }
    let progress = told.iter().filter_map(|message| message.param("progress"));
    let expected: Vec<_> = (1..=100).map(|n: u8| n.to_string()).collect();
    assert_eq!(progress.collect::<Vec<_>>(), expected);
    assert!(batches >= 2, "{batches}");
    pipe.sender.close();
    assert!(pipe.receiver.receive_batch(&mut batch).await.is_none());
    assert!(batch.is_empty());
}

/// One message has a limit; what exceeds it costs its request, not the session.
#[tokio::test]
async fn r241_a_message_that_is_too_long_is_lost() {
    let Setup {
        server, upstream, ..
    } = session().await;
    let tasks = TaskTracker::new();
    let limit = ByteBudget::FREE;
    let (few, full) = (ByteBudget::default(), ByteBudget::new(0));
    let long = rpc::text_result(&"x".repeat(3 * ByteBudget::FREE));
    server.on("tools/call:echo", Script::json(&long));
    server.on("tools/call:slow", Script::events().message(&long));
    for (limit, budget) in [(limit, &few), (DEFAULT_MAX_MESSAGE, &full)] {
        let headers = HeaderMap::new();
        let reading = Reading {
            max_message: limit,
            ..Reading::default()
        };
        let mut pipe = streamable::open(&upstream, headers, reading, budget, &tasks);
        for tool in ["echo", "slow"] {
            pipe.sender.send(bytes(rpc::call(1, tool))).await.unwrap();
            match lost(&mut pipe.receiver).await.1 {
                PipeError::TooLarge { .. } => assert_eq!(limit, ByteBudget::FREE),
                PipeError::NoRoom { .. } => assert_eq!(limit, DEFAULT_MAX_MESSAGE),
                error => panic!("{error:?}"),
            }
        }
    }
}

/// So many requests of a session may be open; one more is not sent.
#[tokio::test]
async fn open_requests_have_a_limit() {
    let Setup { server, pipe, .. } = session().await;
    server.on("tools/call", Script::json(rpc::text_result("x")));
    for id in 0..streamable::MAX_OPEN {
        pipe.sender
            .send(bytes(rpc::call(id, "echo")))
            .await
            .unwrap();
    }
    let full = pipe.sender.send(bytes(rpc::call("more", "echo"))).await;
    let error = full.unwrap_err();
    assert!(matches!(error, PipeError::Full { .. }), "{error:?}");
    assert!(error.is_undelivered());
    assert_eq!(server.record().count("tools/call"), streamable::MAX_OPEN);
    // An answer to a request of the server goes up all the same.
    let answer = bytes(rpc::response("q", &json!({})));
    pipe.sender.send(answer).await.unwrap();
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// 5.1 "Deadlines": a server that waits for people is silent for long; who asked keeps the time.
#[tokio::test(start_paused = true)]
async fn r250_silence_does_not_end_the_stream_of_a_request() {
    let (upstream, mut network) = network(|config| {
        config.stream_idle_timeout = Duration::from_secs(60);
    });
    let tasks = TaskTracker::new();
    let mut pipe = open(&upstream, Reading::default(), &tasks);
    let playing = async {
        let mut peer = network.accept().await;
        peer.request().await;
        peer.send(STREAM).await;
        tokio::time::sleep(Duration::from_secs(1700)).await;
        let answer = rpc::response(1, &json!({}));
        peer.send(format!("data: {answer}\n\n")).await;
        peer
    };
    let asking = async {
        pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
        message(&mut pipe.receiver).await
    };
    let (_peer, (answer, _)) = join!(playing, asking);
    assert_eq!(answer["id"], 1);
}

/// Who does not take messages stops the server: nothing is read ahead.
#[tokio::test(start_paused = true)]
async fn who_does_not_read_stops_the_server() {
    let (upstream, mut network) = network(|_| {});
    let tasks = TaskTracker::new();
    let mut pipe = open(&upstream, Reading::default(), &tasks);
    let call = bytes(rpc::call(1, "echo"));
    let (sent, mut peer) = join!(pipe.sender.send(call), async {
        let mut peer = network.accept().await;
        peer.request().await;
        peer.send(STREAM).await;
        peer
    });
    sent.unwrap();
    let event = format!(
        "data: {}\n\n",
        rpc::notification(&"x".repeat(1000), &json!({}))
    );
    let mut written = 0;
    let mut flood = async || {
        loop {
            peer.send(&event).await;
            written += event.len();
        }
    };
    let stopped = tokio::time::timeout(Duration::from_secs(1), flood()).await;
    assert!(stopped.is_err());
    assert!(written <= crate::peer::PIPE, "{written}");
    assert_eq!(message(&mut pipe.receiver).await.1, Some(json!(1)));
}

/// A31: after its response a stream is read for a moment, then closed: its place is free.
#[tokio::test(start_paused = true)]
async fn a31_a_stream_that_stays_open_after_its_response_is_closed() {
    let (upstream, mut network) = network(|_| {});
    let tasks = TaskTracker::new();
    let mut pipe = open(&upstream, Reading::default(), &tasks);
    let playing = async {
        let mut peer = network.accept().await;
        peer.request().await;
        peer.send(STREAM).await;
        let answer = rpc::response(1, &json!({}));
        peer.send(format!("data: {answer}\n\n")).await;
        peer.rest().await
    };
    let asking = async {
        pipe.sender.send(bytes(rpc::call(1, "echo"))).await.unwrap();
        message(&mut pipe.receiver).await;
        let quiet = tokio::time::timeout(Duration::from_secs(10), pipe.receiver.receive());
        assert!(quiet.await.is_err());
    };
    join!(playing, asking);
    assert_eq!(upstream.stats().streams, 0);
}
