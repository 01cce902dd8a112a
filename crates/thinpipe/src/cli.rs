//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Manner, RawEra, Settings};

mod advice;

pub(crate) use advice::explain;

const ABOUT: &str =
    "A gateway for the Model Context Protocol: stands between MCP clients and MCP servers";

const EXAMPLES: &str = "\
Examples:
  thinpipe http://127.0.0.1:3001/mcp
      Stand in front of one server. Clients connect to http://127.0.0.1:8080/mcp.
  thinpipe -- npx -y @modelcontextprotocol/server-everything
      Run a server on stdio and stand in front of it: one process for each client, or one
      for all with `--shared`.
  thinpipe demo
      The same with a sample server, and a client that shows what happens.
  thinpipe serve --config thinpipe.toml
      Several servers, limits, interceptors: whatever the file says (TOML, YAML, or the
      `mcpServers` JSON that clients use).
  thinpipe check thinpipe.toml
      What is wrong with the file, or what it comes to with all defaults.
  thinpipe doctor http://127.0.0.1:3001/mcp
      What a server speaks, and what would break behind a gateway; `-- COMMAND` instead of
      the URL for one on stdio.
  thinpipe migrate --config thinpipe.toml
      Which clients of the running gateway still use HTTP+SSE, and what to change.
  thinpipe --listen 0.0.0.0:8080 --allow-host mcp.example.com http://10.0.0.7:3001/mcp
      Serve other machines; the names they use must be listed.

Settings on the command line go before those of the environment, and these before the file's.
Stop it with Ctrl-C or SIGTERM: what runs is brought to its end. A second signal stops at once.";

/// What there is to do beside standing in front of one server.
pub(crate) const COMMANDS: [&str; 5] = ["serve", "check", "doctor", "migrate", "demo"];

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
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) manner: Manner,
    /// One process of COMMAND for all clients, instead of one for each: as `--sessions shared`
    #[arg(long)]
    pub(crate) shared: bool,
    /// Another replica of the server at URL, to share requests with; may be repeated
    #[arg(
        long,
        value_name = "NAME=URL[,weight=N]",
        requires = "url",
        conflicts_with = "program"
    )]
    pub(crate) replica: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// One server: where it is, or how it is started.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServerArgs {
    /// URL of the server's MCP endpoint
    #[arg(
        value_name = "URL",
        required_unless_present = "program",
        conflicts_with = "program"
    )]
    pub(crate) url: Option<String>,
    /// A server on stdio: the program to run, with its arguments, behind `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) program: Vec<String>,
    /// A variable in the environment of COMMAND; may be repeated
    #[arg(
        long,
        value_name = "NAME=VALUE",
        requires = "program",
        conflicts_with = "url"
    )]
    pub(crate) env: Vec<String>,
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
    /// Find out what a server speaks and what would break behind a gateway, without calling a tool
    Doctor(DoctorArgs),
    /// Show which clients still use HTTP+SSE (deprecated), and what to change in them and in a file
    ///
    /// Asks a running gateway, and changes nothing. It ends with 0 whether or not clients are left.
    Migrate(MigrateArgs),
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

/// `thinpipe doctor`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// A header of every request to URL, such as the server's credentials; may be repeated
    #[arg(long, value_name = "NAME: VALUE", conflicts_with = "program")]
    pub(crate) header: Vec<String>,
    /// What the gateway is to be told that the server speaks: whether it does, and what clients get then
    /// [default: auto]
    #[arg(long, value_name = "ERA")]
    pub(crate) era: Option<RawEra>,
    /// How the report looks
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub(crate) format: ReportFormat,
    /// Seconds to listen on the server's stream for signs of life
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub(crate) watch: u64,
}

/// `thinpipe migrate`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct MigrateArgs {
    /// Admin address of the gateway [default: that of FILE, or 127.0.0.1:8081] [env: THINPIPE_ADMIN]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<String>,
    /// The gateway's configuration file, to say what to change in it
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// How the report looks
    #[arg(long, value_enum, default_value_t = MigrateFormat::Text)]
    pub(crate) format: MigrateFormat,
}

