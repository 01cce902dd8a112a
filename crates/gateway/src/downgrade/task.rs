//! The task of an upstream session: opening it, reading, writing, keeping the time.

use std::future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thinpipe_proto::bridge::CallId;
use thinpipe_proto::bridge::downgrade::{Channel, End, Lifetime, WriteFailure, Written};
use thinpipe_proto::rpc::{Message, member};
use thinpipe_proto::shown::Shown;
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::upstream::UpstreamError;
use thinpipe_transport::upstream::pipe::{Incoming, Pipe, PipeError, PipeReceiver, PipeSender};
use tokio_util::sync::CancellationToken;

use super::Owner;
use super::session::{Session, Unwritten, Write};
use crate::cache::TOOLS_CHANGED;
use crate::clock::until;
use crate::failure::{Failure, Reason, with_causes};
use crate::pipe::Posts;

/// Bytes of a refusal of `initialize` that are said again.
const MAX_SAID: usize = 400;

/// A client that takes nothing of a session that it has not for itself, while something waits for it, loses
/// its answer after this. Others wait for it no longer.
const STALL: Duration = Duration::from_secs(5);

/// How long the end of a server that takes nothing more may take to be read.
const LAST_READ: Duration = Duration::from_secs(1);

/// Cancellations, the last that a session says, may take so long to be written.
const LAST_WRITES: Duration = Duration::from_secs(1);

impl Session {
    /// Serves the session to its end.
    pub(super) async fn run(
        self: Arc<Self>,
        opening: BoxFuture<Result<Pipe, Failure>>,
        owner: Arc<dyn Owner>,
        stop: CancellationToken,
    ) {
        self.live(opening, &*owner, &stop).await;
        self.tell_end(&*owner);
        self.let_go();
        // Clients may come back for what is held for them.
        tokio::select! {
            biased;
            // Cancel-safe: the time is looked at anew.
            () = self.keep_time_until_finished() => {}
            // Cancel-safe: waiting for a token changes nothing.
            () = stop.cancelled() => self.feed(|machine, now| machine.shut_down(now)),
        }
        self.shared.forget(self.key);
    }

    async fn live(
        &self,
        opening: BoxFuture<Result<Pipe, Failure>>,
        owner: &dyn Owner,
        stop: &CancellationToken,
    ) {
        let opened = tokio::select! {
            biased;
            // Dropped half-way it leaves nothing behind.
            opened = opening => opened,
            // The request that it was for is over.
            () = self.over.cancelled() => return,
            // Cancel-safe: time goes by all the same.
            () = self.keep_time() => return,
            // Cancel-safe: waiting for a token changes nothing.
            () = self.stopped(stop) => return,
        };
        let Pipe { sender, receiver } = match opened {
            Ok(pipe) => pipe,
            Err(failure) => return self.not_opened(&failure),
        };
        self.opened(sender.clone());
        tokio::select! {
            biased;
            // None of them goes on after this: the session is over, and with it what they hold.
            () = self.write(&sender, owner) => {}
            () = self.read(receiver, owner) => {}
            () = self.keep_time() => {}
            () = self.listen(&sender) => {}
            () = self.farewell() => {}
            () = self.stopped(stop) => {}
        }
        sender.close();
    }

    /// Ends the session when the process ends. The others have their own time to say so.
    async fn stopped(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        self.feed(|machine, now| machine.shut_down(now));
        future::pending().await
    }

    /// Until the session is over and what was to be written had its time.
    async fn farewell(&self) {
        self.over.cancelled().await;
        tokio::time::sleep(LAST_WRITES).await;
    }

    /// Reads a message when those who got something of the one before have room for more, and the server has
    /// taken what it is owed.
    async fn read(&self, mut receiver: PipeReceiver, owner: &dyn Owner) {
        let mut is_open = false;
        loop {
            self.until_it_may_say_more().await;
            let Some(incoming) = receiver.receive().await else {
                break;
            };
            match incoming {
                Ok(Incoming::Message { message, via }) => {
                    if message.method() == Some(TOOLS_CHANGED) {
                        owner.tools_changed();
                    }
                    if !is_open && let Some(text) = refusal(owner, &message) {
                        self.lose(&text);
                        continue;
                    }
                    for post in self.heard(&message, via.as_ref()) {
                        let patience = (!self.is_own()).then_some(STALL);
                        if !post.room(patience).await {
                            tracing::warn!(
                                upstream = self.shared.name(),
                                "a client does not read its answer, and loses it"
                            );
                            post.end();
                            self.detach(post.id);
                        }
                    }
                    if !is_open {
                        is_open = self.tell_opened(owner);
                    }
                }
                Ok(Incoming::Alive { request }) => {
                    if let Some(call) = CallId::from_request_id(&request) {
                        self.feed(|machine, now| machine.alive(call, now));
                    }
                }
                Ok(Incoming::Lost { request, error }) => {
                    self.stream_lost(&request, &with_causes(&error));
                }
                Ok(Incoming::Gap) => self.feed(|machine, now| machine.stream_opened(true, now)),
                Ok(Incoming::Deaf { error }) => {
                    let error = with_causes(&error);
                    let upstream = self.shared.name();
                    tracing::warn!(upstream, error, "the standalone stream has ended for good");
                    self.feed(|machine, now| machine.stream_refused(now));
                }
                Ok(_) => {}
                Err(error) => self.lose(&with_causes(&error)),
            }
        }
        self.lose("its session was closed");
        // The others end in their own time.
        future::pending().await
    }

