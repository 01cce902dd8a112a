//! The configuration that is in effect, written down as a file again.

use std::collections::BTreeMap;

use std::path::Path as FilePath;

use thinpipe_gateway::{
    ChildUpstream, Forwarded, HttpUpstream, Reached, Resume, SessionLost, UpstreamSpec,
};
use thinpipe_proto::forwarded::ForwardedHeader;
use thinpipe_proto::shown::is_plain;
use thinpipe_transport::server::LegacyMode;

use super::bridge::{self, RawEra};
use super::raw::{
    RawConfig, RawForwarded, RawForwardedHeader, RawLegacy, RawLog, RawResume, RawSessionLost,
    RawStateKey, RawToken, RawUpstream,
};
use super::sse::RawSse;
use super::substitute::without_secrets;
use super::tables::{
    Quantity, RawHealth, RawLimits, RawPool, RawProcess, RawSessions, RawTimeouts,
};
use super::tree::{Node, Path, Value};
use super::{Config, clients, event_log, rate, replicas, store};

/// What stands for a secret.
/// It is refused when it is read again.
const HIDDEN: &str = "${REDACTED}";

/// The configuration as TOML. `tree` is the file it came from: what was taken from the environment is
/// shown as it was written there.
pub(super) fn to_toml(config: &Config, tree: &Node) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(&raw(config, tree)).map(visible)
}

/// The same document with escapes for characters that TOML takes as they are and a terminal does not
/// show. In a literal string an escape would be none, so that a sign has to stand for the character.
fn visible(text: String) -> String {
    let shows = |character| character == '\n' || is_plain(character);
    if text.chars().all(shows) {
        return text;
    }
    let replaced = |by: fn(char) -> String| -> String {
        let one = |character| match shows(character) {
            true => String::from(character),
            false => by(character),
        };
        text.chars().map(one).collect()
    };
    let escaped = replaced(|character| format!("\\U{:08X}", u32::from(character)));
    let read = |text: &str| text.parse::<toml::Table>().ok();
    if read(&escaped) == read(&text) {
        escaped
    } else {
        replaced(|_| char::REPLACEMENT_CHARACTER.into())
    }
}

/// The configuration with every key that has a value.
pub(super) fn raw(config: &Config, tree: &Node) -> RawConfig {
    let access = &config.server.access;
    let mut hosts = access.hosts.clone();
    if access.any_host {
        hosts.push("*".to_owned());
    }
    let proxies = &config.server.trusted_proxies;
    let carried = &config.server.carried_headers;
    let admin = config.admin.map(|address| address.to_string());
    RawConfig {
        listen: Some(config.listen.to_string()),
        admin: Some(admin.unwrap_or_else(|| "off".to_owned())),
        workers: Some(config.workers.get() as u64),
        allow_hosts: Some(hosts),
        allow_origins: Some(access.origins.clone()),
        trusted_proxies: Some(proxies.networks.iter().map(ToString::to_string).collect()),
        forwarded_header: Some(match proxies.header {
            ForwardedHeader::XForwardedFor => RawForwardedHeader::XForwardedFor,
            ForwardedHeader::Forwarded => RawForwardedHeader::Forwarded,
        }),
        carried_headers: Some(carried.iter().map(ToString::to_string).collect()),
        allow_sessionless: Some(config.server.allow_sessionless),
        legacy: Some(match config.server.legacy {
            LegacyMode::Served => RawLegacy::Served,
            LegacyMode::Refused => RawLegacy::Refused,
        }),
        store: Some(store::shown(&config.store, tree)),
        log: RawLog {
            format: Some(config.log.format),
            level: Some(config.log.level.clone()),
        },
        limits: limits(config),
        sessions: RawSessions::shown(&config.server.sessions),
        sse: RawSse::shown(&config.gateway.upstreams, &config.gateway.deprecation),
        interceptors: Vec::new(),
        interceptors_shown: interceptors_of(tree),
        // Shown with each upstream.
        chain: None,
        state_keys: state_keys(config, tree),
        tokens: tokens(config, tree),
        upstreams: config
            .gateway
            .upstreams
            .iter()
            .map(|spec| upstream(spec, tree))
            .collect(),
        mcp_servers: BTreeMap::new(),
        servers: BTreeMap::new(),
    }
}

fn limits(config: &Config) -> RawLimits {
    let limits = RawLimits::shown(&config.server.limits);
    event_log::shown(config, rate::shown(&config.gateway.rates, limits))
}

