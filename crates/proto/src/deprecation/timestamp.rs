//! A moment to the second, as the wire and configurations write it.
//!
//! The conversion between days and dates is a dozen lines, so this crate does without a dependency for
//! it. The obsolete forms of HTTP dates (RFC 9110 5.6.7) are not read: what is parsed here, an operator or
//! this program wrote.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::DAY;

/// A moment: seconds since 1970 in UTC, from then to the end of the year 9999.
///
/// `Display` and serde write RFC 3339 (`2027-07-28T00:00:00Z`); [`http_date`](Self::http_date) is what
/// headers have. Parsing takes both, and a date alone for its first second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// Text that is no moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a date such as 2027-07-28, 2027-07-28T00:00:00Z or Wed, 28 Jul 2027 00:00:00 GMT, from 1970 to 9999"
)]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The last second of the year 9999: no form on the wire has room for a later one.
    pub const MAX: Self = Self(253_402_300_799);

    /// So many seconds after the beginning of 1970. What is later than [`MAX`](Self::MAX) is `MAX`.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Self {
        if seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(seconds)
        }
    }

    /// Seconds since the beginning of 1970.
    #[must_use]
    pub const fn unix(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to here; zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// As an IMF-fixdate (RFC 9110 5.6.7), for HTTP headers.
    #[must_use]
    pub fn http_date(self) -> String {
        let (date, (hour, minute, second)) = (self.date(), self.clock());
        // 1970 began on a Thursday, which is where `WEEKDAYS` begins.
        let weekday = WEEKDAYS[index(self.days() % 7)];
        let month = MONTHS[index(u64::from(date.month) - 1)];
        format!(
            "{weekday}, {:02} {month} {:04} {hour:02}:{minute:02}:{second:02} GMT",
            date.day, date.year
        )
    }

    /// The date alone: `2027-07-28`.
    #[must_use]
    pub fn date_text(self) -> String {
        self.date().to_string()
    }

    fn days(self) -> u64 {
        self.0 / DAY.as_secs()
    }

    fn clock(self) -> (u64, u64, u64) {
        let second = self.0 % DAY.as_secs();
        (second / 3600, second / 60 % 60, second % 60)
    }

    fn date(self) -> Date {
        Date::of(self.days())
    }

    fn from_rfc3339(text: &str) -> Option<Self> {
        let (date, clock) = match text.split_once('T') {
            Some((date, clock)) => (date, clock.strip_suffix('Z')?),
            None => (text, "00:00:00"),
        };
        let mut parts = date.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        Self::from_parts(year, month.parse().ok()?, day, clock)
    }

    fn from_http_date(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(", ")?;
        let mut parts = rest.split(' ');
        let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
        let month = MONTHS.iter().position(|name| *name == month)?;
        let month = u8::try_from(month).ok()? + 1;
        Self::from_parts(year, month, day, parts.next()?)
    }

    fn from_parts(year: &str, month: u8, day: &str, clock: &str) -> Option<Self> {
        let date = Date {
            year: year.parse().ok()?,
            month,
            day: day.parse().ok()?,
        };
        let mut parts = clock.split(':').map(|part| part.parse::<u64>().ok());
        let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
        let days = date.days()?;
        let seconds = hour
            .checked_mul(60)?
            .checked_add(minute)?
            .checked_mul(60)?
            .checked_add(second)?;
        days.checked_mul(DAY.as_secs())?
            .checked_add(seconds)
            .filter(|seconds| *seconds <= Self::MAX.0)
            .map(Self)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        Self::from_rfc3339(text)
            .or_else(|| Self::from_http_date(text))
            // What reads differently when written again (a 31st of June, a wrong weekday, a sign, an hour
            // 24) was none of the forms.
            .filter(|moment| {
                text == moment.date_text()
                    || text == moment.to_string()
                    || text == moment.http_date()
            })
            .ok_or(InvalidTimestamp)
    }
}

impl From<SystemTime> for Timestamp {
    /// Fractions of a second are dropped; what is before 1970 is its beginning.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix(since.as_secs())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = self.clock();
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}Z", self.date())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A day of the Gregorian calendar.
struct Date {
    year: u64,
    month: u8,
    day: u8,
}

