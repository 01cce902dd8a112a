//! The `mcpServers` object that MCP clients keep their servers in (`servers` in VS Code's `mcp.json`), so
//! that it can be served as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thinpipe_proto::shown::Shown;

use super::bridge::RawEra;
use super::de;
use super::format::Format;
use super::problem::Problem;
use super::raw::{RawConfig, RawUpstream};
use super::suggest::closest;
use super::tree::{Key, Node, Path, Value};

/// What clients call the object.
pub(crate) const TABLES: [&str; 2] = ["mcpServers", "servers"];

/// One of its entries.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMcpServer {
    /// "http", "streamable-http", "sse" or "stdio"; told by `url` and `command` where it is missing.
    #[serde(rename = "type", alias = "transport")]
    pub(crate) kind: Option<String>,
    /// URL of the MCP endpoint.
    #[serde(alias = "serverUrl", alias = "httpUrl")]
    pub(crate) url: Option<String>,
    /// Headers added to every request to the server.
    pub(crate) headers: BTreeMap<String, String>,
    /// Leaves the entry out.
    pub(crate) disabled: Option<bool>,
    /// Of stdio servers.
    pub(crate) command: Option<String>,
    /// Of stdio servers.
    pub(crate) args: Option<Vec<String>>,
    /// Of stdio servers.
    pub(crate) env: Option<BTreeMap<String, String>>,
    /// Of stdio servers.
    pub(crate) cwd: Option<String>,
}

/// Takes out of a file what stands there for a client alone, and says so: keys of entries that are not
/// known, and, in JSON, keys beside the table of entries. It is done before `${..}` is replaced, since
/// what nobody uses need not be set.
pub(crate) fn pass_over(tree: &mut Node, format: Format) -> Vec<String> {
    let mut warnings = Vec::new();
    let Value::Table(top) = &mut tree.value else {
        return warnings;
    };
    let found = TABLES.map(|table| top.iter().any(|(key, _)| key.name == table));
    let Some(first) = found.iter().position(|&found| found) else {
        return warnings;
    };
    if format == Format::Json {
        let known = de::keys_of::<RawConfig>();
        let strangers = take(top, |name| known.contains(&name));
        warn(
            &mut warnings,
            &format!("beside `{}`", TABLES[first]),
            &strangers,
        );
    }
    for (table, servers) in top {
        let Value::Table(servers) = &mut servers.value else {
            continue;
        };
        if !TABLES.contains(&table.name.as_str()) {
            continue;
        }
        for (name, server) in servers {
            if let Value::Table(entries) = &mut server.value {
                let strangers = pass_over_entry(entries);
                let place = format!("in {}.{}", table.name, name.name);
                warn(&mut warnings, &place, &strangers);
            }
        }
    }
    warnings
}

fn pass_over_entry(entries: &mut Vec<(Key, Node)>) -> Vec<String> {
    let is = |wanted: &str, value: &Value| {
        entries
            .iter()
            .any(|(key, node)| key.name == wanted && node.value == *value)
    };
    let has = |wanted: &str| entries.iter().any(|(key, _)| key.name == wanted);
    if is("disabled", &Value::Bool(true)) {
        take(entries, |name| name == "disabled");
        return Vec::new();
    }
    let stdio = has("command");
    // Where there are several URLs, the one for Streamable HTTP is `httpUrl`.
    let url = ["httpUrl", "url", "serverUrl"]
        .into_iter()
        .find(|&name| has(name));
    let kind = ["type", "transport"].into_iter().find(|&name| has(name));
    let known = |name: &str| match name {
        "headers" | "disabled" | "command" => true,
        "args" | "env" | "cwd" => stdio,
        "type" | "transport" => Some(name) == kind,
        "url" | "httpUrl" | "serverUrl" => Some(name) == url,
        // Somebody who has no URL and something like it hears of that.
        _ => url.is_none() && !stdio && closest(name, &["url"]).is_some(),
    };
    let strangers = take(entries, known);
    for (key, _) in entries {
        match key.name.as_str() {
            "httpUrl" | "serverUrl" => "url".clone_into(&mut key.name),
            "transport" => "type".clone_into(&mut key.name),
            _ => {}
        }
    }
    strangers
}

/// Removes what is not known; the names of what was removed.
fn take(entries: &mut Vec<(Key, Node)>, known: impl Fn(&str) -> bool) -> Vec<String> {
    let strangers = entries.extract_if(.., |(key, _)| !known(&key.name));
    strangers.map(|(key, _)| key.name).collect()
}

fn warn(warnings: &mut Vec<String>, place: &str, names: &[String]) {
    if !names.is_empty() {
        let names = names.join("`, `");
        let warning = format!("{place}: `{names}` mean nothing to the gateway and are passed over");
        warnings.push(Shown::new(&warning, 2000).to_string());
    }
}

/// The entry as an upstream; `None` if it is disabled.
///
/// # Errors
/// A [`Problem`] for entries that contradict themselves.
pub(crate) fn upstream(
    name: &str,
    server: RawMcpServer,
    path: &Path,
) -> Result<Option<RawUpstream>, Problem> {
    if server.disabled == Some(true) {
        return Ok(None);
    }
    let kind = server.kind.as_deref().unwrap_or(match server.command {
        Some(_) => "stdio",
        None => "http",
    });
    let era = match kind {
        "http" | "streamable-http" | "streamable_http" | "streamableHttp" => None,
        "sse" => Some(RawEra::HttpSse),
        "stdio" => {
            if server.command.is_none() {
                let message = "a server on stdio has no `command`";
                let problem = Problem::at(path.clone(), message);
                return Err(problem.mend("add `\"command\": \"npx\"` and its `args`"));
            }
            None
        }
        other => {
            let known = ["http", "streamable-http", "sse", "stdio"];
            let problem = Problem::at(path.key("type"), format!("`{other}` is not known here"));
            return Err(problem.suggest(other, &known));
        }
    };
    if server.command.is_some() && (server.url.is_some() || kind != "stdio") {
        let message = "an entry has either `url` or `command`";
        return Err(Problem::at(path.key("command"), message).mend("remove one of them"));
    }
    Ok(Some(RawUpstream {
        name: Some(name.to_owned()),
        url: server.url,
        headers: server.headers,
        era,
        command: server.command,
        args: server.args,
        env: server.env.unwrap_or_default(),
        cwd: server.cwd,
        ..RawUpstream::default()
    }))
}
