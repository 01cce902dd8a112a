//! What a client can be asked, as its capabilities say.

use crate::bridge::capabilities::{Declared, Mode, Undeclared};
use crate::bridge::downgrade::{Channel, Config, Lifetime};
use crate::bridge::shape::needs_params;
use crate::rpc::{Message, code, meta_key};

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

impl Abilities {
    pub(super) fn of(declared: &Declared) -> Self {
        let allows = |method, params: Option<&'static str>| {
            let params = params.map(|params| params.into());
            declared.allows(method, params.as_ref()).is_ok()
        };
        Self {
            sampling: allows("sampling/createMessage", None),
            sampling_tools: allows("sampling/createMessage", Some("{\"tools\":[]}")),
            sampling_context: declared.has_sampling_context(),
            form: allows("elicitation/create", None),
            url: declared.has_url_elicitation(),
            roots: allows("roots/list", None),
        }
    }

    /// What may be asked on a session at all. On a session of several principals a server request must be
    /// tied to one by its stream, and roots would outlive the request (protocol notes 5.2.1).
    pub(super) fn offered(config: &Config) -> Self {
        let declared = Declared::parse(&config.capabilities);
        let declared = declared.map_or_else(|_| Self::default(), |declared| Self::of(&declared));
        match (config.lifetime, config.channel) {
            (Lifetime::Shared, Channel::Pipe) => Self::default(),
            (Lifetime::Shared, Channel::Streams) => Self {
                roots: false,
                ..declared
            },
            _ => declared,
        }
    }

    /// Of the client that sent this request. What cannot be read is not declared.
    pub(super) fn of_request(request: &Message) -> Self {
        let declared = request.meta(meta_key::CLIENT_CAPABILITIES);
        let declared = declared.and_then(|declared| Declared::parse(&declared).ok());
        declared.map_or_else(Self::default, |declared| Self::of(&declared))
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

    /// With which code a server is refused what needs these, and is not among them.
    pub(super) fn refusal_code(self, needed: Self) -> i32 {
        let elicits = |abilities: Self| abilities.form || abilities.url;
        let has_kind = (self.sampling || !needed.sampling)
            && (self.roots || !needed.roots)
            && (elicits(self) || !elicits(needed));
        match has_kind {
            true => code::INVALID_PARAMS,
            false => code::METHOD_NOT_FOUND,
        }
    }

    /// What answering this needs, of a client with these (protocol notes 5.1, "Refusing a server request").
    pub(super) fn needed_for(self, question: &Message) -> Result<Self, Undeclared> {
        let none = Self::default();
        let has = |name| question.param(name).is_some();
        let (needed, lacking) = match question.method().unwrap_or_default() {
            "elicitation/create" if !self.form && !self.url => {
                return Err(Undeclared::Kind("elicitation"));
            }
            "elicitation/create" => match question.param_text("mode").as_deref() {
                Some("url") => (Self { url: true, ..none }, Undeclared::Mode(Mode::Url)),
                None if has("mode") => return Err(Undeclared::Unreadable),
                None | Some("form") => (Self { form: true, ..none }, Undeclared::Mode(Mode::Form)),
                Some(_) => return Err(Undeclared::Unreadable),
            },
            "sampling/createMessage" if !self.sampling => {
                return Err(Undeclared::Kind("sampling"));
            }
            "sampling/createMessage" => {
                let needed = Self {
                    sampling: true,
                    sampling_tools: has("tools") || has("toolChoice"),
                    ..none
                };
                (needed, Undeclared::SamplingTools)
            }
            "roots/list" => {
                let needed = Self {
                    roots: true,
                    ..none
                };
                (needed, Undeclared::Kind("roots"))
            }
            other => return Err(Undeclared::Method(other.chars().take(64).collect())),
        };
        if !self.cover(needed) {
            return Err(lacking);
        }
        // A client cannot answer what asks nothing.
        let method = question.method().unwrap_or_default();
        if needs_params(method) && question.params().is_none() {
            return Err(Undeclared::Unreadable);
        }
        Ok(needed)
    }
}
