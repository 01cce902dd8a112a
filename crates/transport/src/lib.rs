//! Streamable HTTP for MCP, server side and client side, over sockets.
//!
//! This crate does not translate between bindings, does not choose upstreams and knows nothing of
//! interceptors: that is `thinpipe-gateway`. It does not decide what a message means either: that is
//! `thinpipe-proto`. What it does is move bytes, with backpressure from end to end and a bound on
//! every buffer.
//!
//! - [`server`]: accepts connections, checks requests, keeps sessions, and hands each exchange to a
//!   [`server::Handler`].
//! - [`upstream`]: sends requests to MCP servers and gives back an [`upstream::UpstreamResponse`]
//!   whose body has not been read.
//! - [`migration`]: the way from HTTP+SSE to Streamable HTTP.
//! - [`body`]: the one shape of a body that both sides share.

pub mod body;
mod byte_budget;
mod http1;
mod io;
pub mod mcp;
pub mod migration;
pub mod server;
pub mod upstream;

pub use byte_budget::{ByteBudget, NoRoom, Reserved};
pub use io::Io;

/// The examples of the guides are compiled, and run, with those of the code.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../docs/src/server-library.md")]
    struct ServerLibrary;

    #[doc = include_str!("../../../docs/src/migration.md")]
    struct Migration;
}
