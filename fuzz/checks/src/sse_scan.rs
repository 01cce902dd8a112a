//! The scanner: agrees with the decoder on boundaries, events and ids, however the stream is cut.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::sse::{self, Decoder, Item, Scanner};

use crate::model::Model;
use crate::{Cuts, split_seed};

/// Where a scanner stands after some bytes of a stream, counted from the stream's first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct State {
    boundary: Option<usize>,
    event: Option<Range<usize>>,
    last_id: Option<Vec<u8>>,
    retry: Option<Duration>,
    at_boundary: bool,
    /// An event with data has come.
    has_data: bool,
}

/// Checks one input: a seed and a stream.
pub fn check(input: &[u8]) {
    let (seed, stream) = split_seed(input);
    let bytes = stream.chunks(1).collect::<Vec<_>>();
    let cuts = Cuts::new(stream, seed).collect::<Vec<_>>();

    for max_id in [Scanner::DEFAULT_MAX_ID, 4] {
        let single = scan(&bytes, max_id);
        for chunks in [&cuts, &vec![stream]] {
            let mut end = 0;
            for (chunk, state) in chunks.iter().zip(scan(chunks, max_id)) {
                end += chunk.len();
                // An empty stream is a chunk without a byte.
                let Some(last) = end.checked_sub(1) else {
                    continue;
                };
                agree(stream, &state, &single[last]);
            }
        }
        check_ids(stream, &single, max_id);
    }
    check_against_decoder(stream, &scan(&bytes, Scanner::DEFAULT_MAX_ID));
}

/// The state after each chunk.
fn scan(chunks: &[&[u8]], max_id: usize) -> Vec<State> {
    let mut scanner = Scanner::new(max_id);
    let mut state = State {
        at_boundary: true,
        ..State::default()
    };
    let mut offset = 0_usize;
    let mut states = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let found = scanner.scan(chunk);
        if let Some(boundary) = found.boundary {
            assert!(
                (1..=chunk.len()).contains(&boundary),
                "a boundary outside of the chunk"
            );
            state.boundary = Some(offset + boundary);
        }
        assert_eq!(
            found.last_event_start.is_some(),
            found.last_event_end.is_some()
        );
        if let (Some(start), Some(end)) = (found.last_event_start, found.last_event_end) {
            assert!(found.boundary >= Some(end), "an event ends at a boundary");
            let start = offset
                .checked_add_signed(start)
                .expect("an event begins in the stream");
            state.event = Some(start..offset + end);
        }
        state.last_id = scanner.last_event_id().map(<[u8]>::to_vec);
        state.retry = scanner.retry();
        state.at_boundary = scanner.at_boundary();
        state.has_data |= found.has_data;
        if !chunk.is_empty() {
            let ends_there = found.boundary == Some(chunk.len());
            assert_eq!(
                state.at_boundary, ends_there,
                "the boundary and the state differ"
            );
        }
        offset += chunk.len();
        states.push(state.clone());
    }
    states
}

/// Whether two scanners that were fed the same bytes in other chunks stand at the same place.
fn agree(stream: &[u8], one: &State, other: &State) {
    let (mut one, mut other) = (one.clone(), other.clone());
    for state in [&mut one, &mut other] {
        // An event whose CRLF was cut in two ends before or after its LF.
        if let Some(event) = &mut state.event
            && stream[..event.end].ends_with(b"\r\n")
        {
            event.end -= 1;
        }
    }
    assert_eq!(one, other);
}

/// The committed id, at any place in the stream, is that of the model for the bytes up to there.
fn check_ids(stream: &[u8], single: &[State], max_id: usize) {
    // The model takes time that grows with the square of the length.
    let step = stream.len() / 64 + 1;
    for (last, state) in single.iter().enumerate().rev().step_by(step) {
        let model = Model::of(&stream[..=last]);
        let fits = |id: &String| !id.is_empty() && id.len() <= max_id;
        let expected = model.last_id.filter(fits).map(String::into_bytes);
        assert_eq!(state.last_id, expected, "after {} bytes", last + 1);
        assert_eq!(state.retry, model.retry, "after {} bytes", last + 1);
        let data = model
            .blocks
            .iter()
            .filter_map(|block| block.data.as_deref());
        let has_data = data.flat_map(str::chars).any(|char| char != '\n');
        assert_eq!(state.has_data, has_data, "after {} bytes", last + 1);
    }
}

/// Fed byte by byte, both find the same events at the same places.
fn check_against_decoder(stream: &[u8], single: &[State]) {
    let mut decoder = Decoder::new(sse::DEFAULT_MAX_EVENT);
    let mut boundary = None;
    let mut event = None;
    for (at, state) in single.iter().enumerate() {
        decoder.push(Bytes::copy_from_slice(&stream[at..=at]));
        let item = decoder
            .next_item()
            .expect("the stream is smaller than the limit");
        let is_new_event = state.event != event;
        event.clone_from(&state.event);
        match item {
            Some(Item::Event(item)) => {
                assert!(is_new_event, "the scanner misses an event");
                let range = event.clone().expect("a new event has a place");
                assert_eq!(range.end, at + 1);
                let data = sse::data_of(&stream[range]);
                let data = data.map(|data| String::from_utf8_lossy(&data).into_owned());
                assert_eq!(data.map(Bytes::from), item.data, "the place of the event");
                boundary = Some(at + 1);
            }
            Some(Item::Comment(_)) => {
                assert!(!is_new_event, "the scanner takes a comment for an event");
                boundary = Some(at + 1);
            }
            None => {
                assert!(!is_new_event, "the scanner finds an event that is none");
                let ends_crlf = stream[..=at].ends_with(b"\r\n") && boundary == Some(at);
                if ends_crlf || stream[..=at] == *b"\xEF\xBB\xBF" {
                    boundary = Some(at + 1);
                }
            }
        }
        assert_eq!(state.boundary, boundary, "after {} bytes", at + 1);
    }
}
