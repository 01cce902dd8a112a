//! What the scanner alone does: the tests of all readers are those of the module above.

use super::*;

#[test]
fn r167_an_id_too_long_voids_the_cursor() {
    for cut in 0..14 {
        let mut scanner = Scanner::new(4);
        let (head, tail) = b"id: 1\n\nid: 12345\n\n".split_at(cut);
        scanner.scan(head);
        scanner.scan(tail);
        assert_eq!(scanner.last_event_id(), None, "cut at {cut}");
        scanner.scan(b"id: 1234\n\n");
        assert_eq!(scanner.last_event_id(), Some(&b"1234"[..]));
    }
}

#[test]
fn r168_retry_takes_effect_at_once() {
    let mut scanner = Scanner::default();
    scanner.scan(b"data: a\nretry: 15");
    assert_eq!(scanner.retry(), None);
    scanner.scan(b"00\n");
    assert_eq!(scanner.retry(), Some(Duration::from_millis(1500)));
}

#[test]
fn d1_the_scanner_says_where_the_last_event_lies() {
    let mut scanner = Scanner::default();
    let first = scanner.scan(b": ka\n\ndata: a\n\ndata: b\n: c");
    assert_eq!(first.boundary, Some(15));
    assert_eq!(
        (first.last_event_start, first.last_event_end),
        (Some(6), Some(15))
    );
    assert_eq!(scanner.scan(b"c"), Scan::default());
    let second = scanner.scan(b"\n\n: ka\n\ndata");
    assert_eq!(second.boundary, Some(8));
    assert_eq!(
        (second.last_event_start, second.last_event_end),
        (Some(-12), Some(2))
    );
    assert!(!scanner.at_boundary());
}

/// G7: an event that only says where the stream stands is told from one with data, however it is cut.
#[test]
fn g7_the_scanner_tells_events_with_data() {
    for (stream, expected) in [
        ("data: {}\n\n", true),
        ("data:x\n\n", true),
        ("id: 1\ndata:\ndata: x\nretry: 5\n\n", true),
        ("data\n\n", false),
        ("id: 1\nretry: 0\ndata:\n\n", false),
        ("id: 1\r\ndata: \r\n\r\n", false),
        (
            "event: data\nid: data: x\n: data: x\ndata2: x\ndatax\n\n",
            false,
        ),
        ("data: x\n", false),
    ] {
        for cut in 0..stream.len() {
            let (head, tail) = stream.as_bytes().split_at(cut);
            let mut scanner = Scanner::default();
            let found = scanner.scan(head).has_data | scanner.scan(tail).has_data;
            assert_eq!(found, expected, "{stream:?} cut at {cut}");
            // What one event had is not what the next one has.
            let rest = scanner.scan(b"\n\nid: 2\n\n").has_data;
            assert_eq!(rest, stream == "data: x\n", "{stream:?} cut at {cut}");
        }
    }
}

#[test]
fn r167_a_nul_voids_a_long_id_wherever_it_is_cut() {
    let mut scanner = Scanner::new(4);
    scanner.scan(b"id: 1\n\nid: ");
    for _ in 0..4 {
        scanner.scan(&[b'x'; 50]);
    }
    scanner.scan(b"\0x");
    scanner.scan(b"\n\n");
    assert_eq!(scanner.last_event_id(), Some(&b"1"[..]));
    // The next line that is cut starts with a clean slate.
    scanner.scan(b"id:");
    scanner.scan(b"2\n\n");
    assert_eq!(scanner.last_event_id(), Some(&b"2"[..]));
}

#[test]
fn r167_an_id_is_committed_once() {
    let mut scanner = Scanner::default();
    scanner.scan(b"id: 1\n");
    assert_eq!(scanner.last_event_id(), None, "its block is not complete");
    scanner.scan(b"\nid: 2\n\n");
    scanner.scan(b"data\n\n");
    assert_eq!(scanner.last_event_id(), Some(&b"2"[..]));
}

#[test]
fn r167_the_last_id_of_a_block_wins_over_chunks() {
    let mut scanner = Scanner::default();
    scanner.scan(b"id: 1\n");
    scanner.scan(b"id: 2\n\ndata\n\n");
    assert_eq!(scanner.last_event_id(), Some(&b"2"[..]));
    scanner.scan(b"id: 3\n");
    scanner.scan(b"id:\n\n");
    assert_eq!(scanner.last_event_id(), None);
    scanner.scan(b"data\n\n");
    assert_eq!(scanner.last_event_id(), None);
}

#[test]
fn r162_a_bom_ends_at_a_boundary() {
    let mut scanner = Scanner::default();
    assert!(scanner.at_boundary());
    assert_eq!(scanner.scan(b"\xEF"), Scan::default());
    assert!(!scanner.at_boundary());
    assert_eq!(scanner.scan(b"\xBB\xBF").boundary, Some(2));
    assert!(scanner.at_boundary());
}
