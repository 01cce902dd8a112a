//! The deadlines of one request (protocol notes 5.1, "Deadlines").

use std::time::{Duration, Instant};

use crate::bridge::limits::Limits;

/// How long a request may take.
pub(super) trait Deadlines {
    /// Without progress.
    fn idle(&self) -> Duration;
    /// The same, once an event stream answers it.
    fn stream_idle(&self) -> Duration;
    /// With progress.
    fn cap(&self) -> Duration;
    /// With the time in which the other two stand still.
    fn absolute_cap(&self) -> Duration;
}

impl Deadlines for Limits {
    fn idle(&self) -> Duration {
        self.idle
    }

    fn stream_idle(&self) -> Duration {
        self.stream_idle
    }

    fn cap(&self) -> Duration {
        self.cap
    }

    fn absolute_cap(&self) -> Duration {
        self.absolute_cap
    }
}

/// When a request is over, whatever happens.
#[derive(Debug)]
pub(super) struct Clock {
    idle_at: Instant,
    cap_at: Instant,
    absolute_at: Instant,
    held: Option<Held>,
    /// An event stream answers it.
    is_streamed: bool,
}

/// The server waits for the client: idle timer and cap stand still.
#[derive(Debug)]
struct Held {
    /// How many server requests hold it.
    by: usize,
    since: Instant,
}

impl Clock {
    pub(super) fn start(now: Instant, limits: &impl Deadlines) -> Self {
        Self {
            idle_at: after(now, limits.idle()),
            cap_at: after(now, limits.cap()),
            absolute_at: after(now, limits.absolute_cap()),
            held: None,
            is_streamed: false,
        }
    }

    pub(super) fn due(&self) -> Instant {
        match self.held {
            Some(_) => self.absolute_at,
            None => self.idle_at.min(self.cap_at).min(self.absolute_at),
        }
    }

    pub(super) fn progress(&mut self, now: Instant, limits: &impl Deadlines) {
        // What has passed since it stands still is added when it goes on.
        let now = self.held.as_ref().map_or(now, |held| held.since);
        let idle = if self.is_streamed {
            limits.stream_idle()
        } else {
            limits.idle()
        };
        self.idle_at = after(now, idle);
    }

    /// Something came on the event stream that answers it.
    pub(super) fn stream(&mut self, now: Instant, limits: &impl Deadlines) {
        self.is_streamed = true;
        self.progress(now, limits);
    }

    pub(super) fn hold(&mut self, now: Instant) {
        match &mut self.held {
            Some(held) => held.by += 1,
            None => self.held = Some(Held { by: 1, since: now }),
        }
    }

    /// Lets it stand still, if it does not yet.
    pub(super) fn hold_once(&mut self, now: Instant) {
        if self.held.is_none() {
            self.hold(now);
        }
    }

    pub(super) fn release(&mut self, now: Instant) {
        let Some(held) = &mut self.held else { return };
        held.by -= 1;
        if held.by == 0 {
            let stood = now.saturating_duration_since(held.since);
            self.idle_at = after(self.idle_at, stood);
            self.cap_at = after(self.cap_at, stood);
            self.held = None;
        }
    }
}

/// `wait` after `start`; a wait that no clock can show is a very long one.
pub(super) fn after(start: Instant, wait: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    start
        .checked_add(wait)
        .or_else(|| start.checked_add(LONG))
        .unwrap_or(start)
}
