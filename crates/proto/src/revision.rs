//! Protocol revisions: which exist, and what each permits (protocol notes 2.0).

use std::fmt;

/// A revision of the Model Context Protocol that Thinpipe knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// 2024-10-07, before the first release; some SDKs still list it.
    V2024_10_07,
    /// 2024-11-05: HTTP+SSE.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP, batches.
    V2025_03_26,
    /// 2025-06-18: no batches, `MCP-Protocol-Version`.
    V2025_06_18,
    /// 2025-11-25: priming events, tasks.
    V2025_11_25,
    /// 2026-07-28: stateless.
    V2026_07_28,
}

impl Revision {
    /// The newest revision that begins with `initialize`.
    pub const NEWEST_LEGACY: Self = Self::V2025_11_25;
    /// The newest revision.
    pub const NEWEST: Self = Self::V2026_07_28;
    /// What a sessionless request without a version header is taken for.
    pub const ASSUMED: Self = Self::V2025_03_26;
    /// All of them, newest first.
    pub const ALL: [Self; 6] = [
        Self::V2026_07_28,
        Self::V2025_11_25,
        Self::V2025_06_18,
        Self::V2025_03_26,
        Self::V2024_11_05,
        Self::V2024_10_07,
    ];

    /// The revision a string names exactly; unknown dates are `None`, never rounded.
    #[must_use]
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str().as_bytes() == text)
    }

    /// The date string.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_10_07 => "2024-10-07",
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Self-describing requests, no `initialize`.
    #[must_use]
    pub fn is_modern(self) -> bool {
        matches!(self, Self::V2026_07_28)
    }

    /// JSON arrays of messages are allowed.
    #[must_use]
    pub fn allows_batches(self) -> bool {
        matches!(self, Self::V2025_03_26)
    }

    /// Streams open with an event of empty data, and `retry` precedes a deliberate disconnect.
    #[must_use]
    pub fn primes_streams(self) -> bool {
        matches!(self, Self::V2025_11_25)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How messages are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binding {
    /// HTTP+SSE with two endpoints (E0).
    HttpSse,
    /// Streamable HTTP with sessions (E1).
    Sessions,
    /// Stateless Streamable HTTP (E2).
    Stateless,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HttpSse => "HTTP+SSE",
            Self::Sessions => "Streamable HTTP with sessions",
            Self::Stateless => "stateless Streamable HTTP",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_known_by_their_exact_names_only() {
        for revision in Revision::ALL {
            assert_eq!(
                Revision::from_bytes(revision.to_string().as_bytes()),
                Some(revision)
            );
        }
        for unknown in [
            "",
            "2025-11-24",
            "2027-01-01",
            "2026-07-28 ",
            "2026-7-28",
            "DRAFT-2026-v1",
        ] {
            assert_eq!(Revision::from_bytes(unknown.as_bytes()), None, "{unknown}");
        }
    }

    /// Protocol notes 2.0
    #[test]
    fn each_revision_permits_what_the_matrix_says() {
        let those = |permits: fn(Revision) -> bool| {
            Revision::ALL
                .into_iter()
                .filter(|revision| permits(*revision))
                .collect::<Vec<_>>()
        };
        assert_eq!(those(Revision::is_modern), [Revision::V2026_07_28]);
        assert_eq!(those(Revision::allows_batches), [Revision::V2025_03_26]);
        assert_eq!(those(Revision::primes_streams), [Revision::V2025_11_25]);
        assert!(Revision::ALL.is_sorted_by(|newer, older| newer > older));
        assert!(Revision::NEWEST_LEGACY < Revision::NEWEST && Revision::NEWEST.is_modern());
    }
}
