//! Which request a response answers, told by its result where the request is not known: a client can
//! have a stream repeated long after its request was forgotten, and use ids again.

use thinpipe_proto::rpc::{self, Message};

use crate::session::Call;

/// Arrays in results that are lists, and the methods that give them.
const LISTS: [(&str, &str); 4] = [
    ("tools", "tools/list"),
    ("prompts", "prompts/list"),
    ("resources", "resources/list"),
    ("resourceTemplates", "resources/templates/list"),
];

/// Arrays in other results.
const CONTENTS: [(&str, &str); 3] = [
    ("content", "tools/call"),
    ("contents", "resources/read"),
    ("messages", "prompts/get"),
];

/// The result could answer several methods, so that it cannot be said who has to look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// The call that a response answers, where `known` is what is remembered for its id. A list is what it
/// is, whatever was asked under that id since.
pub(super) fn checked(known: Option<Call>, response: &Message) -> Result<Option<Call>, Ambiguous> {
    let Some(result) = response.result().filter(|result| result.starts_with(b"{")) else {
        return Ok(known);
    };
    let members = match (rpc::members(&result), &known) {
        (Ok(members), _) => members,
        (Err(_), Some(_)) => return Ok(known),
        (Err(_), None) => return Err(Ambiguous),
    };
    let arrays = |shapes: &'static [(&str, &'static str)]| {
        let is_there = |name: &str| {
            let mut named = members.iter().filter(|(member, _)| member == name);
            named.any(|(_, value)| value.starts_with(b"["))
        };
        let found = shapes.iter().filter(|(name, _)| is_there(name));
        found.map(|(_, method)| *method).collect::<Vec<_>>()
    };
    let (lists, contents) = (arrays(&LISTS), arrays(&CONTENTS));
    match (&lists[..], &contents[..], known) {
        ([list], [], Some((method, _))) if *method != **list => Ok(Some(((*list).into(), None))),
        (_, _, Some(known)) => Ok(Some(known)),
        ([], [], None) => Ok(None),
        ([only], [], None) | ([], [only], None) => Ok(Some(((*only).into(), None))),
        (_, _, None) => Err(Ambiguous),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn method(known: Option<&str>, result: &str) -> Result<Option<String>, Ambiguous> {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let response = Message::parse(Bytes::from(text)).unwrap();
        let known = known.map(|method| (method.into(), None));
        let call = checked(known, &response)?;
        Ok(call.map(|(method, _)| method.to_string()))
    }

    /// E3: what a response is does not depend on what is remembered of its id.
    #[test]
    fn e3_results_tell_what_they_answer() {
        for (known, result, expected) in [
            (None, r#"{"tools":[]}"#, Ok(Some("tools/list"))),
            (
                None,
                r#"{"resourceTemplates":[]}"#,
                Ok(Some("resources/templates/list")),
            ),
            (None, r#"{"content":[]}"#, Ok(Some("tools/call"))),
            (None, r#"{"tools":{}}"#, Ok(None)),
            (None, r#"{"tools":[],"prompts":[]}"#, Err(Ambiguous)),
            (None, r#"{"tools":[],"content":[]}"#, Err(Ambiguous)),
            (None, r#"{"tools":[],"tools":[]}"#, Err(Ambiguous)),
            (Some("ping"), r#"{"tools":[]}"#, Ok(Some("tools/list"))),
            (
                Some("tasks/result"),
                r#"{"content":[]}"#,
                Ok(Some("tasks/result")),
            ),
            (
                Some("tools/list"),
                r#"{"tools":[]}"#,
                Ok(Some("tools/list")),
            ),
        ] {
            let expected = expected.map(|method| method.map(str::to_owned));
            assert_eq!(method(known, result), expected, "{known:?} {result}");
        }
    }
}
