//! The task of a program: starting, reading, writing, keeping the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thinpipe_proto::bridge::Dropped;
use thinpipe_proto::bridge::multiplex::Write;
use thinpipe_transport::upstream::pipe::{Pipe, PipeReceiver, PipeSender};

use super::{Program, Runs};
use crate::clock::{now, until};
use crate::failure::{Failure, with_causes};
use crate::pipe::{NotStarted, Spoken};
use crate::route::{Asked, ask_child};

/// How long the end of a program that takes nothing more may take to be read.
const LAST_READ: Duration = Duration::from_secs(1);

/// After this a program is started again that had another era at its last start. Nobody waits for it but listens
/// that an earlier one has acknowledged: calls go by what it speaks now.
const OTHER_ERA: Duration = Duration::from_secs(60);

/// The same of one that did not say what it speaks: it may have had an accident.
const SHORTLY: Duration = Duration::from_secs(1);

/// How the service of a program has ended.
enum Ended {
    Closed(String),
    /// It takes nothing more. What is read of its end, its status, says more.
    Unwritable(String),
    Unused,
}

impl Program {
    /// Does everything, until the gateway stops.
    pub(super) async fn run(self: Arc<Self>) {
        tokio::select! {
            // None of them goes on after this: what they hold ends with them.
            () = self.stop.cancelled() => {}
            () = self.keep_time() => {}
            () = self.serve_programs() => {}
        }
        self.feed(|machine, _| machine.end("the gateway shuts down"));
        let dropped = self.lock().machine.dropped();
        if dropped != Dropped::default() {
            tracing::debug!(upstream = %self.name, ?dropped, "messages that led nowhere");
        }
    }

    async fn serve_programs(&self) {
        loop {
            let pipe = self.next_pipe().await;
            let reason = self.serve(pipe).await;
            tracing::info!(upstream = %self.name, reason, "a program has ended");
            let mut state = self.lock();
            // The next one may be another program (protocol notes 1.4).
            self.era.forget_stateless();
            state.program = Runs::No;
            state.machine.upstream_lost(&reason);
            self.settle(state);
        }
    }

    /// Starts a program when one is wanted.
    async fn next_pipe(&self) -> Pipe {
        loop {
            while !std::mem::take(&mut self.lock().to_start) {
                self.to_start.notified().await;
            }
            match self.start().await {
                Ok(pipe) => {
                    let mut state = self.lock();
                    state.program = Runs::Yes;
                    state.machine.started();
                    self.settle(state);
                    return pipe;
                }
                Err((failure, pause)) => {
                    let mut state = self.lock();
                    state.not_started = Some(failure);
                    state.machine.start_failed(now() + pause);
                    self.settle(state);
                }
            }
        }
    }

    /// Starts the program, and asks it what it speaks, unless the configuration says that or somebody has just
    /// asked it: it may be another one than the last time (protocol notes 1.4).
    async fn start(&self) -> Result<Pipe, (Failure, Duration)> {
        let not_started = |not: NotStarted| {
            let pause = not.pause();
            (not.into_failure(&self.name), pause)
        };
        if self.era.is_pinned() {
            return self.children.start().map_err(not_started);
        }
        let asking = self.era.asking().await;
        self.age();
        if let Some(verdict) = self.era.known() {
            return match verdict.modern() {
                Some(_) => self.children.start().map_err(not_started),
                None => Err((self.other_era(), OTHER_ERA)),
            };
        }
        let pipe = self.children.start().map_err(not_started)?;
        let asked = ask_child(&self.children, pipe, &self.name, self.idle).await;
        let (asked, pipe) = asked.map_err(|failure| (failure, SHORTLY))?;
        let (serves, pause) = match &asked {
            Asked::Answered(verdict) => (verdict.modern().is_some(), OTHER_ERA),
            Asked::Silent(_) => {
                self.children.start_failed();
                (false, SHORTLY)
            }
        };
        let pipe = match pipe {
            // For whoever waits for the verdict.
            Some(pipe) if !serves => {
                self.children.keep(pipe);
                None
            }
            pipe => pipe,
        };
        asking.heard(asked);
        match pipe {
            Some(pipe) => Ok(pipe),
            // That one was asked for a session too, which is nobody's.
            None if serves => self.children.start().map_err(not_started),
            None => Err((self.other_era(), pause)),
        }
    }