impl Date {
    /// The day that is so many days after 1970-01-01.
    ///
    /// Years are counted from March here, so that a leap day is the last of its year, and in eras of 400
    /// years, which are all alike: <https://howardhinnant.github.io/date_algorithms.html>.
    fn of(days: u64) -> Self {
        let days = days + DAYS_BEFORE_1970;
        let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let year = 400 * era + year + u64::from(month >= 10);
        let month = if month < 10 { month + 3 } else { month - 9 };
        let small = |number| u8::try_from(number).unwrap_or(u8::MAX);
        Self {
            year,
            month: small(month),
            day: small(day),
        }
    }

    /// Days since 1970-01-01, the other way round. `None` for what is before it, for years of more than
    /// four digits, and for months and days out of their ranges.
    fn days(&self) -> Option<u64> {
        let in_range =
            self.year <= 9999 && (1..=12).contains(&self.month) && (1..=31).contains(&self.day);
        let (month, day) = (u64::from(self.month), u64::from(self.day));
        let year = self.year.checked_sub(u64::from(month <= 2))?;
        let month = if month > 2 { month - 3 } else { month + 9 };
        let (era, year) = (year / 400, year % 400);
        let day = (153 * month + 2) / 5 + day.checked_sub(1)?;
        let day = 365 * year + year / 4 - year / 100 + day;
        (era * DAYS_OF_ERA + day)
            .checked_sub(DAYS_BEFORE_1970)
            .filter(|_| in_range)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// From 0000-03-01, where eras begin, to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;
const DAYS_OF_ERA: u64 = 146_097;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// For tables that are shorter than any integer type.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A21: known moments, in all forms (RFC 9110 5.6.7 has the first).
    #[test]
    fn a21_moments_are_written_and_read() {
        for (unix, rfc3339, http) in [
            (
                784_111_777,
                "1994-11-06T08:49:37Z",
                "Sun, 06 Nov 1994 08:49:37 GMT",
            ),
            (0, "1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT"),
            (
                951_782_400,
                "2000-02-29T00:00:00Z",
                "Tue, 29 Feb 2000 00:00:00 GMT",
            ),
            (
                1_742_947_200,
                "2025-03-26T00:00:00Z",
                "Wed, 26 Mar 2025 00:00:00 GMT",
            ),
            (
                253_402_300_799,
                "9999-12-31T23:59:59Z",
                "Fri, 31 Dec 9999 23:59:59 GMT",
            ),
        ] {
            let moment = Timestamp::from_unix(unix);
            assert_eq!(moment.to_string(), rfc3339);
            assert_eq!(moment.http_date(), http);
            assert_eq!(rfc3339.parse(), Ok(moment));
            assert_eq!(http.parse(), Ok(moment));
        }
        assert_eq!(moment("2027-07-28").unix() % 86_400, 0);
        assert_eq!(Timestamp::from_unix(u64::MAX), Timestamp::MAX);
    }

    #[test]
    fn a21_every_day_of_two_eras_follows_the_one_before() {
        let mut before = (1969, 12, 31);
        for days in 0..2 * DAYS_OF_ERA {
            let date = Date::of(days);
            assert_eq!(date.days(), Some(days));
            let (year, month, day) = before;
            let this = (date.year, date.month, date.day);
            let next = [
                (year, month, day + 1),
                (year, month + 1, 1),
                (year + 1, 1, 1),
            ];
            assert!(next.contains(&this), "{this:?} after {before:?}");
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u8::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            assert_eq!(day == length, date.day == 1, "{this:?} after {before:?}");
            before = this;
        }
    }

    #[test]
    fn a21_what_is_no_moment_is_refused() {
        for text in [
            "",
            "2027-7-28",
            "2027-06-31",
            "2027-02-29",
            "2027-00-10",
            "2027-13-10",
            "2027-07-00",
            "+2027-07-28",
            "1969-12-31",
            "10000-01-01",
            "2027-07-28T00:00:00",
            "2027-07-28T24:00:00Z",
            "2027-07-28T00:00:00+02:00",
            "2027-07-28-01",
            "2027-07-28 ",
            "2027-07-28T99999999999999999999:00:00Z",
            "2027-07-28T18446744073709551615:00:00Z",
            "Tue, 28 Jul 2027 00:00:00 GMT",
            "Wed, 28 Jul 2027 00:00:00",
            "Wed, 28 jul 2027 00:00:00 GMT",
            "Wednesday, 28-Jul-27 00:00:00 GMT",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }
}
