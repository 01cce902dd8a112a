//! What happens when time passes, and what happens after every input.

use std::time::Instant;

use crate::bridge::downgrade::calls::Purpose;
use crate::bridge::downgrade::exchange::State;
use crate::bridge::downgrade::reply::Failure;
use crate::bridge::downgrade::{Action, Downgrading, ExchangeId};

/// `data.reason` of requests whose time is over.
const TIMEOUT: &str = "upstream_timeout";

impl Downgrading {
    /// Does what has become possible: after every input.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.phase.is_over() {
            return;
        }
        self.open_standing(now);
        self.run_waiting(now);
        self.run_listens(now);
        self.close_standing();
        self.end_if_done();
        if self.exchanges.is_empty() {
            // No timer outlives what it was for.
            self.rearm(now);
        }
    }

    /// Asks for a timer at `due`, or earlier.
    pub(super) fn wake_at(&mut self, due: Instant) {
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
    }

    /// Finds out when the next timer is due, from what there is now.
    pub(super) fn rearm(&mut self, now: Instant) {
        let exchanges = self.exchanges.values().map(|exchange| exchange.due(now));
        let standing = self.standing.due(now).filter(|_| !self.phase.is_over());
        let others = [self.calls.due(), self.completions.due(), standing];
        self.wake = exchanges.chain(others.into_iter().flatten()).min();
    }

    /// Does what is due.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.calls.expire_cancelled(now) && self.is_pipe() {
            self.retired = true;
        }
        let released = self.calls.releases(now);
        if !self.is_pipe() {
            self.actions
                .extend(released.into_iter().map(Action::Release));
        }
        self.completions.expire(now);
        for (call, purpose) in self.calls.overdue(now) {
            self.calls.forget(call);
            let text = "the upstream did not answer in time";
            // A subscription that may have been made is taken back.
            if let Purpose::Subscribe(uri) = &purpose {
                self.maybe_subscribed(uri, now);
            } else {
                self.setting_lost(call, &purpose, text, now);
            }
            if self.phase.is_over() {
                return;
            }
        }
        let due = self.exchanges.iter().filter(|(_, e)| e.due(now) <= now);
        let due: Vec<ExchangeId> = due.map(|(id, _)| *id).collect();
        for id in due {
            self.expire_exchange(id, now);
        }
    }

    fn expire_exchange(&mut self, id: ExchangeId, now: Instant) {
        let Some(exchange) = self.exchanges.get(&id) else {
            return;
        };
        let is_over = exchange.clock.due() <= now;
        let text = match &exchange.state {
            State::Parked { .. } | State::Held { .. } => {
                return self.give_up(id, "the client did not answer in time", now);
            }
            State::Collecting { .. } if !is_over => return self.ask(id, now),
            State::Waiting(_) if !is_over => return,
            State::Waiting(_) => "the upstream was busy for too long; the request was not sent",
            _ => "the upstream did not answer in time; the call may have run",
        };
        self.fail(id, Failure::internal(504, TIMEOUT, text), now);
    }
}
