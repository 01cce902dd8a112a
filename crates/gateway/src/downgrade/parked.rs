//! How many calls wait for their clients.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use thinpipe_proto::session::Principal;

use super::post::Client;
use crate::config::ParkedConfig;
use crate::sync::lock;

/// The calls in front of one server that wait.
#[derive(Debug)]
pub(super) struct Parked {
    limits: ParkedConfig,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    each: HashMap<Who, usize>,
}

/// Who is counted together: without a principal, who comes from one address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Principal(Arc<str>),
    Address(Option<IpAddr>),
}

/// As many calls wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// In all.
    Total(usize),
    /// Of those that are counted together.
    Own(usize),
}

/// A place for a call that waits, given back on drop.
#[derive(Debug)]
pub(super) struct ParkedPlace {
    parked: Arc<Parked>,
    who: Who,
}

impl Parked {
    pub(super) fn new(limits: ParkedConfig) -> Arc<Self> {
        Arc::new(Self {
            limits,
            counts: Mutex::default(),
        })
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        lock(&self.counts).total
    }

    /// How many wait of those that are counted together with this client's.
    pub(super) fn count_of(&self, client: &Client) -> usize {
        let counts = lock(&self.counts);
        counts.each.get(&Who::of(client)).copied().unwrap_or(0)
    }

    /// # Errors
    /// [`Full`]: as many wait as may.
    pub(super) fn take(self: &Arc<Self>, client: &Client) -> Result<ParkedPlace, Full> {
        let who = Who::of(client);
        let mut counts = lock(&self.counts);
        let own = counts.each.get(&who).copied().unwrap_or_default();
        if own >= self.limits.per_principal {
            return Err(Full::Own(self.limits.per_principal));
        }
        if counts.total >= self.limits.total {
            return Err(Full::Total(self.limits.total));
        }
        counts.total += 1;
        counts.each.insert(who.clone(), own + 1);
        let parked = Arc::clone(self);
        Ok(ParkedPlace { parked, who })
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, of, setting) = match self {
            Self::Total(limit) => (limit, "all clients", "max"),
            Self::Own(limit) => (limit, "one principal", "per_principal"),
        };
        write!(
            f,
            "the client cannot be asked: as many calls of {of} wait for an answer as may ({limit}, `upstreams.parked.{setting}`)"
        )
    }
}

impl Who {
    fn of(client: &Client) -> Self {
        match &client.principal {
            Principal::Named(name) => Self::Principal(Arc::clone(name)),
            Principal::Anonymous => Self::Address(client.address),
        }
    }
}

impl Drop for ParkedPlace {
    fn drop(&mut self) {
        let mut counts = lock(&self.parked.counts);
        counts.total -= 1;
        if let Some(own) = counts.each.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                counts.each.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: Option<&str>, address: u8) -> Client {
        let principal = name.map_or(Principal::Anonymous, |name| Principal::Named(name.into()));
        let address = Some(IpAddr::from([127, 0, 0, address]));
        Client { principal, address }
    }

    /// 5.4.2: 100 of one principal or anonymous address, 10,000 in all; what is given back can be taken.
    #[test]
    fn parked_calls_are_counted_exactly() {
        let parked = Parked::new(ParkedConfig {
            per_principal: 2,
            total: 5,
            ..ParkedConfig::default()
        });
        let clients = [
            client(Some("a"), 1),
            client(Some("a"), 2),
            client(None, 1),
            client(None, 2),
        ];
        let mut taken: Vec<_> = clients.iter().map(|c| parked.take(c).unwrap()).collect();
        assert_eq!(parked.take(&clients[0]).unwrap_err(), Full::Own(2));
        assert!(
            parked.take(&client(Some("b"), 1)).is_ok(),
            "given back at once"
        );
        taken.push(parked.take(&clients[2]).unwrap());
        let full = parked.take(&client(Some("b"), 1)).unwrap_err();
        assert_eq!(full, Full::Total(5), "five in all");
        assert!(full.to_string().contains("(5, `upstreams.parked.max`)"));
        assert_eq!(parked.take(&clients[3]).unwrap_err(), full);
        drop(taken);
        assert_eq!(parked.counts.lock().unwrap().each.len(), 0);
        assert_eq!(parked.counts.lock().unwrap().total, 0);
    }
}
