//! Whose upstream sessions these are: what they ask and tell beside their messages.

use std::sync::Arc;

use thinpipe_proto::session::UpstreamSessionId;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::Session;
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};

use crate::failure::Failure;
use crate::owner::UpstreamOwner;

/// Whose upstream sessions these are.
pub(crate) trait Owner: UpstreamOwner {
    /// Name of the upstream.
    fn name(&self) -> &Arc<str>;

    /// Whether there are other replicas of the server than the one that a session is at.
    fn has_others(&self) -> bool;

    /// The number of another replica than that whose connections have this name: one that can be reached.
    fn elsewhere(self: Arc<Self>, connections: &str) -> BoxFuture<Option<usize>>;

    /// A server that was held to be one of 2026-07-28 does not act as one.
    fn doubt(&self);

    /// A server that was held to be one of Streamable HTTP did not take `initialize`. Says what is to be said of
    /// that beside its error.
    fn not_taken(&self, error: &PipeError) -> Option<String>;

    /// The server's session is another one by now, or will have to be known by another process.
    fn moved(self: Arc<Self>, session: Arc<Session>);

    /// Opens the server's session anew for this client session, which does not notice: what it was set up with is
    /// set up again.
    fn reopen(self: Arc<Self>, session: Arc<Session>) -> BoxFuture<Result<Pipe, Failure>>;

    /// Goes on with the server's session of this id at the replica of this number, for this client session.
    fn go_on(
        self: Arc<Self>,
        session: Arc<Session>,
        known: (Option<UpstreamSessionId>, usize),
    ) -> BoxFuture<Result<Pipe, Failure>>;

    /// Whether it still is one of 2026-07-28, as far as can be found out.
    fn is_modern(self: Arc<Self>) -> BoxFuture<bool>;

    /// Ends a client session whose upstream session is over.
    fn end_session(self: Arc<Self>, session: Arc<Session>) -> BoxFuture<()>;
}
