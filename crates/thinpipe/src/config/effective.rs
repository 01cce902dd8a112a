//! The configuration that is in effect, written down as a file again.

use std::collections::BTreeMap;
use std::time::Duration;

use thinpipe_gateway::{Resume, SessionLost, UpstreamSpec};
use thinpipe_transport::server::{LegacyMode, Limits, SessionLimits};

use super::Config;
use super::quantity::{Period, Size};
use super::raw::{
    RawConfig, RawHealth, RawLegacy, RawLimits, RawLog, RawPool, RawResume, RawSessionLost,
    RawSessions, RawTimeouts, RawToken, RawUpstream,
};
use super::tree::{Node, Path, Text, Value};

/// What stands for a secret.
/// It is refused when it is read again.
const HIDDEN: &str = "${REDACTED}";

/// The configuration as TOML. `tree` is the file it came from: what was taken from the environment is
/// shown as it was written there.
pub(super) fn to_toml(config: &Config, tree: &Node) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(&raw(config, tree))
}

/// The configuration with every key that has a value.
pub(super) fn raw(config: &Config, tree: &Node) -> RawConfig {
    let access = &config.server.access;
    let mut hosts = access.hosts.clone();
    if access.any_host {
        hosts.push("*".to_owned());
    }
    let admin = config.admin.map(|address| address.to_string());
    RawConfig {
        listen: Some(config.listen.to_string()),
        admin: Some(admin.unwrap_or_else(|| "off".to_owned())),
        workers: Some(config.workers.get() as u64),
        allow_hosts: Some(hosts),
        allow_origins: Some(access.origins.clone()),
        allow_sessionless: Some(config.server.allow_sessionless),
        legacy: Some(match config.server.legacy {
            LegacyMode::Served => RawLegacy::Served,
            LegacyMode::Refused => RawLegacy::Refused,
        }),
        log: RawLog {
            format: Some(config.log.format),
            level: Some(config.log.level.clone()),
        },
        limits: limits(&config.server.limits),
        sessions: sessions(&config.server.sessions),
        interceptors: Vec::new(),
        interceptors_shown: interceptors_of(tree),
        // Shown with each upstream.
        chain: None,
        tokens: tokens(config, tree),
        upstreams: config
            .gateway
            .upstreams
            .iter()
            .map(|spec| upstream(spec, tree))
            .collect(),
        mcp_servers: BTreeMap::new(),
    }
}

fn limits(limits: &Limits) -> RawLimits {
    RawLimits {
        max_connections: count(limits.max_connections),
        max_streams: count(limits.max_streams),
        max_requests: count(limits.max_requests),
        max_requests_per_session: count(limits.max_requests_per_session),
        max_body: size(limits.max_body),
        max_buffered: size(limits.max_buffered),
        max_batch: size(limits.max_batch),
        max_head: size(limits.max_head),
        max_headers: count(limits.max_headers),
        head_timeout: period(limits.head_timeout),
        body_timeout: period(limits.body_timeout),
        idle_timeout: period(limits.idle_timeout),
        write_stall: period(limits.write_stall),
        keep_alive: period(limits.keep_alive),
        drain: period(limits.drain),
        max_detached: count(limits.max_detached),
        detached_timeout: period(limits.detached_timeout),
    }
}

fn sessions(limits: &SessionLimits) -> RawSessions {
    RawSessions {
        max: count(limits.max),
        idle: period(limits.idle),
        age: period(limits.age),
        sweep: period(limits.sweep),
    }
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
            token: hidden(tree.at(&list.index(index).key("token"))),
        })
        .collect()
}

fn upstream(spec: &UpstreamSpec, tree: &Node) -> RawUpstream {
    let client = &spec.client;
    let written = written(tree, &client.name);
    let headers = client.headers.keys().map(|name| {
        let table = written.and_then(|node| node.at(&Path::default().key("headers")));
        let value = table.and_then(|table| entry(table, name.as_str()));
        (name.as_str().to_owned(), hidden(value))
    });
    RawUpstream {
        name: Some(plain(written, "name", client.name.to_string())),
        url: Some(plain(written, "url", client.url.to_string())),
        path: Some(plain(written, "path", spec.path.clone())),
        http2: Some(client.http2),
        session_lost: Some(match spec.session_lost {
            SessionLost::End => RawSessionLost::End,
            SessionLost::Reestablish => RawSessionLost::Reestablish,
        }),
        resume: Some(match spec.resume {
            Resume::Upstream => RawResume::Upstream,
            Resume::Off => RawResume::Off,
        }),
        max_message: size(spec.max_message),
        max_passed_body: Some(Size(spec.max_passed_body)),
        headers: headers.collect(),
        timeouts: RawTimeouts {
            connect: period(client.connect_timeout),
            first_byte: period(client.first_byte_timeout),
            idle: period(client.idle_timeout),
            request: period(client.request_timeout),
            stream_idle: period(client.stream_idle_timeout),
        },
        pool: RawPool {
            max_connections: count(client.max_connections),
            max_streams: count(client.max_streams),
            max_idle: count(client.pool_max_idle),
            idle_timeout: period(client.pool_idle_timeout),
            rotate_after_requests: Some(client.rotate_after_requests),
            rotate_after: period(client.rotate_after),
        },
        health: RawHealth {
            interval: period(spec.health.interval),
            timeout: period(spec.health.timeout),
            failures: Some(spec.health.failures.into()),
        },
        chain: Some(spec.chain.clone()),
        interceptors: Vec::new(),
        interceptors_shown: written.and_then(interceptors_of),
    }
}

/// The interceptors in a table of the file.
fn interceptors_of(table: &Node) -> Option<toml::Value> {
    shown(table.at(&Path::default().key("interceptors"))?, false)
}

/// Where an upstream of this name stands in the file.
fn written<'a>(tree: &'a Node, name: &str) -> Option<&'a Node> {
    let servers = tree.at(&Path::default().key("mcpServers").key(name));
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
fn hidden(node: Option<&Node>) -> String {
    match node.map(|node| &node.value) {
        Some(Value::Text(Text {
            template: Some(template),
            ..
        })) => template.clone(),
        _ => HIDDEN.to_owned(),
    }
}

/// A value that is no secret, unless it came from the environment: then it is shown as it was written.
fn plain(table: Option<&Node>, key: &str, value: String) -> String {
    let node = table.and_then(|table| table.at(&Path::default().key(key)));
    match node.map(|node| &node.value) {
        Some(Value::Text(Text {
            template: Some(template),
            ..
        })) => template.clone(),
        _ => value,
    }
}

/// A part of the file as it was written, without its secrets; TOML has no null.
fn shown(node: &Node, secret: bool) -> Option<toml::Value> {
    Some(match &node.value {
        Value::Null => return None,
        Value::Bool(value) => toml::Value::Boolean(*value),
        Value::Integer(number) => toml::Value::Integer(i64::try_from(*number).ok()?),
        Value::Float(number) => toml::Value::Float(*number),
        Value::Text(text) => toml::Value::String(match &text.template {
            Some(template) => template.clone(),
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
        || ["token", "secret", "password", "authorization"]
            .iter()
            .any(|w| key.contains(w))
}

fn count(value: usize) -> Option<u64> {
    Some(value as u64)
}

fn size(value: usize) -> Option<Size> {
    Some(Size(value as u64))
}

fn period(value: Duration) -> Option<Period> {
    Some(Period(value))
}
