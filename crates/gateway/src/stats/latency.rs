//! How long exchanges take, by method. Recording is one atomic add to a cell that was there before:
//! no lock, no allocation, whatever a client calls its methods (I4).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thinpipe_proto::classify::{CLIENT_NOTIFICATIONS, CLIENT_REQUESTS};

/// Buckets of one histogram. Four to an octave: their middle is at most 12.5 % from what is in them.
const BUCKETS: usize = 108;

/// What is neither a request nor a notification that the protocol knows.
const REST: [&str; 4] = ["response", "GET", "DELETE", "other"];

const CLASSES: usize = CLIENT_REQUESTS.len() + CLIENT_NOTIFICATIONS.len() + REST.len();

/// What an exchange is counted as. Methods come from clients, who could think up new ones without
/// end: those of the protocol have a name here, and all others one together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MethodClass(usize);

impl MethodClass {
    pub(crate) const RESPONSE: Self = Self::of_rest(0);
    pub(crate) const LISTEN: Self = Self::of_rest(1);
    pub(crate) const TERMINATE: Self = Self::of_rest(2);
    const OTHER: Self = Self::of_rest(3);

    const fn of_rest(index: usize) -> Self {
        Self(CLIENT_REQUESTS.len() + CLIENT_NOTIFICATIONS.len() + index)
    }

    /// The class of a method; `None` is a response.
    pub(crate) fn of(method: Option<&str>) -> Self {
        let Some(method) = method else {
            return Self::RESPONSE;
        };
        let mut known = CLIENT_REQUESTS.iter().chain(&CLIENT_NOTIFICATIONS);
        known
            .position(|name| *name == method)
            .map_or(Self::OTHER, Self)
    }

    fn name(self) -> &'static str {
        let mut names = CLIENT_REQUESTS
            .into_iter()
            .chain(CLIENT_NOTIFICATIONS)
            .chain(REST);
        names.nth(self.0).unwrap_or("other")
    }
}

/// A histogram for each class.
#[derive(Debug)]
pub(crate) struct Latencies {
    cells: Box<[AtomicU64]>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            cells: (0..CLASSES * BUCKETS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Latencies {
    /// Counts an exchange.
    pub(crate) fn record(&self, class: MethodClass, took: Duration) {
        if let Some(cell) = self.cells.get(class.0 * BUCKETS + bucket(took)) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The histograms that have anything in them.
    pub(crate) fn snapshot(&self) -> Vec<MethodStats> {
        let histograms = self.cells.chunks_exact(BUCKETS).enumerate();
        histograms
            .map(|(class, cells)| MethodStats {
                method: MethodClass(class).name(),
                counts: cells
                    .iter()
                    .map(|cell| cell.load(Ordering::Relaxed))
                    .collect(),
            })
            .filter(|stats| stats.count() > 0)
            .collect()
    }
}

/// How many exchanges of one method were answered since the start, and how long that took: from the
/// request to the beginning of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodStats {
    /// The method, if the protocol knows it; `response` for what a client answers, `GET`, `DELETE`,
    /// and `other` for all methods that it does not know.
    pub method: &'static str,
    counts: Box<[u64]>,
}

impl MethodStats {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many took less than this; exact for powers of two in microseconds.
    #[must_use]
    pub fn below(&self, limit: Duration) -> u64 {
        let limit = micros(limit);
        let below = self.counts.iter().enumerate();
        below
            .filter(|(bucket, _)| lower(bucket + 1) <= limit)
            .map(|(_, count)| count)
            .sum()
    }

    /// How long all of them took together, as far as the buckets tell: within 12.5 %.
    #[must_use]
    pub fn total(&self) -> Duration {
        let each = self.counts.iter().enumerate();
        let total = each.fold(0_u64, |total, (bucket, count)| {
            total.saturating_add(middle(bucket).saturating_mul(*count))
        });
        Duration::from_micros(total)
    }

    /// The time within which this part of them was answered, within 12.5 %; of 0.5, the median.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank that is off by one in 2^53 is no other quantile"
        )]
        let rank = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return Duration::from_micros(middle(bucket));
            }
        }
        Duration::ZERO
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// 0 to 3 have a bucket each; from there, two bits after the leading one tell four in an octave apart.
/// What takes longer than 235 s is in the last.
fn bucket(took: Duration) -> usize {
    let micros = micros(took);
    let Some(octave) = micros.checked_ilog2().filter(|octave| *octave >= 2) else {
        return usize::try_from(micros).unwrap_or(0);
    };
    let part = (micros >> (octave - 2)) & 3;
    let index = u64::from(octave - 1) * 4 + part;
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The shortest time in a bucket, in microseconds.
fn lower(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64,
        _ => (4 + bucket as u64 % 4) << (bucket / 4 - 1),
    }
}

