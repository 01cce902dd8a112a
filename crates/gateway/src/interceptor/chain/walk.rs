//! One message on its way through a chain.

use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::rpc::{Message, code};
use thinpipe_transport::body::BoxFuture;
use tokio::time;

use super::stage::Stage;
use super::{FAILED, Outcome, Shared, TIMED_OUT};
use crate::failure::Reason;
use crate::interceptor::failure::{Contained, contain};
use crate::interceptor::subject::subject;
use crate::interceptor::{Action, Failure, MessageContext, Rejection};

/// The shortest wait before an interceptor is asked again, so that it cannot spin.
const MIN_RETRY: Duration = Duration::from_millis(1);

/// One message, and how far it has come.
pub(super) struct Walk {
    message: Message,
    changed: bool,
    /// Interceptors it is through with.
    done: usize,
    /// The context, once a change made the message name something else than it came with.
    renamed: Option<Box<MessageContext>>,
}

/// How far a message came without waiting.
pub(super) enum Progress {
    /// Every interceptor let it pass.
    Through,
    Rejected(Rejection),
    /// The interceptor at this index has to be waited for.
    Pending(usize, Pending),
}

/// What is waited for.
pub(super) enum Pending {
    Answer(BoxFuture<Action>),
    /// The interceptor is asked again after this.
    Retry(Duration),
}

/// What one interceptor's answer means for the message.
enum Settled {
    Next,
    Rejected(Rejection),
    Pending(Pending),
}

impl Walk {
    pub(super) fn new(message: Message) -> Self {
        Self {
            message,
            changed: false,
            done: 0,
            renamed: None,
        }
    }

    /// Goes on until the end or until something has to be waited for. Allocates nothing itself.
    pub(super) fn advance(&mut self, shared: &Shared, cx: &MessageContext) -> Progress {
        while let Some(index) = shared.position(cx.direction, self.done) {
            self.done += 1;
            let stage = &shared.stages[index];
            if !stage.filter(cx.direction).admits(cx.method.as_deref()) {
                continue;
            }
            stage.count_seen();
            let action = self.ask(stage, cx);
            match self.settle(shared, stage, cx, action) {
                Settled::Next => {}
                Settled::Rejected(rejection) => {
                    return Progress::Rejected(rejection);
                }
                Settled::Pending(pending) => return Progress::Pending(index, pending),
            }
        }
        Progress::Through
    }

    /// The message as it goes on, once it is through.
    pub(super) fn into_outcome(self) -> Outcome {
        if self.changed {
            Outcome::Changed(self.message)
        } else {
            Outcome::Forward(self.message)
        }
    }

    /// Waits where it has to, and goes on to the end.
    pub(super) async fn finish(
        mut self,
        shared: &Shared,
        cx: &MessageContext,
        mut index: usize,
        mut pending: Pending,
    ) -> Outcome {
        loop {
            let stage = &shared.stages[index];
            let answer = time::timeout(shared.timeout, self.wait(stage, cx, pending)).await;
            let settled = match answer {
                Ok(action) => self.settle(shared, stage, cx, action),
                Err(_elapsed) => fail(shared, stage, "it took too long", TIMED_OUT),
            };
            match settled {
                Settled::Next => {}
                Settled::Rejected(rejection) => return Outcome::Rejected(rejection),
                Settled::Pending(again) => {
                    pending = again;
                    continue;
                }
            }
            match self.advance(shared, cx) {
                Progress::Through => return self.into_outcome(),
                Progress::Rejected(rejection) => return Outcome::Rejected(rejection),
                Progress::Pending(next, again) => (index, pending) = (next, again),
            }
        }
    }

