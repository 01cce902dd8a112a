//! What every [`EventLog`] must do (F20 to F23).

mod bounds;

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId, StreamId};

use super::{all, ok};
use crate::{EventLog, LogEntry, LogError, LogLimits, StreamHead, StreamKey};

/// What the log keeps that the suite is run against.
pub const LIMITS: LogLimits = LogLimits {
    max_events: 8,
    max_bytes: 1_000,
    session_bytes: 2_500,
    age: Duration::from_secs(300),
    finished_for: Duration::from_secs(60),
};

/// Runs the suite of a log with [`LIMITS`] that has no streams. `advance` lets time pass for it.
///
/// # Panics
/// When the log misbehaves; the message says how.
pub async fn event_log<F>(log: Arc<dyn EventLog>, advance: impl Fn(Duration) -> F)
where
    F: Future<Output = ()>,
{
    append_and_read(&*log).await;
    what_does_not_follow_is_refused(&*log).await;
    another_takes_over(&*log).await;
    finished_is_finished(&*log).await;
    one_of_many_finishes(&log).await;
    streams_are_apart(&*log).await;
    bounds::bounds(&*log, &advance).await;
}

async fn append_and_read(log: &dyn EventLog) {
    let key = key(1, 7);
    let mut head = head(1);
    head.request = Some(Bytes::from_static(b"\"\\u00e9\""));
    assert_eq!(ok(log.open(&key, &head).await, "open"), 0);
    let page = ok(log.read(&key, 0, 9).await, "read");
    assert_eq!((page.newest, page.is_finished), (0, false));
    assert_eq!(page.head, head, "what was said comes back");
    let binary = entries(1..=3, b"\x00\xff \"\r\n");
    ok(log.append(&key, &head.owner, &binary).await, "append");
    ok(
        log.append(&key, &head.owner, &[]).await,
        "append of nothing",
    );
    ok(
        log.append(&key, &head.owner, &entries(4..=4, b"")).await,
        "append",
    );
    let page = ok(log.read(&key, 0, 9).await, "read");
    let wanted: Vec<_> = binary.iter().cloned().chain(entries(4..=4, b"")).collect();
    assert_eq!(page.entries, wanted, "in order, byte for byte");
    assert_eq!((page.newest, page.is_finished), (4, false));
    let page = ok(log.read(&key, 1, 2).await, "read");
    assert_eq!(
        page.entries,
        wanted[1..3],
        "no more than asked, after what was named"
    );
    assert_eq!(page.newest, 4);
    let page = ok(log.read(&key, 4, 9).await, "read");
    assert_eq!(page.entries, [], "nothing comes after the newest yet");
    let beyond = log.read(&key, 5, 9).await;
    assert!(
        matches!(beyond, Err(LogError::Evicted)),
        "there is no such event: {beyond:?}"
    );
    ok(log.forget(&key.session).await, "forget");
    let gone = log.read(&key, 0, 9).await;
    assert!(matches!(gone, Err(LogError::Unknown)), "{gone:?}");
    ok(log.forget(&key.session).await, "forget once more");
}

async fn what_does_not_follow_is_refused(log: &dyn EventLog) {
    let (key, head) = (key(2, 0), head(1));
    let unknown = log.append(&key, &head.owner, &entries(1..=1, b"a")).await;
    assert!(matches!(unknown, Err(LogError::Unknown)), "{unknown:?}");
    ok(log.open(&key, &head).await, "open");
    ok(
        log.append(&key, &head.owner, &entries(1..=2, b"a")).await,
        "append",
    );
    for wrong in [
        entries(2..=2, b"b"),
        entries(4..=4, b"b"),
        gap(),
        entries(0..=0, b"b"),
    ] {
        let refused = log.append(&key, &head.owner, &wrong).await;
        assert!(
            matches!(refused, Err(LogError::Evicted)),
            "{refused:?} of {wrong:?}"
        );
    }
    let page = ok(log.read(&key, 0, 9).await, "read");
    assert_eq!(
        page.entries,
        entries(1..=2, b"a"),
        "nothing of it is appended"
    );
    ok(log.forget(&key.session).await, "forget");
}

/// The first of them follows, the second does not.
fn gap() -> Vec<LogEntry> {
    [entries(3..=3, b"b"), entries(5..=5, b"b")].concat()
}

async fn another_takes_over(log: &dyn EventLog) {
    let (key, mut first) = (key(3, 0), head(1));
    first.request = Some(Bytes::from_static(b"1"));
    ok(log.open(&key, &first).await, "open");
    ok(
        log.append(&key, &first.owner, &entries(1..=2, b"a")).await,
        "append",
    );
    let second = head(2);
    assert_eq!(
        ok(log.open(&key, &second).await, "open"),
        2,
        "numbers go on"
    );
    let late = log.append(&key, &first.owner, &entries(3..=3, b"a")).await;
    assert!(matches!(late, Err(LogError::Moved)), "{late:?}");
    ok(
        log.append(&key, &second.owner, &entries(3..=3, b"b")).await,
        "append",
    );
    let page = ok(log.read(&key, 2, 9).await, "read");
    assert_eq!(page.entries, entries(3..=3, b"b"));
    assert_eq!(page.head.owner, second.owner);
    assert_eq!(page.head.request, first.request, "the request stays");
    ok(log.forget(&key.session).await, "forget");
}

