use std::future::poll_fn;
use std::task::{Context, Poll};

use proptest::prelude::*;

use super::reader::GULP;
use super::*;
use crate::ByteBudget;
use crate::body::{BodyStream, Filled};

fn config(max_events: usize, max_bytes: usize) -> EventBufferConfig {
    EventBufferConfig {
        max_events,
        max_bytes,
        retention: Duration::ZERO,
    }
}

fn kept(max_events: usize) -> EventBufferConfig {
    EventBufferConfig {
        max_events,
        ..EventBufferConfig::resumable()
    }
}

fn buffer(config: EventBufferConfig) -> EventBuffer {
    EventBuffer::new(config, StreamId(7))
}

async fn read(reader: &mut EventReader) -> Option<String> {
    let mut out = Vec::new();
    let filled = poll_fn(|cx| reader.poll_fill(cx, &mut out)).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    (filled == Filled::More).then_some(text)
}

fn poll_once(reader: &mut EventReader, out: &mut Vec<u8>) -> Poll<Filled> {
    let mut cx = Context::from_waker(Waker::noop());
    reader.poll_fill(&mut cx, out).map(Result::unwrap)
}

/// What a reader has for now.
fn drain(reader: &mut EventReader) -> String {
    let mut out = Vec::new();
    while poll_once(reader, &mut out) == Poll::Ready(Filled::More) {}
    String::from_utf8(out).unwrap()
}

/// C2: what is kept of a read is what is counted, and not all that came with it.
#[tokio::test]
async fn c2_a_kept_message_keeps_nothing_else() {
    let came: Arc<[u8]> = vec![b'x'; 20 << 10].into();
    let read = Bytes::from_owner(Arc::clone(&came));
    let kept = buffer(kept(9));
    kept.push(read.slice(100..200)).await.unwrap();
    kept.try_push(read.slice(300..400)).unwrap();
    drop(read);
    assert_eq!(Arc::strong_count(&came), 1);
    assert_eq!(kept.bytes(), 200);
}

/// What a client has read counts as history, and not as held for it any more.
#[tokio::test]
async fn what_was_read_is_not_held_any_more() {
    let budget = ByteBudget::default();
    let message = Bytes::from("x".repeat(100 << 10));
    let kept = buffer(kept(9));
    kept.push(budget.hold(message.clone()).unwrap())
        .await
        .unwrap();
    assert_eq!(budget.used(), message.len());
    let text = drain(&mut kept.reader());
    assert_eq!(budget.used(), 0);
    assert_eq!(drain(&mut kept.reader_after(0).unwrap()), text);
    assert_eq!(kept.bytes(), message.len());
}

/// B12, A19: bounded in messages and in bytes; whoever says more waits until somebody has read.
#[tokio::test]
async fn b12_a_full_buffer_makes_whoever_speaks_wait() {
    for config in [config(2, 1000), config(100, 4)] {
        let buffer = buffer(config);
        buffer.push("11".into()).await.unwrap();
        buffer.push("22".into()).await.unwrap();
        assert_eq!(buffer.try_push("33".into()), Err(NotPushed::Full));
        let mut reader = buffer.reader();
        let (pushed, text) = tokio::join!(buffer.push("33".into()), read(&mut reader));
        pushed.unwrap();
        assert_eq!(
            text.unwrap(),
            "event: message\ndata: 11\n\nevent: message\ndata: 22\n\n"
        );
        assert_eq!(
            read(&mut reader).await.unwrap(),
            "event: message\ndata: 33\n\n"
        );
        assert_eq!(buffer.bytes(), 0, "nothing is kept");
    }
}

/// A message larger than the whole buffer is taken when nothing else is there, and handed out in parts.
#[test]
fn b12_one_message_always_finds_room() {
    let buffer = buffer(config(10, 10));
    let long = "x".repeat(3 * GULP);
    buffer.try_push(long.clone().into()).unwrap();
    assert_eq!(buffer.try_push("1".into()), Err(NotPushed::Full));
    let mut reader = buffer.reader();
    let mut out = Vec::new();
    assert_eq!(poll_once(&mut reader, &mut out), Poll::Ready(Filled::More));
    assert!(out.len() <= GULP && !reader.at_boundary());
    let text = String::from_utf8(out).unwrap() + &drain(&mut reader);
    assert_eq!(text, format!("event: message\ndata: {long}\n\n"));
    assert!(reader.at_boundary());
}

