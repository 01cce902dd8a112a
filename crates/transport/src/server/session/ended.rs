//! Sessions that have ended on this node, and whose records may still be there: the store was out of reach then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use thinpipe_proto::session::SessionId;

/// How many are remembered, the oldest of which go first. What is forgotten is not known to have ended: who asks for it
/// has it taken over, and its handler finds out.
const MAX_REMEMBERED: usize = 16_384;

/// Which sessions have ended here, though their records may say that they are here.
#[derive(Default)]
pub(super) struct Ended {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    ids: HashMap<SessionId, u64>,
    /// The same, as they ended.
    by_age: BTreeMap<u64, SessionId>,
}

impl Ended {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, id: &SessionId) {
        let mut state = self.lock();
        if state.ids.contains_key(id) {
            return;
        }
        if state.ids.len() >= MAX_REMEMBERED
            && let Some((_, oldest)) = state.by_age.pop_first()
        {
            state.ids.remove(&oldest);
        }
        let number = state.next;
        state.next += 1;
        state.ids.insert(id.clone(), number);
        state.by_age.insert(number, id.clone());
    }

    pub(super) fn remove(&self, id: &SessionId) {
        let mut state = self.lock();
        if let Some(number) = state.ids.remove(id) {
            state.by_age.remove(&number);
        }
    }

    pub(super) fn has(&self, id: &SessionId) -> bool {
        self.lock().ids.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> SessionId {
        SessionId::from_random((number as u128).to_be_bytes())
    }

    /// C2: as many are remembered as there is room for, and those that are done with take none.
    #[test]
    fn c2_what_has_ended_is_remembered_in_a_bounded_number() {
        let ended = Ended::default();
        ended.add(&id(0));
        ended.remove(&id(0));
        for number in 1..=MAX_REMEMBERED {
            ended.add(&id(number));
            ended.add(&id(1));
        }
        assert!(!ended.has(&id(0)));
        assert!(ended.has(&id(1)), "there is room for all of them");
        ended.add(&id(0));
        assert!(!ended.has(&id(1)), "the oldest goes first");
        assert!(ended.has(&id(0)) && ended.has(&id(2)));
        let state = ended.lock();
        assert_eq!(state.ids.len(), MAX_REMEMBERED);
        assert_eq!(state.by_age.len(), MAX_REMEMBERED);
    }
}
