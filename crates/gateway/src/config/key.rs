//! Keys of what clients keep for the gateway.

use std::fmt;

/// A key of 256 bits that seals `requestState`s and cursors, which clients keep and give back. It is
/// never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct StateKey([u8; Self::BYTES]);

/// What is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 64 hexadecimal digits")]
pub struct InvalidStateKey;

impl StateKey {
    /// Bytes of a key.
    pub const BYTES: usize = 32;

    /// A key of these bytes, which come from a cryptographic source.
    #[must_use]
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// 64 hexadecimal digits, as `openssl rand -hex 32` writes them.
impl std::str::FromStr for StateKey {
    type Err = InvalidStateKey;

    fn from_str(text: &str) -> Result<Self, InvalidStateKey> {
        let mut digits = text.trim().chars().map(|digit| digit.to_digit(16));
        let mut digit = || digits.next().flatten().ok_or(InvalidStateKey);
        let mut bytes = [0; Self::BYTES];
        for byte in &mut bytes {
            let (high, low) = (digit()?, digit()?);
            *byte = u8::try_from(high << 4 | low).map_err(|_| InvalidStateKey)?;
        }
        match digits.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(InvalidStateKey),
        }
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_hexadecimal_digits_and_never_shown() {
        let text = "00ff".repeat(16);
        let key: StateKey = format!(" {text}\n").parse().unwrap();
        assert_eq!(key.as_bytes()[..2], [0, 0xff]);
        assert_eq!(format!("{key:?}"), "StateKey(..)");
        for wrong in [
            "",
            "00",
            &text[1..],
            &format!("{text}0"),
            &text.replace('f', "g"),
        ] {
            assert_eq!(wrong.parse::<StateKey>(), Err(InvalidStateKey), "{wrong}");
        }
    }
}
