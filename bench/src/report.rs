//! The figures as Markdown.

pub(crate) mod http_sse;
mod nodes;

use std::fmt::Write;

use crate::figures::figures;
use crate::run::measure::{ENOUGH_TICKS, Metrics};
use crate::run::set::{Drive, Page, Set, Work};
use crate::run::target::Target;
use crate::summary::{Summary, Value};

/// A whole page: the figures that are judged, then a table for each set.
pub(crate) fn markdown(
    summary: &Summary,
    page: Page,
    sets: &[&Set],
    command: &str,
    machine: &str,
) -> String {
    let (title, whose) = match page {
        Page::Gateway => ("Figures", "the proxy's"),
        Page::Servers => (
            "Figures: servers, HTTP+SSE, stdio",
            "the server's or gateway's",
        ),
        Page::Bridges => ("Figures: bridges", "the gateway's"),
        Page::Nodes => ("Figures: several gateways", "the gateway's"),
    };
    let mut text = format!(
        "# {title}\n\nMeasured by `{command}` on {machine}. Every figure is a median over its \
         rounds, with the lowest and the highest in brackets and the number of rounds; a ratio is \
         that of two medians, and its spread that of the ratios within each round. CPU is user \
         and system time of {whose} process and its children. `others` is the number of cores \
         that other programs kept busy meanwhile: above 0.3, distrust rates and latencies.\n\n"
    );
    if page == Page::Nodes {
        text.push_str(nodes::NOTE);
    }
    judged(&mut text, summary, page);
    for set in sets {
        table(&mut text, summary, set);
    }
    text
}

/// One run in one line, for whoever waits.
pub(crate) fn line(metrics: &Metrics) -> String {
    let pairs: Vec<String> = metrics
        .iter()
        .map(|(name, value)| format!("{name}={}", number(*value)))
        .collect();
    pairs.join(" ")
}

fn judged(text: &mut String, summary: &Summary, page: Page) {
    text.push_str("| figure | measured | must | aim | verdict |\n|---|---|---|---|---|\n");
    for figure in figures(page) {
        let value = figure.value(summary);
        let verdict = figure.verdict(value).text();
        let measured = value.map_or_else(|| "–".to_owned(), |value| spread(value, figure.unit));
        let aim = figure
            .aim
            .map_or_else(|| "–".to_owned(), |aim| limit(aim, figure.unit));
        let least = if figure.is_least { "at least " } else { "" };
        let must = format!("{least}{}", limit(figure.must, figure.unit));
        let what = figure.what;
        row(text, &[what, &measured, &must, &aim, verdict]);
    }
}

fn table(page: &mut String, summary: &Summary, set: &Set) {
    let columns = columns(set);
    let against: Vec<_> = against(set)
        .iter()
        .filter(|(_, _, other)| set.targets.contains(other))
        .collect();
    let Set { name, about, .. } = set;
    if set
        .targets
        .iter()
        .all(|target| measured(summary, set, *target).is_none())
    {
        return;
    }
    let _ = writeln!(page, "\n## {name}\n\n{about}.\n");
    let mut heads = vec!["target".to_owned()];
    heads.extend(columns.iter().map(|column| column.title.to_owned()));
    heads.extend(
        against
            .iter()
            .map(|(_, title, other)| format!("{title} / {other}")),
    );
    heads.push("discarded".to_owned());
    row(page, &heads);
    row(page, &vec!["---"; heads.len()]);
    let mut few = false;
    for target in set.targets {
        let Some(ticks) = measured(summary, set, *target) else {
            continue;
        };
        few |= ticks < 100.0;
        let mut cells = vec![target.to_string()];
        cells.extend(
            columns
                .iter()
                .map(|column| column.cell(summary, set, *target)),
        );
        for (metric, _, other) in &against {
            let ratio = summary.ratio(set.name, *target, *other, metric);
            cells.push(ratio.map_or_else(|| "–".to_owned(), |ratio| spread(ratio, "x")));
        }
        cells.push(summary.discarded(set.name, *target).to_string());
        row(page, &cells);
    }
    if few {
        let _ = writeln!(
            page,
            "\nSome runs used less than a second of CPU: their figures are rough."
        );
    }
}

/// `None` if there is nothing to show for a target, else the fewest ticks of CPU of its runs.
fn measured(summary: &Summary, set: &Set, target: Target) -> Option<f64> {
    let ticks = summary
        .value(set.name, target, "ticks")
        .map(|ticks| ticks.low);
    let column = columns(set)
        .iter()
        .find_map(|column| summary.value(set.name, target, column.metric));
    let seen = column.is_some() || summary.discarded(set.name, target) > 0;
    seen.then(|| ticks.unwrap_or(ENOUGH_TICKS as f64))
}

