//! What is kept: so many events and bytes, of a stream and of a session, and for so long.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::{LIMITS, entries, head, key};
use crate::conformance::ok;
use crate::{EventLog, LogError, MAX_STREAMS, UNFINISHED_FOR};

/// Runs this part of the suite.
pub(super) async fn bounds<F: Future<Output = ()>>(
    log: &dyn EventLog,
    advance: &impl Fn(Duration) -> F,
) {
    count_and_bytes_are_bounded(log).await;
    streams_are_bounded(log).await;
    sessions_are_bounded(log, advance).await;
    old_events_go(log, advance).await;
    silence_leaves_all_the_room(log, advance).await;
    old_streams_go(log, advance).await;
    what_is_gone_takes_no_room(log, advance).await;
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

/// F23: however many streams a session has, it keeps so many bytes and no more, and the oldest go, whosever they are.
async fn sessions_are_bounded<F: Future<Output = ()>>(
    log: &dyn EventLog,
    advance: &impl Fn(Duration) -> F,
) {
    let streams = [0, 1, 2].map(|stream| key(13, stream));
    let (other, owner) = (key(14, 0), head(1).owner);
    for key in streams.iter().chain([&other]) {
        ok(log.open(key, &head(1)).await, "open");
    }
    ok(
        log.append(&other, &owner, &entries(1..=2, &[b'o'; 500]))
            .await,
        "append",
    );
    for key in &streams {
        let half = entries(1..=2, &[b'a'; 500]);
        ok(log.append(key, &owner, &half).await, "append");
        advance(Duration::from_secs(1)).await;
    }
    let first = log.read(&streams[0], 0, 9).await;
    assert!(matches!(first, Err(LogError::Evicted)), "{first:?}");
    for (key, after) in [(&streams[0], 1), (&streams[1], 0), (&streams[2], 0)] {
        let page = ok(log.read(key, after, 9).await, "read");
        assert_eq!(page.entries.len() as u64, 2 - after, "the newest are kept");
    }
    let large = Bytes::from(vec![b'b'; LIMITS.session_bytes + 1]);
    ok(log.finish(&streams[0], large.clone()).await, "finish");
    let page = ok(log.read(&streams[0], 2, 9).await, "read");
    assert_eq!(page.entries[0].message, large, "one may be larger");
    for key in &streams[1..] {
        let gone = log.read(key, 1, 9).await;
        assert!(matches!(gone, Err(LogError::Evicted)), "{gone:?}");
    }
    let page = ok(log.read(&other, 0, 9).await, "read");
    assert_eq!(page.entries.len(), 2, "another session has room of its own");
    for key in [&streams[0], &other] {
        ok(log.forget(&key.session).await, "forget");
    }
}

/// Neither streams whose time is over nor events that are too old count for their session.
async fn what_is_gone_takes_no_room<F: Future<Output = ()>>(
    log: &dyn EventLog,
    advance: &impl Fn(Duration) -> F,
) {
    let [silent, finished, live] = [0, 1, 2].map(|stream| key(15, stream));
    let owner = head(1).owner;
    for key in [&silent, &finished, &live] {
        ok(log.open(key, &head(1)).await, "open");
    }
    let room = || entries(1..=2, &[b'a'; LIMITS.max_bytes / 2]);
    ok(log.append(&silent, &owner, &room()).await, "append");
    advance(LIMITS.age / 2).await;
    let small = entries(1..=1, &[b'b'; 250]);
    ok(log.append(&live, &owner, &small).await, "append");
    let large = Bytes::from(vec![b'c'; LIMITS.max_bytes]);
    ok(log.finish(&finished, large).await, "finish");
    advance(LIMITS.age / 2 + Duration::from_secs(1)).await;
    let more = entries(2..=3, &[b'b'; 375]);
    ok(log.append(&live, &owner, &more).await, "append");
    let again = entries(3..=4, &[b'a'; LIMITS.max_bytes / 2]);
    ok(log.append(&silent, &owner, &again).await, "append");
    let page = ok(log.read(&live, 0, 9).await, "read");
    assert_eq!(page.entries.len(), 3, "all of it fits");
    let page = ok(log.read(&silent, 2, 9).await, "read");
    assert_eq!(page.entries, again);
    ok(log.forget(&live.session).await, "forget");
}
