//! Requests of the client that are open, and how far each is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bridge::action::CallId;
use crate::bridge::clock::Clock;
use crate::bridge::progress::Progress;
use crate::rpc::{Message, RequestId};

/// A request of the client that is on its way. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExchangeId(u64);

/// A request of the client.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The client's own id.
    pub(super) request: RequestId,
    /// As the client sent it: each call upstream is made from it anew.
    pub(super) message: Message,
    pub(super) progress: Option<Progress>,
    pub(super) clock: Clock,
    pub(super) leg: Leg,
    /// Calls upstream: the first, and one for each round of questions.
    pub(super) rounds: u32,
    /// How long the last round without questions was paced.
    pub(super) paced: Option<Duration>,
    pub(super) spent: Spent,
    /// Questions with a URL that were accepted: the client hears when they are done with.
    pub(super) elicitations: Vec<String>,
}

/// What is done once, and has been done.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// Sent again as its headers were wrong.
    pub(super) headers: bool,
    /// Sent again as its revision was not served.
    pub(super) revision: bool,
    /// Sent again as the first one was lost.
    pub(super) lost: bool,
    /// Sent again with tasks declared, as the server wants to run it as one.
    pub(super) tasks: bool,
}

/// Where it is.
#[derive(Debug)]
pub(super) enum Leg {
    /// It waits until the schema of its tool is known, and is then sent with this.
    Schema(Input),
    /// It runs at the server.
    Running(CallId, Input),
    /// The client is being asked.
    Asking(Round),
    /// Nothing is asked, and the server is called again after a while.
    Pacing { until: Instant, state: Bytes },
    /// The server runs it as a task, which is asked for.
    Task(Task, Step),
}

/// What a further call carries.
#[derive(Debug, Clone, Default)]
pub(super) struct Input {
    /// By the keys of the questions.
    pub(super) responses: BTreeMap<String, Bytes>,
    /// As the server gave it.
    pub(super) state: Option<Bytes>,
}

impl Input {
    pub(super) fn is_empty(&self) -> bool {
        self.responses.is_empty() && self.state.is_none()
    }
}

/// Questions that the client answers at one time.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) answers: BTreeMap<String, Bytes>,
    /// How many are not there yet.
    pub(super) open: usize,
    pub(super) then: Then,
}

/// What becomes of the answers.
#[derive(Debug)]
pub(super) enum Then {
    /// The request is sent again, with this state.
    Retry(Option<Bytes>),
    /// The task gets them.
    Update(Task),
}

/// A request that its server runs as a task.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) interval: Duration,
    /// Keys that were asked: each once over its life.
    pub(super) asked: BTreeSet<String>,
}

/// What is done about a task.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Waiting(Instant),
    Getting(CallId),
    Updating(CallId),
}

impl Exchange {
    pub(super) fn method(&self) -> &str {
        self.message.method().unwrap_or_default()
    }

    /// Its call upstream that is open.
    pub(super) fn call(&self) -> Option<CallId> {
        match self.leg {
            Leg::Running(call, _) | Leg::Task(_, Step::Getting(call) | Step::Updating(call)) => {
                Some(call)
            }
            Leg::Schema(_)
            | Leg::Asking(_)
            | Leg::Pacing { .. }
            | Leg::Task(_, Step::Waiting(_)) => None,
        }
    }

    /// The task that the server runs for it.
    pub(super) fn task(&self) -> Option<&Task> {
        match &self.leg {
            Leg::Task(task, _) => Some(task),
            Leg::Asking(round) => match &round.then {
                Then::Update(task) => Some(task),
                Then::Retry(_) => None,
            },
            Leg::Schema(_) | Leg::Running(..) | Leg::Pacing { .. } => None,
        }
    }

    /// When it goes on by itself.
    pub(super) fn pause(&self) -> Option<Instant> {
        match self.leg {
            Leg::Pacing { until, .. } | Leg::Task(_, Step::Waiting(until)) => Some(until),
            Leg::Schema(_)
            | Leg::Running(..)
            | Leg::Asking(_)
            | Leg::Task(_, Step::Getting(_) | Step::Updating(_)) => None,
        }
    }

    /// When something is due about it.
    pub(super) fn due(&self) -> Instant {
        let due = self.clock.due();
        self.pause().map_or(due, |pause| pause.min(due))
    }
}

/// The table. Bounded by `Limits::in_flight`, which the callers check.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    open: BTreeMap<ExchangeId, Exchange>,
    ids: HashMap<RequestId, ExchangeId>,
    last: u64,
}

impl Exchanges {
    pub(super) fn insert(&mut self, exchange: Exchange) -> ExchangeId {
        self.last += 1;
        let id = ExchangeId(self.last);
        self.ids.insert(exchange.request.clone(), id);
        self.open.insert(id, exchange);
        id
    }

    pub(super) fn get(&self, id: ExchangeId) -> Option<&Exchange> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.open.get_mut(&id)
    }

    pub(super) fn of(&self, request: &RequestId) -> Option<ExchangeId> {
        self.ids.get(request).copied()
    }

    pub(super) fn remove(&mut self, id: ExchangeId) -> Option<Exchange> {
        let exchange = self.open.remove(&id)?;
        self.ids.remove(&exchange.request);
        Some(exchange)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Those that `wanted` picks, the oldest first.
    pub(super) fn ids(&self, wanted: impl Fn(&Exchange) -> bool) -> Vec<ExchangeId> {
        let open = self.open.iter().filter(|(_, exchange)| wanted(exchange));
        open.map(|(id, _)| *id).collect()
    }

    /// The tasks that the server runs.
    pub(super) fn tasks(&self) -> impl Iterator<Item = String> {
        let tasks = self.open.values().filter_map(Exchange::task);
        tasks.map(|task| task.id.clone())
    }

    /// When the first of them is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.values().map(Exchange::due).min()
    }
}
