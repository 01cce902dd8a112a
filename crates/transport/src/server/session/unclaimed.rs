//! Cancellations that came before their session did: of requests that are still on their way to this node, or that
//! never come here (protocol notes 5.8.9).

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use thinpipe_proto::bridge::{EARLY_CANCEL_AGE, MAX_EARLY_CANCELS, MAX_KEPT};
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::SessionId;

/// Those of all sessions. One more is dropped: its call is answered as if its cancellation had come late.
const MAX_UNCLAIMED: usize = 1024;

/// What other nodes have said about sessions that are not live here, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Unclaimed {
    waiting: Mutex<VecDeque<Cancellation>>,
}

#[derive(Debug)]
struct Cancellation {
    session: SessionId,
    request: RequestId,
    at: Instant,
}

impl Unclaimed {
    /// Keeps one for whoever takes the session up within [`EARLY_CANCEL_AGE`]. One session takes no more than
    /// [`MAX_EARLY_CANCELS`] places of the [`MAX_UNCLAIMED`]; as many sessions as it takes to fill all of them, be they
    /// of one principal, leave no room for others until then.
    pub(super) fn keep(&self, session: &SessionId, request: &RequestId, now: Instant) {
        if request.as_json().len() > MAX_KEPT {
            return;
        }
        // Nothing panics while it is held.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.front().is_some_and(|oldest| oldest.is_over(now)) {
            waiting.pop_front();
        }
        let of_session = waiting.iter().filter(|kept| kept.session == *session);
        if of_session.count() < MAX_EARLY_CANCELS && waiting.len() < MAX_UNCLAIMED {
            waiting.push_back(Cancellation {
                session: session.clone(),
                request: request.clone(),
                at: now,
            });
        }
    }

    /// Takes those of a session, each with the time at which it came.
    pub(super) fn take(&self, session: &SessionId, now: Instant) -> Vec<(RequestId, Instant)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        waiting.retain(|kept| {
            let is_its = kept.session == *session && !kept.is_over(now);
            if is_its {
                taken.push((kept.request.clone(), kept.at));
            }
            !is_its
        });
        taken
    }
}

impl Cancellation {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= EARLY_CANCEL_AGE
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn session(n: u32) -> SessionId {
        let mut random = [0; 16];
        random[..4].copy_from_slice(&n.to_be_bytes());
        SessionId::from_random(random)
    }

    /// 5.8.9: each session gets its own, once, and none that is too old.
    #[test]
    fn f8_a_session_takes_its_own() {
        let (unclaimed, now) = (Unclaimed::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        let id = RequestId::from_integer;
        unclaimed.keep(&session(1), &id(1), now);
        unclaimed.keep(&session(2), &id(1), now);
        unclaimed.keep(&session(1), &id(2), later);
        let over = now + EARLY_CANCEL_AGE;
        assert_eq!(unclaimed.take(&session(1), over), [(id(2), later)]);
        assert_eq!(unclaimed.take(&session(1), over), []);
        assert_eq!(unclaimed.take(&session(2), later), [(id(1), now)]);
    }

    /// C2: neither one session nor all of them make it grow, and what is over gives its room back.
    #[test]
    fn c2_what_is_kept_is_bounded() {
        let (unclaimed, now) = (Unclaimed::default(), Instant::now());
        for of in 0..100 {
            for request in 0..100 {
                unclaimed.keep(&session(of), &RequestId::from_integer(request), now);
            }
        }
        unclaimed.keep(&session(500), &RequestId::from_text(&"x".repeat(5000)), now);
        let kept = || unclaimed.waiting.lock().unwrap().len();
        assert_eq!(kept(), MAX_UNCLAIMED);
        assert_eq!(unclaimed.take(&session(0), now).len(), MAX_EARLY_CANCELS);
        let id = RequestId::from_integer(1);
        unclaimed.keep(&session(500), &id, now + EARLY_CANCEL_AGE);
        assert_eq!(kept(), 1);
    }
}
