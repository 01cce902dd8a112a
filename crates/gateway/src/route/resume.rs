//! Resuming: an upstream's stream that broke off is asked for again, only ever by GET and with an id
//! the upstream issued.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode};
use thinpipe_proto::backoff::{CONFLICT_DELAYS, is_passing, retry_after};
use thinpipe_proto::session::EventId;
use thinpipe_proto::sse;
use thinpipe_transport::server::{Session, SessionEnd};
use thinpipe_transport::upstream::UpstreamResponse;

use super::reestablish::Own;
use super::send::bodiless;
use super::{Incoming, Route};
use crate::attachment::upstream_session;
use crate::config::SessionLost;
use crate::failure::Failure;
use crate::headers;
use crate::relay::source::into_stream;
use crate::relay::{Broken, Resumed};
use crate::session::SessionState;

impl Route {
    /// Opens a GET stream at the upstream for a client.
    pub(super) async fn open_listen(
        &self,
        call: &Incoming,
        session: &Session,
        last: Option<&EventId>,
        replaces: bool,
    ) -> Result<UpstreamResponse, Failure> {
        let mut delays = CONFLICT_DELAYS.into_iter();
        loop {
            let mut headers = call.headers.clone();
            let response = self.get_stream(&mut headers, session, last).await?;
            if response.status != StatusCode::CONFLICT || !replaces {
                return Ok(response);
            }
            let Some(delay) = delays.next() else {
                return Ok(response);
            };
            tokio::time::sleep(delay).await;
        }
    }

    async fn get_stream(
        &self,
        headers: &mut HeaderMap,
        session: &Session,
        last: Option<&EventId>,
    ) -> Result<UpstreamResponse, Failure> {
        headers::for_listen(headers, last);
        let id = upstream_session(session);
        headers::for_session(headers, session.revision(), id.as_ref());
        let request = bodiless(Method::GET, std::mem::take(headers));
        let context = self.context_in(session, None);
        self.send(&context, request).await
    }

    /// Opens the standalone stream of a session that was opened anew.
    async fn fresh_standalone(&self, session: &Session) -> Resumed {
        match self.get_stream(&mut HeaderMap::new(), session, None).await {
            Ok(response) if response.status == StatusCode::OK && response.is_event_stream() => {
                let mut first = BytesMut::new();
                let state = session.state(SessionState::default);
                for notice in state.map(SessionState::take_notices).unwrap_or_default() {
                    sse::encode(&mut first, None, None, None, Some(&notice));
                }
                Resumed::Fresh(into_stream(response.into_body()), first.to_vec())
            }
            // The client opens it itself.
            _ => Resumed::Lost,
        }
    }

    /// Asks for a stream again after its last event, with growing delays, until it goes on or the
    /// upstream says that it will not.
    pub(super) async fn resume_stream(self: Arc<Self>, stream: Broken) -> Resumed {
        let Broken {
            session,
            last,
            retry: mut told,
            mut backoff,
            is_standalone,
        } = stream;
        loop {
            let Some(delay) = backoff.next_delay(super::random(), told) else {
                return Resumed::Lost;
            };
            tokio::time::sleep(delay).await;
            let mut headers = HeaderMap::new();
            let response = match self.get_stream(&mut headers, &session, Some(&last)).await {
                Ok(response) => response,
                Err(failure) => {
                    tracing::debug!(upstream = self.name(), error = %failure.text, "resuming failed");
                    continue;
                }
            };
            match response.status {
                StatusCode::OK if response.is_event_stream() => {
                    return Resumed::Body(into_stream(response.into_body()), backoff);
                }
                StatusCode::NOT_FOUND if upstream_session(&session).is_some() => {
                    self.counters.session_lost();
                    let reopens = is_standalone
                        && self.spec.session_lost == SessionLost::Reestablish
                        && session.in_flight() == 0;
                    if reopens && self.reestablish(&session, Some(Own)).await {
                        return self.fresh_standalone(&session).await;
                    }
                    self.end_session(&session, SessionEnd::UpstreamGone).await;
                    return Resumed::Lost;
                }
                status if is_passing(status) => told = retry_after(&response.headers).or(told),
                status => {
                    let status = status.as_u16();
                    tracing::debug!(
                        upstream = self.name(),
                        status,
                        "the stream cannot be resumed"
                    );
                    return Resumed::Lost;
                }
            }
        }
    }
}
