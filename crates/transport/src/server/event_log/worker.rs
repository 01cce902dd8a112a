//! The task that writes all streams.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use thinpipe_proto::session::SessionId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::write::{ATTEMPT, Outcome, write};
use crate::body::BoxFuture;
use crate::server::event_buffer::EventBuffer;

/// Requests to the log that run side by side.
const MAX_RUNNING: usize = 64;

/// How long readers wait for a log that does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A log that has failed is asked again after this.
const RETRY: Duration = Duration::from_millis(100);

/// For what waits when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Sessions that wait to be forgotten while the log is away. What is stored of others goes by its age.
const MAX_ENDED: usize = 10_000;

pub(super) struct Worker {
    shared: Arc<Shared>,
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    /// Those whose readers do not wait any more.
    behind: VecDeque<Waiting>,
    ended: VecDeque<SessionId>,
    running: Vec<BoxFuture<Done>>,
    /// The log has failed, and is asked again then.
    down: Option<Instant>,
}

/// A stream that has something to be written.
struct Waiting {
    buffer: EventBuffer,
    since: Instant,
    is_behind: bool,
    /// It was tried, and what came of it is not known.
    again: bool,
    is_done: bool,
}

/// A stream that is dropped before it is done is one that nobody writes any more.
impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_done {
            self.buffer.end_log();
        }
    }
}

enum Done {
    Written(Waiting, Outcome),
    Forgotten(SessionId, bool),
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            waiting: VecDeque::new(),
            behind: VecDeque::new(),
            ended: VecDeque::new(),
            running: Vec::new(),
            down: None,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        // Cancel-safe: all there is to do is kept outside of the future.
        if stop.run_until_cancelled(self.work(false)).await.is_none() {
            let rest = self.work(true);
            if tokio::time::timeout(LAST_WORDS, rest).await.is_err() {
                tracing::warn!("not all streams could be written to their log");
            }
        }
        self.close();
    }

    /// Writes; with `until_done` until nothing waits.
    async fn work(&mut self, until_done: bool) {
        loop {
            self.collect();
            self.give_up_waiting();
            self.begin();
            if until_done && self.is_done() {
                return;
            }
            let due = self.due();
            tokio::select! {
                // Cancel-safe: a future that is done is taken out when it is returned.
                done = next(&mut self.running) => self.settle(done),
                // Cancel-safe: who is not told now finds it in the queue.
                () = self.shared.wake.notified() => {}
                // Cancel-safe: the clock is looked at in any case.
                () = until(due) => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        let waits = self.waiting.len() + self.behind.len() + self.ended.len();
        waits + self.running.len() == 0
    }

    /// Takes what has been queued.
    fn collect(&mut self) {
        let mut queue = self.shared.queue();
        let buffers = std::mem::take(&mut queue.waiting);
        let ended = std::mem::take(&mut queue.ended);
        drop(queue);
        let since = Instant::now();
        self.waiting
            .extend(buffers.into_iter().map(|buffer| Waiting {
                buffer,
                since,
                is_behind: false,
                again: false,
                is_done: false,
            }));
        let room = MAX_ENDED.saturating_sub(self.ended.len());
        self.ended.extend(ended.into_iter().take(room));
    }

    /// Lets the readers of streams go on that have waited for too long.
    fn give_up_waiting(&mut self) {
        let now = Instant::now();
        let is_late = |waiting: &Waiting| waiting.since + PATIENCE <= now;
        while self.waiting.front().is_some_and(is_late)
            && let Some(mut waiting) = self.waiting.pop_front()
        {
            waiting.buffer.go_on_behind();
            waiting.is_behind = true;
            self.behind.push_back(waiting);
            self.shared.counts.behind.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Begins as many requests as may run: one, if the log has failed.
    fn begin(&mut self) {
        let limit = match self.down {
            Some(until) if until > Instant::now() => 0,
            Some(_) => 1,
            None => MAX_RUNNING,
        };
        while self.running.len() < limit {
            let next = self.waiting.pop_front();
            if let Some(waiting) = next.or_else(|| self.behind.pop_front()) {
                self.running
                    .push(written(Arc::clone(&self.shared), waiting));
            } else if let Some(session) = self.ended.pop_front() {
                self.running
                    .push(forgotten(Arc::clone(&self.shared), session));
            } else {
                return;
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let late = self.waiting.front().map(|first| first.since + PATIENCE);
        let has_work = !(self.behind.is_empty() && self.ended.is_empty() && late.is_none());
        let retry = self.down.filter(|_| self.running.is_empty() && has_work);
        [late, retry].into_iter().flatten().min()
    }

    fn settle(&mut self, done: Done) {
        match done {
            Done::Written(waiting, outcome) => self.settle_written(waiting, outcome),
            Done::Forgotten(_, true) => self.down = None,
            Done::Forgotten(session, false) => {
                self.ended.push_front(session);
                self.fail();
            }
        }
    }

    fn settle_written(&mut self, mut waiting: Waiting, outcome: Outcome) {
        if outcome == Outcome::Unavailable {
            waiting.again = true;
            // It has waited the longest.
            match waiting.is_behind {
                true => self.behind.push_front(waiting),
                false => self.waiting.push_front(waiting),
            }
            return self.fail();
        }
        if outcome == Outcome::Done {
            self.down = None;
        }
        waiting.again = false;
        waiting.is_done = outcome == Outcome::Idle;
        if waiting.is_behind && (waiting.is_done || !waiting.buffer.is_behind()) {
            waiting.is_behind = false;
            self.shared.counts.behind.fetch_sub(1, Ordering::Relaxed);
        }
        if waiting.is_done {
            return;
        }
        if waiting.is_behind {
            self.behind.push_back(waiting);
        } else {
            waiting.since = Instant::now();
            self.waiting.push_back(waiting);
        }
    }

    fn fail(&mut self) {
        if self.down.is_none() {
            tracing::warn!("the log of streams does not answer");
        }
        self.down = Some(Instant::now() + RETRY);
    }

    /// What waits is not written any more.
    fn close(self) {
        let mut queue = self.shared.queue();
        queue.is_closed = true;
        let late = std::mem::take(&mut queue.waiting);
        drop(queue);
        for buffer in late {
            buffer.end_log();
        }
        // Those that were taken from the queue know what to do when they are dropped.
    }
}

fn written(shared: Arc<Shared>, waiting: Waiting) -> BoxFuture<Done> {
    Box::pin(async move {
        let again = waiting.again || waiting.is_behind;
        let outcome = write(&shared, &waiting.buffer, again).await;
        Done::Written(waiting, outcome)
    })
}

fn forgotten(shared: Arc<Shared>, session: SessionId) -> BoxFuture<Done> {
    Box::pin(async move {
        let done = tokio::time::timeout(ATTEMPT, shared.log.forget(&session)).await;
        let is_done = matches!(done, Ok(Ok(())));
        Done::Forgotten(session, is_done)
    })
}

/// The next of these that is done; never, if there are none.
async fn next(running: &mut Vec<BoxFuture<Done>>) -> Done {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(done) = running[at].as_mut().poll(cx) {
                drop(running.swap_remove(at));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
