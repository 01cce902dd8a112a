//! Which revisions a server speaks, found out by asking it (2026-07-28, "Versioning"): first
//! `server/discover`, then `initialize`. Neither has side effects worth mentioning; nothing else is
//! ever used to probe, since some servers run a `tools/call` that nobody initialized.
//!
//! Pure: answers go in, the next request or the verdict comes out.

use bytes::Bytes;

use crate::revision::Revision;
use crate::rpc::{Kind, Message, code, elements, member, string};

/// What a server speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Modern revisions it serves, newest first; `None`: it is not modern.
    pub modern: Option<Vec<Revision>>,
    /// The newest revision with `initialize` that it serves, as far as it is known.
    pub legacy: Option<Revision>,
    /// What it calls itself.
    pub server_name: Option<String>,
    /// The version it says it is.
    pub server_version: Option<String>,
    /// The result of `server/discover`, as JSON text.
    pub discover: Option<Bytes>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send `server/discover` in this revision.
    Discover(Revision),
    /// Send `initialize` that asks for this revision, without session and without version header.
    Initialize(Revision),
    /// The verdict is found.
    Done(Verdict),
    /// There is no verdict.
    Failed(ProbeFailure),
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeFailure {
    /// 401 or 403: says nothing about revisions. Authorize, then probe again.
    #[error("it wants other credentials (status {status})")]
    Unauthorized {
        /// The status.
        status: u16,
    },
    /// 408, 425, 429 or 5xx: says nothing about revisions. Probe again later.
    #[error("it is not available (status {status})")]
    Unavailable {
        /// The status.
        status: u16,
    },
    /// It is an MCP server of revisions nobody here knows, or it contradicts itself.
    #[error("it speaks none of the revisions known here, but {supported:?}")]
    VersionMismatch {
        /// What it says it supports, as it says it: the first few.
        supported: Vec<String>,
    },
    /// It is modern and says that headers were missing, or a capability.
    #[error(
        "it is modern and refused the probe with {code}: are headers stripped on the way, or does \
         it need a capability?"
    )]
    Refused {
        /// -32020 or -32021.
        code: i32,
    },
    /// Neither request was answered as an MCP server does.
    #[error(
        "it is no MCP server of a known kind: server/discover gave {discover}, initialize gave \
         {initialize}"
    )]
    NotMcp {
        /// What `server/discover` was answered with.
        discover: String,
        /// What `initialize` was answered with.
        initialize: String,
    },
}

impl ProbeFailure {
    /// Whether it says nothing about the server's revisions: nothing may be concluded or stored.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Unavailable { .. })
    }
}

/// One probing, from the first request to the verdict.
#[derive(Debug, Default)]
pub struct Probe {
    stage: Stage,
    retried: bool,
    /// What `server/discover` was answered with, in words.
    saw: String,
    /// The result that named legacy revisions only.
    discovered: Option<Bytes>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Discover,
    Initialize,
}

impl Probe {
    /// Probing that has not begun. Its first step is `server/discover` in the newest revision.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the answer to the last request: its status, and the JSON-RPC response in its body, if
    /// there is one (in JSON or in an event stream).
    pub fn answered(&mut self, status: u16, response: Option<&Message>) -> Next {
        match status {
            401 | 403 => return Next::Failed(ProbeFailure::Unauthorized { status }),
            408 | 425 | 429 | 500.. => return Next::Failed(ProbeFailure::Unavailable { status }),
            _ => {}
        }
        match self.stage {
            Stage::Discover => self.discover_answered(status, response),
            Stage::Initialize => self.initialize_answered(status, response),
        }
    }

    fn discover_answered(&mut self, status: u16, response: Option<&Message>) -> Next {
        self.saw = describe(status, response);
        if let Some(result) = response.and_then(Message::result)
            && is_success(status)
            && let Some(supported) = strings(&result, "supportedVersions")
        {
            return self.discovered(result, supported);
        }
        let Some(error) = response.and_then(Fault::of) else {
            return self.initialize(Revision::NEWEST_LEGACY);
        };
        match (error.code, error.supported) {
            (code::UNSUPPORTED_VERSION, Some(supported)) => {
                let known = Known::of(&supported);
                match known.modern.first() {
                    _ if self.retried => mismatch(supported),
                    Some(modern) => {
                        self.retried = true;
                        Next::Discover(*modern)
                    }
                    None if known.legacy.is_some() => self.initialize(Revision::NEWEST_LEGACY),
                    None => mismatch(supported),
                }
            }
            (code::HEADER_MISMATCH | code::MISSING_CAPABILITY, _) if status == 400 => {
                Next::Failed(ProbeFailure::Refused { code: error.code })
            }
            _ => self.initialize(Revision::NEWEST_LEGACY),
        }
    }

    fn discovered(&mut self, result: Bytes, supported: Vec<String>) -> Next {
        let known = Known::of(&supported);
        if known.modern.is_empty() {
            if known.legacy.is_none() {
                return mismatch(supported);
            }
            self.discovered = Some(result);
            return self.initialize(Revision::NEWEST_LEGACY);
        }
        let info = member(&result, "_meta").and_then(|meta| member(&meta, SERVER_INFO));
        Next::Done(Verdict {
            modern: Some(known.modern),
            legacy: known.legacy,
            server_name: text(info.as_ref(), "name"),
            server_version: text(info.as_ref(), "version"),
            discover: Some(result),
        })
    }

