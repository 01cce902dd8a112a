//! Names of keys. All keys of one session or node have the same hash tag, so that a cluster keeps them together
//! and one script may use them.

use thinpipe_proto::session::{NodeId, SessionId, StreamId};

/// The names that begin with one prefix.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The record of a session.
    pub(super) fn session(&self, id: &SessionId) -> String {
        self.of_session(id, "session")
    }

    /// What is known of all streams of a session: their names, what they keep, and since when.
    pub(super) fn streams(&self, id: &SessionId) -> [String; 3] {
        ["streams", "sizes", "oldest"].map(|name| self.of_session(id, name))
    }

    /// What the key of every head of a session's streams begins with.
    pub(super) fn heads(&self, id: &SessionId) -> String {
        self.of_session(id, "head:")
    }

    /// What the key of every history of a session's streams begins with.
    pub(super) fn histories(&self, id: &SessionId) -> String {
        self.of_session(id, "events:")
    }

    /// Head, events and what is known of all streams of the session, for scripts about one stream.
    pub(super) fn stream(&self, session: &SessionId, stream: StreamId) -> [String; 5] {
        let StreamId(number) = stream;
        let head = format!("{}{number}", self.heads(session));
        let events = format!("{}{number}", self.histories(session));
        let [streams, sizes, oldest] = self.streams(session);
        [head, events, streams, sizes, oldest]
    }

    /// Life sign and all that is of an inbox, for scripts about one node.
    pub(super) fn node(&self, id: &NodeId) -> [String; 6] {
        let (prefix, id) = (&self.prefix, Tag(id.as_str()));
        ["alive", "inbox", "size", "taken", "seen", "bell"]
            .map(|name| format!("{prefix}:{id}:{name}"))
    }

    /// The nodes that are alive.
    pub(super) fn nodes(&self) -> String {
        format!("{}:nodes", self.prefix)
    }

    /// A secret that all nodes share.
    pub(super) fn secret(&self, name: &str) -> String {
        format!("{}:secret:{name}", self.prefix)
    }

    /// The sessions of a bucket.
    pub(super) fn index(&self, bucket: u8) -> String {
        format!("{}:index:{bucket}", self.prefix)
    }

    fn of_session(&self, id: &SessionId, name: &str) -> String {
        format!("{}:{}:{name}", self.prefix, Tag(id.as_str()))
    }
}

/// Redis hashes only what is in braces. An id may hold braces itself, and an empty tag is none.
struct Tag<'a>(&'a str);

impl std::fmt::Display for Tag<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("{")?;
        for character in self.0.chars() {
            match character {
                '}' => f.write_str("%7D")?,
                '%' => f.write_str("%25")?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str("}")
    }
}

/// How many parts the index of sessions has.
pub(super) const BUCKETS: u8 = 64;

/// The part of the index that has an id. Ids of a higher bucket come after all ids of a lower one; ours, which
/// are hexadecimal digits, are spread evenly.
pub(super) fn bucket(id: &SessionId) -> u8 {
    let bytes = id.as_bytes();
    let second = bytes.get(1).copied().unwrap_or(0);
    match bytes.first().copied().unwrap_or(0) {
        ..b'0' => 0,
        digit @ b'0'..=b'9' => 4 * (digit - b'0') + quarter(second),
        b':'..b'a' => 4 * 9 + 3,
        digit @ b'a'..=b'f' => 4 * (digit - b'a' + 10) + quarter(second),
        _ => BUCKETS - 1,
    }
}

fn quarter(byte: u8) -> u8 {
    match byte {
        ..b'4' => 0,
        b'4'..b'8' => 1,
        b'8'..b'c' => 2,
        _ => 3,
    }
}

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a cluster that has a key (Redis Cluster specification, "Key distribution model").
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn id(text: &str) -> SessionId {
        SessionId::from_bytes(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    /// F16: buckets are in the order of the ids, whatever those are, and ours are spread over all of them.
    #[test]
    fn f16_buckets_are_in_the_order_of_ids() {
        let visible = || 0x21..=0x7e_u8;
        let pairs = visible().flat_map(|first| visible().map(move |second| [first, second]));
        let mut texts: Vec<_> = pairs
            .map(|pair| String::from_utf8(pair.to_vec()).unwrap())
            .collect();
        texts.extend(visible().map(|one| char::from(one).to_string()));
        texts.sort();
        let buckets: Vec<_> = texts.iter().map(|text| bucket(&id(text))).collect();
        assert!(buckets.is_sorted());
        let mut sizes = [0; BUCKETS as usize];
        for first in 0..=255 {
            sizes[usize::from(bucket(&SessionId::from_random([first; 16])))] += 1;
        }
        assert_eq!(sizes, [4; BUCKETS as usize]);
    }

    /// Trap 27: one tag for all keys of a session, and none of an id's own making.
    #[test]
    fn keys_of_one_session_share_a_tag() {
        let keys = Keys::new("thinpipe");
        let session = id("a{}b%");
        let [head, events, streams, sizes, oldest] = keys.stream(&session, StreamId(7));
        assert_eq!(head, "thinpipe:{a{%7Db%25}:head:7");
        assert_eq!(events, "thinpipe:{a{%7Db%25}:events:7");
        assert_eq!(streams, "thinpipe:{a{%7Db%25}:streams");
        assert_eq!(sizes, "thinpipe:{a{%7Db%25}:sizes");
        assert_eq!(oldest, "thinpipe:{a{%7Db%25}:oldest");
        assert_eq!(keys.session(&session), "thinpipe:{a{%7Db%25}:session");
    }

    /// As the specification of Redis Cluster has it, and a server answers to `CLUSTER KEYSLOT`.
    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"any{foo}thing{bar}"), 12_182);
        assert_eq!(slot(b"{}foo"), crc16(b"{}foo") % SLOTS);
    }
}
