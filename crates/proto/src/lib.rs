//! The Model Context Protocol on the wire, without I/O.
//!
//! This crate opens no socket, reads no clock, draws no random number and spawns nothing: bytes and
//! messages go in, bytes, messages and decisions come out. Everything hard lives here, so that
//! everything hard is tested without a socket.
//!
//! - [`sse`]: incremental event-stream decoder, boundary scanner and encoder over [`bytes::Bytes`].
//! - [`rpc`]: the outline of a JSON-RPC message: what a gateway must know, with the bytes kept.
//! - [`revision`]: protocol revisions and what each permits.
//! - [`header`]: the MCP headers, their value rules and media types.
//! - [`classify`]: which binding and revision an HTTP request belongs to.
//! - [`access`]: Host and Origin allow-lists.
//! - [`forwarded`]: who a request comes from, when proxies stand in between.
//! - [`session`]: typed identifiers.
//! - [`probe`]: which revisions a server speaks, found out by asking.
//! - [`rate`]: how many messages in how much time, and how much of that is used up.
//! - [`backoff`]: delays between reconnections, as a pure function.
//! - [`balance`]: which of several replicas of a server is asked.
//! - [`bridge`]: between a client and a server whose messages are framed differently.
//! - [`cache`]: answers that may be given again, for as long as their server says.
//! - [`deprecation`]: what clients of HTTP+SSE are told, when, and how often.
//! - [`duration`]: durations in configuration files.
//! - [`seldom`]: what is done once in a time at the most.
//! - [`shown`]: text of peers, as logs and errors may show it.
//! - [`tunnel`]: what nodes say to each other about requests that another of them answers.

pub mod access;
pub mod backoff;
pub mod balance;
pub mod bridge;
pub mod cache;
pub mod classify;
pub mod deprecation;
pub mod duration;
pub mod forwarded;
pub mod header;
pub mod probe;
pub mod rate;
pub mod revision;
pub mod rpc;
pub mod seldom;
pub mod session;
pub mod shown;
pub mod sse;
pub mod tunnel;
