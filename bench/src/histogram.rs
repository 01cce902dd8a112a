//! Counts of durations in buckets that are at most 0.8 % wide.

/// A log-linear histogram of nanoseconds.
#[derive(Clone, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn record(&mut self, nanos: u64) {
        let bucket = bucket(nanos);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// The value below or at which `share` (0 to 1) of all records lie; `None` without records.
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle(bucket));
            }
        }
        None
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

/// Values below `SUB` have a bucket each; every doubling above is cut into `SUB` buckets.
fn bucket(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = value.ilog2() - SUB.ilog2();
    ((u64::from(shift) + 1) * SUB + (value >> shift) - SUB) as usize
}

fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB {
        return bucket;
    }
    let shift = bucket / SUB - 1;
    ((bucket % SUB + SUB) << shift) + (1 << shift) / 2
}

const SUB: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_one_part_in_a_hundred_of_its_bucket() {
        for value in (0..300).chain((8..50).map(|p| 3_u64.pow(p / 2) * 7)) {
            let off = middle(bucket(value)).abs_diff(value);
            assert!(
                off * 100 <= value,
                "{value} became {}",
                middle(bucket(value))
            );
        }
    }

    #[test]
    fn buckets_rise_with_the_values() {
        let mut last = 0;
        for value in 0..100_000 {
            let bucket = bucket(value);
            assert!(bucket == last || bucket == last + 1, "gap at {value}");
            last = bucket;
        }
    }

    /// J4: the percentiles that are reported.
    #[test]
    fn quantiles_of_a_known_series() {
        let mut all = Histogram::default();
        let mut half = Histogram::default();
        for value in 1..=100 {
            if value % 2 == 0 { &mut all } else { &mut half }.record(value);
        }
        all.merge(&half);
        assert_eq!(all.total(), 100);
        assert_eq!(all.quantile(0.0), Some(1));
        assert_eq!(all.quantile(0.5), Some(50));
        assert_eq!(all.quantile(0.99), Some(99));
        assert_eq!(all.quantile(1.0), Some(100));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
