//! A session of the server is opened with what a client has set up in another, which is gone.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_transport::server::Session;
use thinpipe_transport::upstream::pipe::{Pipe, PipeError};
use tokio::time::timeout;

use super::Route;
use super::opening::{capabilities, declared, negotiated};
use super::reestablish::{INITIALIZED, too_late};
use crate::downgrade::Owner;
use crate::failure::{Failure, Reason};
use crate::session::{SessionState, Setup};

impl Route {
    /// A session of the server that is what the lost one was for this client, if the server is its equal still. It
    /// is there within the time that the server has for one request.
    pub(super) async fn reopen_pipe(self: &Arc<Self>, session: &Session) -> Result<Pipe, Failure> {
        let setup = session
            .state(SessionState::default)
            .map(SessionState::setup);
        let setup = setup.unwrap_or_default();
        if setup.is_incomplete {
            let text = "more was set up in the session than is remembered";
            return Err(Failure::new(Reason::Invalid, text));
        }
        let reopening = async {
            let mut pipe = Arc::clone(self).open(None).await?;
            self.set_up_pipe(&mut pipe, session, setup).await?;
            Ok(pipe)
        };
        let reopened = timeout(self.request_timeout(), reopening).await;
        reopened.unwrap_or_else(|_| Err(too_late()))
    }

    async fn set_up_pipe(
        &self,
        pipe: &mut Pipe,
        session: &Session,
        setup: Setup,
    ) -> Result<(), Failure> {
        let mut initialize =
            BytesMut::from(&br#"{"jsonrpc":"2.0","id":"0","method":"initialize","params":"#[..]);
        initialize.extend_from_slice(&session.initialize_params());
        initialize.extend_from_slice(b"}");
        let initialize =
            Message::parse(initialize.freeze()).map_err(|error| self.no_answer(&error))?;
        let answer = self.ask_pipe(pipe, &initialize, 0).await?;
        if let Some(refusal) = self.refusal(&answer) {
            return Err(refusal);
        }
        if negotiated(&answer)? != Some(session.revision()) {
            return Err(Failure::new(
                Reason::Invalid,
                "another revision was negotiated",
            ));
        }
        let now = capabilities(&declared(&answer));
        if setup.capabilities.is_some_and(|before| before != now) {
            let text = "the server's capabilities have changed";
            return Err(Failure::new(Reason::Invalid, text));
        }
        pipe.sender.negotiated(session.revision());
        let initialized = pipe.sender.send(Bytes::from_static(INITIALIZED)).await;
        initialized.map_err(|error| self.not_set_up(&error))?;
        let setup = setup
            .log_level
            .into_iter()
            .chain(setup.subscriptions.into_values());
        for (n, message) in setup.enumerate() {
            let message = Message::parse(message).map_err(|error| self.no_answer(&error))?;
            // Its answer says nothing that the client has not been told before.
            self.ask_pipe(pipe, &message, n + 1).await?;
        }
        Ok(())
    }

    /// Asks under an id of its own: those of clients are numbers here.
    async fn ask_pipe(
        &self,
        pipe: &mut Pipe,
        request: &Message,
        number: usize,
    ) -> Result<Message, Failure> {
        let id = RequestId::from_text(&format!("thinpipe-{number}"));
        let asked = pipe.ask(request.with_id(&id), |message| {
            let is_answer = message.kind().is_response() && message.id() == Some(&id);
            is_answer.then(|| message.clone())
        });
        asked.await.map_err(|error| self.not_set_up(&error))
    }

    /// What the server itself says against a session like the client's. Its client hears the same, when it opens
    /// another.
    pub(super) fn refusal(&self, answer: &Message) -> Option<Failure> {
        let error = answer.error()?;
        let error = String::from_utf8_lossy(&error);
        let text = format!("{} refuses initialize: {error}", self.name());
        Some(Failure::new(Reason::Invalid, text))
    }

    fn not_set_up(&self, error: &PipeError) -> Failure {
        let failure = Failure::from(error);
        tracing::warn!(upstream = self.name(), error = %failure.text, "session lost");
        failure
    }
}
