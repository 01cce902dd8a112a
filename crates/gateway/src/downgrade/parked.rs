//! How many calls wait for their clients.

use std::collections::HashMap;
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

    /// `None`: as many wait as may.
    pub(super) fn take(self: &Arc<Self>, client: &Client) -> Option<ParkedPlace> {
        let who = Who::of(client);
        let mut counts = lock(&self.counts);
        let own = counts.each.get(&who).copied().unwrap_or_default();
        if counts.total >= self.limits.total || own >= self.limits.per_principal {
            return None;
        }
        counts.total += 1;
        counts.each.insert(who.clone(), own + 1);
        let parked = Arc::clone(self);
        Some(ParkedPlace { parked, who })
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
        assert!(parked.take(&clients[0]).is_none());
        assert!(
            parked.take(&client(Some("b"), 1)).is_some(),
            "given back at once"
        );
        taken.push(parked.take(&clients[2]).unwrap());
        assert!(parked.take(&client(Some("b"), 1)).is_none(), "five in all");
        assert!(parked.take(&clients[3]).is_none());
        drop(taken);
        assert_eq!(parked.counts.lock().unwrap().each.len(), 0);
        assert_eq!(parked.counts.lock().unwrap().total, 0);
    }
}
