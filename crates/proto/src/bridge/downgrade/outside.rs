//! What the caller has to know, and say, of what lies below the messages.

use std::time::Instant;

use crate::bridge::CallId;
use crate::bridge::downgrade::reply::Failure;
use crate::bridge::downgrade::{Downgrading, ExchangeId};

impl Downgrading {
    /// Whose request this is, while it is open.
    #[must_use]
    pub fn exchange_of(&self, call: CallId) -> Option<ExchangeId> {
        self.calls.exchange_of(call)
    }

    /// The request that runs an exchange at the upstream.
    #[must_use]
    pub fn call_of(&self, exchange: ExchangeId) -> Option<CallId> {
        let exchange = self.exchanges.get(&exchange)?;
        exchange.state.running().map(|running| running.call)
    }

    /// A request was cancelled before it was written, and neither it nor the notice ([`Written::Cancel`])
    /// is written (protocol notes 5.1, "Cancel"): nothing of it can come.
    ///
    /// [`Written::Cancel`]: super::Written::Cancel
    pub fn never_written(&mut self, call: CallId, now: Instant) {
        self.calls.forget_cancelled(call);
        self.settle(now);
    }

    /// The session cannot be opened: the upstream cannot be reached. All that waits is answered with this
    /// HTTP status and `data.reason`; `text` is for people.
    pub fn open_failed(&mut self, status: u16, reason: &'static str, text: &str, now: Instant) {
        if !self.phase.is_over() && self.phase.server().is_none() {
            self.not_opened(Failure::internal(status, reason, text));
        }
        self.settle(now);
    }
}
