//! What a server of 2026-07-28 has said and need not be asked again (protocol notes 4.4), and headers that
//! repeat arguments (2.3.4): the gateway as a library, over sockets, in front of a counting server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "it serves other tests too")]
#[path = "../pipes/front.rs"]
mod gateway;
#[path = "../pipes/hiding.rs"]
mod hiding;

mod answers;
mod headers;
mod interceptors;
mod notices;
mod programs;
mod renames;
mod sessions;

use std::sync::Arc;

use serde_json::{Value, json};
use thinpipe_gateway::interceptor::Interceptor;
use thinpipe_gateway::{ChildUpstream, ProgramEra, Reached, UpstreamSpec};
use thinpipe_testkit::{Client, Era, Upstream, rpc};
use thinpipe_transport::server::{Server, ServerConfig};
use thinpipe_transport::upstream::UpstreamConfig;
use thinpipe_transport::upstream::stdio::StdioConfig;

/// A gateway in front of a whole server of 2026-07-28, whose answers are good for a minute.
struct Front {
    upstream: Upstream,
    client: Client,
    /// Kept: the gateway goes with it.
    _server: Server,
}

impl Front {
    async fn start(scope: &'static str) -> Self {
        Self::with(scope, &[], |_| {}).await
    }

    /// For clients with these tokens, each of a principal of that name.
    async fn with(
        scope: &'static str,
        tokens: &[&str],
        change: impl FnOnce(&mut UpstreamSpec),
    ) -> Self {
        let upstream = server(scope).await;
        let url = upstream.url().parse().unwrap();
        let reached = UpstreamConfig::new("up".into(), url);
        Self::of(upstream, reached.into(), tokens, change).await
    }

    async fn of(
        upstream: Upstream,
        reached: Reached,
        tokens: &[&str],
        change: impl FnOnce(&mut UpstreamSpec),
    ) -> Self {
        Self::behind(&[], upstream, reached, tokens, change).await
    }

    /// The same behind interceptors of the test's own.
    async fn behind(
        interceptors: &[Arc<dyn Interceptor>],
        upstream: Upstream,
        reached: Reached,
        tokens: &[&str],
        change: impl FnOnce(&mut UpstreamSpec),
    ) -> Self {
        let change = |spec: &mut UpstreamSpec| {
            spec.sse = None;
            change(spec);
        };
        let configure = |config: &mut ServerConfig| config.tokens = gateway::tokens(tokens);
        let front = gateway::Front::whole(reached, change, configure, Vec::new(), interceptors);
        let front = front.await;
        Self {
            upstream,
            client: Client::new(&front.mcp),
            _server: front.server,
        }
    }

    /// The same in front of a program.
    async fn of_a_program(scope: &'static str, tokens: &[&str]) -> Self {
        let upstream = server(scope).await;
        let [program, argument] = upstream.program();
        let mut config = StdioConfig::new("up".into(), program);
        config.args = vec![argument.into()];
        let mut child = ChildUpstream::new(config);
        child.pin = Some(ProgramEra::Modern);
        Self::of(upstream, Reached::Stdio(child), tokens, |_| {}).await
    }

    /// What an anonymous client is answered.
    async fn ask(&self, method: &str, params: Value) -> Value {
        let mut response = self
            .client
            .post_modern(&rpc::modern(1, method, params))
            .await;
        response.answer().await
    }

    /// What this principal is answered.
    async fn ask_as(&self, token: &str, method: &str, params: Value) -> Value {
        let request = rpc::modern(1, method, params);
        let posting = self.client.post_modern(&request);
        let mut response = posting
            .header("Authorization", &format!("Bearer {token}"))
            .await;
        response.answer().await
    }

    /// How often the server was asked this.
    fn asked(&self, what: &str) -> usize {
        self.upstream.record().count(what)
    }
}

async fn server(scope: &'static str) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| {
        behaviour.era = Era::Stateless;
        behaviour.full = true;
        behaviour.ttl_ms = 60_000;
        behaviour.cache_scope = scope;
    });
    upstream
}

fn tools(answer: &Value) -> Vec<&str> {
    let tools = answer["result"]["tools"].as_array().unwrap();
    tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect()
}

fn nothing() -> Value {
    json!({})
}
