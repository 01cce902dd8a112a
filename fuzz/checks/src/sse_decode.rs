//! The decoder: agrees with the model and with a peer, however the stream is cut, within bounds.

use bytes::{Bytes, BytesMut};
use thinpipe_proto::sse::{self, DecodeError, Decoder, Event, Item};

use crate::model::{Block, Model};
use crate::{Cuts, peer, split_seed};

/// A limit that most inputs reach.
const SMALL: usize = 48;

/// Comments are held up to here, whatever the limit of events.
const MAX_COMMENT: usize = 4096;

/// What a stream came to.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    items: Vec<Item>,
    last_id: Option<Bytes>,
    error: Option<DecodeError>,
}

/// Checks one input: a seed and a stream.
pub fn check(input: &[u8]) {
    let (seed, stream) = split_seed(input);
    let cuts = Cuts::new(stream, seed).collect::<Vec<_>>();
    let bytes = stream.chunks(1).collect::<Vec<_>>();

    let whole = read(&[stream], sse::DEFAULT_MAX_EVENT);
    assert_eq!(read(&bytes, sse::DEFAULT_MAX_EVENT), whole, "byte by byte");
    assert_eq!(read(&cuts, sse::DEFAULT_MAX_EVENT), whole, "in chunks");

    let small = read(&[stream], SMALL);
    assert_eq!(read(&bytes, SMALL), small, "byte by byte, small limit");
    assert_eq!(read(&cuts, SMALL), small, "in chunks, small limit");
    assert!(
        whole.items.starts_with(&small.items),
        "the limit changes no event"
    );

    let blocks = whole
        .items
        .iter()
        .filter_map(event)
        .map(block)
        .collect::<Vec<_>>();
    let model = Model::of(stream);
    assert_eq!(blocks, model.blocks, "the model");
    assert_eq!(
        whole.last_id.as_deref(),
        model.last_id.as_deref().map(str::as_bytes),
        "last id"
    );

    if let Some(theirs) = peer::read(&cuts) {
        let says_something = |block: &&Block| **block != Block::default();
        let ours = blocks
            .iter()
            .filter(says_something)
            .cloned()
            .collect::<Vec<_>>();
        assert_eq!(ours, theirs, "sse-stream");
    }

    let raw = whole.items.iter().map(raw).collect::<Vec<_>>();
    assert!(
        raw.iter().all(|raw| raw.ends_with(b"\n")),
        "every item ends in LF"
    );
    assert_eq!(
        read(&raw, sse::DEFAULT_MAX_EVENT),
        whole,
        "read again, item by item"
    );
    assert_eq!(
        read(&[&raw.concat()], sse::DEFAULT_MAX_EVENT),
        whole,
        "read again"
    );

    for event in whole.items.iter().filter_map(event) {
        check_event(event);
    }
}

fn check_event(event: &Event) {
    let data = sse::data_of(&event.raw);
    let data = data.map(|data| Bytes::from(String::from_utf8_lossy(&data).into_owned()));
    assert_eq!(data, event.data, "data_of");

    let mut out = BytesMut::new();
    let [kind, id, data] = [&event.kind, &event.id, &event.data].map(|value| value.as_deref());
    sse::encode(&mut out, kind, id, event.retry, data);
    let written = read(&[&out], sse::DEFAULT_MAX_EVENT);
    let mut expected = block(event);
    // A type, unlike an id, may hold a NUL on the wire; we do not write one.
    expected.kind = expected
        .kind
        .map(|kind| kind.replace('\0', ""))
        .filter(|kind| !kind.is_empty());
    let blocks = written
        .items
        .iter()
        .filter_map(self::event)
        .map(block)
        .collect::<Vec<_>>();
    if expected == Block::default() {
        assert_eq!(blocks, []);
    } else {
        assert_eq!(blocks, [expected], "written and read again");
    }
}

fn read(chunks: &[&[u8]], max_event: usize) -> Reading {
    let mut decoder = Decoder::new(max_event);
    let mut reading = Reading {
        items: Vec::new(),
        last_id: None,
        error: None,
    };
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_item() {
                Ok(Some(item)) => reading.items.push(item),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_item(), Err(error.clone()), "the error stays");
                    reading.error = Some(error);
                    break;
                }
            }
        }
        assert!(
            decoder.pending() <= max_event.max(MAX_COMMENT),
            "{} held",
            decoder.pending()
        );
    }
    reading.last_id = decoder.last_event_id().cloned();
    reading
}

fn event(item: &Item) -> Option<&Event> {
    match item {
        Item::Event(event) => Some(event),
        Item::Comment(_) => None,
    }
}

fn raw(item: &Item) -> &[u8] {
    match item {
        Item::Event(event) => &event.raw,
        Item::Comment(raw) => raw,
    }
}

fn block(event: &Event) -> Block {
    let text = |value: &Option<Bytes>| {
        let text = value
            .as_ref()
            .map(|value| String::from_utf8(value.to_vec()));
        text.map(|text| text.expect("the parts of an event are UTF-8"))
    };
    Block {
        kind: text(&event.kind),
        data: text(&event.data),
        id: text(&event.id),
        retry: event.retry,
    }
}
