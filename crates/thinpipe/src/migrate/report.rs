//! The report, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value, json};
use thinpipe_proto::deprecation::{AfterSunset, ClientUse, Timestamp};
use thinpipe_proto::shown::Shown;

use super::advice::{self, Change, When};
use crate::config::Period;
use crate::sse_clients::{SseClients, SseServed, SseServedAt};

/// Bytes of a text of the gateway's that are shown: it has cut them shorter itself.
const MAX_SHOWN: usize = 500;
/// The head of the table.
const HEAD: [&str; 6] = [
    "client",
    "server",
    "sessions",
    "open",
    "first seen",
    "last seen",
];

/// All that is said.
#[derive(Debug, Serialize)]
pub(super) struct Migration {
    #[serde(flatten)]
    found: SseClients,
    /// `mcpServers` of the clients, for the upstreams that are still used.
    client_configuration: Entries,
    /// What to change in the gateway's file, if it was given.
    gateway: Option<FileChanges>,
}

/// A configuration before and after.
#[derive(Debug, Serialize)]
struct Entries {
    was: Value,
    new: Value,
}

/// What to change in a file.
#[derive(Debug, Serialize)]
pub(super) struct FileChanges {
    /// Its name.
    pub(super) file: String,
    /// In what it differs from the gateway that runs.
    pub(super) differences: Vec<String>,
    /// The settings.
    pub(super) changes: Vec<Change>,
}

impl Migration {
    /// What was found, with what follows from it.
    pub(super) fn new(found: SseClients, gateway: Option<FileChanges>) -> Self {
        let client_configuration = Entries {
            was: entries(&found, "sse", |at| &at.url),
            new: entries(&found, "http", |at| &at.successor),
        };
        Self {
            found,
            client_configuration,
            gateway,
        }
    }
}

/// The upstreams that have clients, as these have them configured.
fn entries(found: &SseClients, kind: &str, url: impl Fn(&SseServedAt) -> &String) -> Value {
    let entries: Map<_, _> = used(found)
        .map(|at| (at.name.clone(), json!({ "type": kind, "url": url(at) })))
        .collect();
    json!({ "mcpServers": entries })
}

fn used(found: &SseClients) -> impl Iterator<Item = &SseServedAt> {
    let report = &found.report;
    // Of those that are counted together nobody knows where they were.
    let all = report.other.is_some();
    let is_used = move |at: &&SseServedAt| {
        let mut clients = report.clients.iter();
        all || clients.any(|client| client.endpoint == at.name)
    };
    found.served.endpoints.iter().filter(is_used)
}

/// The report as JSON: `docs/src/operations.md` describes it.
pub(super) fn json(migration: &Migration) -> Value {
    // Keys are text, and numbers are whole.
    serde_json::to_value(migration).unwrap_or_default()
}

/// The report as text.
pub(super) fn text(migration: &Migration, now: Timestamp) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut out, migration, now);
    out
}

fn write_text(out: &mut String, migration: &Migration, now: Timestamp) -> std::fmt::Result {
    let (report, served) = (&migration.found.report, &migration.found.served);
    if report.sessions == 0 {
        nobody(out, &migration.found, now)?;
        sunset(out, served, now)?;
    } else {
        writeln!(
            out,
            "Sessions over HTTP+SSE since {}, when the gateway was started: {}, open now: {}.",
            served.since, report.sessions, report.open
        )?;
        sunset(out, served, now)?;
        out.push('\n');
        table(out, &rows(&migration.found))?;
        client_changes(out, migration)?;
    }
    match &migration.gateway {
        Some(gateway) => gateway_changes(out, gateway),
        None if served.endpoints.is_empty() => Ok(()),
        None => writeln!(
            out,
            "\nWhat to change in the gateway's file: `thinpipe migrate --config FILE`."
        ),
    }
}

/// Nobody was counted, which says the more the longer it was possible.
fn nobody(out: &mut String, found: &SseClients, now: Timestamp) -> std::fmt::Result {
    let served = &found.served;
    let since = served.since;
    if served.endpoints.is_empty() {
        return writeln!(out, "HTTP+SSE is switched off in this gateway.");
    }
    if served.ended_by(now) {
        return writeln!(
            out,
            "Since {since}, when the gateway was started, no client was served over HTTP+SSE."
        );
    }
    write!(
        out,
        "Since {since}, when the gateway was started, no client has used HTTP+SSE."
    )?;
    if !advice::is_long_enough(found, now) {
        let watched = Period(advice::watched(found, now));
        write!(out, " That is {watched} only: ask again later.")?;
    }
    out.push('\n');
    Ok(())
}

