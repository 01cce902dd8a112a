//! One budget for all bytes that are held whole.
//!
//! What streams through is bounded by its buffers. What has to be whole before it can go on (a
//! request body, an answer that interceptors read) is bounded one by one, and all of it together by a
//! [`ByteBudget`]: else the sum would be as many of them as there may be, each as large as it may be.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::io::READ_SIZE;

/// A bounded number of bytes, exact under concurrency. Cheap to clone; clones are the same budget.
///
/// Nobody ever waits for room. Who waits holds what it has read so far, and those who could give back
/// may be waiting themselves for a message that finds no room.
#[derive(Clone)]
pub struct ByteBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    used: AtomicUsize,
    limit: usize,
}

/// The budget has no room for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for {bytes} bytes: at most {limit} are held at one time")]
pub struct NoRoom {
    /// How many bytes were to be held.
    pub bytes: usize,
    /// How many the budget has.
    pub limit: usize,
}

/// Bytes of a [`ByteBudget`]; given back on drop.
#[derive(Debug)]
#[must_use = "dropping it gives the bytes back"]
pub struct Reserved {
    shared: Arc<Shared>,
    bytes: usize,
}

impl ByteBudget {
    /// One message of up to so many bytes costs nothing. How many of those there are is bounded
    /// elsewhere (requests, connections, streams), each at about what one read from a socket takes
    /// anyway. So the messages that give room back, answers of clients and notifications, always pass.
    pub const FREE: usize = READ_SIZE;

    /// The default limit: 256 MiB.
    pub const DEFAULT_LIMIT: usize = 256 << 20;

    /// A budget of so many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let used = AtomicUsize::new(0);
        Self {
            shared: Arc::new(Shared { used, limit }),
        }
    }

    /// Room for one message of so many bytes.
    ///
    /// # Errors
    /// [`NoRoom`], at once.
    pub fn reserve(&self, bytes: usize) -> Result<Reserved, NoRoom> {
        let mut reserved = self.empty();
        reserved.resize(bytes)?;
        Ok(reserved)
    }

    /// Room for a message of which nothing has come yet: it is to be [resized](Reserved::resize).
    pub fn empty(&self) -> Reserved {
        Reserved {
            shared: Arc::clone(&self.shared),
            bytes: 0,
        }
    }

    /// Takes a message that is whole already into the budget, for as long as any part of it is kept.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn hold(&self, message: Bytes) -> Result<Bytes, NoRoom> {
        if message.len() <= Self::FREE {
            return Ok(message);
        }
        Ok(self.reserve(message.len())?.hold(message))
    }

    /// Bytes held now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// How many there are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.shared.limit
    }
}

impl Default for ByteBudget {
    fn default() -> Self {
        Self::new(Self::DEFAULT_LIMIT)
    }
}

impl fmt::Debug for ByteBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shared, f)
    }
}

impl Reserved {
    /// Makes room for a message of so many bytes in all; a message that shrinks gives back.
    ///
    /// # Errors
    /// [`NoRoom`]; what was reserved before stays.
    pub fn resize(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let counted = if bytes <= ByteBudget::FREE { 0 } else { bytes };
        let Shared { used, limit } = &*self.shared;
        if counted > self.bytes {
            let more = counted - self.bytes;
            let fits = |now: usize| now.checked_add(more).filter(|sum| sum <= limit);
            used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
                .map_err(|_| NoRoom {
                    bytes,
                    limit: *limit,
                })?;
        } else if counted < self.bytes {
            used.fetch_sub(self.bytes - counted, Ordering::AcqRel);
        }
        self.bytes = counted;
        Ok(())
    }

    /// Ties the room to the bytes it was reserved for: it is given back when the last part of them
    /// that anybody keeps is dropped.
    #[must_use]
    pub fn hold(self, bytes: Bytes) -> Bytes {
        if self.bytes == 0 {
            return bytes;
        }
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.used.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }
}

struct Held {
    bytes: Bytes,
    _room: Reserved,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A message that is being read whole.
#[derive(Debug)]
pub(crate) struct Gathering {
    /// What has come.
    pub(crate) bytes: Vec<u8>,
    room: Reserved,
    /// How many there may be.
    limit: usize,
}

impl Gathering {
    /// Begins one of this length, all of which is here or made here: it has its room from the start.
    pub(crate) fn of_length(budget: &ByteBudget, length: usize) -> Result<Self, NoRoom> {
        Ok(Self {
            room: budget.reserve(length)?,
            bytes: Vec::with_capacity(length),
            limit: length,
        })
    }

    /// Begins one that is said to be this long. If there is no room for it now it is refused before it is
    /// read, but it takes its room only as it comes: a promise costs nobody anything.
    pub(crate) fn announced(budget: &ByteBudget, length: usize) -> Result<Self, NoRoom> {
        drop(budget.reserve(length)?);
        Ok(Self::up_to(budget, length))
    }

