//! What is kept of a session.

use bytes::Bytes;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::session::{Principal, SessionId, UpstreamSessionId};

/// How often a record has been written; for compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// What another process needs to go on with a session: no messages, no cursors (F4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Our id, the only one the client sees.
    pub id: SessionId,
    /// Whose session it is; to anybody else it does not exist.
    pub principal: Principal,
    /// Name of the endpoint (and so of the upstream) it is bound to.
    pub endpoint: String,
    /// Negotiated revision.
    pub revision: Revision,
    /// The client's `initialize` params, as JSON text, to open the session again elsewhere.
    pub initialize_params: Bytes,
    /// The server's own session id, if it issued one; never shown to the client.
    pub upstream_session: Option<UpstreamSessionId>,
    /// Milliseconds since the Unix epoch when it was opened.
    pub created_ms: u64,
}
