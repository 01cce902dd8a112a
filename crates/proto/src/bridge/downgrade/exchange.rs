//! One exchange: a request of a client, the server's call that runs it, and who waits for what.

use std::time::Instant;

use crate::bridge::CallId;
use crate::bridge::clock::Clock;
use crate::bridge::downgrade::ability::Abilities;
use crate::bridge::downgrade::pages::Pages;
use crate::bridge::downgrade::question::Questions;
use crate::bridge::downgrade::reply::Outcome;
use crate::bridge::downgrade::{AttachmentId, Request};
use crate::bridge::envelope::LogLevel;
use crate::bridge::progress::Progress;
use crate::bridge::shape::is_round_method;
use crate::rpc::RequestId;

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) method: String,
    pub(super) state: State,
    pub(super) clock: Clock,
    /// In how many rounds the client was asked.
    pub(super) rounds: u8,
    /// How many keys were given to questions. None is used twice.
    pub(super) keys: u32,
}

/// Where an exchange is (protocol notes 5.4.2).
#[derive(Debug)]
pub(super) enum State {
    /// Not written yet.
    Waiting(Box<Waiting>),
    /// It runs upstream, and a POST waits for it.
    Active { client: Client, running: Running },
    /// The server asks, and may ask more at once: the client is asked at `until`.
    Collecting {
        client: Client,
        running: Running,
        questions: Questions,
        until: Instant,
    },
    /// It runs upstream, and its client was asked in this round.
    Parked {
        parked: Parked,
        running: Running,
        questions: Questions,
    },
    /// Its outcome is there, for the retry of this round.
    Held { parked: Parked, outcome: Outcome },
}

impl State {
    /// Whether a client was asked and did not answer.
    pub(super) fn is_parked(&self) -> bool {
        matches!(self, Self::Parked { .. } | Self::Held { .. })
    }

    /// What runs upstream.
    pub(super) fn running(&self) -> Option<&Running> {
        match self {
            Self::Active { running, .. }
            | Self::Collecting { running, .. }
            | Self::Parked { running, .. } => Some(running),
            Self::Waiting(_) | Self::Held { .. } => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match self {
            Self::Active { running, .. }
            | Self::Collecting { running, .. }
            | Self::Parked { running, .. } => Some(running),
            Self::Waiting(_) | Self::Held { .. } => None,
        }
    }

    /// What the server has asked.
    pub(super) fn questions(&self) -> Option<&Questions> {
        match self {
            Self::Collecting { questions, .. } | Self::Parked { questions, .. } => Some(questions),
            Self::Waiting(_) | Self::Active { .. } | Self::Held { .. } => None,
        }
    }

    pub(super) fn questions_mut(&mut self) -> Option<&mut Questions> {
        match self {
            Self::Collecting { questions, .. } | Self::Parked { questions, .. } => Some(questions),
            Self::Waiting(_) | Self::Active { .. } | Self::Held { .. } => None,
        }
    }

    /// Who gets what the server says meanwhile.
    pub(super) fn client(&self) -> Option<&Client> {
        match self {
            Self::Active { client, .. } | Self::Collecting { client, .. } => Some(client),
            _ => None,
        }
    }

    pub(super) fn client_mut(&mut self) -> Option<&mut Client> {
        match self {
            Self::Active { client, .. } | Self::Collecting { client, .. } => Some(client),
            _ => None,
        }
    }

    /// What the client can be asked, that has the exchange or had it last.
    pub(super) fn abilities(&self) -> Abilities {
        match self {
            Self::Waiting(waiting) => waiting.client.abilities,
            Self::Active { client, .. } | Self::Collecting { client, .. } => client.abilities,
            Self::Parked { parked, .. } | Self::Held { parked, .. } => parked.abilities,
        }
    }
}

/// A request that is not written yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) client: Client,
    /// As it was taken.
    pub(super) request: Request,
    /// It waits for elicitations until then.
    pub(super) completion: Instant,
}

/// The POST that carries an exchange.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) attachment: AttachmentId,
    pub(super) id: RequestId,
    pub(super) progress: Option<Progress>,
    /// The least severe log messages it wants.
    pub(super) level: Option<LogLevel>,
    pub(super) abilities: Abilities,
    /// The resource it reads, for an error that says that there is none.
    pub(super) uri: Option<String>,
}

/// What runs upstream for an exchange.
#[derive(Debug)]
pub(super) struct Running {
    /// The request that will be answered.
    pub(super) call: CallId,
    /// Its progress token.
    pub(super) token: CallId,
    pub(super) task: Task,
    /// For a second attempt; gone once the server asked something.
    pub(super) original: Option<Box<Request>>,
    /// The pages of a list so far, if all of them are fetched.
    pub(super) pages: Option<Pages>,
}

/// Whether a tool runs as a task of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    No,
    /// It was asked for.
    Asked,
    /// `tasks/result` is waiting for it.
    Made(String),
}

/// An exchange whose client was asked.
#[derive(Debug)]
pub(super) struct Parked {
    /// When it is given up.
    pub(super) due: Instant,
    pub(super) receipt: Receipt,
    pub(super) abilities: Abilities,
}

/// Whether the message that asks was handed out.
#[derive(Debug)]
pub(super) enum Receipt {
    /// It is on its way on this POST, whose end takes the exchange along.
    Pending(Client),
    Given {
        /// It goes on rising with the client's next POST.
        progress: Option<Progress>,
    },
}

impl Parked {
    /// The POST that the exchange hangs on still.
    pub(super) fn attachment(&self) -> Option<AttachmentId> {
        match &self.receipt {
            Receipt::Pending(client) => Some(client.attachment),
            Receipt::Given { .. } => None,
        }
    }

    /// The progress that the client got last.
    pub(super) fn into_progress(self) -> Option<Progress> {
        match self.receipt {
            Receipt::Pending(client) => client.progress,
            Receipt::Given { progress } => progress,
        }
    }
}

impl Exchange {
    /// Whether its server may ask its client for something.
    pub(super) fn is_eligible(&self, offered: Abilities) -> bool {
        is_round_method(&self.method)
            && !matches!(self.state, State::Held { .. })
            && self.state.abilities().and(offered).any()
    }

    /// When something is due.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let ends = self.clock.due();
        let next = match &self.state {
            State::Active { .. } => return ends,
            State::Waiting(waiting) => {
                let completion = Some(waiting.completion).filter(|at| *at > now);
                return completion.map_or(ends, |at| ends.min(at));
            }
            State::Collecting { until, .. } => *until,
            State::Parked { parked, .. } | State::Held { parked, .. } => parked.due,
        };
        ends.min(next)
    }

    /// When a held outcome is given up; `None`: there is none.
    pub(super) fn held_until(&self) -> Option<Instant> {
        match &self.state {
            State::Held { parked, .. } => Some(parked.due.min(self.clock.due())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::downgrade::question::Question;
    use crate::bridge::downgrade::{DEFAULT_KEPT, MAX_QUESTIONS};
    use crate::bridge::limits::MAX_KEPT;

    /// Invariant 23: what is kept of a parked exchange without an outcome, with the longest progress token and
    /// task id there can be.
    #[test]
    fn a_parked_exchange_is_under_16_kib() {
        let own = size_of::<Exchange>() + MAX_QUESTIONS * size_of::<Question>();
        assert!(DEFAULT_KEPT + 2 * MAX_KEPT + own < 16 << 10, "{own}");
    }
}
