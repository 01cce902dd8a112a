//! `thinpipe`: a gateway for the Model Context Protocol in one command.
//!
//! This crate relays nothing itself: `thinpipe-gateway` does, on the server side of
//! `thinpipe-transport`. Here is what a program needs around them: configuration, command line, logs,
//! metrics, signals, and a demonstration.

mod admin;
mod announce;
mod backend;
mod causes;
mod check;
mod cli;
mod config;
mod crossing;
mod demo;
mod doctor;
mod figures;
mod log;
mod metrics;
mod migrate;
mod run;
mod signals;
mod sse_clients;
mod store;
mod workers;

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Direct};
use config::Config;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| cli::explain(error));
    let done = match cli {
        Cli {
            command: Some(Command::Check { file, settings }),
            ..
        } => check::run(&file, &settings),
        Cli {
            command: Some(Command::Doctor(args)),
            ..
        } => match doctor::run(&args) {
            Ok(usable) => {
                return if usable {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                };
            }
            Err(error) => Err(error),
        },
        Cli {
            command: Some(Command::Migrate(args)),
            ..
        } => migrate::run(&args),
        Cli {
            command: Some(Command::Demo { keep, listen }),
            ..
        } => demo::run(keep, &listen),
        Cli {
            command: Some(Command::Serve { config, settings }),
            ..
        } => config::load(&config, &settings, &variable)
            .and_then(|loaded| start(loaded.config, &loaded.warnings)),
        Cli {
            command: None,
            direct,
        } => direct_config(direct).and_then(|config| start(config, &[])),
    };
    log::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config, warnings: &[String]) -> anyhow::Result<()> {
    log::init(&config.log)?;
    let announcer = announce::Announcer::new(config.log.format);
    for warning in warnings {
        announcer.say(&format!("warning: {warning}"));
    }
    run::run(config)
}

fn direct_config(direct: Direct) -> anyhow::Result<Config> {
    let mut manner = direct.manner;
    if direct.shared {
        manner.sessions = Some(config::RawSharing::Shared);
    }
    // Clap lets nobody through without a URL or a command.
    if !direct.server.program.is_empty() {
        let line = config::CommandLine {
            words: &direct.server.program,
            env: &direct.server.env,
        };
        return Ok(config::for_command(
            line,
            manner,
            &direct.settings,
            &variable,
        )?);
    }
    let url = direct.server.url.unwrap_or_default();
    no_url(&url)?;
    let replicas = &direct.replica;
    Ok(config::for_replicas(
        (&url, replicas),
        manner,
        &direct.settings,
        &variable,
    )?)
}

/// Refuses what is plainly meant to be something else than a URL, with what to write instead.
fn no_url(word: &str) -> anyhow::Result<()> {
    if word.contains("://") {
        return Ok(());
    }
    anyhow::ensure!(
        !word.trim().is_empty(),
        "the URL is empty; write it as in `http://127.0.0.1:3001/mcp`"
    );
    let program = cli::is_program(word);
    if cli::is_file(word) {
        let run = match program {
            true => format!("run it with `thinpipe -- {word}` or, if it is a configuration, "),
            false => String::new(),
        };
        anyhow::bail!(
            "`{word}` is a file and no URL; {run}serve it with `thinpipe serve --config {word}`"
        );
    }
    anyhow::ensure!(
        !cli::COMMANDS.contains(&word),
        "`{word}` comes first: `thinpipe {word}`, and then its options"
    );
    if let Some(command) = config::closest(word, &cli::COMMANDS) {
        anyhow::bail!(
            "`{word}` is neither a URL nor a command; did you mean `thinpipe {command}`?"
        );
    }
    if program {
        anyhow::bail!("`{word}` is no URL; to run a program, write `thinpipe -- {word}`");
    }
    Ok(())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What went wrong, and what to do about it.
#[derive(Debug)]
pub(crate) struct Mendable {
    /// What went wrong. Its cause follows.
    pub(crate) what: String,
    /// What to do.
    pub(crate) mend: String,
}

impl fmt::Display for Mendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Says something on standard error. If nobody reads that any more, nobody is left to be told so.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn report(error: &anyhow::Error) {
    // What is wrong with a configuration says "error" itself, once for each.
    match error.downcast_ref::<config::Problems>() {
        Some(problems) => tell(&problems.to_string()),
        None => {
            tell(&format!("error: {error:#}"));
            if let Some(Mendable { mend, .. }) = error.downcast_ref() {
                tell(&format!("  = help: {mend}"));
            }
        }
    }
}
