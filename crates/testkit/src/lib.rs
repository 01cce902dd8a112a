//! The peers that Thinpipe's tests talk to, over real sockets and over a network in memory.
//!
//! It does **not** use any of Thinpipe's own code: its HTTP/1.1 and its event streams are hand-kept, so
//! that they prove the gateway's, and it can send what no well-behaved library would. It is not
//! published and no part of the product depends on it.
//!
//! - [`Upstream`]: an MCP server that counts what it gets and does what a [`Script`] says, over Streamable HTTP,
//!   HTTP+SSE and stdio, in every revision.
//! - [`SseUpstream`]: a server of the old transport that gets things wrong; [`stdio_server`]: scripts that are servers.
//! - [`Client`]: an MCP client that sends exactly what a test wants, and sees what came, and when.
//! - [`Gate`]: where a script waits until the test goes on. No test needs to sleep.
//! - [`network`]: a network in memory that loses, delays and cuts as a seed says, for whole worlds on a paused clock.
//! - [`rpc`]: messages of every revision; [`samples`]: event streams that show the rules of the standard.
//! - [`Process`]: a built binary with what it writes; [`Usage`] and [`assert_returns_to_baseline`]: what it
//!   holds, and whether it gives it back.
//! - [`Redis`], [`RedisCluster`], [`RedisSentinel`]: servers that a test starts, kills, pauses and starts again.
//! - [`Balancer`]: nginx, with the configuration that users are given.
//! - [`scenarios`]: what a gateway must do, one function each, for any gateway that has a URL.
//!
//! Everything that waits panics after [`DEADLINE`] and says what it waited for and where. Use it in
//! runtimes with real time: a paused clock would jump over the deadlines. Only [`network`] has none, and wants
//! the clock paused.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use thinpipe_testkit::{Client, Event, Gate, Outcome, Script, Upstream, rpc};
//!
//! let upstream = Upstream::start().await;
//! let gate = Gate::new();
//! upstream.on(
//!     "tools/call:echo",
//!     Script::events()
//!         .event(Event::message(rpc::progress(1, 2)))
//!         .wait(&gate)
//!         .event(Event::message(rpc::text_result("done"))),
//! );
//!
//! // A gateway's URL goes here.
//! let mut client = Client::new(upstream.url());
//! client.initialize("2025-11-25").await;
//! let mut response = client.post(rpc::call(7, "echo")).await;
//! let progress = response.next_message().await;
//! assert_eq!(progress["params"]["progressToken"], 7);
//! // The upstream's stream has not ended: it waits at the gate.
//! upstream.wait_until(|seen| seen.outcome("tools/call").is_none()).await;
//! gate.open();
//! assert_eq!(response.next_message().await["id"], 7);
//! assert_eq!(response.next_event().await, None);
//!
//! let record = upstream.record();
//! assert_eq!(record.count("tools/call"), 1);
//! assert_eq!(record.duplicates, 0);
//! upstream.wait_until(|seen| seen.outcome("tools/call") == Some(Outcome::Complete)).await;
//! # }
//! ```

mod balancer;
mod client;
mod deadline;
mod event;
mod gate;
pub mod network;
mod process;
mod redis;
pub mod rpc;
pub mod samples;
pub mod scenarios;
mod sockets;
mod sse_upstream;
pub mod stdio_server;
mod upstream;
mod usage;
mod wire;

pub use balancer::{BALANCER_LISTENS, Balancer, balancer_command};
pub use client::{Client, Connection, Cutoff, Piece, RequestBuilder, Response, SseClient};
pub use deadline::{DEADLINE, eventually};
pub use event::{Event, EventReader};
pub use gate::Gate;
pub use process::Process;
pub use redis::{Redis, RedisCluster, RedisReply, RedisSentinel};
pub use sse_upstream::{SsePost, SseSession, SseState, SseUpstream};
pub use upstream::{
    Behaviour, Cut, Era, Outcome, Record, Request, Response as UpstreamResponse, Script, Upstream,
    Via,
};
pub use usage::{Baseline, Usage, assert_returns_to_baseline};
pub use wire::Headers;
