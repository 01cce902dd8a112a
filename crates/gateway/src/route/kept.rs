//! What a server of 2026-07-28 need not be asked: answers that were kept, and calls whose headers are wrong.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thinpipe_proto::rpc::{Message, code, error_response};
use thinpipe_transport::server::Answer;

use super::answer::with_headers;
use super::{Incoming, Route};
use crate::cache::Remembering;
use crate::failure::Failure;
use crate::interceptor::{Direction, MessageContext};
use crate::modern::ModernServer;
use crate::relay::Line;
use crate::session::Origin;

impl Route {
    /// This way to the server, past what is kept of its answers. Bridges ask through it.
    pub(crate) fn remembering(&self, server: Arc<dyn ModernServer>) -> Arc<dyn ModernServer> {
        Arc::new(Remembering::new(server, Arc::clone(&self.answers)))
    }

    /// The refusal of a call whose headers do not say what its arguments say, where the tool is known
    /// (`-32020`; R124, R125). Checked are the arguments as the client sent them; only the name of the tool is
    /// the one that interceptors have given it, since what is known of tools is in the server's words.
    pub(super) fn refuse_params(
        &self,
        call: &Incoming,
        message: &Message,
        received: &Message,
    ) -> Option<Answer> {
        let client = (&call.principal, &call.headers);
        let checked = self.answers.check(message, received, client);
        let mismatch = checked.err()?;
        // If it is the list that is wrong, the client has to get another one now.
        self.answers.doubt_tools(&call.principal);
        let error = (code::HEADER_MISMATCH, mismatch.to_string());
        let body = error_response(message.id(), error.0, &error.1, None);
        let mut answer = Answer::json(body);
        answer.status = StatusCode::BAD_REQUEST;
        Some(answer)
    }

    /// An answer that was kept, as the client gets to see it: as if the server had just given it.
    pub(super) async fn give(
        self: &Arc<Self>,
        kept: Bytes,
        line: Line,
        mut context: MessageContext,
    ) -> Result<Answer, Failure> {
        context.direction = Direction::ToClient;
        let mut headers = HeaderMap::new();
        self.chain().headers(&context, &mut headers)?;
        if !self.reads() && line.edit.is_none() {
            self.stats().passed();
            return Ok(with_headers(Answer::json(kept), headers));
        }
        self.stats().inspected();
        let message = Message::parse(kept).map_err(|error| self.no_answer(&error))?;
        let mut origin = Origin::default();
        let decided = self.inspect_body(&message, &context, &line, &mut origin);
        let decided = decided.await?.unwrap_or_default();
        Ok(with_headers(Answer::json(decided), headers))
    }
}
