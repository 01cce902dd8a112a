//! `resources/subscribe` and `resources/unsubscribe`, over listens of which one is opened before another is
//! closed (protocol notes 5.3, O16).

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use super::calls::Purpose;
use super::config::{ACKNOWLEDGEMENT, MAX_RESOURCE_LISTENS};
use super::notices::{ACKNOWLEDGED, UPDATED, relayed, updated};
use super::resources::{Listen, Opening, Waiter};
use super::{CallId, Upgrading};
use crate::backoff::Backoff;
use crate::bridge::action::Nature;
use crate::bridge::client::uri_of;
use crate::bridge::clock::after;
use crate::bridge::concerns;
use crate::bridge::notice::error_answer;
use crate::bridge::refused::Refused;
use crate::bridge::shape::{error_code, error_to_legacy};
use crate::bridge::upstream::EMPTY;
use crate::rpc::{
    Kind, Message, Object, RequestId, code, elements, error_response, quoted, string,
};

impl Upgrading {
    pub(super) fn subscribe(
        &mut self,
        id: &RequestId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        if !self.session.offered.subscribe {
            self.unknown_method(id, "resources/subscribe");
            return Ok(());
        }
        let uri = uri_of(message)?;
        if self.resources.is_subscribed(&uri) {
            self.answer_here(id, EMPTY);
            return Ok(());
        }
        self.check_room()?;
        let limit = self.config.limits.subscriptions;
        if self.resources.subscribed() + self.resources.waiting() >= limit {
            return Err(Refused::TooManySubscriptions { limit });
        }
        self.audience.asked(now);
        self.resources.want_again(now);
        let waiter = Waiter {
            request: id.clone(),
            uri,
            wanted: true,
        };
        let opening = self.resources.opening.as_mut();
        let same = opening.filter(|o| o.waiters.iter().any(|other| other.uri == waiter.uri));
        match same {
            // It is being asked for.
            Some(opening) => opening.waiters.push(waiter),
            None => self.resources.next.push(waiter),
        }
        self.advance_resources(now);
        if let Some(until) = self.retained_until() {
            self.wake_at(until);
        }
        Ok(())
    }

    pub(super) fn unsubscribe(
        &mut self,
        id: &RequestId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let uri = uri_of(message)?;
        let resources = &mut self.resources;
        resources.lost.remove(&uri);
        if let Some(opening) = &mut resources.opening {
            opening.again.remove(&uri);
            opening.moving.remove(&uri);
            let mut waiters = opening.waiters.iter_mut();
            waiters
                .by_ref()
                .filter(|w| w.uri == uri)
                .for_each(|w| w.wanted = false);
        }
        let (taken_back, next) = std::mem::take(&mut resources.next)
            .into_iter()
            .partition(|waiter| waiter.uri == uri);
        resources.next = next;
        let mut empty = Vec::new();
        for (call, listen) in &mut resources.open {
            if listen.uris.remove(&uri) && listen.uris.is_empty() {
                empty.push(*call);
            }
        }
        for call in empty {
            self.resources.open.remove(&call);
            self.cancel_call(call);
        }
        let taken_back: Vec<Waiter> = taken_back;
        for waiter in taken_back {
            self.answer_here(&waiter.request, EMPTY);
        }
        self.answer_here(id, EMPTY);
        self.advance_resources(now);
        Ok(())
    }