/// One column of a set's table.
struct Column {
    title: &'static str,
    metric: &'static str,
    scale: f64,
}

impl Column {
    fn cell(&self, summary: &Summary, set: &Set, target: Target) -> String {
        summary.value(set.name, target, self.metric).map_or_else(
            || "–".to_owned(),
            |value| {
                let Value {
                    median,
                    low,
                    high,
                    rounds,
                } = value;
                let scale = self.scale;
                let scaled = Value {
                    median: median * scale,
                    low: low * scale,
                    high: high * scale,
                    rounds,
                };
                spread(scaled, "")
            },
        )
    }
}

const fn column(title: &'static str, metric: &'static str) -> Column {
    Column {
        title,
        metric,
        scale: 1.0,
    }
}

fn columns(set: &Set) -> &'static [Column] {
    match &set.work {
        Work::Load(_) if set.targets.contains(&Target::Stdio) => STDIO,
        Work::Load(load) if set.page == Page::Nodes => nodes::load(load),
        Work::Load(load) => match load.drive {
            Drive::Stream if load.call.rate > 0.0 => PACED,
            Drive::Stream => FLAT_OUT,
            Drive::Closed | Drive::Open { .. } => CALLS,
        },
        Work::Idle { .. } => IDLE,
        Work::Stalled { .. } => STALLED,
        Work::Parked { .. } => PARKED,
        Work::Start => START,
        Work::Connections { .. } => CONNECTIONS,
        Work::Cycles { .. } => CYCLES,
        Work::Nodes(work) => nodes::columns(*work),
    }
}

/// The ratios of a set's table: a metric, what it is called, and whose it is divided by. Left out are those to
/// a target that the set does not have.
fn against(set: &Set) -> &'static [(&'static str, &'static str, Target)] {
    match &set.work {
        Work::Load(_) if set.page == Page::Nodes => nodes::AGAINST,
        Work::Load(load) => match load.drive {
            Drive::Stream if load.call.rate > 0.0 => &[
                ("cpu_us", "CPU", Target::Nginx),
                ("cpu_us", "CPU", Target::Floor),
                ("cpu_us", "CPU", Target::Pass),
                ("age_p50_us", "p50", Target::Nginx),
                ("age_p50_us", "p50", Target::Direct),
            ],
            Drive::Open { .. } => &[
                ("cpu_us", "CPU", Target::Nginx),
                ("cpu_us", "CPU", Target::Floor),
                ("latency_p95_us", "p95", Target::Direct),
                ("latency_p99_us", "p99", Target::Nginx),
            ],
            Drive::Closed | Drive::Stream => &[
                ("cpu_us", "CPU", Target::Nginx),
                ("cpu_us", "CPU", Target::Floor),
                ("cpu_us", "CPU", Target::Pass),
                ("cpu_us", "CPU", Target::Bare),
                ("cpu_us", "CPU", Target::Library),
                ("latency_p99_us", "p99", Target::Library),
                ("per_second", "rate", Target::Direct),
                ("per_second", "rate", Target::Bare),
                ("per_second", "rate", Target::Library),
            ],
        },
        Work::Idle { .. } => &[
            ("kib_per_stream", "RSS", Target::Nginx),
            ("kib_per_stream", "RSS", Target::Floor),
        ],
        Work::Connections { .. } => &[
            ("kib_per_client", "RSS", Target::Bare),
            ("kib_per_client", "RSS", Target::Library),
        ],
        Work::Stalled { .. }
        | Work::Parked { .. }
        | Work::Start
        | Work::Cycles { .. }
        | Work::Nodes(_) => &[],
    }
}

