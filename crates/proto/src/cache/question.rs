//! What is asked, as a key.

use std::borrow::Cow;

use bytes::Bytes;

use crate::rpc::{Kind, Message, Object, canonical, member, string};

/// The longest parameters that a question may have, in bytes of JSON text. Longer ones are asked of the server.
pub const MAX_QUESTION: usize = 4096;

/// A request whose answer may be kept: its method, and every parameter that may make a difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    pub(super) method: Method,
    /// `params` without `_meta`, in the one text of that value.
    params: Bytes,
}

/// The methods whose results say for how long they are good (protocol notes 2.3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Method {
    Discover,
    Tools,
    Prompts,
    Resources,
    Templates,
    Read,
}

/// How many there are.
pub(super) const METHODS: usize = 6;

impl Question {
    /// What a request asks; `None` if no answer to it is ever kept: another method, a retry with answers or a
    /// state (R190), or parameters longer than [`MAX_QUESTION`].
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        let method = match message.method()? {
            "server/discover" => Method::Discover,
            "tools/list" => Method::Tools,
            "prompts/list" => Method::Prompts,
            "resources/list" => Method::Resources,
            "resources/templates/list" => Method::Templates,
            "resources/read" => Method::Read,
            _ => return None,
        };
        let mut retry = ["inputResponses", "requestState"].into_iter();
        if message.kind() != Kind::Request || retry.any(|name| message.param(name).is_some()) {
            return None;
        }
        let params = message.params().unwrap_or(Bytes::from_static(b"{}"));
        let mut params = Object::parse(&params).ok()?;
        params.remove("_meta");
        let params = params.into_bytes();
        if params.len() > MAX_QUESTION {
            return None;
        }
        let params = canonical(&params).ok()?;
        Some(Self { method, params })
    }

    /// Whether it asks for a page that is not the first.
    pub(super) fn has_cursor(&self) -> bool {
        member(&self.params, "cursor").is_some_and(|cursor| string(&cursor).is_some())
    }

    /// The resource that it reads.
    pub(super) fn uri(&self) -> Option<String> {
        let uri = member(&self.params, "uri")?;
        string(&uri).map(Cow::into_owned)
    }

    /// What it weighs, in bytes.
    pub(super) fn len(&self) -> usize {
        self.params.len()
    }
}
