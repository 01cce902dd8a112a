//! Durations (`30s`) and sizes (`4 MiB`) as people write them.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration: numbers with the units `ms`, `s`, `m`, `h` and `d`, as in `30s` or `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(pub(crate) Duration);

/// A number of bytes: alone, or with `B`, `KiB`, `MiB`, `GiB` or `KB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

const PERIOD_HELP: &str = "a duration with its unit, such as \"500ms\", \"30s\", \"5m\" or \"24h\"";
const SIZE_HELP: &str = "a size, such as 4096, \"64 KiB\" or \"4 MiB\"";

/// Units, largest first; the first one that divides a value is used to write it.
const PERIODS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Period {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        let mut total = 0_u64;
        if rest == "0" {
            return Some(Self(Duration::ZERO));
        }
        while !rest.is_empty() {
            let (number, after) = number(rest)?;
            let unit_end = after
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let (_, factor) = PERIODS
                .iter()
                .find(|(unit, _)| *unit == &after[..unit_end])?;
            total = total.checked_add(scale(number, *factor)?)?;
            rest = after[unit_end..].trim_start();
        }
        (!text.trim().is_empty()).then_some(Self(Duration::from_millis(total)))
    }
}

impl Size {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number(text.trim())?;
        if unit.is_empty() {
            return scale(number, 1).map(Self);
        }
        let (_, factor) = SIZES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        scale(number, *factor).map(Self)
    }
}

/// A leading decimal number, and what follows it.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

/// `number * factor`, if that is whole and fits.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut total = whole.checked_mul(factor)?;
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).ok()?;
        let scaled = fraction.parse::<u64>().ok()?.checked_mul(factor)?;
        let divisor = 10_u64.checked_pow(digits)?;
        if scaled % divisor != 0 {
            return None;
        }
        total = total.checked_add(scaled / divisor)?;
    }
    Some(total)
}

fn write_in_units(
    f: &mut fmt::Formatter<'_>,
    value: u64,
    units: &[(&str, u64)],
    gap: &str,
) -> fmt::Result {
    let fitting = units
        .iter()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    match fitting {
        Some((unit, factor)) => write!(f, "{}{gap}{unit}", value / factor),
        None => f.write_str("0"),
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return f.write_str("0s");
        }
        // Days are read but not written: "24h" says more than "1d" beside "30m".
        write_in_units(f, ms, &PERIODS[1..], "")
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_units(f, self.0, &SIZES, " ")
    }
}

macro_rules! serde_as_text {
    ($name:ident, $help:expr, |$number:ident| $from_number:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($help)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text)
                            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
                    }

                    fn visit_u64<E: de::Error>(self, $number: u64) -> Result<$name, E> {
                        let from_number: Option<$name> = $from_number;
                        from_number.ok_or_else(|| {
                            E::invalid_value(de::Unexpected::Unsigned($number), &self)
                        })
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
    };
}

// A bare number could be seconds or milliseconds; only zero is the same in both.
serde_as_text!(Period, PERIOD_HELP, |number| (number == 0)
    .then_some(Period(Duration::ZERO)));
serde_as_text!(Size, SIZE_HELP, |number| Some(Size(number)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("1.5s", 1_500),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                Period::parse(text),
                Some(Period(Duration::from_millis(ms))),
                "{text}"
            );
        }
        for text in [
            "",
            "30",
            "s",
            "30 parsecs",
            "-1s",
            "1.0001s",
            "1..5s",
            "99999999999999999999s",
            "30S",
        ] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4 MiB", 4 << 20),
            ("16MiB", 16 << 20),
            ("64 kib", 64 << 10),
            ("1.5 KiB", 1536),
            ("2 MB", 2_000_000),
            ("7B", 7),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "4 M",
            "-1",
            "1.5 B",
            "4 MiB x",
            "99999999999 GiB",
        ] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ms in [
            0,
            1,
            999,
            1_000,
            15_000,
            75_000,
            90_000,
            1_800_000,
            86_400_000,
            172_800_001,
        ] {
            let period = Period(Duration::from_millis(ms));
            assert_eq!(Period::parse(&period.to_string()), Some(period));
        }
        for bytes in [0, 1, 1000, 1024, 4 << 20, 100 << 20, 1536, u64::MAX] {
            assert_eq!(Size::parse(&Size(bytes).to_string()), Some(Size(bytes)));
        }
        assert_eq!(Period(Duration::from_secs(1800)).to_string(), "30m");
        assert_eq!(Size(4 << 20).to_string(), "4 MiB");
    }
}
