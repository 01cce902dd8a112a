//! Servers of which the configuration says what they speak (`era`): nobody asks them, so that whoever meets
//! one that speaks something else is told where that was said. What tells is how a server answers
//! `initialize` and `server/discover`, and nothing else: other errors have other causes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::bridge::shape::error_code;
use thinpipe_proto::header::MediaType;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::rpc::{Kind, Message, code, elements, member, splice, string};
use thinpipe_transport::upstream::UpstreamResponse;
use thinpipe_transport::upstream::pipe::PipeError;

use super::Route;
use super::server::spoken;
use crate::config::{ProgramEra, Reached, UpstreamSpec};
use crate::failure::{Failure, Reason};
use crate::pipe::Spoken;
use crate::relay::Edit;

/// The log is not told again before this, however many clients come.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// What the answer of a server says against its pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seems {
    Modern,
    Sessions,
    /// What was expected is not there.
    Other,
}

/// What a server was asked that tells what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Initialize,
    Discover,
}

impl Question {
    /// What the server seems to speak that answers with this error; `None`: it may well be what it was taken for.
    pub(super) fn refused(self, answer: &Message) -> Option<Seems> {
        if answer.kind() != Kind::ErrorResponse {
            return None;
        }
        let error = answer.error()?;
        match (self, error_code(&error)?) {
            // No others give these.
            (Self::Initialize, code::HEADER_MISMATCH | code::MISSING_CAPABILITY) => {
                Some(Seems::Modern)
            }
            (Self::Initialize, _) => {
                (spoken(answer.source()) == Some(Spoken::Stateless)).then_some(Seems::Modern)
            }
            (Self::Discover, code::UNSUPPORTED_VERSION) => {
                names_sessions_only(&error).then_some(Seems::Sessions)
            }
            // It is unknown, or comes in no session.
            (
                Self::Discover,
                code::METHOD_NOT_FOUND | code::INVALID_REQUEST | code::SERVER_ERROR,
            ) => Some(Seems::Sessions),
            (Self::Discover, _) => None,
        }
    }
}

/// What is added to the text of an error, if the server is pinned.
fn doubt(spec: &UpstreamSpec, seems: Seems) -> Option<String> {
    let era = match &spec.reached {
        Reached::Http(http) => match http.pin? {
            Binding::HttpSse => "http+sse",
            Binding::Sessions => "streamable",
            Binding::Stateless => "stateless",
        },
        Reached::Stdio(program) => match program.pin? {
            ProgramEra::Legacy => "legacy",
            ProgramEra::Modern => "modern",
        },
    };
    Some(against_pin(era, seems))
}

/// What the configuration says of a server, and what that seems to speak.
pub(crate) fn against_pin(era: &str, seems: Seems) -> String {
    let says = match era {
        "http+sse" => "speaks HTTP+SSE",
        "stateless" | "modern" => "speaks 2026-07-28",
        _ => "has sessions (up to 2025-11-25)",
    };
    let seems = match seems {
        Seems::Modern => "it seems to speak 2026-07-28",
        Seems::Sessions => "it seems to have sessions (up to 2025-11-25)",
        Seems::Other => "it does not seem to",
    };
    format!(
        "; the setting `era = \"{era}\"` says that this server {says}, but {seems}: without the \
         setting it is asked, and `thinpipe doctor` tells what it speaks"
    )
}

impl Route {
    /// The server has spoken against its pin: what is to be said of that beside its error. `None`: it has no
    /// pin.
    pub(super) fn doubt(&self, seems: Seems) -> Option<String> {
        let doubt = doubt(&self.spec, seems)?;
        if self.told.is_due(TOLD_AGAIN) {
            tracing::warn!(
                upstream = self.name(),
                url = self.url(),
                "the server speaks against the configuration{doubt}"
            );
        }
        Some(doubt)
    }

    /// A failure that the server's answer led to, which speaks against its pin.
    pub(super) fn doubted(&self, mut failure: Failure, seems: Seems) -> Failure {
        failure
            .text
            .push_str(&self.doubt(seems).unwrap_or_default());
        failure
    }

    /// A failure of opening its session that came of this.
    pub(super) fn not_opened(&self, error: &PipeError) -> Failure {
        let failure = Failure::from(error);
        match denies(error) {
            true => self.doubted(failure, Seems::Other),
            false => failure,
        }
    }

    /// What the server has answered to this, as it is or, if it speaks against the pin, with a word of that in its
    /// error.
    pub(super) fn heard(&self, answer: Message, to: Question) -> Message {
        let seems = to.refused(&answer);
        let doubt = seems.and_then(|seems| self.doubt(seems));
        let amended = doubt.and_then(|doubt| amended(&answer, &doubt));
        let amended = amended.and_then(|amended| Message::parse(amended).ok());
        amended.unwrap_or(answer)
    }

