//! MCP servers and clients over HTTP: Streamable HTTP and HTTP+SSE side by side; and clients of servers that
//! are programs (stdio).
//!
//! This crate does not translate between bindings, does not choose upstreams and knows nothing of
//! interceptors: that is `thinpipe-gateway`. It does not decide what a message means either: that is
//! `thinpipe-proto`. What it does is move bytes, with backpressure from end to end and a bound on
//! every buffer.
//!
//! Whoever builds a server begins with [`mcp`], whoever builds a gateway with [`server`] and [`upstream`]:
//!
//! - [`mcp`]: an MCP server with a handler of a few lines, in every revision:
//!   [`McpServer`](mcp::McpServer), [`MessageHandler`](mcp::MessageHandler), [`Tools`](mcp::Tools).
//! - [`server`]: accepts connections, checks requests, keeps sessions, and hands each exchange to a
//!   [`server::Handler`].
//! - [`upstream`]: finds out what a server speaks, sends requests to it over HTTP and gives back an
//!   [`upstream::UpstreamResponse`] whose body has not been read, and is the client of HTTP+SSE servers and of
//!   programs.
//! - [`migration`]: the way from HTTP+SSE to Streamable HTTP.
//! - [`body`]: the one shape of a body that both sides share.

pub mod body;
mod byte_budget;
mod http1;
mod io;
pub mod mcp;
pub mod migration;
mod random;
pub mod server;
pub mod upstream;

pub use byte_budget::{ByteBudget, NoRoom, Reserved};
pub use io::Io;
pub use random::{NoRandom, Random};

/// The examples of the guides are compiled, and run, with those of the code.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../docs/src/server-library.md")]
    struct ServerLibrary;

    #[doc = include_str!("../../../docs/src/migration.md")]
    struct Migration;
}
