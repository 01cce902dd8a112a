//! Probing over stdio, where a question may never be answered, or be the end of the server.

use std::time::Duration;

use super::asking::{Asking, Reply, Step};
use super::{ProbeFailure, Verdict};
use crate::revision::Revision;
use crate::rpc::{Message, RequestId};

/// How long the answer to `server/discover` is waited for. A server that starts slowly answers late, and
/// its late answer is told apart by its id.
pub const DISCOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// One probing of a child process.
#[derive(Debug, Default)]
pub struct StdioProbe {
    asking: Asking,
    /// Requests sent so far; the last one has this number in its id.
    sent: u32,
    stage: Stage,
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

    /// Takes a message of the child. `None`: it answers nothing that is still asked, wait on.
    pub fn received(&mut self, message: &Message) -> Option<StdioNext> {
        if let Stage::Queued { discover } = self.stage
            && answers(message, discover)
        {
            // It has survived the question. What it says of it comes too late.
            self.stage = Stage::Initialize;
            return None;
        }
        if !answers(message, self.sent) {
            return None;
        }
        let step = self.asking.answered(Reply {
            status: None,
            response: Some(message),
        });
        Some(self.next(step, false))
    }

    /// The answer to `server/discover` did not come in time. `None`: that is not what is asked.
    pub fn timed_out(&mut self) -> Option<StdioNext> {
        let Stage::Discover = self.stage else {
            return None;
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
        if let Stage::Initialize = self.stage {
            return None;
        }
        let step = self.asking.unanswered("the end of the process");
        Some(self.next(step, true))
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
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::probe::Speaks;

    fn message(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn result(id: u32, result: &str) -> Message {
        message(&format!(
            r#"{{"jsonrpc":"2.0","id":"probe-{id}","result":{result}}}"#
        ))
    }

    fn error(id: u32, code: i32, data: &str) -> Message {
        message(&format!(
            r#"{{"jsonrpc":"2.0","id":"probe-{id}","error":{{"code":{code},"message":"m","data":{data}}}}}"#
        ))
    }

    fn initialize(id: u32, respawn: bool) -> Option<StdioNext> {
        Some(StdioNext::Initialize {
            id: format!("\"probe-{id}\""),
            revision: Revision::NEWEST_LEGACY,
            respawn,
        })
    }

    const INITIALIZED: &str = r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"old","version":"1"}}"#;

    #[test]
    fn r020_a_discover_result_is_modern() {
        let (mut probe, first) = StdioProbe::begin();
        let id = "\"probe-1\"".to_owned();
        let revision = Revision::NEWEST;
        assert_eq!(first, StdioNext::Discover { id, revision });
        let next = probe.received(&result(1, r#"{"supportedVersions":["2026-07-28"]}"#));
        let Some(StdioNext::Done(verdict)) = next else {
            panic!("{next:?}")
        };
        assert!(verdict.modern().is_some());
    }

    /// R021, R022.
    #[test]
    fn r021_unsupported_versions_are_as_over_http() {
        let (mut probe, _) = StdioProbe::begin();
        let next = probe.received(&error(1, -32022, r#"{"supported":["2026-07-28"]}"#));
        let id = "\"probe-2\"".to_owned();
        let revision = Revision::V2026_07_28;
        assert_eq!(next, Some(StdioNext::Discover { id, revision }));

        let (mut probe, _) = StdioProbe::begin();
        let next = probe.received(&error(1, -32022, r#"{"supported":["2025-06-18"]}"#));
        assert_eq!(next, initialize(2, false));
    }

    #[test]
    fn modern_refusals_are_reported() {
        for code in [-32020, -32021] {
            let (mut probe, _) = StdioProbe::begin();
            let next = probe.received(&error(1, code, "null"));
            let failure = ProbeFailure::Refused { code };
            assert_eq!(next, Some(StdioNext::Failed(failure)));
        }
    }

    #[test]
    fn r033_any_other_error_leads_to_initialize() {
        for code in [-32601, -32602, -32600, -32000, -32002, 0, 7] {
            let (mut probe, _) = StdioProbe::begin();
            let next = probe.received(&error(1, code, "null"));
            assert_eq!(next, initialize(2, false), "{code}");
            let next = probe.received(&result(2, INITIALIZED));
            let Some(StdioNext::Done(verdict)) = next else {
                panic!("{next:?}")
            };
            let revision = Revision::V2025_06_18;
            assert_eq!(verdict.speaks, Speaks::Legacy { revision });
        }
    }

    #[test]
    fn r034_a_late_answer_is_ignored() {
        let (mut probe, _) = StdioProbe::begin();
        assert_eq!(probe.timed_out(), initialize(2, false));
        assert_eq!(probe.received(&error(1, -32601, "null")), None);
        let request = r#"{"jsonrpc":"2.0","id":"probe-2","method":"ping"}"#;
        assert_eq!(probe.received(&message(request)), None);
        let next = probe.received(&result(2, INITIALIZED));
        assert!(matches!(next, Some(StdioNext::Done(_))), "{next:?}");
    }

    #[test]
    fn r035_a_child_that_ends_is_started_again_and_not_probed() {
        let (mut probe, _) = StdioProbe::begin();
        assert_eq!(probe.exited(), initialize(2, true));
        assert_eq!(probe.exited(), None);
    }

    #[test]
    fn r035_a_slow_child_that_ends_over_the_first_question_is_started_again() {
        let (mut probe, _) = StdioProbe::begin();
        assert_eq!(probe.timed_out(), initialize(2, false));
        assert_eq!(probe.timed_out(), None);
        assert_eq!(probe.exited(), initialize(3, true));
        let next = probe.received(&result(3, INITIALIZED));
        assert!(matches!(next, Some(StdioNext::Done(_))), "{next:?}");
    }

    /// What survived the first question and ends over the second would do so again.
    #[test]
    fn r035_a_slow_child_is_started_again_once_and_for_the_first_question_only() {
        let (mut probe, _) = StdioProbe::begin();
        probe.timed_out();
        probe.exited();
        assert_eq!(probe.exited(), None);

        let (mut probe, _) = StdioProbe::begin();
        probe.timed_out();
        assert_eq!(probe.received(&error(1, -32601, "null")), None);
        assert_eq!(probe.exited(), None);
    }
}
