//! What becomes of sessions that nobody uses: swept by the clock, and ended to make room.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use thinpipe_store::StoreError;
use tokio_util::sync::CancellationToken;

use super::manager::Inner;
use super::slot::Place;
use super::{Session, SessionEnd, SessionError, SessionManager, lock};
use crate::io::now;
use crate::server::history::History;

/// How often room is made at most while every place is taken, in ms.
const ROOM_EVERY_MS: u64 = 1000;

/// One in so many gives way at once, so that those to do so are not looked for again and again.
const SHARE: usize = 16;

/// Sessions that are swept at one time.
const AT_ONCE: usize = 64;

/// What is left of a sweep.
struct Left {
    sessions: std::vec::IntoIter<Arc<Session>>,
    /// The store is out of reach.
    is_over: bool,
}

impl Left {
    fn next(&mut self) -> Option<Arc<Session>> {
        if self.is_over {
            return None;
        }
        self.sessions.next()
    }
}

/// What is to become of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It lives on, and its record with it.
    Keep,
    /// It ends.
    End,
    /// It ends here, and lives on where it is used.
    Forget,
    /// Nobody uses it here. What its record says depends on the other nodes.
    Ask,
    /// Nobody uses it here, and its record lasts for as long as was promised.
    Wait,
    /// The same of one that is too old: it ends with its record, which only lasts while something of it runs.
    RunOut,
}

