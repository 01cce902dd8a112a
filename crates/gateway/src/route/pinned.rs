//! Servers of which the configuration says what they speak (`era`): nobody asks them, so that whoever meets
//! one that speaks something else is told where that was said.

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::bridge::shape::error_code;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::rpc::{Message, code, elements, member, splice, string};
use thinpipe_transport::body::Body;
use thinpipe_transport::server::{Answer, Content};

use super::Route;
use super::multiplex::DISCOVER;
use crate::config::{ProgramEra, Reached, UpstreamSpec};
use crate::failure::{Failure, Reason};
use crate::stats::MethodClass;

/// How it is said that a server answered `initialize` and opened no session.
const REFUSALS: [&str; 4] = [
    "refused to initialize a session",
    "refused a message with status",
    "opened no event stream, but answered with status",
    "does not begin with an endpoint",
];

/// What the configuration says that a server speaks.
#[derive(Clone, Copy)]
struct Pin {
    /// The value of `era`.
    era: &'static str,
    is_modern: bool,
}

/// What the answer of a server says against its pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seems {
    Modern,
    Sessions,
    /// What was expected is not there.
    Other,
}

impl Pin {
    fn of(spec: &UpstreamSpec) -> Option<Self> {
        let (era, is_modern) = match &spec.reached {
            Reached::Http(http) => match http.pin? {
                Binding::HttpSse => ("http+sse", false),
                Binding::Sessions => ("streamable", false),
                Binding::Stateless => ("stateless", true),
            },
            Reached::Stdio(program) => match program.pin? {
                ProgramEra::Legacy => ("legacy", false),
                ProgramEra::Modern => ("modern", true),
            },
        };
        Some(Self { era, is_modern })
    }

    /// What is added to the text of an error.
    fn doubt(self, seems: Seems) -> String {
        let says = match self.era {
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
            "; the setting `era = \"{}\"` says that this server {says}, but {seems}: without the \
             setting it is asked, and `thinpipe doctor` tells what it speaks",
            self.era
        )
    }

    /// What a whole answer with an error says against it, if anything.
    fn contradicted(self, status: StatusCode, body: &Bytes, class: MethodClass) -> Option<Seems> {
        let (opens, discovers) = (is(class, "initialize"), is(class, DISCOVER));
        if status.is_success() && !opens && !discovers {
            return None;
        }
        let message = Message::parse(body.clone()).ok();
        let error = message.as_ref().and_then(Message::error);
        let Some(error) = error else {
            // A server of another kind, or none.
            let is_denied = matches!(status.as_u16(), 400 | 404 | 405 | 406 | 415 | 422);
            return is_denied.then_some(Seems::Other);
        };
        let number = error_code(&error)?;
        if let Some(named) = named(&error, number) {
            return (named != self.is_modern).then_some(if named {
                Seems::Modern
            } else {
                Seems::Sessions
            });
        }
        if is_ours(&error) {
            return was_refused(&error).then_some(Seems::Other);
        }
        match (self.is_modern, number) {
            (true, code::METHOD_NOT_FOUND) => discovers.then_some(Seems::Sessions),
            (true, code::SERVER_ERROR | code::INVALID_REQUEST) => {
                speaks_of_sessions(&error).then_some(Seems::Sessions)
            }
            (false, code::METHOD_NOT_FOUND) => opens.then_some(Seems::Modern),
            (
                false,
                code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION,
            ) => Some(Seems::Modern),
            _ => None,
        }
    }
}

