//! What the gateway is to be told that a server speaks (`era`), held against what was seen. Pure.

use std::fmt;

use super::crossing::servers;
use super::judgement::{Finding, Level};
use super::observation::Observations;
use crate::config::RawEra;
use crate::crossing::Server;

/// An `era` that is not `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin {
    /// Its name.
    pub(crate) era: &'static str,
    /// What it says.
    pub(crate) server: Server,
}

impl Pin {
    /// `None`: the server is asked.
    pub(crate) fn of(era: RawEra) -> Option<Self> {
        let (era, server) = match era {
            RawEra::Auto => return None,
            RawEra::HttpSse => ("http+sse", Server::HttpSse),
            RawEra::Streamable => ("streamable", Server::Sessions),
            RawEra::Stateless => ("stateless", Server::Stateless),
            RawEra::Legacy => ("legacy", Server::LegacyProgram),
            RawEra::Modern => ("modern", Server::ModernProgram),
        };
        Some(Self { era, server })
    }

    /// Whether the server is as it says; `None`: it cannot be used anyhow.
    pub(crate) fn judged(self, seen: &Observations) -> Option<Finding> {
        let identity = seen.identity.as_ref().ok()?;
        let (level, text, mend) = match servers(identity).contains(&self.server) {
            true => (Level::Fine, format!("it speaks what {self} says"), None),
            false => (
                Level::Failure,
                format!("it does not speak what {self} says, so that clients get errors"),
                Some("leave `era` out, so that the gateway asks, or set what the server speaks"),
            ),
        };
        Some(Finding {
            check: "era",
            level,
            text,
            mend,
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`era = \"{}\"`", self.era)
    }
}
