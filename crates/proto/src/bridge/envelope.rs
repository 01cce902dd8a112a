//! What a request of 2026-07-28 says of itself in `params._meta`, and its way between the eras (protocol
//! notes 2.3.1, and 5.1, "Version envelope").

mod log_level;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::revision::Revision;
use crate::rpc::{Message, Object, code, is_object, meta_key, quoted, splice};

pub use log_level::LogLevel;

/// The four members of `_meta` that say who asks, in which revision, and what he can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The revision that the request belongs to.
    pub revision: Revision,
    /// What the client can do, a JSON object.
    pub capabilities: Bytes,
    /// Name and version of the client, a JSON object.
    pub client_info: Option<Bytes>,
    /// Which log messages the client wants with this request; `None`: none.
    pub log_level: Option<LogLevel>,
}

/// Why a request has no envelope that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEnvelope {
    /// A member that must be there is missing, or of the wrong type.
    #[error("params._meta lacks {0}")]
    Missing(&'static str),
    /// It belongs to no revision that is known here.
    #[error("the revision {0:?} is not known")]
    UnknownRevision(String),
    /// It wants log messages of no known level (R136).
    #[error("no such log level: {0}; there are {names}", names = LogLevel::NAMES)]
    UnknownLevel(String),
}

impl InvalidEnvelope {
    /// The code of JSON-RPC to answer with.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::UnknownRevision(_) => code::UNSUPPORTED_VERSION,
            Self::Missing(_) | Self::UnknownLevel(_) => code::INVALID_PARAMS,
        }
    }
}

impl Envelope {
    /// The envelope of a request. Its parts are slices of the message: see [`detached`](Self::detached).
    ///
    /// A `clientInfo` that is no object is taken for none, since it is for display only.
    ///
    /// # Errors
    /// [`InvalidEnvelope`], to be answered with its [`code`](InvalidEnvelope::code).
    pub fn of(message: &Message) -> Result<Self, InvalidEnvelope> {
        let claim = message.meta_text(meta_key::PROTOCOL_VERSION);
        let claim = claim.ok_or(InvalidEnvelope::Missing(meta_key::PROTOCOL_VERSION))?;
        let revision = Revision::from_bytes(claim.as_bytes());
        let unknown = || InvalidEnvelope::UnknownRevision(shortened(&claim));
        let object = |name| message.meta(name).filter(|value| is_object(value));
        let capabilities = object(meta_key::CLIENT_CAPABILITIES);
        let missing = InvalidEnvelope::Missing(meta_key::CLIENT_CAPABILITIES);
        Ok(Self {
            revision: revision.ok_or_else(unknown)?,
            capabilities: capabilities.ok_or(missing)?,
            client_info: object(meta_key::CLIENT_INFO),
            log_level: log_level(message)?,
        })
    }

    /// The same in memory of its own, for those who keep it longer than the message it was read from.
    #[must_use]
    pub fn detached(&self) -> Self {
        let copied = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self {
            revision: self.revision,
            capabilities: copied(&self.capabilities),
            client_info: self.client_info.as_ref().map(copied),
            log_level: self.log_level,
        }
    }

    fn members(&self) -> impl Iterator<Item = (&'static str, Bytes)> {
        let revision = Bytes::from(quoted(self.revision.as_str()));
        let level = self
            .log_level
            .map(|level| Bytes::from(quoted(level.as_str())));
        [
            (meta_key::PROTOCOL_VERSION, Some(revision)),
            (
                meta_key::CLIENT_CAPABILITIES,
                Some(self.capabilities.clone()),
            ),
            (meta_key::CLIENT_INFO, self.client_info.clone()),
            (meta_key::LOG_LEVEL, level),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// The message for a legacy server: without its envelope, and without a `_meta` that held nothing else.
/// Every other member stays, trace context and progress token among them; a message without an envelope
/// stays as it is.
#[must_use]
pub fn strip(message: &Message) -> Bytes {
    let Some(mut meta) = message.meta_object() else {
        return message.source().clone();
    };
    meta.retain(|name, _| !KEYS.contains(&name));
    if !meta.is_changed() {
        return message.source().clone();
    }
    put_meta(message, meta)
}

/// The message for a modern server: with this envelope, and no part of another. `params` and `_meta` are
/// made where they are missing; a `_meta` that is no object is replaced.
#[must_use]
pub fn add(message: &Message, envelope: &Envelope) -> Bytes {
    let mut meta = message.meta_object().unwrap_or_default();
    meta.retain(|name, _| !KEYS.contains(&name));
    for (name, value) in envelope.members() {
        meta.set(name, value);
    }
    put_meta(message, meta)
}

/// A notification for a legacy client: without the id of the listen that it came on (R217).
#[must_use]
pub fn without_subscription_id(message: &Message) -> Bytes {
    let Some(mut meta) = message.meta_object() else {
        return message.source().clone();
    };
    match meta.remove(meta_key::SUBSCRIPTION_ID) {
        Some(_) => put_meta(message, meta),
        None => message.source().clone(),
    }
}

/// The message with another `params._meta`, or without one that has become empty.
fn put_meta(message: &Message, meta: Object) -> Bytes {
    let old = message.param("_meta");
    if let Some(old) = old.as_ref().filter(|_| !meta.is_empty()) {
        let edited = splice(message.source(), old, &meta.into_bytes());
        return edited.unwrap_or_else(|| message.source().clone());
    }
    let mut params = message.params_object();
    if meta.is_empty() {
        params.remove("_meta");
    } else {
        params.set("_meta", meta.into_bytes());
    }
    message.with_params(&params.into_bytes())
}

fn log_level(message: &Message) -> Result<Option<LogLevel>, InvalidEnvelope> {
    let Some(value) = message.meta_json(meta_key::LOG_LEVEL) else {
        return Ok(None);
    };
    let level = message.meta_text(meta_key::LOG_LEVEL);
    match level.as_deref().and_then(LogLevel::from_name) {
        Some(level) => Ok(Some(level)),
        None => Err(InvalidEnvelope::UnknownLevel(shortened(
            &String::from_utf8_lossy(value),
        ))),
    }
}

/// No more of a peer's text than an error needs.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// The most characters of a value that an error repeats.
const MAX_SHOWN: usize = 64;

/// The members of `_meta` that an envelope is.
const KEYS: [&str; 4] = [
    meta_key::PROTOCOL_VERSION,
    meta_key::CLIENT_CAPABILITIES,
    meta_key::CLIENT_INFO,
    meta_key::LOG_LEVEL,
];
