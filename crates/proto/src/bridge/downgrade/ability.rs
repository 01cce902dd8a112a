//! What a client can be asked, as its capabilities say.

use bytes::Bytes;

use crate::bridge::downgrade::{Channel, Config, Lifetime};
use crate::rpc::{Message, code, member, meta_key};

/// The capabilities that server requests need, and no more of what a client declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    sampling: bool,
    sampling_tools: bool,
    pub(super) sampling_context: bool,
    form: bool,
    pub(super) url: bool,
    roots: bool,
}

/// Why a server request is refused (protocol notes 5.1, "Refusing a server request").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: i32,
    pub(super) text: &'static str,
}

impl Abilities {
    /// Of a capabilities object, of any revision.
    pub(super) fn of(declared: &Bytes) -> Self {
        let sampling = member(declared, "sampling");
        let elicitation = member(declared, "elicitation");
        let has = |of: &Option<Bytes>, name| of.as_ref().is_some_and(|of| member(of, name).is_some());
        let url = has(&elicitation, "url");
        Self {
            sampling: sampling.is_some(),
            sampling_tools: has(&sampling, "tools"),
            sampling_context: has(&sampling, "context"),
            // `{}` is what clients declare that know forms only.
            form: elicitation.is_some() && (has(&elicitation, "form") || !url),
            url,
            roots: member(declared, "roots").is_some(),
        }
    }

    /// What may be asked on a session at all. On a session of several principals a server request must be
    /// tied to one by its stream, and roots would outlive the request (protocol notes 5.2.1).
    pub(super) fn offered(config: &Config) -> Self {
        let declared = Self::of(&config.capabilities);
        match (config.lifetime, config.channel) {
            (Lifetime::Shared, Channel::Pipe) => Self::default(),
            (Lifetime::Shared, Channel::Streams) => Self {
                roots: false,
                ..declared
            },
            _ => declared,
        }
    }

    /// Of the client that sent this request.
    pub(super) fn of_request(request: &Message) -> Self {
        let declared = request.meta(meta_key::CLIENT_CAPABILITIES);
        declared.as_ref().map_or_else(Self::default, Self::of)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            sampling: self.sampling && other.sampling,
            sampling_tools: self.sampling_tools && other.sampling_tools,
            sampling_context: self.sampling_context && other.sampling_context,
            form: self.form && other.form,
            url: self.url && other.url,
            roots: self.roots && other.roots,
        }
    }

    /// Whether there is anything to ask for.
    pub(super) fn any(self) -> bool {
        self.sampling || self.form || self.url || self.roots
    }

    /// Whether it has all of these.
    pub(super) fn cover(self, needed: Self) -> bool {
        self.and(needed) == needed
    }

    /// What answering this needs, of a client with these.
    pub(super) fn needed_for(self, question: &Message) -> Result<Self, Refusal> {
        let none = Self::default();
        let undeclared = Refusal {
            code: code::METHOD_NOT_FOUND,
            text: "the client did not declare the capability for this",
        };
        let invalid = |text| Refusal {
            code: code::INVALID_PARAMS,
            text,
        };
        let needed = match question.method().unwrap_or_default() {
            "elicitation/create" if self.form || self.url => {
                let (form, url) = match question.param_text("mode").as_deref() {
                    Some("url") => (false, true),
                    Some("form") => (true, false),
                    None if question.param("mode").is_none() => (true, false),
                    _ => return Err(invalid("there is no such mode of elicitation")),
                };
                Self { form, url, ..none }
            }
            "sampling/createMessage" if self.sampling => {
                let has = |name| question.param(name).is_some();
                Self {
                    sampling: true,
                    sampling_tools: has("tools") || has("toolChoice"),
                    ..none
                }
            }
            "roots/list" if self.roots => Self {
                roots: true,
                ..none
            },
            _ => return Err(undeclared),
        };
        if self.cover(needed) {
            return Ok(needed);
        }
        let text = match needed.sampling {
            true => "the client does not take tools in sampling",
            false => "the client does not take this mode of elicitation",
        };
        Err(invalid(text))
    }
}
