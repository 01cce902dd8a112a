//! A log that can be away, and nodes that share it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::session::{EventId, NodeId, SessionId, StreamId};
use thinpipe_store::{
    BoxFuture, EventLog, LogEntry, LogError, LogLimits, LogPage, MemoryLog, StoreError, StreamHead,
    StreamKey,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::Random;
use crate::body::{Body, BodyStream, Filled};
use crate::io::now;
use crate::server::conversation::{Conversation, ConversationConfig, Inlet, ListenError, Outlet};
use crate::server::event_buffer::EventBufferConfig;
use crate::server::event_log::LogWriter;
use crate::server::exchange::Answer;

/// What becomes of a request to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// It cannot be reached.
    Away,
    /// It does what it is asked, and its answer is lost.
    Mute,
    /// It does nothing, and does not answer.
    Stuck,
}

pub(super) struct FlakyLog {
    log: Arc<MemoryLog>,
    mood: watch::Sender<Mood>,
    pub(super) appends: AtomicUsize,
}

impl FlakyLog {
    pub(super) fn new(limits: LogLimits) -> Arc<Self> {
        Self::over(Arc::new(MemoryLog::with_clock(limits, now)))
    }

    fn over(log: Arc<MemoryLog>) -> Arc<Self> {
        Arc::new(Self {
            log,
            mood: watch::Sender::new(Mood::Well),
            appends: AtomicUsize::new(0),
        })
    }

    /// Another way to the same log, with moods of its own.
    pub(super) fn link(&self) -> Arc<Self> {
        Self::over(Arc::clone(&self.log))
    }

    /// What the log has of a stream.
    pub(super) async fn whole(&self, stream: StreamId) -> Vec<LogEntry> {
        let session = session();
        let key = StreamKey { session, stream };
        let page = self.log.read(&key, 0, usize::MAX).await;
        page.map_or_else(|_| Vec::new(), |page| page.entries)
    }

    pub(super) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    fn ask<'a, T: Send + 'a>(
        &'a self,
        asked: impl FnOnce() -> BoxFuture<'a, Result<T, LogError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, LogError>> {
        Box::pin(async move {
            // Others have their turn, as with a log across a network.
            tokio::task::yield_now().await;
            let mut moods = self.mood.subscribe();
            let mood = *moods.wait_for(|mood| *mood != Mood::Stuck).await.unwrap();
            let away = || StoreError::Unavailable("away".into());
            match mood {
                Mood::Well => asked().await,
                Mood::Away => Err(away().into()),
                Mood::Mute => {
                    drop(asked().await);
                    Err(away().into())
                }
                Mood::Stuck => unreachable!("it waits for another one"),
            }
        })
    }
}

impl EventLog for FlakyLog {
    fn open<'a>(
        &'a self,
        key: &'a StreamKey,
        head: &'a StreamHead,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        self.ask(move || self.log.open(key, head))
    }

    fn append<'a>(
        &'a self,
        key: &'a StreamKey,
        owner: &'a NodeId,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<(), LogError>> {
        self.appends.fetch_add(1, Ordering::Relaxed);
        self.ask(move || self.log.append(key, owner, entries))
    }

    fn finish<'a>(
        &'a self,
        key: &'a StreamKey,
        message: Bytes,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        self.ask(move || self.log.finish(key, message))
    }

    fn read<'a>(
        &'a self,
        key: &'a StreamKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<LogPage, LogError>> {
        self.ask(move || self.log.read(key, after, limit))
    }

    fn forget<'a>(&'a self, session: &'a SessionId) -> BoxFuture<'a, Result<(), LogError>> {
        self.ask(move || self.log.forget(session))
    }
}

/// A node, and what it holds of the one session that there is.
pub(super) struct Node {
    pub(super) conversation: Arc<Conversation>,
    pub(super) writer: LogWriter,
    pub(super) tasks: TaskTracker,
    /// Without it nothing is written any more.
    pub(super) stop: Option<DropGuard>,
}

impl Node {
    pub(super) fn start(number: u8, log: &Arc<FlakyLog>) -> Self {
        Self::with(number, log, EventBufferConfig::resumable())
    }