fn tokens(config: &Config, tree: &Node) -> Vec<RawToken> {
    let list = Path::default().key("tokens");
    let tokens = config.server.tokens.iter().enumerate();
    tokens
        .map(|(index, token)| RawToken {
            principal: plain(
                tree.at(&list.index(index)),
                "principal",
                token.principal.clone(),
            ),
            tier: config.gateway.rates.tier_of.get(&token.principal).cloned(),
            token: hidden(tree.at(&list.index(index).key("token"))),
        })
        .collect()
}

fn state_keys(config: &Config, tree: &Node) -> Vec<RawStateKey> {
    let list = Path::default().key("state_keys");
    let keys = config.gateway.state_keys.iter().enumerate();
    let shown = keys.map(|(index, _)| {
        let written = tree.at(&list.index(index));
        let at = |key: &str| written.and_then(|table| table.at(&Path::default().key(key)));
        match at("file").map(|node| &node.value) {
            Some(Value::Text(file)) => RawStateKey {
                key: None,
                file: Some(plain(written, "file", file.value.clone())),
            },
            _ => RawStateKey {
                key: Some(hidden(at("key"))),
                file: None,
            },
        }
    });
    shown.collect()
}

fn upstream(spec: &UpstreamSpec, tree: &Node) -> RawUpstream {
    let written = written(tree, spec.name());
    let raw = match &spec.reached {
        Reached::Http(http) => at_url(spec, http, written),
        Reached::Stdio(child) => by_command(child, written),
    };
    let sse = spec.sse.as_ref();
    let mut raw = RawUpstream {
        name: Some(plain(written, "name", spec.name().to_string())),
        path: Some(plain(written, "path", spec.path.clone())),
        sse_path: sse.map(|sse| plain(written, "sse_path", sse.stream.clone())),
        messages_path: sse.map(|sse| plain(written, "messages_path", sse.messages.clone())),
        rate: spec.rate,
        max_message: Some(Quantity::write(spec.max_message)),
        chain: Some(spec.chain.clone()),
        interceptors: Vec::new(),
        interceptors_shown: written.and_then(interceptors_of),
        ..raw
    };
    if spec.resume == Resume::Log {
        raw.resume = Some(RawResume::Log);
    }
    if spec.session_lost == SessionLost::Reestablish {
        raw.session_lost = Some(RawSessionLost::Reestablish);
    }
    bridge::show(spec.clients, &spec.bridge, &mut raw);
    raw
}

fn at_url(spec: &UpstreamSpec, http: &HttpUpstream, written: Option<&Node>) -> RawUpstream {
    let client = &http.client;
    let headers = client.headers.keys().map(|name| {
        let table = written.and_then(|node| node.at(&Path::default().key("headers")));
        let value = table.and_then(|table| entry(table, name.as_str()));
        (name.as_str().to_owned(), hidden(value))
    });
    let mut raw = RawUpstream {
        url: Some(plain(written, "url", client.url.to_string())),
        http2: Some(client.http2),
        era: Some(RawEra::shown_of_url(http.pin)),
        session_lost: Some(match spec.session_lost {
            SessionLost::End => RawSessionLost::End,
            SessionLost::Reestablish => RawSessionLost::Reestablish,
        }),
        resume: Some(match spec.resume {
            Resume::Upstream => RawResume::Upstream,
            Resume::Log => RawResume::Log,
            Resume::Off => RawResume::Off,
        }),
        forwarded: Some(match spec.forwarded {
            Forwarded::Off => RawForwarded::Off,
            Forwarded::Append => RawForwarded::Append,
        }),
        max_passed_body: Some(Quantity::write(spec.max_passed_body)),
        headers: headers.collect(),
        timeouts: RawTimeouts::shown(client),
        pool: RawPool::shown(client),
        health: RawHealth::shown(&spec.health),
        ..RawUpstream::default()
    };
    if let Some(group) = &http.group {
        replicas::show(group, written, &mut raw);
    }
    raw
}

fn by_command(child: &ChildUpstream, written: Option<&Node>) -> RawUpstream {
    let process = &child.process;
    let at = |path: &Path| written.and_then(|node| node.at(path));
    let env = process.env.iter().map(|(name, _)| {
        let name = name.to_string_lossy().into_owned();
        let value = at(&Path::default().key("env").key(&name));
        (name, hidden(value))
    });
    let args = Path::default().key("args");
    let mut secret = false;
    let args = process.args.iter().enumerate().map(|(index, argument)| {
        let argument = argument.to_string_lossy().into_owned();
        let follows = std::mem::replace(&mut secret, announces_secret(&argument));
        let node = at(&args.index(index));
        let is_option = is_secret(&argument) && argument.contains('=');
        match node.and_then(template) {
            Some(template) => written_as(template, follows || is_option),
            None if follows || is_option => HIDDEN.to_owned(),
            None => argument,
        }
    });
    let text = |path: &FilePath| path.to_string_lossy().into_owned();
    RawUpstream {
        command: Some(plain(written, "command", text(process.command.as_ref()))),
        args: Some(args.collect()),
        env: env.collect(),
        inherit_env: Some(process.inherit_env),
        era: Some(RawEra::shown_of_program(child.pin)),
        cwd: process
            .cwd
            .as_deref()
            .map(|cwd| plain(written, "cwd", text(cwd))),
        process: RawProcess::shown(child),
        ..RawUpstream::default()
    }
}

