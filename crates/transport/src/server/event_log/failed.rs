//! What could not be written, until it is tried again: each stream by itself, since a part of the log may be away and
//! the rest answers.

use std::collections::VecDeque;

use thinpipe_proto::session::SessionId;
use tokio::time::Instant;

use super::worker::{PATIENCE, Waiting, Work};

/// Requests that have failed, with when they are tried again. All wait for the same time, so that the first of a queue
/// is due before the others, or hardly later.
#[derive(Default)]
pub(super) struct Failed {
    /// Streams whose readers wait.
    waiting: VecDeque<(Instant, Waiting)>,
    /// Streams whose readers do not.
    pub(super) behind: VecDeque<(Instant, Waiting)>,
    /// Sessions to forget.
    pub(super) sessions: VecDeque<(Instant, SessionId)>,
    /// No reader has waited for too long before.
    pub(super) late: Option<Instant>,
}

impl Failed {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.behind.len() + self.sessions.len()
    }

    pub(super) fn put(&mut self, mut waiting: Waiting, due: Instant) {
        waiting.again = true;
        if waiting.is_behind {
            self.behind.push_back((due, waiting));
            return;
        }
        let late = waiting.since + PATIENCE;
        self.late = Some(self.late.map_or(late, |other| other.min(late)));
        self.waiting.push_back((due, waiting));
    }

    /// Takes out the streams whose readers have waited for too long.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<(Instant, Waiting)> {
        if self.late.is_none_or(|late| now < late) {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.waiting);
        let (late, in_time): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(_, waiting)| waiting.is_late(now));
        let next = in_time.iter().map(|(_, waiting)| waiting.since + PATIENCE);
        self.late = next.min();
        self.waiting = in_time.into();
        late
    }

    /// Takes what is to be tried again, first that for which readers wait.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Work> {
        if let Some(waiting) = pop_due(&mut self.waiting, now) {
            return Some(Work::Write(waiting));
        }
        if let Some(waiting) = pop_due(&mut self.behind, now) {
            return Some(Work::Write(waiting));
        }
        let session = pop_due(&mut self.sessions, now)?;
        Some(Work::Forget(session, true))
    }

    /// When the next is to be tried again.
    pub(super) fn due(&self) -> Option<Instant> {
        let streams = [&self.waiting, &self.behind].map(|queue| queue.front().map(|(due, _)| *due));
        let session = self.sessions.front().map(|(due, _)| *due);
        streams.into_iter().chain([session]).flatten().min()
    }
}

fn pop_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<T> {
    queue.front().filter(|(due, _)| *due <= now)?;
    queue.pop_front().map(|(_, item)| item)
}
