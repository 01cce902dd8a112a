//! The client side against scripted servers, byte by byte.

mod answers;
mod broken;
mod http2;
mod peer;
mod pool;
mod probing;
mod redirects;
mod sockets;
mod timeouts;
