//! What relays and sessions of its server ask of a route.

use std::sync::Arc;

use bytes::Bytes;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::Session;
use thinpipe_transport::upstream::pipe::PipeError;

use super::Route;
use crate::config::Resume;
use crate::failure::Failure;
use crate::group::Group;
use crate::interceptor::{Chain, MessageContext};
use crate::owner::UpstreamOwner;
use crate::relay::{Broken, Owner, Resumed};
use crate::session::Origin;
use crate::stats::Counters;

impl Owner for Route {
    fn name(&self) -> &str {
        self.name()
    }

    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn stats(&self) -> &Counters {
        &self.counters
    }

    fn max_message(&self) -> usize {
        self.spec.max_message
    }

    fn resumes(&self) -> bool {
        self.spec.resume == Resume::Upstream
    }

    fn outlives_process(&self) -> bool {
        self.has_nodes()
    }

    fn resume(self: Arc<Self>, stream: Broken) -> BoxFuture<Resumed> {
        Box::pin(self.resume_stream(stream))
    }

    fn answer_upstream(
        self: Arc<Self>,
        origin: &mut Origin,
        session: Option<&Arc<Session>>,
        context: &MessageContext,
        error: Bytes,
    ) -> Result<(), Failure> {
        Self::answer_upstream(&self, origin, session, context, error)
    }
}

impl UpstreamOwner for Route {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn stats(&self) -> &Counters {
        &self.counters
    }

    fn suspect(&self) {
        Self::suspect(self);
    }

    fn posted(&self, connections: &str, sent: &Result<(), PipeError>) {
        if let Some((group, replica)) = self.replica_at(connections) {
            group.posted(replica, sent);
        }
    }

    fn has_lost(&self, connections: &str) -> bool {
        let at = self.replica_at(connections);
        at.is_some_and(|(group, replica)| group.has_lost(replica))
    }
}

impl Route {
    /// The replica whose connections have this name.
    fn replica_at(&self, connections: &str) -> Option<(&Group, usize)> {
        let group = self.group()?;
        Some((group, group.connected_as(connections)?))
    }
}
