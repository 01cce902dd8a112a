//! Messages of one session keep the order in which their POSTs were answered, on whatever connections.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use thinpipe_testkit::{Gate, rpc};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{Answer, Exchange, Handler, Inbound, McpService};
use tower_service::Service;

use super::support::{Setup, server};
use crate::support::{Sample, call};

/// Notes what begins; `notifications/initialized` is done when the gate is open.
#[derive(Default)]
struct Noting {
    sample: Arc<Sample>,
    begun: Mutex<Vec<String>>,
    gate: Gate,
    done: AtomicUsize,
}

impl Handler for Noting {
    fn handle(self: Arc<Self>, exchange: Exchange) -> BoxFuture<Answer> {
        Box::pin(async move {
            if let Inbound::Message(message, _) = &exchange.inbound {
                let method = message.method().unwrap_or_default().to_owned();
                let waits = method == "notifications/initialized";
                self.begun.lock().unwrap().push(method);
                if waits {
                    self.gate.pass().await;
                    self.done.fetch_add(1, Ordering::SeqCst);
                }
            }
            Arc::clone(&self.sample).handle(exchange).await
        })
    }
}

/// A client whose stream is open; each of its POSTs comes alone.
struct Posting {
    service: McpService,
    uri: String,
}

impl Posting {
    async fn send(&self, message: String) -> StatusCode {
        let request = Request::post(&self.uri)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(message)));
        let answer = self.service.clone().call(request.unwrap()).await;
        answer.unwrap().status()
    }

    /// Polls the POST once, with nothing else running meanwhile: what is done then is done before the 202.
    fn post(&self, message: String) -> Poll<StatusCode> {
        pin!(self.send(message)).poll(&mut Context::from_waker(Waker::noop()))
    }
}

/// A session that has answered `initialize`, and its stream.
async fn open(handler: &Arc<Noting>) -> (Posting, impl Send + use<>) {
    let server = server(Setup::default(), Arc::clone(handler) as Arc<dyn Handler>);
    let mut service = server.service();
    let request = Request::get("/sse").header("host", "localhost");
    let opened = service.call(request.body(Empty::<Bytes>::new()).unwrap());
    let mut stream = opened.await.unwrap().into_body();
    stream.frame().await.unwrap().unwrap();
    let id = server.sessions().list()[0].id().as_str().to_owned();
    let posting = Posting {
        service,
        uri: format!("/messages?sessionId={id}"),
    };
    let initialize = rpc::initialize(0, "2024-11-05");
    assert_eq!(posting.post(initialize), Poll::Ready(StatusCode::ACCEPTED));
    stream.frame().await.unwrap().unwrap();
    (posting, stream)
}

/// A11: a message has reached its handler when its client is told that it was taken.
#[tokio::test]
async fn a11_what_was_taken_has_begun() {
    let handler = Arc::new(Noting::default());
    handler.gate.open();
    let (posting, _stream) = open(&handler).await;
    for message in [rpc::initialized(), call(1, "echo"), call(2, "wait")] {
        assert_eq!(posting.post(message), Poll::Ready(StatusCode::ACCEPTED));
    }
    let begun = handler.begun.lock().unwrap().clone();
    assert_eq!(
        begun,
        ["notifications/initialized", "tools/call", "tools/call"]
    );
}

/// A11: `notifications/initialized` was taken when the handler is done with it, so that whoever waits for
/// the 202 cannot overtake it on the way to a server behind the handler; within a second it is taken anyway.
#[tokio::test(start_paused = true)]
async fn a11_initialized_holds_up_its_202() {
    let handler = Arc::new(Noting::default());
    let (posting, _stream) = open(&handler).await;
    assert_eq!(posting.post(rpc::initialized()), Poll::Pending);
    assert_eq!(
        posting.send(rpc::initialized()).await,
        StatusCode::ACCEPTED,
        "the clock goes on by itself where all wait"
    );
    assert_eq!(handler.done.load(Ordering::SeqCst), 0);
    let mut waiting = pin!(posting.send(rpc::initialized()));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Pending);
    handler.gate.open();
    assert_eq!(waiting.await, StatusCode::ACCEPTED);
    assert_eq!(handler.done.load(Ordering::SeqCst), 3);
}
