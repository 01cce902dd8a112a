//! What was asked, run and heard, and what of it must not be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use thinpipe_testkit::network::Network;

/// Violations that are kept; one says most.
const MAX_VIOLATIONS: usize = 50;

/// Shared by all peers of a world.
#[derive(Clone)]
pub(crate) struct Ledger {
    network: Network,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    violations: Vec<String>,
    /// How often the call with this token was run by a server.
    runs: BTreeMap<String, u32>,
    figures: Figures,
    /// Whose messages are told apart by name.
    clients: Vec<String>,
}

/// How often what happened: a world in which nothing happens proves nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    /// Got their answer.
    pub(crate) answered: u64,
    /// Got an error, or their connection ended without a way to resume.
    pub(crate) told: u64,
    /// Of those, calls that a server has run.
    pub(crate) unanswered: u64,
    /// Times a stream was resumed by its client and went on.
    pub(crate) resumed: u64,
    /// Events that clients heard on standalone streams.
    pub(crate) notices: u64,
    /// Questions of servers that clients answered.
    pub(crate) asked: u64,
    /// Sessions that clients opened.
    pub(crate) sessions: u64,
    /// Sessions that were gone without their client's doing.
    pub(crate) lost: u64,
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.told += other.told;
        self.unanswered += other.unanswered;
        self.resumed += other.resumed;
        self.notices += other.notices;
        self.asked += other.asked;
        self.sessions += other.sessions;
        self.lost += other.lost;
    }
}

impl Ledger {
    pub(crate) fn new(network: &Network) -> Self {
        Self {
            network: network.clone(),
            inner: Arc::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        self.network.note(what);
    }

    /// Something happened that must not.
    pub(crate) fn violation(&self, what: impl std::fmt::Display) {
        let what = what.to_string();
        self.network.note(format!("VIOLATION: {what}"));
        let mut inner = self.inner();
        if inner.violations.len() < MAX_VIOLATIONS {
            inner.violations.push(what);
        }
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Figures)) {
        count(&mut self.inner().figures);
    }

    /// There is a client of this name.
    pub(crate) fn joins(&self, name: &str) {
        self.inner().clients.push(name.to_owned());
    }

    /// A server runs the call with this token. Invariant 2: once.
    pub(crate) fn runs(&self, token: &str) {
        let runs = {
            let mut inner = self.inner();
            let runs = inner.runs.entry(token.to_owned()).or_default();
            *runs += 1;
            *runs
        };
        if runs > 1 {
            self.violation(format!("{token} runs for the {runs}nd time"));
        }
    }

    /// Whether a server has run the call with this token.
    pub(crate) fn ran(&self, token: &str) -> bool {
        self.inner().runs.contains_key(token)
    }

    /// A client has heard this. Invariant 3: nothing of another's is in it.
    pub(crate) fn heard(&self, client: &str, message: &Value) {
        let text = message.to_string();
        self.network.note(format!("{client} hears {text}"));
        let other = {
            let inner = self.inner();
            let mut others = inner.clients.iter().filter(|name| *name != client);
            others.find(|name| text.contains(&***name)).cloned()
        };
        if let Some(other) = other {
            self.violation(format!("{client} hears of {other}: {text}"));
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.inner().figures
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }
}
