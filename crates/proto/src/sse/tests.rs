//! The rows R160 to R172, C7, D1 and D2, each read by the decoder and, where it says something of
//! boundaries or ids, by the scanner.

use bytes::{Bytes, BytesMut};

use super::*;

/// What one event says: kind, data, id, retry in milliseconds.
type Said = (Option<String>, Option<String>, Option<String>, Option<u128>);

fn items_of(chunks: &[&[u8]]) -> Vec<Item> {
    let mut decoder = Decoder::new(DEFAULT_MAX_EVENT);
    let mut items = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Some(item) = decoder.next_item().unwrap() {
            items.push(item);
        }
    }
    items
}

fn events_of(chunks: &[&[u8]]) -> Vec<Event> {
    let event = |item| match item {
        Item::Event(event) => Some(event),
        Item::Comment(_) => None,
    };
    items_of(chunks).into_iter().filter_map(event).collect()
}

fn said(event: &Event) -> Said {
    let text = |value: &Option<Bytes>| {
        value
            .as_ref()
            .map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    (
        text(&event.kind),
        text(&event.data),
        text(&event.id),
        event.retry.map(|t| t.as_millis()),
    )
}

/// The data of all events of a stream that comes in one chunk.
fn data(stream: &[u8]) -> Vec<Option<String>> {
    events_of(&[stream])
        .iter()
        .map(|event| said(event).1)
        .collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn last_id(stream: &[u8]) -> Option<Bytes> {
    let mut decoder = Decoder::new(DEFAULT_MAX_EVENT);
    decoder.push(Bytes::copy_from_slice(stream));
    while decoder.next_item().unwrap().is_some() {}
    let id = decoder.last_event_id().cloned();
    let mut scanner = Scanner::default();
    scanner.scan(stream);
    let named = id.as_deref().filter(|id| !id.is_empty());
    assert_eq!(scanner.last_event_id(), named, "the two readers differ");
    id
}

#[test]
fn r160_crlf_lf_and_cr_all_end_lines() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = ["data: a", "data: b", "", "data: c", "", ""].join(end);
        assert_eq!(
            data(stream.as_bytes()),
            [some("a\nb"), some("c")],
            "{end:?}"
        );
    }
}

#[test]
fn r160_a_crlf_cut_in_two_counts_once() {
    let events = events_of(&[
        b"data: a\r",
        b"\ndata: b\r",
        b"\n\r",
        b"\ndata: c\r",
        b"\n\r",
    ]);
    assert_eq!(
        events.iter().map(|e| said(e).1).collect::<Vec<_>>(),
        [some("a\nb"), some("c")]
    );
    assert_eq!(events[0].raw, "data: a\r\ndata: b\r\n\r\n");
}

#[test]
fn r160_a_cr_ends_its_line_at_once() {
    let mut decoder = Decoder::new(DEFAULT_MAX_EVENT);
    decoder.push(Bytes::from_static(b"data: a\r\n\r"));
    let Some(Item::Event(event)) = decoder.next_item().unwrap() else {
        panic!("no event")
    };
    assert_eq!(
        event.raw, "data: a\r\n\r\n",
        "completed, so that nobody waits for the LF"
    );
    decoder.push(Bytes::from_static(b"\n"));
    assert_eq!(
        decoder.next_item().unwrap(),
        None,
        "the LF is not another line"
    );

    let mut scanner = Scanner::default();
    assert_eq!(scanner.scan(b"data: a\r\n\r").boundary, Some(10));
    assert!(scanner.at_boundary());
    assert_eq!(scanner.scan(b"\ndata: b").boundary, Some(1));
    assert!(!scanner.at_boundary());
}

#[test]
fn r161_any_cut_gives_the_same_items() {
    let stream =
        "\u{FEFF}: hi\r\n\nid: 1\r\ndata: gr\u{fc}\u{df}e \u{1F980}\r\n\r\nevent: x\rdata\r\r";
    let whole = items_of(&[stream.as_bytes()]);
    assert_eq!(
        whole
            .iter()
            .filter(|item| matches!(item, Item::Event(_)))
            .count(),
        2
    );
    let bytes = stream.as_bytes().chunks(1).collect::<Vec<_>>();
    assert_eq!(items_of(&bytes), whole);
    for cut in 0..stream.len() {
        let (head, tail) = stream.as_bytes().split_at(cut);
        assert_eq!(items_of(&[head, tail]), whole, "cut at {cut}");
    }
}