    /// The answer of one interceptor, however often it puts it off. `None`: it panicked.
    async fn wait(
        &self,
        stage: &Stage,
        cx: &MessageContext,
        mut pending: Pending,
    ) -> Option<Action> {
        loop {
            let action = match pending {
                Pending::Answer(future) => Contained(future).await?,
                Pending::Retry(after) => {
                    time::sleep(after.max(MIN_RETRY)).await;
                    self.ask(stage, cx)?
                }
            };
            pending = match action {
                Action::Later(future) => Pending::Answer(future),
                Action::Fail(Failure::Retry { after, reason }) => {
                    tracing::debug!(interceptor = %stage.name, reason, "an interceptor asks for a retry");
                    Pending::Retry(after)
                }
                action => return Some(action),
            };
        }
    }

    fn ask(&self, stage: &Stage, cx: &MessageContext) -> Option<Action> {
        let cx = self.renamed.as_deref().unwrap_or(cx);
        contain(|| stage.interceptor.intercept(cx, &self.message))
    }

    fn settle(
        &mut self,
        shared: &Shared,
        stage: &Stage,
        cx: &MessageContext,
        action: Option<Action>,
    ) -> Settled {
        match action {
            Some(Action::Continue) => Settled::Next,
            Some(Action::Replace(bytes)) => {
                let Ok(bytes) = shared.buffered.hold(bytes) else {
                    return Settled::Rejected(no_room(shared));
                };
                match self.replace(cx, bytes) {
                    Ok(()) => {
                        stage.count_changed();
                        Settled::Next
                    }
                    Err(why) => fail(shared, stage, &why, FAILED),
                }
            }
            Some(Action::Reject(rejection)) => {
                stage.count_rejected();
                Settled::Rejected(rejection)
            }
            Some(Action::Later(future)) => Settled::Pending(Pending::Answer(future)),
            Some(Action::Fail(failure)) => failed(shared, stage, failure),
            None => fail(shared, stage, "it panicked", FAILED),
        }
    }

    /// Takes a replacement, if it can stand for the message.
    fn replace(&mut self, cx: &MessageContext, bytes: Bytes) -> Result<(), String> {
        let message = Message::parse(bytes)
            .map_err(|error| format!("its replacement is no message: {error}"))?;
        let same = message.kind() == self.message.kind()
            && message.id() == self.message.id()
            && message.method() == self.message.method();
        if !same {
            return Err("its replacement has another kind, id or method".into());
        }
        self.message = message;
        self.changed = true;
        // Those that come after it go by the name; a rename must not slip past them.
        if let Some(name) = subject(&self.message)
            && self.renamed.as_deref().unwrap_or(cx).name.as_deref() != Some(&*name)
        {
            let mut renamed = cx.clone();
            renamed.name = Some(name.as_ref().into());
            self.renamed = Some(Box::new(renamed));
        }
        Ok(())
    }
}

/// The replacement cannot be held, and what was to be replaced must not go on.
fn no_room(shared: &Shared) -> Rejection {
    let limit = shared.buffered.limit();
    let text = format!("a changed message finds no room: too many bytes are held (limit {limit})");
    Rejection {
        code: code::INTERNAL_ERROR,
        message: text,
        reason: Reason::BufferFull.as_str().into(),
    }
}

fn failed(shared: &Shared, stage: &Stage, failure: Failure) -> Settled {
    match failure {
        Failure::Fatal(why) => {
            stage.count_failed();
            tracing::error!(interceptor = %stage.name, why, "an interceptor failed fatally");
            Settled::Rejected(stage.failure(FAILED))
        }
        Failure::Recoverable(why) => fail(shared, stage, &why, FAILED),
        Failure::Retry { after, reason } => {
            tracing::debug!(interceptor = %stage.name, reason, "an interceptor asks for a retry");
            Settled::Pending(Pending::Retry(after))
        }
        Failure::Skip(why) => {
            stage.count_failed();
            tracing::debug!(interceptor = %stage.name, why, "an interceptor skips a message");
            Settled::Next
        }
    }
}

fn fail(shared: &Shared, stage: &Stage, why: &str, reason: &str) -> Settled {
    match shared.failed(stage, why, reason) {
        Some(rejection) => Settled::Rejected(rejection),
        None => Settled::Next,
    }
}
