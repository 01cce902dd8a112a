//! What relays ask of a route.

use std::sync::Arc;

use bytes::Bytes;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::Session;

use super::Route;
use crate::config::Resume;
use crate::interceptor::Chain;
use crate::relay::{Broken, Owner, Resumed};
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

    fn resume(self: Arc<Self>, stream: Broken) -> BoxFuture<Resumed> {
        Box::pin(self.resume_stream(stream))
    }

    fn answer_upstream(self: Arc<Self>, session: Arc<Session>, error: Bytes) {
        self.answer_server(&session, error);
    }
}
