//! Checks that neither rustfmt nor clippy make.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, matrix, workspace};

mod api;
mod modules;
pub(crate) mod source;

/// Fails, naming file and line, for what the tree must not hold.
pub(crate) fn run() -> Outcome {
    let files = read()?;
    let offences = offences(&files)?;
    if offences.is_empty() {
        println!("lint: {} files read, nothing found", files.len());
        return Ok(());
    }
    Err(offences.join("\n").into())
}

/// Writes down the public surface of the libraries as it is now.
pub(crate) fn write_api() -> Outcome {
    let files = read()?;
    for library in api::LIBRARIES {
        let (list, _) = api::listing(Path::new(library), &files);
        fs::write(workspace::root().join(library).join(api::LIST), list)?;
        println!("{library}/{}", api::LIST);
    }
    Ok(())
}

/// The files that are looked at, by their paths in the workspace.
fn read() -> Outcome<Vec<(PathBuf, String)>> {
    let root = workspace::root();
    let mut files = Vec::new();
    for path in workspace::files(&root)? {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        if is_rust || path.ends_with("package-lock.json") || path.ends_with("Cargo.toml") {
            let text = fs::read_to_string(&path)?;
            files.push((path.strip_prefix(&root)?.to_owned(), text));
        }
    }
    Ok(files)
}

fn offences(files: &[(PathBuf, String)]) -> Outcome<Vec<String>> {
    let root = workspace::root();
    let mut offences = Vec::new();
    let mut manifests = Vec::new();
    for (path, text) in files {
        if path.extension().is_some_and(|extension| extension == "rs") {
            rust_offences(path, text, &mut offences);
        } else if path.ends_with("Cargo.toml") {
            manifests.push(text.as_str());
        } else if let Some(line) = line_of(text, "\"resolved\"") {
            // A lock that names the registry it was made with fails everywhere else.
            offences.push(format!("{}:{line}: a registry's address", path.display()));
        }
    }
    let own = fs::read_to_string(root.join("Cargo.toml"))?;
    unused_dependencies(&own, &manifests, &mut offences);
    let chapter = fs::read_to_string(root.join(modules::CHAPTER))?;
    offences.extend(modules::offences(&chapter, files));
    offences.extend(matrix::offence()?);
    for library in api::LIBRARIES {
        let (list, undocumented) = api::listing(Path::new(library), files);
        offences.extend(undocumented);
        let written = fs::read_to_string(root.join(library).join(api::LIST)).unwrap_or_default();
        if written != list {
            offences.push(format!(
                "{library}/{} is not the public surface any more: look at what `cargo xtask api` changes in it",
                api::LIST
            ));
        }
    }
    Ok(offences)
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

fn rust_offences(path: &Path, text: &str, offences: &mut Vec<String>) {
    let shown = path.display();
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        offences.push(format!(
            "{shown}: {lines} lines, over {LONGEST_FILE}: is there a second idea in it?"
        ));
    }
    if path
        .file_stem()
        .is_some_and(|name| HEAPS.iter().any(|heap| name == *heap))
    {
        offences.push(format!("{shown}: a module is named after what is in it"));
    }
    for leftover in LEFTOVERS {
        if let Some(line) = line_of(text, leftover) {
            offences.push(format!("{shown}:{line}: {leftover}"));
        }
    }
    clock_offences(path, text, offences);
    if !path.starts_with("crates") {
        return;
    }
    let code = source::parts(path, text).code;
    for (line, text) in code.lines().enumerate() {
        if names_the_crates_error(path, text) {
            let line = line + 1;
            offences.push(format!(
                "{shown}:{line}: an error for the whole crate: who could act on it?"
            ));
        }
    }
}

fn clock_offences(path: &Path, text: &str, offences: &mut Vec<String>) {
    if !path.starts_with("crates/proto/src") {
        return;
    }
    for clock in CLOCKS {
        if let Some(line) = line_of(text, clock) {
            let shown = path.display();
            offences.push(format!(
                "{shown}:{line}: {clock}: time comes in as an argument"
            ));
        }
    }
}