async fn finished_is_finished(log: &dyn EventLog) {
    let (key, head) = (key(4, 0), head(1));
    let unknown = log.finish(&key, Bytes::new()).await;
    assert!(matches!(unknown, Err(LogError::Unknown)), "{unknown:?}");
    ok(log.open(&key, &head).await, "open");
    let mut batch = entries(1..=3, b"a");
    batch[1].is_last = true;
    let after_the_last = log.append(&key, &head.owner, &batch).await;
    assert!(
        matches!(after_the_last, Err(LogError::Finished)),
        "{after_the_last:?}"
    );
    batch.truncate(2);
    ok(log.append(&key, &head.owner, &batch).await, "append");
    let page = ok(log.read(&key, 0, 9).await, "read");
    assert_eq!((page.entries, page.is_finished), (batch, true));
    let page = ok(log.read(&key, 0, 1).await, "read");
    assert_eq!(
        (page.entries.len(), page.is_finished),
        (1, true),
        "also if the page ends before"
    );
    let late = log.append(&key, &head.owner, &entries(3..=3, b"a")).await;
    assert!(matches!(late, Err(LogError::Finished)), "{late:?}");
    let late = log.finish(&key, Bytes::new()).await;
    assert!(matches!(late, Err(LogError::Finished)), "{late:?}");
    let late = log.open(&key, &head).await;
    assert!(matches!(late, Err(LogError::Finished)), "{late:?}");
    ok(log.forget(&key.session).await, "forget");
}

/// Owner and rescuers cannot all answer (protocol notes 5.8, 5).
async fn one_of_many_finishes(log: &Arc<dyn EventLog>) {
    let (key, head) = (key(5, 0), head(1));
    ok(log.open(&key, &head).await, "open");
    let finishes = all((0..16).map(|n| {
        let (log, key, owner) = (Arc::clone(log), key.clone(), head.owner.clone());
        async move {
            let mut last = entries(1..=1, b"owner");
            last[0].is_last = true;
            if n == 7 {
                log.append(&key, &owner, &last).await
            } else {
                let answer = Bytes::from(format!("rescuer {n}"));
                log.finish(&key, answer)
                    .await
                    .map(|number| assert_eq!(number, 1))
            }
        }
    }));
    let finished = finishes.await;
    let won: Vec<_> = (0..16).filter(|n| finished[*n].is_ok()).collect();
    let lost = finished
        .iter()
        .filter(|f| matches!(f, Err(LogError::Finished)))
        .count();
    assert_eq!(
        (won.len(), lost),
        (1, 15),
        "exactly one finishes it: {finished:?}"
    );
    let page = ok(log.read(&key, 0, 9).await, "read");
    let wanted = match won[0] {
        7 => Bytes::from_static(b"owner"),
        n => Bytes::from(format!("rescuer {n}")),
    };
    assert_eq!(page.entries.len(), 1);
    assert_eq!(
        (&page.entries[0].message, page.is_finished),
        (&wanted, true)
    );
    ok(log.forget(&key.session).await, "forget");
}

/// F18: nothing of one stream or session is seen in another, and forgetting one leaves the other.
async fn streams_are_apart(log: &dyn EventLog) {
    let (one, two, other) = (key(7, 1), key(7, 11), key(8, 1));
    let head = head(1);
    for (n, key) in [&one, &two, &other].into_iter().enumerate() {
        ok(log.open(key, &head).await, "open");
        let message = [b'a' + n as u8];
        ok(
            log.append(key, &head.owner, &entries(1..=1, &message))
                .await,
            "append",
        );
    }
    for (n, key) in [&one, &two, &other].into_iter().enumerate() {
        let page = ok(log.read(key, 0, 9).await, "read");
        assert_eq!(page.entries, entries(1..=1, &[b'a' + n as u8]));
    }
    ok(log.forget(&one.session).await, "forget");
    for key in [&one, &two] {
        let gone = log.read(key, 0, 9).await;
        assert!(matches!(gone, Err(LogError::Unknown)), "{gone:?}");
    }
    ok(
        log.read(&other, 0, 9).await,
        "the other session's stream stays",
    );
    ok(log.forget(&other.session).await, "forget");
}

pub(crate) fn key(session: u8, stream: u64) -> StreamKey {
    StreamKey {
        session: SessionId::from_random([session; 16]),
        stream: StreamId(stream),
    }
}

pub(crate) fn entries(sequences: RangeInclusive<u64>, message: &[u8]) -> Vec<LogEntry> {
    let entry = |sequence| LogEntry {
        sequence,
        message: Bytes::copy_from_slice(message),
        is_last: false,
    };
    sequences.map(entry).collect()
}

fn head(owner: u8) -> StreamHead {
    StreamHead {
        owner: NodeId::from_random([owner; 12]),
        request: None,
    }
}
