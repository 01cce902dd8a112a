//! The figures Thinpipe has to reach, and whether it does.

mod bridges;
mod nodes;
mod servers;

use crate::run::set::Page;
use crate::run::target::Target;
use crate::summary::{Summary, Value};

/// The figures of a page.
pub(crate) fn figures(page: Page) -> &'static [Figure] {
    match page {
        Page::Gateway => FIGURES,
        Page::Servers => servers::FIGURES,
        Page::Bridges => bridges::FIGURES,
        Page::Nodes => nodes::FIGURES,
    }
}

/// One figure with its limits: upper ones, but for one that [`is_least`](Self::is_least).
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    set: &'static str,
    target: Target,
    metric: &'static str,
    against: Against,
    pub(crate) must: f64,
    pub(crate) aim: Option<f64>,
    /// The more, the better.
    pub(crate) is_least: bool,
}

#[derive(Clone, Copy)]
enum Against {
    Nothing,
    RatioTo(Target),
    Beyond(Target),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    AimMet,
    MustMet,
    Missed,
    NotMeasured,
}

impl Figure {
    pub(crate) fn value(&self, summary: &Summary) -> Option<Value> {
        let Self {
            set,
            target,
            metric,
            ..
        } = *self;
        match self.against {
            Against::Nothing => summary.value(set, target, metric),
            Against::RatioTo(other) => summary.ratio(set, target, other, metric),
            Against::Beyond(other) => summary.difference(set, target, other, metric),
        }
    }

    pub(crate) fn verdict(&self, value: Option<Value>) -> Verdict {
        let misses = |value: Value, limit: f64| {
            if self.is_least {
                value.median < limit
            } else {
                value.median > limit
            }
        };
        match value {
            None => Verdict::NotMeasured,
            Some(value) if misses(value, self.must) => Verdict::Missed,
            Some(value) if self.aim.is_some_and(|aim| misses(value, aim)) => Verdict::MustMet,
            Some(_) if self.aim.is_none() => Verdict::MustMet,
            Some(_) => Verdict::AimMet,
        }
    }
}

impl Verdict {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::AimMet => "aim met",
            Self::MustMet => "met",
            Self::Missed => "**missed**",
            Self::NotMeasured => "not measured",
        }
    }
}

const fn ratio(
    what: &'static str,
    (set, metric): (&'static str, &'static str),
    targets: (Target, Target),
    must: f64,
    aim: f64,
) -> Figure {
    let mut figure = ratio_at_most(what, (set, metric), targets, must);
    figure.aim = Some(aim);
    figure
}

/// The same without an aim.
const fn ratio_at_most(
    what: &'static str,
    (set, metric): (&'static str, &'static str),
    (target, against): (Target, Target),
    must: f64,
) -> Figure {
    let mut figure = at_most(what, "x", (set, metric), target, must);
    figure.against = Against::RatioTo(against);
    figure
}

const fn at_most(
    what: &'static str,
    unit: &'static str,
    (set, metric): (&'static str, &'static str),
    target: Target,
    must: f64,
) -> Figure {
    plain(what, unit, (set, metric), target, must, None)
}

/// So many a second, or more.
const fn rate_at_least(
    what: &'static str,
    (set, metric): (&'static str, &'static str),
    target: Target,
    must: f64,
) -> Figure {
    let mut figure = at_most(what, "a second", (set, metric), target, must);
    figure.is_least = true;
    figure
}

const fn plain(
    what: &'static str,
    unit: &'static str,
    (set, metric): (&'static str, &'static str),
    target: Target,
    must: f64,
    aim: Option<f64>,
) -> Figure {
    Figure {
        what,
        unit,
        set,
        target,
        metric,
        against: Against::Nothing,
        must,
        aim,
        is_least: false,
    }
}

const PASS: Target = Target::Pass;
const INSPECT: Target = Target::Inspect(3);

