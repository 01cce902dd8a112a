//! From an upstream session to the streams of its client sessions.

use std::collections::VecDeque;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use thinpipe_proto::bridge::{Delivery, MemberId, Nature, cancelled_of};
use thinpipe_proto::rpc::{Kind, Message, RequestId};
use thinpipe_transport::server::conversation::{Outlet, Said};

use super::lanes::Lanes;
use super::member::{Open, Reply};
use super::{Member, Owner, Place, Step, UpstreamSession};
use crate::interceptor::{Direction, MessageContext, Outcome, Rejection, subject};
use crate::relay::inspect::rejection_message;
use crate::session::{Call, note_asked};

impl UpstreamSession {
    /// Delivers until the session is over and all is delivered.
    pub(super) async fn deliver(&self, owner: &Arc<dyn Owner>) {
        if self.manner.is_shared {
            return self.deliver_to_each(owner, Step::member).await;
        }
        if self.is_of_calls() || self.has_streams() {
            // Each call has a stream of its own on either side; but over HTTP+SSE there is one for all.
            let lane = |step: &Step| step.related().filter(|_| !self.is_over_sse(step)).cloned();
            return self.deliver_to_each(owner, lane).await;
        }
        while let Some(step) = self.next_step().await {
            let rest = iter::from_fn(|| self.ready_step());
            self.in_order(owner, iter::once(step).chain(rest).collect())
                .await;
        }
    }

    /// The same, with several clients or several requests: none waits for another.
    async fn deliver_to_each<K: Ord>(&self, owner: &Arc<dyn Owner>, lane: impl Fn(&Step) -> K) {
        let mut lanes = Lanes::default();
        loop {
            self.is_behind.store(!lanes.is_empty(), Ordering::Relaxed);
            tokio::select! {
                // There is an end to the room, and then what is under way goes on.
                biased;
                // Cancel-safe: the next one is taken when it is returned. Who finds no room here leaves
                // it where it is, and with it the server's next message.
                step = self.next_step(), if lanes.has_room() => match step {
                    Some(step) => {
                        lanes.add(lane(&step), step);
                        while lanes.has_room() && let Some(step) = self.ready_step() {
                            lanes.add(lane(&step), step);
                        }
                    }
                    None => break,
                },
                // Cancel-safe: what is under way stays in its lane.
                () = lanes.advance(|steps| self.in_order(owner, steps)), if !lanes.is_empty() => {}
            }
        }
        while !lanes.is_empty() {
            lanes.advance(|steps| self.in_order(owner, steps)).await;
        }
    }

    /// Delivers in this order; notices about one request that come in a row go to its stream as one.
    async fn in_order(&self, owner: &Arc<dyn Owner>, mut steps: VecDeque<Step>) {
        while !steps.is_empty() {
            if let Some(row) = self.row(&**owner, &mut steps) {
                self.say_row(owner, row).await;
            } else if let Some(step) = steps.pop_front() {
                self.step(owner, step).await;
            }
        }
    }

    async fn step(&self, owner: &Arc<dyn Owner>, step: Step) {
        if !self.is_of_calls() {
            return self.deliver_step(owner, step).await;
        }
        let about = step.related().cloned();
        self.deliver_step(owner, step).await;
        if let Some((_, calls)) = self.lock().machine.upgrading() {
            calls.delivered(about.as_ref());
        }
        // The next message of its call may be read.
        self.goes_on.store(true, Ordering::Relaxed);
        self.delivered.notify_one();
    }

    async fn deliver_step(&self, owner: &Arc<dyn Owner>, step: Step) {
        match step {
            Step::Deliver(delivery) => self.one(owner, delivery).await,
            Step::Say(row) => self.say_row(owner, row).await,
            Step::Finish(member, request) => {
                if let Some(member) = self.member(member) {
                    // Its stream ends without a response.
                    drop(member.take(&request));
                }
            }
        }
    }

    fn is_over_sse(&self, step: &Step) -> bool {
        let member = self.member(step.member());
        member.is_some_and(|member| member.place().get().is_some_and(Place::is_over_sse))
    }

    async fn next_step(&self) -> Option<Step> {
        loop {
            {
                let mut state = self.lock();
                if let Some(step) = state.next_step() {
                    return Some(step);
                }
                state.is_delivering = false;
                if state.end.is_some() {
                    return None;
                }
            }
            self.delivered.notify_one();
            self.to_deliver.notified().await;
        }
    }

    /// The next step, if there is one.
    fn ready_step(&self) -> Option<Step> {
        self.lock().next_step()
    }