#[test]
fn r162_one_bom_at_the_start_is_dropped() {
    assert_eq!(data(b"\xEF\xBB\xBFdata: a\n\n"), [some("a")]);
    assert_eq!(
        events_of(&[b"\xEF", b"\xBB\xBFdata: a\n\n"])[0].raw,
        "data: a\n\n"
    );
}

#[test]
fn r162_a_later_bom_is_content() {
    assert_eq!(data("data: \u{FEFF}a\n\n".as_bytes()), [some("\u{FEFF}a")]);
    assert_eq!(
        data("data: a\n\n\u{FEFF}data: b\n\n".as_bytes()),
        [some("a"), None]
    );
    // What only looks like a BOM is content from its first byte on.
    assert_eq!(events_of(&[b"\xEF", b"\xBB", b"data: a\n\n"])[0].data, None);
}

#[test]
fn r162_a_second_bom_does_not_hide_an_event_from_us_that_others_see() {
    let twice = events_of(&["\u{FEFF}\u{FEFF}data: a\ndata: b\n\n".as_bytes()]);
    assert_eq!(said(&twice[0]).1, some("b"));
    assert_eq!(events_of(&[&twice[0].raw]), twice);
}

#[test]
fn r163_one_space_after_the_colon_is_removed() {
    assert_eq!(
        data(b"data:a\n\ndata: a\n\ndata:  a\n\n"),
        [some("a"), some("a"), some(" a")]
    );
    assert_eq!(data(b"data:\ta\n\n"), [some("\ta")]);
}

#[test]
fn r164_data_lines_join_with_lf() {
    assert_eq!(data(b"data: a\ndata:\ndata: b\n\n"), [some("a\n\nb")]);
    assert_eq!(data(b"data: a\ndata:\n\n"), [some("a\n")]);
    assert_eq!(data(b"data: a\nid: 1\ndata: b\n\n"), [some("a\nb")]);
}

#[test]
fn r165_data_may_be_empty() {
    assert_eq!(
        data(b"data\n\ndata:\n\ndata: \n\n"),
        [some(""), some(""), some("")]
    );
}

#[test]
fn r165_an_empty_event_type_is_none() {
    let events = events_of(&[b"event: a\nevent:\ndata\n\n"]);
    assert_eq!(said(&events[0]).0, None);
}

#[test]
fn r166_a_block_without_data_commits_its_id_and_delivers_nothing() {
    let events = events_of(&[b"id: 5\n\n"]);
    assert_eq!(said(&events[0]), (None, None, some("5"), None));
    assert_eq!(last_id(b"id: 5\n\n").unwrap(), "5");
}

#[test]
fn r167_an_id_with_nul_is_ignored() {
    assert_eq!(last_id(b"id: 1\n\nid: 2\0\n\n").unwrap(), "1");
    assert_eq!(last_id(b"id: 1\nid: 2\0\n\n").unwrap(), "1");
}

#[test]
fn r167_an_empty_id_resets() {
    assert_eq!(last_id(b"id: 1\n\nid\n\n").unwrap(), "");
    assert_eq!(last_id(b"id: 1\n\nid:\ndata: x\n\n").unwrap(), "");
    assert_eq!(last_id(b"data: x\n\n"), None);
}

#[test]
fn r167_an_id_persists_over_events() {
    let stream = b"id: 1\ndata: a\n\ndata: b\n\n";
    assert_eq!(last_id(stream).unwrap(), "1");
    assert_eq!(said(&events_of(&[stream])[1]).2, None);
}

#[test]
fn r168_retry_is_digits_only_and_clamped() {
    let retry = |value: &str| {
        let stream = format!("retry: {value}\ndata\n\n");
        let mut scanner = Scanner::default();
        scanner.scan(stream.as_bytes());
        let retry = events_of(&[stream.as_bytes()])[0].retry;
        assert_eq!(scanner.retry(), retry, "the two readers differ");
        retry.map(|retry| retry.as_millis())
    };
    assert_eq!(retry("1500"), Some(1500));
    assert_eq!(retry("0"), Some(0));
    for ignored in ["", "1s", "-1", "+1", "1.5", " 1", "1 ", "\u{661}"] {
        assert_eq!(retry(ignored), None, "{ignored:?}");
    }
    assert_eq!(retry("300001"), Some(300_000));
    assert_eq!(retry("99999999999999999999999999"), Some(300_000));
}

