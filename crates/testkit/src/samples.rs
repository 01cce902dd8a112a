//! Event streams as bytes, with the events that are in them.

use crate::event::Event;

/// An event stream, and what a correct reader finds in it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What it shows.
    pub name: &'static str,
    /// The stream.
    pub bytes: &'static [u8],
    /// Its events with data: type, data and the id that is in force when they are delivered.
    pub delivered: &'static [Delivered],
}

/// An event as an application gets it: type, data, last event id.
pub type Delivered = (&'static str, &'static str, &'static str);

/// Streams that show the rules of the standard, one by one. All but the one named so end in a blank line.
pub const SAMPLES: &[Sample] = &[
    Sample {
        name: "LF, CR and CRLF line ends",
        bytes: b"data: lf\n\ndata: cr\r\rdata: crlf\r\n\r\n",
        delivered: &[
            ("message", "lf", ""),
            ("message", "cr", ""),
            ("message", "crlf", ""),
        ],
    },
    Sample {
        name: "a byte order mark at the start, and one that is data",
        bytes: b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbfb\n\n",
        delivered: &[("message", "a", ""), ("message", "\u{feff}b", "")],
    },
    Sample {
        name: "comments, also within an event",
        bytes: b": keep-alive\n\n:\ndata: a\n: no data\ndata: b\n\n",
        delivered: &[("message", "a\nb", "")],
    },
    Sample {
        name: "data of several lines, a pretty-printed message",
        bytes: b"data: {\ndata:   \"jsonrpc\": \"2.0\",\ndata:   \"method\": \"x\"\ndata: }\n\n",
        delivered: &[(
            "message",
            "{\n  \"jsonrpc\": \"2.0\",\n  \"method\": \"x\"\n}",
            "",
        )],
    },
    Sample {
        name: "ids: inherited, without data, with NUL, reset",
        bytes:
            b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\ndata: c\n\nid: 3\0\ndata: d\n\nid\ndata: e\n\n",
        delivered: &[
            ("message", "a", "1"),
            ("message", "b", "1"),
            ("message", "c", "2"),
            ("message", "d", "2"),
            ("message", "e", ""),
        ],
    },
    Sample {
        name: "retry, right and wrong",
        bytes: b"retry: 250\n\nretry: 1s\ndata: a\n\n",
        delivered: &[("message", "a", "")],
    },
    Sample {
        name: "a priming event: an id and empty data",
        bytes: b"id: p-0\nretry: 2000\ndata:\n\nid: p-1\nevent: message\ndata: {}\n\n",
        delivered: &[("message", "", "p-0"), ("message", "{}", "p-1")],
    },
    Sample {
        name: "types, fields without colon, one space only, unknown fields",
        bytes: b"event: x\ndata\n\nevent: x\nevent: y\ndata:  two\nData: no\nfoo: bar\n\n",
        delivered: &[("x", "", ""), ("y", " two", "")],
    },
    Sample {
        name: "invalid UTF-8",
        bytes: b"data: \xff\xfe!\n\n",
        delivered: &[("message", "\u{fffd}\u{fffd}!", "")],
    },
    Sample {
        name: "half an event at the end",
        bytes: b"id: 1\ndata: whole\n\nid: 2\ndata: half\n",
        delivered: &[("message", "whole", "1")],
    },
];

/// What the blocks of a stream deliver to an application: ids are inherited, blocks without data are not
/// delivered.
#[must_use]
pub fn delivered(blocks: &[Event]) -> Vec<(String, String, String)> {
    let mut id = String::new();
    let mut delivered = Vec::new();
    for block in blocks {
        if let Some(new) = &block.id {
            id.clone_from(new);
        }
        if let Some(data) = &block.data {
            let kind = block.kind.clone().unwrap_or_else(|| "message".to_owned());
            delivered.push((kind, data.clone(), id.clone()));
        }
    }
    delivered
}
