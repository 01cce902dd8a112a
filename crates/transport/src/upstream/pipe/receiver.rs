//! What comes out of a session: one by one, or all that is there.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use thinpipe_proto::rpc::{Message, Payload, RequestId, code, error_response};

use super::{Incoming, PipeError, PipeReceiver};
use crate::upstream::streamable::Told;

/// The most that [`PipeReceiver::receive_batch`] gives at once.
const BATCH: usize = 64;

/// Bytes of messages that it gives at once, one message more not counted.
const BATCH_BYTES: usize = 64 << 10;

impl PipeReceiver {
    /// The next message; a batch comes as its messages. `None`: the session is over, by
    /// [`PipeSender::close`](super::PipeSender::close) or after an error. Text that is no message is logged and skipped.
    ///
    /// For those to whom it does not matter on which stream a message comes: a request whose stream was lost
    /// is answered with an error here.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`PipeError`], which is the end of the session: it is told once, then comes `None`.
    pub async fn next(&mut self) -> Option<Result<Message, PipeError>> {
        loop {
            match self.receive().await? {
                Ok(Incoming::Message { message, .. }) => return Some(Ok(message)),
                Ok(Incoming::Lost { request, error }) => {
                    if let Some(message) = lost(&request, &error) {
                        return Some(Ok(message));
                    }
                }
                Ok(Incoming::Alive { .. }) => {}
                Ok(Incoming::Gap) => tracing::debug!("a standalone stream was opened anew"),
                Ok(Incoming::Deaf { error }) => {
                    tracing::warn!(%error, "a standalone stream has ended");
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// As [`next`](Self::next), with what else is to be known of it.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn receive(&mut self) -> Option<Result<Incoming, PipeError>> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        // Cancel-safe: nothing was taken yet. What has been read already is given without waiting, and a
        // server that says much in few bytes would let no other task have its turn.
        tokio::task::consume_budget().await;
        loop {
            if self.over.is_cancelled() {
                return None;
            }
            if let Some(incoming) = self.take_ready() {
                return Some(Ok(incoming));
            }
            let told = tokio::select! {
                biased;
                // Cancel-safe: waiting for a token changes nothing.
                () = self.over.cancelled() => return None,
                // Cancel-safe: what has been read stays in the inlet.
                told = self.inlet.next() => told,
            };
            if let Some(incoming) = self.incoming(told) {
                return Some(incoming);
            }
        }
    }

    /// As [`receive`](Self::receive), with what has come by then and need not be waited for: all of it is added to
    /// `batch`, up to 64 messages or 64 KiB of them.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`receive`](Self::receive), after what came before it.
    pub async fn receive_batch(
        &mut self,
        batch: &mut VecDeque<Incoming>,
    ) -> Option<Result<(), PipeError>> {
        let mut next = self.receive().await?;
        let mut bytes = 0;
        loop {
            match next {
                Ok(incoming) => {
                    bytes += incoming.bytes();
                    batch.push_back(incoming);
                }
                Err(error) if batch.is_empty() => return Some(Err(error)),
                Err(error) => self.failed = Some(error),
            }
            if batch.len() >= BATCH || bytes >= BATCH_BYTES || self.failed.is_some() {
                return Some(Ok(()));
            }
            match self.receive_now().await {
                Some(more) => next = more,
                None => return Some(Ok(())),
            }
        }
    }

    /// What need not be waited for.
    async fn receive_now(&mut self) -> Option<Result<Incoming, PipeError>> {
        loop {
            if let Some(incoming) = self.take_ready() {
                return Some(Ok(incoming));
            }
            let told = {
                // Whoever waits later asks anew.
                let mut next = pin!(self.inlet.next());
                poll_fn(|cx| match next.as_mut().poll(cx) {
                    Poll::Ready(told) => Poll::Ready(Some(told)),
                    Poll::Pending => Poll::Ready(None),
                })
                .await?
            };
            if let Some(incoming) = self.incoming(told) {
                return Some(incoming);
            }
        }
    }

    fn take_ready(&mut self) -> Option<Incoming> {
        let message = self.ready.next()?;
        let via = self.ready_via.clone();
        Some(Incoming::Message { message, via })
    }

    /// What an inlet has told; `None`: a batch, whose messages are ready now.
    fn incoming(&mut self, told: Result<Told, PipeError>) -> Option<Result<Incoming, PipeError>> {
        Some(Ok(match told {
            Ok(Told::Payload(Payload::Single(message), via)) => Incoming::Message { message, via },
            Ok(Told::Payload(Payload::Batch(messages), via)) => {
                (self.ready, self.ready_via) = (messages.into_iter(), via);
                return None;
            }
            Ok(Told::Lost(request, error)) => Incoming::Lost { request, error },
            Ok(Told::Alive(request)) => Incoming::Alive { request },
            Ok(Told::Gap) => Incoming::Gap,
            Ok(Told::Deaf(error)) => Incoming::Deaf { error },
            Err(error) => {
                self.over.cancel();
                return Some(Err(error));
            }
        }))
    }
}

impl Incoming {
    fn bytes(&self) -> usize {
        match self {
            Self::Message { message, .. } => message.source().len(),
            _ => 0,
        }
    }
}

/// The answer to a request whose stream was lost.
fn lost(request: &RequestId, error: &PipeError) -> Option<Message> {
    let data = br#"{"reason":"upstream_stream_lost"}"#;
    let text = error.to_string();
    let answer = error_response(Some(request), code::INTERNAL_ERROR, &text, Some(data));
    Message::parse(answer).ok()
}