/// The day on which it ends, or has ended.
fn sunset(out: &mut String, served: &SseServed, now: Timestamp) -> std::fmt::Result {
    let Some(sunset) = served.sunset.filter(|_| !served.endpoints.is_empty()) else {
        return Ok(());
    };
    let day = sunset.date_text();
    match (served.after_sunset, served.ended_by(now)) {
        (AfterSunset::Gone, false) => writeln!(out, "It ends here on {day}."),
        (AfterSunset::Gone, true) => writeln!(
            out,
            "It ended here on {day}: who comes since then gets 410 and the new address, and is not \
             counted. Whether somebody still comes is in the gateway's log: lines with status=410."
        ),
        (AfterSunset::Warn, _) => writeln!(
            out,
            "Clients are told that it ends on {day}; it is served after that day, too."
        ),
    }
}

fn rows(found: &SseClients) -> Vec<[String; 6]> {
    let head = HEAD.map(str::to_owned);
    let clients = found.report.clients.iter().map(|client| {
        let name = format!("{} {}", client.name, client.version);
        let name = match name.trim() {
            "" => "(has no name)",
            name => name,
        };
        row(name, client)
    });
    let other = found
        .report
        .other
        .iter()
        .map(|other| row("(others)", other));
    [head].into_iter().chain(clients).chain(other).collect()
}

fn row(name: &str, client: &ClientUse) -> [String; 6] {
    // The gateway has made them presentable, if it is one.
    let shown = |text: &str| Shown::new(text, MAX_SHOWN).to_string();
    [
        shown(name),
        shown(&client.endpoint),
        client.sessions.to_string(),
        client.open.to_string(),
        client.first_seen.to_string(),
        client.last_seen.to_string(),
    ]
}

fn table(out: &mut String, rows: &[[String; 6]]) -> std::fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or_default());
    for row in rows {
        let mut line = String::from("  ");
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            match column {
                // Numbers.
                2 | 3 => write!(line, "{cell:>width$}  ")?,
                _ => write!(line, "{cell:<width$}  ")?,
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn client_changes(out: &mut String, migration: &Migration) -> std::fmt::Result {
    let Entries { was, new } = &migration.client_configuration;
    out.push_str("\nThe configuration of these clients, or what it comes to:\n\n");
    indented(out, was)?;
    out.push_str("\nPut in its place, in one client after the other:\n\n");
    indented(out, new)?;
    out.push_str(
        "\nWhat else is in an entry stays, its headers above all; so does the host, where clients use \
         another name for it.\nSome clients call the type \"streamable-http\".\n",
    );
    Ok(())
}

fn indented(out: &mut String, value: &Value) -> std::fmt::Result {
    for line in format!("{value:#}").lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn gateway_changes(out: &mut String, gateway: &FileChanges) -> std::fmt::Result {
    let FileChanges {
        file,
        differences,
        changes,
    } = gateway;
    if !differences.is_empty() {
        writeln!(
            out,
            "\n{file} is not what this gateway was started with (or it has changed since, or options and \
             environment say otherwise):"
        )?;
        for difference in differences {
            writeln!(out, "  {}", Shown::new(difference, MAX_SHOWN))?;
        }
    }
    if changes.is_empty() {
        return writeln!(
            out,
            "\nIn {file} there is nothing to change: HTTP+SSE is switched off."
        );
    }
    for (when, head) in [
        (When::Now, "for the next start of the gateway"),
        (When::AtLast, "at last"),
    ] {
        let mut changes = changes
            .iter()
            .filter(|change| change.when == when)
            .peekable();
        if changes.peek().is_some() {
            writeln!(out, "\nIn {file}, {head}:\n")?;
        }
        for Change {
            key, was, new, why, ..
        } in changes
        {
            match was {
                Value::Null => writeln!(out, "  {key} = {new}  (it is not set)")?,
                was => writeln!(out, "  {key} = {new}  (it is {was})")?,
            }
            writeln!(out, "      {why}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
