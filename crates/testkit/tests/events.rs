//! The kit's own reader of event streams, against the rules of the standard.

use thinpipe_testkit::{Event, EventReader};

fn read(bytes: &[u8], step: usize) -> Vec<Event> {
    let mut reader = EventReader::new();
    let mut events = Vec::new();
    for piece in bytes.chunks(step) {
        reader.push(piece);
        events.extend(std::iter::from_fn(|| reader.next_event()));
    }
    events
}

/// R160..R162, R164, R169, R170
#[test]
fn any_split_gives_the_same_events() {
    let stream = "\u{feff}: hi\r\nid: 1\r\ndata: a\u{20ac}\r\ndata:b\r\n\r\nevent: x\rdata\r\rretry: 5x\nretry: 70\nother: y\nid\n\ndata: half";
    let whole = read(stream.as_bytes(), stream.len());
    assert_eq!(whole.len(), 3);
    assert_eq!(whole[0].data.as_deref(), Some("a\u{20ac}\nb"));
    assert_eq!(whole[0].comment.as_deref(), Some("hi"));
    assert_eq!(whole[1].data.as_deref(), Some(""));
    assert_eq!(
        (whole[2].retry, whole[2].id.as_deref()),
        (Some(70), Some(""))
    );
    for step in 1..stream.len() {
        assert_eq!(read(stream.as_bytes(), step), whole, "in steps of {step}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let event = Event {
        kind: Some("message".into()),
        id: Some("a-1".into()),
        retry: Some(3000),
        data: Some("{\n}".into()),
        comment: Some("why".into()),
    };
    assert_eq!(read(&event.to_bytes(), 1), [event]);
    assert_eq!(
        read(&Event::comment("x").to_bytes(), 1),
        [Event::comment("x")]
    );
    assert!(Event::comment("x").is_comment());
    assert!(!Event::priming("1").has_message());
}

#[test]
fn samples_deliver_what_they_say() {
    for sample in thinpipe_testkit::samples::SAMPLES {
        for step in [1, 3, sample.bytes.len()] {
            let delivered = thinpipe_testkit::samples::delivered(&read(sample.bytes, step));
            let delivered: Vec<_> = delivered
                .iter()
                .map(|(kind, data, id)| (kind.as_str(), data.as_str(), id.as_str()))
                .collect();
            assert_eq!(
                delivered, sample.delivered,
                "{} in steps of {step}",
                sample.name
            );
        }
    }
}
