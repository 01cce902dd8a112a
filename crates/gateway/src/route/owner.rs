//! What relays ask of a route.

use std::sync::Arc;

use bytes::Bytes;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{Session, SessionManager};

use super::Route;
use crate::config::Resume;
use crate::failure::Failure;
use crate::interceptor::{Chain, MessageContext};
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
        self.sessions().is_some_and(SessionManager::has_nodes)
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
