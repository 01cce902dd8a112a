//! The replicas of a server, and the one way to them: each request goes to one of them, and to another one only
//! where that can do no harm.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use http::StatusCode;
use thinpipe_proto::balance::{self, Outcome, RetryBudget, Tried};
use thinpipe_transport::Random;
use thinpipe_transport::upstream::pipe::PipeError;
use thinpipe_transport::upstream::{UpstreamError, UpstreamRequest, UpstreamResponse};

use crate::clock::now;
use crate::config::{HealthConfig, HttpUpstream};
use crate::sync::lock;

mod picked;
mod replica;

pub(crate) use picked::Picked;
pub(crate) use replica::Replica;
pub use replica::ReplicaStats;

/// The replicas of one server; mostly there is one.
pub(crate) struct Group {
    replicas: Box<[Replica]>,
    /// `None`: there is one, and it is asked in any case.
    balance: Option<Balance>,
    shares_sessions: bool,
    /// What shares out.
    random: Random,
}

#[derive(Debug)]
struct Balance {
    core: Mutex<balance::Group>,
    repeating: Mutex<RetryBudget>,
}

/// Which replica may serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Any of them.
    Any,
    /// Any of them, for a session that is to be opened: 404 can only mean that its endpoint is not there.
    Opening,
    /// The one of this number, which has the session.
    Only(usize),
}

/// A response, and who gave it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) response: UpstreamResponse,
    pub(crate) replica: usize,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// A replica was asked.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// None may be asked now.
    #[error("no replica may be asked, since the last requests to them failed")]
    NoReplica {
        /// How long until one may be; zero if nobody knows.
        retry_after: Duration,
    },
}

impl Unanswered {
    /// Whether the request certainly did not run.
    pub(crate) fn is_unsent(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_unsent(),
            Self::NoReplica { .. } => true,
        }
    }

    /// Whether it is because nobody could be connected to.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Upstream(UpstreamError::Connect { .. }))
    }
}

type Sent = Result<Answered, Unanswered>;

impl Group {
    pub(crate) fn of(http: &HttpUpstream, health: HealthConfig) -> Self {
        let Some(group) = &http.group else {
            return Self {
                replicas: Box::new([Replica::alone(http.client.clone(), health)]),
                balance: None,
                shares_sessions: true,
                random: http.client.random.clone(),
            };
        };
        let replicas = group.replicas.iter().take(balance::MAX_REPLICAS);
        let mut replicas: Box<[_]> = replicas
            .map(|replica| Replica::one_of(&http.client, replica, health))
            .collect();
        let mut weights: Vec<_> = group.replicas.iter().map(|it| it.weight).collect();
        if replicas.is_empty() {
            replicas = Box::new([Replica::alone(http.client.clone(), health)]);
            weights = vec![1];
        }
        Self {
            shares_sessions: group.shared_sessions || replicas.len() == 1,
            replicas,
            random: http.client.random.clone(),
            balance: Some(Balance {
                core: Mutex::new(balance::Group::new(group.balance, &weights)),
                repeating: Mutex::new(RetryBudget::new(group.retry, now())),
            }),
        }
    }

    /// At least one.
    pub(crate) fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// Whether a session is served by the replica alone that has opened it.
    pub(crate) fn pins(&self) -> bool {
        !self.shares_sessions
    }

    /// Whether any of them answers its health checks.
    pub(crate) fn is_healthy(&self) -> bool {
        self.replicas.iter().any(|it| it.health.is_healthy())
    }

    /// Why they do not, if they do not.
    pub(crate) fn cause(&self) -> String {
        let down = self.replicas.iter().find(|it| !it.health.is_healthy());
        down.map(|it| it.health.cause()).unwrap_or_default()
    }

    /// Something failed with one of them, or perhaps with all: worth a look.
    pub(crate) fn suspect(&self) {
        for replica in &self.replicas {
            replica.health.suspect();
        }
    }

