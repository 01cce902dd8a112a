//! The client side against scripted servers, byte by byte.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod answers;
mod broken;
mod http2;
mod log;
mod peer;
mod pool;
mod probing;
mod redirects;
mod sockets;
mod sse;
#[cfg(unix)]
mod stdio;
mod streamable;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
