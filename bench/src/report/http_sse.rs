//! What HTTP+SSE costs against Streamable HTTP, as the guide to leaving it tells it.

use super::spread;
use crate::run::target::Target;
use crate::summary::{Summary, Value};

/// The table, or `None` if nothing of it was measured. A row that was not measured is left out.
pub(crate) fn markdown(summary: &Summary, command: &str, machine: &str) -> Option<String> {
    let rows: Vec<String> = ROWS.iter().filter_map(|row| row.line(summary)).collect();
    if rows.is_empty() {
        return None;
    }
    let head = "|  | Streamable HTTP | HTTP+SSE | HTTP+SSE to Streamable HTTP |\n|---|---|---|---|";
    Some(format!(
        "A tool that answers 200 bytes, on one server of one thread that serves both; a call over HTTP+SSE \
         lasts from its POST until its event has arrived and the POST was answered.\n\n{head}\n{}\n\n\
         Measured by `{command}` on {machine}. Medians, with the lowest and the highest of n rounds; the \
         last column is the ratio of the two medians, with the lowest and the highest ratio within a round.\n",
        rows.join("\n")
    ))
}

/// One thing that both were asked for.
struct Row {
    what: &'static str,
    unit: &'static str,
    set: &'static str,
    metric: &'static str,
}

impl Row {
    fn line(&self, summary: &Summary) -> Option<String> {
        let value = |target| summary.value(self.set, target, self.metric);
        let streamable = self.cell(value(Target::Library)?);
        let http_sse = self.cell(value(Target::HttpSse)?);
        let ratio = summary.ratio(self.set, Target::HttpSse, Target::Library, self.metric)?;
        let (what, ratio) = (self.what, spread(ratio, "x"));
        Some(format!("| {what} | {streamable} | {http_sse} | {ratio} |"))
    }

    fn cell(&self, value: Value) -> String {
        spread(value, self.unit)
    }
}

const fn row(
    what: &'static str,
    unit: &'static str,
    set: &'static str,
    metric: &'static str,
) -> Row {
    Row {
        what,
        unit,
        set,
        metric,
    }
}

const ROWS: &[Row] = &[
    row(
        "the server's CPU for a call, 32 clients",
        "us",
        "library",
        "cpu_us",
    ),
    row("calls a second, 32 clients", "", "library", "per_second"),
    row(
        "99 of 100 calls take at most, 32 clients",
        "us",
        "library",
        "latency_p99_us",
    ),
    row(
        "half of all calls take at most, one client",
        "us",
        "single",
        "latency_p50_us",
    ),
    row(
        "the server's memory for a connected client, 1,000 of them",
        "KiB",
        "clients1000",
        "kib_per_client",
    ),
    row(
        "connections of a client",
        "",
        "clients1000",
        "sockets_per_client",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::measure::Metrics;
    use crate::run::set;

    /// A27, T10: measured, or not told.
    #[test]
    fn a27_only_what_was_measured_of_both_is_in_the_table() {
        let mut summary = Summary::default();
        assert_eq!(markdown(&summary, "bench", "here"), None);
        let mut add = |set, target, metric: &str, value| {
            summary.add(set, target, 1, Metrics::from([(metric.to_owned(), value)]));
        };
        add("library", Target::Library, "cpu_us", 10.0);
        add("library", Target::HttpSse, "cpu_us", 21.0);
        add("single", Target::HttpSse, "latency_p50_us", 50.0);
        let table = markdown(&summary, "bench", "here").unwrap();
        assert!(table.contains("| 10.0 us (10.0–10.0, n=1) | 21.0 us (21.0–21.0, n=1) | 2.10x"));
        assert!(!table.contains("50.0"), "{table}");
        assert!(table.contains("`bench` on here"));
    }

    #[test]
    fn every_row_comes_from_a_set_that_measures_both() {
        let sets = set::all(set::Choices::default());
        for row in ROWS {
            let set = sets.iter().find(|set| set.name == row.set).unwrap();
            for target in [Target::Library, Target::HttpSse] {
                assert!(set.targets.contains(&target), "{}", row.what);
            }
        }
    }
}
