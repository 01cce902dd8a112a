//! A configuration file as a tree of values that know where they stand in the text.
//!
//! Every format is read into this one tree, so that every later step (environment variables, unknown
//! keys, values out of range) can point at a line, whatever the format.

use std::fmt;
use std::ops::Range;

/// A value and its place in the text, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    /// In the order of the file.
    Table(Vec<(Key, Node)>),
}

/// A string.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    pub(crate) value: String,
    /// What stood in the file, if `${..}` was replaced in it.
    pub(crate) template: Option<String>,
}

/// The key of a table's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) span: Range<usize>,
    pub(crate) name: String,
}

/// The way from the top of the file to a value: `upstreams[0].url`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    /// An empty table: the configuration of somebody who wrote none.
    pub(crate) fn empty() -> Self {
        Self {
            span: 0..0,
            value: Value::Table(Vec::new()),
        }
    }

    /// What lies at a path.
    pub(crate) fn at(&self, path: &Path) -> Option<&Self> {
        path.0.iter().try_fold(self, |node, step| node.child(step))
    }

    /// Where a path points: the value itself or, if it is not there, the nearest table around it.
    pub(crate) fn nearest(&self, path: &Path) -> Range<usize> {
        let mut node = self;
        for step in &path.0 {
            match node.child(step) {
                Some(child) => node = child,
                None => break,
            }
        }
        node.span.clone()
    }

    /// The place of a key anywhere below this node, the first one found.
    pub(crate) fn find_key(&self, name: &str) -> Option<Range<usize>> {
        match &self.value {
            Value::List(items) => items.iter().find_map(|item| item.find_key(name)),
            Value::Table(entries) => entries.iter().find_map(|(key, value)| {
                let here = (key.name == name).then(|| key.span.clone());
                here.or_else(|| value.find_key(name))
            }),
            _ => None,
        }
    }

    /// The place of a string anywhere below this node, the first one found.
    pub(crate) fn find_text(&self, text: &str) -> Option<Range<usize>> {
        match &self.value {
            Value::Text(found) => (found.value == text).then(|| self.span.clone()),
            Value::List(items) => items.iter().find_map(|item| item.find_text(text)),
            Value::Table(entries) => entries.iter().find_map(|(_, value)| value.find_text(text)),
            _ => None,
        }
    }

    /// The places of values that are secrets, whatever their shape: all below the keys that hold some.
    /// `open` are, below such a key, the names of what is none.
    pub(crate) fn secrets(&self, open: Option<&[&str]>, places: &mut Vec<Range<usize>>) {
        match &self.value {
            Value::List(items) => items.iter().for_each(|item| item.secrets(open, places)),
            Value::Table(entries) => {
                for (key, value) in entries {
                    let below = match (open, key.name.as_str()) {
                        (Some(open), name) if open.contains(&name) => continue,
                        (Some(_), _) => open,
                        (None, "tokens") => Some(&["principal", "tier"][..]),
                        (None, "state_keys") => Some(&["file"][..]),
                        (None, "headers" | "env") => Some(&[][..]),
                        // Of a URL with a password no line is shown anyway.
                        (None, "store") if matches!(value.value, Value::Table(_)) => {
                            Some(&STORE_WITHOUT_SECRETS[..])
                        }
                        (None, _) => None,
                    };
                    value.secrets(below, places);
                }
            }
            _ if open.is_some() => places.push(self.span.clone()),
            _ => {}
        }
    }

    fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.value, step) {
            (Value::Table(entries), Step::Key(name)) => entries
                .iter()
                .find(|(key, _)| key.name == *name)
                .map(|(_, value)| value),
            (Value::List(items), Step::Index(index)) => items.get(*index),
            _ => None,
        }
    }
}

/// Keys of a store's table that hold no secret.
const STORE_WITHOUT_SECRETS: [&str; 10] = [
    "url",
    "user",
    "password_file",
    "sentinel_user",
    "sentinel_password_file",
    "ca_file",
    "prefix",
    "operation_timeout",
    "connect_timeout",
    "tries",
];

impl Path {
    /// This path and one key more.
    pub(crate) fn key(&self, name: impl Into<String>) -> Self {
        self.with(Step::Key(name.into()))
    }

    /// This path and one index more.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// This path and, behind it, one that is written out: `tools.allow[0]`.
    pub(crate) fn join(&self, written: &str) -> Self {
        let mut path = self.clone();
        for part in written.split('.').filter(|part| !part.is_empty()) {
            let (name, indexes) = part.split_once('[').unwrap_or((part, ""));
            path = path.key(name);
            for index in indexes
                .split(['[', ']'])
                .filter_map(|index| index.parse().ok())
            {
                path = path.index(index);
            }
        }
        path
    }

    /// The path to another key of the same table.
    pub(crate) fn beside(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.pop();
        Self(steps).key(name)
    }

    /// Whether it leads to what lies at another path, or below that.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Puts a step before the path, as errors do on their way up.
    pub(crate) fn prepend(&mut self, step: Step) {
        self.0.insert(0, step);
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) if at == 0 => f.write_str(name)?,
                Step::Key(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_written() {
        let written = "a.b[0][12].c";
        assert_eq!(Path::default().join(written).to_string(), written);
        assert_eq!(Path::default().key("x").join("").to_string(), "x");
    }
}
