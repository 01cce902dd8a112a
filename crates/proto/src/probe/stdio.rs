//! Probing over stdio, where a question may never be answered, or be the end of the server.

use std::time::Duration;

use super::asking::{Asking, Reply, Step};
use super::{ProbeFailure, Speaks, Verdict};
use crate::revision::Revision;
use crate::rpc::{Message, RequestId};

/// How long the answer to `server/discover` is waited for before `initialize` is asked behind it. A server
/// that starts slowly answers late, and its late answer is told apart by its id: it counts as long as
/// there is no verdict.
pub const DISCOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// One probing of a child process.
#[derive(Debug, Default)]
pub struct StdioProbe {
    asking: Asking,
    /// Requests sent so far; the last one has this number in its id.
    sent: u32,
    stage: Stage,
    /// What a late answer to `server/discover` says, if that is a modern revision.
    late: Option<Verdict>,
    /// `initialize` has failed for this, but the question before it may still be answered.
    refused: Option<ProbeFailure>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Stage {
    /// `server/discover` is asked.
    #[default]
    Discover,
    /// `initialize` is asked, behind a `server/discover` with this number that the child has still to read
    /// or to answer: it may yet end over it.
    Queued { discover: u32 },
    /// `initialize` is asked, and nothing else.
    Initialize,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StdioNext {
    /// Send `server/discover` in this revision, and wait [`DISCOVER_TIMEOUT`] for its answer.
    Discover {
        /// The id, as JSON text.
        id: String,
        /// The revision.
        revision: Revision,
    },
    /// Send `initialize` that asks for this revision.
    Initialize {
        /// The id, as JSON text.
        id: String,
        /// The revision.
        revision: Revision,
        /// Whether a new child has to be started for it.
        respawn: bool,
    },
    /// The verdict is found.
    Done(Verdict),
    /// There is no verdict.
    Failed(ProbeFailure),
}

impl StdioProbe {
    /// Probing and its first step.
    #[must_use]
    pub fn begin() -> (Self, StdioNext) {
        let mut probe = Self::default();
        let first = probe.next(Step::Discover(Revision::NEWEST), false);
        (probe, first)
    }

    /// Takes a message of the child. `None`: it decides nothing yet, wait on.
    pub fn received(&mut self, message: &Message) -> Option<StdioNext> {
        let reply = Reply {
            status: None,
            response: Some(message),
        };
        if let Stage::Queued { discover } = self.stage
            && answers(message, discover)
        {
            // It has survived the question. What it is worth, the answer to `initialize` tells.
            self.stage = Stage::Initialize;
            self.late = self.asking.discovered_late(reply);
            return self.refused.is_some().then(|| self.conclusion()).flatten();
        }
        if self.refused.is_some() || !answers(message, self.sent) {
            return None;
        }
        let step = self.asking.answered(reply);
        match self.stage {
            Stage::Discover => Some(self.next(step, false)),
            Stage::Queued { discover } => self.initialize_overtook(step, discover),
            Stage::Initialize => Some(match self.late.take() {
                Some(late) => StdioNext::Done(both(late, step)),
                None => self.next(step, false),
            }),
        }
    }

    /// `initialize` is answered and `server/discover` is not: the child answers in an order of its own, or
    /// does not know the latter.
    fn initialize_overtook(&mut self, step: Step, discover: u32) -> Option<StdioNext> {
        let next = self.next(step, false);
        match next {
            StdioNext::Failed(failure) => {
                self.refused = Some(failure);
                None
            }
            StdioNext::Initialize { .. } => {
                self.stage = Stage::Queued { discover };
                Some(next)
            }
            _ => Some(next),
        }
    }

    /// No answer came in time: within [`DISCOVER_TIMEOUT`] to `server/discover`, or to `initialize` within
    /// what the caller grants. `None`: nothing is known of the child then.
    pub fn timed_out(&mut self) -> Option<StdioNext> {
        let Stage::Discover = self.stage else {
            return self.conclusion();
        };
        let discover = self.sent;
        let step = self.asking.unanswered("nothing in time");
        let next = self.next(step, false);
        self.stage = Stage::Queued { discover };
        Some(next)
    }

    /// The child ended, or closed its output. A child that started slowly and was sent `initialize` for
    /// that may have ended over `server/discover` all the same. `None`: it did so on `initialize`, and there
    /// is no verdict.
    pub fn exited(&mut self) -> Option<StdioNext> {
        if let Some(conclusion) = self.conclusion() {
            return Some(conclusion);
        }
        if let Stage::Initialize = self.stage {
            return None;
        }
        let step = self.asking.unanswered("the end of the process");
        Some(self.next(step, true))
    }

    /// What follows from the answers so far, if no further one comes.
    fn conclusion(&mut self) -> Option<StdioNext> {
        let refused = self.refused.take().map(StdioNext::Failed);
        self.late.take().map(StdioNext::Done).or(refused)
    }

    fn next(&mut self, step: Step, respawn: bool) -> StdioNext {
        match step {
            Step::Discover(revision) => StdioNext::Discover {
                id: self.next_id(),
                revision,
            },
            Step::Initialize(revision) => {
                self.stage = Stage::Initialize;
                StdioNext::Initialize {
                    id: self.next_id(),
                    revision,
                    respawn,
                }
            }
            Step::Done(verdict) => StdioNext::Done(verdict),
            Step::Failed(failure) => StdioNext::Failed(failure),
            Step::Unknown {
                discover,
                initialize,
            } => StdioNext::Failed(ProbeFailure::NotMcp {
                discover,
                initialize,
                stream: None,
            }),
        }
    }

    fn next_id(&mut self) -> String {
        self.sent += 1;
        id(self.sent)
    }
}

/// The verdict on a child that has answered `server/discover` late, and `initialize` behind it: it opens
/// sessions as well, if it has opened that one.
fn both(mut late: Verdict, initialize: Step) -> Verdict {
    if let Step::Done(Verdict {
        speaks: Speaks::Legacy { revision },
        ..
    }) = initialize
        && let Speaks::Modern { legacy, .. } = &mut late.speaks
    {
        *legacy = Some(revision);
    }
    late
}

fn answers(message: &Message, number: u32) -> bool {
    let asked = id(number);
    let id = message.id().map(RequestId::as_json);
    message.kind().is_response() && id == Some(asked.as_bytes())
}

/// As JSON text. Each request has its own, so that a late answer is not taken for another one.
fn id(number: u32) -> String {
    format!("\"probe-{number}\"")
}

#[cfg(test)]
mod tests;
