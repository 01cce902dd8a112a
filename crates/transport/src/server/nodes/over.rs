//! Exchanges that are over: after a failover the store may give what was taken from it once more.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use thinpipe_proto::tunnel::ExchangeId;

/// How long an exchange is remembered. A failover brings back what was said in its last seconds.
const REMEMBERED: Duration = Duration::from_secs(60);

/// How many are remembered, the oldest of which go first.
const MAX_REMEMBERED: usize = 16_384;

/// Which exchanges are over.
#[derive(Default)]
pub(super) struct Over {
    ids: HashSet<ExchangeId>,
    /// The same, as they ended.
    by_age: VecDeque<(Instant, ExchangeId)>,
}

impl Over {
    pub(super) fn add(&mut self, id: ExchangeId, now: Instant) {
        self.forget_old(now, MAX_REMEMBERED - 1);
        if self.ids.insert(id.clone()) {
            self.by_age.push_back((now, id));
        }
    }

    pub(super) fn has(&mut self, id: &ExchangeId, now: Instant) -> bool {
        self.forget_old(now, MAX_REMEMBERED);
        self.ids.contains(id)
    }

    fn forget_old(&mut self, now: Instant, room: usize) {
        while let Some((ended, id)) = self.by_age.front()
            && (*ended + REMEMBERED <= now || self.by_age.len() > room)
        {
            self.ids.remove(id);
            self.by_age.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use thinpipe_proto::session::NodeId;

    use super::*;

    fn id(number: u64) -> ExchangeId {
        ExchangeId {
            asker: NodeId::from_random([1; 12]),
            number,
        }
    }

    /// 5.8.2: what is over is known for a while, and as many as there is room for.
    #[test]
    fn what_is_over_is_remembered_for_a_while() {
        let (mut over, start) = (Over::default(), Instant::now());
        over.add(id(0), start);
        let later = start + REMEMBERED / 2;
        for number in 1..MAX_REMEMBERED as u64 {
            over.add(id(number), later);
        }
        assert!(over.has(&id(0), later), "there is room for all of them");
        over.add(id(MAX_REMEMBERED as u64), later);
        assert!(!over.has(&id(0), later), "the oldest goes first");
        assert!(over.has(&id(1), later));
        let late = later + REMEMBERED;
        assert!(!over.has(&id(1), late));
        assert_eq!((over.ids.len(), over.by_age.len()), (0, 0));
    }
}
