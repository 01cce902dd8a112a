//! A built binary as a process of its own.

use std::ffi::OsStr;
use std::panic::Location;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::deadline::within;
use crate::usage::Usage;

/// A running binary, with everything it writes. Killed when dropped.
///
/// ```no_run
/// # async fn example() {
/// use thinpipe_testkit::Process;
///
/// // In a test: env!("CARGO_BIN_EXE_thinpipe").
/// let mut gateway = Process::start("target/debug/thinpipe", ["http://127.0.0.1:3001/mcp"]);
/// let url = gateway.word_after("listening on ").await;
/// gateway.signal("TERM").await;
/// assert!(gateway.wait().await.success());
/// # }
/// ```
#[derive(Debug)]
pub struct Process {
    child: Child,
    id: u32,
    output: watch::Sender<Output>,
    _readers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Vec<String>,
    /// Of the two, how many have ended.
    ended: usize,
}

impl Process {
    /// Starts a program.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start_command(command)
    }

    /// Starts a command, for example with an environment of its own. Its streams are taken over.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn start_command(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = command.kill_on_drop(true).spawn();
        let mut child =
            started.unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
        let id = child.id().expect("nobody has waited for it yet");
        let output = watch::Sender::new(Output::default());
        let mut readers = JoinSet::new();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        readers.spawn(collect(stdout.expect("it is piped"), output.clone()));
        readers.spawn(collect(stderr.expect("it is piped"), output.clone()));
        Self {
            child,
            id,
            output,
            _readers: readers,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What it holds now.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    #[track_caller]
    pub fn usage(&self) -> Usage {
        Usage::of(self.id)
    }

    /// Everything it wrote so far, on both streams, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.output.borrow().lines.clone()
    }

    /// The first line that holds this text, on either stream.
    ///
    /// # Panics
    /// If it ends without writing it, or takes longer than [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn line_with(&self, text: &str) -> impl Future<Output = String> + Send + use<> {
        let at = Location::caller();
        let text = text.to_owned();
        let mut output = self.output.subscribe();
        let all = self.output.clone();
        async move {
            let found = |output: &Output| {
                output
                    .lines
                    .iter()
                    .find(|line| line.contains(&text))
                    .cloned()
            };
            let ready = output.wait_for(|output| output.ended == 2 || found(output).is_some());
            let what = || format!("a line with {text:?} among {:#?}", all.borrow().lines);
            let output = within(at, what, ready)
                .await
                .expect("this future has a sender too");
            found(&output).unwrap_or_else(|| {
                panic!(
                    "it ended without a line with {text:?}, at {at}: {:#?}",
                    output.lines
                )
            })
        }
    }

    /// The word after this text, in the first line that holds it: an address after `listening on `.
    ///
    /// # Panics
    /// As [`Process::line_with`].
    #[track_caller]
    pub fn word_after(&self, text: &str) -> impl Future<Output = String> + Send + use<> {
        let line = self.line_with(text);
        let text = text.to_owned();
        async move {
            let line = line.await;
            let after = line.split_once(&text).map_or("", |(_, after)| after);
            after
                .split_ascii_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        }
    }

    /// Sends it a signal by name: `TERM`, `INT`, `HUP`.
    ///
    /// # Panics
    /// If it has been waited for, or the signal could not be sent.
    pub async fn signal(&self, name: &str) {
        assert!(
            self.child.id().is_some(),
            "it has ended: its id may be another's"
        );
        let command = format!("kill -{name} {}", self.id);
        let sent = Command::new("sh").arg("-c").arg(&command).status().await;
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{command} failed"
        );
    }

    /// Until it has ended.
    ///
    /// # Panics
    /// If it does not within [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn wait(&mut self) -> impl Future<Output = ExitStatus> + Send {
        let at = Location::caller();
        let all = self.output.clone();
        async move {
            let what = || {
                format!(
                    "the end of the process, which wrote {:#?}",
                    all.borrow().lines
                )
            };
            let status = within(at, what, self.child.wait()).await;
            status.expect("a child can be waited for")
        }
    }

    /// Everything it wrote, when it and whoever has its output has ended.
    ///
    /// # Panics
    /// If that takes longer than [`DEADLINE`](crate::DEADLINE).
    #[track_caller]
    pub fn lines_to_end(&self) -> impl Future<Output = Vec<String>> + Send + use<> {
        let at = Location::caller();
        let mut output = self.output.subscribe();
        let all = self.output.clone();
        async move {
            let what = || format!("the end of what it writes: {:#?}", all.borrow().lines);
            let ended = output.wait_for(|output| output.ended == 2);
            let output = within(at, what, ended).await;
            output.expect("this future has a sender too").lines.clone()
        }
    }

    /// Kills it, and waits until it is gone.
    ///
    /// # Panics
    /// If it could not be killed.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}

async fn collect(stream: impl AsyncRead + Unpin, output: watch::Sender<Output>) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        output.send_modify(|output| output.lines.push(line));
    }
    output.send_modify(|output| output.ended += 1);
}
