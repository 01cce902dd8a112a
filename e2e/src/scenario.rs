//! Runs a client script, and reads the steps it reports.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peers::{self, Binding, Endpoint, Server};
use crate::process::Process;

/// The client libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// npm `@modelcontextprotocol/sdk`.
    TypeScriptV1,
    /// npm `@modelcontextprotocol/client`.
    TypeScriptV2,
    /// PyPI `mcp`.
    Python,
    /// PyPI `fastmcp-slim[client]`, which is what `fastmcp` has for clients.
    FastMcp,
    /// crates.io `rmcp`, which speaks Streamable HTTP only: its HTTP+SSE client went in 0.11.0.
    Rmcp,
}

/// A client on its way through a plan.
#[derive(Debug)]
pub struct Running(Process);

/// What a client reported: one value for each step, in order.
#[derive(Debug)]
pub struct Steps(Vec<Value>);

impl Client {
    /// Lets the client go through `plan` against `endpoint`.
    ///
    /// # Panics
    /// If the client reports a failure, or takes too long.
    #[must_use]
    pub fn run(self, endpoint: &Endpoint, plan: &Value) -> Steps {
        self.run_over(Binding::Streamable, endpoint, plan)
    }

    /// The same over a binding of the client's choice: the same logic on either.
    ///
    /// # Panics
    /// As [`run`](Self::run), or if the client does not speak that.
    #[must_use]
    pub fn run_over(self, binding: Binding, endpoint: &Endpoint, plan: &Value) -> Steps {
        self.start_over(binding, endpoint, plan).finish()
    }

    /// The same, so that something can be done to it on the way.
    ///
    /// # Panics
    /// If the client does not start, or does not speak that.
    #[must_use]
    pub fn start_over(self, binding: Binding, endpoint: &Endpoint, plan: &Value) -> Running {
        let mut plan = plan.clone();
        if binding == Binding::HttpSse {
            plan["binding"] = "sse".into();
        }
        let mut command = match self {
            Self::TypeScriptV1 => peers::script("clients/v1.mjs"),
            Self::TypeScriptV2 => peers::script("clients/v2.mjs"),
            Self::Python => peers::python("clients/client.py"),
            Self::FastMcp => peers::python("clients/fastmcp_client.py"),
            Self::Rmcp => {
                assert_eq!(
                    binding,
                    Binding::Streamable,
                    "rmcp speaks Streamable HTTP only"
                );
                peers::rmcp_client()
            }
        };
        command.arg(endpoint.url_for(binding)).arg(plan.to_string());
        Running(Process::start(&format!("the client {self:?}"), &command))
    }

    /// Whether it may report less progress than there is: what comes in one read with the response, these do
    /// not report over HTTP+SSE.
    #[must_use]
    pub fn loses_progress(self, binding: Binding) -> bool {
        binding == Binding::HttpSse && matches!(self, Self::TypeScriptV1 | Self::TypeScriptV2)
    }
}

impl Running {
    /// Waits until the client has reported this step.
    ///
    /// # Panics
    /// If it ends without, or takes too long.
    pub fn await_step(&self, name: &str) {
        let is_it = |line: &str| {
            let step = serde_json::from_str::<Value>(line).ok()?;
            (step["step"] == name).then_some(())
        };
        self.0.await_line(is_it);
    }

    /// All its steps, when it has ended.
    ///
    /// # Panics
    /// If the client reports a failure, or takes too long.
    #[must_use]
    pub fn finish(self) -> Steps {
        let ended = self.0.finish(PATIENCE);
        assert!(ended.status.success(), "{}\n{}", ended.status, ended.log);
        let step = |line: &String| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
        };
        Steps(ended.stdout.iter().map(step).collect())
    }
}

impl Steps {
    /// The one step of this name.
    ///
    /// # Panics
    /// If there is none, or more than one.
    #[must_use]
    pub fn one(&self, name: &str) -> &Value {
        match self.all(name).as_slice() {
            [step] => step,
            found => panic!("{} steps are called {name:?} in {self:?}", found.len()),
        }
    }

    /// Every step of this name, in order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&Value> {
        self.0.iter().filter(|step| step["step"] == name).collect()
    }

    /// The server's requests got through while a call was running, and the answers back.
    ///
    /// # Panics
    /// Unless the result of that call says this.
    pub fn assert_asked(&self, methods: &[&str], text: &str) {
        let asks = self.all("ask");
        let ask = asks.iter().find(|ask| ask["asked"] == json!(methods));
        let ask = ask.unwrap_or_else(|| panic!("nobody sent {methods:?}: {self:?}"));
        let said = ask["text"].as_str();
        assert!(said.is_some_and(|said| said.contains(text)), "{ask}");
    }
}

/// Three reports of progress, each once and in order, before the result; at least so many of them.
///
/// # Panics
/// If there are fewer, or more, or they do not rise.
pub fn assert_events(step: &Value, least: usize) {
    let events = step["events"].as_array().into_iter().flatten();
    let events: Vec<f64> = events.flat_map(Value::as_f64).collect();
    let is_rising = events.is_sorted_by(|earlier, later| earlier < later);
    assert!((least..=3).contains(&events.len()) && is_rising, "{step}");
}

/// A call with progress, and two in which a server with sessions asks.
#[must_use]
pub fn plan(server: Server) -> Value {
    match server {
        Server::Everything => json!({
            "progress": {
                "name": "trigger-long-running-operation",
                "arguments": { "duration": 0.3, "steps": 3 },
            },
            "ask": [
                { "name": "trigger-sampling-request", "arguments": { "prompt": "What is it?" } },
                { "name": "trigger-elicitation-request" },
            ],
            // FastMCP sends only what fits the server's form.
            "elicited": { "name": "ada" },
        }),
        Server::Library => json!({
            "progress": { "name": "count" },
            "ask": [{ "name": "sample" }, { "name": "elicit" }],
            "elicited": { "username": "ada", "email": "ada@example.com" },
        }),
        _ => json!({
            "progress": { "name": "count" },
            "ask": [{ "name": "sample" }, { "name": "elicit" }],
        }),
    }
}

/// What the server says of a user who has answered.
#[must_use]
pub fn accepted(server: Server) -> &'static str {
    match server {
        Server::Rmcp
        | Server::Library
        | Server::TypeScriptConformance
        | Server::PythonConformance => "action=accept",
        Server::TypeScript | Server::Python => "the user said accept 4A",
        Server::Everything => "User provided the requested information",
    }
}

/// The scripts give up by themselves before that, and say at what.
const PATIENCE: Duration = Duration::from_secs(90);
