//! HTTP+SSE (2024-11-05) over real sockets, with the handler of the tests of Streamable HTTP.

mod answers;
mod deprecation;
mod flow;
mod http2;
mod lifetime;
mod limits;
mod mounted;
mod nodes;
mod observer;
mod order;
mod parsing;
mod statuses;
mod support;
