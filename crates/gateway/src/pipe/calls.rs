//! The task of a session in front of a server of 2026-07-28: calling, hearing what comes back.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::HeaderMap;
use thinpipe_proto::bridge::CallId;
use thinpipe_proto::bridge::upgrade::Call;
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_proto::session::Principal;
use tokio_util::sync::CancellationToken;

use super::machine::CallStep;
use super::{Owner, UpstreamSession};
use crate::failure::{Failure, Reason};
use crate::modern::{CallError, CallStream, ModernCall, ModernServer};

type Asking = Pin<Box<dyn Future<Output = Result<CallStream, CallError>> + Send>>;

/// Messages that are read and delivered before others on this thread have their turn. One by one, each would be
/// written to its client by itself.
const IN_ONE_TURN: usize = 32;

/// Calls that are open. The machine bounds how many there are.
#[derive(Default)]
struct Open {
    calls: Vec<Running>,
}

/// One of them.
struct Running {
    id: CallId,
    /// The client's request that it is made for.
    about: Option<RequestId>,
    at: Stage,
    /// What it said last is not delivered yet: it is not read.
    waits: bool,
}

/// What comes of a call.
enum Said {
    /// A message, and whether it came on an event stream.
    Message(Message, bool),
    /// Something on its event stream that is no message.
    Alive,
}

enum Stage {
    Asking(Asking),
    Answering(CallStream),
}

impl UpstreamSession {
    /// Serves the session to its end, with calls to this server in this principal's name.
    pub(crate) async fn run_calls(
        self: Arc<Self>,
        server: Arc<dyn ModernServer>,
        principal: Principal,
        owner: Arc<dyn Owner>,
        stop: CancellationToken,
    ) {
        let flow = async {
            tokio::select! {
                // None of them goes on after this: the session is over, and with it what they hold.
                () = self.call(&server, &principal, &owner) => {}
                () = self.keep_time() => {}
                () = self.farewell() => {}
                () = stop.cancelled() => self.lose("the gateway shuts down"),
            }
        };
        self.in_turns(async { tokio::join!(flow, self.deliver(&owner)) })
            .await;
        self.finish(&owner).await;
    }

    /// Reads and delivers, several messages in each turn if they are there.
    async fn in_turns<T>(&self, serving: impl Future<Output = T>) -> T {
        let mut serving = pin!(serving);
        poll_fn(|cx| {
            for _ in 0..IN_ONE_TURN {
                if let Poll::Ready(done) = serving.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                if !self.goes_on.swap(false, Ordering::Relaxed) {
                    break;
                }
            }
            // If there is more to read, its task was woken by what was delivered.
            Poll::Pending
        })
        .await
    }

    /// Calls until the session is over and nothing is left to be said.
    async fn call(
        &self,
        server: &Arc<dyn ModernServer>,
        principal: &Principal,
        owner: &Arc<dyn Owner>,
    ) {
        let mut open = Open::default();
        let mut reconsidering = None;
        loop {
            self.hold_back(&mut open);
            tokio::select! {
                // Cancel-safe: a step is taken when it is returned.
                step = self.next_call_step() => match step {
                    Some(CallStep::Open(call, headers)) => {
                        self.begin_call(&mut open, server, principal, call, headers);
                    }
                    Some(CallStep::Close(id)) => open.close(id),
                    Some(CallStep::Doubt) => owner.doubt(),
                    None => break,
                },
                // Cancel-safe: what is heard is taken when it is returned.
                (id, heard) = open.next() => {
                    let is_foreign = matches!(&heard, Err(e) if e.failure.reason == Reason::NotFound);
                    self.heard(id, heard);
                    if is_foreign && reconsidering.is_none() {
                        reconsidering = Some(Arc::clone(owner).is_modern());
                    }
                }
                // Cancel-safe: who waits is looked at anew.
                () = self.delivered.notified() => {}
                // Cancel-safe: it is kept, and goes on.
                is_modern = pending_or(reconsidering.as_mut()) => {
                    reconsidering = None;
                    if !is_modern {
                        self.lose("it does not speak 2026-07-28 any more");
                    }
                }
            }
        }
        // Tasks that are cancelled. What comes back is of no interest, and there is little time.
        while !open.calls.is_empty() {
            let _ = open.next().await;
        }
    }

