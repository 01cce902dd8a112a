//! The interceptors of one upstream, in order.

mod build;
mod stage;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use thinpipe_proto::rpc::Message;
use thinpipe_transport::ByteBudget;
use thinpipe_transport::body::BoxFuture;

pub use build::ChainError;
pub use stage::InterceptorStats;

use super::headers::is_protected;
use super::{ChainConfig, Direction, Interceptor, InterceptorConfig, MessageContext, OnFailure};
use super::{Rejection, failure::contain};
use stage::{Filter, Stage};
use walk::{Progress, Walk};

/// The interceptors of one upstream. Cheap to clone; clones share state and counters.
///
/// Messages to the upstream meet them first to last, messages to the client last to first, so that
/// the first one is always the nearest to the client.
#[derive(Clone)]
pub struct Chain {
    shared: Arc<Shared>,
}

/// What every clone of a chain shares.
struct Shared {
    stages: Box<[Stage]>,
    to_upstream: Filter,
    to_client: Filter,
    request_headers: bool,
    response_headers: bool,
    timeout: Duration,
    on_failure: OnFailure,
    /// For messages that interceptors replace.
    buffered: ByteBudget,
}

/// What running a chain gave.
#[must_use]
pub enum Step {
    /// Every interceptor answered at once.
    Done(Outcome),
    /// One of them takes its time; the future ends within the chain's time-out for each of them.
    Wait(BoxFuture<Outcome>),
}

/// What becomes of a message in the end.
#[derive(Debug, Clone)]
#[must_use]
pub enum Outcome {
    /// It goes on as it came: its source bytes are to be sent.
    Forward(Message),
    /// It goes on, and an interceptor changed it. Kind, id and method are those it came with; the
    /// tool, prompt or resource it names may be another.
    Changed(Message),
    /// It goes no further; see [`Action::Reject`](super::Action::Reject) for what the client gets.
    Rejected(Rejection),
}

impl Chain {
    /// Builds the chain of the configured interceptors, in their order, followed by `extra`.
    ///
    /// # Errors
    /// [`ChainError`] if a setting or a field of an interceptor cannot work; it names both.
    pub fn build(
        configs: &[InterceptorConfig],
        extra: Vec<Arc<dyn Interceptor>>,
        settings: &ChainConfig,
    ) -> Result<Self, ChainError> {
        Self::build_within(configs, extra, settings, &ByteBudget::default())
    }

