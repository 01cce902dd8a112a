//! Servers of 2026-07-28 as everybody here asks them who is not a plain relay: a call goes up, its
//! messages come down, the response last.
//!
//! How the server is reached makes no difference to who asks. Over HTTP each call is a POST of the route; on a
//! program ([`stdio`]) all calls share one pipe.

mod queue;
pub(crate) mod stdio;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;
use thinpipe_transport::body::BoxFuture;
use tokio::task::coop;

use crate::failure::Failure;

/// A server of 2026-07-28, however it is reached.
pub(crate) trait ModernServer: Send + Sync {
    /// Sends a request, and waits for its first answer: over HTTP, for the head of the response and for
    /// a body that is no stream. Nothing is sent twice but what [`ModernCall::repeatable`] says.
    ///
    /// Dropping the future cancels the call.
    ///
    /// # Errors
    /// [`CallError`]. A JSON-RPC error of the server is none: it is a message of the stream, whatever its
    /// HTTP status was.
    fn call(self: Arc<Self>, call: ModernCall) -> BoxFuture<Result<CallStream, CallError>>;
}

/// A request on its way to a server of 2026-07-28.
#[derive(Debug, Clone)]
pub(crate) struct ModernCall {
    /// A request, complete with its envelope.
    pub(crate) message: Message,
    /// The client's headers that may reach an upstream, what interceptors made of them, and `Mcp-Param-*`.
    /// Those that repeat the message are made from it. A server without headers gets none.
    pub(crate) headers: HeaderMap,
    /// Who asks. What one program says to several principals without naming a request is kept from all.
    pub(crate) principal: Principal,
    /// Running it twice does no harm.
    pub(crate) repeatable: bool,
}

/// What a call failed with.
#[derive(Debug, Clone)]
pub(crate) struct CallError {
    pub(crate) failure: Failure,
    /// The server certainly did not get the call.
    pub(crate) undelivered: bool,
}

impl CallError {
    /// The call may have run.
    pub(crate) fn delivered(failure: Failure) -> Self {
        Self {
            failure,
            undelivered: false,
        }
    }

    /// The call never reached the server.
    pub(crate) fn undelivered(failure: Failure) -> Self {
        Self {
            failure,
            undelivered: true,
        }
    }
}

/// Where the messages of one call come from.
pub(crate) trait Messages: Send {
    /// As [`CallStream::poll_next`]; not asked again after an error or `None`.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, CallError>>>;

    /// As [`CallStream::take_heard`]. What is no event stream has nothing to tell.
    fn take_heard(&mut self) -> bool {
        false
    }
}

/// The messages of one call: its notifications in order, then its response, under the ids and tokens that
/// the call was given with. Requests of the server are not among them: its clients answer none.
///
/// Dropping it before the response cancels the call at the server, in its own way.
pub(crate) struct CallStream {
    /// `None`: it has ended.
    messages: Option<Box<dyn Messages>>,
    is_answered: bool,
}

impl CallStream {
    pub(crate) fn new(messages: impl Messages + 'static) -> Self {
        Self {
            messages: Some(Box::new(messages)),
            is_answered: false,
        }
    }

    /// The next message. `None` comes after the response or an error, and only then. It is not waited for,
    /// and who asks for it lets the connection serve again.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, CallError>>> {
        let Some(messages) = &mut self.messages else {
            return Poll::Ready(None);
        };
        // What is here already is given without waiting, and a server that says much in few bytes would let
        // no other task have its turn. The end, which comes after the response, is asked for once.
        if !self.is_answered {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        let polled = messages.poll_next(cx);
        match &polled {
            Poll::Ready(None | Some(Err(_))) => self.messages = None,
            Poll::Ready(Some(Ok(message))) => self.is_answered = message.kind().is_response(),
            Poll::Pending => {}
        }
        polled
    }

    /// Whether an event stream answers the call, and something has come on it, were it its head or a comment, since
    /// this was last asked. To be asked when no message is there.
    pub(crate) fn take_heard(&mut self) -> bool {
        let messages = self.messages.as_mut();
        messages.is_some_and(|messages| messages.take_heard())
    }

    /// As [`poll_next`](Self::poll_next). Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, CallError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// A call whose only message is here already.
pub(crate) struct Single(Option<Message>);

impl Single {
    pub(crate) fn new(message: Message) -> Self {
        Self(Some(message))
    }
}

impl Messages for Single {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Message, CallError>>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

impl fmt::Debug for CallStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallStream")
            .field("is_over", &self.messages.is_none())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    /// A server that always has something more to say.
    struct Endless;

    impl Messages for Endless {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Message, CallError>>> {
            let said = r#"{"jsonrpc":"2.0","method":"notifications/message"}"#;
            Poll::Ready(Some(Ok(Message::parse(said.into()).unwrap())))
        }
    }

    /// C9: who is told one thing after the other does not keep others from their turn.
    #[tokio::test]
    async fn c9_a_flood_lets_others_have_their_turn() {
        const FLOOD: usize = 10_000;
        let mut calls = CallStream::new(Endless);
        let other = TaskTracker::new().spawn(async {});
        let mut heard = 0;
        while heard < FLOOD && !other.is_finished() {
            calls.next().await.unwrap().unwrap();
            heard += 1;
        }
        assert!(heard < FLOOD, "the other task had no turn");
    }
}
