//! The one way to the upstream: whatever is asked of it passes here, so that interceptors have their
//! say about the headers of all of it, the gateway's own requests among them.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::session::Principal;
use thinpipe_transport::server::Session;
use thinpipe_transport::upstream::{UpstreamRequest, UpstreamResponse};

use super::Route;
use crate::failure::Failure;
use crate::group::{Answered, To, Unanswered};
use crate::interceptor::{Carrier, Direction, MessageContext};
use crate::session::short;

impl Route {
    /// Sends a request.
    ///
    /// # Errors
    /// What a request without a response means for its client; the upstream's health takes note of it.
    pub(crate) async fn send(
        &self,
        context: &MessageContext,
        to: To,
        request: UpstreamRequest,
    ) -> Result<UpstreamResponse, Failure> {
        let answered = self.send_for_session(context, to, request).await;
        answered.map(|answered| answered.response)
    }

    /// The same; who answered is told, for the session that begins with it.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn send_for_session(
        &self,
        context: &MessageContext,
        to: To,
        request: UpstreamRequest,
    ) -> Result<Answered, Failure> {
        // Boxed: who waits for it is not made larger by it.
        let asking = Box::pin(self.ask(context, to, request)?);
        asking.await.map_err(|error| self.unsent(&error))
    }

    /// Sends a request to the replica that has the session.
    ///
    /// # Errors
    /// As [`send`](Self::send), and if that replica is gone.
    pub(super) async fn send_in(
        &self,
        session: &Session,
        context: &MessageContext,
        request: UpstreamRequest,
    ) -> Result<UpstreamResponse, Failure> {
        let to = self.place_of(session);
        let to = to.map_err(|gone| self.replica_gone(&gone))?;
        self.send(context, to, request).await
    }

    /// As [`send`](Self::send), for those who have their own idea of what went wrong.
    pub(crate) fn ask<'a>(
        &'a self,
        context: &MessageContext,
        to: To,
        mut request: UpstreamRequest,
    ) -> Result<impl Future<Output = Result<Answered, Unanswered>> + use<'a>, Failure> {
        let group = self.http()?;
        self.chain.headers(context, &mut request.headers)?;
        Ok(group.send(to, request))
    }

    /// What a request that got no response means for its client.
    pub(crate) fn unsent(&self, error: &Unanswered) -> Failure {
        match error {
            Unanswered::Upstream(error) => Failure::from(error),
            Unanswered::NoReplica { retry_after } => self.none_may_be_asked(*retry_after),
        }
    }

    /// What is known about a request that carries no message of a client, in a session.
    pub(crate) fn context_in(&self, session: &Session, method: Option<&str>) -> MessageContext {
        let describes = !self.chain.is_empty();
        MessageContext {
            principal: session.principal().clone(),
            session: describes.then(|| short(session)),
            ..self.context_outside(session.revision(), method)
        }
    }

    /// The same outside of any session: nobody asked for it but the gateway itself.
    pub(crate) fn context_outside(
        &self,
        revision: Revision,
        method: Option<&str>,
    ) -> MessageContext {
        MessageContext {
            direction: Direction::ToUpstream,
            carrier: Carrier::Body,
            revision,
            upstream: Arc::clone(self.spec.name()),
            principal: Principal::Anonymous,
            session: None,
            method: method.filter(|_| !self.chain.is_empty()).map(Into::into),
            name: None,
            sequence: 0,
        }
    }

    /// The headers that interceptors set on every request, for requests that are made elsewhere.
    pub(crate) fn own_headers(&self, revision: Revision) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        let context = self.context_outside(revision, None);
        self.chain.headers(&context, &mut headers)?;
        Ok(headers)
    }
}

/// A POST that is sent once, whatever happens.
pub(super) fn posted(headers: HeaderMap, body: Bytes) -> UpstreamRequest {
    UpstreamRequest {
        method: Method::POST,
        headers,
        body,
        repeatable: false,
    }
}

/// GET or DELETE: asking twice does no harm.
pub(super) fn bodiless(method: Method, headers: HeaderMap) -> UpstreamRequest {
    UpstreamRequest {
        method,
        headers,
        body: Bytes::new(),
        repeatable: true,
    }
}
