//! Everything that cannot cross (protocol notes 5.2 to 5.5, "Cannot translate").

use thinpipe_gateway::{Mrtr, RequestSession};

use super::{Client, Lost, Server, Way};

/// All of it, by name.
pub(crate) const LOST: [Lost; 18] = [
    Lost {
        key: "changes-within-a-session",
        text: "lists that a call changes for its own session change for all requests that share the session",
        holds: |it| it.goes_down() && it.request_session() != RequestSession::Own,
    },
    Lost {
        key: "changes-without-a-stream",
        text: "changes are not told: the server has no standalone stream (405)",
        holds: |it| it.features.changes && !it.features.stream && it.server == Server::Sessions,
    },
    Lost {
        key: "log-before-a-level",
        text: "log messages come only once the client has set a level (`log_level` presets one)",
        holds: |it| it.goes_up() && it.features.logging && it.bridge.log_level.is_none(),
    },
    Lost {
        key: "log-lines-without-a-request",
        text: "log messages that belong to no one request are dropped",
        holds: |it| {
            let program = it.server == Server::ModernProgram;
            let shared = it.is_shared() && !it.server.is_modern();
            it.features.logging && (it.goes_down() || program || shared)
        },
    },
    Lost {
        key: "non-object-output",
        text: "an output schema that is no object is left out, and such output comes as text",
        holds: |it| it.goes_up() && it.features.tools,
    },
    Lost {
        key: "progress-on-questions",
        text: "progress that a client reports on what it was asked is dropped",
        holds: |it| it.goes_up(),
    },
    Lost {
        key: "questions-on-shared-sessions",
        text: "the server can ask nothing, as it would not be known whom",
        holds: |it| {
            // Over Streamable HTTP the stream of a call says whom a question means.
            it.is_shared() && !it.server.is_modern() && it.server != Server::Sessions
        },
    },
    Lost {
        key: "questions-outside-of-calls",
        text: "what the server asks while no tool, prompt or resource is being worked on gets an error",
        holds: |it| {
            let asks = !it.is_shared() || it.server == Server::Sessions;
            let down = it.goes_down() && it.bridge.mrtr == Mrtr::On;
            let shared = it.is_shared() && it.server == Server::Sessions;
            (down || shared) && asks
        },
    },
    Lost {
        key: "questions-switched-off",
        text: "the server is told that clients can be asked nothing (`mrtr = \"off\"`)",
        holds: |it| it.goes_down() && it.bridge.mrtr == Mrtr::Off,
    },
    Lost {
        key: "questions-without-a-stream",
        text: "what the server asks while the client has neither a stream nor a request open gets an error after 30 s",
        holds: |it| {
            let pipe = it.way() == Way::Bridged && !it.server.is_modern();
            it.client == Client::Sessions && pipe && !it.is_shared()
        },
    },
    Lost {
        key: "resuming-2026-07-28",
        text: "an answer whose connection broke is lost, and the call is cancelled: nothing is resumed",
        holds: |it| it.client == Client::Stateless,
    },
    Lost {
        key: "resuming-http-sse",
        text: "a stream that broke is not resumed: its session ends, and what ran in it is cancelled",
        holds: |it| it.client == Client::HttpSse,
    },
    Lost {
        key: "roots-list-changed",
        text: "the server is not told that a client's roots have changed; it asks again with each call",
        holds: |it| it.goes_up(),
    },
    Lost {
        key: "roots-on-pooled-sessions",
        text: "the server cannot ask for roots, which would hold for others too",
        holds: |it| {
            let lacks = match it.request_session() {
                RequestSession::Own => false,
                RequestSession::Pooled => !it.bridge.pool.roots,
                RequestSession::Shared => it.server == Server::Sessions,
            };
            let down = it.goes_down() && it.bridge.mrtr == Mrtr::On && lacks;
            let is_legacy = it.client != Client::Stateless;
            down || (is_legacy && it.is_shared() && it.server == Server::Sessions)
        },
    },
    Lost {
        key: "state-between-requests",
        text: "what a server keeps in its session is gone with the request, as each has its own",
        holds: |it| it.goes_down() && it.request_session() == RequestSession::Own,
    },
    Lost {
        key: "tasks",
        text: "tasks are not offered: calls are waited for",
        holds: |it| it.features.tasks && (it.goes_up() || it.goes_down()),
    },
    Lost {
        key: "tools-with-invalid-headers",
        text: "tools whose `x-mcp-header` breaks the rules are not listed and cannot be called",
        holds: |it| it.goes_up() && it.features.tools,
    },
    Lost {
        key: "url-elicitation",
        text: "questions that need a web page fail where the client has not said that it shows one",
        holds: |it| it.goes_up(),
    },
];
