//! Delays between reconnections (G1): 200 ms, doubled, 30 s cap, full jitter, a 5 min window; what
//! the server says (`retry`, `Retry-After`) wins.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

/// Delays while a server answers 409 to who opens a stream in the place of another one: it may take a
/// moment to notice that the other one is gone.
pub const CONFLICT_DELAYS: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];

/// Whether the same request may succeed later, although it was answered with this status.
#[must_use]
pub fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        )
}

/// What `Retry-After` asks for. Seconds only; a number of any length, which [`Backoff`] bounds. A date is
/// left to the schedule.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let digits = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

/// A schedule of delays. Time and chance come in as arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    attempt: u32,
    spent: Duration,
}

impl Backoff {
    /// The first step.
    pub const BASE: Duration = Duration::from_millis(200);
    /// The largest step.
    pub const CAP: Duration = Duration::from_secs(30);
    /// The time after which it gives up.
    pub const WINDOW: Duration = Duration::from_secs(300);

    /// A fresh schedule.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attempt: 0,
            spent: Duration::ZERO,
        }
    }

    /// The next delay, or `None` when the window is spent. `random` is a number drawn from the whole
    /// range of `u64`; `told` is what the server asked for, which is then kept exactly, with up to a
    /// tenth added so that clients do not return together (G6).
    ///
    /// The window counts the delays given. What the server asks for and the window has no room for is
    /// `None`: to come back earlier would be of no use, and nobody waits that long. No delay is shorter
    /// than a floor that doubles from 10 ms to [`BASE`](Self::BASE): a server that asks for `0` and
    /// drops every connection does not get a hot loop (G7). The last step is cut at the end of the
    /// window.
    pub fn next_delay(&mut self, random: u64, told: Option<Duration>) -> Option<Duration> {
        let left = Self::WINDOW
            .checked_sub(self.spent)
            .filter(|left| !left.is_zero())?;
        let floor = doubled(LEAST, self.attempt).min(Self::BASE);
        let delay = match told {
            Some(told) if told > left => return None,
            Some(told) => {
                let told = told.max(floor);
                told.saturating_add(part(told / 10, random))
            }
            None => {
                let step = doubled(Self::BASE, self.attempt).min(Self::CAP);
                (floor + part(step - floor, random)).min(left)
            }
        };
        self.attempt = self.attempt.saturating_add(1);
        self.spent = self.spent.saturating_add(delay);
        Some(delay)
    }

    /// Starts anew; call it on real progress only (an event arrived), never on a mere connection (G7).
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// The shortest delay.
const LEAST: Duration = Duration::from_millis(10);

fn doubled(delay: Duration, times: u32) -> Duration {
    delay.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX))
}

/// A share of `whole`, from nothing to just under all of it, as `random` lies in its range.
fn part(whole: Duration, random: u64) -> Duration {
    // In units of 1/2^32, which is finer than the clocks this is for.
    let share = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    let nanos = (whole.as_nanos() * u128::from(share)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = u64::MAX;
    const MILLI: Duration = Duration::from_millis(1);

    fn near(delay: Option<Duration>, millis: u64) -> bool {
        delay.is_some_and(|delay| delay.abs_diff(Duration::from_millis(millis)) < MILLI)
    }

    #[test]
    fn g1_steps_double_from_200_ms_to_30_s() {
        let mut backoff = Backoff::new();
        for step in [
            200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ] {
            let delay = backoff.next_delay(MAX, None);
            assert!(near(delay, step), "{delay:?} is not {step} ms");
        }
    }

    #[test]
    fn g1_jitter_is_full() {
        let half = Backoff {
            attempt: 5,
            spent: Duration::ZERO,
        }
        .next_delay(MAX / 2, None);
        assert!(near(half, (6400 + 200) / 2), "{half:?}");
        let least = Backoff {
            attempt: 5,
            spent: Duration::ZERO,
        }
        .next_delay(0, None);
        assert_eq!(least, Some(Backoff::BASE));
        assert_eq!(Backoff::new().next_delay(0, None), Some(LEAST));
    }

    #[test]
    fn g1_the_window_is_five_minutes_whatever_chance_says() {
        for random in [0, 1, MAX / 3, MAX] {
            let mut backoff = Backoff::new();
            let mut sum = Duration::ZERO;
            let mut count = 0;
            while let Some(delay) = backoff.next_delay(random, None) {
                sum += delay;
                count += 1;
            }
            assert_eq!(sum, Backoff::WINDOW);
            assert!(count <= 1510, "{count} attempts");
            assert_eq!(backoff.next_delay(random, None), None);
            assert_eq!(backoff.next_delay(random, Some(MILLI)), None);
        }
    }

    #[test]
    fn g1_what_the_server_asks_for_wins() {
        for told in [Backoff::BASE, Duration::from_secs(2), Backoff::WINDOW] {
            assert_eq!(Backoff::new().next_delay(0, Some(told)), Some(told));
            let late = Backoff {
                attempt: 9,
                spent: Duration::ZERO,
            }
            .next_delay(MAX, Some(told));
            assert!(
                late.is_some_and(|late| late >= told && late <= told + told / 10),
                "{late:?}"
            );
        }
    }

    #[test]
    fn g1_what_the_window_has_no_room_for_is_not_waited_for() {
        for told in [Backoff::WINDOW + MILLI, Duration::MAX] {
            assert_eq!(Backoff::new().next_delay(0, Some(told)), None);
        }
        let mut late = Backoff::new();
        let most = Backoff::WINDOW - Duration::from_secs(10);
        assert_eq!(late.next_delay(0, Some(most)), Some(most));
        assert_eq!(late.next_delay(0, Some(Duration::from_secs(11))), None);
        assert!(late.next_delay(0, Some(Duration::from_secs(10))).is_some());
        assert_eq!(late.next_delay(0, None), None);
    }

    #[test]
    fn g6_many_clients_do_not_return_together() {
        for told in [None, Some(Duration::from_secs(1))] {
            // Evenly drawn numbers: golden-ratio steps through the range.
            let delays = (0..1000_u64)
                .map(|client| client.wrapping_mul(0x9E37_79B9_7F4A_7C15))
                .map(|random| Backoff::new().next_delay(random, told).unwrap());
            let mut slots = [0_usize; 10];
            let (from, span) =
                told.map_or((LEAST, Backoff::BASE - LEAST), |told| (told, told / 10));
            for delay in delays {
                let slot = (delay - from).as_nanos() * 10 / span.as_nanos();
                slots[usize::try_from(slot).unwrap()] += 1;
            }
            assert!(
                slots.iter().all(|&clients| (80..120).contains(&clients)),
                "{slots:?}"
            );
        }
    }

    #[test]
    fn g7_a_server_that_accepts_and_drops_gets_no_hot_loop() {
        for told in [None, Some(Duration::ZERO)] {
            let mut backoff = Backoff::new();
            let mut count = 0;
            while let Some(delay) = backoff.next_delay(0, told) {
                assert!(delay >= LEAST);
                count += 1;
            }
            assert!(count <= 1510, "{count} attempts in the window");
        }
    }

    #[test]
    fn g7_only_progress_starts_it_anew() {
        let mut backoff = Backoff::new();
        while backoff.next_delay(MAX, None).is_some() {}
        backoff.reset();
        assert_eq!(backoff, Backoff::new());
        assert!(near(backoff.next_delay(MAX, None), 200));
    }
}