    fn initialize(&mut self, revision: Revision) -> Next {
        self.stage = Stage::Initialize;
        self.retried = false;
        Next::Initialize(revision)
    }

    fn initialize_answered(&mut self, status: u16, response: Option<&Message>) -> Next {
        if is_success(status)
            && let Some(result) = response.and_then(Message::result)
            && let Some(version) = text(Some(&result), "protocolVersion")
        {
            return self.initialized(&result, version);
        }
        let error = response.and_then(Fault::of);
        let supported = error.as_ref().and_then(|error| error.supported.clone());
        let refused_as_modern = status == 400
            && error.as_ref().is_some_and(|error| {
                matches!(
                    error.code,
                    code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION
                )
            });
        if refused_as_modern {
            return mismatch(supported.unwrap_or_default());
        }
        if let Some(supported) = supported
            && is_success(status)
        {
            return match Known::of(&supported).legacy {
                Some(listed) if !self.retried => {
                    self.retried = true;
                    Next::Initialize(listed)
                }
                _ => mismatch(supported),
            };
        }
        Next::Failed(ProbeFailure::NotMcp {
            discover: std::mem::take(&mut self.saw),
            initialize: describe(status, response),
        })
    }

    fn initialized(&mut self, result: &Bytes, version: String) -> Next {
        let revision = Revision::from_bytes(version.as_bytes());
        let Some(revision) = revision.filter(|revision| !revision.is_modern()) else {
            return mismatch(vec![version]);
        };
        let info = member(result, "serverInfo");
        Next::Done(Verdict {
            modern: None,
            legacy: Some(revision),
            server_name: text(info.as_ref(), "name"),
            server_version: text(info.as_ref(), "version"),
            discover: self.discovered.take(),
        })
    }
}

/// The request `server/discover`, with `id` as JSON text.
#[must_use]
pub fn discover_request(id: &str, revision: Revision) -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"server/discover","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"{revision}","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"thinpipe","version":"{version}"}}}}}}}}"#
    ))
}

/// The request `initialize`, with `id` as JSON text.
#[must_use]
pub fn initialize_request(id: &str, revision: Revision) -> Bytes {
    let version = env!("CARGO_PKG_VERSION");
    Bytes::from(format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{{}},"clientInfo":{{"name":"thinpipe","version":"{version}"}}}}}}"#
    ))
}

/// Where a modern result says who made it.
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// How many revisions that nobody knows are named in an error, and up to which length.
const MOST_NAMED: usize = 8;
const LONGEST_NAME: usize = 32;

/// The revisions of a list that are known here.
struct Known {
    modern: Vec<Revision>,
    legacy: Option<Revision>,
}

impl Known {
    fn of(supported: &[String]) -> Self {
        let listed = |revision: &Revision| supported.iter().any(|s| s == revision.as_str());
        let (modern, legacy): (Vec<_>, Vec<_>) = Revision::ALL
            .into_iter()
            .filter(listed)
            .partition(|revision| revision.is_modern());
        Self {
            modern,
            legacy: legacy.first().copied(),
        }
    }
}

/// What of a JSON-RPC error matters here.
struct Fault {
    code: i32,
    /// `data.supported`, if it is a list of strings.
    supported: Option<Vec<String>>,
}

impl Fault {
    fn of(response: &Message) -> Option<Self> {
        if response.kind() != Kind::ErrorResponse {
            return None;
        }
        let error = response.error()?;
        let code = std::str::from_utf8(&member(&error, "code")?)
            .ok()?
            .parse()
            .ok()?;
        let supported = member(&error, "data").and_then(|data| strings(&data, "supported"));
        Some(Self { code, supported })
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// No list, and no name in it, is as long as a server likes.
fn mismatch(mut supported: Vec<String>) -> Next {
    supported.truncate(MOST_NAMED);
    for name in &mut supported {
        *name = name.chars().take(LONGEST_NAME).collect();
    }
    Next::Failed(ProbeFailure::VersionMismatch { supported })
}

/// A member that is a list of strings, and nothing else.
fn strings(object: &Bytes, name: &str) -> Option<Vec<String>> {
    let list = elements(&member(object, name)?).ok()?;
    list.iter()
        .map(|element| string(element).map(std::borrow::Cow::into_owned))
        .collect()
}

fn text(object: Option<&Bytes>, name: &str) -> Option<String> {
    Some(string(&member(object?, name)?)?.into_owned())
}

fn describe(status: u16, response: Option<&Message>) -> String {
    match response {
        None => format!("status {status} without a JSON-RPC response"),
        Some(response) => match Fault::of(response) {
            Some(error) => format!("status {status} with error {}", error.code),
            None => format!("status {status} with a result of another kind"),
        },
    }
}

#[cfg(test)]
mod tests;
