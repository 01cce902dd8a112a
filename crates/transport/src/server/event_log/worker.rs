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
use super::failed::Failed;
use super::write::{ATTEMPT, Outcome, write};
use crate::body::BoxFuture;
use crate::server::event_buffer::EventBuffer;

/// Requests to the log that run side by side, but for those that are tried again.
const MAX_RUNNING: usize = 64;

/// Requests that are tried again side by side. They have places of their own: a part of the log may be away, and its
/// streams keep none of the others waiting.
const MAX_RETRYING: usize = 8;

/// How long readers wait for a log that does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A request that has failed is tried again after this.
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
    failed: Failed,
    running: Vec<BoxFuture<Done>>,
    /// How many of these are tried again.
    retrying: usize,
}

/// A stream that has something to be written.
pub(super) struct Waiting {
    buffer: EventBuffer,
    pub(super) since: Instant,
    pub(super) is_behind: bool,
    /// It was tried, and what came of it is not known.
    pub(super) again: bool,
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

impl Waiting {
    /// Its readers have waited for too long.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.since + PATIENCE <= now
    }
}

/// One request to the log.
pub(super) enum Work {
    Write(Waiting),
    /// Whether it was tried before.
    Forget(SessionId, bool),
}

enum Done {
    Written(Waiting, Outcome),
    Forgotten {
        session: SessionId,
        again: bool,
        is_done: bool,
    },
}

impl Done {
    fn is_retry(&self) -> bool {
        match self {
            Self::Written(waiting, _) => waiting.again,
            Self::Forgotten { again, .. } => *again,
        }
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            waiting: VecDeque::new(),
            behind: VecDeque::new(),
            ended: VecDeque::new(),
            failed: Failed::default(),
            running: Vec::new(),
            retrying: 0,
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
                // Whichever it is, everything is looked at before the next.
                biased;
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
        waits + self.failed.len() + self.running.len() == 0
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
        let waits = self.ended.len() + self.failed.sessions.len();
        let room = MAX_ENDED.saturating_sub(waits);
        self.ended.extend(ended.into_iter().take(room));
    }

    /// Lets the readers of streams go on that have waited for too long.
    fn give_up_waiting(&mut self) {
        let now = Instant::now();
        while self.waiting.front().is_some_and(|first| first.is_late(now))
            && let Some(waiting) = self.waiting.pop_front()
        {
            let waiting = self.let_go_on(waiting);
            self.behind.push_back(waiting);
        }
        for (due, waiting) in self.failed.take_late(now) {
            let waiting = self.let_go_on(waiting);
            self.failed.behind.push_back((due, waiting));
        }
    }

    fn let_go_on(&self, mut waiting: Waiting) -> Waiting {
        waiting.buffer.go_on_behind();
        waiting.is_behind = true;
        self.shared.counts.behind.fetch_add(1, Ordering::Relaxed);
        waiting
    }

    /// Begins as many requests as may run.
    fn begin(&mut self) {
        while self.running.len() - self.retrying < MAX_RUNNING
            && let Some(work) = self.next_work()
        {
            self.run_now(work);
        }
        let now = Instant::now();
        while self.retrying < MAX_RETRYING
            && let Some(work) = self.failed.take_due(now)
        {
            self.retrying += 1;
            self.run_now(work);
        }
    }

    fn next_work(&mut self) -> Option<Work> {
        let waiting = self.waiting.pop_front();
        let waiting = waiting.or_else(|| self.behind.pop_front());
        let session = || {
            self.ended
                .pop_front()
                .map(|session| Work::Forget(session, false))
        };
        waiting.map(Work::Write).or_else(session)
    }

    fn run_now(&mut self, work: Work) {
        let shared = Arc::clone(&self.shared);
        self.running.push(match work {
            Work::Write(waiting) => written(shared, waiting),
            Work::Forget(session, again) => forgotten(shared, session, again),
        });
    }

    fn due(&self) -> Option<Instant> {
        let late = self.waiting.front().map(|first| first.since + PATIENCE);
        let retry = self.failed.due().filter(|_| self.retrying < MAX_RETRYING);
        [late, self.failed.late, retry].into_iter().flatten().min()
    }

    fn settle(&mut self, done: Done) {
        let is_first = self.failed.len() + self.retrying == 0;
        self.retrying -= usize::from(done.is_retry());
        match done {
            Done::Written(waiting, Outcome::Unavailable) => {
                warn_if(is_first);
                self.failed.put(waiting, Instant::now() + RETRY);
            }
            Done::Written(waiting, outcome) => self.settle_written(waiting, outcome),
            Done::Forgotten { is_done: true, .. } => {}
            Done::Forgotten { session, .. } => {
                warn_if(is_first);
                let due = Instant::now() + RETRY;
                self.failed.sessions.push_back((due, session));
            }
        }
    }

    fn settle_written(&mut self, mut waiting: Waiting, outcome: Outcome) {
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

/// Warns once an outage, of whichever part of the log.
fn warn_if(is_first: bool) {
    if is_first {
        tracing::warn!("the log of streams does not answer, or a part of it");
    }
}

fn written(shared: Arc<Shared>, waiting: Waiting) -> BoxFuture<Done> {
    Box::pin(async move {
        let again = waiting.again || waiting.is_behind;
        let outcome = write(&shared, &waiting.buffer, again).await;
        Done::Written(waiting, outcome)
    })
}

fn forgotten(shared: Arc<Shared>, session: SessionId, again: bool) -> BoxFuture<Done> {
    Box::pin(async move {
        let done = tokio::time::timeout(ATTEMPT, shared.log.forget(&session)).await;
        let is_done = matches!(done, Ok(Ok(())));
        Done::Forgotten {
            session,
            again,
            is_done,
        }
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