impl SessionManager {
    /// Ends what has been idle for too long or is too old, and keeps the records of the others alive. Of
    /// streams that can be resumed it forgets what was kept for long enough.
    ///
    /// A session that any node can serve ends when no node has used it for so long: one that does not use it
    /// any more only forgets it.
    pub async fn sweep(&self) {
        self.inner.history.sweep();
        let sessions = self.list();
        let turns = sessions.len().min(AT_ONCE);
        let left = Mutex::new(Left {
            sessions: sessions.into_iter(),
            is_over: false,
        });
        // Side by side: one after the other, thousands would keep their records waiting for longer than those last.
        let mut turns: Vec<_> = (0..turns)
            .map(|_| Box::pin(self.sweep_in_turn(&left)))
            .collect();
        poll_fn(|cx| {
            turns.retain_mut(|turn| turn.as_mut().poll(cx).is_pending());
            match turns.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    async fn sweep_in_turn(&self, left: &Mutex<Left>) {
        loop {
            let next = lock(left).next();
            let Some(session) = next else {
                return;
            };
            let now = now();
            let fate = self.fate(&session, now);
            let done = self.meet(&session, fate, now).await;
            let is_out_of_reach =
                matches!(&done, Err(SessionError::Store(error)) if error.is_transient());
            if !is_out_of_reach || self.nodes().is_none() {
                note_failure(&session, done);
                continue;
            }
            // It would be waited for as often as there are sessions. The next sweep makes up for it.
            if !std::mem::replace(&mut lock(left).is_over, true) {
                note_failure(&session, done);
            }
        }
    }

    async fn meet(
        &self,
        session: &Arc<Session>,
        fate: Fate,
        now: Instant,
    ) -> Result<(), SessionError> {
        // Two nodes that both have it for their own would go on for good with what one of them has missed.
        let is_shared = session.is_held() && self.nodes().is_some();
        if is_shared && !self.refresh(session).await? {
            return Ok(());
        }
        match fate {
            Fate::Keep => self.keep(session, session.idle_for(now)).await,
            Fate::Wait => Ok(()),
            Fate::End => self.end(session, SessionEnd::Expired).await,
            Fate::Forget => {
                self.forget(session);
                Ok(())
            }
            Fate::Ask => {
                // As long as this node has promised it would be gone by now.
                if self.stored(session.id()).await?.is_some() {
                    self.forget(session);
                    return Ok(());
                }
                self.end(session, SessionEnd::Expired).await
            }
            Fate::RunOut => {
                if self.stored(session.id()).await?.is_some() {
                    return Ok(());
                }
                self.end(session, SessionEnd::Expired).await
            }
        }
    }

    fn fate(&self, session: &Session, now: Instant) -> Fate {
        let limits = &self.inner.limits;
        let Some(idle) = session.idle_for(now) else {
            return Fate::Keep;
        };
        let used = self.inner.places.load(Ordering::Relaxed);
        let has_expired = idle >= limits.idle_under_pressure(used);
        let is_old = self.is_old(session, now);
        if self.nodes().is_none() || session.is_held() {
            return if has_expired || is_old {
                Fate::End
            } else {
                Fate::Keep
            };
        }
        // Other nodes may use it.
        match (has_expired, is_old) {
            _ if idle >= self.ttl() => Fate::Ask,
            (_, true) => Fate::RunOut,
            // Room is short here. Who comes back finds its session all the same.
            (true, false) if idle < limits.idle => Fate::Forget,
            (true, false) => Fate::Wait,
            (false, false) => Fate::Keep,
        }
    }

    /// Whether a session ends as soon as nobody uses it. What uses it only now and then does not make its record last
    /// any longer.
    pub(super) fn is_old(&self, session: &Session, now: Instant) -> bool {
        session.age(now) >= self.inner.limits.age
    }

    fn since_epoch_ms(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.inner.epoch).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// Ends what has expired, if nobody did within the last second. A pass over a full table costs
    /// milliseconds, and whoever is refused asks again.
    pub(super) async fn make_room(&self) {
        let inner = &self.inner;
        let now = now();
        let since = self.since_epoch_ms(now);
        let due = inner.room_at_ms.load(Ordering::Relaxed);
        let next = since.saturating_add(ROOM_EVERY_MS);
        let swap = |from| {
            let relaxed = Ordering::Relaxed;
            inner
                .room_at_ms
                .compare_exchange(from, next, relaxed, relaxed)
        };
        if since < due || swap(due).is_err() {
            return;
        }
        let expired: Vec<_> = {
            let live = inner.live.pin();
            let expired = live.values().filter(|s| self.gives_way(s, now).is_some());
            expired.cloned().collect()
        };
        for session in expired {
            // Each one that ends makes the others' time longer.
            if let Some(fate) = self.gives_way(&session, now) {
                note_failure(&session, self.meet(&session, fate, now).await);
            }
        }
    }

    /// A place for a session that is in the store already. Where none is free, sessions that others serve as well, and
    /// that nobody uses here just now, give way: who comes back finds them all the same.
    ///
    /// # Errors
    /// [`SessionError::Full`].
    pub(super) async fn place_for_known(&self) -> Result<Place, SessionError> {
        if let Ok(place) = self.place_or_full() {
            return Ok(place);
        }
        self.make_room().await;
        if let Ok(place) = self.place_or_full() {
            return Ok(place);
        }
        if self.nodes().is_some() {
            self.forget_some();
        }
        self.place_or_full()
    }

    /// Forgets those that were used least recently. If all are in use, they are not looked through again within a
    /// second.
    fn forget_some(&self) {
        let (since, in_use_until) = (self.since_epoch_ms(now()), &self.inner.in_use_until_ms);
        if since < in_use_until.load(Ordering::Relaxed) {
            return;
        }
        let mut unused: Vec<_> = {
            let live = self.inner.live.pin();
            let unused = live.values().filter(|it| it.is_idle() && !it.is_ended());
            unused.filter(|it| !it.is_held()).cloned().collect()
        };
        if unused.is_empty() {
            in_use_until.store(since.saturating_add(ROOM_EVERY_MS), Ordering::Relaxed);
        }
        unused.sort_by_cached_key(|session| session.last_used());
        for session in unused.iter().take(self.inner.limits.max.div_ceil(SHARE)) {
            self.forget(session);
        }
    }

    /// What has to be done for a session to give its place back; `None`: it keeps it.
    fn gives_way(&self, session: &Session, now: Instant) -> Option<Fate> {
        match self.fate(session, now) {
            Fate::Keep => None,
            // No place is free: it lives on in the store.
            Fate::Wait | Fate::RunOut => Some(Fate::Forget),
            fate => Some(fate),
        }
    }

    /// Sweeps at the configured interval until `stop` is cancelled or the manager is dropped.
    pub fn start_sweeping(&self, stop: CancellationToken) {
        let weak = Arc::downgrade(&self.inner);
        let every = self.inner.limits.sweep;
        let history = self.inner.history.clone();
        self.inner.tasks.spawn(async move {
            // Cancel-safe: a sweep that is cut off is made up for by whoever ends the sessions.
            let sweeping = sweep_loop(weak, every, history);
            let _ = stop.run_until_cancelled(sweeping).await;
        });
    }

    async fn keep(
        &self,
        session: &Arc<Session>,
        idle: Option<Duration>,
    ) -> Result<(), SessionError> {
        let left = self
            .inner
            .limits
            .idle
            .saturating_sub(idle.unwrap_or_default())
            + 2 * self.inner.limits.sweep;
        match self.inner.store.touch(session.id(), left).await {
            // Somebody else ended it.
            Err(StoreError::NotFound) => {
                self.ended_elsewhere(session);
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

fn note_failure(session: &Session, done: Result<(), SessionError>) {
    if let Err(error) = done {
        tracing::warn!(session = ?session.id(), %error, "sweeping a session failed");
    }
}

async fn sweep_loop(manager: Weak<Inner>, every: Duration, history: History) {
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    // A late tick is one sweep, not a burst of them.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // There is a pause between two ticks, in which room is made.
            biased;
            // Cancel-safe: a tick is taken when it is returned.
            _ = tick.tick() => {}
            // Cancel-safe: who is not told now is told at the next message that is kept.
            () = history.overfull() => {
                history.make_room();
                continue;
            }
        }
        let Some(inner) = manager.upgrade() else {
            return;
        };
        SessionManager { inner }.sweep().await;
    }
}
