//! R045: whatever a handler answers, every request that was taken is answered on the stream, once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use thinpipe_proto::rpc::Kind;
use thinpipe_testkit::{SseClient, rpc};
use thinpipe_transport::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use thinpipe_transport::server::{Answer, Content, Exchange, Handler, Inbound};

use super::support::{Setup, serve};
use crate::support::{Sample, call};

/// Answers requests with what a test has prepared, and everything else as the sample does.
#[derive(Default)]
struct Scripted {
    sample: Arc<Sample>,
    answers: Mutex<VecDeque<Prepared>>,
}

enum Prepared {
    Answer(Answer),
    /// The handler answers on the stream, and says so.
    OnStream(&'static str),
    Panic,
}

impl Handler for Scripted {
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        let session = match &exchange.inbound {
            Inbound::Message(message, Some(session)) if message.kind() == Kind::Request => {
                Arc::clone(session)
            }
            _ => return Arc::clone(&self.sample).handle(exchange),
        };
        let prepared = self.answers.lock().unwrap().pop_front();
        Box::pin(async move {
            match prepared.expect("one for each request") {
                Prepared::Answer(answer) => answer,
                Prepared::OnStream(message) => {
                    let outlet = session.outlet().expect("it is a session of HTTP+SSE");
                    outlet
                        .push(Bytes::from_static(message.as_bytes()))
                        .await
                        .unwrap();
                    Answer::on_stream()
                }
                Prepared::Panic => panic!("a handler that fails its client"),
            }
        })
    }
}

/// A body of these pieces, which breaks off at its end if it is to.
struct Pieces {
    pieces: VecDeque<&'static str>,
    breaks: bool,
}

impl BodyStream for Pieces {
    fn poll_fill(
        &mut self,
        _: &mut std::task::Context<'_>,
        out: &mut Vec<u8>,
    ) -> std::task::Poll<Result<Filled, BodyError>> {
        std::task::Poll::Ready(match self.pieces.pop_front() {
            Some(piece) => {
                out.extend_from_slice(piece.as_bytes());
                Ok(Filled::More)
            }
            None if self.breaks => Err(BodyError::Incomplete),
            None => Ok(Filled::End),
        })
    }
}

fn pieces(pieces: &[&'static str], breaks: bool) -> Pieces {
    Pieces {
        pieces: pieces.iter().copied().collect(),
        breaks,
    }
}

struct Test {
    handler: Arc<Scripted>,
    client: SseClient,
}

impl Test {
    async fn new(setup: Setup) -> Self {
        let handler = Arc::new(Scripted::default());
        let (_, address) = serve(setup, Arc::clone(&handler) as _).await;
        let mut client = SseClient::open(&format!("http://{address}/sse")).await;
        client.initialize("2024-11-05").await;
        Self { handler, client }
    }

    /// The message that a request with this id is answered with.
    async fn answered(&mut self, id: u64, prepared: Prepared) -> Value {
        self.handler.answers.lock().unwrap().push_back(prepared);
        self.client.ask(call(id, "any")).await
    }
}

/// R045: failures of HTTP become errors of JSON-RPC, with the request's id.
#[tokio::test]
async fn r045_failures_come_as_errors_on_the_stream() {
    let mut test = Test::new(Setup::default()).await;
    let error = |status, body: &str| {
        let body = Body::Full(Bytes::copy_from_slice(body.as_bytes()));
        let status = StatusCode::from_u16(status).unwrap();
        Prepared::Answer(Answer::new(status, Content::Json, body))
    };
    let with_id = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m"}}"#;
    let answer = test.answered(1, error(404, with_id)).await;
    assert_eq!(answer, serde_json::from_str::<Value>(with_id).unwrap());
    for (id, body) in [
        (
            2,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-2,"message":"m","data":[1]}}"#,
        ),
        (
            3,
            r#"{"jsonrpc":"2.0","error":{"code":-2,"message":"m","data":[1]}}"#,
        ),
    ] {
        let answer = test.answered(id, error(400, body)).await;
        let expected = json!({"code": -2, "message": "m", "data": [1]});
        assert_eq!((&answer["id"], &answer["error"]), (&json!(id), &expected));
    }
    let text = Content::Other(Some(HeaderValue::from_static("text/html")));
    let html = Answer::new(StatusCode::BAD_GATEWAY, text, Body::Full("<html>".into()));
    let empty = Answer::new(StatusCode::OK, Content::Json, Body::Empty);
    for (id, prepared, reason) in [
        (4, Prepared::Answer(html), "upstream_refused"),
        (5, Prepared::Answer(empty), "upstream_refused"),
        (6, error(200, "<html>"), "upstream_invalid"),
        (
            7,
            error(200, r#"{"jsonrpc":"2.0","id":99,"result":{}}"#),
            "upstream_stream_lost",
        ),
        (8, Prepared::Answer(Answer::accepted()), "upstream_refused"),
        (9, Prepared::Panic, "upstream_stream_lost"),
    ] {
        let answer = test.answered(id, prepared).await;
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(id), &json!(-32603))
        );
        assert_eq!(answer["error"]["data"]["reason"], reason, "{id}");
    }
}