/// How the report of `thinpipe migrate` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum MigrateFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document, described in the operations chapter.
    Json,
}

/// How the report of `thinpipe doctor` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON document, described in the operations chapter.
    Json,
}

/// Whether somebody who wrote this meant a configuration file.
pub(crate) fn is_file(argument: &str) -> bool {
    let found = || std::path::Path::new(argument).is_file();
    !argument.contains("://") && (is_settings(argument) || found())
}

/// Whether this looks like a program to run: neither an option, nor a URL or a host, nor a file of
/// settings, nor a command of ours.
pub(crate) fn is_program(argument: &str) -> bool {
    let own = COMMANDS.contains(&argument);
    let path = argument.starts_with(['/', '.']) && !argument.contains(':');
    let word = !argument.contains(['/', ':', '.']) && argument != "localhost";
    !own && !argument.starts_with('-') && !is_settings(argument) && (path || word)
}

/// Whether a name ends as that of a configuration file.
fn is_settings(argument: &str) -> bool {
    let path = std::path::Path::new(argument);
    path.extension().is_some_and(|ending| {
        ["toml", "yaml", "yml", "json"]
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
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
    fn c18_replicas_are_beside_a_url() {
        let line = [
            "thinpipe",
            "http://h/mcp",
            "--replica",
            "b=http://i/mcp,weight=2",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.direct.replica, ["b=http://i/mcp,weight=2"]);
        for line in [
            &["thinpipe", "--replica", "b=http://i/mcp"][..],
            &["thinpipe", "--replica", "b", "--", "ls"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_url_alone_is_enough() {
        let cli = Cli::try_parse_from(["thinpipe", "http://h/mcp"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.direct.server.url.as_deref(), Some("http://h/mcp"));
        let cli = Cli::try_parse_from(["thinpipe", "--workers", "2", "http://h/mcp"]).unwrap();
        assert_eq!(cli.direct.settings.workers.as_deref(), Some("2"));
    }

    /// C24: everything behind `--` is the server's command line, whatever it looks like.
    #[test]
    fn c24_a_command_stands_behind_two_dashes() {
        let line = [
            "thinpipe", "--shared", "--env", "A=b=c", "--", "npx", "-y", "serve", "--env",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        assert!(cli.command.is_none() && cli.direct.shared);
        assert_eq!(cli.direct.server.program, ["npx", "-y", "serve", "--env"]);
        let at_url = Cli::try_parse_from(["thinpipe", "--shared", "http://h/mcp"]).unwrap();
        assert!(at_url.direct.shared);
        assert_eq!(cli.direct.server.env, ["A=b=c"]);
        let line = [
            "thinpipe", "doctor", "--format", "json", "--", "python", "-m", "x",
        ];
        let Some(Command::Doctor(doctor)) = Cli::try_parse_from(line).unwrap().command else {
            panic!("{line:?}");
        };
        assert_eq!(doctor.server.program, ["python", "-m", "x"]);
        assert_eq!(doctor.format, ReportFormat::Json);
        for wrong in [
            &["thinpipe", "http://h/mcp", "--", "npx"][..],
            &["thinpipe", "--env", "A=b", "http://h/mcp"],
            &["thinpipe", "doctor"],
            &["thinpipe", "doctor", "--header", "a: b", "--", "npx"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_commands_are_all_of_them() {
        let command = Cli::command();
        let names: Vec<_> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(names, COMMANDS);
    }

    #[test]
    fn commands_need_no_url() {
        for line in [
            vec!["thinpipe", "demo", "--keep"],
            vec!["thinpipe", "check", "a.toml"],
            vec!["thinpipe", "migrate"],
            vec!["thinpipe", "migrate", "--admin", "h:1", "--format", "json"],
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
            "doctor",
            "migrate",
            "thinpipe -- npx",
            "THINPIPE_LISTEN",
            "Examples:",
            "--allow-host",
        ] {
            assert!(help.contains(word), "{word} is not in:\n{help}");
        }
    }
}
