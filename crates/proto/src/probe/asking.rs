//! The two questions that every probe asks, and what their answers mean, whatever carries them.

use bytes::Bytes;

use super::{ProbeFailure, Speaks, Verdict};
use crate::revision::Revision;
use crate::rpc::{Kind, Message, code, elements, member, meta_key, string};

/// An answer: its HTTP status, if HTTP carried it, and the JSON-RPC response in it, if there is one.
#[derive(Clone, Copy)]
pub(super) struct Reply<'a> {
    pub(super) status: Option<u16>,
    pub(super) response: Option<&'a Message>,
}

/// What to do next.
pub(super) enum Step {
    Discover(Revision),
    Initialize(Revision),
    Done(Verdict),
    Failed(ProbeFailure),
    /// `initialize` was not answered as an MCP server does. In words, what both were answered with.
    Unknown {
        discover: String,
        initialize: String,
    },
}

/// Where the asking stands.
#[derive(Debug, Default)]
pub(super) struct Asking {
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

impl Reply<'_> {
    /// Without HTTP every answer is a success of the transport.
    fn is_success(&self) -> bool {
        self.status
            .is_none_or(|status| (200..300).contains(&status))
    }

    /// Whether an error in it may be one of those that HTTP carries with status 400.
    fn is_refusal(&self) -> bool {
        self.status.is_none_or(|status| status == 400)
    }

    fn describe(&self) -> String {
        let what = match self.response {
            None => "without a JSON-RPC response".to_owned(),
            Some(response) => match Fault::of(response) {
                Some(error) => format!("with error {}", error.code),
                None => "with a result of another kind".to_owned(),
            },
        };
        match self.status {
            Some(status) => format!("status {status} {what}"),
            None => format!("an answer {what}"),
        }
    }
}

impl Asking {
    pub(super) fn answered(&mut self, reply: Reply<'_>) -> Step {
        match self.stage {
            Stage::Discover => self.discover_answered(reply),
            Stage::Initialize => self.initialize_answered(reply),
        }
    }

    /// `server/discover` got no answer, and why, in words.
    pub(super) fn unanswered(&mut self, why: &str) -> Step {
        why.clone_into(&mut self.saw);
        self.initialize(Revision::NEWEST_LEGACY)
    }

    fn discover_answered(&mut self, reply: Reply<'_>) -> Step {
        let response = reply.response;
        self.saw = reply.describe();
        if let Some(result) = response.and_then(Message::result)
            && reply.is_success()
            && let Some(supported) = strings(&result, "supportedVersions")
        {
            return self.discovered(result, supported);
        }
        let Some(error) = response.and_then(Fault::of) else {
            return self.initialize(Revision::NEWEST_LEGACY);
        };
        match (error.code, error.supported) {
            // It was asked in a revision of its own list: whatever it lists now, it contradicts itself.
            (code::UNSUPPORTED_VERSION, supported) if self.retried => {
                mismatch(supported.unwrap_or_default())
            }
            (code::UNSUPPORTED_VERSION, Some(supported)) => {
                let known = Known::of(&supported);
                match known.modern.first() {
                    Some(modern) => {
                        self.retried = true;
                        Step::Discover(*modern)
                    }
                    None if known.legacy.is_some() => self.initialize(Revision::NEWEST_LEGACY),
                    None => mismatch(supported),
                }
            }
            (code::HEADER_MISMATCH | code::MISSING_CAPABILITY, _) if reply.is_refusal() => {
                Step::Failed(ProbeFailure::Refused { code: error.code })
            }
            _ => self.initialize(Revision::NEWEST_LEGACY),
        }
    }

    fn discovered(&mut self, result: Bytes, supported: Vec<String>) -> Step {
        let known = Known::of(&supported);
        if known.modern.is_empty() {
            if known.legacy.is_none() {
                return mismatch(supported);
            }
            self.discovered = Some(result);
            return self.initialize(Revision::NEWEST_LEGACY);
        }
        Step::Done(modern(result, known))
    }

    /// Takes the answer to `server/discover` when `initialize` has been asked already. The verdict that it
    /// is worth by itself, if any.
    pub(super) fn discovered_late(&mut self, reply: Reply<'_>) -> Option<Verdict> {
        let result = reply.response.and_then(Message::result)?;
        let supported = strings(&result, "supportedVersions")?;
        let known = Known::of(&supported);
        if known.modern.is_empty() {
            self.discovered = known.legacy.map(|_| result);
            return None;
        }
        Some(modern(result, known))
    }

    fn initialize(&mut self, revision: Revision) -> Step {
        self.stage = Stage::Initialize;
        self.retried = false;
        Step::Initialize(revision)
    }

    fn initialize_answered(&mut self, reply: Reply<'_>) -> Step {
        let response = reply.response;
        if reply.is_success()
            && let Some(result) = response.and_then(Message::result)
            && let Some(version) = text(Some(&result), "protocolVersion")
        {
            return self.initialized(&result, version);
        }
        let error = response.and_then(Fault::of);
        let supported = error.as_ref().and_then(|error| error.supported.clone());
        let refused_as_modern = reply.is_refusal()
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
            && reply.is_success()
        {
            return match Known::of(&supported).legacy {
                Some(listed) if !self.retried => {
                    self.retried = true;
                    Step::Initialize(listed)
                }
                _ => mismatch(supported),
            };
        }
        Step::Unknown {
            discover: std::mem::take(&mut self.saw),
            initialize: reply.describe(),
        }
    }

    fn initialized(&mut self, result: &Bytes, version: String) -> Step {
        let revision = Revision::from_bytes(version.as_bytes());
        let Some(revision) = revision.filter(|revision| !revision.is_modern()) else {
            return mismatch(vec![version]);
        };
        let info = member(result, "serverInfo");
        Step::Done(Verdict {
            speaks: Speaks::Legacy { revision },
            server_name: text(info.as_ref(), "name"),
            server_version: text(info.as_ref(), "version"),
            discover: self.discovered.take(),
        })
    }
}

fn modern(result: Bytes, known: Known) -> Verdict {
    let meta = member(&result, "_meta");
    let info = meta.and_then(|meta| member(&meta, meta_key::SERVER_INFO));
    Verdict {
        speaks: Speaks::Modern {
            revisions: known.modern,
            legacy: known.legacy,
        },
        server_name: text(info.as_ref(), "name"),
        server_version: text(info.as_ref(), "version"),
        discover: Some(result),
    }
}

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

/// No list, and no name in it, is as long as a server likes.
fn mismatch(mut supported: Vec<String>) -> Step {
    supported.truncate(MOST_NAMED);
    for name in &mut supported {
        *name = name.chars().take(LONGEST_NAME).collect();
    }
    Step::Failed(ProbeFailure::VersionMismatch { supported })
}

/// A member that is a list of strings, and nothing else.
fn strings(object: &Bytes, name: &str) -> Option<Vec<String>> {
    let list = elements(&member(object, name)?).ok()?;
    list.iter()
        .map(|element| string(element).map(std::borrow::Cow::into_owned))
        .collect()
}

pub(super) fn text(object: Option<&Bytes>, name: &str) -> Option<String> {
    Some(string(&member(object?, name)?)?.into_owned())
}
