//! Questions of the server that the client is asked.

use std::time::Instant;

use super::exchange::ExchangeId;
use crate::rpc::RequestId;

/// One request to the client that it has to answer.
#[derive(Debug)]
pub(super) struct Prompt {
    /// Its id at the client, and its progress token there.
    pub(super) id: RequestId,
    pub(super) exchange: ExchangeId,
    /// What the server calls it.
    pub(super) key: String,
    /// The id under which the client hears of the end of what it did at a URL.
    pub(super) elicitation: Option<String>,
    pub(super) due: Instant,
}

/// The table. Bounded by `Limits::server_requests`, which the caller checks; small, so it is a list.
#[derive(Debug)]
pub(super) struct Prompts {
    open: Vec<Prompt>,
    last: u64,
}

impl Prompts {
    /// None yet; their ids will be above this number.
    pub(super) fn after(last: u64) -> Self {
        Self {
            open: Vec::new(),
            last,
        }
    }

    /// An id that the client has not seen from us.
    pub(super) fn next_id(&mut self) -> RequestId {
        self.last += 1;
        RequestId::from_integer(i64::try_from(self.last).unwrap_or(i64::MAX))
    }

    pub(super) fn push(&mut self, prompt: Prompt) {
        self.open.push(prompt);
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes out the first one that `wanted` picks.
    pub(super) fn take(&mut self, wanted: impl Fn(&Prompt) -> bool) -> Option<Prompt> {
        let at = self.open.iter().position(wanted)?;
        Some(self.open.remove(at))
    }

    pub(super) fn is_asked(&self, id: &RequestId) -> bool {
        self.open.iter().any(|prompt| prompt.id == *id)
    }

    pub(super) fn find(&mut self, id: &RequestId) -> Option<&mut Prompt> {
        self.open.iter_mut().find(|prompt| prompt.id == *id)
    }

    /// Whose time to be answered is over: for whom it was asked.
    pub(super) fn expired(&self, now: Instant) -> Option<ExchangeId> {
        let late = self.open.iter().find(|prompt| prompt.due <= now);
        late.map(|prompt| prompt.exchange)
    }

    /// When the first of them is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().map(|prompt| prompt.due).min()
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}
