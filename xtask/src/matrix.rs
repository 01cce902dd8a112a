//! The matrix of clients and servers in the chapter on bridging: which rows of which pairs work, as the tests
//! of this tree have found.

mod rows;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use crate::{Outcome, workspace};
use rows::{Row, Rows};

/// Runs the tests of all pairs, and writes what they found into the chapter.
///
/// # Errors
/// If tests and rows are not the same, or a test fails; the chapter says so then too.
pub(crate) fn run() -> Outcome {
    let rows = Rows::read()?;
    let results = results()?;
    let named: Vec<String> = rows.tests().collect();
    let unnamed = results.keys().filter(|test| !named.contains(test));
    let missing = named.iter().filter(|test| !results.contains_key(*test));
    let parted: Vec<&String> = unnamed.chain(missing).collect();
    if !parted.is_empty() {
        return Err(format!("not both a row and a test that has run: {parted:?}").into());
    }
    let path = workspace::root().join(CHAPTER);
    let chapter = fs::read_to_string(&path)?;
    let table = table(&rows, |test| results.get(test) == Some(&true));
    fs::write(&path, replaced(&chapter, &table).ok_or(NO_MARKERS)?)?;
    let failed: Vec<_> = results.iter().filter(|(_, passed)| !**passed).collect();
    println!(
        "{CHAPTER}: {} tests, {} failed",
        results.len(),
        failed.len()
    );
    if failed.is_empty() {
        return Ok(());
    }
    let failed = failed.iter().map(|(test, _)| format!("\n  {test}"));
    Err(format!("tests of the matrix fail:{}", failed.collect::<String>()).into())
}

/// Whether the chapter has the rows that the tests have, each of them passed.
pub(crate) fn offence() -> Outcome<Option<String>> {
    let rows = Rows::read()?;
    let chapter = fs::read_to_string(workspace::root().join(CHAPTER))?;
    let Some(expected) = replaced(&chapter, &table(&rows, |_| true)) else {
        return Ok(Some(NO_MARKERS.to_owned()));
    };
    let same = expected == chapter;
    Ok((!same).then(|| format!("{CHAPTER} is not what the tests show: `cargo xtask matrix`")))
}

