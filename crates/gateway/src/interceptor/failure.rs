//! Kinds of failure, and futures that may panic without harm.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use thinpipe_transport::body::BoxFuture;

/// Why an interceptor could not judge a message. The texts are for the log; the client never sees
/// them.
///
/// What cannot work at all is no failure of this kind: it is refused when the chain is built, as a
/// [`ChainError`](super::ChainError).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The message must not pass, whatever [`OnFailure`](super::OnFailure) says.
    Fatal(String),
    /// [`OnFailure`](super::OnFailure) decides, as after a panic.
    Recoverable(String),
    /// Asks the interceptor again about the same message, `after` this long (at least a
    /// millisecond), within the time that the chain gives it for one message. It repeats the
    /// question, never the message: nothing has been sent yet, and nothing is sent twice.
    Retry {
        /// How long to wait.
        after: Duration,
        /// What went wrong.
        reason: String,
    },
    /// The message goes on as if this interceptor were not there, whatever
    /// [`OnFailure`](super::OnFailure) says.
    Skip(String),
}

/// A future that answers `None` when it panics.
pub(super) struct Contained<T>(pub(super) BoxFuture<T>);

impl<T> Future for Contained<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // The future is dropped after a panic and never polled again, so no broken state is seen.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Some),
            Err(_panic) => Poll::Ready(None),
        }
    }
}

/// Calls something that may panic; `None` if it did.
pub(super) fn contain<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
