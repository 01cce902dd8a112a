//! Configuration: a file, the environment and the command line become one [`Config`].
//!
//! text → [`tree`] (with places) → [`raw`] (typed, every key optional) → [`Config`] (checked). Nothing
//! behind `Config` checks a setting again.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::SystemTime;

use thinpipe_gateway::GatewayConfig;
use thinpipe_proto::deprecation::Timestamp;
use thinpipe_transport::server::ServerConfig;

mod access;
mod bridge;
mod build;
mod clients;
mod de;
mod doubt;
mod effective;
mod event_log;
mod format;
mod kinds;
mod problem;
mod program;
mod quantity;
mod rate;
mod raw;
mod replicas;
mod settings;
mod shares;
mod sse;
mod state_keys;
mod store;
mod substitute;
mod suggest;
mod tables;
#[cfg(test)]
mod tests;
mod tree;
mod upstreams;
mod url;

pub(crate) use bridge::{RawEra, RawSharing};
pub(crate) use build::ADMIN;
pub(crate) use problem::Problems;
pub(crate) use quantity::Period;
pub(crate) use raw::LogFormat;
pub(crate) use settings::{Layers, Settings};
pub(crate) use store::StoreConfig;
pub(crate) use suggest::closest;

use build::Build;
use format::Format;
use problem::{Place, Problem, Source};
use raw::{RawConfig, RawUpstream};
use tree::Node;

/// What the whole program is told. Valid.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Address that clients connect to.
    pub(crate) listen: SocketAddr,
    /// Address of health, metrics and status.
    pub(crate) admin: Option<SocketAddr>,
    /// Threads that serve connections.
    pub(crate) workers: NonZeroUsize,
    /// Logs.
    pub(crate) log: LogConfig,
    /// Where sessions are kept.
    pub(crate) store: StoreConfig,
    /// The server side.
    pub(crate) server: ServerConfig,
    /// The gateway.
    pub(crate) gateway: GatewayConfig,
}

/// What is logged, and how a line looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// How a line looks.
    pub(crate) format: LogFormat,
    /// Levels, as `tracing_subscriber::filter::Targets` reads them.
    pub(crate) level: String,
}

/// A configuration and the file it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What is meant.
    pub(crate) config: Config,
    /// What was passed over.
    pub(crate) warnings: Vec<String>,
    tree: Node,
}

/// Reads environment variables; tests have their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Loaded {
    /// The whole configuration as TOML, defaults included, secrets not.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        effective::to_toml(&self.config, &self.tree)
    }
}

/// Reads a configuration file.
///
/// # Errors
/// All that is wrong with it, or why it cannot be read.
pub(crate) fn load(
    path: &Path,
    flags: &Settings,
    environment: Environment<'_>,
) -> anyhow::Result<Loaded> {
    use anyhow::Context as _;

    use crate::Mendable;

    let bytes = std::fs::read(path).with_context(|| Mendable {
        what: format!("cannot read {}", path.display()),
        mend: "is it the path of a file that this user may read? It is that after `--config`, or after `check`"
            .to_owned(),
    })?;
    let text = String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    let source = Source {
        name: path.display().to_string(),
        text: text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned(),
    };
    let format = Format::of(path, &source.text);
    let text = source.clone();
    let mut loaded = parse(source, format, flags, environment)?;
    let now = Timestamp::from(SystemTime::now());
    loaded.warnings.extend(doubt::doubts(&loaded.config, now));
    let missing = program::missing(&loaded.config.gateway.upstreams, |spec, key| {
        let table = effective::written(&loaded.tree, spec.name());
        let value = table.map(|table| table.nearest(&tree::Path::default().key(key)));
        Place::Span(value.unwrap_or(0..0))
    });
    match missing.is_empty() {
        true => Ok(loaded),
        false => Err(Problems::of_file(missing, text, loaded.tree).into()),
    }
}

/// What a key of this name is in a file, if there is one, at the top or of a server: `upstreams.resume`.
pub(crate) fn place_of_key(name: &str) -> Option<String> {
    if de::keys_of::<RawUpstream>().contains(&name) {
        return Some(format!("upstreams.{name}"));
    }
    let top = de::keys_of::<RawConfig>().contains(&name);
    top.then(|| name.to_owned())
}

/// A server on stdio as it is written on a command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandLine<'a> {
    /// The program and its arguments.
    pub(crate) words: &'a [String],
    /// Variables of its environment, `NAME=VALUE`.
    pub(crate) env: &'a [String],
}

/// What a command line says of its only server, beside where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Manner {
    /// Name of the server, for logs and clients [default: server]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// What the server speaks [default: auto]
    #[arg(long, value_name = "ERA")]
    pub(crate) era: Option<RawEra>,
    /// Who shares a session of the server [default: auto]
    #[arg(long, value_name = "SHARING", conflicts_with = "shared")]
    pub(crate) sessions: Option<RawSharing>,
}