const CALLS: &[Column] = &[
    column("requests/s", "per_second"),
    column("p50 us", "latency_p50_us"),
    column("p95 us", "latency_p95_us"),
    column("p99 us", "latency_p99_us"),
    column("p99.9 us", "latency_p99.9_us"),
    column("CPU us/request", "cpu_us"),
    Column {
        title: "CPU s/100k requests",
        metric: "cpu_us",
        scale: 0.1,
    },
    column("RSS MiB", "rss_mib"),
    column("handshakes", "handshakes"),
    column("others", "other_cores"),
];
const FLAT_OUT: &[Column] = &[
    column("events/s", "per_second"),
    column("CPU us/event", "cpu_us"),
    column("CPU s/million events", "cpu_us"),
    column("RSS MiB", "rss_mib"),
    column("others", "other_cores"),
];
const PACED: &[Column] = &[
    column("events/s", "per_second"),
    column("age p50 us", "age_p50_us"),
    column("age p99 us", "age_p99_us"),
    column("age p99.9 us", "age_p99.9_us"),
    column("CPU us/event", "cpu_us"),
    column("CPU s/million events", "cpu_us"),
    column("RSS MiB", "rss_mib"),
    column("others", "other_cores"),
];
const IDLE: &[Column] = &[
    column("RSS KiB/stream", "kib_per_stream"),
    column("of it anonymous", "anonymous_kib_per_stream"),
    column("RSS before, MiB", "rss_before_mib"),
    column("descriptors", "descriptors"),
    column("opening all, s", "opened_s"),
    column("CPU % held", "idle_cpu_percent"),
];
const STALLED: &[Column] = &[
    column("RSS growth, KiB/stream", "growth_kib_per_stream"),
    column("upstream wrote, KiB/stream", "written_kib_per_stream"),
    column("of it in the last half", "written_late_kib_per_stream"),
];
const PARKED: &[Column] = &[
    column("RSS KiB/call", "kib_per_call"),
    column("RSS before, MiB", "rss_before_mib"),
    column("descriptors", "descriptors"),
    column("parking all, s", "parked_s"),
];
const START: &[Column] = &[
    column("first answer, ms", "first_answer_ms"),
    column("RSS at rest, MiB", "rest_mib"),
    column("binary, MiB", "binary_mib"),
];
const STDIO: &[Column] = &[
    column("calls/s", "per_second"),
    column("p50 us", "latency_p50_us"),
    column("p95 us", "latency_p95_us"),
    column("p99 us", "latency_p99_us"),
    column("CPU us/call, gateway alone", "alone_us"),
    column("with its servers", "cpu_us"),
    column("RSS MiB, with its servers", "rss_mib"),
    column("others", "other_cores"),
];
const CONNECTIONS: &[Column] = &[
    column("RSS MiB", "rss_mib"),
    column("RSS KiB/client", "kib_per_client"),
    column("sockets/client", "sockets_per_client"),
    column("RSS before, MiB", "rss_before_mib"),
    column("opening all, s", "opened_s"),
    column("answering all once more, s", "answered_s"),
];
const CYCLES: &[Column] = &[
    column("clients/s", "per_second"),
    column("descriptors left", "descriptors_left"),
    column("tasks left", "tasks_left"),
    column("sessions left", "sessions_left"),
    column("streams left", "streams_left"),
    column("connections left", "connections_left"),
    column("RSS growth, KiB", "growth_kib"),
    column("RSS MiB", "rss_mib"),
];

fn row(page: &mut String, cells: &[impl AsRef<str>]) {
    for cell in cells {
        let _ = write!(page, "| {} ", cell.as_ref());
    }
    page.push_str("|\n");
}

fn limit(value: f64, unit: &str) -> String {
    if unit == "x" {
        format!("{value}x")
    } else {
        format!("{value} {unit}")
    }
}

fn spread(value: Value, unit: &str) -> String {
    let Value {
        median,
        low,
        high,
        rounds,
    } = value;
    let median = match unit {
        "x" => format!("{median:.2}x"),
        "" => number(median),
        unit => format!("{} {unit}", number(median)),
    };
    match (unit, rounds) {
        ("x", _) => format!("{median} ({low:.2}–{high:.2}, n={rounds})"),
        _ => format!("{median} ({}–{}, n={rounds})", number(low), number(high)),
    }
}

/// Three digits that count, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::set;

    #[test]
    fn the_page_shows_every_figure_and_what_was_thrown_away() {
        let sets = set::all(set::Choices::default());
        let mut summary = Summary::default();
        let run = Metrics::from([("cpu_us".to_owned(), 10.0), ("ticks".to_owned(), 40.0)]);
        summary.add("json", Target::Nginx, 1, run);
        summary.discard("json", Target::Floor);
        let shown: Vec<_> = sets.iter().collect();
        let page = markdown(&summary, Page::Gateway, &shown, "bench", "here");
        for figure in figures(Page::Gateway) {
            assert!(page.contains(figure.what), "{}", figure.what);
        }
        assert!(page.contains("| nginx | – | – | – | – | – | 10.0 (10.0–10.0, n=1) | 1.00"));
        let floor = page
            .lines()
            .find(|line| line.starts_with("| floor"))
            .unwrap();
        assert!(floor.trim_end().ends_with("| 1 |"));
        assert!(page.contains("their figures are rough"));
    }
}
