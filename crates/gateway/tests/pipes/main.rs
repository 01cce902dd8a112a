//! Clients with sessions in front of servers that are a pipe of messages (protocol notes 5.2): the gateway
//! as a library, over sockets, between scripted clients and servers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adopting;
mod caller;
mod client;
mod draining;
mod front;
mod http_sse;
mod interceptors;
mod joint;
mod limits;
mod log;

mod matrix;
mod nodes;
mod relay;
mod server;
mod sessionless;
mod shared;
mod stdio;
mod streamable;
