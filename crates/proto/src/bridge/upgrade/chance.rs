//! Numbers that need not be secret, from a seed that the caller draws.

/// A generator (SplitMix64). The same seed gives the same numbers.
#[derive(Debug)]
pub(super) struct Chance {
    state: u64,
    /// Told into every UUID, so that two sessions share none although a generator has 64 bits.
    salt: u64,
}

impl Chance {
    pub(super) fn new(seed: u128) -> Self {
        let [low, high] = halves(seed);
        Self {
            state: low,
            salt: high,
        }
    }

    /// A number from the whole range.
    pub(super) fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A UUID of version 4 (RFC 9562).
    pub(super) fn uuid(&mut self) -> String {
        let (high, low) = (self.number(), self.number() ^ self.salt);
        let high = (high & 0xFFFF_FFFF_FFFF_0FFF) | 0x4000;
        let low = (low & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xFFFF,
            high & 0xFFFF,
            low >> 48,
            low & 0xFFFF_FFFF_FFFF
        )
    }
}

fn halves(seed: u128) -> [u64; 2] {
    let bytes = seed.to_le_bytes();
    let half = |at: usize| {
        let mut half = [0; 8];
        half.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(half)
    };
    [half(0), half(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_differ_and_say_that_they_are_random() {
        let mut chance = Chance::new(7);
        let (one, other) = (chance.uuid(), chance.uuid());
        assert_ne!(one, other);
        assert_eq!(one.len(), 36);
        for uuid in [one, other] {
            let parts: Vec<_> = uuid.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12]);
            assert_eq!(&uuid[14..15], "4");
            assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        }
    }
}
