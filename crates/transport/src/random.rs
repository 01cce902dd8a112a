//! Where random numbers come from.

use std::fmt;
use std::sync::Arc;

type Source = dyn Fn(&mut [u8]) -> Result<(), NoRandom> + Send + Sync;

/// A source of random numbers: ids of sessions, nodes and streams, keys, and what spreads load and delays. The default
/// is the operating system.
///
/// Another one is for simulations, in which the same seed is to give the same run. Whoever can foretell its numbers can
/// take over sessions: nothing else but a cryptographic source belongs before a network.
#[derive(Clone, Default)]
pub struct Random(Option<Arc<Source>>);

/// The source gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are no random numbers")]
pub struct NoRandom;

impl Random {
    /// Numbers from `fill`, which fills all of what it is given, or none.
    #[must_use]
    pub fn from_source(
        fill: impl Fn(&mut [u8]) -> Result<(), NoRandom> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(fill)))
    }

    /// So many random bytes.
    ///
    /// # Errors
    /// [`NoRandom`].
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], NoRandom> {
        let mut bytes = [0; N];
        match &self.0 {
            None => getrandom::fill(&mut bytes).map_err(|_| NoRandom)?,
            Some(fill) => fill(&mut bytes)?,
        }
        Ok(bytes)
    }

    /// A number of which nothing depends but how evenly something is spread: without a source it is always the same.
    #[must_use]
    pub fn chance(&self) -> u64 {
        self.bytes().map_or(u64::MAX / 2, u64::from_le_bytes)
    }

    /// A number after which ids may begin that no other process has used in a session so far: of 2^31 ranges of a
    /// million one.
    #[must_use]
    pub fn unused_ids(&self) -> u64 {
        (self.chance() >> 33) << 20
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.0 {
            None => "the operating system",
            Some(_) => "given",
        };
        f.debug_tuple("Random").field(&source).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    #[test]
    fn numbers_come_from_the_source_that_was_given() {
        let next = AtomicU8::new(1);
        let random = Random::from_source(move |bytes| {
            bytes.fill_with(|| next.fetch_add(1, Ordering::Relaxed));
            Ok(())
        });
        assert_eq!(random.bytes(), Ok([1, 2, 3]));
        assert_eq!(random.chance(), 0x0b0a_0908_0706_0504);
    }

    #[test]
    fn without_numbers_chance_alone_goes_on() {
        let random = Random::from_source(|_| Err(NoRandom));
        assert_eq!(random.bytes::<16>(), Err(NoRandom));
        assert_eq!(random.chance(), u64::MAX / 2);
    }

    #[test]
    fn the_operating_system_gives_others_each_time() {
        let random = Random::default();
        let two = [random.bytes::<16>(), random.bytes()];
        assert!(two[0].is_ok() && two[0] != two[1]);
    }
}
