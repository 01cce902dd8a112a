//! What becomes of a client's streams when the process ends or the client leaves.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thinpipe_proto::rpc::RequestId;
use thinpipe_transport::body::{Body, BodyError, BodyStream, BoxFuture, Filled};
use thinpipe_transport::server::Answer;

use super::{Attachment, Presence};
use crate::failure::{Failure, Reason};

/// How a stream ends when the process does, or its client leaves.
pub(crate) struct Draining {
    /// The request that it answers; `None`: it is a standalone stream, which waits for nothing.
    request: Option<RequestId>,
    upstream: Arc<str>,
    /// The upstream session that is there for this stream alone: dropping it ends it.
    _own: Option<Attachment>,
    /// Dropped after the stream.
    _presence: Option<Presence>,
}

/// A stream that knows how to end. It is dropped before what belongs to it.
struct Drained {
    stream: Box<dyn BodyStream>,
    draining: Draining,
}

impl Draining {
    pub(crate) fn of(request: Option<RequestId>, upstream: Arc<str>) -> Self {
        Self {
            request,
            upstream,
            _own: None,
            _presence: None,
        }
    }

    /// The same for a stream whose end the session has to know of.
    pub(crate) fn watched(self, presence: Presence) -> Self {
        Self {
            _presence: Some(presence),
            ..self
        }
    }

    /// The same for a stream with an upstream session of its own, which ends with it.
    pub(crate) fn holding(self, own: Attachment) -> Self {
        Self {
            _own: Some(own),
            ..self
        }
    }

    /// The answer, whose stream ends so.
    pub(crate) fn around(self, mut answer: Answer) -> Answer {
        answer.body = match answer.body {
            Body::Stream(stream) => Body::stream(Drained {
                stream,
                draining: self,
            }),
            whole => whole,
        };
        answer
    }
}

impl BodyStream for Drained {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        self.stream.poll_fill(cx, out)
    }

    fn remaining(&self) -> Option<u64> {
        self.stream.remaining()
    }

    fn at_boundary(&self) -> bool {
        self.stream.at_boundary()
    }

    fn keep_alive(&self) -> Option<Duration> {
        self.stream.keep_alive()
    }

    /// A call runs on for as long as it may, and is answered with an error then.
    fn shut_down(&mut self, force: bool, out: &mut Vec<u8>) -> bool {
        if !self.stream.at_boundary() {
            return force;
        }
        let before = out.len();
        let is_over = self.stream.shut_down(force, out);
        let Some(request) = &self.draining.request else {
            return true;
        };
        if is_over && out.len() > before {
            // Its client comes back for the answer, to another node.
            return true;
        }
        if force {
            let failure = Failure::new(Reason::ShuttingDown, "the gateway shuts down");
            out.extend_from_slice(&failure.event(request, &self.draining.upstream));
        }
        force
    }

    fn unwatch(&mut self) -> bool {
        self.stream.unwatch()
    }

    /// A session of its own ends with the connection: nobody can come back for the answer.
    fn abandon(self: Box<Self>) -> Option<BoxFuture<()>> {
        let Self { stream, draining } = *self;
        let rest = stream.abandon();
        drop(draining);
        rest
    }
}
