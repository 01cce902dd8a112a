//! What a client answers to a question, as far as it can be told from what is no answer to it at all.

use bytes::Bytes;

use crate::rpc::{Object, elements, is_object, string};

/// The requests that a client is asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bridge) enum Asked {
    Elicitation,
    Sampling,
    Roots,
    /// One that nobody knows here: any object answers it.
    Unknown,
}

impl Asked {
    pub(in crate::bridge) fn of(method: &str) -> Self {
        match method {
            "elicitation/create" => Self::Elicitation,
            "sampling/createMessage" => Self::Sampling,
            "roots/list" => Self::Roots,
            _ => Self::Unknown,
        }
    }

    /// Whether this can be the result; if not, what is wrong with it, for people. It is less strict than the
    /// schemas: what a lenient server might take passes, and so do members that nobody knows.
    pub(in crate::bridge) fn check(self, answer: &Bytes) -> Result<(), &'static str> {
        let Ok(answer) = Object::parse(answer) else {
            return Err("it is no object");
        };
        let text = |name: &str| answer.get(name).and_then(|value| string(value));
        match self {
            Self::Unknown => Ok(()),
            Self::Elicitation => match text("action").as_deref() {
                Some("accept" | "decline" | "cancel") if has_form(&answer) => Ok(()),
                Some("accept" | "decline" | "cancel") => Err("\"content\" is an object"),
                _ => Err("\"action\" is \"accept\", \"decline\" or \"cancel\""),
            },
            Self::Sampling => match (text("role").as_deref(), answer.get("content")) {
                (Some("user" | "assistant"), Some(content))
                    if is_object(content) || elements(content).is_ok() =>
                {
                    Ok(())
                }
                (Some("user" | "assistant"), _) => Err("\"content\" is an object or a list"),
                _ => Err("\"role\" is \"user\" or \"assistant\""),
            },
            Self::Roots => match answer.get("roots").map(elements) {
                Some(Ok(_)) => Ok(()),
                _ => Err("\"roots\" is a list"),
            },
        }
    }
}

/// Whether the content of an elicitation is what was filled in, or nothing. Clients write `null` for that, and
/// SDKs take it.
fn has_form(answer: &Object) -> bool {
    let content = answer.get("content");
    content.is_none_or(|content| is_object(content) || content.trim_ascii() == b"null")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R234: what cannot be the result is told from what can, and nothing else is looked at.
    #[test]
    fn r234_what_is_no_answer_is_told() {
        let all = [
            (
                Asked::Elicitation,
                r#"{"action":"accept","content":{"a":1},"x":1}"#,
                true,
            ),
            (Asked::Elicitation, r#"{"action":"accept"}"#, true),
            (
                Asked::Elicitation,
                r#"{"action":"decline","content": null }"#,
                true,
            ),
            (Asked::Elicitation, r#"{"action":"cancel"}"#, true),
            (Asked::Elicitation, r#"{"action":"nope"}"#, false),
            (Asked::Elicitation, r#"{"action":1}"#, false),
            (Asked::Elicitation, "{}", false),
            (
                Asked::Elicitation,
                r#"{"action":"accept","content":"x"}"#,
                false,
            ),
            (
                Asked::Elicitation,
                r#"{"action":"accept","content":[]}"#,
                false,
            ),
            (
                Asked::Sampling,
                r#"{"role":"assistant","content":{"type":"text"}}"#,
                true,
            ),
            (
                Asked::Sampling,
                r#"{"role":"assistant","content":[],"model":"m"}"#,
                true,
            ),
            (Asked::Sampling, r#"{"role":"system","content":{}}"#, false),
            (Asked::Sampling, r#"{"content":{}}"#, false),
            (Asked::Sampling, r#"{"role":"user"}"#, false),
            (Asked::Sampling, r#"{"role":"user","content":"x"}"#, false),
            (Asked::Roots, r#"{"roots":[],"_meta":{}}"#, true),
            (Asked::Roots, r#"{"roots":{}}"#, false),
            (Asked::Roots, "{}", false),
            (Asked::Unknown, "{}", true),
            (Asked::Unknown, "[]", false),
        ];
        for (asked, answer, is_one) in all {
            let checked = asked.check(&Bytes::from_static(answer.as_bytes()));
            assert_eq!(checked.is_ok(), is_one, "{asked:?} {answer} {checked:?}");
        }
    }
}