/// T5, A6: closing ends the reader behind the last message, and wakes whoever waits for room.
#[tokio::test]
async fn a6_closing_loses_nothing_that_was_taken() {
    let buffer = buffer(config(1, 1000));
    buffer.push("1".into()).await.unwrap();
    let (waiting, ()) = tokio::join!(buffer.push("2".into()), async { buffer.close() });
    assert_eq!(waiting, Err(Closed));
    let mut reader = buffer.reader();
    assert_eq!(
        read(&mut reader).await.unwrap(),
        "event: message\ndata: 1\n\n"
    );
    assert_eq!(read(&mut reader).await, None);
}

/// Protocol notes 5.1, "Change notices": one for each key while it waits, and again when it was read. They
/// take no room from other messages.
#[test]
fn a_change_notice_waits_once() {
    for config in [config(1, 1000), kept(1)] {
        let buffer = buffer(config);
        let mut reader = buffer.reader();
        let tell = |key| buffer.try_put(Some(key), Bytes::copy_from_slice(key.as_bytes()));
        buffer.try_push("1".into()).unwrap();
        assert_eq!(buffer.try_push("2".into()), Err(NotPushed::Full));
        for key in ["a", "b", "a", "b"] {
            tell(key).unwrap();
        }
        let seen = drain(&mut reader);
        let data: Vec<_> = seen.lines().filter(|l| l.starts_with("data")).collect();
        assert_eq!(data, ["data: 1", "data: a", "data: b"]);
        tell("a").unwrap();
        assert!(drain(&mut reader).contains("data: a"), "re-armed");
        buffer.try_push("2".into()).unwrap();
    }
}

/// Protocol notes 5.9 (23): notices are bounded too, in number and in bytes.
#[test]
fn change_notices_are_bounded() {
    let buffer = buffer(config(1, 10));
    for n in 0..MAX_NOTICES {
        let pushed = buffer.try_put(Some(&n.to_string()), "changed".into());
        pushed.unwrap();
    }
    let more = || buffer.try_put(Some("more"), "changed".into());
    assert_eq!(more(), Err(NotPushed::Full));
    assert_eq!(buffer.try_put(Some("0"), "changed".into()), Ok(()));
    drain(&mut buffer.reader());
    assert_eq!(buffer.bytes(), 0);

    let long = Bytes::from("x".repeat(MAX_NOTICE_BYTES + 1));
    buffer.try_put(Some("long"), long).unwrap();
    assert_eq!(more(), Err(NotPushed::Full));
}

/// F20, 5.9 (18): what is read again after a cut tells of changes again, and then each change anew.
#[test]
fn f20_notices_are_told_again_when_they_are_read_again() {
    let buffer = buffer(kept(10));
    let tell = || buffer.try_put(Some("a"), "a".into()).unwrap();
    let mut reader = buffer.reader();
    tell();
    drain(&mut reader);
    tell();
    drain(&mut reader);
    let mut again = buffer.reader_after(0).unwrap();
    tell();
    assert_eq!(drain(&mut again).matches("data: a").count(), 2);
    tell();
    assert_eq!(drain(&mut again), "event: message\nid: 7-3\ndata: a\n\n");
}

/// R111, R116: the newest reader wins and gets what the older one has not taken.
#[tokio::test]
async fn r111_a_newer_reader_takes_over() {
    let buffer = buffer(config(10, 1000));
    buffer.push("1".into()).await.unwrap();
    let mut old = buffer.reader();
    read(&mut old).await.unwrap();
    buffer.push("2".into()).await.unwrap();
    let mut new = buffer.reader();
    assert_eq!(read(&mut old).await, None);
    drop(old);
    assert!(buffer.is_attached(), "the old one takes nothing along");
    assert_eq!(read(&mut new).await.unwrap(), "event: message\ndata: 2\n\n");
}

