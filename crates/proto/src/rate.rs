//! How many messages in how much time: a rate as people write it, and how much of it is used up.
//!
//! The generic cell rate algorithm as a meter, in whole numbers: what a [`Bucket`] holds is counted in units of
//! which one message takes as many as the period has nanoseconds, and each nanosecond gives back as many as there
//! may be messages in a period. So nothing is divided, and a rate of one message in 90 s is kept as exactly as one
//! of 3000 in a second.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// So many messages in such a time, of which some may come at once.
///
/// Written `"100/s"`, `"30/min"`, `"5/h"`, `"1/90s"`, and with what may come at once `"30/min burst 5"`. Where
/// nothing is said of it, all messages of a period may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    messages: NonZeroU32,
    /// Whole milliseconds, and not zero.
    period: Duration,
    burst: NonZeroU32,
}

/// Text that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number of messages and a time")]
pub struct InvalidRate;

/// Why messages do not pass now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// They do after so long, if no others come before them.
    For(Duration),
    /// There are more of them than may ever come at once.
    Forever,
}

impl Refused {
    /// How long there is to wait.
    #[must_use]
    pub fn wait(self) -> Duration {
        match self {
            Self::For(wait) => wait,
            Self::Forever => Duration::MAX,
        }
    }
}

/// The longest period. Whatever is counted fits far into 128 bits.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a period may be written as; larger ones first, since the first one that divides it is written.
const PERIODS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl Rate {
    /// So many messages in each `period`, and as many at once. `None`: the period is no whole number of milliseconds,
    /// which is all that can be written, or is zero, or longer than a year.
    #[must_use]
    pub fn new(messages: NonZeroU32, period: Duration) -> Option<Self> {
        let is_whole = period.subsec_nanos().is_multiple_of(1_000_000);
        let fits = is_whole && !period.is_zero() && period <= LONGEST;
        fits.then_some(Self {
            messages,
            period,
            burst: messages,
        })
    }

    /// The same, of which so many may come at once.
    #[must_use]
    pub fn with_burst(self, burst: NonZeroU32) -> Self {
        Self { burst, ..self }
    }

    /// How many messages may come at once.
    #[must_use]
    pub fn burst(self) -> NonZeroU32 {
        self.burst
    }

    /// What so many messages take.
    fn units(self, messages: u32) -> u128 {
        u128::from(messages) * self.period.as_nanos()
    }

    /// What is given back in such a time.
    fn given_back(self, time: Duration) -> u128 {
        u128::from(self.messages.get()).saturating_mul(time.as_nanos())
    }

    /// How long it takes until so much is given back, in whole nanoseconds and never too short.
    fn time_for(self, units: u128) -> Duration {
        let nanos = units.div_ceil(u128::from(self.messages.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (messages, rest) = text.split_once('/').ok_or(InvalidRate)?;
        let mut words = rest.split_whitespace();
        let period = words.next().and_then(period).ok_or(InvalidRate)?;
        let rate = Self::new(number(messages.trim())?, period).ok_or(InvalidRate)?;
        let rate = match (words.next(), words.next()) {
            (None, _) => rate,
            (Some("burst"), Some(burst)) => rate.with_burst(number(burst)?),
            _ => return Err(InvalidRate),
        };
        match words.next() {
            None => Ok(rate),
            Some(_) => Err(InvalidRate),
        }
    }
}

/// A number as it is written everywhere: no sign, and not zero.
fn number(text: &str) -> Result<NonZeroU32, InvalidRate> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().map_err(|_| InvalidRate)?;
    digits.then_some(number).ok_or(InvalidRate)
}

/// A unit, or so many of it: `h`, `90s`.
fn period(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(end);
    let count = if count.is_empty() {
        1
    } else {
        count.parse::<u64>().ok()?
    };
    // As in the durations of a configuration.
    let unit = if unit == "m" { "min" } else { unit };
    let (_, factor) = PERIODS.iter().find(|(name, _)| *name == unit)?;
    count.checked_mul(*factor).map(Duration::from_millis)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX);
        let fitting = PERIODS.iter().find(|(_, unit)| ms.is_multiple_of(*unit));
        let (unit, factor) = fitting.unwrap_or(&("ms", 1));
        write!(f, "{}/", self.messages)?;
        match ms / factor {
            1 => f.write_str(unit)?,
            count => write!(f, "{count}{unit}")?,
        }
        match self.burst == self.messages {
            true => Ok(()),
            false => write!(f, " burst {}", self.burst),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

/// Takes text only: a bare number would leave its time to be guessed.
struct Text;

impl Visitor<'_> for Text {
    type Value = Rate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a number of messages and a time, such as \"100/s\", \"30/min\", \"1/90s\" or \"30/min burst 5\"",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
        let invalid = |_| E::invalid_value(de::Unexpected::Str(text), &self);
        text.parse().map_err(invalid)
    }
}

/// How much of a rate one sender has used up.
///
/// Looking and taking are two things, so that a message that has to keep several rates takes of all of them or of
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// In the units of the rate.
    used: u128,
    /// When it was that much.
    at: Instant,
}

impl Bucket {
    /// Of a rate of which nothing is used up.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { used: 0, at: now }
    }

    fn used(&self, rate: Rate, now: Instant) -> u128 {
        let since = now.saturating_duration_since(self.at);
        self.used.saturating_sub(rate.given_back(since))
    }

    /// Whether so many messages may pass now. Changes nothing.
    ///
    /// # Errors
    /// When they may.
    pub fn check(&self, rate: Rate, messages: u32, now: Instant) -> Result<(), Refused> {
        if messages > rate.burst.get() {
            return Err(Refused::Forever);
        }
        let would_be = self.used(rate, now) + rate.units(messages);
        let over = would_be.saturating_sub(rate.units(rate.burst.get()));
        match over {
            0 => Ok(()),
            over => Err(Refused::For(rate.time_for(over))),
        }
    }

    /// So many messages pass now, whether they may or not.
    pub fn take(&mut self, rate: Rate, messages: u32, now: Instant) {
        let used = self.used(rate, now) + rate.units(messages);
        // A clock that goes back gives nothing back twice.
        *self = Self {
            used,
            at: self.at.max(now),
        };
    }

    /// Whether nothing of the rate is used up any more: the bucket is as good as a new one.
    #[must_use]
    pub fn is_unused(&self, rate: Rate, now: Instant) -> bool {
        self.used(rate, now) == 0
    }
}
