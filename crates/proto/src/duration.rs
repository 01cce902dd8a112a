//! Durations as people write them in configuration files: one whole number with one unit (`ms`, `s`, `m`,
//! `h`).
//!
//! ```
//! # use std::time::Duration;
//! #[derive(serde::Serialize)]
//! struct Settings {
//!     #[serde(with = "thinpipe_proto::duration")]
//!     patience: Duration,
//! }
//! let settings = Settings { patience: Duration::from_secs(300) };
//! assert_eq!(serde_json::to_string(&settings).unwrap(), r#"{"patience":"5m"}"#);
//! ```

use std::fmt;
use std::time::Duration;

use serde::Serializer;
use serde::de::{Deserializer, Error, Visitor};

/// Largest first; the first one that divides a duration is used to write it.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// For `#[serde(with = "thinpipe_proto::duration")]`. What is finer than a millisecond is not written.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*value))
}

/// For `#[serde(with = "thinpipe_proto::duration")]`.
///
/// # Errors
/// For text that is no duration, saying what one is; and the deserializer's.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text)
}

/// Takes text only: a bare number would leave its unit to be guessed.
struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a duration as text: {HELP}")
    }

    fn visit_str<E: Error>(self, given: &str) -> Result<Duration, E> {
        parse(given).ok_or_else(|| E::custom(format_args!("{given:?} is no duration: {HELP}")))
    }
}

const HELP: &str = "a whole number with a unit, such as \"500ms\", \"30s\", \"5m\" or \"24h\"";

/// Whole milliseconds; what is finer is not written.
fn text(value: Duration) -> String {
    let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let fitting = UNITS
        .iter()
        .find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit));
    fitting.map_or_else(
        || "0s".to_owned(),
        |(name, unit)| format!("{}{name}", ms / unit),
    )
}

fn parse(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let ms = number.parse::<u64>().ok()?.checked_mul(*factor)?;
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for ms in [
            0, 1, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000,
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse(&text(duration)), Some(duration), "{}", text(duration));
        }
        assert_eq!(text(Duration::from_secs(300)), "5m");
        assert_eq!(text(Duration::from_millis(1_500)), "1500ms");
    }

    #[test]
    fn everything_else_is_refused() {
        for wrong in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "1m30s",
            "30 s",
            "30S",
            "99999999999999999h",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
