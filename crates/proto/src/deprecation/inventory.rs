//! Who still uses HTTP+SSE: which clients, since when, how often.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::shown::Shown;

/// Clients that are told apart. What comes beyond is counted together.
pub const MAX_CLIENTS: usize = 10_000;
/// Bytes of a name or version that are kept.
pub const MAX_NAME: usize = 64;

/// Counts the sessions of each client at each endpoint. Clients are never forgotten, and they are
/// [`MAX_CLIENTS`] at most.
///
/// ```
/// use thinpipe_proto::deprecation::{Inventory, Timestamp};
///
/// let mut inventory = Inventory::default();
/// let session = inventory.opened("/sse", "Inspector", "0.15.0", Timestamp::from_unix(1_800_000_000));
/// let report = inventory.report();
/// assert_eq!((report.sessions, report.clients[0].open), (1, 1));
/// inventory.closed(session, Timestamp::from_unix(1_800_000_060));
/// ```
#[derive(Debug, Clone)]
pub struct Inventory {
    clients: HashMap<Client, Use>,
    other: Option<Use>,
    /// As many as the server has endpoints, which its operator has chosen.
    endpoints: HashMap<Box<str>, EndpointUse>,
    max: usize,
}

/// An open session that was counted, to be given back when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Counted {
    client: Client,
    /// Whether the client is counted under its own name.
    has_place: bool,
}

/// All clients of one endpoint, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointUse {
    /// Sessions that were opened.
    pub sessions: u64,
    /// Sessions that are open now.
    pub open: u64,
    /// Clients that are told apart by name and version.
    pub clients: u64,
}

/// Names are made presentable before they are keys, so that what a peer chose is nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Client {
    endpoint: Box<str>,
    name: Box<str>,
    version: Box<str>,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    first_seen: Timestamp,
    last_seen: Timestamp,
    sessions: u64,
    open: u64,
}

/// An inventory as it is shown: the most used clients first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct InventoryReport {
    /// Sessions that were opened, of all clients.
    pub sessions: u64,
    /// Sessions that are open now, of all clients.
    pub open: u64,
    /// Clients, by sessions; then by name, version and endpoint.
    pub clients: Vec<ClientUse>,
    /// All those for which there was no room, together; their name, version and endpoint are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<ClientUse>,
}

/// One client in a report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct ClientUse {
    /// The endpoint it uses.
    pub endpoint: String,
    /// Its name, from `clientInfo`, with what cannot be shown as escapes, and cut if it is long. Empty if it
    /// has none.
    pub name: String,
    /// Its version, in the same way.
    pub version: String,
    /// When its first session was opened.
    pub first_seen: Timestamp,
    /// When its last session was opened or ended.
    pub last_seen: Timestamp,
    /// Sessions that were opened.
    pub sessions: u64,
    /// Sessions that are open now.
    pub open: u64,
}

impl Inventory {
    /// A session was opened, by the client that calls itself so.
    pub fn opened(&mut self, endpoint: &str, name: &str, version: &str, now: Timestamp) -> Counted {
        let client = Client::new(endpoint, name, version);
        let fresh = Use::new(now);
        let is_known = self.clients.contains_key(&client);
        let has_place = is_known || self.clients.len() < self.max;
        let used = if has_place {
            self.clients.entry(client.clone()).or_insert(fresh)
        } else {
            self.other.get_or_insert(fresh)
        };
        used.sessions = used.sessions.saturating_add(1);
        used.open = used.open.saturating_add(1);
        used.last_seen = used.last_seen.max(now);
        let of_endpoint = self.endpoints.entry(client.endpoint.clone()).or_default();
        of_endpoint.sessions = of_endpoint.sessions.saturating_add(1);
        of_endpoint.open = of_endpoint.open.saturating_add(1);
        of_endpoint.clients += u64::from(has_place && !is_known);
        Counted { client, has_place }
    }

    /// A session has ended.
    pub fn closed(&mut self, session: Counted, now: Timestamp) {
        let Counted { client, has_place } = session;
        let used = match has_place {
            true => self.clients.get_mut(&client),
            false => self.other.as_mut(),
        };
        if let Some(used) = used {
            used.open = used.open.saturating_sub(1);
            used.last_seen = used.last_seen.max(now);
        }
        if let Some(of_endpoint) = self.endpoints.get_mut(&client.endpoint) {
            of_endpoint.open = of_endpoint.open.saturating_sub(1);
        }
    }

    /// The clients of an endpoint together. It costs the same however many there are, which
    /// [`report`](Self::report) does not.
    #[must_use]
    pub fn of_endpoint(&self, endpoint: &str) -> EndpointUse {
        self.endpoints.get(endpoint).copied().unwrap_or_default()
    }

    /// What there is to see now.
    #[must_use]
    pub fn report(&self) -> InventoryReport {
        let all = || self.clients.values().chain(&self.other);
        let mut clients: Vec<_> = self
            .clients
            .iter()
            .map(|(client, used)| used.shown(client))
            .collect();
        clients.sort_by(|one, other| {
            let by_use = other.sessions.cmp(&one.sessions);
            by_use.then_with(|| one.names().cmp(&other.names()))
        });
        InventoryReport {
            sessions: all().map(|used| used.sessions).sum(),
            open: all().map(|used| used.open).sum(),
            clients,
            other: self.other.map(|used| used.shown(&Client::default())),
        }
    }
}

