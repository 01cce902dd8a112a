//! Notifications to the client that the server did not say in these words.

use bytes::Bytes;

use crate::bridge::envelope::without_subscription_id;
use crate::rpc::{Message, quoted};

/// The acknowledgement of a listen.
pub(super) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// A resource changed.
pub(super) const UPDATED: &str = "notifications/resources/updated";

/// As the client gets it: without the id of the listen it came on (R217).
pub(super) fn relayed(message: &Message) -> Bytes {
    without_subscription_id(message)
}

/// What was missed may have been a change: the client reads again.
pub(super) fn list_changed(method: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","method":{}}}"#, quoted(method)).into()
}

/// The same of a resource.
pub(super) fn updated(uri: &str) -> Bytes {
    let uri = quoted(uri);
    format!(r#"{{"jsonrpc":"2.0","method":"{UPDATED}","params":{{"uri":{uri}}}}}"#).into()
}

/// What the client did at a URL has come to an end.
pub(super) fn elicitation_complete(id: &str) -> Bytes {
    let id = quoted(id);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{{"elicitationId":{id}}}}}"#
    )
    .into()
}
