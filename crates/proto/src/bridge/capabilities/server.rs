//! What servers say of themselves when a client begins: the result of `initialize`, and the one of
//! `server/discover`.

use bytes::Bytes;

use super::extensions_without_tasks;
use crate::bridge::shape::{Caching, InvalidResult};
use crate::revision::Revision;
use crate::rpc::{Object, is_object, meta_key, quoted, string};

/// What a gateway hears of a legacy server outside of the requests it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Notices that belong to no request arrive: there is a stream for them. Without one, nothing that
    /// changes is told (a GET answered 405).
    pub notices: bool,
}

/// The result of `initialize` for a legacy client, from a modern server's result of `server/discover`
/// (protocol notes 5.3, first row; R216).
///
/// `upstream` is the name of the server here, for one that does not give its own. Modern capabilities that no
/// legacy client knows are left out, tasks among them; so is what only belongs to a modern result.
///
/// # Errors
/// [`InvalidResult`] if the result is no JSON object, or has no `capabilities`.
pub fn initialize_result(
    discovered: &Bytes,
    revision: Revision,
    upstream: &str,
) -> Result<Bytes, InvalidResult> {
    let discovered = Object::parse(discovered)?;
    let offered = discovered.object("capabilities");
    let offered = offered.ok_or(InvalidResult::Lacks("capabilities"))?;
    let mut capabilities = Object::new();
    for name in SERVER_CAPABILITIES {
        if let Some(value) = offered.get(name).filter(|value| is_object(value)) {
            capabilities.set(name, value.clone());
        }
    }
    if let Some(extensions) = extensions_without_tasks(&offered) {
        capabilities.set("extensions", extensions);
    }
    let meta = discovered.object("_meta").unwrap_or_default();
    let info = meta.get(meta_key::SERVER_INFO).cloned();
    let info = info.filter(is_implementation);
    let unknown = || {
        let name = quoted(upstream);
        Bytes::from(format!(r#"{{"name":{name},"version":"unknown"}}"#))
    };
    let mut out = Object::new();
    out.set("protocolVersion", quoted(revision.as_str()));
    out.set("capabilities", capabilities.into_bytes());
    out.set("serverInfo", info.unwrap_or_else(unknown));
    copy_instructions(&discovered, &mut out);
    Ok(out.into_bytes())
}

/// The result of `server/discover` for a modern client, from a legacy server's result of `initialize`
/// (protocol notes 5.4.1; R150, R232).
///
/// `served` are the revisions that clients may claim here.
///
/// # Errors
/// [`InvalidResult`] if the result is no JSON object, or has no `capabilities`.
pub fn discover_result(
    initialized: &Bytes,
    served: &[Revision],
    heard: Heard,
    caching: Caching,
) -> Result<Bytes, InvalidResult> {
    let initialized = Object::parse(initialized)?;
    let offered = initialized.object("capabilities");
    let offered = offered.ok_or(InvalidResult::Lacks("capabilities"))?;
    let version = initialized.get("protocolVersion");
    let version = version.and_then(|version| string(version));
    let revision = version.and_then(|version| Revision::from_bytes(version.as_bytes()));
    let mut out = Object::new();
    let served: Vec<String> = served.iter().map(|r| quoted(r.as_str())).collect();
    out.set("resultType", "\"complete\"");
    out.set("supportedVersions", format!("[{}]", served.join(",")));
    out.set("capabilities", offered_to_modern(&offered, revision, heard));
    copy_instructions(&initialized, &mut out);
    caching.put(&mut out);
    if let Some(info) = initialized.get("serverInfo").filter(|info| is_object(info)) {
        let mut meta = Object::new();
        meta.set(meta_key::SERVER_INFO, info.clone());
        out.set("_meta", meta.into_bytes());
    }
    Ok(out.into_bytes())
}

fn offered_to_modern(offered: &Object, revision: Option<Revision>, heard: Heard) -> Bytes {
    let mut out = Object::new();
    for name in SERVER_CAPABILITIES {
        let Some(mut capability) = offered.object(name) else {
            continue;
        };
        if !heard.notices && LISTS.contains(&name) {
            capability.remove("listChanged");
            capability.remove("subscribe");
        }
        out.set(name, capability.into_bytes());
    }
    // 2024-11-05 had the method and no word for it.
    let completes = out.has("prompts") || out.has("resources");
    if completes && revision.is_some_and(|revision| revision <= Revision::V2024_11_05) {
        out.set_default("completions", "{}");
    }
    if let Some(extensions) = extensions_without_tasks(offered) {
        out.set("extensions", extensions);
    }
    out.into_bytes()
}

fn copy_instructions(from: &Object, to: &mut Object) {
    let text = from.get("instructions");
    if let Some(text) = text.filter(|text| string(text).is_some()) {
        to.set("instructions", text.clone());
    }
}

/// Whether it names a program and its version: the legacy field is mandatory, and so are both.
fn is_implementation(info: &Bytes) -> bool {
    let is_text = |object: &Object, name| object.get(name).is_some_and(|t| string(t).is_some());
    Object::parse(info).is_ok_and(|info| is_text(&info, "name") && is_text(&info, "version"))
}

/// What servers of both eras offer under one name (protocol notes 5.3).
const SERVER_CAPABILITIES: [&str; 6] = [
    "tools",
    "prompts",
    "resources",
    "completions",
    "logging",
    "experimental",
];

/// Those of them that tell of changes.
const LISTS: [&str; 3] = ["tools", "prompts", "resources"];