    async fn until_it_may_say_more(&self) {
        while !self.may_say_more() {
            self.to_read.notified().await;
        }
    }

    /// Whether it has turned out what the server speaks.
    fn tell_opened(&self, owner: &dyn Owner) -> bool {
        let result = self.lock().machine.initialize_result().cloned();
        if let Some(result) = &result {
            owner.opened(result);
        }
        result.is_some()
    }

    fn is_own(&self) -> bool {
        self.lock().machine.config().lifetime == Lifetime::PerRequest
    }

    /// Opens the standalone stream when it is wanted.
    async fn listen(&self, sender: &PipeSender) {
        loop {
            let wants = std::mem::take(&mut self.lock().wants_stream);
            if !wants {
                self.to_listen.notified().await;
                continue;
            }
            match sender.listen().await {
                Ok(true) => self.feed(|machine, now| machine.stream_opened(false, now)),
                Ok(false) => self.feed(|machine, now| machine.stream_refused(now)),
                Err(PipeError::SessionLost { .. }) => {
                    self.lose("the server has forgotten the session");
                }
                Err(error) => {
                    let error = with_causes(&error);
                    let upstream = self.shared.name();
                    tracing::warn!(upstream, error, "the standalone stream was not opened");
                    self.feed(|machine, now| machine.stream_refused(now));
                }
            }
        }
    }

    /// Writes until the session is over and nothing is left to be written.
    async fn write(&self, sender: &PipeSender, owner: &dyn Owner) {
        let at = sender.upstream();
        let patience = (!sender.has_headers()).then(|| self.shared.silence());
        // How many POSTs there are the machine bounds: requests in flight.
        let mut posts = Posts::new(if patience.is_some() { 1 } else { usize::MAX });
        loop {
            tokio::select! {
                // There is an end to the room, and then what is on its way goes on.
                biased;
                // Cancel-safe: a message is taken when it is returned.
                write = self.wait_for_write(), if posts.has_room() => match write {
                    Some(write) => begin(&mut posts, sender.clone(), patience, write),
                    None => break,
                },
                // Cancel-safe: one that is done is taken when it is returned.
                sent = posts.next(), if !posts.is_empty() => self.sent(sent, (owner, &at)).await,
            }
        }
        while !posts.is_empty() {
            let sent = posts.next().await;
            self.sent(sent, (owner, &at)).await;
        }
    }

    async fn wait_for_write(&self) -> Option<Write> {
        loop {
            if let Some(write) = self.next_write() {
                return Some(write);
            }
            if self.lock().end.is_some() {
                return None;
            }
            self.to_write.notified().await;
        }
    }

    /// A message was taken by the server, or not.
    async fn sent(&self, sent: Option<Sent>, (owner, at): (&dyn Owner, &str)) {
        let Some(((written, unwritten), result)) = sent else {
            return;
        };
        let Some(result) = result else {
            return self.lose("it does not take what it is sent");
        };
        owner.posted(at, &result);
        let Err(error) = result else {
            return;
        };
        let mut text = with_causes(&error);
        if self.channel() == Channel::Streams && !self.lock().is_negotiated() {
            text.push_str(&owner.not_taken(&error).unwrap_or_default());
        }
        if is_fatal(&error, self.channel()) {
            // What is read of the end of a child, its status, says more.
            let heard = tokio::time::timeout(LAST_READ, self.over.cancelled()).await;
            if heard.is_err() {
                self.lose(&text);
            }
            return;
        }
        if matches!(&error, PipeError::Upstream(error) if error.is_unsent()) {
            owner.suspect();
        }
        let upstream = self.shared.name();
        tracing::warn!(upstream, error = text, "a message was not taken");
        let is_timeout = Failure::from(&error).reason == Reason::Timeout;
        // What a replica has that is gone is forgotten: the session, that is, and this message did not run.
        let is_gone = is_unreached(&error) && owner.has_lost(at);
        let why = if is_gone {
            WriteFailure::SessionGone
        } else {
            failure(&error)
        };
        match written {
            // What it says to initialize it says of its endpoint, and clients with sessions are told the same.
            Written::Request(_) if is_denied(&error) && !self.lock().is_negotiated() => {
                self.not_opened(&Failure::from(&error));
            }
            // It may be running: the deadline decides, which tells the server too.
            Written::Request(_) if is_timeout && !error.is_undelivered() => {}
            Written::Request(call) => self.write_failed(call, why, &text),
            Written::Answer(answer) => {
                let undelivered = error.is_undelivered();
                self.answer_failed(answer, unwritten, undelivered);
            }
            Written::Cancel(_) | Written::Other => {}
        }
        if is_gone || matches!(error, PipeError::SessionLost { .. }) {
            self.lose(&text);
        }
    }

