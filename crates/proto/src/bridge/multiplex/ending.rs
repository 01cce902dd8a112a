//! How calls end without an answer of the program, and what becomes of them when it ends.

use std::time::Instant;

use crate::bridge::action::CallId;
use crate::bridge::clock::after;
use crate::bridge::limits::CANCELLED_AGE;
use crate::bridge::multiplex::call::{Call, Cancelled, Stage};
use crate::bridge::multiplex::limits::{MAX_FAILED_STARTS, MAX_RESENDS};
use crate::bridge::multiplex::listen::{State, final_result};
use crate::bridge::multiplex::{Action, Fault, Multiplexing, Nature, Outgoing, Program};
use crate::bridge::notice::cancelled;

impl Multiplexing {
    /// Stops a call: not written yet, it is never written; else the program is told, once. Nothing more of
    /// it is delivered. Returns whether it was written; `None`: it is not open.
    pub(super) fn give_up(&mut self, id: CallId, why: &str, now: Instant) -> Option<bool> {
        let call = self.calls.remove(id)?;
        if call.is_waiting() {
            self.unqueue(id);
            return Some(false);
        }
        let notice = cancelled(&id.to_request_id(), why);
        self.writes.push_back(Outgoing::Notice(notice));
        let until = after(now, CANCELLED_AGE);
        let cancelled = Cancelled {
            principal: call.principal,
            until,
            logs: call.logs,
            is_listen: call.listen.is_some(),
        };
        self.calls.keep_cancelled(id, cancelled);
        self.wake_at(Some(until));
        Some(true)
    }

    fn unqueue(&mut self, id: CallId) {
        self.writes
            .retain(|write| !matches!(write, Outgoing::Call(waiting) if *waiting == id));
    }

    /// A call ends with a fault.
    pub(super) fn fail(&mut self, id: CallId, fault: Fault, undelivered: bool) {
        if let Some(call) = self.calls.remove(id) {
            if call.is_waiting() {
                self.unqueue(id);
            }
            self.actions.push_back(Action::Fail {
                call: id,
                fault,
                undelivered,
            });
        }
    }

    /// A listen ends, whose program knows it no more: its client gets the final result, or an error if it
    /// was never told that it listens.
    pub(super) fn end_listen(&mut self, id: CallId, why: &str) {
        let Some(client) = self.believed_open(id) else {
            return self.fail(id, Fault::Lost(why.to_owned()), false);
        };
        self.calls.remove(id);
        self.unqueue(id);
        self.deliver(id, final_result(&client), Nature::Response);
    }

    /// The same, of a listen that the program knows.
    pub(super) fn stop(&mut self, id: CallId, why: &str, now: Instant) {
        let client = self.believed_open(id);
        self.give_up(id, why, now);
        match client {
            Some(client) => self.deliver(id, final_result(&client), Nature::Response),
            None => self.actions.push_back(Action::Fail {
                call: id,
                fault: Fault::TimedOut,
                undelivered: false,
            }),
        }
    }

    /// The program is gone.
    pub(super) fn lose(&mut self, reason: &str) {
        self.calls.forget_expired(None);
        self.writes
            .retain(|write| matches!(write, Outgoing::Call(_)));
        for id in self.calls.ids(|call| !call.is_waiting()) {
            let Some(call) = self.calls.get_mut(id) else {
                continue;
            };
            let Some(listen) = &mut call.listen else {
                self.fail(id, Fault::Lost(reason.to_owned()), false);
                continue;
            };
            listen.resends += 1;
            if listen.resends > MAX_RESENDS {
                self.end_listen(id, reason);
                continue;
            }
            if let State::Open(honoured) = &mut listen.state {
                listen.state = State::Reopening(std::mem::take(honoured));
            }
            if let State::Reopening(_) = listen.state {
                // How long there may be no program is counted in starts.
                call.clock.idle_at = None;
            }
            call.stage = Stage::Waiting(listen.request.clone());
            self.writes.push_back(Outgoing::Call(id));
        }
        self.program = Program::Down {
            failed: 0,
            again: None,
        };
        self.start();
    }

    /// The program did not start, for the so-manieth time in a row.
    pub(super) fn no_program(&mut self, failed: u32, again: Instant) {
        for id in self.calls.ids(|_| true) {
            if self.believed_open(id).is_none() {
                let is_new = self.calls.get(id).is_some_and(Call::is_new);
                self.fail(id, Fault::NotStarted, is_new);
            } else if failed >= MAX_FAILED_STARTS {
                self.end_listen(id, "the program does not start");
            }
        }
        let again = Some(again).filter(|_| !self.writes.is_empty());
        self.program = Program::Down { failed, again };
        self.wake_at(again);
    }

    /// Nothing goes on.
    pub(super) fn end_all(&mut self, reason: &str) {
        for id in self.calls.ids(|_| true) {
            if self.believed_open(id).is_some() {
                self.end_listen(id, reason);
            } else {
                let is_new = self.calls.get(id).is_some_and(Call::is_new);
                self.fail(id, Fault::Lost(reason.to_owned()), is_new);
            }
        }
        self.calls.forget_expired(None);
        self.writes.clear();
        self.wake = None;
        self.program = Program::Over;
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, now: Instant) {
        self.calls.forget_expired(Some(now));
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        for id in self.calls.ids(|call| is_due(call.clock.due())) {
            self.time_out(id, now);
        }
        if let Program::Down { again, .. } = self.program
            && is_due(again)
        {
            self.start();
        }
        let again = match self.program {
            Program::Down { again, .. } => again,
            _ => None,
        };
        self.wake = self.calls.due();
        self.wake_at(again);
    }

    /// The time of a call is over.
    fn time_out(&mut self, id: CallId, now: Instant) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        if call.is_waiting() {
            let is_new = call.is_new();
            return self.fail(id, Fault::TimedOut, is_new);
        }
        if call.listen.is_some() {
            return self.stop(id, "it was not acknowledged in time", now);
        }
        self.give_up(id, "it took too long", now);
        self.actions.push_back(Action::Fail {
            call: id,
            fault: Fault::TimedOut,
            undelivered: false,
        });
    }
}
