use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::{EventId, Principal};
use thinpipe_store::MemoryStore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::body::BoxFuture;
use crate::server::conversation::{ConversationConfig, ListenError, Outlet};
use crate::server::event_buffer::EventBufferConfig;
use crate::server::{
    Answer, Exchange, Handler, Negotiated, Session, SessionLimits, SessionManager,
};

const MIB: usize = 1 << 20;

struct Nobody;

impl Handler for Nobody {
    fn handle(self: Arc<Self>, _: Exchange) -> BoxFuture<Answer> {
        Box::pin(std::future::ready(Answer::accepted()))
    }
}

/// A manager that sweeps, and what its sessions keep.
struct Sweeping {
    sessions: SessionManager,
    _stop: tokio_util::sync::DropGuard,
}

impl Sweeping {
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        let limits = SessionLimits::default();
        let sessions = SessionManager::new(store, limits, TaskTracker::new());
        let stop = CancellationToken::new();
        sessions.start_sweeping(stop.clone());
        let _stop = stop.drop_guard();
        // Its clock begins to run when the task does.
        tokio::task::yield_now().await;
        Self { sessions, _stop }
    }

    async fn session(&self) -> (Arc<Session>, Arc<Conversation>) {
        let (endpoint, principal) = ("sample".into(), Principal::Anonymous);
        let reserved = self.sessions.reserve(Arc::new(Nobody), endpoint, principal);
        let opened = reserved.await.unwrap().open(Negotiated {
            revision: Revision::V2025_11_25,
            initialize_params: "{}".into(),
            attachment: Bytes::new(),
        });
        let session = opened.await.unwrap();
        let config = ConversationConfig {
            buffer: EventBufferConfig::resumable(),
            ..ConversationConfig::default()
        };
        let conversation = Conversation::in_session(config, &session);
        (session, conversation)
    }
}

/// A stream of which a client has left this much unread.
async fn left(conversation: &Arc<Conversation>, number: i64, bytes: usize) -> Outlet {
    let (outlet, inlet) = conversation.begin(&RequestId::from_integer(number));
    outlet.notify("x".repeat(bytes).into()).await.unwrap();
    drop(inlet);
    outlet
}

/// Until the sweeping task has come to this.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{what}");
}

fn resume(conversation: &Conversation, after: &'static str) -> Result<Answer, ListenError> {
    let id = EventId::from_bytes(Bytes::from_static(after.as_bytes())).unwrap();
    conversation.listen(Some(&id))
}

/// B12, R114, T2: what a quiet session keeps goes by the clock, though nobody does anything in it: finished
/// streams after 60 s, events of others after 5 min.
#[tokio::test(start_paused = true)]
async fn b12_a_quiet_session_forgets_by_the_clock() {
    let sweeping = Sweeping::start().await;
    let (session, conversation) = sweeping.session().await;
    let history = session.history();
    let open = left(&conversation, 1, 10).await;
    left(&conversation, 2, 20)
        .await
        .respond("{}".into())
        .await
        .unwrap();
    assert_eq!(history.used(), 32);
    tokio::time::advance(Duration::from_secs(61)).await;
    until("the finished stream is forgotten", || history.used() == 10).await;
    tokio::time::advance(Duration::from_secs(241)).await;
    until("the event is forgotten", || history.used() == 0).await;
    assert!(!open.is_closed(), "the request still runs");
}

/// B12, requirements Q3: all sessions together keep 256 MiB; the oldest goes first, whosever it is, and a gap
/// is refused.
#[tokio::test(start_paused = true)]
async fn b12_the_process_keeps_no_more_than_its_budget() {
    let sweeping = Sweeping::start().await;
    let mut open = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..44 {
        let (session, conversation) = sweeping.session().await;
        for stream in 1..=6 {
            open.push(left(&conversation, stream, MIB).await);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        sessions.push((session, conversation));
    }
    let history = sessions[0].0.history();
    until("room is made", || history.used() <= MAX_HISTORY).await;
    assert!(history.used() > MAX_HISTORY / 10 * 9, "{}", history.used());
    let refused = resume(&sessions[0].1, "1-0").unwrap_err();
    assert_eq!(refused, ListenError::UnknownEvent);
    resume(&sessions[43].1, "6-0").unwrap();

    // What is there no more counts no more.
    let kept = sessions.pop().unwrap().0;
    drop((open, sessions));
    assert_eq!(kept.history().used(), 0);
    assert!(kept.history().conversations().is_empty());
}

/// What a client is about to read stays, however little room there is.
#[tokio::test]
async fn b12_what_is_being_read_is_not_evicted() {
    let history = History::new(10);
    let buffer = |stream| {
        let config = EventBufferConfig::resumable();
        EventBuffer::charged(
            config,
            thinpipe_proto::session::StreamId(stream),
            history.charge(),
        )
    };
    let (read, left) = (buffer(1), buffer(2));
    let _reader = read.reader();
    drop(left.reader());
    for buffer in [&read, &left] {
        buffer.try_push("0123456789".into()).unwrap();
    }
    history.overfull().await;
    assert_eq!(read.oldest_evictable(), None);
    assert_eq!((left.evict_oldest(), history.used()), (None, 10));
}
