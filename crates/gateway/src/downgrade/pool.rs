//! The upstream sessions that requests share: which one a request runs on, and when another one is opened.

use std::collections::{BTreeMap, btree_map};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::session::Principal;
use tokio::sync::Notify;

use super::place::Place;
use crate::clock::now;
use crate::sync::{found, lock};

/// What a pool keeps.
pub(super) trait Pooled {
    fn is_over(&self) -> bool;

    /// Ends it, if nobody uses it. Requests, listens, and calls that wait for their client do.
    fn close_if_idle(&self) -> bool;
}

/// Sessions by principal and declared capabilities. A session is in it from the moment it begins to open:
/// whoever comes meanwhile waits on the session itself, so that nobody opens another.
pub(super) struct Pool<S> {
    holders: Mutex<Holders<S>>,
    /// The most of all holders.
    total: usize,
    /// How often a session had less to do than before, or was over.
    changes: AtomicU64,
    /// It did.
    freed: Notify,
}

struct Holders<S> {
    /// The sessions of each; `None`: everybody's.
    each: BTreeMap<Option<Principal>, Vec<Entry<S>>>,
    /// After how many changes none of all sessions was idle. They are not looked through again before the next:
    /// many may wait for one.
    none_idle: Option<u64>,
}

struct Entry<S> {
    declared: Bytes,
    session: Arc<S>,
    used: Instant,
}

/// How a session took what it was offered.
pub(super) enum Offer<E> {
    Taken,
    /// It cannot now, or not any more; another session may.
    Elsewhere,
    Refused(E),
}

/// Why there is no session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoSession<E> {
    /// As many as may be are open, and all of them had something to do for too long.
    Full(Bound),
    Refused(E),
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// That of one holder.
    Own,
    /// That of all of them.
    Total,
}

impl<S: Pooled> Pool<S> {
    /// An empty one, with room for so many sessions.
    pub(super) fn new(total: usize) -> Self {
        Self {
            holders: Mutex::new(Holders {
                each: BTreeMap::new(),
                none_idle: None,
            }),
            total,
            changes: AtomicU64::new(0),
            freed: Notify::new(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let holders = self.lock();
        let entries = holders.each.values().flatten();
        entries.filter(|it| !it.session.is_over()).count()
    }

    /// Offers something to the sessions of a place, `first` before the others, and to a new one if none
    /// takes it, the holder has fewer than `max` and all of them fewer than there may be. The least recently
    /// used one that nobody uses makes room for it; if there is none, it waits.
    ///
    /// # Errors
    /// [`NoSession`].
    pub(super) async fn offer<E>(
        &self,
        place: &Place,
        (max, wait): (usize, Duration),
        first: impl Fn(&S) -> bool,
        mut offer: impl FnMut(&Arc<S>) -> Offer<E>,
        open: impl Fn() -> Arc<S>,
    ) -> Result<Arc<S>, NoSession<E>> {
        let mut full = Bound::Own;
        let offered = found(&self.freed, || {
            self.try_offer(place, max, &first, &mut offer, &open)
                .map_err(|bound| full = bound)
                .ok()
        });
        let offered = tokio::time::timeout(wait, offered).await;
        offered.unwrap_or(Err(NoSession::Full(full)))
    }

    /// `Err`: there is no room for another one.
    fn try_offer<E>(
        &self,
        place: &Place,
        max: usize,
        first: &impl Fn(&S) -> bool,
        offer: &mut impl FnMut(&Arc<S>) -> Offer<E>,
        open: &impl Fn() -> Arc<S>,
    ) -> Result<Result<Arc<S>, NoSession<E>>, Bound> {
        let mut holders = self.lock();
        // One that has no session is not noted before it gets one.
        let mut none = Vec::new();
        let entries = holders.each.get_mut(&place.holder).unwrap_or(&mut none);
        entries.retain(|entry| !entry.session.is_over());
        let fits = |entry: &Entry<S>| place.is_any || entry.declared == place.declared;
        let preferred = entries.iter().position(|e| fits(e) && first(&e.session));
        let others = (0..entries.len()).filter(|at| Some(*at) != preferred);
        for at in preferred.into_iter().chain(others) {
            let entry = &mut entries[at];
            if !fits(entry) {
                continue;
            }
            match offer(&entry.session) {
                Offer::Taken => {
                    entry.used = now();
                    return Ok(Ok(Arc::clone(&entry.session)));
                }
                Offer::Elsewhere => {}
                Offer::Refused(error) => return Ok(Err(NoSession::Refused(error))),
            }
        }
        self.make_room(&mut holders, place, max)?;
        let session = open();
        let offered = offer(&session);
        let entries = holders.each.entry(place.holder.clone()).or_default();
        entries.push(Entry {
            declared: place.declared.clone(),
            session: Arc::clone(&session),
            used: now(),
        });
        Ok(match offered {
            Offer::Taken => Ok(session),
            Offer::Refused(error) => Err(NoSession::Refused(error)),
            // A new one that takes nothing: so will the next.
            Offer::Elsewhere => Err(NoSession::Full(Bound::Own)),
        })
    }

    /// Makes room for another session of a holder, if it may have one.
    fn make_room(&self, holders: &mut Holders<S>, place: &Place, max: usize) -> Result<(), Bound> {
        let own = holders.each.get(&place.holder);
        if own.map_or(0, Vec::len) >= max {
            let is_closed = holders.close_idle(Some(&place.holder));
            return is_closed.then_some(()).ok_or(Bound::Own);
        }
        if holders.len() < self.total {
            return Ok(());
        }
        let changes = self.changes.load(Ordering::Acquire);
        if holders.none_idle != Some(changes) {
            if holders.close_idle(None) {
                return Ok(());
            }
            holders.none_idle = Some(changes);
        }
        Err(Bound::Total)
    }

    /// A session has less to do than before.
    pub(super) fn freed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.freed.notify_waiters();
    }

    #[cfg(test)]
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// A session is over.
    pub(super) fn ended(&self) {
        let mut holders = self.lock();
        let mut over = Vec::new();
        holders.each.retain(|_, entries| {
            over.extend(entries.extract_if(.., |entry| entry.session.is_over()));
            !entries.is_empty()
        });
        drop(holders);
        drop(over);
        self.freed();
    }

    fn lock(&self) -> MutexGuard<'_, Holders<S>> {
        lock(&self.holders)
    }
}

