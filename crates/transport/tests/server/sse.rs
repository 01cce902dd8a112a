//! HTTP+SSE (2024-11-05) over real sockets, with the handler of the tests of Streamable HTTP.

mod deprecation;
mod flow;
mod support;
