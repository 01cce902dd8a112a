//! Choosing one of those that may be asked.

use super::replica::Replica;

/// How a replica is chosen. Weights count in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// In turn, and evenly mixed: with weights 2 and 1, `a b a`, not `a a b`.
    #[default]
    RoundRobin,
    /// Where least is running, for its weight; in turn where as much is.
    LeastConnections,
    /// Of two drawn by chance, where less is running for its weight: nearly as even as asking all, without all
    /// requests of a moment going to the same place.
    PowerOfTwo,
    /// By chance.
    Random,
}

/// One that may be asked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) weight: u64,
    pub(super) load: usize,
}

impl Candidate {
    /// Whether less runs here than there, each measured by its weight.
    fn is_freer_than(&self, other: &Self) -> bool {
        let product = |load: usize, weight: u64| load as u128 * u128::from(weight);
        product(self.load, other.weight) < product(other.load, self.weight)
    }
}

impl Strategy {
    /// The number of the chosen replica; `None`: there is no candidate.
    pub(super) fn choose(
        self,
        candidates: &[Candidate],
        replicas: &mut [Replica],
        random: u64,
    ) -> Option<usize> {
        let (first, second) = ((random >> 32) as u32, random as u32);
        match self {
            Self::RoundRobin => in_turn(candidates.iter(), replicas),
            Self::LeastConnections => {
                let least =
                    candidates
                        .iter()
                        .reduce(|least, it| match it.is_freer_than(least) {
                            true => it,
                            false => least,
                        })?;
                // Equal is who is not busier than the least busy one.
                let equal = candidates.iter().filter(|it| !least.is_freer_than(it));
                in_turn(equal, replicas)
            }
            Self::PowerOfTwo => {
                let one = drawn(candidates, first, usize::MAX)?;
                let Some(other) = drawn(candidates, second, one.index) else {
                    return Some(one.index);
                };
                Some(if other.is_freer_than(one) { other } else { one }.index)
            }
            Self::Random => drawn(candidates, first, usize::MAX).map(|it| it.index),
        }
    }
}

/// Smooth weighted round robin: each is given its weight, and whoever has most pays what all were given.
fn in_turn<'a>(
    candidates: impl Iterator<Item = &'a Candidate>,
    replicas: &mut [Replica],
) -> Option<usize> {
    let (mut total, mut chosen): (i64, Option<usize>) = (0, None);
    for candidate in candidates {
        let weight = i64::try_from(candidate.weight).unwrap_or(i64::MAX);
        total = total.saturating_add(weight);
        let credit = replicas[candidate.index].credit.saturating_add(weight);
        replicas[candidate.index].credit = credit;
        if chosen.is_none_or(|best| credit > replicas[best].credit) {
            chosen = Some(candidate.index);
        }
    }
    let chosen = chosen?;
    let credit = &mut replicas[chosen].credit;
    *credit = credit.saturating_sub(total);
    Some(chosen)
}

/// One by chance and weight, other than that of this number.
fn drawn(candidates: &[Candidate], random: u32, but: usize) -> Option<&Candidate> {
    let others = || candidates.iter().filter(move |it| it.index != but);
    let total: u64 = others().map(|it| it.weight).sum();
    // As large a part of the whole as `random` is of its range. At most 64 x 1000 x 1000 x 2^32: it fits.
    let mut place = (total * u64::from(random)) >> 32;
    others().find(|it| match place.checked_sub(it.weight) {
        Some(rest) => {
            place = rest;
            false
        }
        None => true,
    })
}
