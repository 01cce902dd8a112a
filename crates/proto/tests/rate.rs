//! C23: rates, and how much of them is used up.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use thinpipe_proto::rate::{Bucket, InvalidRate, Rate, Refused};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn rate(text: &str) -> Rate {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Whether one message passes, and if so, it does.
fn passes(bucket: &mut Bucket, rate: Rate, now: Instant) -> bool {
    let passes = bucket.check(rate, 1, now).is_ok();
    if passes {
        bucket.take(rate, 1, now);
    }
    passes
}

/// How many of those that try at each of these times pass.
fn passing(rate: Rate, times: impl Iterator<Item = Duration>) -> usize {
    let begin = Instant::now();
    let mut bucket = Bucket::new(begin);
    times
        .filter(|time| passes(&mut bucket, rate, begin + *time))
        .count()
}

/// C23, trap 21: below one in a second nothing is rounded, neither to none nor to several.
#[test]
fn c23_one_message_in_90_seconds_is_one_in_90_seconds() {
    let (begin, rate) = (Instant::now(), rate("1/90s"));
    let mut bucket = Bucket::new(begin);
    for round in 0..20 {
        let due = begin + 90 * SECOND * round;
        assert!(passes(&mut bucket, rate, due), "round {round}");
        assert!(!passes(&mut bucket, rate, due));
        assert!(!passes(&mut bucket, rate, due + 89 * SECOND));
        assert!(!passes(&mut bucket, rate, due + 90 * SECOND - NANO));
    }
}

/// C23, trap 21: over an hour of trying each tenth of a second, what passes is the burst and the rate.
#[test]
fn c23_what_passes_is_the_burst_and_the_rate() {
    let hour = || (0..36_000).map(|tenth| tenth * SECOND / 10);
    for (text, passed) in [
        ("1/h", 1),
        ("5/h", 5 + 4),
        ("40/h burst 1", 40),
        ("59/h burst 1", 59),
        ("6/min burst 1", 6 * 60),
        ("30/min burst 1", 30 * 60),
        ("30/min burst 5", 4 + 30 * 60),
        ("59/min", 58 + 59 * 60),
        ("1/s burst 10", 9 + 3600),
    ] {
        assert_eq!(passing(rate(text), hour()), passed, "{text}");
    }
    // A third of a second is no whole number of nanoseconds.
    let thirds = (0..300_u32).map(|third| SECOND * third / 3 + NANO * third);
    assert_eq!(passing(rate("3/s burst 1"), thirds), 300);
}

/// C23: who comes after the time that was told passes, and a nanosecond before does not.
#[test]
fn c23_the_time_that_is_told_is_true() {
    let begin = Instant::now();
    for text in ["1/90s", "7/min", "3/s", "100/s", "13/h burst 3"] {
        let rate = rate(text);
        let mut bucket = Bucket::new(begin);
        for _ in 0..rate.burst().get() {
            assert!(passes(&mut bucket, rate, begin), "{text}");
        }
        let now = begin + Duration::from_millis(7);
        let Err(Refused::For(wait)) = bucket.check(rate, 1, now) else {
            panic!("{text}");
        };
        assert!(bucket.check(rate, 1, now + wait - NANO).is_err(), "{text}");
        assert!(passes(&mut bucket, rate, now + wait), "{text}");
    }
}

/// C23: several messages pass together or not at all, and more than ever may come at once are told so.
#[test]
fn c23_messages_that_come_together_pass_together() {
    let (begin, rate) = (Instant::now(), rate("1/s burst 5"));
    let mut bucket = Bucket::new(begin);
    assert_eq!(bucket.check(rate, 6, begin), Err(Refused::Forever));
    bucket.take(rate, 3, begin);
    assert_eq!(bucket.check(rate, 2, begin), Ok(()));
    assert_eq!(bucket.check(rate, 3, begin), Err(Refused::For(SECOND)));
    assert!(!bucket.is_unused(rate, begin + 3 * SECOND - NANO));
    assert!(bucket.is_unused(rate, begin + 3 * SECOND));
    assert_eq!(bucket.check(rate, 5, begin + 3 * SECOND), Ok(()));
}

