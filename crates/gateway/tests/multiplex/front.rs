//! A gateway in front of one server.

use serde_json::{Value, json};
use thinpipe_gateway::{Gateway, Reached, Route, UpstreamSpec};
use thinpipe_testkit::rpc::{Modern, modern};
use thinpipe_testkit::{Client, Connection, Response};
use thinpipe_transport::server::{Server, ServerConfig};

use crate::gateway;

/// The revisions that are served in front of a server of 2026-07-28: the others are bridged (protocol notes 1.2).
pub(crate) const SERVED: [&str; 5] = [
    "2026-07-28",
    "2025-11-25",
    "2025-06-18",
    "2025-03-26",
    "2024-11-05",
];

pub(crate) struct Front {
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) gateway: Gateway,
}

impl Front {
    pub(crate) async fn start(reached: impl Into<Reached>) -> Self {
        Self::with(reached, |_| {}).await
    }

    pub(crate) async fn with(
        reached: impl Into<Reached>,
        change: impl FnOnce(&mut UpstreamSpec),
    ) -> Self {
        Self::guarded(reached, change, &[]).await
    }

    /// One whose clients need one of these tokens, which are their principals' names too.
    pub(crate) async fn guarded(
        reached: impl Into<Reached>,
        change: impl FnOnce(&mut UpstreamSpec),
        principals: &[&str],
    ) -> Self {
        let change = |spec: &mut UpstreamSpec| {
            spec.sse = None;
            change(spec);
        };
        let configure = |config: &mut ServerConfig| config.tokens = gateway::tokens(principals);
        let front = gateway::Front::with(reached, change, configure).await;
        Self {
            client: Client::new(&front.mcp),
            server: front.server,
            gateway: front.gateway,
        }
    }

    pub(crate) fn route(&self) -> &Route {
        &self.gateway.routes()[0]
    }

    /// Sends a request, and does not wait for its answer.
    pub(crate) async fn send(&self, request: &Modern) -> Connection {
        self.client.post_modern(request).send().await
    }

    pub(crate) async fn ask(&self, request: &Modern) -> Response {
        self.client.post_modern(request).await
    }

    /// Until so many children run.
    pub(crate) async fn children_run(&self, count: usize) {
        gateway::children_run(self.route(), count).await;
    }
}

/// A call of a tool under this id, with this token.
pub(crate) fn call(id: impl Into<Value>, token: impl Into<Value>) -> Modern {
    let meta = json!({"progressToken": token.into()});
    let params = json!({"name": "echo", "arguments": {}, "_meta": meta});
    modern(id, "tools/call", params)
}

pub(crate) fn listen(id: impl Into<Value>, notifications: &Value) -> Modern {
    let params = json!({"notifications": notifications});
    modern(id, "subscriptions/listen", params)
}