impl ClientUse {
    fn names(&self) -> [&str; 3] {
        [&self.name, &self.version, &self.endpoint]
    }
}

impl Default for Inventory {
    fn default() -> Self {
        Self {
            clients: HashMap::new(),
            other: None,
            endpoints: HashMap::new(),
            max: MAX_CLIENTS,
        }
    }
}

impl Client {
    fn new(endpoint: &str, name: &str, version: &str) -> Self {
        let shown = |text: &str| Shown::new(text, MAX_NAME).to_string().into_boxed_str();
        Self {
            endpoint: endpoint.into(),
            name: shown(name),
            version: shown(version),
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new("", "", "")
    }
}

impl Use {
    fn new(now: Timestamp) -> Self {
        Self {
            first_seen: now,
            last_seen: now,
            sessions: 0,
            open: 0,
        }
    }

    fn shown(&self, client: &Client) -> ClientUse {
        ClientUse {
            endpoint: client.endpoint.to_string(),
            name: client.name.to_string(),
            version: client.version.to_string(),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            sessions: self.sessions,
            open: self.open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    #[test]
    fn a31_uses_are_counted_by_client_and_endpoint() {
        let mut inventory = Inventory::default();
        let first = inventory.opened("/sse", "b", "1", at(10));
        let rest = [
            ("/sse", "a", "1"),
            ("/sse", "b", "1"),
            ("/other", "b", "1"),
            ("/sse", "b", "2"),
        ]
        .map(|(endpoint, name, version)| inventory.opened(endpoint, name, version, at(20)));
        inventory.closed(first, at(60));
        let report = inventory.report();
        assert_eq!((report.sessions, report.open), (5, 4));
        let names: Vec<_> = report
            .clients
            .iter()
            .map(|it| (it.name.as_str(), it.version.as_str(), it.endpoint.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("b", "1", "/sse"),
                ("a", "1", "/sse"),
                ("b", "1", "/other"),
                ("b", "2", "/sse")
            ]
        );
        let expected = EndpointUse {
            sessions: 4,
            open: 3,
            clients: 3,
        };
        assert_eq!(inventory.of_endpoint("/sse"), expected);
        assert_eq!(inventory.of_endpoint("/none"), EndpointUse::default());
        let most = &report.clients[0];
        assert_eq!((most.sessions, most.open), (2, 1));
        assert_eq!((most.first_seen, most.last_seen), (at(10), at(60)));
        assert_eq!(report.other, None);
        for session in rest {
            inventory.closed(session, at(70));
        }
        let report = inventory.report();
        assert_eq!((report.sessions, report.open), (5, 0));
    }

    /// A31: names that never repeat do not fill memory, and nothing is counted twice or lost.
    #[test]
    fn a31_beyond_the_bound_clients_are_counted_together() {
        let mut inventory = Inventory::default();
        let open = |client: usize| inventory.opened("/sse", &client.to_string(), "", at(1));
        let sessions: Vec<_> = (0..MAX_CLIENTS + 5).map(open).collect();
        let report = inventory.report();
        assert_eq!(report.clients.len(), MAX_CLIENTS);
        assert_eq!(report.sessions, 10_005);
        assert_eq!(report.other.map(|it| (it.sessions, it.open)), Some((5, 5)));
        let of_endpoint = inventory.of_endpoint("/sse");
        assert_eq!(
            (of_endpoint.sessions, of_endpoint.clients),
            (10_005, 10_000)
        );
        for session in sessions {
            inventory.closed(session, at(2));
        }
        let report = inventory.report();
        assert_eq!((report.open, report.other.map(|it| it.open)), (0, Some(0)));
        assert_eq!(inventory.of_endpoint("/sse").open, 0);
    }

    /// A31, E11: a client's name ends no line, moves no cursor, and is not as long as it likes.
    #[test]
    fn a31_names_are_bounded_and_cleaned() {
        let mut inventory = Inventory::default();
        let long = "x".repeat(10_000);
        let session = inventory.opened("/sse", "evil\u{1b}[2J\n", &long, at(1));
        let shown = inventory.report().clients.remove(0);
        assert_eq!(shown.name, "evil\\u{1b}[2J\\n");
        assert!(shown.version.len() < 100 && shown.version.starts_with("xxx"));
        inventory.closed(session, at(1));
        assert_eq!(inventory.report().open, 0);
    }

    /// A31: what the admin address shows, `thinpipe migrate` can read.
    #[test]
    fn a31_a_report_is_json_and_comes_back() {
        let mut inventory = Inventory::default();
        let session = inventory.opened("/sse", "Inspector", "0.15.0", at(1_800_000_000));
        let report = inventory.report();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"sessions":1,"open":1,"clients":[{"endpoint":"/sse","name":"Inspector","#,
                r#""version":"0.15.0","first_seen":"2027-01-15T08:00:00Z","#,
                r#""last_seen":"2027-01-15T08:00:00Z","sessions":1,"open":1}]}"#
            )
        );
        let read: InventoryReport = serde_json::from_str(&json).unwrap();
        assert_eq!(read, report);
        inventory.closed(session, at(1_800_000_000));
        assert_ne!(inventory.report(), report);
    }
}
