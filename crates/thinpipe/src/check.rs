//! `thinpipe check`: what is wrong with a file, or what it comes to.

use std::io::Write;
use std::path::Path;

use crate::config::{self, Settings};
use crate::run::main_runtime;
use crate::store::Store;

/// Prints the effective configuration.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn run(file: &Path, settings: &Settings) -> anyhow::Result<()> {
    let loaded = config::load(file, settings, &|name| std::env::var(name).ok())?;
    let shown = loaded.to_toml()?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let secrets = match shown.contains("${REDACTED}") {
        true => {
            "\n# Secrets are not shown: put them where ${REDACTED} stands before this is served."
        }
        false => "",
    };
    tell_of_store(&Store::of(&loaded.config))?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "# {} is valid. All settings, defaults included:{secrets}\n\n{shown}",
        file.display()
    )?;
    Ok(())
}

/// Says whether the store can be reached from here. A file may be checked where it cannot, and be right.
fn tell_of_store(store: &Store) -> anyhow::Result<()> {
    if store.observations().is_none() {
        return Ok(());
    }
    let place = store.place();
    let runtime = main_runtime()?;
    match runtime.block_on(store.reach()) {
        Ok(()) => {
            eprintln!("the store {place} is reached");
            if let Some(complaint) = runtime.block_on(store.complaint()) {
                eprintln!("warning: {complaint}");
            }
        }
        Err(error) => {
            let error = store.why(&error);
            eprintln!("warning: the store {place} cannot be used from here: {error}");
        }
    }
    Ok(())
}