    /// A child that was asked and not used does not stand for the next one.
    pub(crate) fn age(&self) {
        if self.children.prune() {
            self.era.forget_stateless();
        }
    }

    fn other_era(&self) -> Failure {
        let text = format!(
            "{} did not say at its last start that it speaks 2026-07-28; the call was not sent",
            self.name
        );
        Failure::paused(text, SHORTLY)
    }

    /// Serves a program to its end; says why it is over.
    async fn serve(&self, pipe: Pipe) -> String {
        let Pipe {
            sender,
            mut receiver,
        } = pipe;
        let mut heard = false;
        let ended = tokio::select! {
            // Neither is asked again: the program is over with the first.
            reason = self.read(&mut receiver, &mut heard) => Ended::Closed(reason),
            reason = self.write(&sender) => Ended::Unwritable(reason),
            () = self.retired() => Ended::Unused,
        };
        let reason = match ended {
            Ended::Closed(reason) => reason,
            Ended::Unwritable(reason) => {
                let last = self.read(&mut receiver, &mut heard);
                let last = tokio::time::timeout(LAST_READ, last).await;
                last.unwrap_or(reason)
            }
            Ended::Unused => {
                heard = true;
                "nobody uses it".to_owned()
            }
        };
        sender.close();
        if !heard {
            self.children.start_failed();
        }
        reason
    }

    async fn retired(&self) {
        while self.lock().program != Runs::Retired {
            self.retire.notified().await;
        }
    }

    async fn read(&self, receiver: &mut PipeReceiver, heard: &mut bool) -> String {
        loop {
            match receiver.next().await {
                Some(Ok(message)) => {
                    if !std::mem::replace(heard, true) {
                        self.children.start_succeeded(Some(Spoken::Stateless));
                    }
                    self.feed(|machine, now| machine.upstream(&message, now));
                }
                Some(Err(error)) => return with_causes(&error),
                None => return "its pipe was closed".to_owned(),
            }
        }
    }

    async fn write(&self, sender: &PipeSender) -> String {
        loop {
            let Write { message, call } = self.next_write().await;
            let sent = tokio::time::timeout(self.idle, sender.send(message)).await;
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let reason = with_causes(&error);
                    if let Some(call) = call.filter(|_| error.is_undelivered()) {
                        self.feed(|machine, _| machine.not_written(call, &reason));
                    }
                    return reason;
                }
                Err(_) => return "it does not take what it is sent".to_owned(),
            }
        }
    }

    async fn next_write(&self) -> Write {
        loop {
            {
                let mut state = self.lock();
                if let Some(write) = state.machine.poll_write(now()) {
                    // Its deadline has begun anew.
                    self.notify(state);
                    return write;
                }
            }
            self.to_write.notified().await;
        }
    }

    async fn keep_time(&self) {
        loop {
            let due = self.arm();
            tokio::select! {
                // Cancel-safe: the time is looked at anew.
                () = self.timer.notified() => {}
                // Cancel-safe: the same.
                () = until(due) => self.expire(),
            }
        }
    }

    fn arm(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.armed = state.due();
        state.armed
    }

    fn expire(&self) {
        let mut state = self.lock();
        let now = now();
        state.machine.on_timeout(now);
        if state.idle_due().is_some_and(|due| due <= now) {
            // From here on a call is one for another program.
            state.program = Runs::Retired;
            state.machine.upstream_lost("nobody uses it");
            self.retire.notify_one();
        }
        self.settle(state);
    }
}
