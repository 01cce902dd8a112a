//! The server's standalone stream, where it has one beside those of requests.

use std::future;

use thinpipe_proto::backoff::Backoff;
use thinpipe_proto::bridge::{Delivery, Nature, resource_updated};
use thinpipe_transport::upstream::pipe::{PipeError, PipeSender};

use super::{Step, Up, UpstreamSession};
use crate::failure::with_causes;
use crate::session::SessionState;

impl UpstreamSession {
    /// A client can be told what belongs to no request: the server is heard out.
    pub(crate) fn wants_stream(&self) {
        if self.has_streams() {
            let mut state = self.lock();
            (state.wants_stream, state.listens) = (true, true);
            drop(state);
            self.to_listen.notify_one();
        }
    }

    /// Opens the stream whenever it is wanted. One that breaks off is resumed by whoever reads it.
    pub(super) async fn listen(&self, sender: &PipeSender) {
        if !sender.has_streams() {
            return future::pending().await;
        }
        loop {
            let wants = std::mem::take(&mut self.lock().wants_stream);
            if !wants {
                self.to_listen.notified().await;
                continue;
            }
            if let Err(error) = self.open_stream(sender).await {
                let (upstream, error) = (&*sender.upstream(), with_causes(&error));
                tracing::warn!(upstream, error, "the standalone stream was not opened");
            }
        }
    }

    /// Without one the server has nothing to say there.
    async fn open_stream(&self, sender: &PipeSender) -> Result<(), PipeError> {
        let mut backoff = Backoff::new();
        loop {
            let error = match sender.listen().await {
                Ok(_) => return Ok(()),
                Err(error @ PipeError::SessionLost { .. }) => {
                    self.broke(&error, None);
                    return Err(error);
                }
                Err(error) => error,
            };
            let delay = backoff.next_delay(self.chance(), None);
            let Some(delay) = delay.filter(|_| matches!(error, PipeError::Upstream(_))) else {
                return Err(error);
            };
            tokio::time::sleep(delay).await;
        }
    }

    fn chance(&self) -> u64 {
        match &self.up {
            Up::Pipe { random, .. } => random.chance(),
            Up::Calls { .. } => 0,
        }
    }

    /// What the server said on that stream for a while is not known: clients read again what may have changed.
    pub(super) fn told_gap(&self) {
        let mut state = self.lock();
        if let Some((machine, _)) = state.machine.reframing() {
            machine.gap();
        }
        let mut updates = Vec::new();
        if !self.manner.is_shared {
            for member in state.members.values() {
                let session = member
                    .place()
                    .get()
                    .and_then(|place| place.session.upgrade());
                let setup = session
                    .and_then(|session| Some(session.existing_state::<SessionState>()?.setup()));
                let uris = setup.iter().flat_map(|setup| setup.subscriptions.keys());
                updates.extend(uris.map(|uri| (member.id(), resource_updated(uri))));
            }
        }
        let updates = updates.into_iter().map(|(member, message)| {
            Step::Deliver(Delivery {
                member,
                related: None,
                message: message.into(),
                nature: Nature::ChangeNotice,
            })
        });
        state.deliveries.extend(updates);
        self.settle(state);
    }
}
