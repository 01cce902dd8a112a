//! TOML, YAML and JSON, all read into the same tree.

use std::ops::Range;
use std::path::Path;

use super::problem::Problem;
use super::tree::{Key, Node, Text, Value};

mod json;
mod toml;
mod yaml;

/// The language a configuration file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Toml,
    Yaml,
    Json,
}

/// Deeper nesting than any configuration has, and far less than a stack takes.
const MAX_DEPTH: usize = 64;

impl Format {
    /// The format of a file: by the ending of its name, otherwise by how it begins.
    pub(crate) fn of(path: &Path, text: &str) -> Self {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match extension.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Self::Yaml,
            "json" => Self::Json,
            "toml" => Self::Toml,
            _ if text.trim_start().starts_with('{') => Self::Json,
            _ => Self::Toml,
        }
    }

    /// Reads a text.
    pub(crate) fn parse(self, text: &str) -> Result<Node, Problem> {
        match self {
            Self::Toml => toml::parse(text),
            Self::Yaml => yaml::parse(text),
            Self::Json => json::parse(text),
        }
    }
}

fn plain_text(value: impl Into<String>) -> Value {
    Value::Text(Text {
        value: value.into(),
        template: None,
    })
}

fn too_deep(span: Range<usize>) -> Problem {
    Problem::within(span, format!("nested deeper than {MAX_DEPTH} levels"))
}

/// Adds an entry; a key that is there already is a mistake in every format.
fn insert(entries: &mut Vec<(Key, Node)>, key: Key, value: Node) -> Result<(), Problem> {
    if entries.iter().any(|(other, _)| other.name == key.name) {
        let message = format!("`{}` stands here twice", key.name);
        return Err(Problem::within(key.span, message).mend("keep one of them"));
    }
    entries.push((key, value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    fn strip(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}"),
            Value::Text(text) => format!("{:?}", text.value),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(strip).collect();
                format!("[{}]", items.join(","))
            }
            Value::Table(entries) => {
                let mut entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("{}:{}", key.name, strip(value)))
                    .collect();
                entries.sort();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    const TOML: &str = "listen = \"[::1]:80\"\nworkers = 2\nx = 1.5\ny = true\n[[upstreams]]\nname = \"a\"\nheaders = { \"X-A\" = \"ü\" }\n";
    const YAML: &str = "listen: \"[::1]:80\"\nworkers: 2\nx: 1.5\ny: true\nupstreams:\n  - name: a\n    headers:\n      X-A: ü\n";
    const JSON: &str = "{\n\t\"listen\": \"[::1]:80\", \"workers\" : 2, \"x\": 1.5, \"y\": true,\n\t\"upstreams\": [{\"name\": \"a\", \"headers\": {\"X-A\": \"\\u00fc\"}}]\n}\n";

    #[test]
    fn the_three_formats_give_the_same_tree() {
        let expected = "{listen:\"[::1]:80\",upstreams:[{headers:{X-A:\"ü\"},name:\"a\"}],workers:2,x:1.5,y:true}";
        for (format, text) in [
            (Format::Toml, TOML),
            (Format::Yaml, YAML),
            (Format::Json, JSON),
        ] {
            assert_eq!(strip(&format.parse(text).unwrap()), expected, "{format:?}");
        }
    }

    #[test]
    fn every_value_and_key_knows_its_place() {
        for (format, text) in [
            (Format::Toml, TOML),
            (Format::Yaml, YAML),
            (Format::Json, JSON),
        ] {
            let tree = format.parse(text).unwrap();
            let path = tree::Path::default().key("upstreams").index(0).key("name");
            let span = tree.at(&path).unwrap().span.clone();
            assert_eq!(text[span].trim_matches('"'), "a", "{format:?}");
            let key = tree.find_key("X-A").unwrap();
            assert_eq!(text[key].trim_matches('"'), "X-A", "{format:?}");
        }
    }

    #[test]
    fn mistakes_of_grammar_have_a_place_too() {
        for (format, text, at) in [
            (Format::Toml, "a = 1\nb = \n", 2),
            (Format::Yaml, "a: 1\nb: [1\n", 2),
            (Format::Json, "{\"a\": 1,\n \"b\" 2}", 2),
        ] {
            let problem = format.parse(text).unwrap_err();
            let crate::config::problem::Place::Span(span) = &problem.place else {
                panic!("{problem:?}");
            };
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            assert!(line >= at, "{format:?}: {problem:?}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_in_every_format() {
        for (format, text) in [
            (Format::Toml, "a = 1\na = 2\n"),
            (Format::Yaml, "a: 1\na: 2\n"),
            (Format::Json, "{\"a\": 1, \"a\": 2}"),
        ] {
            assert!(format.parse(text).is_err(), "{format:?}");
        }
    }

    /// I3: no depth of nesting overflows the stack.
    #[test]
    fn deep_nesting_is_an_error() {
        let json = format!("{{\"a\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(Format::Json.parse(&json).is_err());
        let toml = format!("a = {}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(Format::Toml.parse(&toml).is_err());
        let yaml = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(Format::Yaml.parse(&yaml).is_err());
    }

    #[test]
    fn yaml_off_is_a_word_and_not_a_boolean() {
        let tree = Format::Yaml.parse("admin: off\n").unwrap();
        assert_eq!(strip(&tree), "{admin:\"off\"}");
    }

    #[test]
    fn the_format_is_told_by_the_name_or_the_first_character() {
        for (name, text, format) in [
            ("a.toml", "{", Format::Toml),
            ("a.YML", "", Format::Yaml),
            ("a.json", "", Format::Json),
            ("a", " {}", Format::Json),
            ("a.conf", "a = 1", Format::Toml),
        ] {
            assert_eq!(Format::of(Path::new(name), text), format, "{name}");
        }
    }
}
