//! Runs the official conformance suite, and compares what it finds with what is known.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::peers::{self, Endpoint};
use crate::process::Process;

/// What a check of the suite said, by scenario and check. A check made several times in one
/// scenario counts as its worst.
pub type Checks = BTreeMap<String, Verdict>;

/// The suite's verdict on one check, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The suite itself chose not to make it.
    Skipped,
    /// As it should be.
    Passed,
    /// Not as it should be, in a way that a server may be.
    Warned,
    /// Not as it must be.
    Failed,
}

/// Runs everything that `revision` requires, and what the suite runs beside it without scoring.
///
/// # Panics
/// If the suite does not run to its end, or what it says at the end is not what its files say.
#[must_use]
pub fn run(endpoint: &Endpoint, revision: &str, name: &str) -> Checks {
    let folder = peers::results().join(format!("{revision}-{name}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("old results can be removed");
    }
    let mut command = peers::package("@modelcontextprotocol/conformance/dist/index.js");
    command.args([
        "server",
        "--url",
        &endpoint.url,
        "--requirements",
        revision,
        "--output-dir",
    ]);
    command.arg(&folder);
    let ended = Process::start("the conformance suite", &command).finish(PATIENCE);

    let (checks, failures) = read(&folder);
    let total = ended.stdout.iter().find_map(|line| totals(line));
    let Some((passed, failed)) = total else {
        panic!(
            "the suite ended with {} and no total:\n{}",
            ended.status, ended.log
        );
    };
    assert_eq!(
        failed, failures,
        "the suite counts other failures than its files show"
    );
    assert!(passed > 0, "nothing passed:\n{}", ended.log);
    checks
}

/// Compares with a list of what is known not to pass, each line a check and a reason.
///
/// # Panics
/// If something else does not pass, or something on the list does: then the list is stale.
pub fn assert_only_expected(checks: &Checks, list: &str) {
    let mut problems = Vec::new();
    let expected = expected(list);
    for (check, verdict) in checks {
        match (
            verdict >= &Verdict::Warned,
            expected.contains(&check.as_str()),
        ) {
            (true, false) => problems.push(format!("{check}: {verdict:?}")),
            (false, true) => problems.push(format!("{check} passes: take it off the list")),
            _ => {}
        }
    }
    let gone = expected
        .iter()
        .filter(|check| !checks.contains_key(**check));
    problems.extend(gone.map(|check| format!("{check} is listed, but there is no such check")));
    assert!(
        problems.is_empty(),
        "not as expected:\n{}",
        problems.join("\n")
    );
}

/// Compares a list of what does not pass through the gateway with the list of what the server does not pass by
/// itself: a reason that begins with `direct too:` stands for what is on both, and for nothing else.
///
/// # Panics
/// If the gateway is excused with the server, or blamed for it.
pub fn assert_told_apart(through: &str, direct: &str) {
    let direct: Vec<&str> = reasons(direct).map(|(check, _)| check).collect();
    for (check, reason) in reasons(through) {
        assert_eq!(
            reason.starts_with("direct too:"),
            direct.contains(&check),
            "{check} is listed for {reason:?}, and fails direct or not"
        );
    }
}

/// The checks of a list.
fn expected(list: &str) -> Vec<&str> {
    reasons(list).map(|(check, _)| check).collect()
}

/// The first word of each line that is no comment, and the rest, which is why.
fn reasons(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (check, reason) = line.split_once(' ').unwrap_or((line, ""));
            assert!(
                !reason.trim().is_empty(),
                "{check} is listed without a reason"
            );
            (check, reason)
        })
}