    /// The failure of an exchange in which a server that is pinned was asked what tells what it speaks, and this
    /// came back, which is no MCP message; `None`: that says nothing against the pin.
    pub(super) fn denied(&self, response: &UpstreamResponse) -> Option<Failure> {
        let (status, media_type) = (response.status, response.media_type);
        if !self.is_pinned() || media_type == MediaType::Json || !is_denial(status) {
            return None;
        }
        let text = format!("{} answers {status} and no MCP message", self.name());
        Some(self.doubted(Failure::new(Reason::Binding, text), Seems::Other))
    }

    /// The same of what looked like one, and cannot be read.
    pub(super) fn not_read(&self, status: StatusCode, failure: Failure) -> Failure {
        match is_denial(status) {
            true => self.doubted(failure, Seems::Other),
            false => failure,
        }
    }

    /// What looks at the refusal of `initialize`, if the server is pinned.
    pub(super) fn refusing(self: &Arc<Self>) -> Option<Arc<dyn Edit>> {
        self.is_pinned()
            .then(|| Arc::new(Refusing(Arc::clone(self))) as _)
    }
}

/// See [`Route::refusing`].
struct Refusing(Arc<Route>);

impl Edit for Refusing {
    fn edit(&self, message: Message) -> Option<Message> {
        Some(self.0.heard(message, Question::Initialize))
    }

    fn not_read(&self, status: StatusCode, failure: Failure) -> Failure {
        self.0.not_read(status, failure)
    }
}

/// Whether a status says that there is nothing of the kind that was asked for. A server that is down, busy or
/// wants to know who asks says nothing of what it speaks.
pub(super) fn is_denial(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 406 | 415 | 422)
}

/// Whether a server that answers so has no such sessions.
pub(super) fn denies(error: &PipeError) -> bool {
    match error {
        PipeError::NotAStream { status, .. } => status.is_success() || is_denial(*status),
        PipeError::Refused { status, .. } => is_denial(*status),
        PipeError::NotAnEndpoint { .. } => true,
        _ => false,
    }
}

/// Whether a refusal of a revision names some, and none without sessions.
fn names_sessions_only(error: &Bytes) -> bool {
    let listed = member(error, "data").and_then(|data| member(&data, "supported"));
    let listed = listed.and_then(|listed| elements(&listed).ok());
    let known = |version: &Bytes| Revision::from_bytes(string(version)?.as_bytes());
    let revisions: Vec<_> = listed.iter().flatten().filter_map(known).collect();
    !revisions.is_empty() && !revisions.iter().any(|revision| revision.is_modern())
}

/// A message with more at the end of its error's text; `None`: it has no such text.
fn amended(message: &Message, more: &str) -> Option<Bytes> {
    let text = member(&message.error()?, "message")?;
    let amended = format!("{}{more}", string(&text)?);
    let amended = serde_json::to_vec(&amended).ok()?;
    splice(message.source(), &text, &amended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, data: &str) -> Message {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"no \"m\"","data":{data}}}}}"#
        );
        Message::parse(text.into()).unwrap()
    }

    #[test]
    fn answers_of_another_kind_of_server_are_told_from_errors() {
        use Question::{Discover, Initialize};
        let named = |versions: &str| error(-32022, &format!(r#"{{"supported":[{versions}]}}"#));
        for (asked, answer, seems) in [
            (Discover, error(-32000, "null"), Some(Seems::Sessions)),
            (Discover, error(-32600, "null"), Some(Seems::Sessions)),
            (Discover, error(-32601, "null"), Some(Seems::Sessions)),
            (Discover, error(-32602, "null"), None),
            (Discover, error(-32603, "null"), None),
            (Discover, error(-32020, "null"), None),
            (Discover, named("\"2025-06-18\""), Some(Seems::Sessions)),
            (Discover, named("\"2026-07-28\""), None),
            (Discover, named("\"2026-07-28\",\"2025-06-18\""), None),
            (Discover, named(""), None),
            (Initialize, named("\"2026-07-28\""), Some(Seems::Modern)),
            (Initialize, named("\"2025-06-18\""), None),
            (Initialize, error(-32020, "null"), Some(Seems::Modern)),
            (Initialize, error(-32601, "null"), Some(Seems::Modern)),
            (Initialize, error(-32000, "null"), None),
            (Initialize, error(-32602, "null"), None),
        ] {
            let source = answer.source();
            assert_eq!(asked.refused(&answer), seems, "{asked:?} {source:?}");
        }
    }

    /// What the server says stays as it was, code, data and all.
    #[test]
    fn an_error_gets_a_word_more() {
        let amended = amended(&error(-32000, r#"{"a":1.0}"#), "; \"more\"").unwrap();
        let expected = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no \"m\"; \"more\"","data":{"a":1.0}}}"#;
        assert_eq!(amended, expected);
    }
}