/// F20, R113: what has been written can be read again after any event, then it goes on live.
#[test]
fn f20_reading_on_after_an_event() {
    let buffer = buffer(kept(10));
    for n in 1..=3 {
        buffer.try_push(n.to_string().into()).unwrap();
    }
    drain(&mut buffer.reader());
    let mut again = buffer.reader_after(1).unwrap();
    buffer.try_push("4".into()).unwrap();
    let event = |n: u64| format!("event: message\nid: 7-{n}\ndata: {n}\n\n");
    assert_eq!(drain(&mut again), event(2) + &event(3) + &event(4));
    assert_eq!(
        buffer.reader_after(5).unwrap_err(),
        Evicted,
        "of no event yet"
    );
    assert_eq!(drain(&mut buffer.reader_after(4).unwrap()), "");
}

/// R114, F23: what does not fit is dropped from the oldest on, and a gap is refused, not skipped.
#[tokio::test(start_paused = true)]
async fn f23_history_is_bounded_by_count_and_age() {
    let buffer = buffer(kept(2));
    // Its client has been there, and left.
    drop(buffer.reader());
    for n in 1..=5 {
        buffer.try_push(n.to_string().into()).unwrap();
    }
    assert_eq!(buffer.reader_after(2).unwrap_err(), Evicted);
    assert!(drain(&mut buffer.reader_after(3).unwrap()).starts_with("event: message\nid: 7-4"));
    tokio::time::advance(EventBufferConfig::resumable().retention).await;
    assert!(!buffer.sweep(), "more may come");
    assert_eq!(buffer.bytes(), 0);
    buffer.close();
    assert!(buffer.sweep());
}

/// F20: what is said before the first reader came is not pushed out: that reader is on its way.
#[test]
fn f20_the_first_reader_misses_nothing() {
    let buffer = buffer(kept(2));
    for message in ["a", "b"] {
        buffer.try_push(Bytes::from(message)).unwrap();
    }
    assert_eq!(buffer.try_push(Bytes::from("c")), Err(NotPushed::Full));
    let seen = drain(&mut buffer.reader());
    assert!(
        seen.contains("data: a") && seen.contains("data: b"),
        "{seen}"
    );
}

/// A reader that is there is never skipped over, however much is said.
#[test]
fn f23_what_a_reader_has_not_read_stays() {
    let buffer = buffer(kept(2));
    let mut reader = buffer.reader();
    buffer.try_push("1".into()).unwrap();
    buffer.try_push("2".into()).unwrap();
    assert_eq!(buffer.try_push("3".into()), Err(NotPushed::Full));
    assert_eq!(drain(&mut reader).matches("data: ").count(), 2);
    buffer.try_push("3".into()).unwrap();
}

#[test]
fn f20_ids_are_written_in_one_way_only() {
    let id = event_id(StreamId(12), 34);
    assert_eq!(parse_event_id(id.as_bytes()), Some((StreamId(12), 34)));
    for wrong in [
        "",
        "1",
        "-",
        "1-",
        "01-2",
        "1-+2",
        "1-2-3",
        "x-1",
        "1-18446744073709551616",
    ] {
        assert_eq!(parse_event_id(wrong.as_bytes()), None, "{wrong}");
    }
}

proptest! {
    /// Whatever is pushed, read, cut and resumed: every message comes once and in order.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(steps in proptest::collection::vec(0..4u8, 1..200)) {
        let buffer = buffer(EventBufferConfig { max_events: 5, ..kept(5) });
        let (mut said, mut seen) = (0_u64, Vec::new());
        let mut reader = Some(buffer.reader());
        for step in steps {
            match (step, &mut reader) {
                (0 | 1, _) => if buffer.try_push((said + 1).to_string().into()).is_ok() { said += 1 },
                (2, Some(live)) => seen.push(drain(live)),
                (2, None) | (3, None) => {
                    let after = last_of(&seen);
                    match buffer.reader_after(after) {
                        Ok(resumed) => reader = Some(resumed),
                        // Said while nobody was there, and too much of it.
                        Err(Evicted) => { prop_assert!(said - after > 5); return Ok(()); }
                    }
                }
                _ => reader = None,
            }
        }
        let text = seen.concat();
        let numbers: Vec<u64> = text.lines().filter_map(|l| l.strip_prefix("data: ")?.parse().ok()).collect();
        prop_assert_eq!(numbers.clone(), (1..=numbers.len() as u64).collect::<Vec<_>>());
    }
}

fn last_of(seen: &[String]) -> u64 {
    let text = seen.concat();
    let last = text
        .lines()
        .filter_map(|l| l.strip_prefix("data: ")?.parse().ok())
        .next_back();
    last.unwrap_or(0)
}
