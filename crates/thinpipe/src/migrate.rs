//! `thinpipe migrate`: who still uses HTTP+SSE in front of a running gateway, and what to change.
//!
//! Asked ([`inquiry`]), thought over by a pure function ([`advice`]), shown ([`report`]). It changes
//! nothing, neither in the gateway nor in a file.

mod advice;
mod inquiry;
mod report;

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use thinpipe_proto::deprecation::Timestamp;

use crate::cli::{MigrateArgs, MigrateFormat};
use crate::config::{self, Config, Settings};
use report::{FileChanges, Migration};

/// Asks the gateway and prints the report.
///
/// # Errors
/// A file that cannot be read, an admin address that is switched off, or not there, or another program's.
pub(crate) fn run(args: &MigrateArgs) -> anyhow::Result<()> {
    let config = args.config.as_deref().map(load).transpose()?;
    let admin = match &args.admin {
        Some(given) => given.clone(),
        None => inquiry::address_of(config.as_ref(), crate::variable("THINPIPE_ADMIN")),
    };
    let found = inquiry::ask(&admin)?;
    let now = Timestamp::from(SystemTime::now());
    let file = args.config.as_deref().zip(config.as_ref());
    let gateway = file.map(|(path, config)| {
        let differences = found.served.differences(config);
        let settings = advice::Effective::of(config, differences.is_empty());
        FileChanges {
            file: path.display().to_string(),
            differences,
            changes: advice::changes(&settings, &found, now),
        }
    });
    let migration = Migration::new(found, gateway);
    let text = match args.format {
        MigrateFormat::Text => report::text(&migration, now),
        MigrateFormat::Json => format!("{:#}\n", report::json(&migration)),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// The gateway's file. The address to ask is not part of it where it is given.
fn load(path: &Path) -> anyhow::Result<Config> {
    let loaded = config::load(path, &Settings::default(), &crate::variable)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded.config)
}
