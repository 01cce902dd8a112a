//! A client whose requests come to another node than the one that it opened its session at.

use thinpipe_testkit::{Client, RequestBuilder};

use super::support::Node;

/// A client of another node's session.
pub(crate) struct Visitor<'a> {
    node: &'a Node,
    session: String,
}

impl<'a> Visitor<'a> {
    pub(crate) fn new(node: &'a Node, client: &Client) -> Self {
        Self {
            node,
            session: client.session().unwrap().to_owned(),
        }
    }

    fn with_session(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header("mcp-session-id", &self.session);
        request.header("mcp-protocol-version", "2025-11-25")
    }

    pub(crate) fn post(&self, message: impl ToString) -> RequestBuilder {
        self.with_session(self.node.running.stranger().post(message))
    }

    pub(crate) fn get(&self) -> RequestBuilder {
        self.with_session(self.node.running.stranger().get())
    }

    pub(crate) fn delete(&self) -> RequestBuilder {
        self.with_session(self.node.running.stranger().delete())
    }
}
