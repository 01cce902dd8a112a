//! The server side over real sockets, with a plain MCP server as its handler: no gateway anywhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batch;
mod buffered;
mod draining;
mod http2;
mod ladder;
mod lifetime;
mod limits;
mod migration;
mod nodes;
mod sessions;
mod sse;
mod store;
mod support;
