//! Cancellations of which other nodes are to hear: told when nothing else waits to be said, and of one session no more
//! than a few at a time, since anybody can send as many as they like.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::SessionId;
use tokio::sync::Notify;

/// Cancellations of one session that wait. One more is dropped: its call runs to its end, as one does whose
/// cancellation comes late.
const MAX_OF_SESSION: usize = 16;

/// Those of all sessions.
const MAX_WAITING: usize = 1024;

/// Cancellations that wait to be told.
#[derive(Default)]
pub(super) struct Cancellations {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

#[derive(Default)]
struct Waiting {
    in_order: VecDeque<(SessionId, RequestId)>,
    of_session: HashMap<SessionId, usize>,
}

impl Cancellations {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the others told, if there is room.
    pub(super) fn put(&self, session: SessionId, request: RequestId) {
        if self.lock().put(session, request) {
            self.bell.notify_one();
        } else {
            tracing::debug!("too many cancellations wait for other nodes; one is dropped");
        }
    }

    /// The one that waits longest. Cancel-safe: it is taken when it is returned.
    pub(super) async fn next(&self) -> (SessionId, RequestId) {
        loop {
            if let Some(next) = self.lock().take() {
                return next;
            }
            self.bell.notified().await;
        }
    }
}

impl Waiting {
    fn put(&mut self, session: SessionId, request: RequestId) -> bool {
        let of_session = self.of_session.get(&session).copied().unwrap_or_default();
        if of_session >= MAX_OF_SESSION || self.in_order.len() >= MAX_WAITING {
            return false;
        }
        self.of_session.insert(session.clone(), of_session + 1);
        self.in_order.push_back((session, request));
        true
    }

    fn take(&mut self) -> Option<(SessionId, RequestId)> {
        let (session, request) = self.in_order.pop_front()?;
        match self.of_session.get_mut(&session) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.of_session.remove(&session);
            }
        }
        Some((session, request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(n: u32) -> SessionId {
        let mut random = [0; 16];
        random[..4].copy_from_slice(&n.to_be_bytes());
        SessionId::from_random(random)
    }

    /// One session leaves room for the others, all of them have a bound, and what was told makes room again.
    #[test]
    fn c2_no_session_takes_the_room_of_others() {
        let mut waiting = Waiting::default();
        let flood = |waiting: &mut Waiting, n: u32| {
            let ids = 0..1000;
            ids.filter(|id| waiting.put(session(n), RequestId::from_integer(*id)))
                .count()
        };
        assert_eq!(flood(&mut waiting, 0), MAX_OF_SESSION);
        assert!(waiting.put(session(1), RequestId::from_integer(1)));
        let rest: usize = (2..1000).map(|n| flood(&mut waiting, n)).sum();
        assert_eq!(rest, MAX_WAITING - MAX_OF_SESSION - 1);
        assert_eq!(
            waiting.take(),
            Some((session(0), RequestId::from_integer(0)))
        );
        assert_eq!(flood(&mut waiting, 0), 1);
        while waiting.take().is_some() {}
        assert!(waiting.of_session.is_empty());
    }
}