    async fn one(&self, owner: &Arc<dyn Owner>, delivery: Delivery) {
        let Some(member) = self.member(delivery.member) else {
            return;
        };
        if let Some(answer) = member.take_opening(delivery.related.as_ref()) {
            // Who waited for it may have left, and detaches the client session then.
            let _ = answer.send(delivery.message.into_text());
            return;
        }
        match self.place(&member).await {
            Some(place) => self.to_place(owner, &member, place, delivery).await,
            None => self.undelivered(delivery.member, &delivery.nature),
        }
    }

    /// Where the client session is; `None`: nowhere yet.
    async fn place<'a>(&self, member: &'a Member) -> Option<&'a Place> {
        let place = member.place();
        // Others do not wait for one that begins.
        if place.initialized() || self.manner.is_shared || member.is_opening() {
            return place.get();
        }
        tokio::select! {
            biased;
            // Cancel-safe: it is set once.
            place = place.wait() => Some(place),
            // Cancel-safe: waiting for a token changes nothing. Nobody will set the place.
            () = self.over.cancelled() => place.get(),
        }
    }

    /// There is no stream for it.
    fn undelivered(&self, member: MemberId, nature: &Nature) {
        if let Nature::Request(request) = nature {
            self.unreachable(member, request);
        }
    }

    fn unreachable(&self, member: MemberId, request: &RequestId) {
        self.feed(|machine, now| machine.undeliverable(member, request, now));
    }

    async fn to_place(
        &self,
        owner: &Arc<dyn Owner>,
        member: &Member,
        place: &Place,
        delivery: Delivery,
    ) {
        if delivery.is_last() {
            let related = delivery.related.as_ref();
            let open = related.and_then(|id| Some((id, member.take(id)?)));
            if let Some((request, open)) = open {
                let Open {
                    reply,
                    call,
                    answering,
                } = open;
                let message = response(&**owner, place, delivery.message.into_text(), call);
                match reply {
                    Reply::Nobody => {}
                    // Who does not wait for it any more has left.
                    Reply::Handler(handler) => drop(handler.send(message.await)),
                    Reply::Stream(outlet) => {
                        let message = place.bounded(request, message.await, owner.name());
                        self.respond(owner, (member, place), outlet, message).await;
                    }
                }
                drop(answering);
            }
            return;
        }
        // The machine has read it, and changed nothing but ids and tokens.
        let Ok(message) = delivery.message.clone().into_message() else {
            tracing::warn!(upstream = &**owner.name(), "a message cannot be delivered");
            return self.undelivered(delivery.member, &delivery.nature);
        };
        match other(&**owner, place, message).await {
            Ok(message) if place.is_too_large(message.source()) => {
                let (upstream, limit) = (&**owner.name(), place.max_message);
                tracing::warn!(upstream, limit, "a message is too large for its client");
                self.undelivered(delivery.member, &delivery.nature);
            }
            Ok(message) => {
                let Delivery {
                    related, nature, ..
                } = &delivery;
                let saying = (&message, related.as_ref(), nature);
                self.say(owner, member, place, saying).await;
            }
            Err((message, rejection)) if message.kind() == Kind::Request => {
                // The server waits for an answer; it gets the refusal.
                let refusal = Message::parse(rejection_message(&message, &rejection));
                let refused = refusal.is_ok_and(|refusal| {
                    self.feed(|machine, now| machine.client(member.id(), &refusal, &mut None, now))
                        .is_ok()
                });
                if !refused {
                    self.undelivered(delivery.member, &delivery.nature);
                }
            }
            Err(_) => {}
        }
    }

    async fn respond(
        &self,
        owner: &Arc<dyn Owner>,
        (member, place): (&Member, &Place),
        outlet: Outlet,
        message: Bytes,
    ) {
        let responding = outlet.respond(message);
        if !self.manner.is_shared {
            // An error says that the client has left, which loses nothing: it cannot come back for it.
            if responding.await.is_err() {
                tracing::debug!(
                    upstream = &**owner.name(),
                    "nobody reads an answer any more"
                );
            }
            return;
        }
        if member.waited_for(responding).await.is_none() {
            tracing::warn!(
                upstream = &**owner.name(),
                "a client does not read its answer, and loses it"
            );
            drop(outlet);
            self.lose_session_stream(owner, place).await;
        }
    }

    /// Says something that is no response.
    pub(super) async fn say(
        &self,
        owner: &Arc<dyn Owner>,
        member: &Member,
        place: &Place,
        (message, related, nature): (&Message, Option<&RequestId>, &Nature),
    ) {
        if is_withdrawn(place, message) {
            return;
        }
        if message.kind() == Kind::Request && place.session.strong_count() == 0 {
            // Outside of a session there is nobody to ask.
            return self.undelivered(member.id(), nature);
        }
        let is_late = self.manner.is_shared && message.kind() == Kind::Notification;
        if is_late && related.is_some_and(|request| !member.is_answering(request)) {
            // Its stream was lost while this waited for it.
            return;
        }
        let saying = place.conversation.say(message, related);
        let said = if self.manner.is_shared {
            match member.waited_for(saying).await {
                Some(said) => said,
                None => {
                    self.lose_stream(owner, member, place, (message, related))
                        .await
                }
            }
        } else {
            saying.await
        };
        match (said, nature) {
            (Said::Delivered, _) => {}
            (Said::Held, Nature::Request(request)) => {
                // What is asked whether it is alive does not wait for a stream.
                if message.method() == Some("ping") && place.conversation.withdraw(request) {
                    self.unreachable(member.id(), request);
                }
            }
            (Said::Held, _) => {}
            (Said::Dropped, _) => self.undelivered(member.id(), nature),
        }
    }

    /// A client of a shared session does not read: the stream that this would be said on ends, since
    /// nothing may be missing in it. Says what becomes of the message.
    async fn lose_stream(
        &self,
        owner: &Arc<dyn Owner>,
        member: &Member,
        place: &Place,
        (message, related): (&Message, Option<&RequestId>),
    ) -> Said {
        let upstream = &**owner.name();
        if place.is_over_sse() {
            self.lose_session_stream(owner, place).await;
            return Said::Dropped;
        }
        let lost = related.and_then(|request| Some((request, member.take(request)?)));
        match lost {
            Some((request, open)) => {
                tracing::warn!(upstream, "a client does not read its answer, and loses it");
                drop(open);
                self.feed(|machine, now| machine.abandon(member.id(), request, now));
                Said::Dropped
            }
            None => {
                tracing::warn!(upstream, "a client does not read its stream, and loses it");
                place.conversation.end_standalone();
                // There is no stream for it now.
                let said = place.conversation.try_say(message, None);
                said.unwrap_or(Said::Dropped)
            }
        }
    }

    /// Of a client of HTTP+SSE that does not read: its one stream is its session.
    async fn lose_session_stream(&self, owner: &Arc<dyn Owner>, place: &Place) {
        if !place.is_over_sse() {
            return;
        }
        tracing::warn!(
            upstream = &**owner.name(),
            "a client does not read; its session ends"
        );
        if let Some(session) = place.session.upgrade() {
            Arc::clone(owner).end_session(session).await;
        }
    }
}

