//! Whether the client can be told what belongs to none of its requests.

use std::time::{Duration, Instant};

use super::Upgrading;
use crate::bridge::clock::after;

/// The client, as far as its streams for notices go.
#[derive(Debug)]
pub(super) struct Audience {
    presence: Presence,
    /// It has said that it is initialized, or acts as if.
    ready: bool,
}

#[derive(Debug, Clone, Copy)]
enum Presence {
    /// So many of its streams are open.
    Here(usize),
    /// None is, but it may come back for what was held for it.
    Away { since: Instant },
    /// It was away for too long.
    Gone,
}

impl Audience {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            presence: Presence::Away { since: now },
            ready: false,
        }
    }

    pub(super) fn came(&mut self) {
        self.presence = match self.presence {
            Presence::Here(streams) => Presence::Here(streams + 1),
            Presence::Away { .. } | Presence::Gone => Presence::Here(1),
        };
    }

    pub(super) fn went(&mut self, now: Instant) {
        match &mut self.presence {
            Presence::Here(streams) if *streams > 1 => *streams -= 1,
            Presence::Here(_) => self.presence = Presence::Away { since: now },
            Presence::Away { .. } | Presence::Gone => {}
        }
    }

    /// It wants to be told more: it will come.
    pub(super) fn asked(&mut self, now: Instant) {
        match &mut self.presence {
            Presence::Here(_) => {}
            presence => *presence = Presence::Away { since: now },
        }
    }

    /// Whether a stream of it is open.
    pub(super) fn is_here(&self) -> bool {
        self.ready && matches!(self.presence, Presence::Here(_))
    }

    /// Whether what changes is worth to be known.
    pub(super) fn listens(&self) -> bool {
        self.ready && !matches!(self.presence, Presence::Gone)
    }

    fn since(&self) -> Option<Instant> {
        match self.presence {
            Presence::Away { since } => Some(since),
            Presence::Here(_) | Presence::Gone => None,
        }
    }

    fn is_away_for(&self, retention: Duration, now: Instant) -> bool {
        self.since()
            .is_some_and(|since| after(since, retention) <= now)
    }
}

impl Upgrading {
    /// The client says that it is initialized, or acts as if.
    pub(super) fn initialized(&mut self, now: Instant) {
        if !self.audience.ready {
            self.audience.ready = true;
            self.listen(now);
        }
    }

    /// Opens what listens there are to be, for a client that may have come back.
    pub(super) fn listen(&mut self, now: Instant) {
        if self.audience.is_here() {
            self.start_lists(now);
            self.resources.want_again(now);
            self.advance_resources(now);
        }
    }

    /// Until when listens are kept for a client without a stream.
    pub(super) fn retained_until(&self) -> Option<Instant> {
        let is_listening = self.lists.is_on() || self.resources.is_on();
        let since = self.audience.since().filter(|_| is_listening)?;
        Some(after(since, self.config.retention))
    }

    /// Closes the listens of a client that was away for too long. Once it comes back, that is a gap.
    pub(super) fn forget_absent(&mut self, now: Instant) {
        if self.audience.is_away_for(self.config.retention, now) {
            self.audience.presence = Presence::Gone;
            self.suspend_lists();
            self.suspend_resources();
        }
    }
}
