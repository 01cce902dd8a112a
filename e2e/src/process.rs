//! A child process that ends with the value that owns it, and its output, line by line.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<String>,
    /// Both its outputs, in the order in which they were read, to be shown when a test fails.
    pub log: String,
}

impl Process {
    /// Starts a program whose output is collected under `name`.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &Command) -> Self {
        let mut command = bound_to_us(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}\n{INSTALL}"));
        let output = Arc::new(Output::default());
        collect(
            child.stdout.take().expect("stdout is piped"),
            Source::Stdout,
            &output,
        );
        collect(
            child.stderr.take().expect("stderr is piped"),
            Source::Stderr,
            &output,
        );
        Self {
            name: name.to_owned(),
            child,
            output,
        }
    }

    /// The first line, of either output, from which `find` takes something.
    ///
    /// # Panics
    /// If the process ends without such a line, or takes longer than [`PATIENCE`].
    pub fn await_line<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.output.lock();
        loop {
            if let Some(found) = lines.all.iter().find_map(|(_, line)| find(line)) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.open == 0 || left.is_zero() {
                drop(lines);
                panic!(
                    "{} never said what was awaited; it said:\n{}",
                    self.name,
                    self.log()
                );
            }
            lines = self.output.wait(lines, left);
        }
    }

    /// Waits for the process to end by itself.
    ///
    /// # Panics
    /// If it takes longer than `patience`.
    #[must_use]
    pub fn finish(mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        let mut lines = self.output.lock();
        while lines.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                panic!(
                    "{} did not end within {patience:?}; it said:\n{}",
                    self.name,
                    self.log()
                );
            }
            lines = self.output.wait(lines, left);
        }
        let is_stdout = |(source, _): &&(Source, String)| *source == Source::Stdout;
        let stdout = lines
            .all
            .iter()
            .filter(is_stdout)
            .map(|(_, line)| line.clone())
            .collect();
        drop(lines);
        let status = self
            .child
            .wait()
            .expect("a child of ours can be waited for");
        Ended {
            status,
            stdout,
            log: self.log(),
        }
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.output
            .lock()
            .all
            .iter()
            .fold(String::new(), |mut log, (_, line)| {
                let _ = writeln!(log, "    {line}");
                log
            })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{} said:\n{}", self.name, self.log());
        }
    }
}

/// A port that nothing listens on, from below the range that outgoing connections take theirs from.
///
/// For programs that cannot choose a port themselves and say which.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    // Tests run in processes of their own; each starts looking elsewhere.
    let start = std::process::id() % 16_000;
    (0..16_000)
        .map(|offset| u16::try_from(12_000 + (start * 7 + offset) % 16_000).expect("below 28,000"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of 16,000 ports is free")
}

/// The command, so started that the kernel ends it with us however we end.
fn bound_to_us(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Stdout,
    Stderr,
}

#[derive(Debug)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug)]
struct Lines {
    all: Vec<(Source, String)>,
    /// How many of the two outputs may still say something.
    open: u8,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            lines: Mutex::new(Lines {
                all: Vec::new(),
                open: 2,
            }),
            changed: Condvar::new(),
        }
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, lines: MutexGuard<'a, Lines>, left: Duration) -> MutexGuard<'a, Lines> {
        self.changed
            .wait_timeout(lines, left)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

fn collect(from: impl Read + Send + 'static, source: Source, output: &Arc<Output>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            output.lock().all.push((source, line));
            output.changed.notify_all();
        }
        output.lock().open -= 1;
        output.changed.notify_all();
    });
}

/// How long a program may take to start.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What to say when something is missing.
pub const INSTALL: &str = "`cargo xtask test` installs and builds everything the tests need";