    fn channel(&self) -> Channel {
        self.lock().machine.config().channel
    }

    async fn keep_time(&self) {
        let idle = self.shared.idle();
        loop {
            let due = self.arm(idle);
            self.wait_until(due).await;
        }
    }

    async fn keep_time_until_finished(&self) {
        let idle = self.shared.idle();
        while !self.lock().machine.is_finished() {
            let due = self.arm(idle);
            self.wait_until(due).await;
        }
    }

    async fn wait_until(&self, due: Option<Instant>) {
        tokio::select! {
            // However often the time changes, what is due is done.
            biased;
            // Cancel-safe: the time is looked at anew.
            () = until(due) => self.expire(self.shared.idle()),
            // Cancel-safe: the same.
            () = self.timer.notified() => {}
        }
    }

    fn tell_end(&self, owner: &dyn Owner) {
        let (end, dropped, was_open) = {
            let state = self.lock();
            let machine = &state.machine;
            (state.end.clone(), machine.dropped(), state.is_negotiated())
        };
        let upstream = self.shared.name();
        tracing::debug!(upstream, ?end, ?dropped, "an upstream session ended");
        if let Some(End::UpstreamLost(reason)) = &end {
            tracing::info!(upstream, reason, "an upstream session was lost");
        }
        if !was_open && matches!(end, Some(End::NotInitialized(_) | End::UpstreamLost(_))) {
            self.shared.undiscover();
            owner.never_opened(self.had_pipe());
        }
        self.shared.ended();
    }
}

/// Why there is no session, if more is to be said of that than the server says.
fn refusal(owner: &dyn Owner, answer: &Message) -> Option<String> {
    let doubt = owner.refused(answer)?;
    let said = answer.error().and_then(|error| member(&error, "message"));
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    let said = Shown::new(&said, MAX_SAID);
    Some(format!(
        "the upstream refused to initialize a session: {said}{doubt}"
    ))
}

/// Whether a message that was not taken is the end of the session.
fn is_fatal(error: &PipeError, channel: Channel) -> bool {
    match error {
        PipeError::SessionLost { .. } | PipeError::Full { .. } | PipeError::Upstream(_) => false,
        // Without its session an HTTP+SSE server has nothing to say.
        PipeError::Refused { status, .. } => status.as_u16() == 404 && channel == Channel::Pipe,
        _ => true,
    }
}

/// Whether a server has refused a message for what it is.
fn is_denied(error: &PipeError) -> bool {
    matches!(error, PipeError::Refused { status, .. } if status.is_client_error())
}

/// Whether no connection could be made.
fn is_unreached(error: &PipeError) -> bool {
    matches!(error, PipeError::Upstream(UpstreamError::Connect { .. }))
}

fn failure(error: &PipeError) -> WriteFailure {
    match error {
        PipeError::SessionLost { .. } => WriteFailure::SessionGone,
        PipeError::Refused { status, .. } if matches!(status.as_u16(), 401 | 403) => {
            WriteFailure::Unauthorized
        }
        PipeError::Refused { .. } => WriteFailure::Refused,
        PipeError::Upstream(UpstreamError::Exhausted { .. }) => WriteFailure::Overloaded,
        error if error.is_undelivered() => WriteFailure::Undelivered,
        _ => WriteFailure::Unknown,
    }
}

/// A message that is done: which one, what an answer of a client takes to be written again, and what came of
/// it; `None`: it was not taken in time.
type Sent = ((Written, Unwritten), Option<Result<(), PipeError>>);

/// Begins to write a message. On a pipe of bytes the next one waits until this one is there, which may take
/// as long as there is `patience`.
fn begin(
    posts: &mut Posts<(Written, Unwritten), Option<Result<(), PipeError>>>,
    sender: PipeSender,
    patience: Option<Duration>,
    write: Write,
) {
    let Write {
        message,
        written,
        headers,
    } = write;
    // A request of Streamable HTTP is ordered by nothing; `notifications/initialized` comes before them.
    let orders = !(sender.has_streams() && matches!(written, Written::Request(_)));
    let (sent, with) = (message.clone(), headers.clone());
    let sending = async move {
        let sending = sender.send_with(sent, with);
        match patience {
            Some(patience) => tokio::time::timeout(patience, sending).await.ok(),
            None => Some(sending.await),
        }
    };
    posts.begin((written, Unwritten { message, headers }), sending, orders);
}
