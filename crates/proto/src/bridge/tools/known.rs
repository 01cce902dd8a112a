//! What is known of a server's tools.

use std::collections::HashMap;

use bytes::Bytes;

use super::{ToolHeaders, Violation, headers_of, listed};
use crate::bridge::shape::InvalidResult;
use crate::rpc::{Object, string};

/// The most tools of one server that are remembered.
pub const MAX_SCHEMA_TOOLS: usize = 2048;
/// The most that is remembered of one server's tools, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 512 << 10;

/// The tools of one server, as its lists told: which headers a call of each has.
///
/// Bounded by [`MAX_SCHEMA_TOOLS`] and [`MAX_SCHEMA_BYTES`]: beyond them nothing more is learned, and a tool
/// that is not remembered is [`Known::Unknown`].
#[derive(Debug, Default)]
pub struct Schemas {
    tools: HashMap<Box<str>, Result<ToolHeaders, Violation>>,
    bytes: usize,
    listed: bool,
}

/// What is known of one tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<'a> {
    /// Headers repeat these arguments; none, mostly.
    Headers(&'a ToolHeaders),
    /// It breaks the rules: clients of older revisions are not shown it, and cannot call it (protocol notes
    /// 5.3.2).
    Violating(&'a Violation),
    /// It was in no list. [`Schemas::is_listed`] tells whether there was one.
    Unknown,
}

/// What a list told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// The tools that break the rules, and which rule.
    pub violating: Vec<(String, Violation)>,
    /// The cursor of the next page, if there is one.
    pub next_cursor: Option<String>,
}

impl Schemas {
    /// Learns from one page of `tools/list`, a JSON object.
    ///
    /// # Errors
    /// [`InvalidResult`] if it is no list of tools; nothing was learned then.
    pub fn learn(&mut self, result: &Bytes) -> Result<Learned, InvalidResult> {
        self.learn_from(&Object::parse(result)?)
    }

    /// As [`learn`](Self::learn), from a page that was taken apart already.
    pub(super) fn learn_from(&mut self, result: &Object) -> Result<Learned, InvalidResult> {
        let mut learned = Learned::default();
        for tool in listed(result)? {
            let Some((name, headers)) = headers_of(&tool) else {
                continue;
            };
            if let Err(violation) = &headers {
                learned.violating.push((name.clone(), violation.clone()));
            }
            self.remember(name, headers);
        }
        let cursor = result.get("nextCursor").and_then(|cursor| string(cursor));
        learned.next_cursor = cursor.map(std::borrow::Cow::into_owned);
        self.listed |= learned.next_cursor.is_none();
        Ok(learned)
    }

    /// What is known of the tool of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Known<'_> {
        match self.tools.get(name) {
            Some(Ok(headers)) => Known::Headers(headers),
            Some(Err(violation)) => Known::Violating(violation),
            None => Known::Unknown,
        }
    }

    /// Whether a list was read to its end since the last change: what is not known then, no list has, or
    /// there was no room for.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether any call has headers that repeat arguments, as far as is known.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        let mut known = self.tools.values().flatten();
        known.any(|headers| !headers.is_empty())
    }

    /// The tools have changed: nothing is known any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn remember(&mut self, name: String, headers: Result<ToolHeaders, Violation>) {
        if let Some(old) = self.tools.remove(name.as_str()) {
            self.bytes -= weight(&name, &old);
        }
        let weight = weight(&name, &headers);
        if self.tools.len() < MAX_SCHEMA_TOOLS && self.bytes + weight <= MAX_SCHEMA_BYTES {
            self.bytes += weight;
            self.tools.insert(name.into(), headers);
        }
    }
}

fn weight(name: &str, headers: &Result<ToolHeaders, Violation>) -> usize {
    // A violation shows at most 64 characters.
    const ENTRY: usize = 128;
    ENTRY + name.len() + headers.as_ref().map_or(256, ToolHeaders::bytes)
}
