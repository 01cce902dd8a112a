//! Capabilities of clients.

use std::fmt;

use bytes::Bytes;

use super::extensions_without_tasks;
use crate::revision::Revision;
use crate::rpc::{MessageError, Object, canonical, code, is_object, string};

/// The longest capabilities that are read, in bytes of JSON text. They are part of keys, and kept with
/// requests that wait.
pub const MAX_DECLARED: usize = 16 * 1024;

/// What a client has declared, in a session or with a request of its own.
#[derive(Debug, Clone)]
pub struct Declared {
    json: Object,
    roots: bool,
    sampling: Option<Object>,
    elicitation: Option<Elicitation>,
}

/// Modes of elicitation. Neither named means forms (protocol notes 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Elicitation {
    form: bool,
    url: bool,
}

/// How a client is asked for input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With a form.
    Form,
    /// On a page of the server's.
    Url,
}

/// What a client is asked for and has not declared (protocol notes 5.1, "Refusing a server request").
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undeclared {
    /// Requests of this kind, of which this is the capability: `sampling`, `elicitation` or `roots`.
    Kind(&'static str),
    /// A method that no server asks a client for.
    Method(String),
    /// A mode of elicitation that it does not have.
    Mode(Mode),
    /// Tools in sampling.
    SamplingTools,
    /// A request whose parameters are missing, or cannot be read.
    Unreadable,
}

impl Undeclared {
    /// The code of JSON-RPC that the server is refused with.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Kind(_) | Self::Method(_) => code::METHOD_NOT_FOUND,
            Self::Mode(_) | Self::SamplingTools | Self::Unreadable => code::INVALID_PARAMS,
        }
    }
}

impl fmt::Display for Undeclared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(capability) => write!(f, "the client has not declared {capability}"),
            Self::Method(method) => write!(f, "no client answers {method:?}"),
            Self::Mode(Mode::Form) => f.write_str("the client has not declared elicitation.form"),
            Self::Mode(Mode::Url) => f.write_str("the client has not declared elicitation.url"),
            Self::SamplingTools => f.write_str("the client has not declared sampling.tools"),
            Self::Unreadable => f.write_str("the parameters are missing or cannot be read"),
        }
    }
}

impl std::error::Error for Undeclared {}

/// What a bridge can carry of a modern client's capabilities to a legacy server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// The server may ask: its requests become rounds (protocol notes 5.4.2).
    pub rounds: bool,
    /// The server may ask for roots, whose answer outlives the call: not where sessions are pooled, unless
    /// that is configured.
    pub roots: bool,
}

impl Declared {
    /// Reads capabilities, a JSON object. Members of the wrong type count as not declared, `null` among
    /// them.
    ///
    /// # Errors
    /// [`MessageError`] for what is no JSON object, names a member twice, or is longer than
    /// [`MAX_DECLARED`].
    pub fn parse(capabilities: &Bytes) -> Result<Self, MessageError> {
        if capabilities.len() > MAX_DECLARED {
            return Err(MessageError {
                code: code::INVALID_PARAMS,
                reason: format!("capabilities of more than {MAX_DECLARED} bytes"),
                id: None,
            });
        }
        let json = Object::parse(capabilities)?;
        let has = |object: &Object, name| object.get(name).is_some_and(|value| is_object(value));
        let elicitation = json.object("elicitation").map(|modes| {
            let url = has(&modes, "url");
            let form = has(&modes, "form") || !url;
            Elicitation { form, url }
        });
        Ok(Self {
            roots: has(&json, "roots"),
            sampling: json.object("sampling"),
            elicitation,
            json,
        })
    }

