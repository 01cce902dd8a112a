//! What a child writes to its standard output: messages, and noise.

use std::future::poll_fn;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use thinpipe_proto::rpc::Payload;
use thinpipe_proto::shown::Shown;
use tokio::process::ChildStdout;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::lines::Lines;
use super::rate::Rate;
use crate::byte_budget::Reserved;
use crate::io::{READ_SIZE, poll_read_scratch};
use crate::upstream::MAX_SHOWN;
use crate::upstream::pipe::PipeError;

/// How long the exit status may lag behind the end of the output, or the end of the output behind the
/// exit: a descendant that left the process group may hold it open for ever.
const EXIT_GRACE: Duration = Duration::from_millis(100);

/// The reading end of a child's standard output.
pub(in crate::upstream) struct Output {
    shared: Arc<Shared>,
    /// `None`: it was given back.
    stdout: Option<ChildStdout>,
    /// Gives it back to the child's task, which keeps it open until the child has ended.
    back: Option<oneshot::Sender<ChildStdout>>,
    lines: Lines,
    room: Reserved,
    /// How the child ended, once it has.
    exit: watch::Receiver<Option<ExitStatus>>,
    has_exited: bool,
    /// Lines in a row that were no messages.
    noise: usize,
    /// Of those that are logged.
    rate: Rate,
}

impl Output {
    pub(super) fn new(
        shared: Arc<Shared>,
        (stdout, back): (ChildStdout, oneshot::Sender<ChildStdout>),
        exit: watch::Receiver<Option<ExitStatus>>,
    ) -> Self {
        Self {
            lines: Lines::new(shared.config.max_message),
            room: shared.budget.empty(),
            shared,
            stdout: Some(stdout),
            back: Some(back),
            exit,
            has_exited: false,
            noise: 0,
            rate: Rate::of_noise(),
        }
    }

    /// The next message or batch. Dropping the future loses nothing.
    pub(in crate::upstream) async fn next(&mut self) -> Result<Payload, PipeError> {
        loop {
            if let Some(payload) = self.take()? {
                return Ok(payload);
            }
            let room = self.room.resize(self.lines.pending());
            room.map_err(|source| self.no_room(source))?;
            let read = match self.rate.due() {
                None => self.fill().await,
                // What is read is kept, whether or not it comes in time.
                Some(due) => match timeout_at(due, self.fill()).await {
                    Ok(read) => read,
                    Err(_) => {
                        self.tell_left_out();
                        continue;
                    }
                },
            };
            match read {
                Ok(0) => return Err(self.ended().await),
                Ok(_) => {}
                Err(source) => {
                    let upstream = self.upstream();
                    return Err(PipeError::Read { upstream, source });
                }
            }
        }
    }

    /// What there is among the lines that have been read.
    fn take(&mut self) -> Result<Option<Payload>, PipeError> {
        loop {
            let line = self.lines.next_line().map_err(|_| PipeError::TooLarge {
                upstream: self.upstream(),
                limit: self.shared.config.max_message,
            })?;
            let Some(line) = line else {
                return Ok(None);
            };
            let held = self.shared.budget.hold(line.clone());
            match Payload::parse(held.map_err(|source| self.no_room(source))?) {
                Ok(payload) => {
                    self.noise = 0;
                    return Ok(Some(payload));
                }
                Err(error) => self.tolerate(&line, &error.reason)?,
            }
        }
    }

    /// Some servers print a greeting, or leave a debugging line in: that is survived, up to a limit.
    fn tolerate(&mut self, line: &Bytes, reason: &str) -> Result<(), PipeError> {
        self.noise += 1;
        let line = line.trim_ascii();
        if self.noise > self.shared.config.max_noise {
            return Err(PipeError::Noise {
                upstream: self.upstream(),
                lines: self.noise,
                last: format!("{:?}", Shown::new(line, MAX_SHOWN)),
            });
        }
        if !line.is_empty() {
            let counters = &self.shared.counters;
            counters.noise.fetch_add(1, Ordering::Relaxed);
            self.log(line, reason);
        }
        Ok(())
    }

    fn log(&mut self, line: &[u8], reason: &str) {
        let now = Instant::now();
        if self.rate.due().is_some_and(|due| due <= now) {
            self.tell_left_out();
        }
        if self.rate.admit(line.len().min(MAX_SHOWN), now) {
            let upstream = &*self.shared.config.name;
            let line = Shown::new(line, MAX_SHOWN);
            tracing::warn!(
                upstream,
                reason,
                ?line,
                "skipped what is no message on stdout"
            );
        }
    }

    fn tell_left_out(&mut self) {
        let lines = self.rate.take_left_out();
        if lines > 0 {
            let upstream = &*self.shared.config.name;
            tracing::warn!(
                upstream,
                "skipped {lines} more lines on stdout that are no messages"
            );
        }
    }

    /// Reads once. 0: nothing more will come.
    async fn fill(&mut self) -> io::Result<usize> {
        let Self { stdout, lines, .. } = self;
        let Some(stdout) = stdout else {
            return Ok(0); // Unreachable: it is given back on drop.
        };
        let mut read = async || {
            poll_fn(|cx| {
                poll_read_scratch(stdout, cx, READ_SIZE, |bytes| {
                    lines.push(bytes);
                    bytes.len()
                })
            })
            .await
        };
        if !self.has_exited {
            tokio::select! {
                // Cancel-safe: what is read is kept in the poll that read it.
                read = read() => return read,
                // Cancel-safe: a value that is watched is not consumed.
                _ = self.exit.wait_for(Option::is_some) => self.has_exited = true,
            }
        }
        // All it wrote is in the pipe already.
        timeout(EXIT_GRACE, read()).await.unwrap_or(Ok(0))
    }

    async fn ended(&mut self) -> PipeError {
        let upstream = self.upstream();
        let exit = self.exit.wait_for(Option::is_some);
        match timeout(EXIT_GRACE, exit)
            .await
            .map(|exit| exit.map(|status| *status))
        {
            Ok(Ok(Some(status))) => PipeError::Exited { upstream, status },
            _ => PipeError::Ended { upstream },
        }
    }

    fn no_room(&self, source: crate::NoRoom) -> PipeError {
        let upstream = self.upstream();
        PipeError::NoRoom { upstream, source }
    }

    fn upstream(&self) -> Arc<str> {
        Arc::clone(&self.shared.config.name)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.tell_left_out();
        if let (Some(back), Some(stdout)) = (self.back.take(), self.stdout.take()) {
            // Without that task the child has ended, and it is closed here.
            drop(back.send(stdout));
        }
    }
}
