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
use super::replica::Gone;
use super::send::bodiless;
use super::{Incoming, Route};
use crate::attachment::{Attached, attached};
use crate::failure::Failure;
use crate::headers;
use crate::relay::source::into_stream;
use crate::relay::{Broken, Resumed};
use crate::session::SessionState;

/// What came of asking for a stream.
pub(super) enum Heard {
    /// The upstream's answer.
    Response(UpstreamResponse),
    /// The upstream's session is gone: it said so, or the replica is gone that had it.
    Lost(Lost),
}

/// A session of the upstream that is gone.
pub(super) struct Lost {
    /// Which one.
    pub(super) at: Arc<Attached>,
    /// Its replica is.
    pub(super) gone: Option<Gone>,
}

impl Route {
    /// Opens a GET stream at the upstream for a client. [`Lost`](Heard::Lost): there is none to open, since the
    /// upstream's session is gone.
    pub(super) async fn open_listen(
        &self,
        call: &Incoming,
        session: &Session,
        last: Option<&EventId>,
        replaces: bool,
    ) -> Result<Heard, Failure> {
        let mut delays = CONFLICT_DELAYS.into_iter();
        loop {
            let mut headers = call.headers.clone();
            let heard = self.get_stream(&mut headers, session, last).await?;
            let in_conflict = |response: &UpstreamResponse| response.status == StatusCode::CONFLICT;
            let delay = match &heard {
                Heard::Response(response) if in_conflict(response) && replaces => delays.next(),
                _ => None,
            };
            let Some(delay) = delay else {
                return Ok(heard);
            };
            tokio::time::sleep(delay).await;
        }
    }

    async fn get_stream(
        &self,
        headers: &mut HeaderMap,
        session: &Session,
        last: Option<&EventId>,
    ) -> Result<Heard, Failure> {
        let at = attached(session).unwrap_or_default();
        let lost = |gone| {
            Heard::Lost(Lost {
                at: Arc::clone(&at),
                gone,
            })
        };
        let to = match self.place_of(session) {
            Ok(to) => to,
            Err(gone) => return Ok(lost(Some(gone))),
        };
        headers::for_listen(headers, last);
        let id = at.upstream_session.as_ref();
        headers::for_session(headers, session.revision(), id);
        let request = bodiless(Method::GET, std::mem::take(headers));
        let context = self.context_in(session, None);
        let response = self.send(&context, to, request).await?;
        Ok(match response.status {
            StatusCode::NOT_FOUND if id.is_some() => lost(None),
            _ => Heard::Response(response),
        })
    }

    /// Opens the standalone stream of a session that was opened anew.
    async fn fresh_standalone(&self, session: &Arc<Session>) -> Resumed {
        match self.get_stream(&mut HeaderMap::new(), session, None).await {
            Ok(Heard::Response(response))
                if response.status == StatusCode::OK && response.is_event_stream() =>
            {
                let mut first = BytesMut::new();
                if let Some(state) = session.state(SessionState::default) {
                    self.begin_listening(session, state).await;
                    for notice in state.take_notices() {
                        sse::encode(&mut first, None, None, None, Some(&notice));
                    }
                }
                Resumed::Fresh(into_stream(response.into_body()), first.to_vec())
            }
            // The client opens it itself.
            _ => Resumed::Lost,
        }
    }

    /// The upstream's session is gone, and the stream with it.
    async fn resume_lost(
        self: &Arc<Self>,
        session: Arc<Session>,
        is_standalone: bool,
        lost: &Lost,
    ) -> Resumed {
        self.counters.session_lost();
        let runs = session.in_flight() > 0;
        // What is lost of a call is lost, whatever the session is by now.
        let of = (&session, runs || !is_standalone);
        let Ok(is_there) = self.is_there_again(of, &lost.at, Some(Own)).await else {
            // The session is not lost for all that is known.
            return Resumed::Lost;
        };
        if is_there && is_standalone {
            return self.fresh_standalone(&session).await;
        }
        // What else runs at a replica that does not answer may come to its end all the same.
        let gone = lost.gone.as_ref();
        if !is_there && !gone.is_some_and(|gone| self.waits_for(gone, runs)) {
            self.end_session(&session, SessionEnd::UpstreamGone).await;
        }
        Resumed::Lost
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
            let Some(delay) = backoff.next_delay(self.random().chance(), told) else {
                return Resumed::Lost;
            };
            tokio::time::sleep(delay).await;
            let mut headers = HeaderMap::new();
            let response = match self.get_stream(&mut headers, &session, Some(&last)).await {
                Ok(Heard::Response(response)) => response,
                Ok(Heard::Lost(lost)) => {
                    return self.resume_lost(session, is_standalone, &lost).await;
                }
                Err(failure) => {
                    tracing::debug!(upstream = self.name(), error = %failure.text, "resuming failed");
                    continue;
                }
            };
            match response.status {
                StatusCode::OK if response.is_event_stream() => {
                    return Resumed::Body(into_stream(response.into_body()), backoff);
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