impl<S: Pooled> Holders<S> {
    fn len(&self) -> usize {
        self.each.values().map(Vec::len).sum()
    }

    /// Ends the least recently used session that nobody uses, of this holder or of all; one that is over
    /// makes room, too. `false`: there is none.
    fn close_idle(&mut self, of: Option<&Option<Principal>>) -> bool {
        let each: Vec<_> = match of {
            Some(holder) => self.each.get_key_value(holder).into_iter().collect(),
            None => self.each.iter().collect(),
        };
        let each = each.into_iter();
        let mut oldest: Vec<_> = each
            .flat_map(|(holder, entries)| entries.iter().map(move |entry| (holder, entry)))
            .collect();
        oldest.sort_unstable_by_key(|(_, entry)| entry.used);
        let closed = oldest.into_iter().find(|(_, entry)| {
            let session = &entry.session;
            session.is_over() || session.close_if_idle()
        });
        let Some((holder, entry)) = closed else {
            return false;
        };
        let (holder, closed) = (holder.clone(), Arc::clone(&entry.session));
        if let btree_map::Entry::Occupied(mut own) = self.each.entry(holder) {
            own.get_mut()
                .retain(|entry| !Arc::ptr_eq(&entry.session, &closed));
            if own.get().is_empty() {
                own.remove();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use thinpipe_proto::bridge::downgrade::{Channel, Lifetime};

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    #[derive(Default)]
    struct Session {
        number: usize,
        users: AtomicUsize,
        is_over: AtomicBool,
    }

    impl Pooled for Session {
        fn is_over(&self) -> bool {
            self.is_over.load(Ordering::Relaxed)
        }

        fn close_if_idle(&self) -> bool {
            let idle = self.users.load(Ordering::Relaxed) == 0;
            self.is_over.store(idle, Ordering::Relaxed);
            idle
        }
    }

    struct Setup {
        pool: Pool<Session>,
        opened: AtomicUsize,
        /// How many users a session takes.
        users: usize,
    }

    impl Setup {
        fn new(users: usize) -> Self {
            Self {
                pool: Pool::new(4),
                opened: AtomicUsize::new(0),
                users,
            }
        }

        async fn take(&self, place: &Place) -> Result<Arc<Session>, NoSession<&'static str>> {
            let offer = |session: &Arc<Session>| {
                if session.is_over() || session.users.load(Ordering::Relaxed) == self.users {
                    return Offer::Elsewhere;
                }
                session.users.fetch_add(1, Ordering::Relaxed);
                Offer::Taken
            };
            let open = || {
                Arc::new(Session {
                    number: self.opened.fetch_add(1, Ordering::Relaxed),
                    ..Session::default()
                })
            };
            self.pool
                .offer(place, (2, WAIT), |_| false, offer, open)
                .await
        }
    }

    fn place(name: &str, declared: &'static str) -> Place {
        Place {
            lifetime: Lifetime::Pooled,
            channel: Channel::Streams,
            is_any: false,
            holder: Some(Principal::Named(name.into())),
            declared: declared.into(),
        }
    }

    /// R230, R231: one session for a key, and none for two.
    #[tokio::test]
    async fn r231_a_session_belongs_to_one_key() {
        let setup = Setup::new(usize::MAX);
        let mut numbers = Vec::new();
        for (name, declared) in [
            ("a", "{}"),
            ("b", "{}"),
            ("a", "1"),
            ("a", "{}"),
            ("b", "{}"),
        ] {
            numbers.push(setup.take(&place(name, declared)).await.unwrap().number);
        }
        assert_eq!(numbers, [0, 1, 2, 0, 1]);
    }

    /// 5.4.1: what says the same on all of them needs none of its own.
    #[tokio::test]
    async fn what_fits_any_session_opens_none() {
        let setup = Setup::new(usize::MAX);
        let any = Place {
            is_any: true,
            ..place("a", "{}")
        };
        setup.take(&place("b", "{}")).await.unwrap();
        let own = setup.take(&place("a", "1")).await.unwrap();
        assert_eq!(setup.take(&any).await.unwrap().number, own.number);
    }

    /// 5.4.1: as many as may be, then the least recently used one that nobody uses makes room.
    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_makes_room() {
        let setup = Setup::new(usize::MAX);
        for declared in ["1", "2", "1"] {
            let session = setup.take(&place("a", declared)).await.unwrap();
            session.users.store(0, Ordering::Relaxed);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // Of another principal, and older.
        setup.take(&place("b", "1")).await.unwrap();
        assert_eq!(setup.take(&place("a", "3")).await.unwrap().number, 3);
        assert_eq!(setup.take(&place("a", "1")).await.unwrap().number, 0);
        let full = setup.take(&place("a", "2")).await;
        assert_eq!(full.err(), Some(NoSession::Full(Bound::Own)));
    }

    /// 5.4.1: with none idle it waits, and no longer than it may.
    #[tokio::test(start_paused = true)]
    async fn who_finds_none_waits() {
        let setup = Setup::new(1);
        let a = place("a", "{}");
        let first = setup.take(&a).await.unwrap();
        setup.take(&a).await.unwrap();
        let began = tokio::time::Instant::now();
        let full = setup.take(&a).await;
        assert_eq!(full.err(), Some(NoSession::Full(Bound::Own)));
        assert_eq!(began.elapsed(), WAIT);
        let later = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            first.users.store(0, Ordering::Relaxed);
            setup.pool.freed();
        };
        let (taken, ()) = tokio::join!(setup.take(&a), later);
        assert_eq!(taken.unwrap().number, first.number);
    }

    /// T15: what all principals have together is bounded too; the least recently used one that nobody uses
    /// makes room, whoever's it is, and who is in use loses nothing.
    #[tokio::test(start_paused = true)]
    async fn the_sessions_of_all_principals_are_bounded() {
        let setup = Setup::new(1);
        let mut sessions = Vec::new();
        for (name, declared) in [("a", "1"), ("a", "2"), ("b", "1"), ("c", "1")] {
            sessions.push(setup.take(&place(name, declared)).await.unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let full = setup.take(&place("d", "1")).await;
        assert_eq!(full.err(), Some(NoSession::Full(Bound::Total)));
        sessions[2].users.store(0, Ordering::Relaxed);
        let waiting = async { setup.take(&place("d", "1")).await.unwrap().number };
        let later = async { setup.pool.freed() };
        let (number, ()) = tokio::join!(waiting, later);
        assert_eq!(number, 4);
        let over: Vec<_> = sessions.iter().map(|session| session.is_over()).collect();
        assert_eq!(over, [false, false, true, false]);
        // Those of one that has all it may have are its own business.
        let full = setup.take(&place("a", "3")).await;
        assert_eq!(full.err(), Some(NoSession::Full(Bound::Own)));
        sessions[0].users.store(0, Ordering::Relaxed);
        setup.take(&place("a", "3")).await.unwrap();
        assert_eq!(setup.pool.count(), 4);
    }

    /// T15: who is refused leaves nothing behind.
    #[tokio::test(start_paused = true)]
    async fn who_gets_no_session_is_not_noted() {
        let setup = Setup::new(1);
        for declared in ["1", "2"] {
            setup.take(&place("a", declared)).await.unwrap();
            setup.take(&place("b", declared)).await.unwrap();
        }
        for name in ["c", "d", "e"] {
            let full = setup.take(&place(name, "{}")).await;
            assert_eq!(full.err(), Some(NoSession::Full(Bound::Total)));
        }
        assert_eq!(setup.pool.lock().each.len(), 2);
    }

    /// One that is over is not offered anything, and takes no place.
    #[tokio::test]
    async fn sessions_that_are_over_are_forgotten() {
        let setup = Setup::new(1);
        for number in 0..10 {
            let session = setup.take(&place("a", "{}")).await.unwrap();
            assert_eq!(session.number, number);
            session.is_over.store(true, Ordering::Relaxed);
        }
        assert_eq!(setup.pool.lock().len(), 1);
    }
}