/// C23: nothing is given back twice when a clock goes back.
#[test]
fn c23_a_clock_that_goes_back_gives_nothing_back() {
    let (begin, rate) = (Instant::now(), rate("1/s"));
    let later = begin + 10 * SECOND;
    let mut bucket = Bucket::new(later);
    assert!(passes(&mut bucket, rate, later));
    for _ in 0..3 {
        bucket.take(rate, 1, begin);
    }
    assert_eq!(
        bucket.check(rate, 1, later),
        Err(Refused::For(4 * SECOND)),
        "what was taken then counts"
    );
}

#[test]
fn rates_are_read_as_they_are_written() {
    for text in [
        "1/s",
        "100/s",
        "30/min",
        "5/h",
        "1/d",
        "1/90s",
        "3/250ms",
        "4294967295/ms burst 1",
        "30/min burst 5",
    ] {
        assert_eq!(rate(text).to_string(), text);
    }
    for (text, other) in [
        ("30/m", "30/min"),
        (" 5 / h ", "5/h"),
        ("1/60s", "1/min"),
        ("10/s  burst 10", "10/s"),
    ] {
        assert_eq!(rate(text).to_string(), other);
    }
    for wrong in [
        "",
        "100",
        "/s",
        "0/s",
        "-1/s",
        "+1/s",
        "1.5/s",
        "1/",
        "1/0s",
        "1/parsec",
        "1/S",
        "1/400d",
        "1/s burst",
        "1/s burst 0",
        "1/s 5",
        "1/s burst 5 x",
        "4294967296/s",
        "1/s/s",
    ] {
        assert_eq!(wrong.parse::<Rate>(), Err(InvalidRate), "{wrong}");
    }
}

/// A rate that could not be written, and read again, is none.
#[test]
fn a_period_is_of_whole_milliseconds() {
    let one = NonZeroU32::MIN;
    for period in [0, 1, 999_999, 1_500_000] {
        assert_eq!(
            Rate::new(one, Duration::from_nanos(period)),
            None,
            "{period} ns"
        );
    }
    let year = Duration::from_secs(365 * 24 * 3600);
    assert_eq!(Rate::new(one, year + Duration::from_millis(1)), None);
    for period in [Duration::from_millis(1), Duration::from_millis(1_500), year] {
        let rate = Rate::new(one, period).expect("it can be written");
        assert_eq!(rate.to_string().parse(), Ok(rate));
    }
}

proptest! {
    /// C23: whatever the rate and whenever messages come, in no time do more pass than the burst and what the
    /// rate gives in that time.
    #[test]
    fn c23_no_window_has_more_than_the_rate_and_the_burst(
        messages in 1..200_u32,
        period in 1..100_000_u64,
        burst in 1..50_u32,
        gaps in prop::collection::vec(0..2_000_u64, 1..300),
    ) {
        let number = |n| NonZeroU32::new(n).expect("it is not zero");
        let rate = Rate::new(number(messages), Duration::from_millis(period)).expect("a period");
        let rate = rate.with_burst(number(burst));
        let begin = Instant::now();
        let (mut bucket, mut now, mut passed) = (Bucket::new(begin), begin, Vec::new());
        for gap in gaps {
            now += Duration::from_millis(gap);
            if passes(&mut bucket, rate, now) {
                passed.push(now);
            }
        }
        for (first, begin) in passed.iter().enumerate() {
            for (last, end) in passed.iter().enumerate().skip(first) {
                let window = (*end - *begin).as_millis();
                let given = window * u128::from(messages) / u128::from(period);
                prop_assert!((last - first + 1) as u128 <= u128::from(burst) + given);
            }
        }
    }
}
