use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use thinpipe_proto::bridge::MemberId;
use thinpipe_proto::bridge::upgrade::{Config, Handshake, Upgrading};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::{EventId, Principal};
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::conversation::{Conversation, ConversationConfig};
use thinpipe_transport::server::event_buffer::EventBufferConfig;
use thinpipe_transport::upstream::UpstreamConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::UpstreamSpec;
use crate::interceptor::{Carrier, Direction, MessageContext};
use crate::modern::{CallError, CallStream, Messages, ModernCall, ModernServer};
use crate::pipe::{Attachment, Draining, Place};
use crate::route::Route;

/// A server whose calls say one thing, and go on until they are closed.
#[derive(Default)]
struct Endless {
    closed: Arc<AtomicBool>,
}

struct Saying {
    first: Option<Message>,
    closed: Arc<AtomicBool>,
}

impl ModernServer for Endless {
    fn call(self: Arc<Self>, _: ModernCall) -> BoxFuture<Result<CallStream, CallError>> {
        let line = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        let saying = Saying {
            first: Message::parse(line.into()).ok(),
            closed: Arc::clone(&self.closed),
        };
        Box::pin(async move { Ok(CallStream::new(saying)) })
    }
}

impl Messages for Saying {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Message, CallError>>> {
        self.first
            .take()
            .map_or(Poll::Pending, |first| Poll::Ready(Some(Ok(first))))
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
    }
}

fn route() -> Arc<Route> {
    let client = UpstreamConfig::new("u".into(), "http://127.0.0.1:9/mcp".parse().unwrap());
    Route::alone(UpstreamSpec::new("/mcp", client))
}

/// A session over Streamable HTTP, and whether its call was closed.
fn begin() -> (Attachment, Arc<Conversation>, Arc<AtomicBool>) {
    let handshake = Handshake {
        revision: Revision::V2025_06_18,
        declared: Bytes::from_static(b"{}"),
        client_info: None,
        offered: Bytes::from_static(b"{}"),
    };
    let mut config = Config::new("u", MemberId(0), 1);
    // What ends it is that its client is away, and nothing else.
    config.limits.idle = RETENTION * 10;
    config.limits.cap = RETENTION * 10;
    let machine = Upgrading::new(config, handshake, now());
    let session = UpstreamSession::of_calls(machine, None, ("u".into(), ByteBudget::default()));
    let attachment = session.attach_initialized().expect("the first");
    let server = Arc::new(Endless::default());
    let closed = Arc::clone(&server.closed);
    let owner = route();
    let tasks = TaskTracker::new();
    tasks.spawn(session.run_calls(
        server,
        Principal::Anonymous,
        owner,
        CancellationToken::new(),
    ));
    let conversation = Conversation::new(
        ConversationConfig {
            buffer: EventBufferConfig::resumable(),
            ..ConversationConfig::default()
        },
        Revision::V2025_06_18,
    );
    attachment.settle(Place {
        session: Weak::new(),
        conversation: Arc::clone(&conversation),
        context: MessageContext {
            direction: Direction::ToClient,
            carrier: Carrier::Event,
            revision: Revision::V2025_06_18,
            upstream: "u".into(),
            principal: Principal::Anonymous,
            session: None,
            method: None,
            name: None,
            sequence: 0,
        },
        max_message: usize::MAX,
    });
    (attachment, conversation, closed)
}

/// Asks, and gives the stream of the answer.
async fn ask(attachment: &Attachment) -> thinpipe_transport::server::Answer {
    let request =
        Message::parse(r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#.into()).unwrap();
    let id = request.id().unwrap().clone();
    let begun = attachment.begin(&id, None, false).expect("a new id");
    let presence = attachment.watched(Watched::Answer(id.clone()));
    let member = attachment.member().id();
    attachment
        .upstream()
        .send(member, &request, None)
        .await
        .unwrap();
    let answer = begun.inlet.answer().await;
    Draining::of(Some(id), "u".into())
        .watched(presence)
        .around(answer)
}

/// R229, protocol notes 5.3, row "client stream drops": the call goes on for as long as its client may come back.
#[tokio::test(start_paused = true)]
async fn r229_a_call_is_closed_whose_client_does_not_come_back() {
    let (attachment, _, closed) = begin();
    drop(ask(&attachment).await);
    tokio::time::sleep(RETENTION - Duration::from_secs(1)).await;
    assert!(!closed.load(Ordering::Acquire), "it may still come back");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(closed.load(Ordering::Acquire));
}

/// R229: one that came back for it has all the time again.
#[tokio::test(start_paused = true)]
async fn r229_a_client_that_comes_back_keeps_its_call() {
    let (attachment, conversation, closed) = begin();
    drop(ask(&attachment).await);
    tokio::time::sleep(RETENTION / 2).await;
    let last = EventId::from_bytes(Bytes::from_static(b"1-0")).unwrap();
    let resumed = conversation.listen(Some(&last)).await.expect("it is kept");
    let presence = attachment.watched(Watched::Resumed);
    let resumed = Draining::of(None, "u".into())
        .watched(presence)
        .around(resumed);
    tokio::time::sleep(RETENTION * 2).await;
    assert!(!closed.load(Ordering::Acquire), "it is read");
    drop(resumed);
    tokio::time::sleep(RETENTION + Duration::from_secs(1)).await;
    assert!(closed.load(Ordering::Acquire));
}
