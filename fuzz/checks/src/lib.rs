//! What the fuzz targets check, one module per target. Each has a function `check`, which panics
//! when a property does not hold, and must hold for any bytes.

pub mod bridge_ops;
pub mod envelope;
pub mod eras;
pub mod header;
pub mod model;
pub mod peer;
pub mod sse_decode;
pub mod sse_scan;
pub mod tunnel;

/// Cuts bytes into chunks; the same seed cuts in the same way. Seed 0 cuts after every byte, odd
/// seeds cut into long chunks.
#[derive(Debug, Clone)]
pub struct Cuts<'a> {
    rest: &'a [u8],
    seed: u64,
    largest: u64,
}

impl<'a> Cuts<'a> {
    /// The chunks of `bytes`; none is empty.
    #[must_use]
    pub fn new(bytes: &'a [u8], seed: u8) -> Self {
        let largest = match seed {
            0 => 1,
            _ if seed % 2 == 1 => 4096,
            _ => 12,
        };
        Self {
            rest: bytes,
            seed: u64::from(seed),
            largest,
        }
    }
}

impl<'a> Iterator for Cuts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        // Knuth's MMIX generator.
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let length = usize::try_from(1 + (self.seed >> 33) % self.largest).unwrap_or(1);
        let (chunk, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        Some(chunk)
    }
}

/// The seed and the stream of an input: its first byte, and the rest.
#[must_use]
pub fn split_seed(input: &[u8]) -> (u8, &[u8]) {
    input
        .split_first()
        .map_or((0, input), |(seed, stream)| (*seed, stream))
}
