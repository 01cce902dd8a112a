//! Resources that listens hear of: the upstream has one subscription for each, as long as anybody wants it
//! (protocol notes 5.2.1, "change notices").

use std::collections::BTreeSet;
use std::time::Instant;

use crate::bridge::downgrade::calls::Purpose;
use crate::bridge::downgrade::{AttachmentId, Downgrading, SETTING_AGE};
use crate::rpc::quoted;

/// One resource.
#[derive(Debug, Default)]
pub(super) struct Topic {
    listens: BTreeSet<AttachmentId>,
    state: State,
}

/// Of subscribe and unsubscribe, one runs at a time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The upstream does not have the subscription.
    #[default]
    Idle,
    Subscribing,
    Held,
    Unsubscribing,
}

impl Downgrading {
    pub(super) fn is_subscribed(&self, uri: &str) -> bool {
        let topic = self.topics.get(uri);
        topic.is_some_and(|topic| topic.state == State::Held)
    }

    pub(super) fn want(&mut self, uri: String, listen: AttachmentId, now: Instant) {
        let topic = self.topics.entry(uri.clone()).or_default();
        topic.listens.insert(listen);
        self.run_topic(&uri, now);
    }

    pub(super) fn unwant(&mut self, uri: &str, listen: AttachmentId, now: Instant) {
        if let Some(topic) = self.topics.get_mut(uri) {
            topic.listens.remove(&listen);
            self.run_topic(uri, now);
        }
    }

    /// Makes the upstream have what is wanted, unless it is being asked already.
    fn run_topic(&mut self, uri: &str, now: Instant) {
        let Some(topic) = self.topics.get_mut(uri) else {
            return;
        };
        let (purpose, method) = match (topic.state, topic.listens.is_empty()) {
            (State::Idle, true) => {
                self.topics.remove(uri);
                return;
            }
            (State::Idle, false) => {
                topic.state = State::Subscribing;
                (Purpose::Subscribe(uri.to_owned()), "resources/subscribe")
            }
            (State::Held, true) => {
                topic.state = State::Unsubscribing;
                (
                    Purpose::Unsubscribe(uri.to_owned()),
                    "resources/unsubscribe",
                )
            }
            (State::Held, false) | (State::Subscribing | State::Unsubscribing, _) => return,
        };
        let params = format!("{{\"uri\":{}}}", quoted(uri));
        self.ask_upstream(purpose, method, params.as_bytes(), SETTING_AGE, now);
    }

    /// A subscription was made, or refused.
    pub(super) fn subscribed(&mut self, uri: &str, made: bool, now: Instant) {
        let state = if made { State::Held } else { State::Idle };
        self.subscription_over(uri, state, made, now);
    }

    /// Nobody knows whether a subscription was made: it is taken back.
    pub(super) fn maybe_subscribed(&mut self, uri: &str, now: Instant) {
        self.subscription_over(uri, State::Held, false, now);
    }

    fn subscription_over(&mut self, uri: &str, state: State, usable: bool, now: Instant) {
        let Some(topic) = self.topics.get_mut(uri) else {
            return;
        };
        topic.state = state;
        let left_out = match usable {
            true => BTreeSet::new(),
            false => std::mem::take(&mut topic.listens),
        };
        for listen in left_out {
            self.leave_out(listen, uri, now);
        }
        self.run_topic(uri, now);
    }

    /// A subscription was taken back; should the upstream refuse that, asking again helps nobody.
    pub(super) fn unsubscribed(&mut self, uri: &str, now: Instant) {
        if let Some(topic) = self.topics.get_mut(uri) {
            topic.state = State::Idle;
            self.run_topic(uri, now);
        }
    }
}
