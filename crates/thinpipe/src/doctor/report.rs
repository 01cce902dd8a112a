//! The report, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use thinpipe_gateway::ProgramEra;
use thinpipe_proto::shown::Shown;

use super::crossing::Served;
use super::judgement::{Finding, Level, is_usable};
use super::observation::{Identity, Observations};
use super::pin::Pin;
use crate::crossing::{Client, Way};

/// Of a text that quotes a server, so many bytes are shown.
const MAX_SHOWN: usize = 500;
/// Where texts are broken.
const WIDTH: usize = 96;
/// Where texts begin.
const INDENT: usize = 26;

/// All that is reported.
pub(crate) struct Found<'a> {
    pub(crate) seen: &'a Observations,
    pub(crate) findings: &'a [Finding],
    /// What the gateway is told that the server speaks.
    pub(crate) pin: Option<Pin>,
    pub(crate) clients: &'a [Served],
}

/// The report as a table.
pub(crate) fn table(found: &Found<'_>) -> String {
    let Found {
        seen,
        findings,
        pin,
        clients,
    } = *found;
    let usable = if is_usable(findings) {
        "usable"
    } else {
        "not usable"
    };
    let mut out = format!("{}: {usable}\n", Shown::new(&seen.target, MAX_SHOWN));
    if let Ok(identity) = &seen.identity {
        row(&mut out, "", "server", &named(identity));
        row(&mut out, "", "speaks", &spoken(identity));
        row(&mut out, "", "revisions", &revisions(identity));
    }
    out.push('\n');
    for finding in findings {
        row(&mut out, word(finding.level), finding.check, &finding.text);
        if let Some(mend) = finding.mend.filter(|_| finding.level > Level::Fine) {
            row(&mut out, "", "", &format!("-> {mend}"));
        }
    }
    if !clients.is_empty() {
        let settings = match pin {
            Some(pin) => format!("{pin} and otherwise its default settings"),
            None => "its default settings".to_owned(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(out, "\nthrough the gateway, with {settings}:");
    }
    for Served { client, way, lost } in clients {
        row(&mut out, way_word(*way), client.key(), &how(*client, *way));
        for lost in lost {
            row(&mut out, "", "", &format!("- {}", lost.text));
        }
    }
    out
}

/// The report as JSON: `docs/src/operations.md` describes it.
pub(crate) fn json(found: &Found<'_>) -> Value {
    let Found {
        seen,
        findings,
        pin,
        clients,
    } = *found;
    let checks: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "level": word(finding.level),
                "text": Shown::new(&finding.text, MAX_SHOWN).to_string(),
                "mend": finding.mend,
            })
        })
        .collect();
    let identity = seen.identity.as_ref().ok();
    let lists: serde_json::Map<_, _> = seen
        .lists
        .iter()
        .filter_map(|(method, list)| Some(((*method).to_owned(), json!(list.as_ref().ok()?.names))))
        .collect();
    let unfinished = seen.lists.iter().filter_map(|(method, list)| {
        let goes_on = list.as_ref().is_ok_and(|list| list.goes_on);
        goes_on.then_some(*method)
    });
    json!({
        "target": seen.target,
        "usable": is_usable(findings),
        "server": identity.map(|identity| json!({
            "name": identity.name,
            "version": identity.version,
        })),
        "bindings": identity.map(bindings),
        "revisions": identity.map(|identity| {
            identity.revisions.iter().map(|r| r.as_str()).collect::<Vec<_>>()
        }),
        "lists": lists,
        "era": pin.map(|pin| pin.era),
        "unfinished_lists": unfinished.collect::<Vec<_>>(),
        "checks": checks,
        "clients": clients.iter().map(served).collect::<Vec<_>>(),
    })
}

fn served(served: &Served) -> Value {
    let lost = served.lost.iter();
    let lost = lost.map(|lost| json!({ "what": lost.key, "text": lost.text }));
    json!({
        "client": served.client.key(),
        "way": way_word(served.way),
        "cannot_cross": lost.collect::<Vec<_>>(),
    })
}

fn how(client: Client, way: Way) -> String {
    match way {
        Way::Passed => format!("clients of {client} get its messages as they are"),
        Way::Bridged => format!("clients of {client} get its messages through a bridge"),
    }
}

fn way_word(way: Way) -> &'static str {
    match way {
        Way::Passed => "passed",
        Way::Bridged => "bridged",
    }
}

fn named(identity: &Identity) -> String {
    let name = identity.name.as_deref().unwrap_or("does not give its name");
    let version = identity.version.as_deref().unwrap_or_default();
    format!("{name} {version}").trim_end().to_owned()
}

/// Who is only asked by `initialize` names one, and may serve others.
fn revisions(identity: &Identity) -> String {
    let revisions: Vec<_> = identity.revisions.iter().map(|r| r.as_str()).collect();
    match identity.revisions[..] {
        [only] if !only.is_modern() => format!("at least {only}"),
        _ => revisions.join(", "),
    }
}

fn bindings(identity: &Identity) -> Vec<String> {
    if identity.bindings.is_empty() {
        return vec!["stdio".to_owned()];
    }
    identity.bindings.iter().map(ToString::to_string).collect()
}

fn spoken(identity: &Identity) -> String {
    let spoken = bindings(identity).join(" and ");
    let eras = identity.eras.iter().map(|era| match era {
        ProgramEra::Legacy => "in sessions",
        ProgramEra::Modern => "without sessions (2026-07-28)",
    });
    let eras: Vec<_> = eras.collect();
    match eras.as_slice() {
        [] => spoken,
        eras => format!("{spoken}, {}", eras.join(" and ")),
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Fine => "ok",
        Level::Note => "note",
        Level::Warning => "warning",
        Level::Failure => "failure",
    }
}

/// One row: level, check, and the text, broken between words.
fn row(out: &mut String, level: &str, check: &str, text: &str) {
    let text = Shown::new(text, MAX_SHOWN).to_string();
    let mut line = format!("  {level:<8}{check:<16}");
    for word in text.split(' ') {
        if line.trim_end().len() > INDENT && line.len() + word.len() > WIDTH {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(INDENT);
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(out, "{}", line.trim_end());
}
