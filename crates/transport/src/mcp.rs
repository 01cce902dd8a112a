//! An MCP server with a handler of a few lines.
//!
//! What this module does not do: it does not know what your tools do, and it does not store anything. It speaks
//! the protocol around a [`MessageHandler`], in every revision.

mod adoption;
mod call;
pub mod config;
mod context;
mod error;
mod handler;
mod listener;
mod methods;
mod observers;
mod pages;
mod params;
mod service;
mod session;
mod shape;
mod subscription;
mod tools;
mod transport;

pub use context::Context;
pub use error::{AskError, RpcError};
pub use handler::{Cache, InputRequest, MessageHandler, Outcome, Request, ServerInfo};
pub use listener::{McpServer, McpServerBuilder};
pub use subscription::Notifier;
pub use thinpipe_proto::bridge::envelope::LogLevel;
pub use tools::{Tool, ToolResult, Tools};
pub use transport::{HttpSseTransport, StreamableHttpTransport};
