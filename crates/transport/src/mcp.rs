//! An MCP server with a handler of a few lines.

pub mod config;
