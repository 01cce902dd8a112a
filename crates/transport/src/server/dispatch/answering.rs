//! The future that answers a request, and what becomes of it when its client leaves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use thinpipe_proto::classify::Class;

use super::{Envelope, Planned, Prepared, prepare};
use crate::body::{Body, BoxFuture};
use crate::server::exchange::Answer;
use crate::server::permit::Permit;
use crate::server::reply::{Holds, Reply};
use crate::server::session::{Session, SessionEnd};
use crate::server::{Shared, ladder};

/// A request on its way to its answer.
///
/// Dropping it before that means that the client has left: in a session the call goes on without it,
/// outside of one it is cancelled.
pub(crate) struct Answering {
    shared: Arc<Shared>,
    future: Option<BoxFuture<Answer>>,
    /// Another node is asked first. It may turn out that the answer is given here.
    elsewhere: Option<BoxFuture<Result<Answer, Box<Prepared>>>>,
    holds: Holds,
    runs_on: bool,
}

impl Answering {
    /// An answer that is known.
    pub(crate) fn ready(shared: &Arc<Shared>, answer: Answer, holds: Holds) -> Self {
        Self::waiting(shared, Box::pin(std::future::ready(answer)), holds)
    }

    /// An answer that nobody needs when its client leaves.
    pub(crate) fn waiting(shared: &Arc<Shared>, future: BoxFuture<Answer>, holds: Holds) -> Self {
        Self {
            shared: Arc::clone(shared),
            future: Some(future),
            elsewhere: None,
            holds,
            runs_on: false,
        }
    }

    /// An answer of another node, or of this one if that is dead. When its client leaves, the other node is told
    /// so, and does as it would for a client of its own.
    pub(crate) fn elsewhere(
        shared: &Arc<Shared>,
        asking: BoxFuture<Result<Answer, Box<Prepared>>>,
        holds: Holds,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            future: None,
            elsewhere: Some(asking),
            holds,
            runs_on: false,
        }
    }

    /// `Ready` with an answer of another node, or when it has turned out that it is given here.
    fn poll_elsewhere(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        let Some(asking) = &mut self.elsewhere else {
            return Poll::Ready(None);
        };
        let asked = match asking.as_mut().poll(cx) {
            Poll::Ready(asked) => asked,
            Poll::Pending if self.shared.is_forced() => Ok(self.holds.cut_off()),
            Poll::Pending => return Poll::Pending,
        };
        self.elsewhere = None;
        match asked {
            Ok(answer) => Poll::Ready(Some(answer)),
            Err(prepared) => {
                self.holds.activity = prepared.session.as_ref().map(Session::enter);
                self.holds.running = prepared.running;
                self.runs_on = prepared.runs_on;
                self.future = Some(prepared.future);
                Poll::Ready(None)
            }
        }
    }

    /// The same, run to its end also when its client leaves.
    pub(crate) fn that_runs_on(mut self) -> Self {
        self.runs_on = true;
        self
    }
}

impl Future for Answering {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let this = &mut *self;
        if let Some(answer) = std::task::ready!(this.poll_elsewhere(cx)) {
            let holds = std::mem::take(&mut this.holds);
            return Poll::Ready(Reply::new(&this.shared, answer, holds));
        }
        let answer = match &mut this.future {
            Some(future) => match future.as_mut().poll(cx) {
                Poll::Ready(answer) => answer,
                // Whoever polls is woken when the time for draining is over.
                Poll::Pending if this.shared.is_forced() => this.holds.cut_off(),
                Poll::Pending => return Poll::Pending,
            },
            None => ladder::refuse(StatusCode::INTERNAL_SERVER_ERROR, "polled after its end"),
        };
        this.future = None;
        Poll::Ready(Reply::new(
            &this.shared,
            answer,
            std::mem::take(&mut this.holds),
        ))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let Some(future) = self.future.take().filter(|_| self.runs_on) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let rest = async move {
            if let Some(rest) = left_behind(&shared, future.await) {
                rest.await;
            }
        };
        self.shared
            .detach(Box::pin(rest), std::mem::take(&mut self.holds));
    }
}

/// The answer to DELETE: whichever node has the session, it is found and ended also when its client leaves at once.
pub(super) fn ending(shared: &Arc<Shared>, envelope: Envelope, permit: Permit) -> Answering {
    let ending = Arc::clone(shared);
    let answer = async move {
        let from = envelope.requester.clone();
        let prepared = match prepare(&ending, envelope, Class::Terminate).await {
            Ok(Planned::Here(prepared)) => prepared,
            Ok(Planned::Elsewhere(asking)) => match asking.await {
                Ok(answer) => return answer,
                // That node is dead.
                Err(prepared) => *prepared,
            },
            Err(refusal) => {
                ladder::log_late_refusal(&refusal, &from);
                return refusal;
            }
        };
        prepared.future.await
    };
    let holds = Holds {
        request: Some(permit),
        ..Holds::default()
    };
    Answering::waiting(shared, Box::pin(answer), holds).that_runs_on()
}

/// What must still be done for an answer that no client will see.
///
/// A session it opens is ended: nobody knows its id.
pub(crate) fn left_behind(shared: &Arc<Shared>, answer: Answer) -> Option<BoxFuture<()>> {
    let rest = match answer.body {
        Body::Stream(body) => body.abandon(),
        Body::Empty | Body::Full(_) => None,
    };
    let Some(id) = answer.session else {
        return rest;
    };
    let shared = Arc::clone(shared);
    Some(Box::pin(async move {
        if let Some(rest) = rest {
            rest.await;
        }
        let sessions = shared.sessions.list();
        if let Some(session) = sessions.iter().find(|s| *s.id() == id) {
            shared.end_session(session, SessionEnd::Abandoned).await;
        }
    }))
}
