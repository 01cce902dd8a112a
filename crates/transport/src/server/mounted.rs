//! What has to know the server that it is mounted in.

use super::{Server, ServerBuilder};

/// Runs with the server when it is built.
pub(super) type Attach = Box<dyn FnOnce(&Server) + Send>;

impl ServerBuilder {
    /// Has `attach` run with the server when it is built.
    pub(crate) fn when_built(mut self, attach: impl FnOnce(&Server) + Send + 'static) -> Self {
        self.when_built.push(Box::new(attach));
        self
    }
}
