//! What is in a `requestState` or cursor that the gateway gives out (protocol notes 5.4.2).

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use thinpipe_proto::bridge::downgrade::{ExchangeId, Ticket};
use thinpipe_proto::rpc::{Message, canonical, members, quoted};
use thinpipe_proto::session::NodeId;

/// A number that every process draws: what another one parked is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boot(pub(crate) u128);

/// Names an upstream session over the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey(pub(crate) u64);

/// What a request says, but for what changes from round to round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

/// A request that is to be sent again, as what it asked for is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Who keeps it.
    pub(crate) owner: Boot,
    /// The node where that is, if there are several.
    pub(crate) node: Option<NodeId>,
    /// Its session there.
    pub(crate) session: SessionKey,
    /// Of which request it is.
    pub(crate) digest: Digest,
    /// Seconds since 1970: from then on it is not good any more.
    pub(crate) expires: u64,
    pub(crate) waits: Waits,
}

/// What for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waits {
    /// The request runs, and waits for its client's input.
    Parked(Ticket),
    /// It did not run; these elicitations come before it.
    Rerun(Vec<String>),
}

/// A server's cursor, which may mean something on its own session only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) owner: Boot,
    pub(crate) session: SessionKey,
    pub(crate) cursor: String,
}

/// Members of `params` that change from round to round.
const CHANGES: [&str; 3] = ["_meta", "inputResponses", "requestState"];

impl Digest {
    /// Of a request to this upstream. How it is written makes no difference.
    pub(crate) fn of(upstream: &str, request: &Message) -> Self {
        let mut hash = Sha256::new();
        for part in [upstream, request.method().unwrap_or_default()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let params = request.params().unwrap_or_default();
        // Members of the message's params are there once each, or it would not have been taken.
        let mut named = members(&params).unwrap_or_default();
        named.retain(|(name, _)| !CHANGES.contains(&name.as_str()));
        named.sort();
        for (name, value) in named {
            let name = quoted(&name);
            // What has no canonical form has to come back as it was written.
            let value = canonical(&value).unwrap_or(value);
            for part in [name.as_bytes(), &value] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        Self(hash.finalize().into())
    }
}

impl State {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(&self.owner.0.to_be_bytes());
        out.extend_from_slice(&self.session.0.to_be_bytes());
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&self.expires.to_be_bytes());
        let node = self.node.as_ref().map_or(&b""[..], |node| node.as_bytes());
        out.extend_from_slice(&(node.len() as u64).to_be_bytes());
        out.extend_from_slice(node);
        match &self.waits {
            Waits::Parked(ticket) => {
                out.push(ticket.round);
                out.extend_from_slice(&ticket.exchange.0.to_be_bytes());
            }
            // Rounds count from 1.
            Waits::Rerun(elicitations) => {
                out.push(0);
                for id in elicitations {
                    out.extend_from_slice(&(id.len() as u64).to_be_bytes());
                    out.extend_from_slice(id.as_bytes());
                }
            }
        }
        out
    }

    /// `None` for what [`to_bytes`](Self::to_bytes) never wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let owner = Boot(u128::from_be_bytes(rest.array()?));
        let session = SessionKey(u64::from_be_bytes(rest.array()?));
        let digest = Digest(rest.array()?);
        let expires = u64::from_be_bytes(rest.array()?);
        let length = u64::from_be_bytes(rest.array()?);
        let node = match rest.text(usize::try_from(length).ok()?)? {
            none if none.is_empty() => None,
            node => Some(NodeId::from_bytes(node.into()).ok()?),
        };
        let [round] = rest.array()?;
        let waits = if round == 0 {
            let mut elicitations = Vec::new();
            while !rest.0.is_empty() {
                let length = u64::from_be_bytes(rest.array()?);
                elicitations.push(rest.text(usize::try_from(length).ok()?)?);
            }
            Waits::Rerun(elicitations)
        } else {
            let exchange = ExchangeId(u128::from_be_bytes(rest.array()?));
            Waits::Parked(Ticket { exchange, round })
        };
        rest.0.is_empty().then_some(Self {
            owner,
            node,
            session,
            digest,
            expires,
            waits,
        })
    }
}

impl Cursor {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.cursor.len());
        out.extend_from_slice(&self.owner.0.to_be_bytes());
        out.extend_from_slice(&self.session.0.to_be_bytes());
        out.extend_from_slice(self.cursor.as_bytes());
        out
    }

    /// `None` for what [`to_bytes`](Self::to_bytes) never wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let owner = Boot(u128::from_be_bytes(rest.array()?));
        let session = SessionKey(u64::from_be_bytes(rest.array()?));
        let cursor = rest.text(rest.0.len())?;
        Some(Self {
            owner,
            session,
            cursor,
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

/// The state or cursor that a client gave back, as a JSON string; `None`: it is no string.
pub(crate) fn given(value: &Bytes) -> Option<String> {
    Some(thinpipe_proto::rpc::string(value)?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(params: &str) -> Digest {
        digest_of("tools/call", params)
    }

    fn digest_of(method: &str, params: &str) -> Digest {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        Digest::of("files", &Message::parse(text.into()).unwrap())
    }

    /// R234: the same request, however it is written and whatever round it is in.
    #[test]
    fn r234_the_digest_is_of_what_a_request_says() {
        let first = digest(r#"{"name":"a","arguments":{"x":1,"y":[]},"_meta":{"z":1}}"#);
        let again = r#"{"requestState":"s","inputResponses":{},"arguments":{"y":[],"\u0078": 1},"name":"a"}"#;
        assert_eq!(first, digest(again));
        for other in [
            r#"{"name":"b","arguments":{"x":1,"y":[]}}"#,
            r#"{"name":"a","arguments":{"x":1.0,"y":[]}}"#,
            r#"{"name":"a","arguments":{"x":1,"y":[],"_meta":1}}"#,
            r#"{"name":"a","arguments":{"x":1,"y":[]},"more":null}"#,
            r#"{"name":"a"}"#,
            "{}",
        ] {
            assert_ne!(first, digest(other), "{other}");
        }
        assert_ne!(digest("{}"), digest_of("prompts/get", "{}"));
        // Members that are there twice have no canonical form, and count as they are written.
        let twice = r#"{"arguments":{"x":1,"x":2}}"#;
        assert_eq!(digest(twice), digest(twice));
        assert_ne!(digest(twice), digest(r#"{"arguments":{"x":2,"x":1}}"#));
    }

    #[test]
    fn what_is_written_is_read() {
        let ticket = Ticket {
            exchange: ExchangeId(u128::MAX - 1),
            round: 10,
        };
        for waits in [
            Waits::Parked(ticket),
            Waits::Rerun(Vec::new()),
            Waits::Rerun(vec!["a".into(), String::new(), "ä".into()]),
        ] {
            let state = State {
                owner: Boot(7),
                node: (waits != Waits::Rerun(Vec::new())).then(|| NodeId::from_random([9; 12])),
                session: SessionKey(3),
                digest: digest("{}"),
                expires: 1 << 40,
                waits,
            };
            let bytes = state.to_bytes();
            assert_eq!(State::from_bytes(&bytes), Some(state));
            for end in 0..72 {
                assert_eq!(State::from_bytes(&bytes[..end]), None);
            }
        }
        let cursor = Cursor {
            owner: Boot(1),
            session: SessionKey(2),
            cursor: "page ä".into(),
        };
        assert_eq!(Cursor::from_bytes(&cursor.to_bytes()), Some(cursor));
        assert_eq!(Cursor::from_bytes(&[0; 23]), None);
    }
}
