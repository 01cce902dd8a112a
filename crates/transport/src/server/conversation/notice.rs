//! Notices that something changed. They say "read again" and no more, so one that waits to be read stands for
//! all of its kind and URI (protocol notes 5.1, "Change notices").

use std::borrow::Cow;

use thinpipe_proto::rpc::Message;

/// The notice that a resource changed.
const UPDATED: &str = "notifications/resources/updated";

/// What a change notice is about; `None`: it is another message.
pub(crate) fn key(message: &Message) -> Option<Cow<'_, str>> {
    let method = message.method()?;
    match method {
        UPDATED => Some(format!("{UPDATED} {}", message.param_str("uri")?).into()),
        _ if method.ends_with("/list_changed") => Some(method.into()),
        _ => None,
    }
}
