//! How many messages clients may send.

use serde::{Deserialize, Serialize};
use thinpipe_gateway::{Anonymous, RateLimits};

use super::build::Build;
use super::problem::Problem;
use super::raw::RawToken;
use super::tables::RawLimits;
use super::tree::Path;

/// `limits.rate_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawRateKey {
    Principal,
    Address,
}

impl Build {
    /// The rates of clients, and who is in which tier.
    pub(super) fn rates(&mut self, raw: RawLimits, tokens: &[RawToken]) -> RateLimits {
        let mut rates = RateLimits {
            principal: raw.rate,
            total: raw.rate_total,
            tiers: raw.tiers,
            anonymous: match raw.rate_key {
                Some(RawRateKey::Address) => Anonymous::ByAddress,
                Some(RawRateKey::Principal) | None => Anonymous::Together,
            },
            ..RateLimits::default()
        };
        for (index, token) in tokens.iter().enumerate() {
            let at = Path::default().key("tokens").index(index).key("tier");
            let Some(tier) = &token.tier else {
                continue;
            };
            if !rates.tiers.contains_key(tier) {
                self.add(unknown(tier, &rates, at));
                continue;
            }
            let principal = &token.principal;
            let other = rates.tier_of.insert(principal.clone(), tier.clone());
            if let Some(other) = other.filter(|other| other != tier) {
                let message = format!("`{principal}` is in two tiers, `{other}` and `{tier}`");
                let mend = "all tokens of a principal have one rate together: name one tier";
                self.add(Problem::at(at, message).mend(mend));
            }
        }
        rates
    }
}

fn unknown(tier: &str, rates: &RateLimits, at: Path) -> Problem {
    let message = format!("there is no tier `{tier}`");
    let known: Vec<_> = rates.tiers.keys().map(String::as_str).collect();
    match known.as_slice() {
        [] => Problem::at(at, message).mend(format!(
            "say what it is: `[limits.tiers]` and `{tier} = \"100/s\"`"
        )),
        known => Problem::at(at, message).suggest(tier, known),
    }
}

/// The table of limits with the rates that are in effect.
pub(super) fn shown(rates: &RateLimits, limits: RawLimits) -> RawLimits {
    RawLimits {
        rate: rates.principal,
        rate_total: rates.total,
        rate_key: Some(match rates.anonymous {
            Anonymous::Together => RawRateKey::Principal,
            Anonymous::ByAddress => RawRateKey::Address,
        }),
        tiers: rates.tiers.clone(),
        ..limits
    }
}
