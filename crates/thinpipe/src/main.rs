//! `thinpipe`: a gateway for the Model Context Protocol in one command.
//!
//! This crate relays nothing itself: `thinpipe-gateway` does, on the server side of
//! `thinpipe-transport`. Here is what a program needs around them: configuration, command line, logs,
//! metrics, signals, and a demonstration.

mod admin;
mod announce;
mod backend;
mod check;
mod cli;
mod config;
mod demo;
mod figures;
mod log;
mod metrics;
mod run;
mod signals;
mod workers;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Direct};
use config::Config;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| cli::explain(&error));
    let done = match cli {
        Cli {
            command: Some(Command::Check { file, settings }),
            ..
        } => check::run(&file, &settings),
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
    // Clap lets nobody through without a URL or a command.
    let url = direct.url.unwrap_or_default();
    if cli::is_file(&url) {
        anyhow::bail!(
            "`{url}` is a file and no URL; serve it with `thinpipe serve --config {url}`"
        );
    }
    if !url.contains("://")
        && let Some(command) = config::closest(&url, &["serve", "check", "demo"])
    {
        anyhow::bail!("`{url}` is neither a URL nor a command; did you mean `thinpipe {command}`?");
    }
    Ok(config::for_url(
        &url,
        direct.name,
        &direct.settings,
        &variable,
    )?)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn report(error: &anyhow::Error) {
    // What is wrong with a configuration says "error" itself, once for each.
    match error.downcast_ref::<config::Problems>() {
        Some(problems) => eprintln!("{problems}"),
        None => eprintln!("error: {error:#}"),
    }
}