const FIGURES: &[Figure] = &[
    ratio(
        "pass, JSON: CPU per request, against nginx",
        ("json", "cpu_us"),
        (PASS, Target::Nginx),
        1.2,
        1.05,
    ),
    ratio(
        "inspect, JSON, three interceptors: CPU per request, against pass",
        ("json", "cpu_us"),
        (INSPECT, PASS),
        1.25,
        1.1,
    ),
    ratio(
        "pass, SSE, small events flat out: CPU per event, against the hyper floor",
        ("sse", "cpu_us"),
        (PASS, Target::Floor),
        0.6,
        0.3,
    ),
    ratio(
        "pass, SSE, 4 KiB events: CPU per event, against nginx",
        ("bulk", "cpu_us"),
        (PASS, Target::Nginx),
        1.1,
        0.6,
    ),
    ratio(
        "pass, SSE, 32 streams of 300 events/s: CPU per event, against nginx",
        ("paced", "cpu_us"),
        (PASS, Target::Nginx),
        1.15,
        1.0,
    ),
    ratio(
        "pass, SSE, 32 streams of 300 events/s: median age of an event on arrival, against nginx",
        ("paced", "age_p50_us"),
        (PASS, Target::Nginx),
        1.2,
        0.8,
    ),
    ratio(
        "inspect, SSE, three interceptors, small events flat out: CPU per event, against pass",
        ("sse", "cpu_us"),
        (INSPECT, PASS),
        1.5,
        1.2,
    ),
    plain(
        "inspect, SSE, three interceptors, small events flat out: CPU per event",
        "us",
        ("sse", "cpu_us"),
        INSPECT,
        5.0,
        None,
    ),
    plain(
        "pass: RSS per idle stream (both sockets) at 9,500 streams",
        "KiB",
        ("idle9500", "kib_per_stream"),
        PASS,
        12.0,
        Some(6.0),
    ),
    plain(
        "pass: RSS growth for a stalled reader",
        "KiB",
        ("slow", "growth_kib_per_stream"),
        PASS,
        64.0,
        Some(32.0),
    ),
    plain(
        "pass: start to first answer",
        "ms",
        ("start", "first_answer_ms"),
        PASS,
        50.0,
        Some(20.0),
    ),
    plain(
        "pass: RSS at rest",
        "MiB",
        ("start", "rest_mib"),
        PASS,
        12.0,
        Some(6.0),
    ),
    plain(
        "size of the stripped binary",
        "MiB",
        ("start", "binary_mib"),
        PASS,
        12.0,
        Some(8.0),
    ),
    Figure {
        what: "pass, JSON, open loop: p95 beyond that of a direct call",
        unit: "us",
        set: "open",
        target: PASS,
        metric: "latency_p95_us",
        against: Against::Beyond(Target::Direct),
        must: 5_000.0,
        aim: Some(1_000.0),
        is_least: false,
    },
    plain(
        "ten interceptors, 10,000 events/s: RSS",
        "MiB",
        ("chain", "rss_mib"),
        Target::Inspect(10),
        100.0,
        None,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::measure::Metrics;
    use crate::run::set;

    fn value(median: f64) -> Option<Value> {
        Some(Value {
            median,
            low: median,
            high: median,
            rounds: 1,
        })
    }

    #[test]
    fn limits_are_inclusive() {
        let figure = ratio("", ("json", "cpu_us"), (PASS, Target::Nginx), 1.2, 1.05);
        let verdicts = [1.05, 1.051, 1.2, 1.201].map(|median| figure.verdict(value(median)));
        assert_eq!(
            verdicts,
            [
                Verdict::AimMet,
                Verdict::MustMet,
                Verdict::MustMet,
                Verdict::Missed
            ]
        );
        assert_eq!(figure.verdict(None), Verdict::NotMeasured);
    }

    #[test]
    fn a_figure_without_an_aim_is_met_or_missed() {
        let figure = plain("", "us", ("sse", "cpu_us"), INSPECT, 5.0, None);
        assert_eq!(figure.verdict(value(4.0)), Verdict::MustMet);
        assert_eq!(figure.verdict(value(5.5)), Verdict::Missed);
    }

    #[test]
    fn a_rate_is_to_be_reached() {
        let mut figure = plain("", "", ("library", "per_second"), PASS, 10.0, None);
        figure.is_least = true;
        assert_eq!(figure.verdict(value(10.0)), Verdict::MustMet);
        assert_eq!(figure.verdict(value(9.9)), Verdict::Missed);
    }

    #[test]
    fn a_ratio_is_judged_from_the_runs() {
        let mut summary = Summary::default();
        for (target, cpu) in [(PASS, 11.0), (Target::Nginx, 10.0)] {
            summary.add(
                "json",
                target,
                1,
                Metrics::from([("cpu_us".to_owned(), cpu)]),
            );
        }
        let figure = &FIGURES[0];
        assert_eq!(figure.verdict(figure.value(&summary)), Verdict::MustMet);
    }

    #[test]
    fn every_figure_comes_from_a_set_that_measures_its_targets() {
        let sets = set::all(set::Choices::default());
        for figure in FIGURES
            .iter()
            .chain(servers::FIGURES)
            .chain(bridges::FIGURES)
            .chain(nodes::FIGURES)
        {
            let set = sets
                .iter()
                .find(|set| set.name == figure.set)
                .expect(figure.set);
            let mut targets = vec![figure.target];
            if let Against::RatioTo(other) | Against::Beyond(other) = figure.against {
                targets.push(other);
            }
            assert!(
                targets.iter().all(|target| set.targets.contains(target)),
                "{}",
                figure.what
            );
        }
    }
}