#[test]
fn r169_comments_and_unknown_fields_are_ignored() {
    let stream = b": c\nData: no\ndata : no\n data: no\ndatax: no\n:data: no\ndata: yes\n\n";
    assert_eq!(data(stream), [some("yes")]);
    assert_eq!(
        items_of(&[b": c\ndata: a\n: inside\ndata: b\n\n"]),
        [Item::Comment(Bytes::from_static(b": c\n")), {
            let raw = Bytes::from_static(b"data: a\ndata: b\n\n");
            let data = Some(Bytes::from_static(b"a\nb"));
            Item::Event(Event {
                raw,
                kind: None,
                data,
                id: None,
                retry: None,
            })
        }]
    );
}

#[test]
fn r169_a_comment_taken_out_does_not_join_a_cr_and_a_lf() {
    let events = events_of(&[b"data: a\r:\n\ndata: b\n\n"]);
    assert_eq!(events[0].raw, "data: a\r\n\n");
    assert_eq!(events_of(&[&events[0].raw])[0], events[0]);
}

#[test]
fn r170_an_unfinished_event_is_dropped_with_its_id() {
    for stream in [
        &b"id: 1\n\nid: 2\ndata: x\n"[..],
        b"id: 1\n\nid: 2\ndata: x",
        b"id: 1\n\nid: 2",
    ] {
        assert_eq!(events_of(&[stream]).len(), 1);
        assert_eq!(last_id(stream).unwrap(), "1");
    }
}

