//! The `requestState` that a stateless server has given out.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::upstream::lock;

/// States that are good, each once, with the round that they stand for.
#[derive(Debug, Default)]
pub(crate) struct States(Mutex<(usize, HashMap<String, usize>)>);

impl States {
    /// A state for this round. It holds what JSON and headers may get wrong.
    pub(crate) fn issue(&self, round: usize) -> String {
        let (count, states) = &mut *lock(&self.0);
        *count += 1;
        let state = format!("state {count} \"é/\\=");
        states.insert(state.clone(), round);
        state
    }

    /// The round of a state, which is used up by that; `None`: it is not good, or not any more.
    pub(crate) fn take(&self, state: &str) -> Option<usize> {
        lock(&self.0).1.remove(state)
    }
}
