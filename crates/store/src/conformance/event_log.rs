//! What every [`EventLog`] must do (F20 to F23).

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::session::{NodeId, SessionId, StreamId};

use super::{all, ok};
use crate::{
    EventLog, LogEntry, LogError, LogLimits, MAX_STREAMS, StreamHead, StreamKey, UNFINISHED_FOR,
};

/// What the log keeps that the suite is run against.
pub const LIMITS: LogLimits = LogLimits {
    max_events: 8,
    max_bytes: 1_000,
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
    count_and_bytes_are_bounded(&*log).await;
    streams_are_apart(&*log).await;
    streams_are_bounded(&*log).await;
    old_events_go(&*log, &advance).await;
    silence_leaves_all_the_room(&*log, &advance).await;
    old_streams_go(&*log, &advance).await;
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

async fn count_and_bytes_are_bounded(log: &dyn EventLog) {
    let (key, head) = (key(6, 0), head(1));
    ok(log.open(&key, &head).await, "open");
    ok(
        log.append(&key, &head.owner, &entries(1..=20, b"a")).await,
        "append",
    );
    let evicted = log.read(&key, 11, 99).await;
    assert!(
        matches!(evicted, Err(LogError::Evicted)),
        "nothing is skipped over: {evicted:?}"
    );
    let page = ok(log.read(&key, 12, 99).await, "read");
    assert_eq!(page.entries, entries(13..=20, b"a"), "the newest are kept");
    ok(
        log.append(&key, &head.owner, &entries(21..=22, &[b'b'; 499]))
            .await,
        "append",
    );
    let evicted = log.read(&key, 17, 99).await;
    assert!(matches!(evicted, Err(LogError::Evicted)), "{evicted:?}");
    let page = ok(log.read(&key, 18, 99).await, "read");
    assert_eq!(page.entries.len(), 4, "1,000 bytes are kept");
    ok(
        log.append(&key, &head.owner, &entries(23..=23, &[b'c'; 3_000]))
            .await,
        "append",
    );
    let page = ok(log.read(&key, 22, 99).await, "read");
    assert_eq!(
        page.entries,
        entries(23..=23, &[b'c'; 3_000]),
        "one may be larger"
    );
    let evicted = log.read(&key, 21, 99).await;
    assert!(matches!(evicted, Err(LogError::Evicted)), "{evicted:?}");
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

async fn streams_are_bounded(log: &dyn EventLog) {
    let head = head(1);
    for n in 0..MAX_STREAMS as u64 {
        ok(log.open(&key(9, n), &head).await, "open");
    }
    let full = log.open(&key(9, u64::MAX), &head).await;
    assert!(matches!(full, Err(LogError::Full)), "{full:?}");
    ok(
        log.open(&key(9, 3), &head).await,
        "one that is there is opened all the same",
    );
    for n in [5, 4] {
        ok(log.finish(&key(9, n), Bytes::new()).await, "finish");
    }
    ok(
        log.open(&key(9, u64::MAX), &head).await,
        "there is room now",
    );
    ok(
        log.read(&key(9, 3), 0, 1).await,
        "one that is not finished stays",
    );
    let finished = [4, 5].map(|n| key(9, n));
    let mut kept = 0;
    for key in &finished {
        kept += usize::from(log.read(key, 0, 1).await.is_ok());
    }
    assert_eq!(kept, 1, "one that is finished made room");
    ok(log.forget(&finished[0].session).await, "forget");
}

async fn old_events_go<F: Future<Output = ()>>(
    log: &dyn EventLog,
    advance: &impl Fn(Duration) -> F,
) {
    let (key, head) = (key(10, 0), head(1));
    ok(log.open(&key, &head).await, "open");
    ok(
        log.append(&key, &head.owner, &entries(1..=2, b"a")).await,
        "append",
    );
    advance(LIMITS.age / 2).await;
    ok(
        log.append(&key, &head.owner, &entries(3..=3, b"b")).await,
        "append",
    );
    assert_eq!(ok(log.read(&key, 0, 9).await, "read").entries.len(), 3);
    advance(LIMITS.age / 2 + Duration::from_secs(1)).await;
    let old = log.read(&key, 1, 9).await;
    assert!(matches!(old, Err(LogError::Evicted)), "{old:?}");
    let page = ok(log.read(&key, 2, 9).await, "read");
    assert_eq!(page.entries, entries(3..=3, b"b"));
    advance(LIMITS.age).await;
    let old = log.read(&key, 2, 9).await;
    assert!(matches!(old, Err(LogError::Evicted)), "{old:?}");
    let page = ok(log.read(&key, 3, 9).await, "the stream outlives its events");
    assert_eq!((page.entries.len(), page.newest), (0, 3));
    ok(
        log.append(&key, &head.owner, &entries(4..=4, b"c")).await,
        "numbers go on",
    );
    assert_eq!(ok(log.read(&key, 3, 9).await, "read").entries.len(), 1);
    ok(log.forget(&key.session).await, "forget");
}

/// A stream that says much, is silent for longer than events are kept, and goes on has all its room again.
async fn silence_leaves_all_the_room<F: Future<Output = ()>>(
    log: &dyn EventLog,
    advance: &impl Fn(Duration) -> F,
) {
    let (key, head) = (key(12, 0), head(1));
    ok(log.open(&key, &head).await, "open");
    let large = entries(1..=1, &[b'a'; LIMITS.max_bytes]);
    ok(log.append(&key, &head.owner, &large).await, "append");
    advance(LIMITS.age + Duration::from_secs(1)).await;
    let small = entries(2..=3, &[b'b'; LIMITS.max_bytes / 4]);
    for one in small.chunks(1) {
        ok(log.append(&key, &head.owner, one).await, "append");
    }
    let last = Bytes::from_static(b"end");
    ok(log.finish(&key, last).await, "finish");
    let page = ok(log.read(&key, 1, 9).await, "what came after is kept");
    assert_eq!((&page.entries[..2], page.newest), (&small[..], 4));
    ok(log.forget(&key.session).await, "forget");
}

async fn old_streams_go<F: Future<Output = ()>>(
    log: &dyn EventLog,
    advance: &impl Fn(Duration) -> F,
) {
    let (finished, unfinished, head) = (key(11, 0), key(11, 1), head(1));
    for key in [&finished, &unfinished] {
        ok(log.open(key, &head).await, "open");
    }
    ok(
        log.finish(&finished, Bytes::from_static(b"end")).await,
        "finish",
    );
    advance(LIMITS.finished_for / 2).await;
    let page = ok(log.read(&finished, 0, 9).await, "read");
    assert_eq!((page.entries.len(), page.is_finished), (1, true));
    advance(LIMITS.finished_for / 2 + Duration::from_secs(1)).await;
    let gone = log.read(&finished, 0, 9).await;
    assert!(
        matches!(gone, Err(LogError::Unknown)),
        "a read does not prolong: {gone:?}"
    );
    ok(
        log.read(&unfinished, 0, 9).await,
        "one that is not finished stays",
    );
    advance(UNFINISHED_FOR - Duration::from_secs(1)).await;
    ok(log.read(&unfinished, 0, 9).await, "as long as it is used");
    advance(UNFINISHED_FOR + Duration::from_secs(1)).await;
    let gone = log.read(&unfinished, 0, 9).await;
    assert!(matches!(gone, Err(LogError::Unknown)), "{gone:?}");
    ok(log.forget(&finished.session).await, "forget");
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
