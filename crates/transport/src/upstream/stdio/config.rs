//! How a child is started, bounded and ended.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::upstream::pipe::DEFAULT_MAX_MESSAGE;

/// What a child inherits of the environment if it does not inherit all of it, as with MCP's SDKs.
pub(super) const INHERITED: [&str; 7] =
    ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];

/// How to start a server as a child process, and what is bounded.
#[derive(Clone)]
pub struct StdioConfig {
    /// Name for logs and errors.
    pub name: Arc<str>,
    /// The program, looked up in the child's `PATH`.
    pub command: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to its environment. They may hold secrets and are never shown.
    pub env: Vec<(OsString, OsString)>,
    /// Whether it inherits the whole environment. Default: false, which is `HOME`, `LANG`, `LOGNAME`,
    /// `PATH`, `SHELL`, `TERM` and `USER`.
    pub inherit_env: bool,
    /// Its working directory. Default: this process's.
    pub cwd: Option<PathBuf>,
    /// Bytes of one message from it. Default: 16 MiB. A longer one is the end of the session.
    pub max_message: usize,
    /// Lines in a row on its standard output that are no messages. Default: 100. They are logged and
    /// skipped; one more is the end of the session.
    pub max_noise: usize,
    /// How long it may take to end once its input has ended; then it gets SIGTERM. Default: 2 s.
    pub stdin_grace: Duration,
    /// How long it may take to end after SIGTERM; then it gets SIGKILL. Default: 2 s.
    pub term_grace: Duration,
}

impl StdioConfig {
    /// The defaults for a program without arguments.
    #[must_use]
    pub fn new(name: Arc<str>, command: impl Into<OsString>) -> Self {
        Self {
            name,
            command: command.into(),
            args: Vec::new(),
            env: Vec::new(),
            inherit_env: false,
            cwd: None,
            max_message: DEFAULT_MAX_MESSAGE,
            max_noise: 100,
            stdin_grace: Duration::from_secs(2),
            term_grace: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for StdioConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("StdioConfig")
            .field("name", &self.name)
            .field("command", &self.command)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}