/// R045, T6: a stream that ends or breaks without the response, and what is no message in it.
#[tokio::test]
async fn r045_broken_streams_are_answered() {
    let mut test = Test::new(Setup::default()).await;
    let stream = |of: &[&'static str], breaks| Prepared::Answer(Answer::events(pieces(of, breaks)));
    let answer = test
        .answered(
            1,
            stream(&["data: {\"jsonrpc\":\"2.0\",\"id\":1,\"re"], true),
        )
        .await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(1), &json!(-32603))
    );
    let answer = test.answered(2, stream(&[": nothing\n\n"], false)).await;
    assert_eq!(answer["error"]["data"]["reason"], "upstream_stream_lost");
    let whole = &[
        "event: other\ndata: {\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"not\":\"this\"}}\n\n",
        "data: no JSON\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":77,\"result\":{}}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\ndata: \"id\":3,\"result\":{\"a\":1}}\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"twice\":1}}\n\n",
    ];
    let answer = test.answered(3, stream(whole, true)).await;
    assert_eq!(answer["result"], json!({"a": 1}));
    let json = |of: &[&'static str], breaks| {
        let body = Body::stream(pieces(of, breaks));
        Prepared::Answer(Answer::new(StatusCode::OK, Content::Json, body))
    };
    let halves = &["{\"jsonrpc\":\"2.0\",", "\"id\":4,\"result\":{}}"];
    assert_eq!(
        test.answered(4, json(halves, false)).await["result"],
        json!({})
    );
    let broken = test.answered(5, json(halves, true)).await;
    assert_eq!(broken["error"]["data"]["reason"], "upstream_stream_lost");
}

/// A19: a message over the limit is replaced by an error.
#[tokio::test]
async fn a19_too_large_a_message_becomes_an_error() {
    let mut setup = Setup::default();
    setup.sse.max_message = 200;
    let mut test = Test::new(setup).await;
    let large = rpc::result(json!({"text": "x".repeat(300)})).replace("null", "1");
    let large = large.into_bytes();
    let answer = test
        .answered(1, Prepared::Answer(Answer::json(Bytes::from(large))))
        .await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(1), &json!(-32603))
    );
    assert_eq!(answer["error"]["data"]["reason"], "message_too_large");
}

/// A6, R045: a handler that says that it answers on the stream is taken at its word, each time it says so. Who
/// has the stream and says nothing still owes an answer.
#[tokio::test]
async fn a6_a_handler_may_answer_on_the_stream_itself() {
    let mut test = Test::new(Setup::default()).await;
    let own = r#"{"jsonrpc":"2.0","id":1,"result":{"own":true}}"#;
    let answer = test.answered(1, Prepared::OnStream(own)).await;
    assert_eq!(answer["result"]["own"], true);
    let next = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
    let answer = test.answered(2, Prepared::OnStream(next)).await;
    assert_eq!(answer["id"], 2, "and nothing else was said about the first");
    let silent = [
        (3, Prepared::Answer(Answer::accepted())),
        (4, Prepared::Answer(Answer::events(pieces(&[], false)))),
    ];
    for (id, prepared) in silent {
        let answer = test.answered(id, prepared).await;
        assert_eq!(answer["error"]["code"], -32603, "{id}: {answer}");
    }
}

/// A6, T14: what handlers answer goes through the broadcaster, where a notice that something changed is kept once
/// while it waits to be read, and everything else as often as it is said.
#[tokio::test]
async fn t14_answers_go_through_the_broadcaster() {
    const CHANGED: &str =
        "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n";
    const LOG: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n";
    let mut test = Test::new(Setup::default()).await;
    let said: Vec<_> = [CHANGED, LOG].repeat(3);
    let end = &["data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n"];
    let answer = Answer::events(pieces(&[&said[..], end].concat(), false));
    let first = test.answered(1, Prepared::Answer(answer)).await;
    let mut methods = vec![first];
    while methods.last().is_some_and(|last| last["id"] != 1) {
        methods.push(test.client.stream.next_message().await);
    }
    let said: Vec<_> = methods.iter().map(|m| m["method"].as_str()).collect();
    let (changed, log) = ("notifications/tools/list_changed", "notifications/message");
    assert_eq!(said, [Some(changed), Some(log), Some(log), Some(log), None]);
}
