//! Properties of the event-stream readers and writer over generated streams. What they check lies
//! with the fuzz targets; here, streams are made of the parts that matter.
//!
//! Covers C5 and D1 to D3 over R160 to R172: any cut gives the same items and the same state;
//! decoding what was encoded gives it back; raw bytes written on are read as the same items; both
//! readers agree; memory is bounded; `sse-stream` finds the same events (its module in the checks
//! names the known differences).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use thinpipe_fuzz_checks::{Cuts, sse_decode, sse_scan};
use thinpipe_proto::sse::{self, Decoder, Item, Scanner};

/// A piece of a stream: what the grammar knows, what it nearly knows, and noise.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        &b"data"[..],
        b"data: ",
        b"data:",
        b"id: ",
        b"id",
        b"event: ",
        b"retry: ",
        b": ",
        b":",
        b" ",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b"\xEF\xBB\xBF",
        b"\xEF\xBB",
        b"\xBF",
        b"\xC3\xA9",
        b"\xC3",
        b"\xFF",
        b"{\"a\":[1]}",
        b"Data: x",
        b"datas",
    ]);
    prop_oneof![
        12 => token.prop_map(<[u8]>::to_vec),
        2 => "[0-9]{1,7}".prop_map(String::into_bytes),
        1 => (any::<u8>(), 1..200_usize).prop_map(|(byte, count)| vec![byte; count]),
        1 => Just(b"\n".to_vec()),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
}

/// A seed for the cuts and a stream, as the checks take them.
fn input() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), stream()).prop_map(|(seed, stream)| [&[seed], stream.as_slice()].concat())
}

/// A value that stands on one line.
fn line() -> impl Strategy<Value = Vec<u8>> {
    "[^\r\n\0]{0,20}".prop_map(String::into_bytes)
}

fn items(bytes: &Bytes) -> Vec<Item> {
    let mut decoder = Decoder::new(sse::DEFAULT_MAX_EVENT);
    decoder.push(bytes.clone());
    std::iter::from_fn(|| decoder.next_item().expect("smaller than the limit")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// C5, D1, D3, R160 to R171.
    #[test]
    fn d1_the_decoder_is_right_however_the_stream_is_cut(input in input()) {
        sse_decode::check(&input);
    }

    /// D1, R160, R161, R167, R170.
    #[test]
    fn d1_the_scanner_agrees_with_the_decoder_however_the_stream_is_cut(input in input()) {
        sse_scan::check(&input);
    }

    /// D2, R172.
    #[test]
    fn d2_decoding_what_was_encoded_gives_it_back(
        kind in prop::option::of(line()),
        id in prop::option::of(line()),
        retry in prop::option::of(0..300_000_u64),
        data in "(?s).{0,60}",
        breaks in prop::collection::vec((0..60_usize, prop::sample::select(vec!["\r", "\n", "\r\n"])), 0..4),
    ) {
        let mut data = data;
        for (at, end) in breaks {
            if data.is_char_boundary(at) {
                data.insert_str(at, end);
            }
        }
        let retry = retry.map(Duration::from_millis);
        let mut out = BytesMut::new();
        sse::encode(&mut out, kind.as_deref(), id.as_deref(), retry, Some(data.as_bytes()));
        let items = items(&out.freeze());
        let [Item::Event(event)] = &items[..] else { panic!("{items:?}") };
        // On the wire there is but one kind of line break, and no empty type.
        let data = data.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(event.data.as_deref(), Some(data.as_bytes()));
        prop_assert_eq!(event.kind.as_deref(), kind.as_deref().filter(|kind| !kind.is_empty()));
        prop_assert_eq!(event.id.as_deref(), id.as_deref());
        prop_assert_eq!(event.retry, retry);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// D3, R171: whatever comes, no more is held than one event of the limit and one comment.
    #[test]
    fn d3_memory_is_bounded(pieces in prop::collection::vec((piece(), 1..400_usize), 1..30), seed: u8) {
        const LIMIT: usize = 512;
        let stream = pieces.into_iter().flat_map(|(piece, times)| piece.repeat(times)).collect::<Vec<_>>();
        let mut decoder = Decoder::new(LIMIT);
        let mut scanner = Scanner::new(64);
        'stream: for chunk in Cuts::new(&stream, seed) {
            scanner.scan(chunk);
            prop_assert!(scanner.last_event_id().is_none_or(|id| id.len() <= 64));
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next_item() {
                    Ok(Some(Item::Event(event))) => prop_assert!(event.raw.len() <= LIMIT + 1),
                    Ok(Some(Item::Comment(raw))) => prop_assert!(raw.len() <= 4096 + 2),
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
            prop_assert!(decoder.pending() <= 4096);
        }
    }
}
