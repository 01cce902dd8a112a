//! What is true of the session for as long as it lives, and how it begins.

use bytes::Bytes;

use super::config::Handshake;
use crate::bridge::capabilities::{Declared, TASKS_EXTENSION, initialize_result};
use crate::bridge::envelope::{Envelope, LogLevel};
use crate::bridge::refused::Refused;
use crate::revision::Revision;
use crate::rpc::{Message, Object, string};

/// How a session begins.
#[derive(Debug, Clone)]
pub struct Opening {
    /// What both sides have said of themselves.
    pub handshake: Handshake,
    /// The result of `initialize`.
    pub result: Bytes,
}

/// Answers `initialize` from the result of `server/discover` (protocol notes 5.3, first row; R216).
/// `upstream` is the server's name, should it give none itself.
///
/// # Errors
/// [`Refused::InvalidParameter`] if the client has not said what it must say;
/// [`Refused::InvalidUpstream`] if the server has not.
pub fn initialize(
    initialize: &Message,
    discovered: &Bytes,
    upstream: &str,
) -> Result<Opening, Refused> {
    let invalid = |parameter| Refused::InvalidParameter { parameter };
    let asked = initialize.param_text("protocolVersion");
    let asked = asked.ok_or_else(|| invalid("protocolVersion"))?;
    // One that is not known here, or has no `initialize`, is offered the newest that has.
    let revision = Revision::from_bytes(asked.as_bytes()).filter(|revision| !revision.is_modern());
    let revision = revision.unwrap_or(Revision::NEWEST_LEGACY);
    let declared = initialize.param("capabilities");
    let declared = declared.unwrap_or(Bytes::from_static(b"{}"));
    Declared::parse(&declared).map_err(|_| invalid("capabilities"))?;
    let info = initialize.param("clientInfo");
    let result = initialize_result(discovered, revision, upstream);
    let result = result.map_err(|_| Refused::InvalidUpstream)?;
    let discovered = Object::parse(discovered).map_err(|_| Refused::InvalidUpstream)?;
    let offered = discovered.get("capabilities").cloned().unwrap_or_default();
    Ok(Opening {
        handshake: Handshake {
            revision,
            declared,
            client_info: info.filter(|info| info.starts_with(b"{")),
            offered,
        },
        result,
    })
}

/// What is true of the session for as long as it lives.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) revision: Revision,
    /// What the server may ask of the client.
    pub(super) declared: Declared,
    /// What every request says of the client.
    pub(super) envelope: Envelope,
    /// The same, and that it takes tasks: for a server that wants to run a call as one.
    pub(super) with_tasks: Envelope,
    pub(super) offered: Offered,
}

/// What the server can do besides answering requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offered {
    pub(super) logging: bool,
    pub(super) subscribe: bool,
    pub(super) tools_changed: bool,
    pub(super) prompts_changed: bool,
    pub(super) resources_changed: bool,
}

impl Session {
    pub(super) fn new(handshake: Handshake, log_level: Option<LogLevel>) -> Self {
        let Handshake {
            revision,
            declared,
            client_info,
            offered,
        } = handshake;
        let declared = Declared::parse(&declared).unwrap_or_else(|_| Declared::nothing());
        let capabilities = declared.to_modern(revision);
        // What its revision does not know, the client is not asked either.
        let declared = Declared::parse(&capabilities).unwrap_or_else(|_| Declared::nothing());
        let offered = Offered::read(&offered);
        // In memory of its own: the session outlives the message.
        let envelope = Envelope {
            revision: Revision::NEWEST,
            capabilities,
            client_info,
            log_level: log_level.filter(|_| offered.logging),
        }
        .detached();
        Self {
            revision,
            declared,
            with_tasks: with_tasks(&envelope),
            envelope,
            offered,
        }
    }

    pub(super) fn set_level(&mut self, level: LogLevel) {
        self.envelope.log_level = Some(level);
        self.with_tasks.log_level = Some(level);
    }
}

impl Offered {
    fn read(capabilities: &Bytes) -> Self {
        let capabilities = Object::parse(capabilities).unwrap_or_default();
        let says = |name, what| {
            let capability = capabilities.object(name);
            capability.is_some_and(|c: Object| c.get(what).is_some_and(|says| says == "true"))
        };
        Self {
            logging: capabilities.object("logging").is_some(),
            subscribe: says("resources", "subscribe"),
            tools_changed: says("tools", "listChanged"),
            prompts_changed: says("prompts", "listChanged"),
            resources_changed: says("resources", "listChanged"),
        }
    }
}

fn with_tasks(envelope: &Envelope) -> Envelope {
    let mut capabilities = Object::parse(&envelope.capabilities).unwrap_or_default();
    let mut extensions = capabilities.object("extensions").unwrap_or_default();
    extensions.set(TASKS_EXTENSION, "{}");
    capabilities.set("extensions", extensions.into_bytes());
    Envelope {
        capabilities: capabilities.into_bytes(),
        ..envelope.clone()
    }
}

/// A member that is a string.
pub(super) fn text_of(object: &Object, name: &str) -> Option<String> {
    Some(string(object.get(name)?)?.into_owned())
}
