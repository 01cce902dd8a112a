//! Which clients still use HTTP+SSE, counted while they do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use thinpipe_proto::deprecation::{Counted, EndpointUse, Inventory, InventoryReport, Timestamp};
use thinpipe_proto::session::SessionId;

use crate::server::Session;

/// The inventory of a server, for all of its endpoints together. Cheap to clone; every clone is the same.
#[derive(Debug, Clone, Default)]
pub struct ClientInventory {
    state: Arc<Mutex<State>>,
}

/// Sessions that are open are as many as the server has streams at most, since each is taken out when it
/// has ended.
#[derive(Debug, Default)]
struct State {
    inventory: Inventory,
    open: HashMap<SessionId, Counted>,
}

impl ClientInventory {
    /// What there is to see now. It serialises as JSON, for an admin address.
    #[must_use]
    pub fn report(&self) -> InventoryReport {
        self.with(|state| state.inventory.report())
    }

    /// The clients of one endpoint together, by the endpoint's name: for metrics, since it costs the same
    /// however many clients there are.
    #[must_use]
    pub fn of_endpoint(&self, endpoint: &str) -> EndpointUse {
        self.with(|state| state.inventory.of_endpoint(endpoint))
    }

    /// A client has told its name.
    pub(super) fn opened(&self, session: &Session, name: &str, version: &str) {
        let now = now();
        self.with(|state| {
            let counted = state
                .inventory
                .opened(session.endpoint(), name, version, now);
            // Its end may have been told already, since its client may leave at any time. If not, it comes
            // after this.
            let over = if session.closed().is_cancelled() {
                Some(counted)
            } else {
                state.open.insert(session.id().clone(), counted)
            };
            if let Some(counted) = over {
                state.inventory.closed(counted, now);
            }
        });
    }

    /// A session has ended, whether or not its client had told its name.
    pub(super) fn ended(&self, session: &Session) {
        let now = now();
        self.with(|state| {
            if let Some(counted) = state.open.remove(session.id()) {
                state.inventory.closed(counted, now);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here panics half-way; a count that is off by one is better than none.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
