//! Patterns in which `*` stands for any run of characters, also an empty one.

use super::config::Wrong;
use super::json::Value;

/// A pattern, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    first: Box<str>,
    /// What follows each `*`, in order; the last one has to end the text.
    rest: Box<[Box<str>]>,
}

impl Glob {
    /// Takes a pattern apart; an empty one is refused, since it is a slip more often than not.
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Err("an empty pattern matches nothing".into());
        }
        let mut parts = pattern.split('*').map(Box::from);
        Ok(Self {
            first: parts.next().unwrap_or_default(),
            rest: parts.collect(),
        })
    }

    /// Takes a list of patterns apart; an error names the one it is about.
    pub(super) fn parse_all(field: &str, patterns: &[String]) -> Result<Box<[Self]>, Wrong> {
        let parse = |(index, pattern): (usize, &String)| {
            Self::parse(pattern).map_err(|reason| Wrong::new(format!("{field}[{index}]"), reason))
        };
        patterns.iter().enumerate().map(parse).collect()
    }

    /// Whether the whole of `text` fits.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some((last, between)) = self.rest.split_last() else {
            return *self.first == *text;
        };
        let Some(mut text) = text.strip_prefix(&*self.first) else {
            return false;
        };
        for part in between {
            let Some(found) = text.find(&**part) else {
                return false;
            };
            text = &text[found + part.len()..];
        }
        text.ends_with(&**last)
    }

    /// Whether all that fits begins with this.
    pub(super) fn begins_with(&self, prefix: &str) -> bool {
        self.first.starts_with(prefix)
    }

    /// Whether a value fits: a string by what it says, anything else by its text.
    pub(super) fn matches_value(&self, value: Value<'_>) -> bool {
        match value.string() {
            Some(text) => self.matches(&text),
            None => std::str::from_utf8(value.raw()).is_ok_and(|text| self.matches(text)),
        }
    }
}

/// Whether any of them fits.
pub(super) fn any(globs: &[Glob], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let fits = |pattern: &str, text: &str| Glob::parse(pattern).unwrap().matches(text);
        assert!(fits("tools/call", "tools/call") && !fits("tools/call", "tools/calls"));
        assert!(fits("tools/*", "tools/") && fits("tools/*", "tools/list"));
        assert!(!fits("tools/*", "tool") && !fits("tools/*", "xtools/list"));
        assert!(fits("*", "") && fits("*", "anything") && fits("**", "x"));
        assert!(fits("a*b*c", "abc") && fits("a*b*c", "aXbYc") && !fits("a*b*c", "acb"));
        // The same characters do not count for two parts.
        assert!(!fits("ab*ba", "aba") && fits("ab*ba", "abba"));
        assert!(fits("*.rs", "é.rs") && !fits("*.rs", ".rsx"));
        assert!(Glob::parse("").is_err());
    }
}
