//! `initialize`, and what the server said about itself.

use std::time::Instant;

use bytes::Bytes;

use crate::bridge::CallId;
use crate::bridge::clock::after;
use crate::bridge::downgrade::calls::Purpose;
use crate::bridge::downgrade::reply::Failure;
use crate::bridge::downgrade::{Action, Downgrading, End, Written};
use crate::bridge::handshake::names_unknown_revision;
use crate::bridge::notice;
use crate::rpc::{Kind, Message, Object, member, quoted};

/// How far the session is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing was written.
    New,
    /// `initialize` is not answered.
    Initializing,
    Open(Server),
    /// With `serverInfo`, for outcomes that are held still.
    Over(Option<Bytes>),
}

/// The server, as its `InitializeResult` says.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) result: Bytes,
    /// `serverInfo`.
    pub(super) info: Option<Bytes>,
    pub(super) features: Features,
}

/// The server capabilities that requests need.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Features {
    pub(super) tools: bool,
    pub(super) prompts: bool,
    pub(super) resources: bool,
    pub(super) completions: bool,
    pub(super) logging: bool,
    pub(super) tools_changed: bool,
    pub(super) prompts_changed: bool,
    pub(super) resources_changed: bool,
    pub(super) subscribe: bool,
    /// Tools may run as tasks.
    pub(super) tool_tasks: bool,
}

impl Phase {
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over(_))
    }

    pub(super) fn server(&self) -> Option<&Server> {
        match self {
            Self::Open(server) => Some(server),
            _ => None,
        }
    }

    /// `serverInfo`.
    pub(super) fn server_info(&self) -> Option<&Bytes> {
        match self {
            Self::Open(server) => server.info.as_ref(),
            Self::Over(info) => info.as_ref(),
            Self::New | Self::Initializing => None,
        }
    }
}

impl Features {
    fn of(result: &Bytes) -> Self {
        let capabilities = member(result, "capabilities");
        let of = |name| capabilities.as_ref().and_then(|all| member(all, name));
        let is = |object: &Option<Bytes>, name| {
            let value = object.as_ref().and_then(|object| member(object, name));
            value.is_some_and(|value| value == "true")
        };
        let (tools, prompts, resources) = (of("tools"), of("prompts"), of("resources"));
        let version = member(result, "protocolVersion");
        // The revision that had completions without a capability for them.
        let implied = version.is_some_and(|v| v == "\"2024-11-05\"")
            && (prompts.is_some() || resources.is_some());
        let tasks = of("tasks").and_then(|tasks| member(&tasks, "requests"));
        let tasks = tasks.and_then(|requests| member(&requests, "tools"));
        Self {
            completions: of("completions").is_some() || implied,
            logging: of("logging").is_some(),
            tools_changed: is(&tools, "listChanged"),
            prompts_changed: is(&prompts, "listChanged"),
            resources_changed: is(&resources, "listChanged"),
            subscribe: is(&resources, "subscribe"),
            tool_tasks: tasks.is_some_and(|tools| member(&tools, "call").is_some()),
            tools: tools.is_some(),
            prompts: prompts.is_some(),
            resources: resources.is_some(),
        }
    }

    /// Whether anything comes unasked.
    pub(super) fn tells(self) -> bool {
        self.tools_changed || self.prompts_changed || self.resources_changed || self.subscribe
    }
}

impl Downgrading {
    pub(super) fn initialize(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::New) {
            return;
        }
        let mut params = Object::new();
        params.set("protocolVersion", quoted(self.config.revision.as_str()));
        params.set("capabilities", self.config.capabilities.clone());
        params.set("clientInfo", self.config.client_info.clone());
        self.phase = Phase::Initializing;
        let wait = self.config.limits.idle;
        self.ask_upstream(
            Purpose::Initialize,
            "initialize",
            &params.into_bytes(),
            wait,
            now,
        );
    }

    /// Writes a request of the gateway's own, to be answered within `wait`.
    pub(super) fn ask_upstream(
        &mut self,
        purpose: Purpose,
        method: &str,
        params: &[u8],
        wait: std::time::Duration,
        now: Instant,
    ) -> CallId {
        let due = after(now, wait);
        let call = self.calls.open(purpose, Some(due));
        self.wake_at(due);
        let message = notice::request(&call.to_request_id(), method, params);
        let written = Written::Request(call);
        self.actions.push_back(Action::Write { message, written });
        call
    }

    pub(super) fn initialized(&mut self, answer: &Message) {
        let refused = match (answer.kind(), answer.result()) {
            (Kind::Response, Some(result)) if !names_unknown_revision(answer) => {
                self.open(result);
                return;
            }
            (Kind::Response, _) => "the upstream named a protocol version that is not known here",
            _ => "the upstream refused to initialize a session",
        };
        let mut text = refused.to_owned();
        if let Some(error) = answer.error().and_then(|error| member(&error, "message")) {
            text = format!("{text}: {}", String::from_utf8_lossy(&error));
        }
        self.never_opened(&text);
    }

    fn open(&mut self, result: Bytes) {
        self.phase = Phase::Open(Server {
            info: member(&result, "serverInfo"),
            features: Features::of(&result),
            result,
        });
        let initialized = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}";
        self.tell_upstream(Bytes::from_static(initialized));
    }

    /// The session could not be opened, for a reason of the upstream's.
    pub(super) fn never_opened(&mut self, text: &str) {
        self.not_opened(Failure::internal(502, "upstream_unavailable", text));
    }

    /// The session could not be opened: all that waits is answered with this.
    pub(super) fn not_opened(&mut self, failure: Failure) {
        self.fail_all(&failure);
        self.close(End::NotInitialized(failure.text));
    }

    pub(super) fn features(&self) -> Features {
        let server = self.phase.server();
        server.map_or_else(Features::default, |server| server.features)
    }
}
