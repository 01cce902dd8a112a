//! What several client sessions have in common on one upstream session (protocol notes 5.2.1): one
//! handshake, one subscription per resource, one log level.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use crate::bridge::action::{CallId, MemberId, Nature};
use crate::bridge::association::{is_list_changed, nature_of, related_task};
use crate::bridge::call::{Owner, Purpose};
use crate::bridge::handshake::Handshake;
use crate::bridge::levels::Levels;
use crate::bridge::tasks::TASK_ID;
use crate::bridge::topics::Topic;
use crate::bridge::upstream::EMPTY;
use crate::bridge::{Reframing, Refused, Sharing, concerns};
use crate::rpc::{Kind, Message, RequestId, response};

/// State of a shared session.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) handshake: Handshake,
    /// By URI. There are no more than subscriptions and requests in flight.
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) levels: Levels,
    /// Whose tasks there are. No more than [`MAX_TASKS`](super::MAX_TASKS) of each client session.
    pub(super) tasks: HashMap<String, MemberId>,
    /// A cancelled request was never answered, and all messages come in one row: nobody can say whether one
    /// is for its sake.
    pub(super) is_murky: bool,
}

/// Requests about one thing, of which the upstream sees one at a time. Waiting ones count as in flight.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) running: Option<CallId>,
    pub(super) waiting: VecDeque<CallId>,
}

/// How a request that took its turn came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    NotDone,
    /// It was written and not answered.
    Unknown,
}

impl Turns {
    /// Whose turn it is now; it was nobody's.
    pub(super) fn next(&mut self) -> Option<CallId> {
        self.running = self.waiting.pop_front();
        self.running
    }

    pub(super) fn over(&mut self, id: CallId) {
        if self.running == Some(id) {
            self.running = None;
        }
        self.waiting.retain(|waiting| *waiting != id);
    }
}

impl Shared {
    /// A request is gone that did not have its turn yet.
    pub(super) fn forget(&mut self, id: CallId, purpose: &Purpose) {
        match purpose {
            Purpose::Plain => {}
            Purpose::Initialize => {
                if let Handshake::Running { waiting, .. } = &mut self.handshake {
                    waiting.retain(|waiting| *waiting != id);
                }
            }
            Purpose::Subscribe(uri) | Purpose::Unsubscribe(uri) => {
                // A topic that waits has a running request, whose end cleans up.
                if let Some(topic) = self.topics.get_mut(uri) {
                    topic.turns.over(id);
                }
            }
            Purpose::Level(_) => self.levels.turns.over(id),
        }
    }
}

impl Reframing {
    pub(super) fn shared_request(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let method = message.method().unwrap_or_default();
        let ready = self.members.get(&member).is_some_and(|known| known.ready);
        match method {
            "ping" => self.answer_here(member, message, EMPTY),
            "initialize" => return self.shared_initialize(member, message, now),
            _ if !ready => return Err(Refused::NotInitialized),
            "logging/setLevel" => return self.shared_level(member, message, now),
            "resources/subscribe" | "resources/unsubscribe" => {
                return self.shared_subscription(member, message, now);
            }
            _ => {
                self.check_task(member, message)?;
                let call = self.open(member, message, Purpose::Plain, now)?;
                self.write(call);
            }
        }
        Ok(())
    }

    /// Answers a client's request that the upstream need not see.
    pub(super) fn answer_here(&mut self, member: MemberId, message: &Message, result: &[u8]) {
        if let Some(request) = message.id().cloned() {
            let answer = response(&request, result);
            self.answer(Owner { member, request }, answer);
        }
    }

    pub(super) fn answer_empty(&mut self, id: CallId) {
        if let Some(owner) = self.take_call(id).and_then(|call| call.owner) {
            let answer = response(&owner.request, EMPTY);
            self.answer(owner, answer);
        }
    }

    pub(super) fn shared_notification(&mut self, member: MemberId, message: &Message) {
        let passes = match message.method() {
            Some("notifications/initialized") => self.is_first_initialized(member),
            // Roots are declared where all clients are of one principal.
            Some("notifications/roots/list_changed") => self.config.sharing == Sharing::Pooled,
            // No task of a client is known upstream, or it is not known whose it is.
            Some("notifications/tasks/status") => self.only_member(message) == Some(member),
            _ => true,
        };
        if passes {
            self.tell_upstream(message.source().clone());
        } else {
            self.dropped.notifications += 1;
        }
    }

