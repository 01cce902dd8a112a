//! How many messages clients may send.

use std::collections::BTreeMap;

use thinpipe_proto::rate::Rate;

/// How many messages clients may send, over all upstreams of a gateway. Each process counts for itself. Nothing is
/// limited by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of each principal that is in no tier. `None`: as many as it likes.
    pub principal: Option<Rate>,
    /// Of each principal in a tier, by the tier's name.
    pub tiers: BTreeMap<String, Rate>,
    /// The tier of a principal, by its name. A tier that is not there is none.
    pub tier_of: BTreeMap<String, String>,
    /// Of all clients together.
    pub total: Option<Rate>,
    /// What clients without a principal are told apart by.
    pub anonymous: Anonymous,
}

/// What clients without a principal are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// Nothing: they are one principal together.
    #[default]
    Together,
    /// Their addresses, as far as trusted proxies tell them; of IPv6, the network of 64 bits. Where none is known,
    /// nothing.
    ByAddress,
}