/// What the client gets as the response: what the server said, or what interceptors say in its place.
async fn response(owner: &dyn Owner, place: &Place, message: Bytes, call: Option<Call>) -> Bytes {
    if !owner.chain().wants_any(Direction::ToClient) {
        owner.stats().passed();
        return message;
    }
    owner.stats().inspected();
    let Ok(message) = Message::parse(message.clone()) else {
        return message;
    };
    let (method, name) = match call {
        Some((method, name)) => (Some(method), name),
        None => (None, None),
    };
    let context = MessageContext {
        method,
        name,
        ..place.context.clone()
    };
    match owner.chain().judge(&context, &message).await {
        Outcome::Forward(message) | Outcome::Changed(message) => message.source().clone(),
        Outcome::Rejected(rejection) => rejection_message(&message, &rejection),
    }
}

/// A request or notification, as interceptors let it pass.
async fn other(
    owner: &dyn Owner,
    place: &Place,
    message: Message,
) -> Result<Message, (Message, Rejection)> {
    let chain = owner.chain();
    if chain.is_empty() {
        return Ok(message);
    }
    let context = MessageContext {
        method: message.method().map(Into::into),
        name: subject(&message).map(|name| name.as_ref().into()),
        ..place.context.clone()
    };
    if let Some(session) = place.session.upgrade() {
        note_asked(&session, chain, &context, &message);
    }
    match chain.judge(&context, &message).await {
        Outcome::Forward(message) | Outcome::Changed(message) => Ok(message),
        Outcome::Rejected(rejection) => Err((message, rejection)),
    }
}

/// Whether this takes back a request of the server that the client has not seen yet.
fn is_withdrawn(place: &Place, message: &Message) -> bool {
    cancelled_of(message).is_some_and(|request| place.conversation.withdraw(&request))
}
