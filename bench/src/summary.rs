//! Medians and ratios over the rounds.

use std::collections::BTreeMap;

use crate::run::measure::Metrics;
use crate::run::target::Target;

/// All good runs, and the number of the bad ones.
#[derive(Default)]
pub(crate) struct Summary {
    runs: BTreeMap<Key, BTreeMap<usize, Metrics>>,
    discarded: BTreeMap<Key, usize>,
}

type Key = (&'static str, Target);

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) rounds: usize,
}

impl Summary {
    pub(crate) fn add(&mut self, set: &'static str, target: Target, round: usize, run: Metrics) {
        self.runs
            .entry((set, target))
            .or_default()
            .insert(round, run);
    }

    pub(crate) fn discard(&mut self, set: &'static str, target: Target) {
        *self.discarded.entry((set, target)).or_default() += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Runs thrown away.
    pub(crate) fn discarded(&self, set: &'static str, target: Target) -> usize {
        self.discarded.get(&(set, target)).copied().unwrap_or(0)
    }

    /// One metric over all rounds that have it.
    pub(crate) fn value(&self, set: &'static str, target: Target, metric: &str) -> Option<Value> {
        let rounds: Vec<f64> = self.series(set, target, metric).into_values().collect();
        Value::new(median(&rounds)?, &rounds)
    }

    /// The ratio of two targets' medians; its spread is that of the ratios within each round.
    pub(crate) fn ratio(
        &self,
        set: &'static str,
        target: Target,
        against: Target,
        metric: &str,
    ) -> Option<Value> {
        self.pairs(set, target, against, metric, |one, other| one / other)
    }

    /// As [`Summary::ratio`], one less the other.
    pub(crate) fn difference(
        &self,
        set: &'static str,
        target: Target,
        against: Target,
        metric: &str,
    ) -> Option<Value> {
        self.pairs(set, target, against, metric, |one, other| one - other)
    }

    fn pairs(
        &self,
        set: &'static str,
        target: Target,
        against: Target,
        metric: &str,
        combine: impl Fn(f64, f64) -> f64,
    ) -> Option<Value> {
        let one = self.value(set, target, metric)?.median;
        let other = self.value(set, against, metric)?.median;
        let others = self.series(set, against, metric);
        let rounds: Vec<f64> = self
            .series(set, target, metric)
            .into_iter()
            .filter_map(|(round, value)| Some(combine(value, *others.get(&round)?)))
            .collect();
        Value::new(combine(one, other), &rounds)
    }

    fn series(&self, set: &'static str, target: Target, metric: &str) -> BTreeMap<usize, f64> {
        let runs = self.runs.get(&(set, target)).into_iter().flatten();
        runs.filter_map(|(round, metrics)| Some((*round, *metrics.get(metric)?)))
            .collect()
    }
}

impl Value {
    fn new(median: f64, rounds: &[f64]) -> Option<Self> {
        let low = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let high = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let found = median.is_finite() && !rounds.is_empty();
        found.then_some(Self {
            median,
            low,
            high,
            rounds: rounds.len(),
        })
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(rows: &[(Target, usize, f64)]) -> Summary {
        let mut summary = Summary::default();
        for (target, round, value) in rows {
            let run = Metrics::from([("cpu_us".to_owned(), *value)]);
            summary.add("json", *target, *round, run);
        }
        summary
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn a_ratio_is_of_medians_and_its_spread_of_rounds() {
        let (pass, nginx) = (Target::Pass, Target::Nginx);
        let rows = [(pass, 1, 10.0), (pass, 2, 12.0), (pass, 3, 30.0)];
        let summary = summary(&[rows.as_slice(), &[(nginx, 1, 10.0), (nginx, 3, 20.0)]].concat());
        let ratio = summary.ratio("json", pass, nginx, "cpu_us").unwrap();
        assert_eq!(
            ratio,
            Value {
                median: 0.8,
                low: 1.0,
                high: 1.5,
                rounds: 2
            }
        );
        let difference = summary.difference("json", pass, nginx, "cpu_us").unwrap();
        assert_eq!((difference.median, difference.high), (-3.0, 10.0));
    }

    #[test]
    fn nothing_is_made_of_what_was_not_measured() {
        let summary = summary(&[(Target::Pass, 1, 10.0), (Target::Floor, 1, 0.0)]);
        assert_eq!(
            summary.ratio("json", Target::Pass, Target::Nginx, "cpu_us"),
            None
        );
        assert_eq!(
            summary.ratio("json", Target::Pass, Target::Floor, "cpu_us"),
            None
        );
        assert_eq!(summary.value("json", Target::Pass, "p50"), None);
    }
}