impl Route {
    /// An answer as it is, or, if it speaks against what the configuration says of the server, with a word of
    /// that in its error.
    pub(super) fn doubting_pin(
        &self,
        answered: Result<Answer, Failure>,
        class: MethodClass,
    ) -> Result<Answer, Failure> {
        // What is passed on unread is believed by its type.
        let is_told = |answer: &Answer| match answer.body {
            Body::Stream(_) => matches!(answer.content, Content::Other(_)),
            Body::Full(_) | Body::Empty => answer.content != Content::EventStream,
        };
        match (answered, Pin::of(&self.spec)) {
            (Err(mut failure), Some(pin)) if is_opposing(failure.reason, class) => {
                let seems = match (failure.reason, pin.is_modern) {
                    (Reason::Binding, true) => Seems::Sessions,
                    (Reason::Binding, false) => Seems::Modern,
                    _ => Seems::Other,
                };
                failure.text.push_str(&pin.doubt(seems));
                Err(failure)
            }
            (Ok(answer), Some(pin)) if is_told(&answer) => self.doubting(answer, pin, class),
            (answered, _) => answered,
        }
    }

    fn doubting(
        &self,
        mut answer: Answer,
        pin: Pin,
        class: MethodClass,
    ) -> Result<Answer, Failure> {
        let body = match &answer.body {
            Body::Full(body) => body.clone(),
            Body::Empty | Body::Stream(_) => Bytes::new(),
        };
        let Some(seems) = pin.contradicted(answer.status, &body, class) else {
            return Ok(answer);
        };
        let doubt = pin.doubt(seems);
        let amended = amended(&body, &doubt);
        if amended.is_none() && (is(class, "initialize") || is(class, DISCOVER)) {
            let text = format!(
                "{} answers {} and no MCP message{doubt}",
                self.name(),
                answer.status
            );
            return Err(Failure::new(Reason::Binding, text));
        }
        tracing::warn!(
            upstream = self.name(),
            url = self.url(),
            status = answer.status.as_u16(),
            "an answer speaks against the configuration{doubt}"
        );
        // R245: else it passes as it is.
        if let Some(amended) = amended {
            answer.body = amended.into();
        }
        Ok(answer)
    }
}

fn is(class: MethodClass, method: &str) -> bool {
    class == MethodClass::of(Some(method))
}

/// Failures that a server of another kind than was expected leads to.
fn is_opposing(reason: Reason, class: MethodClass) -> bool {
    let begins = is(class, "initialize") || is(class, DISCOVER);
    match reason {
        Reason::Invalid | Reason::NotFound | Reason::Binding => true,
        // Some programs end over a first message that they do not know.
        Reason::StreamLost => begins,
        _ => false,
    }
}

/// Whether a refusal names revisions of one era only: `true` if that is 2026-07-28 or later.
fn named(error: &Bytes, number: i32) -> Option<bool> {
    if number != code::UNSUPPORTED_VERSION {
        return None;
    }
    let listed = member(&member(error, "data")?, "supported")?;
    let known = |version: &Bytes| Revision::from_bytes(string(version)?.as_bytes());
    let revisions: Vec<_> = elements(&listed).ok()?.iter().filter_map(known).collect();
    let modern = revisions.iter().filter(|it| it.is_modern()).count();
    let is_of_one = !revisions.is_empty() && (modern == 0 || modern == revisions.len());
    is_of_one.then_some(modern > 0)
}

/// Whether the gateway itself says it.
fn is_ours(error: &Bytes) -> bool {
    let data = member(error, "data");
    data.is_some_and(|data| {
        member(&data, "reason").is_some() && member(&data, "upstream").is_some()
    })
}

/// Whether it says that the server answered, and did not open a session: one that is down says nothing of what
/// it speaks.
fn was_refused(error: &Bytes) -> bool {
    let text = member(error, "message");
    let text = text.as_ref().and_then(|text| string(text));
    text.is_some_and(|text| REFUSALS.iter().any(|refusal| text.contains(refusal)))
}

/// Whether it is about what no server of 2026-07-28 has: "Missing session ID", "Server not initialized", as those
/// that have sessions say in so many words.
fn speaks_of_sessions(error: &Bytes) -> bool {
    let text = member(error, "message");
    let text = text.as_ref().and_then(|text| string(text));
    text.is_some_and(|text| {
        let text = text.to_ascii_lowercase();
        text.contains("session") || text.contains("initiali")
    })
}