    fn begin_call(
        &self,
        open: &mut Open,
        server: &Arc<dyn ModernServer>,
        principal: &Principal,
        call: Call,
        headers: HeaderMap,
    ) {
        let Call {
            id,
            message,
            repeatable,
            request,
            ..
        } = call;
        let message = match Message::parse(message) {
            Ok(message) => message,
            Err(error) => {
                let text = format!("a request cannot be written: {error}");
                let error = CallError::undelivered(Failure::new(Reason::Invalid, text));
                return self.heard(id, Err(error));
            }
        };
        let asking = Arc::clone(server).call(ModernCall {
            message,
            headers,
            principal: principal.clone(),
            repeatable,
        });
        open.calls.push(Running {
            id,
            about: request,
            at: Stage::Asking(asking),
            waits: false,
        });
    }

    async fn next_call_step(&self) -> Option<CallStep> {
        loop {
            {
                let mut state = self.lock();
                let next = state.machine.upgrading().and_then(|(_, calls)| calls.pop());
                let is_over = state.end.is_some();
                drop(state);
                if let Some((step, has_room)) = next {
                    if has_room {
                        self.room.notify_waiters();
                    }
                    return Some(step);
                }
                if is_over {
                    return None;
                }
            }
            self.to_write.notified().await;
        }
    }

    /// Of a call whose last words are not delivered yet no more is read: a client that does not read
    /// stops its server.
    fn hold_back(&self, open: &mut Open) {
        let mut state = self.lock();
        if let Some((_, calls)) = state.machine.upgrading() {
            for running in &mut open.calls {
                running.waits = !calls.is_delivered(&running.about);
            }
        }
    }

    /// Gives the machine what a call said, or how it failed.
    fn heard(&self, id: CallId, heard: Result<Said, CallError>) {
        self.feed(|machine, now| {
            let Some((machine, _)) = machine.upgrading() else {
                return; // Unreachable: only such a machine calls.
            };
            match heard {
                Ok(Said::Alive) => machine.alive(id, now),
                Ok(Said::Message(message, is_streamed)) => {
                    if is_streamed {
                        machine.alive(id, now);
                    }
                    machine.upstream(id, &message, now);
                }
                Err(CallError {
                    failure,
                    undelivered,
                }) => {
                    let why = (failure.reason.as_str(), &*failure.text);
                    machine.call_failed(id, undelivered, why, now);
                }
            }
        });
    }
}

impl Open {
    fn close(&mut self, id: CallId) {
        self.calls.retain(|running| running.id != id);
    }

    /// What is said next, and by which call; a call that has ended is out. Dropping the future loses
    /// nothing.
    async fn next(&mut self) -> (CallId, Result<Said, CallError>) {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(CallId, Result<Said, CallError>)> {
        for at in 0..self.calls.len() {
            let running = &mut self.calls[at];
            if running.waits {
                continue;
            }
            if let Poll::Ready(heard) = running.poll(cx) {
                let id = running.id;
                let is_over = match &heard {
                    Ok(Said::Message(message, _)) => message.kind().is_response(),
                    Ok(Said::Alive) => false,
                    Err(_) => true,
                };
                if is_over {
                    drop(self.calls.swap_remove(at));
                }
                return Poll::Ready((id, heard));
            }
        }
        Poll::Pending
    }
}

impl Running {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Said, CallError>> {
        if let Stage::Asking(asking) = &mut self.at {
            match asking.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(stream)) => self.at = Stage::Answering(stream),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        let Stage::Answering(stream) = &mut self.at else {
            return Poll::Pending; // Unreachable: it was set above.
        };
        let heard = match stream.poll_next(cx) {
            Poll::Pending if stream.take_heard() => return Poll::Ready(Ok(Said::Alive)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(heard)) => heard,
            Poll::Ready(None) => {
                let text = "the upstream's stream ended before the response; the call may have run";
                Err(CallError::delivered(Failure::new(Reason::StreamLost, text)))
            }
        };
        let is_streamed = stream.take_heard();
        if heard.as_ref().is_ok_and(|m| m.kind().is_response()) {
            // Who sees the end of a stream lets its connection serve again. Nobody waits for it.
            let _ = stream.poll_next(cx);
        }
        Poll::Ready(heard.map(|message| Said::Message(message, is_streamed)))
    }
}

/// What comes of a future, if there is one.
async fn pending_or<T>(future: Option<&mut Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
