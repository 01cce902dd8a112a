//! The life of one child: what is written to it, what it logs, and how it ends.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{future, io};

use bytes::{Buf, Bytes};
use memchr::memchr2;
use thinpipe_proto::shown::Shown;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::guard::{Group, Signal};
use super::rate::Rate;
use crate::upstream::pipe::PipeError;

/// Messages that wait while another one is being written. Their senders wait with them, so that this
/// bounds bytes too: more would only be held here instead of there.
pub(super) const MAX_WAITING: usize = 1;

/// Bytes of a line on standard error that are logged.
const MAX_LOGGED: usize = 4 << 10;

/// How long the rest of the standard error of a child that has ended may take.
const LOG_GRACE: Duration = Duration::from_millis(100);

/// The way to a child's standard input.
#[derive(Clone)]
pub(in crate::upstream) struct Input(mpsc::Sender<Line>);

/// A message on its way, and who wants to know what became of it.
pub(super) struct Line {
    message: Bytes,
    done: oneshot::Sender<io::Result<()>>,
}

impl Input {
    pub(super) fn new(lines: mpsc::Sender<Line>) -> Self {
        Self(lines)
    }

    /// Waits until the child's pipe has taken all of it. The writing is not done here, since who gives up
    /// in the midst of it would leave half a line behind.
    pub(in crate::upstream) async fn send(
        &self,
        message: Bytes,
        upstream: &Arc<str>,
    ) -> Result<(), PipeError> {
        let upstream = || Arc::clone(upstream);
        let (done, written) = oneshot::channel();
        let message = one_line(message);
        let sent = self.0.send(Line { message, done }).await;
        sent.map_err(|_| PipeError::Closed {
            upstream: upstream(),
        })?;
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(PipeError::Write {
                upstream: upstream(),
                source,
            }),
            Err(_) => Err(PipeError::Lost {
                upstream: upstream(),
            }),
        }
    }
}

/// The message without raw line ends. Between the values of JSON a space means the same, and inside of
/// a string they are not allowed.
fn one_line(message: Bytes) -> Bytes {
    if memchr2(b'\n', b'\r', &message).is_none() {
        return message;
    }
    let space = |byte: &u8| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    };
    message.iter().map(space).collect()
}

/// What one task does for one child.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    child: Child,
    group: Group,
    exit: watch::Sender<Option<ExitStatus>>,
    over: CancellationToken,
    _running: Running,
}

impl Supervisor {
    pub(super) fn new(
        shared: Arc<Shared>,
        child: Child,
        group: Group,
        exit: watch::Sender<Option<ExitStatus>>,
        over: CancellationToken,
    ) -> Self {
        Self {
            _running: Running::new(Arc::clone(&shared)),
            shared,
            child,
            group,
            exit,
            over,
        }
    }

    /// Serves the child until it has ended. When the session is over it is made to end.
    pub(super) async fn run(
        mut self,
        (stdin, lines): (ChildStdin, mpsc::Receiver<Line>),
        unread: oneshot::Receiver<ChildStdout>,
        stderr: ChildStderr,
    ) {
        let upstream = Arc::clone(&self.shared.config.name);
        let over = self.over.clone();
        let mut log = Log::new(Arc::clone(&upstream), stderr);
        let serving = async {
            tokio::join!(write(stdin, lines, &over), discard(unread), log.run());
            future::pending::<()>().await;
        };
        let status = tokio::select! {
            // Neither is polled again: with the child, all it was served for has ended.
            status = self.end() => status,
            () = serving => return,
        };
        match status {
            Ok(status) => {
                tracing::debug!(%upstream, group = %self.group, %status, "the child ended");
                self.exit.send_replace(Some(status));
            }
            // It is not ours any more, so there is nothing to wait for. The group is killed below.
            Err(error) => tracing::warn!(%upstream, %error, "the child cannot be waited for"),
        }
        // What it started must not outlive it, nor hold its streams open.
        self.group.end();
        if timeout(LOG_GRACE, log.run()).await.is_err() {
            tracing::debug!(%upstream, "the standard error of the child is still open");
        }
        log.tell_left_out();
    }

    /// Waits for the child to end. Once the session is over it gets less and less of a choice.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        tokio::select! {
            // Cancel-safe, as tokio says; it is waited for again.
            status = self.child.wait() => return status,
            // Cancel-safe: waiting for a token changes nothing. Its input ends by the same token.
            () = self.over.cancelled() => {}
        }
        let config = &self.shared.config;
        if let Ok(status) = timeout(config.stdin_grace, self.child.wait()).await {
            return status;
        }
        self.group.signal(Signal::TERM);
        if let Ok(status) = timeout(config.term_grace, self.child.wait()).await {
            return status;
        }
        self.shared.counters.killed.fetch_add(1, Ordering::Relaxed);
        self.group.signal(Signal::KILL);
        self.child.wait().await
    }
}