/// A message with more at the end of its error's text; `None`: it has no such text.
fn amended(body: &Bytes, more: &str) -> Option<Bytes> {
    let message = Message::parse(body.clone()).ok()?;
    let text = member(&message.error()?, "message")?;
    let amended = format!("{}{more}", string(&text)?);
    let amended = serde_json::to_vec(&amended).ok()?;
    splice(message.source(), &text, &amended)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATELESS: Pin = Pin {
        era: "stateless",
        is_modern: true,
    };
    const SESSIONS: Pin = Pin {
        era: "streamable",
        is_modern: false,
    };

    fn error(code: i32, data: &str) -> Bytes {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"no \"m\"","data":{data}}}}}"#
        );
        text.into()
    }

    #[test]
    fn answers_of_another_kind_of_server_are_told_from_errors() {
        let [call, discover, initialize] =
            ["tools/call", DISCOVER, "initialize"].map(|method| MethodClass::of(Some(method)));
        let session = |code| {
            let text = String::from_utf8(error(code, "null").to_vec()).unwrap();
            Bytes::from(text.replace("no", "Missing Session ID"))
        };
        let named = |versions: &str| error(-32022, &format!(r#"{{"supported":[{versions}]}}"#));
        let ours = |text: &str| {
            let error = error(
                -32603,
                r#"{"reason":"upstream_unavailable","upstream":"u"}"#,
            );
            let text = String::from_utf8(error.to_vec())
                .unwrap()
                .replace("no", text);
            Bytes::from(text)
        };
        for (pin, class, status, body, seems) in [
            (STATELESS, call, 400, session(-32000), Some(Seems::Sessions)),
            (STATELESS, call, 400, session(-32600), Some(Seems::Sessions)),
            (STATELESS, call, 200, error(-32602, "null"), None),
            (STATELESS, call, 400, error(-32000, "null"), None),
            (STATELESS, call, 404, error(-32601, "null"), None),
            (
                STATELESS,
                discover,
                404,
                error(-32601, "null"),
                Some(Seems::Sessions),
            ),
            (
                STATELESS,
                call,
                400,
                named("\"2025-06-18\""),
                Some(Seems::Sessions),
            ),
            (STATELESS, call, 400, named("\"2026-07-28\""), None),
            (
                STATELESS,
                call,
                422,
                Bytes::from("expect initialize"),
                Some(Seems::Other),
            ),
            (STATELESS, call, 502, Bytes::from("<html>"), None),
            (
                STATELESS,
                call,
                200,
                Bytes::from(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
                None,
            ),
            (
                SESSIONS,
                initialize,
                400,
                named("\"2026-07-28\""),
                Some(Seems::Modern),
            ),
            (
                SESSIONS,
                initialize,
                400,
                named("\"2026-07-28\",\"2025-06-18\""),
                Some(Seems::Modern),
            ),
            (
                SESSIONS,
                initialize,
                400,
                error(-32020, "null"),
                Some(Seems::Modern),
            ),
            (
                SESSIONS,
                initialize,
                200,
                error(-32601, "null"),
                Some(Seems::Modern),
            ),
            (SESSIONS, call, 200, error(-32601, "null"), None),
            (SESSIONS, call, 400, error(-32000, "null"), None),
            (
                SESSIONS,
                call,
                502,
                ours("u refused a message with status 404"),
                Some(Seems::Other),
            ),
            (SESSIONS, call, 502, ours("connection refused"), None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = pin.contradicted(status, &body, class);
            assert_eq!(found, seems, "{} {status} {body:?}", pin.era);
        }
    }

    /// What the server says stays as it was, code, data and all.
    #[test]
    fn an_error_gets_a_word_more() {
        let body = error(-32000, r#"{"a":1.0}"#);
        let amended = amended(&body, "; \"more\"").unwrap();
        let expected = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no \"m\"; \"more\"","data":{"a":1.0}}}"#;
        assert_eq!(amended, expected);
        assert_eq!(super::amended(&Bytes::from("<html>"), "x"), None);
    }
}
