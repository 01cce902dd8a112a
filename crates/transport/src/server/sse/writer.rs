//! From what a handler answers to messages on the session's stream. Every request is answered there, also
//! when its answer is none (protocol notes R045).

use std::future::poll_fn;

use bytes::Bytes;
use http::StatusCode;
use thinpipe_proto::rpc::{Kind, Message, Payload, RequestId, code, error_response};
use thinpipe_proto::sse::{Decoder, Item};
use tokio::sync::oneshot;

use super::SseMount;
use crate::ByteBudget;
use crate::body::{Body, BodyError, BodyStream, Filled};
use crate::server::event_buffer::NotPushed;
use crate::server::exchange::{Answer, Content};
use crate::server::permit::Permit;
use crate::server::session::InFlight;
use crate::server::session::stream::StreamSession;
use crate::server::{NotSent, Shared, SseBroadcaster};

/// The way from one exchange to its session's stream.
pub(super) struct StreamWriter {
    of: StreamSession,
    broadcaster: SseBroadcaster,
    budget: ByteBudget,
    max_message: usize,
    /// The request, until it has been answered.
    asked: Option<RequestId>,
    /// Its id, taken until its answer is put on the stream: the client cannot have seen it earlier, and
    /// may use the id again when it has.
    pub(super) running: Option<InFlight>,
    /// The POST that waits for the answer, if it is not to be on the stream.
    pub(super) inline: Option<oneshot::Sender<Bytes>>,
}

/// Why an answer is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The session is over; there is nobody to tell.
    #[error(transparent)]
    Closed(#[from] NotSent),
    #[error("the answer broke off: {0}")]
    Broken(#[from] BodyError),
    #[error("a message exceeds {0} bytes")]
    TooLarge(usize),
    #[error("the answer is no JSON-RPC message")]
    Malformed,
    #[error("there is no answer (HTTP status {0})")]
    Status(StatusCode),
    #[error("the answer ended without a response")]
    Ended,
}

impl Fault {
    fn reason(&self) -> &'static str {
        match self {
            Self::Closed(_) => reason!("stream_closed"),
            Self::Broken(BodyError::NoRoom(_)) => reason!("buffer_full"),
            Self::Broken(error) if error.is_timeout() => reason!("upstream_timeout"),
            Self::Broken(BodyError::TooLarge { .. }) | Self::TooLarge(_) => {
                reason!("message_too_large")
            }
            Self::Broken(_) | Self::Ended => reason!("upstream_stream_lost"),
            Self::Malformed => reason!("upstream_invalid"),
            Self::Status(_) => reason!("upstream_refused"),
        }
    }
}

impl StreamWriter {
    pub(super) fn new(
        shared: &Shared,
        mount: &SseMount,
        of: &StreamSession,
        asked: Option<RequestId>,
    ) -> Self {
        Self {
            of: of.clone(),
            broadcaster: shared.broadcaster.clone(),
            budget: shared.buffered.clone(),
            max_message: mount.config.max_message,
            asked,
            running: None,
            inline: None,
        }
    }

    /// Puts an answer on the stream. `permit` is given back when it is here, or begins to come as events.
    pub(super) async fn answer(&mut self, answer: Answer, permit: Option<Permit>) {
        let status = answer.status;
        let done = match (answer.content, answer.body) {
            (Content::EventStream, Body::Stream(stream)) => {
                drop(permit);
                let pumped = pump(stream, self).await;
                pumped.and_then(|()| self.is_answered())
            }
            (Content::Json, body) => self.json(body, status).await,
            // The handler says so itself: nothing is owed to the client by anybody else.
            (Content::OnStream | Content::Cancelled, _) => {
                self.asked = None;
                Ok(())
            }
            (_, Body::Empty) if status == StatusCode::ACCEPTED && self.asked.is_none() => Ok(()),
            _ => Err(Fault::Status(status)),
        };
        let Err(fault) = done else {
            return;
        };
        if self.asked.is_none() {
            // A notification or a response: the client has its 202, and nothing else is owed to it.
            if !status.is_success() {
                let session = self.of.session.id();
                tracing::info!(?session, %status, "a message that was taken was refused later");
            }
            return;
        }
        self.fail(&fault).await;
    }

    /// What came to its end has answered the request, if it was one.
    fn is_answered(&self) -> Result<(), Fault> {
        match self.asked {
            None => Ok(()),
            Some(_) => Err(Fault::Ended),
        }
    }

    async fn json(&mut self, body: Body, status: StatusCode) -> Result<(), Fault> {
        let body = self.whole(body).await?;
        if body.is_empty() {
            return Err(Fault::Status(status));
        }
        let payload = Payload::parse(body).map_err(|_| Fault::Malformed)?;
        match payload {
            Payload::Single(message) if self.is_refusal(&message) => self.refuse(&message).await?,
            payload => self.payload(payload).await?,
        }
        self.is_answered()
    }

