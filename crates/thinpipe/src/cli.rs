//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Settings;

const ABOUT: &str =
    "A gateway for the Model Context Protocol: stands between MCP clients and MCP servers";

const EXAMPLES: &str = "\
Examples:
  thinpipe http://127.0.0.1:3001/mcp
      Stand in front of one server. Clients connect to http://127.0.0.1:8080/mcp.
  thinpipe demo
      The same with a sample server, and a client that shows what happens.
  thinpipe serve --config thinpipe.toml
      Several servers, limits, interceptors: whatever the file says (TOML, YAML, or the
      `mcpServers` JSON that clients use).
  thinpipe check thinpipe.toml
      What is wrong with the file, or what it comes to with all defaults.
  thinpipe --listen 0.0.0.0:8080 --allow-host mcp.example.com http://10.0.0.7:3001/mcp
      Serve other machines; the names they use must be listed.

Settings on the command line go before those of the environment, and these before the file's.
Stop it with Ctrl-C or SIGTERM: what runs is brought to its end. A second signal stops at once.";

/// A gateway for the Model Context Protocol.
#[derive(Debug, Parser)]
#[command(
    name = "thinpipe",
    version,
    about = ABOUT,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) direct: Direct,
}

/// Standing in front of one server.
#[derive(Debug, Args)]
pub(crate) struct Direct {
    /// URL of the server's MCP endpoint
    #[arg(value_name = "URL", required = true)]
    pub(crate) url: Option<String>,
    /// Name of the server, for logs and clients [default: server]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// What else there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve what a configuration file says
    Serve {
        /// The file: TOML, YAML, or the `mcpServers` JSON that clients use
        #[arg(long, short, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
    /// Say what is wrong with a configuration file, or what it comes to
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
    /// Start a sample server with the gateway in front, and show what a client sees
    Demo {
        /// Leave it running afterwards, to try it with a client of your own
        #[arg(long)]
        keep: bool,
        /// Address that clients connect to
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        listen: String,
    },
}

/// Whether somebody who wrote this meant a configuration file.
pub(crate) fn is_file(argument: &str) -> bool {
    let path = std::path::Path::new(argument);
    let named = path.extension().is_some_and(|ending| {
        ["toml", "yaml", "yml", "json"]
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    });
    !argument.contains("://") && (named || path.is_file())
}

/// Says what is wrong with a command line, and ends the process as clap does.
pub(crate) fn explain(error: &clap::Error) -> ! {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match advice(error, &arguments) {
        Some(advice) => {
            eprintln!("error: {advice}");
            std::process::exit(2)
        }
        None => error.exit(),
    }
}

/// What to tell those who write what is near at hand and not there.
fn advice(error: &clap::Error, arguments: &[String]) -> Option<String> {
    use clap::error::ErrorKind;

    if !matches!(
        error.kind(),
        ErrorKind::UnknownArgument
            | ErrorKind::InvalidSubcommand
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::ArgumentConflict
    ) {
        return None;
    }
    let urls = arguments.iter().filter(|word| word.contains("://"));
    match arguments {
        [serve, rest @ ..] if serve == "serve" => {
            let file = rest.iter().find(|word| is_file(word))?;
            let given = rest.iter().any(|word| word.starts_with("--config") || word == "-c");
            (!given).then(|| format!("write `thinpipe serve --config {file}`"))
        }
        _ if urls.count() > 1 => Some(
            "one URL is one server; for several, list them in a file (`[[upstreams]]` with `name` and \
             `url` for each) and write `thinpipe serve --config FILE`"
                .to_owned(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_url_alone_is_enough() {
        let cli = Cli::try_parse_from(["thinpipe", "http://h/mcp"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.direct.url.as_deref(), Some("http://h/mcp"));
        let cli = Cli::try_parse_from(["thinpipe", "--workers", "2", "http://h/mcp"]).unwrap();
        assert_eq!(cli.direct.settings.workers.as_deref(), Some("2"));
    }

    #[test]
    fn commands_need_no_url() {
        for line in [
            vec!["thinpipe", "demo", "--keep"],
            vec!["thinpipe", "check", "a.toml"],
            vec!["thinpipe", "serve", "--config", "a.toml", "--admin", "off"],
        ] {
            let cli = Cli::try_parse_from(&line).unwrap();
            assert!(cli.command.is_some(), "{line:?}");
        }
        assert!(Cli::try_parse_from(["thinpipe", "serve"]).is_err());
        assert!(Cli::try_parse_from(["thinpipe", "--name", "x"]).is_err());
    }

    /// The help is what a newcomer reads first: it fits a screen and shows what to type.
    #[test]
    fn the_help_shows_every_way_to_run_it() {
        let help = Cli::command().render_help().to_string();
        for word in [
            "demo",
            "serve",
            "check",
            "THINPIPE_LISTEN",
            "Examples:",
            "--allow-host",
        ] {
            assert!(help.contains(word), "{word} is not in:\n{help}");
        }
    }
}