    /// The number of the replica of this name.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        let named = |it: &Replica| it.name.as_deref() == Some(name);
        self.replicas.iter().position(named)
    }

    /// The number of the replica whose connections have this name.
    pub(crate) fn connected_as(&self, name: &str) -> Option<usize> {
        let named = |it: &Replica| *it.upstream.config().name == *name;
        self.replicas.iter().position(named)
    }

    /// A replica does not answer its health checks, and another one does: what only the first one has is lost.
    pub(crate) fn has_lost(&self, replica: usize) -> bool {
        let answers = |it: Option<&Replica>| it.is_some_and(|it| it.health.is_healthy());
        !answers(self.replicas.get(replica)) && self.is_healthy()
    }

    /// The health checks have found this out.
    pub(crate) fn checked(&self, replica: usize, answers: bool) {
        if let Some(balance) = &self.balance {
            lock(&balance.core).checked(replica, answers, now());
        }
    }

    pub(crate) fn prune(&self) {
        for replica in &self.replicas {
            replica.upstream.prune();
        }
    }

    /// What each of them does and gets.
    pub(crate) fn stats(&self) -> Vec<ReplicaStats> {
        let condition = |index| {
            let balance = self.balance.as_ref()?;
            Some(lock(&balance.core).condition(index, now()))
        };
        let replicas = self.replicas.iter().enumerate();
        replicas
            .map(|(index, replica)| replica.stats(condition(index)))
            .collect()
    }

    /// A replica for something that begins now, other than those that were tried.
    pub(crate) fn pick(&self, tried: Tried) -> Result<Picked<'_>, Unanswered> {
        let Some(balance) = &self.balance else {
            return Ok(Picked::only(self));
        };
        let load = |index: usize| self.replicas[index].upstream.in_use();
        let (now, random) = (now(), self.random.chance());
        let permit = lock(&balance.core).choose(now, random, tried, load);
        let permit = permit.ok_or_else(|| balance.none())?;
        Ok(Picked::new(self, balance, permit))
    }

    fn pick_only(&self, replica: usize) -> Result<Picked<'_>, Unanswered> {
        let Some(balance) = &self.balance else {
            return Ok(Picked::only(self));
        };
        let permit = lock(&balance.core).enter(replica, now());
        let permit = permit.ok_or_else(|| balance.none())?;
        Ok(Picked::new(self, balance, permit))
    }

    /// A replica for a session that says itself what becomes of it. Of several it is one that a connection can be
    /// made to, since the first message of the session goes to no other.
    ///
    /// # Errors
    /// None may be asked, or none can be reached.
    pub(crate) async fn reachable(&self) -> Result<&Replica, Unanswered> {
        let reachable = self.reachable_of(Tried::default()).await;
        reachable.map(|replica| &self.replicas[replica])
    }

    /// The number of another replica than this one that a connection can be made to, if there is one.
    pub(crate) async fn reachable_beside(&self, replica: usize) -> Option<usize> {
        let mut tried = Tried::default();
        tried.add(replica);
        self.reachable_of(tried).await.ok()
    }

    async fn reachable_of(&self, mut tried: Tried) -> Result<usize, Unanswered> {
        let mut before = None;
        loop {
            let picked = match (self.pick(tried), before.take()) {
                (Ok(picked), _) => picked,
                (Err(_), Some(error)) => return Err(Unanswered::Upstream(error)),
                (Err(none), None) => return Err(none),
            };
            let replica = picked.index();
            if picked.is_only() {
                return Ok(replica);
            }
            match picked.replica().upstream.reach().await {
                // What it does with the first message tells more, which `posted` hears of.
                Ok(()) => return Ok(replica),
                Err(error) => {
                    tried.add(replica);
                    before = Some(error);
                    picked.ended(Outcome::Failure);
                }
            }
        }
    }

    /// What became of a message that was not sent by this group, but in a session that is held open with a replica:
    /// it counts as one that was, though no breaker holds it back.
    pub(crate) fn posted(&self, replica: usize, sent: &Result<(), PipeError>) {
        if self.balance.is_none() {
            return;
        }
        let outcome = outcome_of_post(sent);
        if let Some(replica) = self.replicas.get(replica) {
            replica.note(outcome);
        }
        // While the breaker is open nothing is made of it.
        if let Ok(picked) = self.pick_only(replica) {
            picked.ended(outcome);
        }
    }

    /// Sends a request to one replica. Only what was not written, or is
    /// [repeatable](UpstreamRequest::repeatable) and has failed, goes to another one.
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` holds its arguments twice, and this one is boxed for every request"
    )]
    pub(crate) fn send(
        &self,
        to: To,
        request: UpstreamRequest,
    ) -> impl Future<Output = Sent> + Send {
        async move {
            if let Some(balance) = &self.balance {
                return Box::pin(self.send_to_one_of(balance, to, request)).await;
            }
            let sent = self.replicas[0].upstream.send(request).await;
            if matches!(&sent, Err(UpstreamError::Connect { .. })) {
                self.replicas[0].health.suspect();
            }
            let response = sent?;
            Ok(Answered {
                response,
                replica: 0,
            })
        }
    }

    async fn send_to_one_of(&self, balance: &Balance, to: To, request: UpstreamRequest) -> Sent {
        lock(&balance.repeating).note(now());
        match to {
            To::Any => self.send_to_any(balance, request, outcome).await,
            To::Opening => self.send_to_any(balance, request, outcome_of_opening).await,
            To::Only(replica) => self.pick_only(replica)?.send(request, outcome).await,
        }
    }

    async fn send_to_any(
        &self,
        balance: &Balance,
        request: UpstreamRequest,
        outcome: fn(&Sent) -> Outcome,
    ) -> Sent {
        let mut tried = Tried::default();
        let mut before: Option<(Sent, Next)> = None;
        loop {
            let picked = match (self.pick(tried), before.take()) {
                (Ok(picked), None | Some((_, Next::Elsewhere))) => picked,
                (Ok(picked), Some((_, Next::Again))) if balance.may_repeat() => {
                    picked.replica().repeated();
                    picked
                }
                // There is nobody left to ask, or no more may be asked.
                (_, Some((sent, _))) => return sent,
                (Err(none), None) => return Err(none),
            };
            tried.add(picked.index());
            let sent = picked.send(copy(&request), outcome).await;
            match next(&sent, request.repeatable) {
                Next::Done => return sent,
                next => before = Some((sent, next)),
            }
        }
    }
}

impl Balance {
    fn none(&self) -> Unanswered {
        Unanswered::NoReplica {
            retry_after: lock(&self.core).retry_after(now()),
        }
    }

    fn may_repeat(&self) -> bool {
        lock(&self.repeating).take(now())
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.replicas.iter()).finish()
    }
}

/// What becomes of a request after a replica was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// That was it.
    Done,
    /// Not a byte of it was written: another one may be asked as if this one had not been.
    Elsewhere,
    /// It may have run, and may run again, as far as the budget goes.
    Again,
}

fn next(sent: &Sent, repeatable: bool) -> Next {
    match sent {
        Err(error) if error.is_unsent() => Next::Elsewhere,
        _ if repeatable && outcome(sent) == Outcome::Failure => Next::Again,
        _ => Next::Done,
    }
}

/// What a request that ended so says of its replica. Failures are those of a replica that cannot be reached, that
/// does not answer in time or drops the connection, and the statuses of a proxy before a dead server.
fn outcome(sent: &Sent) -> Outcome {
    match sent {
        Ok(answered) if is_of_a_dead_server(answered.response.status) => Outcome::Failure,
        Ok(_) => Outcome::Success,
        Err(Unanswered::Upstream(error)) => outcome_of_error(error),
        // Nobody was asked.
        Err(_) => Outcome::Unknown,
    }
}

/// The same of a request that opens a session.
fn outcome_of_opening(sent: &Sent) -> Outcome {
    match sent {
        Ok(answered) if answered.response.status == StatusCode::NOT_FOUND => Outcome::Failure,
        _ => outcome(sent),
    }
}

/// The same of a request without a response.
pub(crate) fn outcome_of_error(error: &UpstreamError) -> Outcome {
    match error {
        UpstreamError::Connect { .. }
        | UpstreamError::TimedOut { .. }
        | UpstreamError::Lost { .. } => Outcome::Failure,
        // The gateway's own limits, or an answer that it does not take.
        _ => Outcome::Unknown,
    }
}

/// The same of a message in a session.
fn outcome_of_post(sent: &Result<(), PipeError>) -> Outcome {
    match sent {
        Ok(()) | Err(PipeError::SessionLost { .. }) => Outcome::Success,
        Err(PipeError::Refused { status, .. }) if is_of_a_dead_server(*status) => Outcome::Failure,
        Err(PipeError::Refused { .. }) => Outcome::Success,
        Err(PipeError::Upstream(error)) => outcome_of_error(error),
        Err(_) => Outcome::Unknown,
    }
}

fn is_of_a_dead_server(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

fn copy(request: &UpstreamRequest) -> UpstreamRequest {
    UpstreamRequest {
        method: request.method.clone(),
        headers: request.headers.clone(),
        body: request.body.clone(),
        repeatable: request.repeatable,
    }
}

#[cfg(test)]
mod tests;
