//! Whether a run is worse than a recorded one (J8).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::run::measure::Metrics;
use crate::run::set::Set;
use crate::run::target::Target;
use crate::summary::{Summary, Value};

/// A line of a recorded run.
#[derive(Deserialize)]
struct Line {
    set: Option<String>,
    target: Option<String>,
    round: Option<usize>,
    metrics: Option<Metrics>,
}

/// What must not become worse, and by how much it may.
struct Rule {
    metric: &'static str,
    worse: Worse,
    limit: f64,
    /// Compared is the ratio to the set's first target, so that the machine does not count.
    is_ratio: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Worse {
    More,
    Less,
}

/// Reads the runs of these sets from a `figures*.jsonl`; others are left out.
pub(crate) fn read(file: &Path, sets: &[Set]) -> Result<Summary> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("{name} cannot be read"))?;
    let mut recorded = Summary::default();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("in {name}"))?;
        let (Some(set), Some(target), Some(round), Some(metrics)) =
            (line.set, line.target, line.round, line.metrics)
        else {
            continue;
        };
        let Some(set) = sets.iter().find(|known| known.name == set) else {
            continue;
        };
        let known = set.targets.iter().find(|known| known.to_string() == target);
        if let Some(target) = known {
            recorded.add(set.name, *target, round, metrics);
        }
    }
    ensure!(!recorded.is_empty(), "{name} has nothing of these sets");
    Ok(recorded)
}

/// # Errors
/// Something has become worse than `recorded` by more than a rule allows, and by more than its rounds differ; the
/// message has a line for each.
pub(crate) fn compare(now: &Summary, recorded: &Summary, sets: &[Set]) -> Result<()> {
    let (mut compared, mut worse) = (0, Vec::new());
    for set in sets {
        for target in set.targets {
            for rule in RULES {
                let values = (
                    rule.value(now, set, *target),
                    rule.value(recorded, set, *target),
                );
                let (Some(now), Some(then)) = values else {
                    continue;
                };
                compared += 1;
                if rule.is_broken(now, then) {
                    worse.push(rule.text(set, *target, (now, then)));
                }
            }
        }
    }
    ensure!(compared > 0, "nothing was measured that was recorded");
    if worse.is_empty() {
        eprintln!("none of {compared} figures is worse than recorded");
        return Ok(());
    }
    bail!("worse than recorded:\n{}", worse.join("\n"))
}

impl Rule {
    fn value(&self, summary: &Summary, set: &Set, target: Target) -> Option<Value> {
        if !self.is_ratio {
            return summary.value(set.name, target, self.metric);
        }
        let first = *set.targets.first()?;
        let other = Some(first).filter(|first| *first != target)?;
        summary.ratio(set.name, target, other, self.metric)
    }

    /// Beyond the limit, and no round is as good as the worst of the others.
    fn is_broken(&self, now: Value, then: Value) -> bool {
        match self.worse {
            Worse::More => now.median > then.median * (1.0 + self.limit) && now.low > then.high,
            Worse::Less => now.median < then.median * (1.0 - self.limit) && now.high < then.low,
        }
    }

    fn text(&self, set: &Set, target: Target, (now, then): (Value, Value)) -> String {
        let of = |value: Value| format!("{:.2} ({:.2}–{:.2})", value.median, value.low, value.high);
        let (set, metric) = (set.name, self.metric);
        let (then, now) = (of(then), of(now));
        format!("{set}, {target}, {metric}: {then} was recorded, now {now}")
    }
}

const fn rule(metric: &'static str, worse: Worse, limit: f64, is_ratio: bool) -> Rule {
    Rule {
        metric,
        worse,
        limit,
        is_ratio,
    }
}

const RULES: &[Rule] = &[
    rule("latency_p95_us", Worse::More, 0.05, true),
    rule("per_second", Worse::Less, 0.05, true),
    rule("rss_mib", Worse::More, 0.1, false),
    rule("kib_per_stream", Worse::More, 0.1, false),
    rule("kib_per_client", Worse::More, 0.1, false),
    rule("rss_kib_per_session", Worse::More, 0.1, false),
    rule("store_kib_per_session", Worse::More, 0.1, false),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::set::{self, Choices};

    fn summary(rounds: &[(Target, f64, f64)]) -> Summary {
        let mut summary = Summary::default();
        for (round, (target, rate, rss)) in rounds.iter().enumerate() {
            let metrics = [("per_second", *rate), ("rss_mib", *rss)];
            let metrics = metrics.map(|(name, value)| (name.to_owned(), value));
            summary.add("json", *target, round / 2, Metrics::from(metrics));
        }
        summary
    }

    fn verdict(rate: f64, rss: f64) -> Result<()> {
        let (direct, pass) = (Target::Direct, Target::Pass);
        let recorded = [(direct, 100.0, 1.0), (pass, 40.0, 10.0)];
        let recorded = [recorded, [(direct, 100.0, 1.0), (pass, 42.0, 10.4)]].concat();
        // Another machine, half as fast.
        let now = [(direct, 50.0, 1.0), (pass, rate / 2.0, rss)];
        let sets = set::all(Choices::default());
        compare(&summary(&now), &summary(&recorded), &sets)
    }

    /// J8: a rate is compared as a ratio, memory as it is.
    #[test]
    fn j8_what_became_worse_fails_and_noise_does_not() {
        verdict(39.0, 10.5).unwrap();
        verdict(80.0, 1.0).unwrap();
        let slow = verdict(38.0, 10.0).unwrap_err().to_string();
        assert!(slow.contains("json, pass, per_second"), "{slow}");
        assert!(!slow.contains("rss_mib"), "{slow}");
        let large = verdict(40.0, 11.5).unwrap_err().to_string();
        assert!(large.contains("json, pass, rss_mib"), "{large}");
    }

    /// J8: what was recorded is what is read.
    #[test]
    fn j8_a_recorded_run_is_read() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/figures.jsonl");
        let recorded = read(&file, &set::all(Choices::default())).unwrap();
        assert!(recorded.value("json", Target::Pass, "cpu_us").is_some());
        compare(&recorded, &recorded, &set::all(Choices::default())).unwrap();
    }
}
