//! What an upstream and its connections share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::gate::Gate;
use crate::upstream::behaviour::{self, Behaviour, Session};
use crate::upstream::listens::Listen;
use crate::upstream::lock;
use crate::upstream::record::{Record, Request, Via};
use crate::upstream::script::Script;
use crate::upstream::states::States;
use crate::upstream::stream::{EventStream, Streams};

/// What the connections share.
pub(crate) struct Shared {
    pub(crate) address: SocketAddr,
    pub(crate) record: watch::Sender<Record>,
    pub(crate) streams: Streams,
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) sessions: Mutex<Vec<Session>>,
    pub(crate) listens: Mutex<Vec<Listen>>,
    pub(crate) states: States,
    tasks: Mutex<JoinSet<()>>,
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
            listens: Mutex::new(Vec::new()),
            states: States::default(),
            tasks: Mutex::new(JoinSet::new()),
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

    /// Counts a request that is made with its number.
    pub(crate) fn received(&self, make: impl FnOnce(usize) -> Request) -> Arc<Request> {
        let mut received = None;
        self.record.send_modify(|record| {
            let request = Arc::new(make(record.received.len()));
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

    /// Ends what lives as long as the response to this request: a session of HTTP+SSE, a listen.
    pub(crate) fn end_opened_by(&self, number: usize) {
        lock(&self.listens).retain(|listen| listen.number != number);
        let opened = {
            let sessions = lock(&self.sessions);
            let mut opened = sessions.iter();
            let opened = opened.find(|session| session.opened_by == Some(number));
            opened.map(|session| session.id.clone())
        };
        if let Some(id) = opened {
            self.end_session(&id);
        }
    }

    /// Makes a session known, and its standalone stream.
    pub(crate) fn add_session(&self, session: Session, stream: EventStream) {
        self.streams
            .insert(&behaviour::standalone(&session.id), stream);
        lock(&self.sessions).push(session);
    }

    /// Looks at a live session, and may change it.
    pub(crate) fn with_session<T>(
        &self,
        id: Option<&str>,
        look: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        let mut sessions = lock(&self.sessions);
        let mut sessions = sessions.iter_mut();
        let found = sessions.find(|session| Some(session.id.as_str()) == id);
        found.map(look)
    }

    /// What the client says to the request with this id, as JSON text, once it has posted it: the result,
    /// or the whole error.
    pub(crate) async fn answer_posted(&self, id: &str) -> String {
        let answer = |record: &Record| {
            let mut answers = record
                .received
                .iter()
                .filter(|request| request.rpc_method().is_none());
            let answer = answers.find(|answer| answer.id_text() == Some(id))?;
            let said = answer.json().get("result");
            Some(said.unwrap_or_else(|| &answer.json()["error"]).to_string())
        };
        let mut record = self.record.subscribe();
        let posted = record.wait_for(|record| answer(record).is_some()).await;
        // The sender lives as long as `self`.
        posted
            .ok()
            .and_then(|record| answer(&record))
            .unwrap_or_default()
    }

    /// Until the client has said that it does not wait for the answer to a request of its session, and the
    /// behaviour is to stop then.
    pub(crate) async fn cancelled(&self, request: &Request) {
        let heeds = lock(&self.behaviour).heeds_cancel;
        if !heeds || request.id.is_none() || request.session().is_none() {
            return std::future::pending().await;
        }
        let cancelled = |record: &Record| {
            let mut later = record.received.iter().skip(request.number);
            later.any(|later| later.cancels(request))
        };
        // The sender lives as long as `self`.
        let _ = self.record.subscribe().wait_for(cancelled).await;
    }

    /// Runs what answers a message on the stream of its session, until the upstream dies.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Stops what [`Self::spawn`] has started, and forgets the sessions that live in connections.
    pub(crate) fn died(&self) {
        lock(&self.tasks).abort_all();
        lock(&self.sessions).retain(|session| session.via == Via::Http);
        lock(&self.listens).clear();
        self.record.send_modify(Record::disconnected);
    }
}
