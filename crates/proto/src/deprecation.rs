//! Leaving HTTP+SSE: what clients of the old transport are told, when, and how often (protocol notes
//! section 7).
//!
//! All of it is a function of its arguments: the time is one of them. What a server does with it (writes
//! headers, logs, counts) is not here.
//!
//! - [`DeprecationConfig`]: what an operator chooses. Every value of it is valid.
//! - [`headers`], [`severity`], [`hint`], [`gone`]: what a client, or a log, gets to see.
//! - [`advise`]: what one client should do, as far as its headers tell.
//! - [`Throttle`]: how often a log may be told the same.
//! - [`Inventory`]: who still uses HTTP+SSE.
//!
//! Streamable HTTP of older revisions is superseded, not deprecated: nothing of this is for it.

mod advice;
mod config;
mod inventory;
mod notice;
mod throttle;
mod timestamp;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use advice::{Gain, MigrationAdvice, Readiness, Sdk, Urgency, advise};
pub use config::{
    AfterSunset, DeprecationConfig, InvalidDeprecation, InvalidLink, LinkTarget, MigrationLevel,
};
pub use inventory::{
    ClientUse, Counted, EndpointUse, Inventory, InventoryReport, MAX_CLIENTS, MAX_NAME,
};
pub use notice::{Gone, Severity, gone, headers, hint, severity};
pub use throttle::{MAX_KEY, MAX_KEYS, Throttle};
pub use timestamp::{InvalidTimestamp, Timestamp};

/// When HTTP+SSE became deprecated: with revision 2025-03-26.
pub const DEPRECATED_SINCE: Timestamp = Timestamp::from_unix(1_742_947_200);

/// How near the sunset is. The later a phase, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Deprecated; no date is set, or it is more than 365 days away.
    Deprecated,
    /// 365 days at most.
    Announced,
    /// 180 days at most.
    Approaching,
    /// 90 days at most.
    Soon,
    /// 30 days at most.
    Imminent,
    /// The date has come.
    Sunset,
}

impl Phase {
    /// The phase at a time. A threshold belongs to the phase that begins with it.
    #[must_use]
    pub fn at(now: Timestamp, sunset: Option<Timestamp>) -> Self {
        let Some(sunset) = sunset else {
            return Self::Deprecated;
        };
        let left = sunset.since(now);
        if left.is_zero() {
            return Self::Sunset;
        }
        THRESHOLDS
            .into_iter()
            .find(|(days, _)| left <= DAY * *days)
            .map_or(Self::Deprecated, |(_, phase)| phase)
    }
}

/// Days before the sunset, and the phase that begins there.
const THRESHOLDS: [(u32, Phase); 4] = [
    (30, Phase::Imminent),
    (90, Phase::Soon),
    (180, Phase::Approaching),
    (365, Phase::Announced),
];

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
