//! A session that is only there to ask, one thing at a time.

use bytes::Bytes;
use thinpipe_proto::rpc::Message;

use super::{Pipe, PipeError, PipeReceiver};

impl Pipe {
    /// Sends a request and takes messages until `take` has found in them what was asked for; what comes besides
    /// is passed over. It waits as long as that takes: a time-out is its caller's.
    ///
    /// # Errors
    /// [`PipeError`]: the request was not taken, or the session ended first. That is the end of the session.
    pub async fn ask<T>(
        &mut self,
        request: Bytes,
        take: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T, PipeError> {
        let Self { sender, receiver } = self;
        let sending = async {
            let sent = sender.send(request).await;
            if sent.is_err() && sender.is_http() {
                // Its stream may stay open for ever. What a child says of its end says more than this error.
                sender.close();
            }
            sent
        };
        // The answer may come before the POST of HTTP+SSE is answered, and counts all the same.
        let (sent, received) = tokio::join!(sending, receiver.find(take));
        match received? {
            Some(found) => Ok(found),
            None => Err(sent.err().unwrap_or_else(|| PipeError::Closed {
                upstream: sender.upstream(),
            })),
        }
    }
}

impl PipeReceiver {
    /// `None`: the session is over, and nothing is wrong with it.
    async fn find<T>(
        &mut self,
        mut take: impl FnMut(&Message) -> Option<T>,
    ) -> Result<Option<T>, PipeError> {
        while let Some(message) = self.next().await {
            if let Some(found) = take(&message?) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
