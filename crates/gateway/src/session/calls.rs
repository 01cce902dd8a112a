//! Which request a response answers. What cannot be said for sure is not said: then whoever looks at
//! messages has to take the response for anything.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use thinpipe_proto::rpc::RequestId;

/// Requests remembered of each side of a session.
const MAX_CALLS: usize = 256;

/// Bytes of a method and a name that are remembered. Who gives longer ones has their responses looked
/// at by everybody.
const MAX_TEXT: usize = 1024;

/// Method of a request, and the tool, prompt or resource it names.
pub(crate) type Call = (Arc<str>, Option<Arc<str>>);

/// The latest requests of one side of a session.
#[derive(Debug, Default)]
pub(super) struct Calls {
    order: VecDeque<(u64, Number)>,
    /// By the hash of the id, since ids are as long as a peer likes. `None`: several requests had
    /// this id, or it is not known whether.
    known: HashMap<u64, Option<Call>>,
    forgotten: Forgotten,
    hasher: RandomState,
}

/// An id's number; `None`: it is text, or a number that is too large.
type Number = Option<i64>;

/// What can be said of ids that are not remembered any more. Most clients count, and a number above
/// all that were forgotten is a new one; of any other id nobody can say that it was not used before.
#[derive(Debug, Default)]
struct Forgotten {
    highest: Number,
    others: bool,
}

impl Calls {
    /// Remembers a request. Of one whose id was, or may have been, used before, only that.
    pub(super) fn remember(&mut self, id: &RequestId, call: Call) {
        let key = self.hasher.hash_one(id);
        if let Some(known) = self.known.get_mut(&key) {
            if known.as_ref() != Some(&call) {
                *known = None;
            }
            return;
        }
        let number = number(id);
        let length = call.0.len() + call.1.as_ref().map_or(0, |name| name.len());
        let is_certain = length <= MAX_TEXT && !self.forgotten.may_hold(number);
        self.known.insert(key, is_certain.then_some(call));
        self.order.push_back((key, number));
        while self.order.len() > MAX_CALLS {
            if let Some((key, number)) = self.order.pop_front() {
                self.known.remove(&key);
                self.forgotten.add(number);
            }
        }
    }

    /// The request with this id.
    pub(super) fn of(&self, id: &RequestId) -> Option<Call> {
        self.known.get(&self.hasher.hash_one(id)).cloned().flatten()
    }
}

impl Forgotten {
    fn add(&mut self, number: Number) {
        match number {
            Some(_) => self.highest = self.highest.max(number),
            None => self.others = true,
        }
    }

    fn may_hold(&self, number: Number) -> bool {
        match number {
            Some(_) => number <= self.highest,
            None => self.others,
        }
    }
}

fn number(id: &RequestId) -> Number {
    std::str::from_utf8(id.as_json()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str) -> Call {
        (method.into(), None)
    }

    fn numbered(number: usize) -> RequestId {
        RequestId::from_integer(i64::try_from(number).unwrap())
    }

    #[test]
    fn an_id_used_for_two_calls_is_of_neither() {
        let mut calls = Calls::default();
        let id = numbered(1);
        calls.remember(&id, call("tools/list"));
        assert_eq!(calls.of(&id), Some(call("tools/list")));
        calls.remember(&id, call("ping"));
        assert_eq!(calls.of(&id), None);
        calls.remember(&id, call("ping"));
        assert_eq!(calls.of(&id), None);
    }

    #[test]
    fn calls_are_bounded() {
        let mut calls = Calls::default();
        for number in 0..1000 {
            calls.remember(&numbered(number), call("tools/call"));
        }
        assert_eq!(
            (calls.order.len(), calls.known.len()),
            (MAX_CALLS, MAX_CALLS)
        );
        assert_eq!(calls.of(&numbered(999)), Some(call("tools/call")));
        assert_eq!(calls.of(&numbered(999 - MAX_CALLS)), None);
    }

    /// A peer's long texts are not kept, and what is not kept is not known.
    #[test]
    fn texts_are_bounded() {
        for (length, is_kept) in [(MAX_TEXT, true), (MAX_TEXT + 1, false)] {
            let mut calls = Calls::default();
            let long = ("m".into(), Some("n".repeat(length - 1).into()));
            calls.remember(&numbered(1), long);
            assert_eq!(calls.of(&numbered(1)).is_some(), is_kept, "{length}");
        }
    }

    /// Nobody can pass off the response to one call as that to another by using its id again once it
    /// has been forgotten.
    #[test]
    fn an_id_that_may_have_been_forgotten_is_of_no_call() {
        let mut calls = Calls::default();
        for number in 1..=MAX_CALLS + 1 {
            calls.remember(&numbered(number), call("tools/call"));
        }
        calls.remember(&numbered(1), call("ping"));
        assert_eq!(calls.of(&numbered(1)), None, "it was forgotten");
        calls.remember(&numbered(MAX_CALLS + 2), call("ping"));
        assert_eq!(calls.of(&numbered(MAX_CALLS + 2)), Some(call("ping")));
        // Text is not in order, but none of it has been forgotten so far.
        let text = |number: usize| RequestId::from_text(&number.to_string());
        for number in 1..=MAX_CALLS + 1 {
            calls.remember(&text(number), call("tools/call"));
        }
        assert_eq!(calls.of(&text(2)), Some(call("tools/call")));
        calls.remember(&text(MAX_CALLS + 2), call("ping"));
        assert_eq!(calls.of(&text(MAX_CALLS + 2)), None);
    }
}