/// Writes one line after the other, until the session is over; then the child's input ends.
async fn write(mut stdin: ChildStdin, mut lines: mpsc::Receiver<Line>, over: &CancellationToken) {
    let writing = async {
        while let Some(Line { message, done }) = lines.recv().await {
            let mut line = message.chain(&b"\n"[..]);
            let written = stdin.write_all_buf(&mut line).await;
            let is_broken = written.is_err();
            // Whoever sent it may have left, which changes nothing for the child.
            let _ = done.send(written);
            if is_broken {
                return;
            }
        }
        // Without senders the child can still be heard.
        over.cancelled().await;
    };
    tokio::select! {
        // Cancel-safe: waiting for a token changes nothing.
        () = over.cancelled() => {}
        // What is cut off here is the last line of a session that is over.
        () = writing => {}
    }
}

/// Reads and throws away what the child writes when nobody takes its messages any more. Were its output
/// closed, writing would fail, and what it does in order to end would be cut off. It ends with the child, who
/// has no more than its graces.
async fn discard(unread: oneshot::Receiver<ChildStdout>) {
    if let Ok(mut stdout) = unread.await
        && let Err(error) = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await
    {
        tracing::debug!(%error, "the rest of the standard output of a child cannot be read");
    }
}

/// The standard error of a child, which goes to the log.
struct Log {
    upstream: Arc<str>,
    stderr: BufReader<ChildStderr>,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    rate: Rate,
}

impl Log {
    fn new(upstream: Arc<str>, stderr: ChildStderr) -> Self {
        Self {
            upstream,
            stderr: BufReader::with_capacity(MAX_LOGGED, stderr),
            line: Vec::new(),
            rate: Rate::of_log(),
        }
    }

    /// Logs until the stream ends. Dropping the future loses nothing.
    async fn run(&mut self) {
        loop {
            if let Some(due) = self.rate.due()
                // What is read stays in the buffer.
                && timeout_at(due, self.stderr.fill_buf()).await.is_err()
            {
                self.tell_left_out();
            }
            let read = match self.stderr.fill_buf().await {
                Ok([]) => return self.log(),
                Ok(read) => read,
                Err(error) => {
                    tracing::debug!(upstream = %self.upstream, %error, "stderr cannot be read");
                    return;
                }
            };
            let end = memchr::memchr(b'\n', read);
            let part = &read[..end.unwrap_or(read.len())];
            let room = MAX_LOGGED - self.line.len();
            self.line.extend_from_slice(&part[..room.min(part.len())]);
            let taken = part.len() + usize::from(end.is_some());
            self.stderr.consume(taken);
            if end.is_some() {
                self.log();
            }
        }
    }

    fn log(&mut self) {
        let now = Instant::now();
        if self.rate.due().is_some_and(|due| due <= now) {
            self.tell_left_out();
        }
        let line = self.line.trim_ascii_end();
        if !line.is_empty() && self.rate.admit(line.len(), now) {
            let upstream = &*self.upstream;
            let line = Shown::new(line, MAX_LOGGED);
            tracing::info!(target: "thinpipe::stderr", upstream, "{line}");
        }
        self.line.clear();
    }

    fn tell_left_out(&mut self) {
        let lines = self.rate.take_left_out();
        if lines > 0 {
            let upstream = &*self.upstream;
            tracing::warn!(target: "thinpipe::stderr", upstream, "{lines} lines were left out");
        }
    }
}

/// Counts a child for as long as it runs.
struct Running(Arc<Shared>);

impl Running {
    fn new(shared: Arc<Shared>) -> Self {
        shared.counters.spawned.fetch_add(1, Ordering::Relaxed);
        shared.counters.running.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.counters.exited.fetch_add(1, Ordering::Relaxed);
        self.0.counters.running.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_line_ends_become_spaces_and_nothing_else_changes() {
        let plain = Bytes::from_static(br#"{"a":"\n"}"#);
        assert_eq!(one_line(plain.clone()), plain);
        let pretty = Bytes::from_static(b"{\r\n  \"a\": 1\n}");
        assert_eq!(one_line(pretty), "{    \"a\": 1 }");
    }
}
