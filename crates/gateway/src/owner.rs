//! Whose server it is: what sessions of a server ask and tell of it, whichever bridge uses them.

use thinpipe_transport::upstream::pipe::PipeError;

use crate::interceptor::Chain;
use crate::stats::Counters;

/// Whose server it is.
pub(crate) trait UpstreamOwner: Send + Sync {
    /// What looks at its messages.
    fn chain(&self) -> &Chain;

    fn stats(&self) -> &Counters;

    /// No connection could be made.
    fn suspect(&self);

    /// What became of a message to the replica whose connections have this name, in a session that is held open there.
    fn posted(&self, connections: &str, sent: &Result<(), PipeError>);

    /// Whether the replica whose connections have this name is known to be gone, while others are there.
    fn has_lost(&self, connections: &str) -> bool;
}