    pub(super) fn with(number: u8, log: &Arc<FlakyLog>, buffer: EventBufferConfig) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let log = Arc::clone(log) as Arc<dyn EventLog>;
        let node = NodeId::from_random([number; 12]);
        let writer = LogWriter::start(log, node, &tasks, stop.clone(), Random::default());
        let config = ConversationConfig {
            buffer,
            ..ConversationConfig::default()
        };
        let conversation = Conversation::logged(config, writer.clone(), session());
        Self {
            conversation,
            writer,
            tasks,
            stop: Some(stop.drop_guard()),
        }
    }

    /// Begins the answer to a request, which a client reads as a stream.
    pub(super) async fn call(&self, number: i64) -> (Outlet, Client) {
        let (outlet, mut inlet) = self.begin(number);
        outlet.begin_stream();
        inlet.first().await;
        (outlet, Client::of(Box::new(inlet.into_events().unwrap())))
    }

    pub(super) fn begin(&self, number: i64) -> (Outlet, Inlet) {
        self.conversation.begin(&RequestId::from_integer(number))
    }

    pub(super) async fn listen(&self) -> Client {
        Client::reading(self.conversation.listen(None).await.unwrap())
    }

    pub(super) async fn resume(&self, after: &str) -> Result<Answer, ListenError> {
        let id = EventId::from_bytes(Bytes::copy_from_slice(after.as_bytes())).unwrap();
        self.conversation.listen(Some(&id)).await
    }

    pub(super) async fn resumed(&self, after: &str) -> Client {
        Client::reading(self.resume(after).await.unwrap())
    }
}

pub(super) fn session() -> SessionId {
    SessionId::from_random([7; 16])
}

/// Who reads a stream: what has come, and where it stands.
pub(super) struct Client {
    stream: Option<Box<dyn BodyStream>>,
    /// One that has not come to its end.
    line: String,
    /// The messages.
    pub(super) seen: Vec<String>,
    /// The last id.
    pub(super) cursor: String,
    pub(super) retry: Option<String>,
}

impl Client {
    pub(super) fn of(stream: Box<dyn BodyStream>) -> Self {
        Self {
            stream: Some(stream),
            line: String::new(),
            seen: Vec::new(),
            cursor: String::new(),
            retry: None,
        }
    }

    pub(super) fn reading(answer: Answer) -> Self {
        match answer.body {
            Body::Stream(stream) => Self::of(stream),
            other => panic!("{} {other:?}", answer.status),
        }
    }

    /// Reads on from another stream.
    pub(super) fn goes_on(&mut self, answer: Answer) {
        self.stream = Self::reading(answer).stream;
    }

    pub(super) fn is_reading(&self) -> bool {
        self.stream.is_some()
    }

    pub(super) fn leaves(&mut self) {
        self.stream = None;
    }

    pub(super) fn asks_to_end(&mut self, force: bool) -> bool {
        let mut out = Vec::new();
        let stream = self.stream.as_mut().unwrap();
        let is_over = stream.shut_down(force, &mut out);
        self.take(&out);
        is_over
    }

    /// Reads what is there.
    pub(super) fn looks(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut out = Vec::new();
        while let Some(stream) = &mut self.stream {
            match stream.poll_fill(&mut cx, &mut out).map(Result::unwrap) {
                Poll::Ready(Filled::More) => {}
                Poll::Ready(Filled::End) => self.stream = None,
                Poll::Pending => break,
            }
        }
        self.take(&out);
    }

    /// Reads until there is so much.
    pub(super) async fn reads(&mut self, count: usize) {
        while self.seen.len() < count {
            assert!(self.next().await, "it ended after {:?}", self.seen);
        }
    }

    /// Reads to the end.
    pub(super) async fn reads_all(&mut self) {
        while self.next().await {}
        self.stream = None;
    }

    async fn next(&mut self) -> bool {
        let mut out = Vec::new();
        let stream = self.stream.as_mut().unwrap();
        let filled = poll_fn(|cx| stream.poll_fill(cx, &mut out)).await.unwrap();
        self.take(&out);
        filled == Filled::More
    }

    fn take(&mut self, out: &[u8]) {
        self.line += std::str::from_utf8(out).unwrap();
        let Some((whole, rest)) = self.line.rsplit_once('\n') else {
            return;
        };
        for line in whole.lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                self.cursor = id.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                self.seen.push(data.to_owned());
            } else if let Some(retry) = line.strip_prefix("retry: ") {
                self.retry = Some(retry.to_owned());
            }
        }
        self.line = rest.to_owned();
    }
}

pub(super) fn notice(text: &str) -> Message {
    let text =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"n":{text}}}}}"#);
    Message::parse(text.into()).unwrap()
}
