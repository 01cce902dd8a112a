//! The task of an upstream session: opening it, reading, writing, delivering, keeping the time.

use std::collections::VecDeque;
use std::future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thinpipe_proto::bridge::{CallId, Dropped, End};
use thinpipe_proto::rpc::Message;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::upstream::pipe::{Incoming, Pipe, PipeError, PipeReceiver, PipeSender};
use tokio_util::sync::CancellationToken;

use super::posts::Posts;
use super::{Owner, Step, Up, UpstreamSession, Write};
use crate::clock::{now, until};
use crate::failure::{Failure, Reason, with_causes};
use crate::sync::lock;

/// POSTs of HTTP+SSE that are on their way at one time.
const AT_ONCE: usize = 16;

/// How long the end of a server that takes nothing more may take to be read.
const LAST_READ: Duration = Duration::from_secs(1);

/// Cancellations, the last that a session says, may take so long to be written.
const LAST_WRITES: Duration = Duration::from_secs(1);

/// A message on its way.
struct Sending {
    /// The request that it is.
    call: Option<CallId>,
    /// It, if it may have to be sent again.
    unsent: Option<Write>,
}

/// Those that are on their way.
type Sendings = Posts<Sending, Result<(), PipeError>>;

/// A message that is done, and whether the server has it.
type Sent = (Sending, Result<(), PipeError>);

impl UpstreamSession {
    /// Serves the session to its end. Clients may use it while it is being opened.
    pub(crate) async fn run(
        self: Arc<Self>,
        opening: BoxFuture<Result<Pipe, Failure>>,
        owner: Arc<dyn Owner>,
        stop: CancellationToken,
    ) {
        let flow = async {
            let mut opened = self.open(opening, &stop).await;
            loop {
                match opened {
                    Some(Ok(pipe)) => self.live(pipe, &owner, &stop).await,
                    Some(Err(failure)) => return self.never_open(failure),
                    None => return,
                }
                let Some(reopening) = self.reopening(&owner) else {
                    return;
                };
                opened = self.open(reopening, &stop).await;
                if let Some(Ok(pipe)) = &opened {
                    self.opened(pipe.sender.clone());
                    self.reopened(&owner);
                }
            }
        };
        tokio::join!(flow, self.deliver(&owner));
        self.finish(&owner).await;
    }

    /// `None`: the session is over before it is open.
    async fn open(
        &self,
        opening: BoxFuture<Result<Pipe, Failure>>,
        stop: &CancellationToken,
    ) -> Option<Result<Pipe, Failure>> {
        tokio::select! {
            biased;
            // Dropped half-way it leaves nothing behind.
            opened = opening => Some(opened),
            // Cancel-safe: waiting for a token changes nothing.
            () = self.over.cancelled() => None,
            // Cancel-safe: time goes by all the same. It never ends.
            () = self.keep_time() => None,
            // Cancel-safe: waiting for a token changes nothing.
            () = stop.cancelled() => {
                self.lose("the gateway shuts down");
                None
            }
        }
    }

    async fn live(&self, pipe: Pipe, owner: &Arc<dyn Owner>, stop: &CancellationToken) {
        let Pipe { sender, receiver } = pipe;
        self.opened(sender.clone());
        tokio::select! {
            biased;
            // None of them goes on after this: the session is over, and with it what they hold; or it leaves this
            // pipe, when all that was being written is done.
            () = self.write(&sender, owner) => {}
            () = self.read(receiver, owner) => {}
            () = self.listen(&sender) => {}
            () = self.keep_time() => {}
            () = self.farewell() => {}
            () = stop.cancelled() => self.lose("the gateway shuts down"),
        }
        if self.is_known_elsewhere() {
            sender.leave();
        } else {
            sender.close();
        }
    }

    fn opened(&self, sender: PipeSender) {
        if let Up::Pipe { sender: kept, .. } = &self.up {
            *lock(kept) = Some(sender);
        }
    }