    /// Opens the next listen, if there is something to listen for and none is being opened.
    pub(super) fn advance_resources(&mut self, now: Instant) {
        let listens = self.audience.listens();
        let resources = &mut self.resources;
        if resources.opening.is_some() {
            return;
        }
        let is_due = listens && resources.again_at.is_some_and(|at| at <= now);
        let again = if is_due {
            resources.again_at = None;
            std::mem::take(&mut resources.lost)
        } else {
            BTreeSet::new()
        };
        let waiters = std::mem::take(&mut resources.next);
        if waiters.is_empty() && again.is_empty() {
            return;
        }
        let mut uris = again.clone();
        uris.extend(waiters.iter().map(|waiter| waiter.uri.clone()));
        let (mut merged, mut moving) = (Vec::new(), BTreeSet::new());
        if resources.open.len() >= MAX_RESOURCE_LISTENS {
            for (call, listen) in &resources.open {
                merged.push(*call);
                moving.extend(listen.uris.iter().cloned());
            }
        }
        uris.extend(moving.iter().cloned());
        let call = self.listen_call(Purpose::Resources, filter(&uris));
        let until = after(now, self.config.limits.idle);
        self.resources.opening = Some(Opening {
            call,
            until,
            waiters,
            again,
            merged,
            moving,
        });
        self.wake_at(until);
    }

    pub(super) fn resource_notified(&mut self, call: CallId, message: &Message, now: Instant) {
        let method = message.method().unwrap_or_default();
        let opening = self.resources.opening.as_mut();
        if let Some(opening) = opening.filter(|opening| opening.call == call) {
            if method == ACKNOWLEDGED {
                return self.resources_acknowledged(message, now);
            }
            // It should have come first: it has a little more time.
            opening.until = opening.until.min(after(now, ACKNOWLEDGEMENT));
            let until = opening.until;
            self.dropped.notifications += 1;
            return self.wake_at(until);
        }
        let changed = message.param_text("uri").filter(|_| method == UPDATED);
        let listen = self.resources.open.get(&call);
        let is_wanted = changed.is_some_and(|uri| {
            listen.is_some_and(|listen| listen.uris.iter().any(|known| concerns(known, &uri)))
        });
        if is_wanted {
            self.deliver(None, relayed(message), Nature::ChangeNotice);
        } else {
            self.dropped.notifications += 1;
        }
    }

    fn resources_acknowledged(&mut self, message: &Message, now: Instant) {
        let Some(opening) = self.resources.opening.take() else {
            return;
        };
        let honoured = honoured(message);
        let mut held = BTreeSet::new();
        let mut missed = BTreeSet::new();
        for Waiter {
            request,
            uri,
            wanted,
        } in opening.waiters
        {
            if !honoured.contains(&uri) {
                let text = "the server refused the subscription";
                let answer = error_response(Some(&request), code::INVALID_PARAMS, text, None);
                self.answer(request, answer);
                continue;
            }
            self.answer_here(&request, EMPTY);
            if wanted {
                held.insert(uri);
            }
        }
        // What is not honoured any more is refused for good.
        missed.extend(opening.again.intersection(&honoured).cloned());
        for call in opening.merged {
            let Some(listen) = self.resources.open.get_mut(&call) else {
                continue;
            };
            // What the new one does not have stays where it is.
            let (moved, kept) = std::mem::take(&mut listen.uris)
                .into_iter()
                .partition(|uri| honoured.contains(uri));
            let moved: BTreeSet<String> = moved;
            missed.extend(moved);
            listen.uris = kept;
            if listen.uris.is_empty() {
                self.resources.open.remove(&call);
                self.cancel_call(call);
            }
        }
        for uri in opening.moving {
            // Its listen was lost meanwhile: it goes on here, or is refused for good.
            if self.resources.lost.remove(&uri) && honoured.contains(&uri) {
                missed.insert(uri);
            }
        }
        for uri in &missed {
            self.deliver(None, updated(uri), Nature::ChangeNotice);
        }
        held.extend(missed);
        if held.is_empty() {
            self.cancel_call(opening.call);
        } else {
            let listen = Listen {
                uris: held,
                since: now,
            };
            self.resources.open.insert(opening.call, listen);
        }
        self.advance_resources(now);
    }