    /// Of a client that can do nothing beyond the protocol itself.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            json: Object::new(),
            roots: false,
            sampling: None,
            elicitation: None,
        }
    }

    /// Whether a server may ask it for anything: it has declared sampling, elicitation or roots (protocol
    /// notes 5.4.2, "eligible").
    #[must_use]
    pub fn can_be_asked(&self) -> bool {
        self.roots || self.sampling.is_some() || self.elicitation.is_some()
    }

    /// Whether it can be sent to a page.
    #[must_use]
    pub fn has_url_elicitation(&self) -> bool {
        self.elicitation.is_some_and(|modes| modes.url)
    }

    /// Whether `includeContext` may be asked of it.
    #[must_use]
    pub fn has_sampling_context(&self) -> bool {
        self.in_sampling("context").is_some()
    }

    /// Whether a server may ask this of it: kind, mode of elicitation, tools in sampling (protocol notes 5.1
    /// and 5.3.1). `params` is JSON text.
    ///
    /// # Errors
    /// [`Undeclared`], with which the server is refused.
    pub fn allows(&self, method: &str, params: Option<&Bytes>) -> Result<(), Undeclared> {
        let kind = |declared, name| {
            if declared {
                Ok(())
            } else {
                Err(Undeclared::Kind(name))
            }
        };
        let params = || match params {
            Some(params) => Object::parse(params).map_err(|_| Undeclared::Unreadable),
            None => Ok(Object::new()),
        };
        match method {
            "roots/list" => kind(self.roots, "roots"),
            "sampling/createMessage" => {
                kind(self.sampling.is_some(), "sampling")?;
                let params = params()?;
                let with_tools = params.has("tools") || params.has("toolChoice");
                if with_tools && self.in_sampling("tools").is_none() {
                    return Err(Undeclared::SamplingTools);
                }
                Ok(())
            }
            "elicitation/create" => {
                let modes = self.elicitation.ok_or(Undeclared::Kind("elicitation"))?;
                match mode_of(&params()?)? {
                    Mode::Form if !modes.form => Err(Undeclared::Mode(Mode::Form)),
                    Mode::Url if !modes.url => Err(Undeclared::Mode(Mode::Url)),
                    Mode::Form | Mode::Url => Ok(()),
                }
            }
            other => Err(Undeclared::Method(other.chars().take(64).collect())),
        }
    }

    /// What a legacy client's requests declare to a modern server: what the client declared and the gateway
    /// can deliver in the session's revision (protocol notes 5.3). A JSON object.
    ///
    /// Tasks are left out, among the extensions too, and so is whatever no revision knows.
    #[must_use]
    pub fn to_modern(&self, revision: Revision) -> Bytes {
        let newest = revision >= Revision::V2025_11_25;
        let mut out = Object::new();
        self.copy_experimental(&mut out);
        if self.roots {
            out.set("roots", "{}");
        }
        if self.sampling.is_some() {
            out.set("sampling", self.sampling(newest));
        }
        let modes = match self.elicitation {
            Some(modes) if newest => Some(modes),
            // There were forms only, and before them nothing.
            Some(modes) if modes.form && revision >= Revision::V2025_06_18 => Some(FORMS),
            _ => None,
        };
        if let Some(modes) = modes {
            out.set("elicitation", modes.written());
        }
        self.copy_extensions(&mut out);
        out.into_bytes()
    }

    /// What is declared to a legacy server in the name of a modern client (protocol notes 5.4.1). A JSON
    /// object. Never more than the client declared.
    #[must_use]
    pub fn to_legacy(&self, carried: Carried) -> Bytes {
        let mut out = Object::new();
        self.copy_experimental(&mut out);
        if carried.rounds {
            if self.roots && carried.roots {
                out.set("roots", "{}");
            }
            if self.sampling.is_some() {
                out.set("sampling", self.sampling(true));
            }
            if let Some(modes) = self.elicitation {
                out.set("elicitation", modes.written());
            }
        }
        self.copy_extensions(&mut out);
        out.into_bytes()
    }

    fn copy_experimental(&self, out: &mut Object) {
        let value = self.json.get("experimental");
        if let Some(value) = value.filter(|value| is_object(value)) {
            out.set("experimental", value.clone());
        }
    }

    fn copy_extensions(&self, out: &mut Object) {
        if let Some(extensions) = extensions_without_tasks(&self.json) {
            out.set("extensions", extensions);
        }
    }

    /// Tools in sampling came with 2025-11-25, and so did the word for context.
    fn sampling(&self, newest: bool) -> Bytes {
        let mut out = Object::new();
        for name in ["context", "tools"] {
            if let Some(value) = self.in_sampling(name).filter(|_| newest) {
                out.set(name, value.clone());
            }
        }
        out.into_bytes()
    }

    fn in_sampling(&self, name: &str) -> Option<&Bytes> {
        let value = self.sampling.as_ref()?.get(name)?;
        Some(value).filter(|value| is_object(value))
    }
}

impl Elicitation {
    /// Forms alone are written as every revision that has them understands it.
    fn written(self) -> &'static str {
        match (self.form, self.url) {
            (true, true) => r#"{"form":{},"url":{}}"#,
            (false, true) => r#"{"url":{}}"#,
            (_, false) => "{}",
        }
    }
}

/// Elicitation as it was before there were modes.
const FORMS: Elicitation = Elicitation {
    form: true,
    url: false,
};

/// Capabilities as part of a key: equal for clients that declare the same in other words (protocol notes
/// 5.4.1). At most twice as long as what was declared, which [`Declared::parse`] bounds.
///
/// # Errors
/// As [`canonical`], and as [`Declared::parse`].
pub fn fingerprint(capabilities: &Bytes) -> Result<Bytes, MessageError> {
    let declared = Declared::parse(capabilities)?;
    let mut json = declared.json;
    if let Some(modes) = declared.elicitation {
        json.set("elicitation", modes.written());
    }
    canonical(&json.into_bytes())
}

/// How an elicitation asks. Without a mode it is a form, as it was before there were others.
fn mode_of(params: &Object) -> Result<Mode, Undeclared> {
    let Some(mode) = params.get("mode") else {
        return Ok(Mode::Form);
    };
    match string(mode).as_deref() {
        Some("form") => Ok(Mode::Form),
        Some("url") => Ok(Mode::Url),
        _ => Err(Undeclared::Unreadable),
    }
}
