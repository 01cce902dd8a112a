//! Whether a client may send more messages: kept for each principal, for each upstream, and for all together.
//!
//! A message has to keep all of these rates. One that is refused by any of them takes nothing of the others: who
//! sends too much takes nothing from those who do not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use thinpipe_proto::rate::{Bucket, Rate, Refused};
use thinpipe_proto::session::Principal;

use crate::config::{Anonymous, RateLimits};
use crate::sync::lock;

#[cfg(test)]
mod tests;

/// Clients that are told apart at one time. With any more, those that are new share one rate: whoever can take
/// addresses at will gets no more by it, and no more memory.
const MAX_CLIENTS: usize = 1 << 16;
/// How often those are forgotten who have used up nothing of their rate.
const SWEEP: Duration = Duration::from_secs(10);

/// The rates of a gateway, and how much of them is used up.
#[derive(Debug)]
pub(crate) struct Rates {
    limits: RateLimits,
    /// Of principals in tiers, by their names.
    named: HashMap<Box<str>, Rate>,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Used {
    clients: HashMap<Client, Bucket>,
    /// Of all clients for which there was no room.
    others: Bucket,
    total: Bucket,
    sweep_at: Instant,
}

/// Who has one rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    Anonymous,
    Address(IpAddr),
    Principal(Arc<str>),
}

/// The rates that messages to one upstream have to keep.
#[derive(Debug)]
pub(crate) struct Limiter {
    rates: Arc<Rates>,
    upstream: Option<(Rate, Mutex<Bucket>)>,
}

/// Too many messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Excess {
    /// The rate that has to be waited for longest.
    pub(crate) rate: Rate,
    pub(crate) whose: Whose,
    pub(crate) refused: Refused,
}

/// Whose rate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Client,
    Upstream,
    Gateway,
}

impl Rates {
    pub(crate) fn new(limits: RateLimits, now: Instant) -> Self {
        let unused = Bucket::new(now);
        let used = Used {
            clients: HashMap::new(),
            others: unused,
            total: unused,
            sweep_at: now + SWEEP,
        };
        let in_tiers = limits.tier_of.iter().filter_map(|(name, tier)| {
            let rate = limits.tiers.get(tier)?;
            Some((name.as_str().into(), *rate))
        });
        Self {
            named: in_tiers.collect(),
            limits,
            used: Mutex::new(used),
        }
    }

    /// What there is to keep on the way to an upstream that has this rate itself. `None`: nothing.
    pub(crate) fn limiter(
        self: &Arc<Self>,
        upstream: Option<Rate>,
        now: Instant,
    ) -> Option<Limiter> {
        let limits = &self.limits;
        let of_clients = limits.principal.is_some() || !self.named.is_empty();
        if !of_clients && limits.total.is_none() && upstream.is_none() {
            return None;
        }
        Some(Limiter {
            rates: Arc::clone(self),
            upstream: upstream.map(|rate| (rate, Mutex::new(Bucket::new(now)))),
        })
    }

    fn client(&self, principal: &Principal, address: Option<IpAddr>) -> Client {
        match (principal, self.limits.anonymous, address) {
            (Principal::Named(name), _, _) => Client::Principal(Arc::clone(name)),
            (Principal::Anonymous, Anonymous::ByAddress, Some(address)) => {
                Client::Address(network(address))
            }
            (Principal::Anonymous, _, _) => Client::Anonymous,
        }
    }

    fn rate_of(&self, client: &Client) -> Option<Rate> {
        let own = match client {
            Client::Principal(name) => self.named.get(&**name).copied(),
            Client::Anonymous | Client::Address(_) => None,
        };
        own.or(self.limits.principal)
    }
}

impl Limiter {
    /// Counts messages that pass now. Those that do not are not counted.
    ///
    /// # Errors
    /// If there are too many of them.
    pub(crate) fn admit(
        &self,
        principal: &Principal,
        address: Option<IpAddr>,
        messages: usize,
        now: Instant,
    ) -> Result<(), Excess> {
        // No batch has so many.
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let client = self.rates.client(principal, address);
        let rate = self.rates.rate_of(&client);
        let total = self.rates.limits.total;
        let mut used = lock(&self.rates.used);
        used.sweep(&self.rates, now);
        // Always in this order.
        let mut upstream = self
            .upstream
            .as_ref()
            .map(|(rate, used)| (*rate, lock(used)));

        let checks = [
            rate.map(|rate| (Whose::Client, rate, used.of(&client, now))),
            upstream
                .as_ref()
                .map(|(rate, used)| (Whose::Upstream, *rate, **used)),
            total.map(|rate| (Whose::Gateway, rate, used.total)),
        ];
        let excesses = checks
            .into_iter()
            .flatten()
            .filter_map(|(whose, rate, used)| {
                let refused = used.check(rate, messages, now).err()?;
                Some(Excess {
                    rate,
                    whose,
                    refused,
                })
            });
        if let Some(excess) = excesses.max_by_key(|excess| excess.refused.wait()) {
            return Err(excess);
        }

        if let Some(rate) = rate {
            used.of_mut(client, now).take(rate, messages, now);
        }
        if let Some((rate, used)) = &mut upstream {
            used.take(*rate, messages, now);
        }
        if let Some(rate) = total {
            used.total.take(rate, messages, now);
        }
        Ok(())
    }
}

impl Used {
    fn has_room(&self) -> bool {
        self.clients.len() < MAX_CLIENTS
    }

    fn of(&self, client: &Client, now: Instant) -> Bucket {
        match self.clients.get(client) {
            Some(used) => *used,
            None if self.has_room() => Bucket::new(now),
            None => self.others,
        }
    }

    fn of_mut(&mut self, client: Client, now: Instant) -> &mut Bucket {
        if !self.has_room() && !self.clients.contains_key(&client) {
            return &mut self.others;
        }
        self.clients
            .entry(client)
            .or_insert_with(|| Bucket::new(now))
    }

    /// Forgets those of whom nothing has to be known, now and then: a pass over all of them is long for one message,
    /// and nothing for those of ten seconds.
    fn sweep(&mut self, rates: &Rates, now: Instant) {
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP;
        let is_used = |client: &Client, used: &Bucket| {
            rates
                .rate_of(client)
                .is_some_and(|rate| !used.is_unused(rate, now))
        };
        self.clients.retain(|client, used| is_used(client, used));
        self.clients.shrink_to(2 * self.clients.len());
    }
}

/// The part of an address that one client has: whoever has an IPv6 network has all of its addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}