impl Manner {
    /// A name, and all else as it is by default.
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::default()
        }
    }
}

/// The configuration of one server that is a program.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn for_command(
    line: CommandLine<'_>,
    manner: Manner,
    flags: &Settings,
    environment: Environment<'_>,
) -> Result<Config, Problems> {
    let setting = |name: &str| Place::Setting(name.to_owned());
    let mut upstream = RawUpstream {
        name: manner.name,
        era: manner.era,
        sessions: manner.sessions,
        command: line.words.first().cloned(),
        args: Some(line.words.iter().skip(1).cloned().collect()),
        ..RawUpstream::default()
    };
    for variable in line.env {
        let Some((name, value)) = variable.split_once('=') else {
            let problem = Problem::new(setting("--env"), "a variable without a value");
            let problem = problem.mend("write it as in `--env NAME=VALUE`");
            return Err(Problems::of_settings(vec![problem]));
        };
        upstream.env.insert(name.to_owned(), value.to_owned());
    }
    let config = for_one(upstream, flags, environment)?;
    let missing = program::missing(&config.gateway.upstreams, |_, _| setting("COMMAND"));
    match missing.is_empty() {
        true => Ok(config),
        false => Err(Problems::of_settings(missing)),
    }
}

/// The configuration of one server at a URL.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn for_url(
    url: &str,
    manner: Manner,
    flags: &Settings,
    environment: Environment<'_>,
) -> Result<Config, Problems> {
    for_replicas((url, &[]), manner, flags, environment)
}

/// The configuration of one server at a URL, and of its further replicas.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn for_replicas(
    (url, further): (&str, &[String]),
    manner: Manner,
    flags: &Settings,
    environment: Environment<'_>,
) -> Result<Config, Problems> {
    let replicas = replicas::of_words(url, further);
    let replicas = replicas.map_err(|problem| Problems::of_settings(vec![problem]))?;
    let upstream = RawUpstream {
        name: manner.name,
        era: manner.era,
        sessions: manner.sessions,
        url: replicas.is_none().then(|| url.to_owned()),
        replicas,
        ..RawUpstream::default()
    };
    for_one(upstream, flags, environment)
        .map_err(|problems| problems.moved(|place| replicas::place_of_words(further, place)))
}

fn for_one(
    upstream: RawUpstream,
    flags: &Settings,
    environment: Environment<'_>,
) -> Result<Config, Problems> {
    let raw = RawConfig {
        upstreams: vec![upstream],
        ..RawConfig::default()
    };
    let layers = layers(flags, environment);
    let mut build = Build {
        direct: true,
        ..Build::default()
    };
    let config = build.config(raw, &layers);
    match build.problems.is_empty() {
        true => Ok(config),
        false => Err(Problems::of_settings(build.problems)),
    }
}

fn parse(
    source: Source,
    format: Format,
    flags: &Settings,
    environment: Environment<'_>,
) -> Result<Loaded, Problems> {
    let mut tree = match format.parse(&source.text) {
        Ok(tree) => tree,
        Err(problem) => return Err(Problems::of_file(vec![problem], source, Node::empty())),
    };
    let warnings = clients::pass_over(&mut tree, format);
    let taken = RefCell::new(Vec::new());
    let recording = |name: &str| {
        let value = environment(name)?;
        taken.borrow_mut().push((name.to_owned(), value.clone()));
        Some(value)
    };
    let mut build = Build::default();
    let config = match read(&mut tree, &recording) {
        Ok(raw) => Some(build.config(raw, &layers(flags, environment))),
        Err(problems) => {
            build.problems = problems;
            None
        }
    };
    match config {
        Some(config) if build.problems.is_empty() => Ok(Loaded {
            config,
            warnings,
            tree,
        }),
        _ => {
            // Messages quote values; what came from the environment is nobody's to read.
            let taken = taken.into_inner();
            let problems = Problems::of_file(build.problems, source, tree.clone());
            Err(problems.rewritten(|text| substitute::conceal(text, &tree, &taken)))
        }
    }
}

/// What is written in a tree, `${..}` replaced, nothing checked but its shape.
fn read(tree: &mut Node, environment: Environment<'_>) -> Result<RawConfig, Vec<Problem>> {
    let mut problems = Vec::new();
    substitute::substitute(tree, environment, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    de::from_node(tree).map_err(|problem| vec![problem])
}

fn layers(flags: &Settings, environment: Environment<'_>) -> Layers {
    Layers {
        flags: flags.clone(),
        environment: Settings::from_environment(environment),
    }
}
