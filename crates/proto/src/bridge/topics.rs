//! Subscriptions on a shared session, counted: the upstream has one for each resource that anybody
//! wants (protocol notes 5.2.1, "change notices").

use std::collections::BTreeSet;
use std::time::Instant;

use crate::bridge::action::{Action, MemberId};
use crate::bridge::call::{Call, Purpose, Stage, Tells};
use crate::bridge::client::uri_of;
use crate::bridge::clock::Clock;
use crate::bridge::shared::{Outcome, Turns};
use crate::bridge::{Reframing, Refused, notice};
use crate::rpc::{Message, quoted};

/// One resource that somebody is subscribed to, or is about to be.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) subscribers: BTreeSet<MemberId>,
    /// The upstream has the subscription.
    held: bool,
    /// Of subscribe and unsubscribe, one runs at a time.
    pub(super) turns: Turns,
}

impl Topic {
    /// Notes how a request of this client to the upstream came out.
    pub(super) fn settle(&mut self, purpose: &Purpose, member: Option<MemberId>, outcome: Outcome) {
        match (purpose, outcome) {
            (Purpose::Subscribe(_), Outcome::Done) => {
                self.held = true;
                self.subscribers.extend(member);
            }
            // The upstream may have it, and nobody knows: it is taken back.
            (Purpose::Subscribe(_), Outcome::Unknown) => self.held = true,
            (Purpose::Unsubscribe(_), Outcome::Done | Outcome::Unknown) => {
                self.held = false;
                self.subscribers.clear();
            }
            // Asked to take back what nobody wants, the upstream refused: asking again helps nobody.
            (Purpose::Unsubscribe(_), Outcome::NotDone) if self.subscribers.is_empty() => {
                self.held = false;
            }
            _ => {}
        }
    }

    /// What a request comes to, now that it has its turn.
    fn step(&mut self, purpose: &Purpose, member: MemberId) -> Step {
        match purpose {
            Purpose::Subscribe(_) if self.held => {
                self.subscribers.insert(member);
                Step::Answer
            }
            Purpose::Unsubscribe(_) => {
                let is_last = self.subscribers.len() == 1 && self.subscribers.contains(&member);
                if is_last {
                    return Step::Write;
                }
                self.subscribers.remove(&member);
                Step::Answer
            }
            _ => Step::Write,
        }
    }
}

enum Step {
    /// The upstream need not know.
    Answer,
    Write,
}

impl Reframing {
    /// `resources/subscribe` or `resources/unsubscribe` of a client.
    pub(super) fn shared_subscription(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let uri = uri_of(message)?;
        let purpose = if message.method() == Some("resources/subscribe") {
            self.check_subscriptions(member, &uri)?;
            Purpose::Subscribe(uri.clone())
        } else {
            Purpose::Unsubscribe(uri.clone())
        };
        let call = self.open(member, message, purpose, now)?;
        if let Some(shared) = &mut self.shared {
            let topic = shared.topics.entry(uri.clone()).or_default();
            topic.turns.waiting.push_back(call);
        }
        self.run_topic(&uri, now);
        Ok(())
    }

    /// Whether a client may subscribe to one resource more. Running requests count: they may succeed.
    fn check_subscriptions(&self, member: MemberId, uri: &str) -> Result<(), Refused> {
        let (Some(shared), Some(known)) = (&self.shared, self.members.get(&member)) else {
            return Err(Refused::Over);
        };
        let has = |topic: &&Topic| topic.subscribers.contains(&member);
        if shared.topics.get(uri).filter(has).is_some() {
            return Ok(());
        }
        let held = shared.topics.values().filter(has).count();
        let calls = known.calls.values().filter_map(|id| self.calls.get(*id));
        let is_subscribe = |call: &&Call| matches!(call.purpose, Purpose::Subscribe(_));
        let limit = self.config.limits.subscriptions;
        if held + calls.filter(is_subscribe).count() >= limit {
            return Err(Refused::TooManySubscriptions { limit });
        }
        Ok(())
    }

    /// Lets the next request about a resource have its turn. A subscription that nobody wants is given
    /// up, and what is forgotten then, is forgotten.
    pub(super) fn run_topic(&mut self, uri: &str, now: Instant) {
        while let Some(topic) = self.shared.as_mut().and_then(|s| s.topics.get_mut(uri)) {
            if topic.turns.running.is_some() {
                return;
            }
            let Some(id) = topic.turns.next() else {
                return self.give_up_topic(uri, now);
            };
            let call = self.calls.get(id);
            let owner = call.and_then(|call| Some((call, call.owner.as_ref()?.member)));
            match owner.map(|(call, member)| topic.step(&call.purpose, member)) {
                Some(Step::Write) => self.write(id),
                Some(Step::Answer) => {
                    topic.turns.over(id);
                    self.answer_empty(id);
                }
                None => topic.turns.over(id),
            }
        }
    }

    /// Nothing is to be done for a resource: it needs no place if nobody is subscribed.
    fn give_up_topic(&mut self, uri: &str, now: Instant) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let Some(topic) = shared.topics.get_mut(uri) else {
            return;
        };
        if !topic.subscribers.is_empty() {
            return;
        }
        if !topic.held {
            shared.topics.remove(uri);
            return;
        }
        let clock = Clock::start(now, &self.config.limits);
        let due = clock.due();
        let id = self.calls.insert(Call {
            owner: None,
            principal: None,
            purpose: Purpose::Unsubscribe(uri.to_owned()),
            stage: Stage::Written,
            progress: None,
            task: None,
            tells: Tells::Nothing,
            clock,
        });
        topic.turns.running = Some(id);
        self.wake_at(due);
        let own = id.to_request_id();
        let params = format!("{{\"uri\":{}}}", quoted(uri));
        let message = notice::request(&own, "resources/unsubscribe", params.as_bytes());
        let call = Some(id);
        self.actions.push_back(Action::Write { message, call });
    }

    /// A client session is over, and wants nothing any more.
    pub(super) fn unsubscribe_all(&mut self, member: MemberId, now: Instant) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        let topics = shared.topics.iter_mut();
        let left = topics.filter_map(|(uri, topic)| {
            let was_there = topic.subscribers.remove(&member);
            was_there.then(|| uri.clone())
        });
        let left: Vec<String> = left.collect();
        for uri in left {
            self.run_topic(&uri, now);
        }
    }
}
