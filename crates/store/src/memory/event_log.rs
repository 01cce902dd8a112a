//! The history of streams of one process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId, StreamId};

use super::{Clock, ready};
use crate::{
    BoxFuture, EventLog, LogEntry, LogError, LogLimits, LogPage, MAX_STREAMS, StreamHead,
    StreamKey, UNFINISHED_FOR,
};

/// Bytes of messages of all streams of a process (protocol notes 6.3). The oldest go first.
const MAX_PROCESS_BYTES: usize = 256 << 20;

/// The history of streams of gateways that share one process, each with an `Arc` of this.
pub struct MemoryLog {
    now: Clock,
    limits: LogLimits,
    max_process_bytes: usize,
    state: Mutex<State>,
}

/// How often all sessions are looked through.
const SWEPT_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
struct State {
    sessions: HashMap<SessionId, BTreeMap<StreamId, Stream>>,
    /// All events by age, so that the oldest of all is found: the oldest of a stream is before its others.
    order: BTreeMap<u64, StreamKey>,
    /// Of the next event in `order`.
    place: u64,
    bytes: usize,
    /// When all sessions were looked through.
    swept: Option<Instant>,
}

struct Stream {
    head: StreamHead,
    newest: u64,
    events: VecDeque<Event>,
    bytes: usize,
    used: Instant,
    finished: Option<Instant>,
}

struct Event {
    entry: LogEntry,
    place: u64,
    at: Instant,
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryLog")
            .field("limits", &self.limits)
            .field("sessions", &state.sessions.len())
            .field("bytes", &state.bytes)
            .finish_non_exhaustive()
    }
}

impl MemoryLog {
    /// An empty log on the system's clock.
    #[must_use]
    pub fn new(limits: LogLimits) -> Self {
        Self::with_clock(limits, Instant::now)
    }

    /// An empty log on another clock, for tests with virtual time.
    #[must_use]
    pub fn with_clock(
        limits: LogLimits,
        now: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Self {
        Self {
            now: Box::new(now),
            limits,
            max_process_bytes: MAX_PROCESS_BYTES,
            state: Mutex::default(),
        }
    }

    /// A poisoned lock means a panic elsewhere; the tables are valid between any two operations.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables without what is too old by now.
    fn fresh(&self, session: &SessionId) -> (MutexGuard<'_, State>, Instant) {
        let now = (self.now)();
        let mut state = self.state();
        state.age(now, self.limits.age);
        state.drop_old(session, now, self.limits.finished_for);
        state.sweep(now, self.limits.finished_for);
        (state, now)
    }
}

impl State {
    fn stream(&mut self, key: &StreamKey) -> Option<&mut Stream> {
        self.sessions.get_mut(&key.session)?.get_mut(&key.stream)
    }

    /// Now and then, drops the streams of all sessions whose time is over: of some, nobody asks for anything any more.
    fn sweep(&mut self, now: Instant, finished_for: Duration) {
        let last = *self.swept.get_or_insert(now);
        if last + SWEPT_EVERY > now {
            return;
        }
        self.swept = Some(now);
        let sessions: Vec<_> = self.sessions.keys().cloned().collect();
        for session in &sessions {
            self.drop_old(session, now, finished_for);
        }
    }

    /// Drops the streams of a session whose time is over.
    fn drop_old(&mut self, session: &SessionId, now: Instant, finished_for: Duration) {
        let Some(streams) = self.sessions.get(session) else {
            return;
        };
        let is_over = |stream: &Stream| match stream.finished {
            Some(at) => at + finished_for <= now,
            None => stream.used + UNFINISHED_FOR <= now,
        };
        let over: Vec<_> = streams
            .iter()
            .filter(|(_, stream)| is_over(stream))
            .map(|(id, _)| *id)
            .collect();
        for stream in over {
            self.drop_stream(session, stream);
        }
    }

    fn drop_stream(&mut self, session: &SessionId, id: StreamId) {
        let Some(streams) = self.sessions.get_mut(session) else {
            return;
        };
        if let Some(stream) = streams.remove(&id) {
            self.bytes -= stream.bytes;
            for event in &stream.events {
                self.order.remove(&event.place);
            }
        }
        if streams.is_empty() {
            self.sessions.remove(session);
        }
    }

    /// Makes room for one more stream of a session.
    fn make_room(&mut self, session: &SessionId) -> Result<(), LogError> {
        let Some(streams) = self.sessions.get(session) else {
            return Ok(());
        };
        if streams.len() < MAX_STREAMS {
            return Ok(());
        }
        let finished = |(id, stream): (&StreamId, &Stream)| Some((stream.finished?, *id));
        let (_, oldest) = streams
            .iter()
            .filter_map(finished)
            .min()
            .ok_or(LogError::Full)?;
        self.drop_stream(session, oldest);
        Ok(())
    }

