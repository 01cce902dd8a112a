//! Results.

use std::time::Duration;

use bytes::Bytes;

use super::InvalidResult;
use super::task::drop_related_task;
use crate::classify::is_cacheable_method;
use crate::rpc::{Object, canonical, elements, is_object, meta_key, quoted, string};

/// What a result of 2026-07-28 is (protocol notes 2.3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultType {
    /// The answer.
    Complete,
    /// The client has to give more input first.
    InputRequired,
    /// The server goes on with it as a task.
    Task,
    /// It does not say. From a server of an earlier revision, it is complete.
    Absent,
    /// Something else; the beginning of its JSON text.
    Unknown(String),
}

impl ResultType {
    /// What this result is.
    ///
    /// # Errors
    /// [`InvalidResult`] for what is no JSON object, or names a member twice.
    pub fn of(result: &Bytes) -> Result<Self, InvalidResult> {
        Ok(Self::in_object(&Object::parse(result)?))
    }

    /// What the result is that was taken apart already.
    pub(crate) fn in_object(result: &Object) -> Self {
        let Some(kind) = result.get("resultType") else {
            return Self::Absent;
        };
        match string(kind).as_deref() {
            Some("complete") => Self::Complete,
            Some("input_required") => Self::InputRequired,
            Some("task") => Self::Task,
            _ => Self::Unknown(String::from_utf8_lossy(kind).chars().take(64).collect()),
        }
    }
}

/// How long, and for whom, a result may be kept (protocol notes 2.3.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caching {
    /// How long it is fresh.
    pub ttl: Duration,
    /// For whom it is.
    pub scope: CachingScope,
}

/// Who may be given a result that was kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CachingScope {
    /// Whoever asked for it.
    #[default]
    Private,
    /// Everybody.
    Public,
}

impl Caching {
    /// What a result says of itself. No usable `ttlMs` is 0, no usable `cacheScope` is private (protocol
    /// notes 2.3.5).
    #[must_use]
    pub fn of(result: &Object) -> Self {
        let ttl = result.get("ttlMs");
        let ttl = ttl.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        let scope = result.get("cacheScope").and_then(|scope| string(scope));
        Self {
            ttl: Duration::from_millis(ttl.unwrap_or(0)),
            scope: match scope.as_deref() {
                Some("public") => CachingScope::Public,
                _ => CachingScope::Private,
            },
        }
    }

    /// Writes it into a result, in the place of what that said.
    pub fn put(self, result: &mut Object) {
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(MAX_TTL);
        result.set("ttlMs", ttl.min(MAX_TTL).to_string());
        result.set(
            "cacheScope",
            match self.scope {
                CachingScope::Private => "\"private\"",
                CachingScope::Public => "\"public\"",
            },
        );
    }
}

/// The greatest integer that every reader of JSON understands alike.
const MAX_TTL: u64 = (1 << 53) - 1;

/// A modern server's complete result of this method, for a legacy client: without what only 2026-07-28 has
/// (R217), and with tools and their results as the older schemas want them (protocol notes 5.3.2).
///
/// # Errors
/// [`InvalidResult`] if it is no JSON object, or is neither complete nor silent about it.
pub fn result_to_legacy(method: &str, result: &Bytes) -> Result<Bytes, InvalidResult> {
    let mut result = Object::parse(result)?;
    complete(&result)?;
    for name in MODERN {
        result.remove(name);
    }
    match method {
        "tools/list" => for_each_tool(&mut result, drop_output_schema),
        "tools/call" => as_text(&mut result),
        _ => {}
    }
    Ok(result.into_bytes())
}

