//! What those are told who write what is near at hand and not there.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue};

use super::{COMMANDS, Cli, is_file, is_program};
use crate::config;

/// Says what is wrong with a command line, and ends the process as clap does.
pub(crate) fn explain(mut error: clap::Error) -> ! {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match advice(&error, &arguments) {
        Some(advice) => {
            eprintln!("error: {advice}");
            std::process::exit(2)
        }
        None => {
            keep_options(&mut error);
            error.exit()
        }
    }
}

/// Takes away the tip to write an option behind `--`: here, that starts a program.
fn keep_options(error: &mut clap::Error) {
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().contains("-- "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
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
    let strange = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(strange)) => strange.as_str(),
        _ => "",
    };
    match arguments {
        [check, ..] if check == "check" && ["--config", "-c"].contains(&strange) => {
            let file = arguments.iter().skip(1).find(|word| is_file(word));
            let file = file.map_or("FILE", String::as_str);
            Some(format!("write `thinpipe check {file}`"))
        }
        [config, rest @ ..] if config == "--config" || config == "-c" => {
            let file = rest.first().map_or("FILE", String::as_str);
            Some(format!("write `thinpipe serve --config {file}`"))
        }
        [program, next, ..] if is_program(program) => {
            let line = arguments.join(" ");
            let run = format!("to run a program, write `thinpipe -- {line}`");
            Some(match misspelt(program, next) {
                Some(command) => {
                    format!("`{program}` is no command; did you mean `{command}`? If not: {run}")
                }
                None => run,
            })
        }
        [serve, rest @ ..] if serve == "serve" => {
            let file = rest.iter().find(|word| is_file(word))?;
            let given = rest
                .iter()
                .any(|word| word.starts_with("--config") || word == "-c");
            (!given).then(|| format!("write `thinpipe serve --config {file}`"))
        }
        [option, ..] if option.starts_with('-') && late_command(arguments).is_some() => {
            late_command(arguments)
        }
        _ if urls.count() > 1 && !strange.starts_with('-') => Some(
            "one URL is one server, and `--replica NAME=URL` another replica of it; for several \
             servers, list them in a file (`[[upstreams]]` with `name` and \
             `url` for each) and write `thinpipe serve --config FILE`"
                .to_owned(),
        ),
        // What other commands are told has no file.
        [other, ..] if ["doctor", "migrate", "demo"].contains(&other.as_str()) => None,
        _ => {
            let name = strange.strip_prefix("--")?.replace('-', "_");
            let key = config::place_of_key(&name)?;
            Some(format!(
                "`{strange}` is no option; `{key}` is a key of a configuration file: write it there, and \
                 `thinpipe serve --config FILE`"
            ))
        }
    }
}

/// The command that was meant by a word with `next` behind it.
fn misspelt(word: &str, next: &str) -> Option<&'static str> {
    let command = config::closest(word, &COMMANDS)?;
    // Nothing but options follows this one, and `deno` is a program that many servers run on.
    (command != "demo" || next.starts_with('-')).then_some(command)
}

/// What to write where options stand before a command that takes them. Their values are left out, as a password may
/// be in one.
fn late_command(arguments: &[String]) -> Option<String> {
    let definition = Cli::command();
    let mut options = String::new();
    let mut words = arguments.iter();
    let command = loop {
        let word = words.next()?;
        let Some(name) = word.strip_prefix("--") else {
            break word;
        };
        let (name, has_value) = match name.split_once('=') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        let mut known = definition.get_arguments();
        let option = known.find(|option| option.get_long() == Some(name))?;
        options.push_str(&format!(" --{name}"));
        if option.get_action().takes_values() {
            options.push_str(" …");
            if !has_value {
                words.next()?;
            }
        }
    };
    if !["serve", "check"].contains(&command.as_str()) {
        return None;
    }
    let rest: String = words.map(|word| format!(" {word}")).collect();
    Some(format!(
        "`{command}` comes first: `thinpipe {command}{options}{rest}`"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// I5: what is near at hand and not there is answered with what to write.
    #[test]
    fn i5_near_misses_are_answered_with_what_to_write() {
        for (line, said) in [
            ("--config a.toml", "write `thinpipe serve --config a.toml`"),
            ("-c a.toml", "write `thinpipe serve --config a.toml`"),
            (
                "npx -y server",
                "to run a program, write `thinpipe -- npx -y server`",
            ),
            (
                "./run.sh x",
                "to run a program, write `thinpipe -- ./run.sh x`",
            ),
            ("serve a.toml", "write `thinpipe serve --config a.toml`"),
            (
                "--store redis://:secret@h --workers=2 serve --config a.toml",
                "`serve` comes first: `thinpipe serve --store … --workers … --config a.toml`",
            ),
            (
                "--store redis://h check a.toml",
                "`check` comes first: `thinpipe check --store … a.toml`",
            ),
            (
                "serv --config a.toml",
                "`serv` is no command; did you mean `serve`? If not: to run a program, write \
                 `thinpipe -- serv --config a.toml`",
            ),
            (
                "chek a.toml",
                "`chek` is no command; did you mean `check`? If not: to run a program, write \
                 `thinpipe -- chek a.toml`",
            ),
            (
                "deno run server.ts",
                "to run a program, write `thinpipe -- deno run server.ts`",
            ),
            ("check --config a.toml", "write `thinpipe check a.toml`"),
            (
                "--resume log http://h/mcp",
                "`--resume` is no option; `upstreams.resume` is a key of a configuration file: write it there, and \
                 `thinpipe serve --config FILE`",
            ),
        ] {
            let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let whole = std::iter::once("thinpipe".to_owned()).chain(arguments.clone());
            let error = Cli::try_parse_from(whole).expect_err(line);
            assert_eq!(advice(&error, &arguments).as_deref(), Some(said), "{line}");
        }
        for (word, program) in [
            ("npx", true),
            ("/usr/bin/python", true),
            ("localhost", false),
            ("mcp.example.com", false),
            ("localhost:3001/mcp", false),
            ("a.toml", false),
            ("./a.toml", false),
            ("--x", false),
            ("doctor", false),
        ] {
            assert_eq!(is_program(word), program, "{word}");
        }
    }

    /// I5: what is no option is said to be none, and not to belong behind `--`, where a program would be started.
    #[test]
    fn i5_an_unknown_option_stays_one() {
        for line in [
            "doctor --store redis://h http://h/mcp",
            "doctor --store-prefix x http://h/mcp",
            "--nothing http://h/mcp",
        ] {
            let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let whole = std::iter::once("thinpipe".to_owned()).chain(arguments.clone());
            let mut error = Cli::try_parse_from(whole).expect_err(line);
            assert_eq!(advice(&error, &arguments), None, "{line}");
            keep_options(&mut error);
            let said = error.to_string();
            assert!(said.contains("unexpected argument '--"), "{said}");
            assert!(!said.contains("'-- "), "{said}");
        }
    }
}