    /// Appends events that were found to follow.
    fn append(&mut self, key: &StreamKey, entries: &[LogEntry], now: Instant, limits: &LogLimits) {
        for entry in entries {
            let place = self.place;
            let Some(stream) = self.stream(key) else {
                return;
            };
            stream.push(entry, place, now);
            self.place += 1;
            self.order.insert(place, key.clone());
            self.bytes += entry.message.len();
            self.shorten(key, limits);
        }
        self.shorten_session(key, limits.session_bytes);
    }

    /// Drops the oldest events of a session until the rest fits, but not the newest of the stream that grew.
    fn shorten_session(&mut self, grown: &StreamKey, max_bytes: usize) {
        while let Some(streams) = self.sessions.get(&grown.session) {
            if streams.values().map(|stream| stream.bytes).sum::<usize>() <= max_bytes {
                return;
            }
            let spared = |id, stream: &Stream| id == grown.stream && stream.events.len() == 1;
            let oldest = |(id, stream): (&StreamId, &Stream)| {
                let event = stream.events.front().filter(|_| !spared(*id, stream))?;
                Some((event.place, *id))
            };
            let Some((_, stream)) = streams.iter().filter_map(oldest).min() else {
                return;
            };
            let session = grown.session.clone();
            let dropped = self.stream(&StreamKey { session, stream });
            if let Some(event) = dropped.and_then(Stream::pop) {
                self.forget_event(&event);
            }
        }
    }

    /// Drops the oldest events of all streams until the rest fits.
    fn fit(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes && self.drop_oldest() {}
    }

    /// Drops events of a stream until it keeps its limits.
    fn shorten(&mut self, key: &StreamKey, limits: &LogLimits) {
        while let Some(stream) = self.stream(key) {
            let count = stream.events.len();
            let fits = count <= limits.max_events && stream.bytes <= limits.max_bytes;
            if fits || count <= 1 {
                return;
            }
            if let Some(event) = stream.pop() {
                self.forget_event(&event);
            }
        }
    }

    /// Drops all events that are older than they may be.
    fn age(&mut self, now: Instant, age: Duration) {
        while let Some(key) = self.order.first_key_value().map(|(_, key)| key.clone()) {
            let oldest = self.stream(&key).and_then(|stream| stream.events.front());
            if oldest.is_some_and(|event| event.at + age > now) || !self.drop_oldest() {
                return;
            }
        }
    }

    /// Drops the oldest event of all; `false` if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_first() else {
            return false;
        };
        if let Some(event) = self.stream(&key).and_then(Stream::pop) {
            self.forget_event(&event);
        }
        true
    }

    fn forget_event(&mut self, event: &Event) {
        self.order.remove(&event.place);
        self.bytes -= event.entry.message.len();
    }
}

impl Stream {
    fn new(head: &StreamHead, now: Instant) -> Self {
        Self {
            head: head.clone(),
            newest: 0,
            events: VecDeque::new(),
            bytes: 0,
            used: now,
            finished: None,
        }
    }

    fn push(&mut self, entry: &LogEntry, place: u64, now: Instant) {
        self.newest = entry.sequence;
        self.bytes += entry.message.len();
        self.used = now;
        if entry.is_last {
            self.finished = Some(now);
        }
        self.events.push_back(Event {
            entry: entry.clone(),
            place,
            at: now,
        });
    }

    fn pop(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.bytes -= event.entry.message.len();
        Some(event)
    }

    fn admits(&self, owner: &NodeId, entries: &[LogEntry]) -> Result<(), LogError> {
        if self.head.owner != *owner {
            return Err(LogError::Moved);
        }
        let mut is_finished = self.finished.is_some();
        for (entry, expected) in entries.iter().zip(self.newest + 1..) {
            if is_finished {
                return Err(LogError::Finished);
            }
            if entry.sequence != expected {
                return Err(LogError::Evicted);
            }
            is_finished = entry.is_last;
        }
        Ok(())
    }

    fn page(&self, after: u64, limit: usize) -> Result<LogPage, LogError> {
        let kept_from = self.newest + 1 - self.events.len() as u64;
        if after > self.newest || after + 1 < kept_from {
            return Err(LogError::Evicted);
        }
        let entries = self.events.iter().map(|event| &event.entry);
        let wanted = entries.skip_while(|entry| entry.sequence <= after);
        Ok(LogPage {
            head: self.head.clone(),
            entries: wanted.take(limit).cloned().collect(),
            newest: self.newest,
            is_finished: self.finished.is_some(),
        })
    }
}