    /// It could not be opened, or not be opened again.
    fn never_open(&self, failure: Failure) {
        let reason = failure.text.clone();
        if let Up::Pipe { not_opened, .. } = &self.up {
            // There is one attempt.
            let _ = not_opened.set(failure);
        }
        self.lose(&reason);
    }

    /// Until the session is over and what was to be written had its time.
    pub(super) async fn farewell(&self) {
        self.over.cancelled().await;
        tokio::time::sleep(LAST_WRITES).await;
    }

    /// Reads on when all that what came before has led to is delivered: a client that does not read stops its
    /// server, and so does a server itself that takes no answers.
    async fn read(&self, mut receiver: PipeReceiver, owner: &Arc<dyn Owner>) {
        let mut batch = VecDeque::new();
        loop {
            self.may_read().await;
            if batch.is_empty() {
                match receiver.receive_batch(&mut batch).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => self.broke(&error, None),
                    None => {
                        self.lose("its session was closed");
                        // The others end in their own time.
                        return future::pending().await;
                    }
                }
            }
            self.hear(&mut batch, &**owner);
        }
    }

    /// Takes what was read, as far as it may be looked at, and delivers what need not wait.
    fn hear(&self, batch: &mut VecDeque<Incoming>, owner: &dyn Owner) {
        let mut steps = VecDeque::new();
        while let Some(incoming) = batch.pop_front() {
            if self.received(incoming, &mut steps) {
                break;
            }
        }
        self.deliver_now(owner, steps);
    }

    /// `true`: what was read so far has to be delivered, or answered, before more is looked at.
    fn received(&self, incoming: Incoming, steps: &mut VecDeque<Step>) -> bool {
        match incoming {
            Incoming::Message { message, via } => {
                let via = via.as_ref().and_then(CallId::from_request_id);
                return self.heard_on_pipe(via, &message, steps);
            }
            Incoming::Alive { request } => {
                if let Some(call) = CallId::from_request_id(&request) {
                    self.feed(|machine, now| machine.alive(call, now));
                }
            }
            Incoming::Lost { request, error } => {
                if let Some(call) = CallId::from_request_id(&request) {
                    let failure = Failure::from(&error);
                    self.fail(call, failure.reason.as_str(), &failure.text);
                }
            }
            Incoming::Gap => self.told_gap(),
            Incoming::Deaf { error } => {
                let error = with_causes(&error);
                tracing::warn!(error, "a standalone stream has ended for good");
            }
            _ => {}
        }
        self.lock().is_full(steps)
    }

    /// Gives the machine what the server said on the stream of this request, or on none. What is to be delivered is
    /// put into `steps`, unless something is to be delivered before it. `true`: as [`received`](Self::received).
    fn heard_on_pipe(
        &self,
        via: Option<CallId>,
        message: &Message,
        steps: &mut VecDeque<Step>,
    ) -> bool {
        let mut state = self.lock();
        if let Some((machine, _)) = state.machine.reframing() {
            machine.upstream_on(via, message, now());
        }
        let before = state.machine.waiting();
        state.take_actions();
        if let Some((_, writes)) = state.machine.reframing() {
            writes.owe(before);
        }
        if !self.is_behind.load(Ordering::Relaxed) {
            steps.append(&mut state.deliveries);
        }
        let is_full = state.is_full(steps);
        self.notify(state, before);
        is_full
    }

    async fn may_read(&self) {
        loop {
            {
                let state = self.lock();
                let all_delivered = state.deliveries.is_empty() && !state.is_delivering;
                if all_delivered && state.machine.may_say_more() {
                    return;
                }
            }
            self.delivered.notified().await;
        }
    }

    /// Writes until the session is over and nothing is left to be written, or until it leaves.
    async fn write(&self, sender: &PipeSender, owner: &Arc<dyn Owner>) {
        let at = sender.upstream();
        let mut posts = Posts::new(match (sender.has_streams(), sender.has_headers()) {
            // The machine bounds how many requests there are, which are answered here.
            (true, _) => usize::MAX,
            (false, true) => AT_ONCE,
            (false, false) => 1,
        });
        loop {
            tokio::select! {
                // Who leaves does not wait for those that keep coming, and messages only while there is room.
                biased;
                // Cancel-safe: a notice that is not taken stays.
                () = self.parting.notified() => return self.part(posts, (owner, &at)).await,
                // Cancel-safe: a message is taken when it is returned.
                write = self.next_write(), if posts.has_room() => match write {
                    Some(write) => self.begin(&mut posts, sender.clone(), write),
                    None => break,
                },
                // Cancel-safe: one that is done is taken when it is returned.
                sent = posts.next(), if !posts.is_empty() => self.sent(sent, (owner, &at)).await,
            }
        }
        self.end_posts(&mut posts, (owner, &at)).await;
    }

    async fn end_posts(&self, posts: &mut Sendings, of: (&Arc<dyn Owner>, &str)) {
        while !posts.is_empty() {
            let sent = posts.next().await;
            self.sent(sent, of).await;
        }
    }

    /// The session leaves: what is on its way may be taken yet, or turn out not to have run, and goes along then.
    async fn part(&self, mut posts: Sendings, of: (&Arc<dyn Owner>, &str)) {
        let ending = self.end_posts(&mut posts, of);
        if tokio::time::timeout(LAST_WRITES, ending).await.is_ok() {
            return;
        }
        for Sending { call, .. } in posts.into_rest() {
            let text = "the session was left while the message was on its way; it may have run";
            tracing::warn!(upstream = of.1, text);
            if let Some(call) = call {
                self.fail(call, Reason::StreamLost.as_str(), text);
            }
        }
    }

    async fn next_write(&self) -> Option<Write> {
        loop {
            {
                let mut state = self.lock();
                let next = state
                    .machine
                    .reframing()
                    .and_then(|(_, writes)| writes.pop());
                let is_over = state.end.is_some();
                drop(state);
                if let Some((write, has_room)) = next {
                    if has_room {
                        self.room.notify_waiters();
                    }
                    if write.is_owed {
                        // The server may be read on.
                        self.delivered.notify_one();
                    }
                    return Some(write);
                }
                if is_over {
                    return None;
                }
            }
            self.to_write.notified().await;
        }
    }

    fn begin(&self, posts: &mut Sendings, sender: PipeSender, write: Write) {
        let call = write.call;
        let may_leave = self.manner.reopens || self.manner.moves;
        let unsent = may_leave.then(|| write.clone());
        let Write {
            message, headers, ..
        } = write;
        // A request of Streamable HTTP is ordered by nothing; `notifications/initialized` comes before them.
        let orders = !(sender.has_streams() && call.is_some());
        let sending = async move { sender.send_with(message, headers).await };
        posts.begin(Sending { call, unsent }, sending, orders);
    }

    /// A message was taken by the server, or not.
    async fn sent(&self, sent: Option<Sent>, (owner, at): (&Arc<dyn Owner>, &str)) {
        let Some((Sending { call, unsent }, sent)) = sent else {
            return;
        };
        owner.posted(at, &sent);
        let Err(error) = sent else {
            return;
        };
        if self.goes_along(&error, unsent.as_ref()) {
            return;
        }
        if matches!(error, PipeError::SessionLost { .. }) {
            return self.broke(&error, unsent);
        }
        if self.leaves((owner, at), &error, call)
            && self.leave_for_another((owner, at), &error, unsent).await
        {
            return;
        }
        if self.is_fatal(call, &error, &**owner) {
            // What is read of the end of a child, its status, says more.
            let reason = with_causes(&error);
            let heard = tokio::time::timeout(LAST_READ, self.over.cancelled()).await;
            if heard.is_err() {
                self.lose(&reason);
            }
        }
    }

    /// Whether a message that was not taken is the end of the session; if not, what it means.
    fn is_fatal(&self, call: Option<CallId>, error: &PipeError, owner: &dyn Owner) -> bool {
        let upstream = &**owner.name();
        match error {
            // Without its session an HTTP+SSE server has nothing to say.
            PipeError::Refused { status, .. } if status.as_u16() == 404 && !self.has_streams() => {
                return true;
            }
            PipeError::Upstream(_) | PipeError::Refused { .. } | PipeError::Full { .. } => {}
            // It may be over already, and then it stays so.
            _ => return true,
        }
        let failure = Failure::from(error);
        let text = &failure.text;
        if !error.is_undelivered() && failure.reason == Reason::Timeout {
            // It may be running, and its answer comes on the stream: the deadline decides.
            tracing::debug!(upstream, error = text, "a message was not confirmed");
            return false;
        }
        if matches!(error, PipeError::Upstream(_)) {
            owner.suspect();
        }
        tracing::warn!(upstream, error = text, "a message was not taken");
        if let Some(call) = call {
            let is_opening = self.has_streams() && self.is_opening(call);
            let doubt = is_opening.then(|| owner.not_taken(error)).flatten();
            let text = format!("{text}{}", doubt.unwrap_or_default());
            self.fail(call, failure.reason.as_str(), &text);
        }
        false
    }

    /// A request got no answer, and the session lives on.
    fn fail(&self, call: CallId, reason: &str, text: &str) {
        self.feed(|machine, now| {
            if let Some((machine, _)) = machine.reframing() {
                machine.write_failed(call, reason, text, now);
            }
        });
    }

    /// Whether this request is `initialize`.
    pub(super) fn is_opening(&self, call: CallId) -> bool {
        let mut state = self.lock();
        let machine = state.machine.reframing();
        machine.is_some_and(|(machine, _)| machine.is_initialize(call))
    }

    pub(super) async fn keep_time(&self) {
        loop {
            let due = self.arm();
            tokio::select! {
                // However often the time changes, what is due is done.
                biased;
                // Cancel-safe: the time is looked at anew.
                () = until(due) => self.expire(),
                // Cancel-safe: the same.
                () = self.timer.notified() => {}
            }
        }
    }

    /// When something is due.
    fn arm(&self) -> Option<Instant> {
        let mut state = self.lock();
        let idle = state.idle_until(self.manner.idle);
        let members = state.members.values();
        let held = members.filter_map(|member| member.place().get()?.conversation.deadline());
        let due = held.chain(idle);
        let due = due.chain(state.left_until());
        let due = due.chain(state.machine.poll_timeout()).min();
        state.armed = due;
        due
    }

    fn expire(&self) {
        let mut state = self.lock();
        let now = now();
        state.machine.on_timeout(now);
        state.give_up_left(now);
        let members: Vec<_> = state.members.values().cloned().collect();
        for member in members {
            let Some(place) = member.place().get() else {
                continue;
            };
            for request in place.conversation.undeliverable() {
                state.machine.undeliverable(member.id(), &request, now);
            }
        }
        let idle = state.idle_until(self.manner.idle);
        if idle.is_some_and(|until| until <= now)
            && let Some((machine, _)) = state.machine.reframing()
        {
            machine.close_idle();
        }
        self.settle(state);
    }

    /// The client sessions that are left end with it.
    pub(super) async fn finish(&self, owner: &Arc<dyn Owner>) {
        let (members, end, dropped) = {
            let mut state = self.lock();
            let members = std::mem::take(&mut state.members);
            (members, state.end.clone(), state.machine.dropped())
        };
        let upstream = &**owner.name();
        if dropped != Dropped::default() {
            tracing::debug!(upstream, ?dropped, "messages that led nowhere");
        }
        match &end {
            Some(End::UpstreamLost(reason)) => {
                tracing::info!(upstream, reason, "an upstream session was lost");
            }
            end => tracing::debug!(upstream, ?end, "an upstream session ended"),
        }
        for member in members.into_values() {
            let session = member
                .place()
                .get()
                .and_then(|place| place.session.upgrade());
            if let Some(session) = session {
                owner.stats().session_lost();
                Arc::clone(owner).end_session(session).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