/// What became of each test of the bridging binary.
fn results() -> Outcome<BTreeMap<String, bool>> {
    let mut build = workspace::cargo();
    workspace::run(build.args(["build", "--package", "thinpipe-testkit", "--bins"]))?;
    let mut test = workspace::cargo();
    test.args(["test", "--package", "thinpipe", "--test", "bridging"]);
    let output = test.stderr(std::process::Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let results: BTreeMap<_, _> = text.lines().filter_map(result).collect();
    let summed = text.lines().any(|line| line.starts_with("test result: "));
    if !summed || results.is_empty() {
        return Err(format!("the tests have not run to their end: {text}").into());
    }
    Ok(results)
}

/// `test asking::r222_x::http_sse_to_stateless ... ok`
fn result(line: &str) -> Option<(String, bool)> {
    let (test, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    // `should_panic` and benchmarks do not occur here; an ignored test is one that does not pass.
    Some((test.to_owned(), verdict == "ok"))
}

/// The chapter with this between its markers; `None`: it has no markers.
fn replaced(chapter: &str, table: &str) -> Option<String> {
    let (before, rest) = chapter.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

fn table(rows: &Rows, passed: impl Fn(&str) -> bool) -> String {
    let mut text = summary(rows, &passed);
    for (title, prefixes) in GROUPS {
        let pairs: Vec<&str> = PAIRS
            .into_iter()
            .filter(|pair| prefixes.contains(pair))
            .collect();
        let of_group = rows.rows.iter().filter(|row| row.is_about(&pairs));
        let _ = write!(text, "\n**{title}**\n\n| what works | shown by |");
        for pair in &pairs {
            let _ = write!(text, " {} |", spoken(pair));
        }
        let _ = writeln!(text, "\n|---|---|{}", ":-:|".repeat(pairs.len()));
        for row in of_group {
            let _ = write!(text, "| {} | `{}` |", row.about, row.path());
            for pair in &pairs {
                let _ = write!(text, " {} |", cell(row, pair, &passed));
            }
            text.push('\n');
        }
    }
    text
}

/// How many rows of each pair there are, and how many work.
fn summary(rows: &Rows, passed: &impl Fn(&str) -> bool) -> String {
    let mut text = String::from("| client \u{2193} server \u{2192} |");
    for (_, server) in SERVERS {
        let _ = write!(text, " {server} |");
    }
    let _ = writeln!(text, "\n|---|{}", ":-:|".repeat(SERVERS.len()));
    for (client, name) in CLIENTS {
        let _ = write!(text, "| {name} |");
        for (server, _) in SERVERS {
            let pair = format!("{client}_to_{server}");
            let tests = rows.rows.iter().filter(|row| row.pairs.contains(&pair));
            let tests: Vec<String> = tests.map(|row| row.test(&pair)).collect();
            let work = tests.iter().filter(|test| passed(test)).count();
            let _ = write!(text, " {work} of {} |", tests.len());
        }
        text.push('\n');
    }
    text
}

fn cell(row: &Row, pair: &str, passed: &impl Fn(&str) -> bool) -> &'static str {
    if !row.pairs.iter().any(|other| other == pair) {
        // Nothing that there is between these two.
        return "\u{2013}";
    }
    if passed(&row.test(pair)) {
        "yes"
    } else {
        "**no**"
    }
}

/// `http_sse_to_stdio_legacy`, as it is said.
fn spoken(pair: &str) -> String {
    let (client, server) = pair.split_once("_to_").unwrap_or((pair, ""));
    let name = |names: &[(&str, &'static str)], wanted: &str| {
        let found = names.iter().find(|(name, _)| *name == wanted);
        found.map_or("", |(_, spoken)| *spoken)
    };
    format!(
        "{} \u{2192} {}",
        name(&CLIENTS, client),
        name(&SERVERS, server)
    )
}

const CLIENTS: [(&str, &str); 3] = [
    ("http_sse", "HTTP+SSE"),
    ("sessions", "sessions"),
    ("stateless", "stateless"),
];

const SERVERS: [(&str, &str); 5] = [
    ("http_sse", "HTTP+SSE"),
    ("sessions", "sessions"),
    ("stdio_legacy", "stdio, legacy"),
    ("stateless", "stateless"),
    ("stdio_modern", "stdio, 2026-07-28"),
];

/// All fifteen, in the order of the tables.
const PAIRS: [&str; 15] = [
    "http_sse_to_http_sse",
    "http_sse_to_sessions",
    "http_sse_to_stdio_legacy",
    "http_sse_to_stateless",
    "http_sse_to_stdio_modern",
    "sessions_to_http_sse",
    "sessions_to_sessions",
    "sessions_to_stdio_legacy",
    "sessions_to_stateless",
    "sessions_to_stdio_modern",
    "stateless_to_http_sse",
    "stateless_to_sessions",
    "stateless_to_stdio_legacy",
    "stateless_to_stateless",
    "stateless_to_stdio_modern",
];

/// The tables: what they are about, and their pairs.
const GROUPS: [(&str, &[&str]); 4] = [
    (
        "Clients with sessions, servers with sessions",
        &[PAIRS[0], PAIRS[1], PAIRS[2], PAIRS[5], PAIRS[6], PAIRS[7]],
    ),
    (
        "Clients with sessions, servers of 2026-07-28",
        &[PAIRS[3], PAIRS[4], PAIRS[8], PAIRS[9]],
    ),
    (
        "Clients of 2026-07-28, servers with sessions",
        &[PAIRS[10], PAIRS[11], PAIRS[12]],
    ),
    (
        "Clients of 2026-07-28, servers of 2026-07-28",
        &[PAIRS[13], PAIRS[14]],
    ),
];

/// Where the tables are.
const CHAPTER: &str = "docs/src/bridging.md";

const BEGIN: &str = "<!-- matrix: written by `cargo xtask matrix` -->";
const END: &str = "<!-- matrix: end -->";
const NO_MARKERS: &str = "docs/src/bridging.md has no markers for the matrix";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_markers_is_replaced() {
        let chapter = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&chapter, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(replaced(&new, "new\n").as_ref(), Some(&new));
        assert_eq!(replaced("no markers", "new"), None);
    }

    #[test]
    fn results_are_read_from_what_the_tests_print() {
        let line = "test asking::r222_x::http_sse_to_stateless ... ";
        let test = "asking::r222_x::http_sse_to_stateless".to_owned();
        assert_eq!(result(&format!("{line}ok")), Some((test.clone(), true)));
        assert_eq!(result(&format!("{line}FAILED")), Some((test, false)));
        assert_eq!(result("test result: ok. 3 passed"), None);
    }

    #[test]
    fn a_row_that_fails_cannot_be_said_to_work() {
        let rows = Rows::read().unwrap();
        let all = table(&rows, |_| true);
        assert!(!all.contains("**no**"), "{all}");
        let one = rows.tests().next().unwrap();
        assert_eq!(
            table(&rows, |test| test != one).matches("**no**").count(),
            1
        );
        for pair in PAIRS {
            assert!(all.contains(&spoken(pair)), "{pair}");
        }
    }
}
