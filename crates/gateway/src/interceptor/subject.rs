//! What a message is about, and how sure that is.

use std::borrow::Cow;

use thinpipe_proto::classify::{CLIENT_REQUESTS, SERVER_REQUESTS};
use thinpipe_proto::rpc::{Kind, Message};

use super::glob::{self, Glob};
use super::{Direction, MessageContext};

/// The member of `params` that says which tool, prompt or resource a method is about.
pub(super) fn member(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "notifications/resources/updated" => Some("uri"),
        _ => None,
    }
}

/// The tool, prompt or resource that a request or notification names.
pub(crate) fn subject(message: &Message) -> Option<Cow<'_, str>> {
    message.param_text(member(message.method()?)?)
}

/// Whether patterns fit a message. What follows from several of these is their minimum where all have
/// to fit, and their maximum where one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    No,
    /// It is a response, and what it answers is not known (any more).
    Maybe,
    Yes,
}

impl Fit {
    pub(super) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

impl From<bool> for Fit {
    fn from(fits: bool) -> Self {
        if fits { Self::Yes } else { Self::No }
    }
}

/// How the method of a message fits patterns; for responses that of the request. Without patterns
/// every one does.
pub(super) fn method_fit(globs: &[Glob], cx: &MessageContext, kind: Kind) -> Fit {
    match cx.method.as_deref() {
        _ if globs.is_empty() => Fit::Yes,
        Some(method) => glob::any(globs, method).into(),
        None if kind.is_response() && globs.iter().any(|glob| may_ask(glob, cx.direction)) => {
            Fit::Maybe
        }
        None => Fit::No,
    }
}

/// How the tool, prompt or resource that a message names fits patterns; for responses the one that
/// the request names. Without patterns every message fits.
pub(super) fn name_fit(globs: &[Glob], cx: &MessageContext, kind: Kind) -> Fit {
    let names_one = || cx.method.as_deref().is_none_or(|m| member(m).is_some());
    match cx.name.as_deref() {
        _ if globs.is_empty() => Fit::Yes,
        Some(name) => glob::any(globs, name).into(),
        None if kind.is_response() && names_one() => Fit::Maybe,
        None => Fit::No,
    }
}

/// Whether a pattern may mean a request whose response goes this way. A method that is not known here
/// may be anybody's.
fn may_ask(glob: &Glob, response: Direction) -> bool {
    let (asker, other) = match response {
        Direction::ToClient => (&CLIENT_REQUESTS[..], &SERVER_REQUESTS[..]),
        Direction::ToUpstream => (&SERVER_REQUESTS[..], &CLIENT_REQUESTS[..]),
    };
    let fits = |methods: &[&str]| methods.iter().any(|method| glob.matches(method));
    fits(asker) || (!fits(other) && !glob.begins_with("notifications/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response whose request is not known may be one of whoever can have asked, and of nobody else.
    #[test]
    fn e3_patterns_may_mean_what_the_other_side_can_ask() {
        let may = |pattern: &str, direction| may_ask(&Glob::parse(pattern).unwrap(), direction);
        for (pattern, to_client, to_upstream) in [
            ("tools/call", true, false),
            ("tools/*", true, false),
            ("sampling/createMessage", false, true),
            ("roots/*", false, true),
            ("*/list", true, true),
            ("*", true, true),
            ("ping", true, true),
            ("example.com/any", true, true),
            ("notifications/*", false, false),
            ("notifications/message", false, false),
        ] {
            let found = (
                may(pattern, Direction::ToClient),
                may(pattern, Direction::ToUpstream),
            );
            assert_eq!(found, (to_client, to_upstream), "{pattern}");
        }
    }

    #[test]
    fn what_is_not_sure_stays_so_when_it_is_turned_round() {
        assert_eq!(Fit::Maybe.not(), Fit::Maybe);
        assert_eq!((Fit::Yes.not(), Fit::No.not()), (Fit::No, Fit::Yes));
        assert_eq!(Fit::Maybe.min(Fit::Yes), Fit::Maybe);
        assert_eq!(Fit::Maybe.max(Fit::Yes), Fit::Yes);
        assert_eq!(Fit::Maybe.min(Fit::No), Fit::No);
    }
}