/// A legacy server's result of this method, for a modern client: with what 2026-07-28 requires (R131, R132,
/// R232), and without what only tasks of 2025-11-25 have.
///
/// `server_info` is the `serverInfo` of the server's `initialize`, as JSON text. Legacy results bear no word
/// about caching, so that `caching` is what they get, if the method is one of those that have it.
///
/// # Errors
/// [`InvalidResult`] if it is no JSON object, or claims to be anything but complete (R142).
pub fn result_to_modern(
    method: &str,
    result: &Bytes,
    server_info: Option<&Bytes>,
    caching: Caching,
) -> Result<Bytes, InvalidResult> {
    let mut result = Object::parse(result)?;
    complete(&result)?;
    result.set("resultType", "\"complete\"");
    if is_cacheable_method(method) {
        caching.put(&mut result);
    }
    if method == "tools/list" {
        for_each_tool(&mut result, |tool| {
            tool.remove("execution");
        });
    }
    let mut meta = result.object("_meta").unwrap_or_default();
    drop_related_task(&mut meta);
    if let Some(info) = server_info.filter(|info| is_object(info)) {
        meta.set_default(meta_key::SERVER_INFO, info.clone());
    }
    if meta.is_empty() {
        result.remove("_meta");
    } else {
        result.set("_meta", meta.into_bytes());
    }
    Ok(result.into_bytes())
}

fn complete(result: &Object) -> Result<(), InvalidResult> {
    let kind = match ResultType::in_object(result) {
        ResultType::Complete | ResultType::Absent => return Ok(()),
        ResultType::InputRequired => "input_required".to_owned(),
        ResultType::Task => "task".to_owned(),
        ResultType::Unknown(other) => other,
    };
    Err(InvalidResult::Type(kind))
}

/// Edits the tools of a list. What is no tool stays as it is: the client has to judge it.
fn for_each_tool(result: &mut Object, edit: impl Fn(&mut Object)) {
    let Some(tools) = result.get("tools").and_then(|tools| elements(tools).ok()) else {
        return;
    };
    let mut changed = false;
    let edited = tools.into_iter().map(|text| match Object::parse(&text) {
        Ok(mut tool) => {
            edit(&mut tool);
            changed |= tool.is_changed();
            tool.into_bytes()
        }
        Err(_) => text,
    });
    let edited: Vec<Bytes> = edited.collect();
    if changed {
        result.set("tools", array(&edited));
    }
}

/// Older clients want an object at the root of an output schema, and refuse the whole list otherwise.
fn drop_output_schema(tool: &mut Object) {
    let Some(schema) = tool.get("outputSchema") else {
        return;
    };
    let root = Object::parse(schema).ok();
    let root = root.and_then(|schema| string(schema.get("type")?).map(|kind| kind == "object"));
    if root != Some(true) {
        tool.remove("outputSchema");
    }
}

/// Structured content that is no object becomes a text, unless there is one that says the same.
fn as_text(result: &mut Object) {
    let structured = result.get("structuredContent");
    if structured.is_none_or(|value| is_object(value)) {
        return;
    }
    let Some(structured) = result.remove("structuredContent") else {
        return;
    };
    let blocks = result.get("content").map(elements);
    let Ok(mut blocks) = blocks.unwrap_or(Ok(Vec::new())) else {
        return;
    };
    if !blocks.iter().any(|block| says(block, &structured)) {
        let text = quoted(&String::from_utf8_lossy(&structured));
        blocks.push(format!(r#"{{"type":"text","text":{text}}}"#).into());
        result.set("content", array(&blocks));
    } else {
        result.set_default("content", "[]");
    }
}

/// Whether a block of content is this value's JSON, as a text.
fn says(block: &Bytes, value: &[u8]) -> bool {
    let Ok(block) = Object::parse(block) else {
        return false;
    };
    let text = block.get("text").and_then(|text| string(text));
    text.is_some_and(|text| match canonical(text.as_bytes()) {
        Ok(text) => canonical(value).is_ok_and(|value| value == text),
        Err(_) => false,
    })
}

pub(in crate::bridge) fn array(elements: &[Bytes]) -> Bytes {
    let mut out = Vec::with_capacity(2 + elements.iter().map(|e| e.len() + 1).sum::<usize>());
    out.push(b'[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(element);
    }
    out.push(b']');
    out.into()
}

/// What results have since 2026-07-28 only.
const MODERN: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