/// An option whose value is the next argument, and a secret: `--api-key`.
fn announces_secret(argument: &str) -> bool {
    argument.starts_with('-') && !argument.contains('=') && is_secret(argument)
}

/// The interceptors in a table of the file.
fn interceptors_of(table: &Node) -> Option<toml::Value> {
    shown(table.at(&Path::default().key("interceptors"))?, false)
}

/// Where an upstream of this name stands in the file.
pub(super) fn written<'a>(tree: &'a Node, name: &str) -> Option<&'a Node> {
    let servers = clients::TABLES
        .iter()
        .find_map(|table| tree.at(&Path::default().key(*table).key(name)));
    let list = tree.at(&Path::default().key("upstreams"));
    let Some(Value::List(items)) = list.map(|node| &node.value) else {
        return servers;
    };
    let named = items.iter().find(|item| {
        let found = item.at(&Path::default().key("name"));
        matches!(found.map(|node| &node.value), Some(Value::Text(text)) if text.value == name)
    });
    // An only upstream needs no name.
    let only = items.first().filter(|_| items.len() == 1);
    named.or(servers).or(only)
}

fn entry<'a>(table: &'a Node, name: &str) -> Option<&'a Node> {
    let Value::Table(entries) = &table.value else {
        return None;
    };
    let found = entries
        .iter()
        .find(|(key, _)| key.name.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value)
}

/// A secret: as it was written if it came from the environment, otherwise not at all.
pub(super) fn hidden(node: Option<&Node>) -> String {
    match node.and_then(template) {
        Some(template) => written_as(template, true),
        None => HIDDEN.to_owned(),
    }
}

/// A value that is no secret, unless it came from the environment: then it is shown as it was written.
pub(super) fn plain(table: Option<&Node>, key: &str, value: String) -> String {
    let node = table.and_then(|table| table.at(&Path::default().key(key)));
    match node.and_then(template) {
        Some(template) => written_as(template, is_secret(key)),
        None => value,
    }
}

/// What stood in the file, if something was replaced in it.
pub(super) fn template(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) => text.template.as_deref(),
        _ => None,
    }
}

/// A template as it may be shown. A default in a secret is not: without it, the file cannot be served
/// until the variable is set.
pub(super) fn written_as(template: &str, secret: bool) -> String {
    without_secrets(template, secret, is_secret)
}

/// A part of the file as it was written, without its secrets; TOML has no null.
fn shown(node: &Node, secret: bool) -> Option<toml::Value> {
    Some(match &node.value {
        Value::Null => return None,
        Value::Bool(value) => toml::Value::Boolean(*value),
        Value::Integer(number) => toml::Value::Integer(i64::try_from(*number).ok()?),
        Value::Float(number) => toml::Value::Float(*number),
        Value::Text(text) => toml::Value::String(match &text.template {
            Some(template) => written_as(template, secret),
            None if secret => HIDDEN.to_owned(),
            None => text.value.clone(),
        }),
        Value::List(items) => toml::Value::Array(
            items
                .iter()
                .filter_map(|item| shown(item, secret))
                .collect(),
        ),
        Value::Table(entries) => toml::Value::Table(
            entries
                .iter()
                .filter_map(|(key, value)| {
                    let value = shown(value, secret || is_secret(&key.name))?;
                    Some((key.name.clone(), value))
                })
                .collect(),
        ),
    })
}

/// Settings of interceptors that may hold credentials: headers they set, and what is called so.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key == "set"
        || [
            "token",
            "secret",
            "password",
            "authorization",
            "api-key",
            "apikey",
            "api_key",
        ]
        .iter()
        .any(|w| key.contains(w))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I5: what is in effect is shown, reads the same, and does nothing to the terminal.
    #[test]
    fn i5_values_that_do_not_show_are_escaped() {
        for (value, expected) in [
            ("\"a\u{9b}31m\u{202e}\"", "\"a\\U0000009B31m\\U0000202E\""),
            ("'a\u{202e}\"'", "'a\u{fffd}\"'"),
            ("\"grüße\"", "\"grüße\""),
        ] {
            let shown = visible(format!("x = {value}\n"));
            assert_eq!(shown, format!("x = {expected}\n"));
        }
    }
}
