//! What an upstream and its connections share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use crate::gate::Gate;
use crate::upstream::behaviour::{self, Behaviour, Session};
use crate::upstream::lock;
use crate::upstream::record::{Record, Request};
use crate::upstream::script::Script;
use crate::upstream::stream::Streams;
use crate::wire::Headers;

/// What the connections share.
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    pub(crate) record: watch::Sender<Record>,
    pub(crate) streams: Streams,
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) sessions: Mutex<Vec<Session>>,
    gates: Mutex<HashMap<String, Gate>>,
    rules: Mutex<Vec<Rule>>,
}

struct Rule {
    what: String,
    once: bool,
    answer: Arc<Answerer>,
}

pub(crate) type Answerer = dyn Fn(&Request) -> Option<Script> + Send + Sync;

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            record: watch::Sender::new(Record::default()),
            streams: Streams::default(),
            behaviour: Mutex::new(Behaviour::default()),
            sessions: Mutex::new(Vec::new()),
            gates: Mutex::new(HashMap::new()),
            rules: Mutex::new(Vec::new()),
        }
    }

    /// Adds a rule: see [`Upstream::on_each`](crate::Upstream::on_each).
    pub(crate) fn rule(&self, what: &str, once: bool, answer: Arc<Answerer>) {
        lock(&self.rules).push(Rule {
            what: what.to_owned(),
            once,
            answer,
        });
    }

    pub(crate) fn forget_rules(&self) {
        lock(&self.rules).clear();
    }

    /// Counts a connection and gives it its number.
    pub(crate) fn connected(&self) -> usize {
        let mut number = 0;
        self.record.send_modify(|record| {
            number = record.connections;
            record.connections += 1;
            record.open_connections += 1;
        });
        number
    }

    /// Counts a request and gives it its number.
    pub(crate) fn received(
        &self,
        connection: usize,
        line: (String, String),
        headers: Headers,
        body: Bytes,
    ) -> Arc<Request> {
        let mut received = None;
        self.record.send_modify(|record| {
            let number = record.received.len();
            let request = Arc::new(Request::new((number, connection), line, headers, body));
            record.add(Arc::clone(&request));
            received = Some(request);
        });
        received.expect("the closure ran")
    }

    /// What to do with a request.
    pub(crate) fn script(&self, request: &Request) -> Script {
        let mut told = {
            let mut rules = lock(&self.rules);
            let once = rules
                .iter()
                .position(|rule| rule.once && request.is(&rule.what));
            match once {
                Some(index) => vec![rules.remove(index).answer],
                None => rules
                    .iter()
                    .rev()
                    .filter(|rule| !rule.once && request.is(&rule.what))
                    .map(|rule| Arc::clone(&rule.answer))
                    .collect(),
            }
        }
        .into_iter();
        told.find_map(|answer| answer(request))
            .unwrap_or_else(|| behaviour::answer(self, request))
    }

    pub(crate) fn gate(&self, name: &str) -> Gate {
        lock(&self.gates)
            .entry(name.to_owned())
            .or_default()
            .clone()
    }

    pub(crate) fn end_session(&self, id: &str) {
        lock(&self.sessions).retain(|session| session.id != id);
        if let Some(stream) = self.streams.get(&behaviour::standalone(id)) {
            stream.finish();
        }
    }

    /// Until the client has posted an answer with this id.
    pub(crate) async fn answer_posted(&self, id: &str) {
        let posted = |record: &Record| {
            let mut answers = record
                .received
                .iter()
                .filter(|request| request.rpc_method().is_none());
            answers.any(|answer| answer.id_text() == Some(id))
        };
        // The sender lives as long as `self`.
        let _ = self.record.subscribe().wait_for(posted).await;
    }
}
