//! Requests of a server that the client does not get to see: the server gets a refusal, which is posted
//! beside the stream that the request came on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::backoff::Backoff;
use thinpipe_transport::server::Session;

use super::Route;
use super::send::posted;
use crate::attachment::upstream_session;
use crate::failure::{Failure, Reason, with_causes};
use crate::group::To;
use crate::headers;
use crate::interceptor::{Carrier, Direction, MessageContext};
use crate::session::{MAX_REFUSALS, Origin};

/// How long a refusal is tried to be sent while the upstream cannot be reached or has no connection free.
const PATIENCE: Duration = Duration::from_secs(60);

impl Route {
    /// Answers a server's request that the client does not get to see. `context` is that of the request.
    ///
    /// # Errors
    /// More refusals are on their way than may be: whatever goes on with the answer that the requests
    /// come in would leave some of them without an answer.
    pub(crate) fn answer_upstream(
        self: &Arc<Self>,
        origin: &mut Origin,
        session: Option<&Arc<Session>>,
        context: &MessageContext,
        error: Bytes,
    ) -> Result<(), Failure> {
        if context.revision.is_modern() {
            // There a server asks for nothing, and nobody may answer it.
            return Ok(());
        }
        let Ok(place) = origin.places(session).try_acquire_owned() else {
            let text = format!(
                "{} asks faster than it takes refusals: {MAX_REFUSALS} are on their way",
                self.name()
            );
            return Err(Failure::new(Reason::TooManyRequests, text));
        };
        let (to, id) = match session {
            Some(session) => (self.place_of(session), upstream_session(session)),
            None => {
                let (to, id) = origin.opens();
                (Ok(to), id)
            }
        };
        let Ok(to) = to else {
            // Whoever asked is gone.
            return Ok(());
        };
        let mut headers = HeaderMap::new();
        headers::for_post(&mut headers);
        headers::for_session(&mut headers, context.revision, id.as_ref());
        let context = MessageContext {
            direction: Direction::ToUpstream,
            carrier: Carrier::Body,
            method: None,
            name: None,
            ..context.clone()
        };
        let (route, session) = (Arc::clone(self), session.cloned());
        self.tasks.spawn(async move {
            let _place = place;
            let sending = route.send_refusal(&context, to, &headers, &error);
            let sent = match &session {
                // Cancel-safe: with its session the request is over, answered or not.
                Some(session) => session.closed().run_until_cancelled(sending).await,
                None => Some(sending.await),
            };
            if let Some(Err(error)) = sent {
                tracing::warn!(upstream = route.name(), error, "a refusal did not arrive");
            }
        });
        Ok(())
    }

    /// Sends it again only while not a byte of it has been written: to answer twice is not to be.
    async fn send_refusal(
        &self,
        context: &MessageContext,
        to: To,
        headers: &HeaderMap,
        error: &Bytes,
    ) -> Result<(), String> {
        let mut backoff = Backoff::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let request = posted(headers.clone(), error.clone());
            let asking = self.ask(context, to, request);
            let failed = match asking.map_err(|failure| failure.text)?.await {
                Ok(answered) if answered.response.status.is_success() => return Ok(()),
                Ok(answered) => {
                    return Err(format!("it was answered {}", answered.response.status));
                }
                Err(failed) => failed,
            };
            let delay = backoff.next_delay(self.random().chance(), None);
            match delay.filter(|_| failed.is_unsent()) {
                Some(delay) if tokio::time::Instant::now() + delay < deadline => {
                    tokio::time::sleep(delay).await;
                }
                _ => return Err(with_causes(&failed)),
            }
        }
    }
}
