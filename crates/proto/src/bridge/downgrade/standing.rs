//! The stream for what belongs to no request (Streamable HTTP: GET).

use std::time::Instant;

use crate::bridge::clock::after;
use crate::bridge::downgrade::{Action, Channel, Downgrading, STREAM_WAIT};

/// Whether there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// All messages come in one row anyway.
    Always,
    /// Nobody needs it.
    Unused,
    /// It was asked for. After `until` it is taken for open.
    Opening {
        until: Instant,
    },
    Open,
    /// The upstream has none (405).
    Refused,
}

impl Standing {
    pub(super) fn new(channel: Channel) -> Self {
        match channel {
            Channel::Pipe => Self::Always,
            Channel::Streams => Self::Unused,
        }
    }

    /// Whether it will be known soon if there is one.
    pub(super) fn is_undecided(self, now: Instant) -> bool {
        match self {
            Self::Unused => true,
            Self::Opening { until } => now < until,
            Self::Always | Self::Open | Self::Refused => false,
        }
    }

    /// Whether notices can come.
    pub(super) fn hears(self) -> bool {
        self != Self::Refused
    }

    pub(super) fn due(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Opening { until } => Some(until).filter(|until| *until > now),
            _ => None,
        }
    }
}

impl Downgrading {
    /// Opens the stream if somebody needs it.
    pub(super) fn open_standing(&mut self, now: Instant) {
        let is_open = self.phase.server().is_some();
        if is_open && self.standing == Standing::Unused && self.needs_standing() {
            let until = after(now, STREAM_WAIT);
            self.standing = Standing::Opening { until };
            self.wake_at(until);
            self.actions.push_back(Action::OpenStream);
        }
    }

    /// Closes the stream if nobody needs it.
    pub(super) fn close_standing(&mut self) {
        let is_there = matches!(self.standing, Standing::Opening { .. } | Standing::Open);
        if is_there && !self.needs_standing() {
            self.standing = Standing::Unused;
            self.actions.push_back(Action::CloseStream);
        }
    }

    /// Listens need it; so do requests that the server may ask something for, as some servers ask on that
    /// stream, and whoever wants to know whether changes are told.
    fn needs_standing(&self) -> bool {
        let features = self.features();
        let asked = |method: &str| method == "server/discover" && features.tells();
        self.may_be_asked
            || self
                .listens
                .values()
                .any(|listen| listen.needs_stream(features))
            || self
                .exchanges
                .values()
                .any(|exchange| asked(&exchange.method))
    }

    pub(super) fn standing_opened(&mut self, missed: bool) {
        if matches!(self.standing, Standing::Opening { .. } | Standing::Open) {
            self.standing = Standing::Open;
            if missed {
                self.notify_all();
            }
        }
    }

    pub(super) fn standing_refused(&mut self, now: Instant) {
        if matches!(self.standing, Standing::Opening { .. } | Standing::Open) {
            self.standing = Standing::Refused;
            self.end_deaf_listens(now);
        }
    }
}