    /// The server has ended a listen.
    pub(super) fn resource_listen_ended(&mut self, call: CallId, message: &Message, now: Instant) {
        let is_opening = self
            .resources
            .opening
            .as_ref()
            .is_some_and(|o| o.call == call);
        let error = message
            .error()
            .filter(|_| message.kind() == Kind::ErrorResponse);
        let Some(error) = error.filter(|_| is_opening) else {
            let why = ("subscription_refused", "the server ended the listen");
            return self.resource_listen_lost(call, why, now);
        };
        let Some(opening) = self.resources.opening.take() else {
            return;
        };
        let refused = error_code(&error) == Some(code::METHOD_NOT_FOUND);
        let error = error_to_legacy(&error);
        for waiter in opening.waiters {
            let answer = error_answer(&waiter.request, &error);
            self.answer(waiter.request, answer);
        }
        if !refused {
            self.lose_uris(opening.again, now);
        }
        self.advance_resources(now);
    }

    /// A listen is gone, or could not be opened.
    pub(super) fn resource_listen_lost(
        &mut self,
        call: CallId,
        (reason, text): (&str, &str),
        now: Instant,
    ) {
        let is_it = |opening: &mut Opening| opening.call == call;
        if let Some(opening) = self.resources.opening.take_if(is_it) {
            for waiter in opening.waiters {
                let answer = self.own_error(&waiter.request, reason, text);
                self.answer(waiter.request, answer);
            }
            self.lose_uris(opening.again, now);
        } else if let Some(listen) = self.resources.open.remove(&call) {
            // What was acknowledged, and lived, was progress (G7).
            if after(listen.since, Backoff::CAP) <= now {
                self.resources.backoff.reset();
            }
            self.lose_uris(listen.uris, now);
        }
        self.advance_resources(now);
    }

    fn lose_uris(&mut self, uris: BTreeSet<String>, now: Instant) {
        self.resources.lost.extend(uris);
        let listens = self.audience.listens();
        if !listens || self.resources.lost.is_empty() || self.resources.again_at.is_some() {
            return;
        }
        let delay = self
            .resources
            .backoff
            .next_delay(self.chance.number(), None);
        let at = after(now, delay.unwrap_or(Backoff::CAP));
        self.resources.again_at = Some(at);
        self.wake_at(at);
    }

    pub(super) fn suspend_resources(&mut self) {
        let resources = &mut self.resources;
        resources.again_at = None;
        let mut calls = Vec::new();
        for (call, listen) in std::mem::take(&mut resources.open) {
            resources.lost.extend(listen.uris);
            calls.push(call);
        }
        // One that somebody waits for is not suspended: who asks for it has just been here.
        let idle = resources
            .opening
            .take_if(|opening| opening.waiters.is_empty());
        if let Some(opening) = idle {
            resources.lost.extend(opening.again);
            calls.push(opening.call);
        }
        for call in calls {
            self.cancel_call(call);
        }
    }

    /// Does what is due about them.
    pub(super) fn expire_resources(&mut self, now: Instant) {
        let opening = self.resources.opening.as_ref();
        let late = opening
            .filter(|opening| opening.until <= now)
            .map(|opening| opening.call);
        if let Some(call) = late {
            self.cancel_call(call);
            let why = ("upstream_timeout", "the server did not acknowledge in time");
            self.resource_listen_lost(call, why, now);
        }
        self.advance_resources(now);
    }
}

fn filter(uris: &BTreeSet<String>) -> Object {
    let uris: Vec<String> = uris.iter().map(|uri| quoted(uri)).collect();
    let mut filter = Object::new();
    filter.set(
        "resourceSubscriptions",
        Bytes::from(format!("[{}]", uris.join(","))),
    );
    filter
}

/// The resources that an acknowledgement names.
fn honoured(message: &Message) -> BTreeSet<String> {
    let filter = message.param("notifications");
    let filter = filter.and_then(|filter| Object::parse(&filter).ok());
    let uris = filter.and_then(|filter| elements(filter.get("resourceSubscriptions")?).ok());
    let uris = uris.unwrap_or_default();
    uris.iter()
        .filter_map(|uri| Some(string(uri)?.into_owned()))
        .collect()
}
