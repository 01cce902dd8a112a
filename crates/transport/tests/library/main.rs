//! Servers on the library over real sockets: a handler of a few lines, and everything around it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod asking;
mod config;
mod ending;
mod examples;
mod http_sse;
mod nodes;
mod protocol;
mod resuming;
mod storing;
mod subscribing;
mod support;
