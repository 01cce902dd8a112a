//! Checks that neither rustfmt nor clippy make.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, workspace};

/// Fails, naming file and line, for what the tree must not hold.
pub(crate) fn run() -> Outcome {
    let root = workspace::root();
    let mut offences = Vec::new();
    let mut read = 0;
    let mut manifests = Vec::new();
    for path in workspace::files(&root)? {
        let shown = path.strip_prefix(&root).unwrap_or(&path).to_owned();
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let is_node_lock = path.ends_with("package-lock.json");
        if path.ends_with("Cargo.toml") {
            manifests.push(fs::read_to_string(&path)?);
        }
        if !is_rust && !is_node_lock {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        read += 1;
        if is_rust {
            rust_offences(&shown, &text, &mut offences);
        } else if let Some(line) = line_of(&text, "\"resolved\"") {
            // A lock that names the registry it was made with fails everywhere else.
            offences.push(format!("{}:{line}: a registry's address", shown.display()));
        }
    }
    let own = fs::read_to_string(root.join("Cargo.toml"))?;
    unused_dependencies(&own, &manifests, &mut offences);
    if offences.is_empty() {
        println!("lint: {read} files read, nothing found");
        return Ok(());
    }
    Err(offences.join("\n").into())
}

/// Runs cargo-deny, with the advisories where their database can be fetched.
pub(crate) fn deny(program: &Path) -> Outcome {
    let deny = || {
        let mut command = Command::new(program);
        command
            .current_dir(workspace::root())
            .args(["--workspace", "--all-features"]);
        command
    };
    let mut check = deny();
    check.args(["check", "bans", "licenses", "sources"]);
    // Asked with a short leash: without a way to the database, git would try for minutes.
    let mut fetch = Command::new("timeout");
    fetch.args(["60", "git", "ls-remote", "--exit-code", ADVISORIES, "HEAD"]);
    if workspace::ask(fetch.env("GIT_TERMINAL_PROMPT", "0")).is_some() {
        check.arg("advisories");
    } else {
        eprintln!("deny: {ADVISORIES} cannot be reached, so advisories are NOT checked");
    }
    workspace::run(check.env(
        "CARGO",
        env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
    ))
}

fn rust_offences(shown: &Path, text: &str, offences: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        offences.push(format!(
            "{}: {lines} lines, over {LONGEST_FILE}: is there a second idea in it?",
            shown.display()
        ));
    }
    for leftover in LEFTOVERS {
        if let Some(line) = line_of(text, leftover) {
            offences.push(format!("{}:{line}: {leftover}", shown.display()));
        }
    }
    if shown.starts_with("crates/proto/src") {
        for clock in CLOCKS {
            if let Some(line) = line_of(text, clock) {
                let shown = shown.display();
                offences.push(format!(
                    "{shown}:{line}: {clock}: time comes in as an argument"
                ));
            }
        }
    }
}

/// What the workspace's manifest lists and no crate's takes over.
fn unused_dependencies(workspace: &str, manifests: &[String], offences: &mut Vec<String>) {
    let listed = workspace
        .lines()
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once('=')?.0.trim()));
    for name in listed {
        let takes = |line: &str| {
            let rest = line.strip_prefix(name).map(str::trim_start);
            rest.is_some_and(|rest| {
                rest.starts_with('.') || rest.strip_prefix('=').is_some_and(is_inherited)
            })
        };
        if !manifests.iter().any(|text| text.lines().any(takes)) {
            offences.push(format!("Cargo.toml: no crate uses {name}"));
        }
    }
}

fn is_inherited(value: &str) -> bool {
    let value: String = value.split_whitespace().collect();
    value.contains("workspace=true")
}

fn line_of(text: &str, needle: &str) -> Option<usize> {
    text.lines()
        .position(|line| line.contains(needle))
        .map(|index| index + 1)
}

/// Lines, tests included. The aim is under 500; this is where it fails.
const LONGEST_FILE: usize = 550;

/// In two pieces each, so that this file does not hold what it looks for.
const LEFTOVERS: [&str; 5] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[ig", "nore"),
    concat!("#[al", "low("),
];

/// What reads a clock. It is no business of the crate that has no I/O.
const CLOCKS: [&str; 3] = ["Instant::now", "SystemTime::now", ".elapsed("];

/// The database cargo-deny reads its advisories from.
const ADVISORIES: &str = "https://github.com/RustSec/advisory-db";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{LEFTOVERS, LONGEST_FILE, rust_offences, unused_dependencies};

    #[test]
    fn clocks_are_found_where_there_are_none() {
        for text in ["let now = Instant::now();", "start.elapsed() > limit"] {
            let mut offences = Vec::new();
            rust_offences(Path::new("crates/gateway/src/a.rs"), text, &mut offences);
            assert!(offences.is_empty());
            rust_offences(Path::new("crates/proto/src/a/b.rs"), text, &mut offences);
            assert_eq!(offences.len(), 1);
            assert!(offences[0].starts_with("crates/proto/src/a/b.rs:1: "));
        }
    }

    #[test]
    fn dependencies_that_no_crate_takes_are_found() {
        let workspace = "[workspace]\n[workspace.dependencies]\na = \"1\"\na-b = { version = \"1\" }\nc = \"1\"\nd = \"1\"\n\n[profile.dev]\ne = 1\n";
        let manifests = [
            workspace.to_owned(),
            "[dependencies]\na-b.workspace = true\n".to_owned(),
            "[dependencies]\nc = { workspace = true, features = [] }\nd = \"2\"\n".to_owned(),
        ];
        let mut offences = Vec::new();
        unused_dependencies(workspace, &manifests, &mut offences);
        let unused = ["a", "d"].map(|name| format!("Cargo.toml: no crate uses {name}"));
        assert_eq!(offences, unused);
    }

    #[test]
    fn length_and_leftovers_are_found_with_their_line() {
        let mut offences = Vec::new();
        let text = format!("fn a() {{\n    {})\n}}\n", LEFTOVERS[0]);
        rust_offences(Path::new("a.rs"), &text, &mut offences);
        assert_eq!(offences, [format!("a.rs:2: {}", LEFTOVERS[0])]);

        offences.clear();
        rust_offences(Path::new("b.rs"), &"\n".repeat(LONGEST_FILE), &mut offences);
        assert!(offences.is_empty());
        rust_offences(
            Path::new("b.rs"),
            &"\n".repeat(LONGEST_FILE + 1),
            &mut offences,
        );
        assert_eq!(offences.len(), 1);
    }
}