fn middle(bucket: usize) -> u64 {
    u64::midpoint(lower(bucket), lower(bucket + 1) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_without_gaps_and_narrow() {
        for index in 0..BUCKETS - 1 {
            let (first, after) = (lower(index), lower(index + 1));
            for micros in [first, after - 1] {
                assert_eq!(bucket(Duration::from_micros(micros)), index, "{micros}");
            }
            let width = after - 1 - first;
            assert!(width * 4 <= first.max(1) || first < 4, "{first} to {after}");
            let middle = middle(index);
            assert!((middle - first) * 8 <= middle, "{first} to {after}");
        }
        for seconds in [235, 3600, u64::MAX] {
            assert_eq!(bucket(Duration::from_secs(seconds)), BUCKETS - 1);
        }
    }

    /// I4: what clients can make of it is bounded.
    #[test]
    fn i4_methods_that_are_not_known_are_one() {
        let latencies = Latencies::default();
        let methods = (0..1000).map(|n| format!("made/up-{n}"));
        for method in methods.chain(["TOOLS/CALL".into(), String::new(), "other".into()]) {
            let class = MethodClass::of(Some(&method));
            latencies.record(class, Duration::from_micros(10));
        }
        let stats = latencies.snapshot();
        assert_eq!(stats.len(), 1);
        assert_eq!((stats[0].method, stats[0].count()), ("other", 1003));
        for method in CLIENT_REQUESTS.iter().chain(&CLIENT_NOTIFICATIONS) {
            assert_eq!(MethodClass::of(Some(method)).name(), *method);
        }
        assert_eq!(MethodClass::of(None).name(), "response");
        assert_eq!(MethodClass::LISTEN.name(), "GET");
        assert_eq!(MethodClass::TERMINATE.name(), "DELETE");
    }

    #[test]
    fn figures_follow_from_the_buckets() {
        let latencies = Latencies::default();
        let call = MethodClass::of(Some("tools/call"));
        for micros in 1..=1000 {
            latencies.record(call, Duration::from_micros(micros));
        }
        latencies.record(call, Duration::from_secs(10_000));
        let stats = &latencies.snapshot()[0];
        assert_eq!((stats.method, stats.count()), ("tools/call", 1001));
        assert_eq!(stats.below(Duration::from_micros(64)), 63);
        assert_eq!(stats.below(Duration::from_micros(512)), 511);
        assert_eq!(stats.below(Duration::from_micros(1 << 20)), 1000);
        let near = |found: Duration, exact: u64| {
            let found = micros(found);
            assert!(found.abs_diff(exact) * 8 <= exact, "{found}, not {exact}");
        };
        near(stats.quantile(0.5), 500);
        near(stats.quantile(0.99), 990);
        near(stats.quantile(0.0), 1);
        // The longest counts as what the last bucket holds.
        near(stats.total(), 1000 * 1001 / 2 + middle(BUCKETS - 1));
    }

    /// I4: threads that record while others read lose nothing and wait for nobody.
    #[test]
    fn i4_recording_is_exact_while_it_is_read() {
        let latencies = Latencies::default();
        let call = MethodClass::of(Some("tools/call"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for micros in 0..10_000 {
                        latencies.record(call, Duration::from_micros(micros));
                    }
                });
            }
            scope.spawn(|| {
                let mut before = 0;
                while before < 40_000 {
                    let now = latencies.snapshot().first().map_or(0, MethodStats::count);
                    assert!(now >= before, "counters only grow");
                    before = now;
                }
            });
        });
        assert_eq!(latencies.snapshot()[0].count(), 40_000);
    }
}
