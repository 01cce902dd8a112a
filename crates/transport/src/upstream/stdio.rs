//! Servers that are a child process and speak over its standard streams: one message a line.
//!
//! Each session has a child of its own, in a process group of its own, and one task that writes to it,
//! logs what it says on its standard error, waits for it and ends it. Reading needs no task: whoever
//! takes the messages reads them. What the child says when nobody does any more, that task throws away.

mod child;
mod config;
mod guard;
mod lines;
mod output;
mod rate;

use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::process::Command;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pipe::{Pipe, PipeError};
use crate::ByteBudget;
use child::Supervisor;
use guard::Group;

pub use config::StdioConfig;

pub(super) use child::Input;
pub(super) use output::Output;

/// A server that is started as a child process, once for each session. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StdioUpstream {
    shared: Arc<Shared>,
}

/// What became of the children so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StdioStats {
    /// Children started.
    pub spawned: u64,
    /// Children that run now.
    pub running: usize,
    /// Children that have ended, for whatever reason.
    pub exited: u64,
    /// Of these, those that would not end otherwise and were killed.
    pub killed: u64,
    /// Lines on their standard output that were no messages, blank ones not counted.
    pub noise: u64,
}

#[derive(Debug)]
struct Shared {
    config: StdioConfig,
    budget: ByteBudget,
    tasks: TaskTracker,
    stop: CancellationToken,
    counters: Counters,
    /// One child runs less.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Counters {
    spawned: AtomicU64,
    running: AtomicUsize,
    exited: AtomicU64,
    killed: AtomicU64,
    noise: AtomicU64,
}

impl StdioUpstream {
    /// An upstream without a child. Long messages are held within `budget`. The task of each child is one
    /// of `tasks`; cancelling `stop` ends all sessions, and the tasks end when the children have.
    #[must_use]
    pub fn new(
        config: StdioConfig,
        budget: ByteBudget,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                budget,
                tasks,
                stop,
                counters: Counters::default(),
                ended: Notify::new(),
            }),
        }
    }

    /// How a child is started.
    #[must_use]
    pub fn config(&self) -> &StdioConfig {
        &self.shared.config
    }

    /// What became of the children so far.
    #[must_use]
    pub fn stats(&self) -> StdioStats {
        let counters = &self.shared.counters;
        StdioStats {
            spawned: counters.spawned.load(Ordering::Relaxed),
            running: counters.running.load(Ordering::Relaxed),
            exited: counters.exited.load(Ordering::Relaxed),
            killed: counters.killed.load(Ordering::Relaxed),
            noise: counters.noise.load(Ordering::Relaxed),
        }
    }

    /// Waits until fewer than `limit` children run. One that is being ended runs until it has ended. Dropping
    /// the future changes nothing.
    pub async fn fewer_than(&self, limit: usize) {
        loop {
            let mut ended = pin!(self.shared.ended.notified());
            // Registered before looking, or what ends in between would be missed.
            ended.as_mut().enable();
            if self.stats().running < limit {
                return;
            }
            ended.await;
        }
    }

    /// Starts a child: a new session, in which nothing has been said. Call it inside of a runtime, which
    /// must live as long as the session.
    ///
    /// When the gateway is killed, a guard process ends the whole process group of the child. A
    /// descendant that leaves the group is on its own.
    ///
    /// # Errors
    /// [`PipeError::Spawn`], [`PipeError::Guard`], and [`PipeError::Closed`] if `stop` is cancelled.
    pub fn spawn(&self) -> Result<Pipe, PipeError> {
        let shared = &self.shared;
        let upstream = || Arc::clone(&shared.config.name);
        if shared.stop.is_cancelled() {
            return Err(PipeError::Closed {
                upstream: upstream(),
            });
        }
        guard::start().map_err(|source| PipeError::Guard { source })?;
        let failed = |source| PipeError::Spawn {
            upstream: upstream(),
            program: shared.config.command.to_string_lossy().into_owned(),
            source,
        };
        let mut child = shared.command().spawn().map_err(failed)?;
        let group = Group::of(&child).map_err(|source| PipeError::Guard { source })?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(failed(std::io::Error::other("its streams are not piped")));
        };
        tracing::debug!(upstream = %shared.config.name, group = %group, "a child was started");
        let over = shared.stop.child_token();
        let (input, lines) = mpsc::channel(child::MAX_WAITING);
        let (exit, exited) = watch::channel(None);
        let (back, unread) = oneshot::channel();
        let supervisor = Supervisor::new(Arc::clone(shared), child, group, exit, over.clone());
        shared
            .tasks
            .spawn(supervisor.run((stdin, lines), unread, stderr));
        let output = Output::new(Arc::clone(shared), (stdout, back), exited);
        Ok(Pipe::stdio(upstream(), Input::new(input), output, over))
    }
}

impl Shared {
    fn command(&self) -> Command {
        let config = &self.config;
        let mut command = Command::new(&config.command);
        command
            .args(&config.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if !config.inherit_env {
            command.env_clear();
            let inherited = config::INHERITED.iter();
            command.envs(inherited.filter_map(|name| Some((name, std::env::var_os(name)?))));
        }
        command.envs(config.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &config.cwd {
            command.current_dir(directory);
        }
        command
    }
}
