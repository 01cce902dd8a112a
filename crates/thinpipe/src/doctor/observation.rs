//! What was seen of a server. Plain data: nothing here judges.

use std::time::Duration;

use serde_json::Value;
use thinpipe_gateway::ProgramEra;
use thinpipe_proto::revision::{Binding, Revision};

use super::list::Lists;

/// All that was seen of one server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observations {
    /// Its URL or command line, for people.
    pub(crate) target: String,
    /// Who it says it is and what it speaks, or why that could not be found out.
    pub(crate) identity: Result<Identity, Unusable>,
    /// Its capabilities, of all eras that it speaks together.
    pub(crate) capabilities: serde_json::Map<String, Value>,
    /// Its lists.
    pub(crate) lists: Lists,
    /// What is particular to its transport.
    pub(crate) transport: Transport,
    /// Where it says that its clients should go, if this address is deprecated.
    pub(crate) successor: Option<String>,
    /// The last lines that a program wrote to its standard error.
    pub(crate) stderr: Vec<String>,
}

impl Observations {
    /// Notes capabilities that it declares in one of its eras.
    pub(crate) fn note_capabilities(&mut self, declared: &Value) {
        let declared = declared.as_object().into_iter().flatten();
        for (name, value) in declared {
            let known = self
                .capabilities
                .entry(name)
                .or_insert_with(|| value.clone());
            if let (Some(known), Some(value)) = (known.as_object_mut(), value.as_object()) {
                known.extend(value.clone());
            }
        }
    }
}

/// Who a server says it is, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    /// Its name, if it gives one.
    pub(crate) name: Option<String>,
    /// Its version, if it gives one.
    pub(crate) version: Option<String>,
    /// How its messages are framed over HTTP; empty: stdio.
    pub(crate) bindings: Vec<Binding>,
    /// Eras of a program, the newest first; empty: it is none.
    pub(crate) eras: Vec<ProgramEra>,
    /// Revisions it serves, as far as it says so, newest first.
    pub(crate) revisions: Vec<Revision>,
}

/// Why a server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// Whose fault it looks like.
    pub(crate) why: Why,
    /// What happened, for people.
    pub(crate) text: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It did not answer, or only that it is not there now.
    Unavailable,
    /// It wants credentials.
    Unauthorized,
    /// It says that headers are missing, or a capability.
    HeadersMissing,
    /// It names an endpoint on another origin.
    ForeignEndpoint,
    /// It speaks revisions that nobody here knows.
    Version,
    /// Its program cannot be started, or ends by itself.
    Program,
    /// It says that this address is not served any more, and which is.
    Gone,
    /// It answers, but not as an MCP server does.
    NotMcp,
}

/// What is particular to a transport.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Transport {
    /// Nothing was seen of it.
    Unknown,
    /// Streamable HTTP: with sessions, stateless, or both.
    Streamable {
        /// With sessions.
        sessions: Option<Box<Sessions>>,
        /// The status that a GET of the stateless endpoint got.
        stateless_get: Option<u16>,
    },
    /// HTTP+SSE.
    HttpSse(HttpSse),
    /// A child process.
    Stdio(Stdio),
}

/// Streamable HTTP with sessions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sessions {
    /// The revision it agreed to.
    pub(crate) revision: Option<Revision>,
    /// The id of its session.
    pub(crate) id: SessionId,
    /// What a second `initialize` got.
    pub(crate) second: Second,
    /// Status of a request with a session id that never was.
    pub(crate) unknown: Option<u16>,
    /// Status of a request without a session id.
    pub(crate) missing: Option<u16>,
    /// Status of DELETE.
    pub(crate) deleted: Option<u16>,
    /// Status of a request of the session after that.
    pub(crate) after_delete: Option<u16>,
    /// Status of a request whose client accepts JSON only.
    pub(crate) json_only: Option<u16>,
    /// Status of a request that a web page of another origin made.
    pub(crate) foreign_origin: Option<u16>,
    /// The standalone stream.
    pub(crate) stream: Stream,
    /// Ids of the events on the streams that answered requests, in order.
    pub(crate) event_ids: Vec<String>,
    /// Answers came as event streams.
    pub(crate) streams_answers: bool,
    /// A stream began with an event that has an id and no data.
    pub(crate) primes: bool,
    /// What came of asking for what followed an event.
    pub(crate) resumed: Option<Resumed>,
    /// Every response had the id of its request, a number as a number and text as text.
    pub(crate) ids_kept: bool,
}

/// `Mcp-Session-Id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SessionId {
    /// There was none.
    #[default]
    None,
    /// It can be used.
    Valid,
    /// It is not visible ASCII, or too long.
    Invalid,
}

/// A second session beside the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Second {
    /// None was opened.
    #[default]
    NotTried,
    /// It got this status instead.
    Refused(u16),
    /// It has an id of its own, or none.
    Own {
        /// Lists that are not the same in both.
        differing: Vec<&'static str>,
    },
    /// It has the id of the first one.
    Same,
}

/// The standalone stream (GET).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Stream {
    /// It was not asked for.
    #[default]
    NotTried,
    /// It got this status instead.
    Refused(u16),
    /// 200, but no event stream.
    NotEvents,
    /// It stood.
    Open {
        /// How long it was listened to, if it did not end before.
        watched: Duration,
        /// Something came on it: an event or a comment.
        alive: bool,
        /// The server ended it.
        ended: bool,
    },
}

/// What a GET with `Last-Event-ID` got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// This status.
    Refused(u16),
    /// An event stream, on which nothing came that had been there before.
    Silent,
    /// An event stream with what followed the event.
    Replayed,
}

/// HTTP+SSE.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct HttpSse {
    /// Two clients at a time are each answered.
    pub(crate) two_at_a_time: bool,
}

/// A child process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stdio {
    /// It ended when it was sent `server/discover`, and was started again.
    pub(crate) died_on_discover: bool,
    /// From its start to the answer to `initialize` or `server/discover`.
    pub(crate) first_answer: Option<Duration>,
    /// Lines on its standard output that are no messages.
    pub(crate) noise: u64,
    /// From the end of its input to its own; `None`: it had to be told by signals.
    pub(crate) left_after: Option<Duration>,
}
