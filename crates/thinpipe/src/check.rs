//! `thinpipe check`: what is wrong with a file, or what it comes to.

use std::io::Write;
use std::path::Path;

use crate::config::{self, Settings};

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
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "# {} is valid. All settings, defaults included:{secrets}\n\n{shown}",
        file.display()
    )?;
    Ok(())
}