    /// A notification of a shared upstream, which came on the stream of `via`: to all whom it concerns, or to
    /// nobody.
    pub(super) fn fan_out(&mut self, method: &str, message: &Message, via: Option<CallId>) {
        let concerned: Vec<MemberId> = if is_list_changed(method) {
            self.ready_members()
        } else if method == "notifications/resources/updated" {
            let uri = message.param_str("uri").unwrap_or_default();
            let topics = self.shared.iter().flat_map(|shared| &shared.topics);
            let concerned = topics.filter(|(known, _)| concerns(known, &uri));
            let members = concerned.flat_map(|(_, topic)| topic.subscribers.iter().copied());
            // Who has a resource and a part of it is told once.
            let members: BTreeSet<MemberId> = members.collect();
            members.into_iter().collect()
        } else {
            return self.tell(method, message, via);
        };
        for member in concerned {
            self.deliver(member, None, message.clone(), Nature::ChangeNotice);
        }
    }

    /// A notification that is not about a change: to the client that it is for; if nobody can tell and all are
    /// of one principal, to all of them.
    fn tell(&mut self, method: &str, message: &Message, via: Option<CallId>) {
        let related = self.associate(message, via);
        let owner = related.and_then(|call| self.calls.get(call)?.owner.clone());
        let told: Vec<(MemberId, Option<RequestId>)> = match (owner, self.task_owner(message)) {
            _ if self.is_too_late(via) => Vec::new(),
            (Some(owner), _) => vec![(owner.member, Some(owner.request))],
            (None, Some(owner)) => owner.into_iter().map(|member| (member, None)).collect(),
            (None, None) if self.config.sharing == Sharing::Pooled && related.is_none() => {
                let all = self.ready_members().into_iter();
                all.map(|member| (member, None)).collect()
            }
            (None, None) => Vec::new(),
        };
        let nature = nature_of(method);
        let is_admitted = |member: MemberId| nature != Nature::Log || self.admits(member, message);
        let told: Vec<_> = told
            .into_iter()
            .filter(|(member, _)| is_admitted(*member))
            .collect();
        if told.is_empty() {
            self.dropped.notifications += 1;
        }
        for (member, request) in told {
            self.deliver(member, request, message.clone(), nature.clone());
        }
    }

    /// Whose the task is that a notification is about, if it is about one; `Some(None)`: nobody's here.
    fn task_owner(&self, message: &Message) -> Option<Option<MemberId>> {
        let task = match message.method() {
            Some("notifications/tasks/status") => message.param_str(TASK_ID),
            _ => related_task(message),
        };
        let owner = |task: String| self.shared.as_ref()?.tasks.get(&task).copied();
        task.map(owner)
    }

    fn ready_members(&self) -> Vec<MemberId> {
        let ready = self.members.iter().filter(|(_, known)| known.ready);
        ready.map(|(member, _)| *member).collect()
    }

    /// The upstream answered a request that had its turn.
    pub(super) fn turn_answered(&mut self, id: CallId, message: &Message, now: Instant) {
        let Some(call) = self.take_call(id) else {
            return;
        };
        let outcome = match message.kind() {
            Kind::Response => Outcome::Done,
            _ => Outcome::NotDone,
        };
        let member = call.owner.as_ref().map(|owner| owner.member);
        if let Some(owner) = call.owner {
            let answer = message.with_id(&owner.request);
            self.answer(owner, answer);
        }
        self.turn_over(id, &call.purpose, member, outcome, now);
    }

    /// Notes how a request of this client came out that had its turn, and lets the next one have it.
    pub(super) fn turn_over(
        &mut self,
        id: CallId,
        purpose: &Purpose,
        member: Option<MemberId>,
        outcome: Outcome,
        now: Instant,
    ) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        match purpose {
            Purpose::Plain | Purpose::Initialize => {}
            Purpose::Subscribe(uri) | Purpose::Unsubscribe(uri) => {
                if let Some(topic) = shared.topics.get_mut(uri) {
                    topic.turns.over(id);
                    topic.settle(purpose, member, outcome);
                }
                self.run_topic(uri, now);
            }
            Purpose::Level(level) => {
                shared.levels.turns.over(id);
                shared.levels.settle(outcome);
                if let (Some(member), Outcome::Done) = (member, outcome) {
                    self.note_level(member, *level);
                }
                self.run_levels();
            }
        }
    }
}
