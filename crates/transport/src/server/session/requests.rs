//! The requests of a session, as far as they are known here.

use std::time::Instant;

use thinpipe_proto::bridge::{EarlyCancels, MAX_KEPT};
use thinpipe_proto::rpc::RequestId;

/// Why a request may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotBegun {
    /// One with this id is running.
    Running,
    /// As many are running as may be.
    Full,
}

/// Those that are running, and cancellations of others.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) running: Vec<Running>,
    /// They may have overtaken their requests on another connection, or by way of another node (protocol notes 5.1,
    /// "Cancel", and 5.8.9).
    /// `None`: there was none lately. Most sessions never have one.
    early: Option<Box<EarlyCancels>>,
}

/// What is known of a request that is running.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: RequestId,
    pub(super) is_cancelled: bool,
}

impl Requests {
    /// A request comes.
    ///
    /// # Errors
    /// One with this id is running, or `limit` are.
    pub(super) fn begin(
        &mut self,
        id: &RequestId,
        limit: usize,
        now: Instant,
    ) -> Result<(), NotBegun> {
        if self.running.len() >= limit {
            return Err(NotBegun::Full);
        }
        if self.running.iter().any(|running| running.id == *id) {
            return Err(NotBegun::Running);
        }
        let is_cancelled = self.take_early(id, now);
        if self.running.is_empty() {
            // Most clients run one at a time, and a session that waits holds none.
            self.running.reserve_exact(1);
        }
        self.running.push(Running {
            id: id.clone(),
            is_cancelled,
        });
        Ok(())
    }

    fn take_early(&mut self, id: &RequestId, now: Instant) -> bool {
        let Some(early) = &mut self.early else {
            return false;
        };
        let is_cancelled = early.take(id, now);
        if early.is_empty() {
            self.early = None;
        }
        is_cancelled
    }

    /// Whether this one is running. It is cancelled, now or when it comes.
    pub(super) fn cancel(&mut self, id: &RequestId, now: Instant) -> bool {
        let running = self.running.iter_mut().find(|running| running.id == *id);
        if let Some(running) = running {
            running.is_cancelled = true;
            return true;
        }
        if id.as_json().len() <= MAX_KEPT {
            self.early.get_or_insert_default().remember(id.clone(), now);
        }
        false
    }

    pub(super) fn end(&mut self, id: &RequestId) {
        if let Some(at) = self.running.iter().position(|running| running.id == *id) {
            self.running.swap_remove(at);
        }
        if self.running.is_empty() {
            // A session that waits holds nothing it does not need.
            self.running = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use thinpipe_proto::bridge::EARLY_CANCEL_AGE;

    use super::*;

    /// 5.8.9: a cancellation that is here before its request counts for it, once, and for a while.
    #[test]
    fn f8_a_cancellation_may_come_before_its_request() {
        let (id, mut now) = (RequestId::from_integer(1), Instant::now());
        let mut requests = Requests::default();
        let runs_cancelled = |requests: &mut Requests, now| {
            requests.begin(&id, 8, now).unwrap();
            let is_cancelled = requests.running[0].is_cancelled;
            requests.end(&id);
            is_cancelled
        };
        assert!(!requests.cancel(&id, now));
        assert!(runs_cancelled(&mut requests, now));
        assert!(!runs_cancelled(&mut requests, now), "it counts once");
        requests.cancel(&id, now);
        now += EARLY_CANCEL_AGE + Duration::from_millis(1);
        assert!(!runs_cancelled(&mut requests, now), "it is forgotten");
        requests.begin(&id, 8, now).unwrap();
        assert!(requests.cancel(&id, now));
        assert_eq!(requests.begin(&id, 8, now), Err(NotBegun::Running));
        requests.end(&id);
        assert!(!runs_cancelled(&mut requests, now));
    }
}
