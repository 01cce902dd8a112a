//! Servers that are child processes: how many there are, and when another may be started.

use std::fmt;
use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use thinpipe_proto::revision::Revision;
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};
use thinpipe_transport::upstream::stdio::{StdioStats, StdioUpstream};
use tokio::sync::Notify;

use crate::clock::now;
use crate::failure::{Failure, Reason};
use crate::sync::lock;

/// The pause after the second start in a row that failed; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a child is kept that was only asked what it speaks.
const SPARE_AGE: Duration = Duration::from_secs(10);

/// Starts children of one upstream.
pub(crate) struct Children {
    upstream: StdioUpstream,
    limit: usize,
    starts: Mutex<Starts>,
    /// One that was started to be asked what it speaks, for whoever wants one next.
    spare: Mutex<Option<(Pipe, Instant)>>,
    /// There is a spare one.
    kept: Notify,
    speaks: Mutex<Option<Spoken>>,
}

/// What a program speaks, by its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// It opened a session of this revision.
    Sessions(Revision),
    /// It answers in 2026-07-28.
    Stateless,
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sessions(revision) => write!(f, "stdio, in sessions ({revision})"),
            Self::Stateless => f.write_str("stdio, without sessions (2026-07-28)"),
        }
    }
}

/// How the last starts came out.
#[derive(Debug, Default)]
struct Starts {
    /// Those in a row that failed: the child was not there, or ended before it answered `initialize`.
    failed: u32,
    not_before: Option<Instant>,
}

/// Why there is no child.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// As many run as may.
    Full {
        limit: usize,
    },
    /// The last starts failed; another may be tried after this.
    Pausing(Duration),
    Failed(PipeError),
}

impl NotStarted {
    /// How long to wait before another is tried.
    pub(crate) fn pause(&self) -> Duration {
        match self {
            Self::Pausing(pause) => *pause,
            Self::Full { .. } | Self::Failed(_) => FIRST_PAUSE,
        }
    }

    /// What it means for a client of this server.
    pub(crate) fn into_failure(self, name: &str) -> Failure {
        match self {
            Self::Failed(error) => Failure::from(&error),
            Self::Full { limit } => {
                let text = format!(
                    "{name} runs for all the {limit} clients it may (`process.max_children`)"
                );
                Failure::new(Reason::Overloaded, text)
            }
            Self::Pausing(pause) => {
                Failure::paused(format!("the last starts of {name} failed"), pause)
            }
        }
    }
}

impl Children {
    pub(crate) fn new(upstream: StdioUpstream, limit: usize) -> Self {
        Self {
            upstream,
            limit,
            starts: Mutex::default(),
            spare: Mutex::default(),
            kept: Notify::new(),
            speaks: Mutex::default(),
        }
    }

    /// Starts one, or takes the one that was [kept](Self::keep).
    ///
    /// # Errors
    /// [`NotStarted`].
    pub(crate) fn start(&self) -> Result<Pipe, NotStarted> {
        self.prune();
        if let Some((pipe, _)) = lock(&self.spare).take() {
            return Ok(pipe);
        }
        // Held for the start, which does not wait: the limit is kept exactly.
        let mut starts = lock(&self.starts);
        let pause = starts
            .not_before
            .map(|at| at.saturating_duration_since(now()));
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            return Err(NotStarted::Pausing(pause));
        }
        if self.upstream.stats().running >= self.limit {
            return Err(NotStarted::Full { limit: self.limit });
        }
        self.upstream.spawn().map_err(|error| {
            starts.note_failure();
            NotStarted::Failed(error)
        })
    }

    /// The same. Where as many run as may, it waits for one of them to have ended, and no longer than so long:
    /// a session that has ended for another's sake leaves a process that takes its time.
    ///
    /// # Errors
    /// [`NotStarted`].
    pub(crate) async fn start_within(&self, wait: Duration) -> Result<Pipe, NotStarted> {
        let starting = async {
            loop {
                let mut kept = pin!(self.kept.notified());
                // Registered before looking, or what is kept in between would be missed.
                kept.as_mut().enable();
                match self.start() {
                    Err(NotStarted::Full { .. }) => {}
                    started => return started,
                }
                tokio::select! {
                    // Cancel-safe, both: whether there is room is looked at anew.
                    () = self.upstream.fewer_than(self.limit) => {}
                    () = kept => {}
                }
            }
        };
        let started = tokio::time::timeout(wait, starting).await;
        started.unwrap_or(Err(NotStarted::Full { limit: self.limit }))
    }

    /// Keeps one that was asked what it speaks and nothing else, for a while: it was asked for somebody's
    /// sake (protocol notes 1.4, "same child").
    pub(crate) fn keep(&self, pipe: Pipe) {
        *lock(&self.spare) = Some((pipe, now()));
        self.kept.notify_waiters();
    }

    /// One that was kept in vain is not kept any longer. Whether there was one.
    pub(crate) fn prune(&self) -> bool {
        let is_old = |(pipe, since): &mut (Pipe, Instant)| {
            pipe.sender.is_closed() || now().saturating_duration_since(*since) > SPARE_AGE
        };
        lock(&self.spare).take_if(is_old).is_some()
    }

    /// A child ended before it had answered `initialize`.
    pub(crate) fn start_failed(&self) {
        lock(&self.starts).note_failure();
    }

    /// A child has answered, and by that said what it speaks. `true`: that is news.
    pub(crate) fn start_succeeded(&self, speaks: Option<Spoken>) -> bool {
        *lock(&self.starts) = Starts::default();
        speaks.is_some_and(|speaks| lock(&self.speaks).replace(speaks) != Some(speaks))
    }

    /// The same; what it speaks is logged, when that is news.
    pub(crate) fn answered(&self, name: &str, speaks: Option<Spoken>) {
        let is_news = self.start_succeeded(speaks);
        if let Some(speaks) = speaks.filter(|_| is_news) {
            tracing::info!(upstream = name, %speaks, "a program has answered");
        }
    }

    /// What the last answer said; `None`: there was none yet.
    pub(crate) fn speaks(&self) -> Option<Spoken> {
        *lock(&self.speaks)
    }

    /// Starts in a row that failed.
    pub(crate) fn failed_starts(&self) -> u32 {
        lock(&self.starts).failed
    }

    pub(crate) fn stats(&self) -> StdioStats {
        self.upstream.stats()
    }
}

impl Starts {
    /// One failure is an accident; from the second on, there are pauses.
    fn note_failure(&mut self) {
        self.failed = self.failed.saturating_add(1);
        if let Some(doublings) = self.failed.checked_sub(2) {
            let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
            let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
            self.not_before = Some(now() + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C24: children that die at once are not started in a loop.
    #[tokio::test(start_paused = true)]
    async fn c24_pauses_between_failed_starts_grow_to_a_minute() {
        let mut starts = Starts::default();
        let mut pause = || {
            starts.note_failure();
            starts.not_before.map(|at| at - now())
        };
        assert_eq!(pause(), None);
        let seconds: Vec<_> = (0..8).filter_map(|_| Some(pause()?.as_secs())).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
