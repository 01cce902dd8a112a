//! What is kept of a session.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_proto::session::{NodeId, Principal, SessionId};

/// How often a record has been written; for compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// What another process needs to go on with a session: no messages, no cursors (F4).
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Our id, the only one the client sees.
    pub id: SessionId,
    /// Whose session it is; to anybody else it does not exist.
    pub principal: Principal,
    /// Name of the endpoint (and so of the upstream) it is bound to.
    pub endpoint: Arc<str>,
    /// How its messages are framed. A session of HTTP+SSE lives where its stream is, and cannot be taken
    /// up anywhere else.
    pub binding: Binding,
    /// Negotiated revision.
    pub revision: Revision,
    /// The client's `initialize` params, as JSON text, to open the session again elsewhere.
    pub initialize_params: Bytes,
    /// What the endpoint's handler needs besides to go on with the session. Only it knows what that
    /// means: for a gateway it is the server's own session id, and never shown to the client.
    pub attachment: Bytes,
    /// The node that holds what of the session cannot be anywhere else: an HTTP+SSE stream, a child process, the
    /// queues of a bridge. `None`: any node serves any request of it.
    pub owner: Option<NodeId>,
    /// Milliseconds since the Unix epoch when it was opened.
    pub created_ms: u64,
}

/// Without what clients and handlers put in: the attachment may be a secret, and logs are not.
impl fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRecord")
            .field("id", &self.id)
            .field("principal", &self.principal)
            .field("endpoint", &self.endpoint)
            .field("binding", &self.binding)
            .field("revision", &self.revision)
            .field("owner", &self.owner)
            .field("created_ms", &self.created_ms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::conformance::sample;

    /// A13, F5: what is logged of a record shows no id in full, of neither side.
    #[test]
    fn f5_a_records_secrets_are_not_shown() {
        let record = sample(7);
        let shown = format!("{record:?}");
        let attachment = std::str::from_utf8(&record.attachment).unwrap();
        assert!(!shown.contains(attachment) && !shown.contains(record.id.as_str()));
        assert!(shown.contains("everything"), "{shown}");
    }
}
