//! Instructions that reading event streams takes: ours against the crate `sse-stream`.
//!
//! Counted by valgrind, so runs can be compared whatever else the machine does. `docs/src/figures-sse.md`
//! has the figures and the command.

#![expect(
    missing_docs,
    unused_qualifications,
    reason = "in code that the benchmark macros write"
)]

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::{Stream as _, stream};
use gungraun::{library_benchmark, library_benchmark_group, main};
use sse_stream::SseByteStream;
use thinpipe_proto::sse::{DEFAULT_MAX_EVENT, Decoder, Scanner};

const SMALL_EVENT: usize = 200;
const SMALL_COUNT: usize = 2000;
const SMALL_CHUNK: usize = 16 << 10;

const LARGE_EVENT: usize = 100_000;
const LARGE_COUNT: usize = 20;
const LARGE_CHUNK: usize = 4 << 10;

/// A stream in chunks that share no memory, as they come from a socket.
struct Input {
    chunks: Vec<Bytes>,
    events: usize,
}

type Theirs = SseByteStream<stream::Iter<std::vec::IntoIter<Result<Bytes, Infallible>>>>;

/// Events of `size` bytes with no field but `data`.
fn data_only(size: usize, count: usize, chunk: usize) -> Input {
    let event = |_| event_of("data: ", "lorem ipsum ", size);
    input((0..count).map(event), chunk)
}

/// The same with much text beyond ASCII.
fn beyond_ascii(size: usize, count: usize, chunk: usize) -> Input {
    let event = |_| {
        event_of(
            "data: ",
            "Gr\u{fc}\u{df}e, \u{4f60}\u{597d} \u{1f980} ",
            size,
        )
    };
    input((0..count).map(event), chunk)
}

/// Events as an MCP server with resumable streams writes them.
fn with_id(size: usize, count: usize, chunk: usize) -> Input {
    let event = |n| {
        event_of(
            &format!("event: message\nid: 7f3a/{n}\ndata: "),
            "lorem ipsum ",
            size,
        )
    };
    input((0..count).map(event), chunk)
}

fn event_of(head: &str, text: &str, size: usize) -> String {
    let mut event =
        format!(r#"{head}{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":""#);
    let tail = "\"}}\n\n";
    while event.len() + text.len() + tail.len() <= size {
        event.push_str(text);
    }
    event.extend(std::iter::repeat_n(' ', size - event.len() - tail.len()));
    event + tail
}

fn input(events: impl ExactSizeIterator<Item = String>, chunk: usize) -> Input {
    let count = events.len();
    let stream = events.collect::<String>();
    let chunks = stream
        .as_bytes()
        .chunks(chunk)
        .map(Bytes::copy_from_slice)
        .collect();
    Input {
        chunks,
        events: count,
    }
}

fn theirs(input: Input) -> (Pin<Box<Theirs>>, usize) {
    let chunks = input.chunks.into_iter().map(Ok).collect::<Vec<_>>();
    (
        Box::pin(SseByteStream::new(stream::iter(chunks))),
        input.events,
    )
}

fn small() -> Input {
    data_only(SMALL_EVENT, SMALL_COUNT, SMALL_CHUNK)
}

fn small_with_id() -> Input {
    with_id(SMALL_EVENT, SMALL_COUNT, SMALL_CHUNK)
}

fn large() -> Input {
    data_only(LARGE_EVENT, LARGE_COUNT, LARGE_CHUNK)
}

fn large_beyond_ascii() -> Input {
    beyond_ascii(LARGE_EVENT, LARGE_COUNT, LARGE_CHUNK)
}

fn middle() -> Input {
    with_id(4 << 10, 200, 32 << 10)
}

#[library_benchmark]
#[bench::small(small())]
#[bench::small_with_id(small_with_id())]
#[bench::middle(middle())]
#[bench::large(large())]
#[bench::large_beyond_ascii(large_beyond_ascii())]
fn decoder(input: Input) {
    let mut decoder = Decoder::new(DEFAULT_MAX_EVENT);
    let mut events = 0;
    for chunk in input.chunks {
        decoder.push(chunk);
        while let Some(item) = decoder.next_item().expect("smaller than the limit") {
            black_box(item);
            events += 1;
        }
    }
    assert_eq!(events, input.events);
}

#[library_benchmark]
#[bench::small(theirs(small()))]
#[bench::small_with_id(theirs(small_with_id()))]
#[bench::middle(theirs(middle()))]
#[bench::large(theirs(large()))]
#[bench::large_beyond_ascii(theirs(large_beyond_ascii()))]
fn peer((mut stream, expected): (Pin<Box<Theirs>>, usize)) {
    let mut context = Context::from_waker(Waker::noop());
    let mut events = 0;
    while let Poll::Ready(Some(event)) = stream.as_mut().poll_next(&mut context) {
        black_box(event.expect("a valid stream"));
        events += 1;
    }
    assert_eq!(events, expected);
}

#[library_benchmark]
#[bench::small(small())]
#[bench::small_with_id(small_with_id())]
#[bench::middle(middle())]
#[bench::large(large())]
fn scanner(input: Input) {
    let mut scanner = Scanner::default();
    for chunk in input.chunks {
        black_box(scanner.scan(&chunk));
    }
    assert!(scanner.at_boundary());
}

library_benchmark_group!(name = read, benchmarks = [decoder, peer, scanner]);

main!(library_benchmark_groups = read);
