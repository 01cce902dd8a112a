//! The sending half.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thinpipe_proto::backoff::CONFLICT_DELAYS;
use thinpipe_proto::header::MediaType;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Kind, Message, Payload, RequestId, peek_request};
use thinpipe_proto::session::UpstreamSessionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::MAX_OPEN;
use super::client::Client;
use super::messages::Streams;
use super::stream::Stream;
use crate::ByteBudget;
use crate::upstream::pipe::PipeError;
use crate::upstream::{UpstreamResponse, after};

/// Of the text of a refusal, which may be an answer, so many bytes are read.
const MAX_REFUSAL: usize = 64 << 10;

/// How long that may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Posts messages, and hands on what answers them.
pub(in crate::upstream) struct Posts {
    client: Arc<Client>,
    streams: Arc<Streams>,
    /// A place for each request that is open.
    places: Arc<Semaphore>,
    over: CancellationToken,
}

impl Posts {
    pub(super) fn new(client: Arc<Client>, streams: Arc<Streams>, over: CancellationToken) -> Self {
        Self {
            client,
            streams,
            places: Arc::new(Semaphore::new(MAX_OPEN)),
            over,
        }
    }

    pub(in crate::upstream) fn negotiated(&self, revision: Revision) {
        self.client.negotiated(revision);
    }

    pub(in crate::upstream) fn resume(&self, session: &UpstreamSessionId) {
        self.client.resume(session);
    }

    pub(in crate::upstream) fn session(&self) -> Option<UpstreamSessionId> {
        self.client.session()
    }

    pub(in crate::upstream) fn leave(&self) {
        self.client.leave();
    }

    pub(in crate::upstream) async fn send(
        &self,
        message: Bytes,
        headers: Option<HeaderMap>,
    ) -> Result<(), PipeError> {
        let request = peek_request(&message);
        let is_initialize = matches!(&request, Some((_, method)) if method == "initialize");
        let asks = match request {
            Some((id, _)) => Some((id, self.place()?)),
            None => None,
        };
        let response = self.client.post(message, headers, is_initialize).await?;
        let status = response.status;
        if status.is_success() {
            if is_initialize {
                self.client.opened(&response)?;
                self.outlives_its_opening().await?;
            }
            if let Some((id, place)) = asks {
                self.streams.insert(Stream::answering(id, response, place));
            }
            return Ok(());
        }
        if self.client.loses_session(status) {
            return Err(self.client.lost());
        }
        if let Some((id, place)) = asks
            && let Some(answer) = answer_in(response, &id).await
        {
            self.streams.insert(Stream::answered(id, answer, place));
            return Ok(());
        }
        Err(PipeError::Refused {
            upstream: self.client.name(),
            status,
        })
    }

    /// The session may have been closed while it was opened: then nobody else ends it at the server.
    async fn outlives_its_opening(&self) -> Result<(), PipeError> {
        if !self.over.is_cancelled() {
            return Ok(());
        }
        self.client.end_session().await;
        Err(PipeError::Closed {
            upstream: self.client.name(),
        })
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, PipeError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| PipeError::Full {
            upstream: self.client.name(),
            limit: MAX_OPEN,
        })
    }

    /// See [`PipeSender::listen`](crate::upstream::pipe::PipeSender::listen).
    pub(in crate::upstream) async fn listen(&self) -> Result<bool, PipeError> {
        if self.streams.has_standalone() {
            return Ok(true);
        }
        let mut delays = CONFLICT_DELAYS.into_iter();
        loop {
            let response = self.client.get(None).await?;
            let status = response.status;
            match status {
                StatusCode::OK if response.is_event_stream() => {
                    self.streams.insert(Stream::standalone(response));
                    return Ok(true);
                }
                StatusCode::METHOD_NOT_ALLOWED => return Ok(false),
                status if self.client.loses_session(status) => return Err(self.client.lost()),
                StatusCode::CONFLICT => {
                    if let Some(delay) = delays.next() {
                        tokio::time::sleep(delay).await;
                        continue;
                    }
                }
                _ => {}
            }
            let upstream = self.client.name();
            return Err(if status.is_success() {
                PipeError::NotAStream { upstream, status }
            } else {
                PipeError::Refused { upstream, status }
            });
        }
    }

    pub(in crate::upstream) fn unlisten(&self) {
        self.streams.remove(None);
    }

    pub(in crate::upstream) fn let_go(&self, request: &RequestId) {
        self.streams.remove(Some(request));
    }

    pub(in crate::upstream) fn hold(&self, request: &RequestId, is_held: bool) {
        self.streams.hold(request, is_held);
    }
}

/// The answer to a request in a refusal, if that is what it is: servers have errors of requests in them.
async fn answer_in(response: UpstreamResponse, request: &RequestId) -> Option<Payload> {
    let is_answer = response.media_type == MediaType::Json
        && !matches!(
            response.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        );
    if !is_answer {
        return None;
    }
    let deadline = after(REFUSAL_TIMEOUT);
    // As small as it is, it has its room.
    let budget = ByteBudget::new(MAX_REFUSAL);
    let body = response.into_body().collect(MAX_REFUSAL, deadline, &budget);
    let message = Message::parse(body.await.ok()?).ok()?;
    let is_answer = message.kind() == Kind::ErrorResponse && message.id() == Some(request);
    is_answer.then_some(Payload::Single(message))
}
