//! What a client has set up in a session, as far as this process has passed it.

use std::collections::BTreeMap;

use bytes::Bytes;
use thinpipe_proto::rpc::Message;

use super::SessionState;
use crate::sync::lock;

/// Bytes of the requests remembered for re-establishing a session: over a thousand subscriptions.
pub(crate) const MAX_SETUP: usize = 128 << 10;

/// Requests that gave the upstream's session its state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// What the server said it can do, when the session was opened.
    pub(crate) capabilities: Option<serde_json::Value>,
    pub(crate) log_level: Option<Bytes>,
    pub(crate) subscriptions: BTreeMap<String, Bytes>,
    /// There was more than is remembered: the session cannot be made again.
    pub(crate) is_incomplete: bool,
}

impl Setup {
    /// Copies, so that a short message does not keep the buffer it came in.
    fn remembered(&mut self, message: &Message) -> Option<Bytes> {
        let source = message.source();
        let before = self.subscriptions.values().chain(&self.log_level);
        let bytes: usize = before.map(Bytes::len).sum();
        let fits = bytes + source.len() <= MAX_SETUP;
        self.is_incomplete |= !fits;
        fits.then(|| Bytes::copy_from_slice(source))
    }
}

impl SessionState {
    /// Remembers what the server said it can do.
    pub(crate) fn note_capabilities(&self, capabilities: serde_json::Value) {
        lock(&self.seldom().setup).capabilities = Some(capabilities);
    }

    /// Remembers requests that give the upstream's session state.
    pub(crate) fn note_setup(&self, message: &Message) {
        let uri = || message.param_str("uri");
        let mut setup = lock(&self.seldom().setup);
        match message.method() {
            Some("logging/setLevel") => {
                setup.log_level = None;
                setup.log_level = setup.remembered(message);
            }
            Some("resources/subscribe") => {
                if let Some(uri) = uri() {
                    setup.subscriptions.remove(&uri);
                    if let Some(message) = setup.remembered(message) {
                        setup.subscriptions.insert(uri, message);
                    }
                }
            }
            Some("resources/unsubscribe") => {
                if let Some(uri) = uri() {
                    setup.subscriptions.remove(&uri);
                }
            }
            _ => {}
        }
    }

    /// Not all that was set up is known.
    pub(crate) fn lose_setup(&self) {
        lock(&self.seldom().setup).is_incomplete = true;
    }

    pub(crate) fn setup(&self) -> Setup {
        self.seldom
            .get()
            .map_or_else(Setup::default, |seldom| lock(&seldom.setup).clone())
    }
}
