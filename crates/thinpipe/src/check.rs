//! `thinpipe check`: what is wrong with a file, or what it comes to.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::config::{self, Settings};
use crate::run::main_runtime;
use crate::store::Store;
use crate::tell;

/// Prints the effective configuration.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn run(file: &Path, settings: &Settings) -> anyhow::Result<()> {
    let loaded = config::load(file, settings, &|name| std::env::var(name).ok())?;
    let shown = loaded.to_toml()?;
    for warning in &loaded.warnings {
        tell(&format!("warning: {warning}"));
    }
    let secrets = match shown.contains("${REDACTED}") {
        true => {
            "\n# Secrets are not shown: put them where ${REDACTED} stands before this is served."
        }
        false => "",
    };
    tell_of_store(&Store::of(&loaded.config))?;
    let mut out = std::io::stdout().lock();
    let written = writeln!(
        out,
        "# {} is valid. All settings, defaults included:{secrets}\n\n{shown}",
        file.display()
    );
    match written {
        // Whoever reads but the first lines, as `head` does, has what they wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
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
            tell(&format!("the store {place} is reached"));
            if let Some(complaint) = runtime.block_on(store.complaint()) {
                tell(&format!("warning: {complaint}"));
            }
        }
        Err(error) => {
            let error = store.why(&error);
            tell(&format!(
                "warning: the store {place} cannot be used from here: {error}"
            ));
        }
    }
    Ok(())
}
