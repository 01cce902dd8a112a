use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::session::{EventId, Principal};
use thinpipe_store::MemoryStore;
use thinpipe_testkit::DEADLINE;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::body::BoxFuture;
use crate::server::conversation::{ConversationConfig, Inlet, ListenError, Outlet, Said};
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
            held: false,
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

async fn resume(conversation: &Conversation, after: &'static str) -> Result<Answer, ListenError> {
    let id = EventId::from_bytes(Bytes::from_static(after.as_bytes())).unwrap();
    conversation.listen(Some(&id)).await
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

/// B12, F23, requirements Q3: one session keeps 8 MiB, of streams that are open and of others; its oldest goes first,
/// and a gap is refused.
#[tokio::test(start_paused = true)]
async fn b12_a_session_keeps_no_more_than_its_part() {
    let sweeping = Sweeping::start().await;
    let (session, conversation) = sweeping.session().await;
    let (_other, undisturbed) = sweeping.session().await;
    let mut open = vec![left(&undisturbed, 1, MIB).await];
    for stream in 1..=12 {
        let outlet = left(&conversation, stream, MIB).await;
        if stream % 2 == 0 {
            open.push(outlet);
        }
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let used = || session.history().used();
    until("room is made", || used() <= 9 * MIB).await;
    assert!(used() > 7 * MIB, "{}", used());
    for gone in ["1-0", "2-0", "4-0"] {
        let refused = resume(&conversation, gone).await.unwrap_err();
        assert_eq!(refused, ListenError::UnknownEvent, "{gone}");
    }
    for kept in ["11-0", "12-0"] {
        resume(&conversation, kept).await.unwrap();
    }
    resume(&undisturbed, "1-0").await.unwrap();
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
    let refused = resume(&sessions[0].1, "1-0").await.unwrap_err();
    assert_eq!(refused, ListenError::UnknownEvent);
    resume(&sessions[43].1, "6-0").await.unwrap();

    // What is there no more counts no more.
    let kept = sessions.pop().unwrap().0;
    drop((open, sessions));
    assert_eq!(kept.history().used(), 0);
    assert!(kept.history().conversations().is_empty());
}

/// A7: what is delivered in one session takes no lock that sessions share, and none of another one: a message
/// finds its session, its stream and its reader while another session is full, its client does not read, and
/// somebody works on the table of what is kept.
#[tokio::test]
async fn a7_sessions_share_no_lock_on_the_way_of_a_message() {
    let sweeping = Sweeping::start().await;
    let (session, conversation) = sweeping.session().await;
    let (_other, stuck) = sweeping.session().await;
    let (outlet, _unread) = fill(&stuck).await;
    let mut waiting = std::pin::pin!(outlet.notify("{}".into()));
    let waits = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await;
    assert!(waits, "the other session is full");

    let history = session.history().clone();
    let shared = history.lock();
    let (sessions, found) = (sweeping.sessions.clone(), Arc::clone(&session));
    let (done, delivered) = std::sync::mpsc::channel();
    let delivering = std::thread::spawn(move || {
        let live = sessions.live(found.id().as_bytes(), found.principal(), found.endpoint());
        let question = Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into());
        let _listening = poll_once(conversation.listen(None)).unwrap().unwrap();
        let said = conversation.try_say(&question.unwrap(), None);
        let (outlet, inlet) = conversation.begin(&RequestId::from_integer(1));
        let noted = poll_once(outlet.notify("{}".into()));
        let responded = poll_once(outlet.respond("{}".into()));
        drop(inlet);
        let listed = sessions.list().len();
        done.send((live.is_some(), said, noted, responded, listed))
    });
    let delivered = delivered.recv_timeout(DEADLINE);
    drop(shared);
    let all = (true, Ok(Said::Delivered), Some(Ok(())), Some(Ok(())), 2);
    assert_eq!(delivered, Ok(all));
    delivering.join().unwrap().unwrap();
}

/// Says as much about a request as there is room for.
async fn fill(conversation: &Arc<Conversation>) -> (Outlet, Inlet) {
    let (outlet, inlet) = conversation.begin(&RequestId::from_integer(1));
    outlet.notify("x".repeat(MIB).into()).await.unwrap();
    (outlet, inlet)
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// What a client is about to read stays, however little room there is.
#[tokio::test]
async fn b12_what_is_being_read_is_not_evicted() {
    let history = History::new(10);
    let registered = history.register(&Weak::new(), usize::MAX);
    let buffer = |stream| {
        let config = EventBufferConfig::resumable();
        EventBuffer::charged(
            config,
            thinpipe_proto::session::StreamId(stream),
            registered.charge(),
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