impl EventLog for MemoryLog {
    fn open<'a>(
        &'a self,
        key: &'a StreamKey,
        head: &'a StreamHead,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        let (mut state, now) = self.fresh(&key.session);
        if let Some(stream) = state.stream(key) {
            if stream.finished.is_some() {
                return ready(Err(LogError::Finished));
            }
            stream.head.owner = head.owner.clone();
            stream.used = now;
            return ready(Ok(stream.newest));
        }
        if let Err(full) = state.make_room(&key.session) {
            return ready(Err(full));
        }
        let streams = state.sessions.entry(key.session.clone()).or_default();
        streams.insert(key.stream, Stream::new(head, now));
        ready(Ok(0))
    }

    fn append<'a>(
        &'a self,
        key: &'a StreamKey,
        owner: &'a NodeId,
        entries: &'a [LogEntry],
    ) -> BoxFuture<'a, Result<(), LogError>> {
        let (mut state, now) = self.fresh(&key.session);
        let admitted = match state.stream(key) {
            Some(stream) => stream.admits(owner, entries),
            None => Err(LogError::Unknown),
        };
        if admitted.is_ok() {
            state.append(key, entries, now, &self.limits);
            state.fit(self.max_process_bytes);
        }
        ready(admitted)
    }

    fn finish<'a>(
        &'a self,
        key: &'a StreamKey,
        message: Bytes,
    ) -> BoxFuture<'a, Result<u64, LogError>> {
        let (mut state, now) = self.fresh(&key.session);
        let sequence = match state.stream(key) {
            Some(stream) if stream.finished.is_some() => return ready(Err(LogError::Finished)),
            Some(stream) => stream.newest + 1,
            None => return ready(Err(LogError::Unknown)),
        };
        let last = LogEntry {
            sequence,
            message,
            is_last: true,
        };
        state.append(key, &[last], now, &self.limits);
        state.fit(self.max_process_bytes);
        ready(Ok(sequence))
    }

    fn read<'a>(
        &'a self,
        key: &'a StreamKey,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'a, Result<LogPage, LogError>> {
        let (mut state, now) = self.fresh(&key.session);
        ready(match state.stream(key) {
            Some(stream) => {
                stream.used = now;
                stream.page(after, limit)
            }
            None => Err(LogError::Unknown),
        })
    }

    fn forget<'a>(&'a self, session: &'a SessionId) -> BoxFuture<'a, Result<(), LogError>> {
        let mut state = self.state();
        let streams = state.sessions.get(session).into_iter();
        let streams: Vec<_> = streams.flat_map(BTreeMap::keys).copied().collect();
        for stream in streams {
            state.drop_stream(session, stream);
        }
        ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::conformance::{entries, key};

    /// F23: what a process left behind goes with time, though nobody asks for anything of its sessions again.
    #[tokio::test]
    async fn f23_streams_that_nobody_asks_for_go_with_time() {
        let (start, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let passed = Arc::clone(&seconds);
        let log = MemoryLog::with_clock(LogLimits::default(), move || {
            start + Duration::from_secs(passed.load(Ordering::Relaxed))
        });
        let head = StreamHead {
            owner: NodeId::from_random([1; 12]),
            request: None,
        };
        let (unfinished, finished) = (key(1, 0), key(2, 0));
        for key in [&unfinished, &finished] {
            log.open(key, &head).await.unwrap();
            let one = entries(1..=1, b"x");
            log.append(key, &head.owner, &one).await.unwrap();
        }
        log.finish(&finished, Bytes::new()).await.unwrap();
        let (hour, day) = (3600, UNFINISHED_FOR.as_secs());
        for (at, left) in [(0, 2), (hour, 1), (day + hour, 0)] {
            seconds.store(at, Ordering::Relaxed);
            // Of a session of others.
            let unknown = log.read(&key(3, 0), 0, 1).await;
            assert!(matches!(unknown, Err(LogError::Unknown)), "{unknown:?}");
            assert_eq!(log.state().sessions.len(), left, "after {at} s");
        }
    }

    /// F23: whatever the streams may keep each, the process keeps no more than its own limit, and the oldest
    /// event of all goes first.
    #[tokio::test]
    async fn f23_the_process_drops_the_oldest_event_of_all_streams() {
        let mut log = MemoryLog::new(LogLimits::default());
        log.max_process_bytes = 30;
        let (first, second) = (key(1, 0), key(2, 0));
        let head = StreamHead {
            owner: NodeId::from_random([1; 12]),
            request: None,
        };
        for key in [&first, &second] {
            log.open(key, &head).await.unwrap();
            let ten_bytes = entries(1..=1, &[b'x'; 10]);
            log.append(key, &head.owner, &ten_bytes).await.unwrap();
        }
        let twenty_bytes = entries(2..=3, &[b'x'; 10]);
        log.append(&second, &head.owner, &twenty_bytes)
            .await
            .unwrap();
        let gone = log.read(&first, 0, 9).await;
        assert!(matches!(gone, Err(LogError::Evicted)), "{gone:?}");
        assert_eq!(log.read(&second, 0, 9).await.unwrap().entries.len(), 3);
        log.forget(&first.session).await.unwrap();
        log.forget(&second.session).await.unwrap();
        let state = log.state();
        assert_eq!(
            (state.bytes, state.order.len(), state.sessions.len()),
            (0, 0, 0)
        );
    }
}