/// Every check in the files the suite wrote, and how often it found a failure.
fn read(folder: &Path) -> (Checks, usize) {
    let mut checks = Checks::new();
    let mut failures = 0;
    for entry in fs::read_dir(folder).expect("the suite writes a folder for each scenario") {
        let entry = entry.expect("the folder can be read");
        let name = entry.file_name();
        let scenario = scenario(name.to_str().expect("scenarios have plain names"));
        let file = fs::read(entry.path().join("checks.json")).expect("each scenario has checks");
        let found: Vec<Value> = serde_json::from_slice(&file).expect("checks are a JSON array");
        for check in &found {
            let verdict = match check["status"].as_str() {
                Some("SUCCESS") => Verdict::Passed,
                Some("WARNING") => Verdict::Warned,
                Some("SKIPPED") => Verdict::Skipped,
                Some("FAILURE") => Verdict::Failed,
                // A log of what was sent, not a check.
                Some("INFO") => continue,
                other => panic!("the suite has no verdict {other:?}"),
            };
            failures += usize::from(verdict == Verdict::Failed);
            let id = check["id"].as_str().expect("checks have ids");
            let worst = checks.entry(format!("{scenario}/{id}")).or_insert(verdict);
            *worst = verdict.max(*worst);
        }
    }
    (checks, failures)
}

/// `server-ping-2026-11-20T22-14-25-123Z` is the scenario `ping`.
fn scenario(folder: &str) -> &str {
    let name = folder.strip_prefix("server-").unwrap_or(folder);
    let stamp = "-2026-11-20T22-14-25-123Z".len();
    &name[..name.len().saturating_sub(stamp)]
}

/// `Total: 83 passed, 0 failed`.
fn totals(line: &str) -> Option<(usize, usize)> {
    let (passed, failed) = line.strip_prefix("Total: ")?.split_once(" passed, ")?;
    Some((
        passed.parse().ok()?,
        failed.strip_suffix(" failed")?.parse().ok()?,
    ))
}

/// The suite takes 10 s on an idle machine; time-outs of its own end it after that.
const PATIENCE: Duration = Duration::from_secs(150);

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(of: &[(&str, Verdict)]) -> Checks {
        of.iter()
            .map(|(check, verdict)| ((*check).to_owned(), *verdict))
            .collect()
    }

    #[test]
    fn a_failure_with_a_reason_is_expected() {
        let found = checks(&[("ping/a", Verdict::Failed), ("ping/b", Verdict::Passed)]);
        assert_only_expected(&found, "# known\nping/a it cannot\n");
    }

    #[test]
    #[should_panic(expected = "ping/a: Failed")]
    fn an_unlisted_failure_is_not() {
        assert_only_expected(&checks(&[("ping/a", Verdict::Failed)]), "");
    }

    #[test]
    #[should_panic(expected = "take it off the list")]
    fn a_listed_check_that_passes_makes_the_list_stale() {
        assert_only_expected(&checks(&[("ping/a", Verdict::Passed)]), "ping/a it cannot");
    }

    #[test]
    #[should_panic(expected = "no such check")]
    fn a_listed_check_that_is_not_made_makes_the_list_stale() {
        assert_only_expected(&checks(&[]), "ping/a it cannot");
    }

    #[test]
    #[should_panic(expected = "without a reason")]
    fn a_reason_is_owed() {
        assert_only_expected(&checks(&[("ping/a", Verdict::Failed)]), "ping/a");
    }

    #[test]
    fn what_fails_direct_too_is_told_apart() {
        assert_told_apart("a/b direct too: 1\na/c 5.6: 2", "a/b 1\na/d 3");
    }

    #[test]
    #[should_panic(expected = "a/b is listed")]
    fn the_server_is_no_excuse_for_what_it_passes() {
        assert_told_apart("a/b direct too: it cannot", "");
    }

    #[test]
    #[should_panic(expected = "a/b is listed")]
    fn the_gateway_is_not_blamed_for_the_server() {
        assert_told_apart("a/b 5.6: it cannot", "a/b it cannot");
    }

    #[test]
    fn names_and_totals_are_read() {
        assert_eq!(scenario("server-ping-2026-11-20T22-14-25-123Z"), "ping");
        assert_eq!(totals("Total: 83 passed, 2 failed"), Some((83, 2)));
    }
}