    /// Whether this is an error that names no request, or another: the answer of a transport to the one
    /// that was sent.
    fn is_refusal(&self, message: &Message) -> bool {
        let names = self.asked.is_some() && self.asked.as_ref() == message.id();
        message.kind() == Kind::ErrorResponse && !names
    }

    /// The same error for whoever has asked.
    async fn refuse(&mut self, message: &Message) -> Result<(), Fault> {
        let error = message.error().unwrap_or_default();
        if let Some(id) = self.asked.clone() {
            let mut text = br#"{"jsonrpc":"2.0","id":"#.to_vec();
            text.extend_from_slice(id.as_json());
            text.extend_from_slice(br#","error":"#);
            text.extend_from_slice(&error);
            text.push(b'}');
            self.response(&id, Bytes::from(text)).await?;
        }
        Ok(())
    }

    async fn payload(&mut self, payload: Payload) -> Result<(), Fault> {
        match payload {
            Payload::Single(message) => self.message(&message).await,
            // Only 2025-03-26 has arrays, and single messages are right there too.
            Payload::Batch(messages) => {
                for message in &messages {
                    self.message(message).await?;
                }
                Ok(())
            }
        }
    }

    async fn message(&mut self, message: &Message) -> Result<(), Fault> {
        match message.id().filter(|_| message.kind().is_response()) {
            Some(id) => self.response(&id.clone(), message.source().clone()).await,
            None => {
                let session = self.of.session.id();
                Ok(self.broadcaster.send(session, message).await?)
            }
        }
    }

    async fn response(&mut self, id: &RequestId, message: Bytes) -> Result<(), Fault> {
        if self.asked.as_ref() != Some(id) {
            // Nobody has asked, or it has been answered: a client may take it for another answer.
            let session = self.of.session.id();
            tracing::debug!(?session, "a response that nobody waits for is dropped");
            return Ok(());
        }
        self.asked = None;
        self.running = None;
        let message = match self.inline.take() {
            None => message,
            Some(post) => match post.send(message) {
                Ok(()) => return Ok(()),
                // The POST is gone, the session is not.
                Err(message) => message,
            },
        };
        let session = self.of.session.id();
        Ok(self.broadcaster.respond(session, message).await?)
    }

    async fn whole(&self, body: Body) -> Result<Bytes, Fault> {
        let gathered = body.gather(self.max_message, &self.budget).await;
        gathered.map_err(|error| match error {
            BodyError::TooLarge { limit } => Fault::TooLarge(limit),
            error => Fault::Broken(error),
        })
    }

    /// Whether its client has cancelled what it asked for: then no error is owed to it either.
    fn is_cancelled(&self) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|id| self.of.session.is_cancelled(id))
    }

    async fn fail(&mut self, fault: &Fault) {
        if self.is_cancelled() {
            self.asked = None;
        }
        if let Some(id) = self.asked.clone() {
            let error = failure(&id, fault);
            if self.response(&id, error).await.is_err() {
                tracing::debug!("a session ended before an error of its could be told");
            }
        }
    }
}

/// A handler that panics has answered nobody: its client must not wait for ever.
impl Drop for StreamWriter {
    fn drop(&mut self) {
        let stream = self.of.stream.buffer();
        if stream.is_closed() || self.is_cancelled() {
            return;
        }
        if let Some(id) = self.asked.take() {
            let pushed = stream.try_push(failure(&id, &Fault::Ended));
            if pushed == Err(NotPushed::Full) {
                // What is said and does not fit ends the session; it is never dropped in silence.
                stream.close();
            }
        }
    }
}

fn failure(id: &RequestId, fault: &Fault) -> Bytes {
    let text = format!("{fault}; the call may have run");
    let data = Some(fault.reason().as_bytes());
    error_response(Some(id), code::INTERNAL_ERROR, &text, data)
}

/// Puts the messages of an event stream on the session's, one at a time: a client that reads slowly slows
/// down whoever speaks.
pub(super) async fn pump(
    mut stream: Box<dyn BodyStream>,
    writer: &mut StreamWriter,
) -> Result<(), Fault> {
    let max = writer.max_message;
    let mut decoder = Decoder::new(max);
    let mut bytes = Vec::new();
    loop {
        let filled = poll_fn(|cx| stream.poll_fill(cx, &mut bytes)).await?;
        decoder.push(Bytes::from(std::mem::take(&mut bytes)));
        while let Some(item) = decoder.next_item().map_err(|_| Fault::TooLarge(max))? {
            let Item::Event(event) = item else { continue };
            let is_message = event.kind.as_ref().is_none_or(|kind| kind == "message");
            // Empty data is no message (protocol notes 3.1).
            let Some(data) = event.data.filter(|data| is_message && !data.is_empty()) else {
                continue;
            };
            match Payload::parse(data) {
                Ok(payload) => writer.payload(payload).await?,
                Err(error) => tracing::warn!(%error, "an event that is no message is left out"),
            }
        }
        if filled == Filled::End {
            return Ok(());
        }
    }
}