    /// As [`build`](Self::build), for messages that are held within this budget: those that
    /// interceptors put in the place of others, too.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_within(
        configs: &[InterceptorConfig],
        extra: Vec<Arc<dyn Interceptor>>,
        settings: &ChainConfig,
        buffered: &ByteBudget,
    ) -> Result<Self, ChainError> {
        let interceptors = build::interceptors(configs, extra, settings)?;
        let stages = stage::in_order(interceptors);
        let union = |direction| Filter::union(stages.iter().map(|stage| stage.filter(direction)));
        Ok(Self {
            shared: Arc::new(Shared {
                to_upstream: union(Direction::ToUpstream),
                to_client: union(Direction::ToClient),
                request_headers: stages.iter().any(|stage| stage.request_headers),
                response_headers: stages.iter().any(|stage| stage.response_headers),
                timeout: settings.timeout(),
                on_failure: settings.on_failure,
                buffered: buffered.clone(),
                stages,
            }),
        })
    }

    /// Whether it has no interceptors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.stages.is_empty()
    }

    /// Whether an interceptor wants to see such a message. If none does, its bytes may go on unread.
    /// `method: None` is a response whose request is not known: whoever wants [any](Self::wants_any)
    /// message on that way wants it, too.
    #[must_use]
    pub fn wants(&self, direction: Direction, method: Option<&str>) -> bool {
        self.shared.filter(direction).admits(method)
    }

    /// Whether an interceptor wants to see any message that goes this way.
    #[must_use]
    pub fn wants_any(&self, direction: Direction) -> bool {
        !matches!(self.shared.filter(direction), Filter::None)
    }

    /// Whether an interceptor wants the headers of requests ([`Direction::ToUpstream`]) or of
    /// responses ([`Direction::ToClient`]).
    #[must_use]
    pub fn wants_headers(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToUpstream => self.shared.request_headers,
            Direction::ToClient => self.shared.response_headers,
        }
    }

    /// Lets the interceptors change headers. Those that carry the transport's own state, and
    /// hop-by-hop ones, are put aside meanwhile and are the same afterwards.
    ///
    /// # Errors
    /// [`Rejection`] if an interceptor panicked and failures are to be refused. Where they are not,
    /// the headers go on as they were before that interceptor.
    pub fn headers(&self, cx: &MessageContext, headers: &mut HeaderMap) -> Result<(), Rejection> {
        if !self.wants_headers(cx.direction) {
            return Ok(());
        }
        let mut open = HeaderMap::with_capacity(headers.len());
        let mut aside = HeaderMap::new();
        let mut current = None;
        for (name, value) in headers.drain() {
            // A further value of the same name comes without the name.
            current = name.or(current);
            if let Some(name) = &current {
                let place = if is_protected(name.as_str()) {
                    &mut aside
                } else {
                    &mut open
                };
                place.append(name, value);
            }
        }
        let result = self.open_headers(cx, &mut open);
        let added: Vec<_> = open
            .keys()
            .filter(|name| is_protected(name.as_str()))
            .cloned()
            .collect();
        for name in added {
            open.remove(name);
        }
        open.extend(aside);
        *headers = open;
        result
    }

    fn open_headers(&self, cx: &MessageContext, open: &mut HeaderMap) -> Result<(), Rejection> {
        for index in self.shared.order(cx.direction) {
            let stage = &self.shared.stages[index];
            if !stage.wants_headers(cx.direction) {
                continue;
            }
            let before = open.clone();
            if contain(|| stage.interceptor.headers(cx, open)).is_none() {
                *open = before;
                if let Some(rejection) = self.shared.failed(stage, "it panicked on headers", FAILED)
                {
                    return Err(rejection);
                }
            }
        }
        Ok(())
    }

    /// Lets the interceptors decide about a message. `cx.name` must be what the message's body says,
    /// since policies go by it.
    pub fn run(&self, cx: &MessageContext, message: Message) -> Step {
        let mut walk = Walk::new(message);
        match walk.advance(&self.shared, cx) {
            Progress::Through => Step::Done(walk.into_outcome()),
            Progress::Rejected(rejection) => Step::Done(Outcome::Rejected(rejection)),
            Progress::Pending(index, pending) => {
                let shared = Arc::clone(&self.shared);
                let cx = cx.clone();
                let rest = async move { walk.finish(&shared, &cx, index, pending).await };
                Step::Wait(Box::pin(rest))
            }
        }
    }

    /// As [`run`](Self::run), for those who have nothing to do meanwhile but to wait.
    pub(crate) async fn judge(&self, cx: &MessageContext, message: &Message) -> Outcome {
        match self.run(cx, message.clone()) {
            Step::Done(outcome) => outcome,
            Step::Wait(future) => future.await,
        }
    }

    /// The counters of each interceptor since the chain was built, in order.
    #[must_use]
    pub fn stats(&self) -> Vec<InterceptorStats> {
        self.shared.stages.iter().map(Stage::stats).collect()
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.shared.stages.iter().map(|stage| &stage.name);
        f.debug_list().entries(names).finish()
    }
}

impl Shared {
    fn filter(&self, direction: Direction) -> &Filter {
        match direction {
            Direction::ToUpstream => &self.to_upstream,
            Direction::ToClient => &self.to_client,
        }
    }

    /// The stage that comes after `done` others.
    fn position(&self, direction: Direction, done: usize) -> Option<usize> {
        let left = self.stages.len().checked_sub(done)?.checked_sub(1)?;
        Some(match direction {
            Direction::ToUpstream => done,
            Direction::ToClient => left,
        })
    }

    fn order(&self, direction: Direction) -> impl Iterator<Item = usize> {
        (0..self.stages.len()).filter_map(move |done| self.position(direction, done))
    }

    /// Counts a failure, and says what the configuration makes of it: `None` means continue.
    fn failed(&self, stage: &Stage, why: &str, reason: &str) -> Option<Rejection> {
        stage.count_failed();
        let interceptor = &stage.name;
        let outcome = self.on_failure;
        tracing::warn!(%interceptor, why, ?outcome, "an interceptor failed");
        match outcome {
            OnFailure::Reject => Some(stage.failure(reason)),
            OnFailure::Continue => None,
        }
    }
}

/// `data.reason` when an interceptor failed.
const FAILED: &str = "interceptor_failed";
/// `data.reason` when an interceptor took too long.
const TIMED_OUT: &str = "interceptor_timeout";
