//! What the chain says of messages from the client.

use thinpipe_proto::rpc::Message;
use thinpipe_transport::body::BoxFuture;

use super::Route;
use crate::interceptor::{Direction, MessageContext, Outcome, Rejection, Step};

/// What the chain says of a message from the client.
pub(super) enum Intercepted {
    /// It goes on.
    Passes(Message),
    /// It is refused, or that is not decided yet.
    Later(BoxFuture<Result<Message, (Message, Rejection)>>),
}

impl Route {
    /// Runs the chain over a message from the client. `Err`: it was refused.
    pub(super) async fn intercept(
        &self,
        context: &MessageContext,
        message: Message,
    ) -> Result<Message, (Message, Rejection)> {
        match self.intercept_now(context, message) {
            Intercepted::Passes(message) => Ok(message),
            Intercepted::Later(future) => future.await,
        }
    }

    /// As [`intercept`](Self::intercept), without a future where none is needed.
    pub(super) fn intercept_now(&self, context: &MessageContext, message: Message) -> Intercepted {
        if !self
            .chain
            .wants(Direction::ToUpstream, context.method.as_deref())
        {
            return Intercepted::Passes(message);
        }
        let decided = |outcome, message| match outcome {
            Outcome::Forward(message) | Outcome::Changed(message) => Ok(message),
            Outcome::Rejected(rejection) => Err((message, rejection)),
        };
        match self.chain.run(context, message.clone()) {
            Step::Done(outcome) => match decided(outcome, message) {
                Ok(message) => Intercepted::Passes(message),
                refused => Intercepted::Later(Box::pin(std::future::ready(refused))),
            },
            Step::Wait(future) => {
                Intercepted::Later(Box::pin(async move { decided(future.await, message) }))
            }
        }
    }
}
