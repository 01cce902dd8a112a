//! The `mcpServers` object that MCP clients keep their servers in, so that it can be served as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::raw::RawUpstream;
use super::tree::Path;

/// One entry of `mcpServers`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMcpServer {
    /// "http", "streamable-http", "sse" or "stdio"; told by `url` and `command` where it is missing.
    #[serde(rename = "type", alias = "transport")]
    pub(crate) kind: Option<String>,
    /// URL of the MCP endpoint.
    #[serde(alias = "serverUrl")]
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

/// The entry as an upstream; `None` if it is disabled.
///
/// # Errors
/// A [`Problem`] for servers of a kind that is not served.
pub(crate) fn upstream(
    name: &str,
    server: RawMcpServer,
    path: &Path,
) -> Result<Option<RawUpstream>, Problem> {
    if server.disabled == Some(true) {
        return Ok(None);
    }
    let leave_out = "leave the entry out, or set `\"disabled\": true` on it";
    let kind = server.kind.as_deref().unwrap_or(match server.command {
        Some(_) => "stdio",
        None => "http",
    });
    match kind {
        "http" | "streamable-http" | "streamable_http" | "streamableHttp" => {}
        "stdio" => {
            let at = match server.command {
                Some(_) => path.key("command"),
                None => path.key("type"),
            };
            return Err(
                Problem::at(at, "servers on stdio are not served yet").mend(format!(
                    "start the server with its HTTP transport and give its `url`, or {leave_out}"
                )),
            );
        }
        "sse" => {
            return Err(Problem::at(
                path.key("type"),
                "servers on the HTTP+SSE transport of 2024-11-05 are not served yet",
            )
            .mend(format!(
                "give the `url` of the server's Streamable HTTP endpoint with `\"type\": \"http\"`, or {leave_out}"
            )));
        }
        other => {
            let known = ["http", "streamable-http", "sse", "stdio"];
            let problem = Problem::at(path.key("type"), format!("`{other}` is not known here"));
            return Err(problem.suggest(other, &known));
        }
    }
    if server.command.is_some() {
        let message = "an entry has either `url` or `command`";
        return Err(Problem::at(path.key("command"), message).mend("remove `command`"));
    }
    Ok(Some(RawUpstream {
        name: Some(name.to_owned()),
        url: server.url,
        headers: server.headers,
        ..RawUpstream::default()
    }))
}