#[test]
fn r171_an_event_over_the_limit_is_an_error_that_stays() {
    let limit = 32;
    let event = |length: usize| format!("data: {}\n\n", "x".repeat(length - 8));
    for chunk in [1, 7, 1024] {
        let mut decoder = Decoder::new(limit);
        let stream = [event(limit), event(limit + 1), event(10)].concat();
        let mut events = 0;
        let mut failed = None;
        for chunk in stream.as_bytes().chunks(chunk) {
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next_item() {
                    Ok(None) => break,
                    Ok(Some(_)) => events += 1,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            assert!(decoder.pending() <= limit);
        }
        assert_eq!(events, 1);
        let error = failed.unwrap();
        assert_eq!(error, DecodeError::EventTooLarge { limit });
        assert_eq!(error.to_string(), "an event of the stream exceeds 32 bytes");
    }
}

#[test]
fn r171_a_line_without_end_is_held_to_the_limit_only() {
    let mut decoder = Decoder::new(1000);
    let mut pushed = 0;
    let error = loop {
        decoder.push(Bytes::from_static(&[b'x'; 100]));
        pushed += 100;
        match decoder.next_item() {
            Ok(item) => assert_eq!(item, None),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (pushed, error),
        (1100, DecodeError::EventTooLarge { limit: 1000 })
    );
    assert_eq!(decoder.pending(), 0);
}

/// A flood of comments neither aborts nor grows memory: one without end, many, and many in an event.
#[test]
fn r171_comments_do_not_count() {
    let mut decoder = Decoder::new(64);
    let mut feed = |bytes: &[u8]| {
        decoder.push(Bytes::copy_from_slice(bytes));
        let mut items = Vec::new();
        while let Some(item) = decoder.next_item().unwrap() {
            items.push(item);
        }
        assert!(decoder.pending() <= 4096, "{}", decoder.pending());
        items
    };
    feed(b":");
    for _ in 0..1000 {
        assert_eq!(feed(&[b'x'; 1000]), []);
    }
    assert_eq!(feed(b"\n"), [Item::Comment(Bytes::from_static(b":\n"))]);
    for _ in 0..1000 {
        assert_eq!(feed(b": keep-alive\n\n").len(), 2);
    }
    feed(b"data: a\n");
    for _ in 0..1000 {
        feed(b": keep-alive\n:");
        feed(&[b'x'; 1000]);
        feed(b"\n");
    }
    let items = feed(b"data: b\n\n");
    let [Item::Event(event)] = &items[..] else {
        panic!("{items:?}")
    };
    assert_eq!(event.raw, "data: a\ndata: b\n\n");
}

#[test]
fn r172_the_emitter_splits_data_at_line_breaks() {
    let mut out = BytesMut::new();
    encode(&mut out, None, None, None, Some(b"a\rb\nc\r\nd\r"));
    assert_eq!(out, "data: a\ndata: b\ndata: c\ndata: d\ndata:\n\n");
}

#[test]
fn r172_the_emitter_keeps_ids_and_kinds_on_one_line() {
    let mut out = BytesMut::new();
    let retry = Some(Duration::from_millis(1500));
    encode(
        &mut out,
        Some(b"a\nid: 9"),
        Some(b"4\r\n\x002"),
        retry,
        Some(b" x"),
    );
    assert_eq!(out, "event: aid: 9\nid: 42\nretry: 1500\ndata:  x\n\n");
    out.clear();
    encode(&mut out, Some(b""), Some(b""), None, None);
    assert_eq!(out, "id:\n\n");
}

/// C7, D2: what an event says survives a change of its data, and comes back as it was written.
#[test]
fn c7_id_kind_and_retry_survive_a_change_of_the_data() {
    let event = &events_of(&[b"event: x\nid: 7\nretry: 20\ndata: {\ndata: }\n\n"])[0];
    let mut out = BytesMut::new();
    let value = |value: &Option<Bytes>| value.clone();
    encode(
        &mut out,
        value(&event.kind).as_deref(),
        value(&event.id).as_deref(),
        event.retry,
        Some(b"[]"),
    );
    let changed = &events_of(&[&out])[0];
    assert_eq!(said(changed), (some("x"), some("[]"), some("7"), Some(20)));
}

#[test]
fn d1_invalid_utf8_becomes_u_fffd_in_the_text_and_stays_in_the_raw_bytes() {
    let event = &events_of(&[b"id: \xFF\ndata: a\xC3\n\n"])[0];
    assert_eq!(
        said(event),
        (None, some("a\u{FFFD}"), some("\u{FFFD}"), None)
    );
    assert_eq!(event.raw, &b"id: \xFF\ndata: a\xC3\n\n"[..]);
    assert_eq!(
        data(b"data: \xC3\ndata: \xA9\n\n"),
        [some("\u{FFFD}\n\u{FFFD}")]
    );
    assert_eq!(last_id(b"id: \xFF\n\n").unwrap(), "\u{FFFD}");
}

/// C5: an event within one chunk is a slice of it.
#[test]
fn c5_an_event_in_one_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b": c\n\nid: 1\r\ndata: abc\r\n\r\ndata: d\n\n");
    let inside = |part: &Bytes| chunk.as_ptr_range().contains(&part.as_ptr());
    let mut decoder = Decoder::new(DEFAULT_MAX_EVENT);
    decoder.push(chunk.clone());
    while let Some(item) = decoder.next_item().unwrap() {
        match item {
            Item::Comment(raw) => assert!(inside(&raw)),
            Item::Event(event) => assert!(inside(&event.raw) && inside(&event.data.unwrap())),
        }
    }
}

#[test]
fn d1_chunks_pushed_at_once_are_read_in_order() {
    let mut decoder = Decoder::new(DEFAULT_MAX_EVENT);
    for chunk in ["data: a\n", "", "\ndata", ": b\n\n"] {
        decoder.push(Bytes::from_static(chunk.as_bytes()));
    }
    for data in ["a", "b"] {
        let Some(Item::Event(event)) = decoder.next_item().unwrap() else {
            panic!("no event")
        };
        assert_eq!(event.data.unwrap(), data);
    }
    assert_eq!(decoder.next_item().unwrap(), None);
}

#[test]
fn d1_data_of_a_raw_block() {
    let borrowed = data_of(b"id: 1\ndata: a\r\n: c\r\n\r\n");
    assert!(matches!(borrowed, Some(std::borrow::Cow::Borrowed(b"a"))));
    assert_eq!(
        data_of(b"data: a\ndata: b\n\n").as_deref(),
        Some(&b"a\nb"[..])
    );
    assert_eq!(data_of(b": c\n\nid: 1\n\ndata: of the next\n\n"), None);
    assert_eq!(data_of(KEEP_ALIVE), None);
}
