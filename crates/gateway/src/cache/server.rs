//! The cache in front of a server that is asked by calls.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use thinpipe_proto::rpc::Message;
use thinpipe_transport::body::BoxFuture;

use super::{Answers, Asked, Noting};
use crate::failure::{Failure, Reason};
use crate::modern::{CallError, CallStream, Messages, ModernCall, ModernServer, Single};

/// A server of 2026-07-28 whose answers are given again for as long as it says.
pub(crate) struct Remembering {
    server: Arc<dyn ModernServer>,
    answers: Arc<Answers>,
}

impl Remembering {
    pub(crate) fn new(server: Arc<dyn ModernServer>, answers: Arc<Answers>) -> Self {
        Self { server, answers }
    }
}

impl ModernServer for Remembering {
    fn call(self: Arc<Self>, call: ModernCall) -> BoxFuture<Result<CallStream, CallError>> {
        let server = Arc::clone(&self.server);
        let (message, principal, headers) = (&call.message, &call.principal, &call.headers);
        let noting = match self.answers.ask(message, principal, headers) {
            Asked::Kept(response) => return Box::pin(std::future::ready(kept(response))),
            Asked::Noted(noting) => Some(noting),
            Asked::Passed => self.answers.aside(message, principal, headers),
        };
        let Some(noting) = noting else {
            return server.call(call);
        };
        Box::pin(async move {
            let stream = server.call(call).await?;
            Ok(CallStream::new(Noted { stream, noting }))
        })
    }
}

/// The answer that was kept, as all there is to come.
fn kept(response: Bytes) -> Result<CallStream, CallError> {
    match Message::parse(response) {
        Ok(message) => Ok(CallStream::new(Single::new(message))),
        Err(error) => {
            let text = format!("an answer that was kept cannot be read: {error}");
            Err(CallError::undelivered(Failure::new(Reason::Invalid, text)))
        }
    }
}

/// Messages of the server, noted on their way.
struct Noted {
    stream: CallStream,
    noting: Box<Noting>,
}

impl Messages for Noted {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, CallError>>> {
        let message = ready!(self.stream.poll_next(cx));
        if let Some(Ok(message)) = &message {
            self.noting.note(message);
        }
        Poll::Ready(message)
    }

    fn take_heard(&mut self) -> bool {
        self.stream.take_heard()
    }
}
