//! Runs every test there is.

use std::env;
use std::ffi::OsString;

use crate::{Outcome, install, workspace};

/// Installs what is missing, builds the programs the end-to-end tests start, and runs all tests.
///
/// Arguments go to `cargo nextest run`; with any, only what they select is run.
pub(crate) fn run(nextest_arguments: &[String]) -> Outcome {
    println!(
        "what the tests need is installed and everything is built first, which takes some minutes the first time; then \
         the tests run, with a line for each"
    );
    install::all_that_tests_need()?;
    // Together with the tests, so that both get the same features and nothing is built twice.
    let mut build = workspace::cargo();
    workspace::run(build.args(["build", "--workspace", "--bins", "--tests"]))?;

    let mut nextest = workspace::cargo();
    nextest
        .env("PATH", path_with_tools()?)
        .args(["nextest", "run", "--workspace"]);
    workspace::run(nextest.args(nextest_arguments))?;

    if nextest_arguments.is_empty() {
        // What nextest does not run: the examples in the documentation.
        let mut doc = workspace::cargo();
        workspace::run(doc.args(["test", "--doc", "--workspace", "--quiet"]))?;
    }
    Ok(())
}

/// Our search path with the tools that were built into the target folder behind everything else.
fn path_with_tools() -> Outcome<OsString> {
    let ours = workspace::target()?.join("tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(env::split_paths(&path).chain([ours]))?)
}