/// What the workspace's manifest lists and no crate's takes over.
fn unused_dependencies(workspace: &str, manifests: &[&str], offences: &mut Vec<String>) {
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

/// I1: an error type is made for what its caller can do about it, module by module; none is called
/// just `Error`, none is reached from everywhere, and only the program hides them behind one.
fn names_the_crates_error(path: &Path, line: &str) -> bool {
    let line = line.trim_start();
    let declares = ["enum Error", "struct Error", "type Error", "type Result"];
    let declares = declares.iter().any(|kind| {
        let public = line
            .strip_prefix("pub ")
            .and_then(|rest| rest.strip_prefix(kind));
        public.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
    });
    let names = [
        "crate::Error",
        "crate::error::",
        "crate::errors::",
        "crate::Result",
    ];
    let hides = ["anyhow", "Box<dyn Error"]
        .iter()
        .any(|name| line.contains(name));
    declares
        || names.iter().any(|name| line.contains(name))
        || (hides && !path.starts_with("crates/thinpipe") && !path.starts_with("crates/testkit"))
}

fn line_of(text: &str, needle: &str) -> Option<usize> {
    text.lines()
        .position(|line| line.contains(needle))
        .map(|index| index + 1)
}

/// Lines of a file, tests included (C21).
const LONGEST_FILE: usize = 500;

/// Names for heaps of things that have nothing to do with each other.
const HEAPS: [&str; 6] = ["mod", "util", "utils", "common", "helpers", "misc"];

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

    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let mut offences = Vec::new();
        rust_offences(Path::new(path), text, &mut offences);
        offences
    }

    /// C21, D9, D10, I1: the tree is as these checks want it.
    #[test]
    fn c21_d9_d10_i1_the_tree_has_no_offences() {
        let files = read().unwrap();
        assert!(files.len() > 250, "only {} files were read", files.len());
        assert_eq!(offences(&files).unwrap(), Vec::<String>::new());
    }

    /// C21: no file is longer than its limit, and none is a heap.
    #[test]
    fn c21_long_files_and_heaps_are_found() {
        assert!(found("crates/a/src/b.rs", &"\n".repeat(LONGEST_FILE)).is_empty());
        let long = "\n".repeat(LONGEST_FILE + 1);
        assert_eq!(found("crates/a/src/b.rs", &long).len(), 1);
        for heap in ["crates/a/src/utils.rs", "crates/a/src/b/mod.rs"] {
            assert_eq!(found(heap, "").len(), 1, "{heap}");
        }
    }

    #[test]
    fn leftovers_are_found_with_their_line() {
        let text = format!("fn a() {{\n    {})\n}}\n", LEFTOVERS[0]);
        assert_eq!(found("a.rs", &text), [format!("a.rs:2: {}", LEFTOVERS[0])]);
    }

    #[test]
    fn clocks_are_found_where_there_are_none() {
        for text in ["let now = Instant::now();", "start.elapsed() > limit"] {
            assert!(found("crates/gateway/src/a.rs", text).is_empty());
            let offences = found("crates/proto/src/a/b.rs", text);
            assert_eq!(offences.len(), 1);
            assert!(offences[0].starts_with("crates/proto/src/a/b.rs:1: "));
        }
    }

    #[test]
    fn dependencies_that_no_crate_takes_are_found() {
        let workspace = "[workspace]\n[workspace.dependencies]\na = \"1\"\na-b = { version = \"1\" }\nc = \"1\"\nd = \"1\"\n\n[profile.dev]\ne = 1\n";
        let manifests = [
            workspace,
            "[dependencies]\na-b.workspace = true\n",
            "[dependencies]\nc = { workspace = true, features = [] }\nd = \"2\"\n",
        ];
        let mut offences = Vec::new();
        unused_dependencies(workspace, &manifests, &mut offences);
        let unused = ["a", "d"].map(|name| format!("Cargo.toml: no crate uses {name}"));
        assert_eq!(offences, unused);
    }

    /// I1: an error for everything is found where it is made and where it is used.
    #[test]
    fn i1_errors_of_whole_crates_are_found() {
        for line in [
            "pub enum Error {",
            "pub type Result<T> = std::result::Result<T, Error>;",
            "use crate::Error;",
            "fn a() -> Result<(), crate::error::Kind> {}",
            "fn a() -> anyhow::Result<()> {}",
            "fn a() -> Result<(), Box<dyn Error + Send>> {}",
        ] {
            assert_eq!(found("crates/gateway/src/a.rs", line).len(), 1, "{line}");
            let tested = format!("#[cfg(test)]\nmod tests {{\n    {line}\n}}\n");
            assert!(
                found("crates/gateway/src/a.rs", &tested).is_empty(),
                "{line}"
            );
        }
        for line in [
            "pub enum StoreError {",
            "struct Error(u8);",
            "pub enum Errors {",
            "type Error = E;",
            "use crate::upstream::UpstreamError;",
        ] {
            assert!(found("crates/gateway/src/a.rs", line).is_empty(), "{line}");
        }
        assert!(
            found(
                "crates/thinpipe/src/a.rs",
                "fn a() -> anyhow::Result<()> {}"
            )
            .is_empty()
        );
    }
}