    /// Begins one of unknown length, up to a limit that whoever reads it watches over.
    pub(crate) fn up_to(budget: &ByteBudget, limit: usize) -> Self {
        Self {
            room: budget.empty(),
            bytes: Vec::new(),
            limit,
        }
    }

    /// To be called whenever bytes were appended: what is counted is what is allocated. A vector left
    /// to itself would double, and a message just over half the budget would not fit.
    pub(crate) fn grown(&mut self) -> Result<(), NoRoom> {
        let (length, capacity) = (self.bytes.len(), self.bytes.capacity());
        if length <= ByteBudget::FREE {
            return Ok(());
        }
        self.room.resize(capacity)?;
        // Without room for more, what is to come may still be the end.
        for more in [length / 4, READ_SIZE] {
            let next = (length + more.max(READ_SIZE)).min(self.limit);
            let is_full = capacity - length < READ_SIZE && next > capacity;
            if is_full && self.room.resize(next).is_ok() {
                self.bytes.reserve_exact(next - length);
                break;
            }
        }
        Ok(())
    }

    /// The whole message, with its room.
    pub(crate) fn finish(self) -> Bytes {
        self.room.hold(Bytes::from(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIG: usize = ByteBudget::FREE + 1;

    /// B6, T13: the cap is exact when many ask at once, and everything comes back.
    #[test]
    fn b10_bytes_are_exact_under_concurrency() {
        let budget = ByteBudget::new(100 * BIG + 1);
        let taken: Vec<_> = std::thread::scope(|scope| {
            let ask = || {
                let asked = (0..50).filter_map(|_| budget.reserve(BIG).ok());
                asked.collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let taken = threads.into_iter().flat_map(|t| t.join().unwrap());
            taken.collect()
        });
        assert_eq!((taken.len(), budget.used()), (100, 100 * BIG));
        let refused = budget.reserve(BIG).unwrap_err();
        assert_eq!((refused.bytes, refused.limit), (BIG, 100 * BIG + 1));
        drop(taken);
        assert_eq!(budget.used(), 0);
    }

    /// Small messages pass whatever else is held.
    #[test]
    fn b10_small_messages_cost_nothing() {
        let budget = ByteBudget::new(0);
        assert!(budget.reserve(BIG).is_err());
        let mut small = budget.reserve(ByteBudget::FREE).unwrap();
        assert!(small.resize(BIG).is_err());
        assert_eq!(&small.hold("text".into())[..], b"text");
    }

    /// The room is held for as long as any part of the bytes is.
    #[test]
    fn b10_room_is_held_with_the_bytes() {
        let budget = ByteBudget::new(10 * BIG);
        let mut gathering = Gathering::of_length(&budget, BIG).unwrap();
        assert_eq!(budget.used(), BIG, "before the first byte has come");
        gathering.bytes.resize(BIG, b'x');
        gathering.grown().unwrap();
        assert_eq!(budget.used(), BIG);
        let whole = gathering.finish();
        let part = whole.slice(10..20);
        drop(whole);
        assert_eq!(budget.used(), BIG);
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    /// What grows is refused when the budget is used up, not much earlier, and gives back what it had.
    #[test]
    fn b10_what_grows_too_far_is_refused() {
        const ALL: usize = 1 << 20;
        let budget = ByteBudget::new(ALL);
        let mut gathering = Gathering::up_to(&budget, 2 * ALL);
        let mut fitted = 0;
        loop {
            gathering.bytes.extend_from_slice(&[b'x'; 1000]);
            if gathering.grown().is_err() {
                break;
            }
            fitted = gathering.bytes.len();
            assert!(budget.used() <= ALL);
            assert!(fitted <= ByteBudget::FREE || budget.used() == gathering.bytes.capacity());
        }
        assert!((ALL / 5 * 4..=ALL).contains(&fitted), "{fitted}");
        drop(gathering);
        assert_eq!(budget.used(), 0);
    }

    /// A message as large as the budget fits, whether or not it says so beforehand.
    #[test]
    fn b10_one_message_may_take_all() {
        const ALL: usize = 1 << 20;
        let budget = ByteBudget::new(ALL);
        let mut gathering = Gathering::up_to(&budget, ALL);
        while gathering.bytes.len() < ALL {
            let piece = (ALL - gathering.bytes.len()).min(READ_SIZE);
            gathering.bytes.extend(std::iter::repeat_n(b'x', piece));
            gathering.grown().unwrap();
        }
        assert_eq!(gathering.finish().len(), ALL);
        assert_eq!(budget.used(), 0);
    }
}
