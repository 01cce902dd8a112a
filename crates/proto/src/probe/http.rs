//! Probing over HTTP: Streamable HTTP of both eras, and HTTP+SSE.

use super::asking::{Asking, Reply, Step, text};
use super::{Next, ProbeFailure, Speaks, Verdict};
use crate::revision::Revision;
use crate::rpc::{Message, member};

/// One probing, from the first request to the verdict.
#[derive(Debug)]
pub struct Probe {
    asking: Asking,
    /// What GET was answered with, in words, once it was tried.
    stream: Option<String>,
    /// What both POSTs were answered with, once GET is what is left.
    unknown: Option<(String, String)>,
}

/// What the GET of a probe was answered with, if not with an endpoint to post to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOpened {
    /// An event stream whose first event names an endpoint that may not be used.
    BadEndpoint,
    /// An event stream whose first event is another, or did not come in time.
    NoEndpoint,
    /// No head of a response came in time.
    Silence,
    /// A redirect that is not followed, or what is no HTTP.
    Unusable,
    /// Anything else, with this status.
    Other(u16),
}

impl Probe {
    /// Probing of a server at this path, and its first step: `server/discover` in the newest revision,
    /// but the event stream where the path ends in `/sse`. That is a hint only: the others follow.
    #[must_use]
    pub fn begin(path: &str) -> (Self, Next) {
        let next = if path.ends_with("/sse") {
            Next::OpenStream
        } else {
            Next::Discover(Revision::NEWEST)
        };
        let probe = Self {
            asking: Asking::default(),
            stream: None,
            unknown: None,
        };
        (probe, next)
    }

    /// Takes the answer to the last POST: its status, and the JSON-RPC response in its body, if there
    /// is one (in JSON or in an event stream).
    pub fn answered(&mut self, status: u16, response: Option<&Message>) -> Next {
        if let Some(failure) = passing(status) {
            return Next::Failed(failure);
        }
        let status = Some(status);
        match self.asking.answered(Reply { status, response }) {
            Step::Discover(revision) => Next::Discover(revision),
            Step::Initialize(revision) => Next::Initialize(revision),
            Step::Done(verdict) => Next::Done(verdict),
            Step::Failed(failure) => Next::Failed(failure),
            Step::Unknown {
                discover,
                initialize,
            } => {
                self.unknown = Some((discover, initialize));
                let refused = status.is_some_and(|status| (400..500).contains(&status));
                if refused && self.stream.is_none() {
                    Next::OpenStream
                } else {
                    self.not_mcp()
                }
            }
        }
    }

    /// Takes the answer to the GET, if it names no endpoint.
    pub fn not_opened(&mut self, saw: NotOpened) -> Next {
        self.stream = Some(saw.describe());
        if self.unknown.is_none() {
            // It was the hint of the path, which was wrong.
            return Next::Discover(Revision::NEWEST);
        }
        let passing = match saw {
            NotOpened::Other(status) => passing(status),
            _ => None,
        };
        passing.map_or_else(|| self.not_mcp(), Next::Failed)
    }

    fn not_mcp(&mut self) -> Next {
        let (discover, initialize) = self.unknown.take().unwrap_or_default();
        Next::Failed(ProbeFailure::NotMcp {
            discover,
            initialize,
            stream: self.stream.take(),
        })
    }
}

/// The verdict on a server whose event stream named an endpoint, with what `initialize` over that stream
/// was answered with. `None`: nothing of use came, and what the server speaks is known all the same.
#[must_use]
pub fn http_sse(response: Option<&Message>) -> Verdict {
    let result = response.and_then(Message::result);
    let version = text(result.as_ref(), "protocolVersion");
    let revision = version.and_then(|version| Revision::from_bytes(version.as_bytes()));
    let info = result
        .as_ref()
        .and_then(|result| member(result, "serverInfo"));
    Verdict {
        speaks: Speaks::HttpSse {
            revision: revision.filter(|revision| !revision.is_modern()),
        },
        server_name: text(info.as_ref(), "name"),
        server_version: text(info.as_ref(), "version"),
        discover: None,
    }
}

impl NotOpened {
    fn describe(self) -> String {
        match self {
            Self::BadEndpoint => {
                "an event stream whose endpoint is unclear or lies at another origin".to_owned()
            }
            Self::NoEndpoint => "an event stream that does not begin with an endpoint".to_owned(),
            Self::Silence => "no answer in time".to_owned(),
            Self::Unusable => "no usable response".to_owned(),
            Self::Other(status) => format!("status {status} without an event stream"),
        }
    }
}

/// What a status says that says nothing about revisions.
fn passing(status: u16) -> Option<ProbeFailure> {
    match status {
        401 | 403 => Some(ProbeFailure::Unauthorized { status }),
        408 | 425 | 429 | 500.. => Some(ProbeFailure::Unavailable { status }),
        _ => None,
    }
}
