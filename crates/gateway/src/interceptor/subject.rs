//! What a request is about.

use std::borrow::Cow;

use thinpipe_proto::rpc::Message;

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

/// The tool, prompt or resource that a request names.
pub(super) fn subject(message: &Message) -> Option<Cow<'_, str>> {
    message.param_text(member(message.method()?)?)
}
