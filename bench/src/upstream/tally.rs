//! The upstream's sessions and counters.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::message::Call;

/// What `GET /_stats` says. All but the gauges only rise.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) calls: u64,
    /// `initialize` and `server/discover`.
    #[serde(default)]
    pub(crate) handshakes: u64,
    /// Calls whose sequence was not above that client's last one.
    pub(crate) duplicates: u64,
    /// Requests without a session or with an unknown one.
    pub(crate) strangers: u64,
    pub(crate) events: u64,
    /// Bytes of event streams that the kernel took.
    pub(crate) stream_bytes: u64,
    /// Gauge: streams being written or held.
    pub(crate) open_streams: u64,
    /// Gauge: sessions.
    pub(crate) sessions: u64,
}

#[derive(Default)]
pub(crate) struct Tally {
    requests: AtomicU64,
    calls: AtomicU64,
    handshakes: AtomicU64,
    duplicates: AtomicU64,
    strangers: AtomicU64,
    events: AtomicU64,
    stream_bytes: AtomicU64,
    open_streams: AtomicU64,
    opened: AtomicU64,
    questions: AtomicU64,
    sessions: Mutex<HashSet<String>>,
    last: Mutex<HashMap<u64, u64>>,
}

/// Counts a stream as open for as long as it lives.
pub(crate) struct OpenStream<'a>(&'a Tally);

impl Tally {
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            requests: self.requests.load(Relaxed),
            calls: self.calls.load(Relaxed),
            handshakes: self.handshakes.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            strangers: self.strangers.load(Relaxed),
            events: self.events.load(Relaxed),
            stream_bytes: self.stream_bytes.load(Relaxed),
            open_streams: self.open_streams.load(Relaxed),
            sessions: held(&self.sessions).len() as u64,
        }
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn handshake(&self) {
        self.handshakes.fetch_add(1, Relaxed);
    }

    /// The id of the next question: none is used twice, in no session.
    pub(crate) fn question(&self) -> u64 {
        self.questions.fetch_add(1, Relaxed)
    }

    pub(crate) fn open(&self) -> String {
        let number = self.opened.fetch_add(1, Relaxed);
        let session = format!("bench-{:08x}-{number:016x}", std::process::id());
        held(&self.sessions).insert(session.clone());
        session
    }

    pub(crate) fn close(&self, session: Option<&str>) -> bool {
        session.is_some_and(|session| held(&self.sessions).remove(session))
    }

    pub(crate) fn knows(&self, session: Option<&str>) -> bool {
        let known = session.is_some_and(|session| held(&self.sessions).contains(session));
        if !known {
            self.strangers.fetch_add(1, Relaxed);
        }
        known
    }

    pub(crate) fn call(&self, call: &Call) {
        self.calls.fetch_add(1, Relaxed);
        let last = held(&self.last).insert(call.client, call.sequence);
        if last.is_some_and(|last| call.sequence <= last) {
            self.duplicates.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn event(&self, count: u64) {
        self.events.fetch_add(count, Relaxed);
    }

    pub(crate) fn took(&self, bytes: usize) {
        self.stream_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn stream(&self) -> OpenStream<'_> {
        self.open_streams.fetch_add(1, Relaxed);
        OpenStream(self)
    }
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Relaxed);
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_comes_twice_is_counted() {
        let tally = Tally::default();
        for (client, sequence) in [(1, 1), (2, 1), (1, 2), (1, 2), (2, 5)] {
            tally.call(&Call {
                client,
                sequence,
                ..Call::default()
            });
        }
        let counts = tally.counts();
        assert_eq!((counts.calls, counts.duplicates), (5, 1));
    }

    #[test]
    fn only_open_sessions_are_known() {
        let tally = Tally::default();
        let session = tally.open();
        assert!(tally.knows(Some(&session)));
        assert!(tally.close(Some(&session)));
        assert!(!tally.knows(Some(&session)));
        assert!(!tally.knows(None));
        assert_eq!(tally.counts().strangers, 2);
    }
}
