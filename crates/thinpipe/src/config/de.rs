//! From the tree to typed settings, through serde, without losing the place of what does not fit.

use std::fmt;
use std::ops::Range;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};

use super::bridge;
use super::kinds::{found, kind, mend_of, plain, table_with, words};
use super::problem::Problem;
use super::tree::{Key, Node, Path, Step, Value};

/// Reads a type from a tree.
///
/// # Errors
/// The first thing that does not fit.
pub(crate) fn from_node<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Problem> {
    T::deserialize(At(node)).map_err(|error| error.around(node).into_problem(node))
}

/// The keys that a table may have which is read as this type.
pub(crate) fn keys_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut keys: &[_] = &[];
    // What it says of its keys is all that is wanted; there is nothing to read.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

struct Keys<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("no table"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// What does not fit, and where.
#[derive(Debug)]
struct Error {
    kind: Kind,
    span: Option<Range<usize>>,
    path: Path,
}

#[derive(Debug)]
enum Kind {
    Other(String),
    Missing(&'static str),
    UnknownKey(String, &'static [&'static str]),
    UnknownWord(String, &'static [&'static str]),
}

impl Error {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            span: None,
            path: Path::default(),
        }
    }

    /// The same error, at the latest in this node. Serde reads tagged enums from a copy that knows no
    /// places; the name that is wrong tells where it is.
    fn around(mut self, node: &Node) -> Self {
        if self.span.is_none() {
            let named = match &self.kind {
                Kind::UnknownKey(name, _) => node.find_key(name),
                Kind::UnknownWord(word, _) => node.find_text(word),
                Kind::Other(_) | Kind::Missing(_) => None,
            };
            self.span = Some(named.unwrap_or_else(|| node.span.clone()));
        }
        self
    }

    fn below(mut self, node: &Node, step: Step) -> Self {
        self = self.around(node);
        self.path.prepend(step);
        self
    }

    /// `root` is the whole file.
    fn into_problem(self, root: &Node) -> Problem {
        let path = self.path.to_string();
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}: ")
        };
        let span = self.span.unwrap_or(0..0);
        let within = |message: String| Problem::within(span, format!("{prefix}{message}"));
        match self.kind {
            Kind::Other(message) => match mend_of(&path, &message) {
                Some(mend) => within(message).mend(mend),
                None => within(message),
            },
            Kind::Missing(name) => {
                within(format!("`{name}` is missing")).mend(format!("add `{name}`"))
            }
            Kind::UnknownKey(name, expected) => {
                within(format!("unknown key `{name}`")).suggest(&name, expected)
            }
            Kind::UnknownWord(word, expected) => {
                let problem = within(format!("`{word}` is not known here"));
                if path.ends_with(".era") {
                    let command = self.path.beside("command");
                    return bridge::suggest_era(problem, &word, root.at(&command).is_some());
                }
                if path.ends_with(".clients") {
                    return bridge::suggest_clients(problem, &word, expected);
                }
                problem.suggest(&word, expected)
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Other(message) => f.write_str(message),
            Kind::Missing(name) => write!(f, "`{name}` is missing"),
            Kind::UnknownKey(name, _) => write!(f, "unknown key `{name}`"),
            Kind::UnknownWord(word, _) => write!(f, "`{word}` is not known here"),
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let expected = plain(&expected);
        Self::custom(format_args!("expected {expected}, found {}", kind(&found)))
    }

    /// What is quoted here has the right kind: a number out of range, a duration that is none. Secrets are
    /// texts that nobody reads, so that none of them gets here.
    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let wanted = expected.to_string();
        let wanted = plain(&wanted);
        match found {
            Unexpected::Unsigned(number) => {
                Self::custom(format_args!("expected {wanted}, found the number {number}"))
            }
            Unexpected::Signed(number) => {
                Self::custom(format_args!("expected {wanted}, found the number {number}"))
            }
            Unexpected::Str(text) => {
                Self::custom(format_args!("expected {wanted}, found {text:?}"))
            }
            found => Self::invalid_type(found, expected),
        }
    }

    fn invalid_length(_length: usize, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let expected = plain(&expected);
        Self::custom(format_args!(
            "expected {expected}, found a list of another length"
        ))
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownKey(name.to_owned(), expected))
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownWord(word.to_owned(), expected))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(Kind::Missing(name))
    }
}

/// Deserializes from one node.
struct At<'de>(&'de Node);

impl<'de> Deserializer<'de> for At<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self(node) = self;
        let done = match &node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => Err(de::Error::custom("this number is too large")),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_borrowed_str(&text.value),
            Value::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Table(entries) => visitor.visit_map(Entries::new(entries)),
        };
        done.map_err(|error| error.around(node))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Table(_) => self.deserialize_any(visitor),
            other => {
                let error: Error = de::Error::invalid_type(found(other), &table_with(fields));
                Err(error.around(self.0))
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self(node) = self;
        let done = match &node.value {
            Value::Text(text) => {
                let word: StrDeserializer<'_, Error> = text.value.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            Value::Table(entries) => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries::new(entries)))
            }
            other => Err(de::Error::invalid_type(
                found(other),
                &words(variants).as_str(),
            )),
        };
        done.map_err(|error| error.around(node))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((index, node)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(At(node))
            .map(Some)
            .map_err(|error| error.below(node, Step::Index(index)))
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de (Key, Node)>,
}

impl<'de> Entries<'de> {
    fn new(entries: &'de [(Key, Node)]) -> Self {
        Self {
            rest: entries.iter(),
            value: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.value = self.rest.next();
        let Some((key, _)) = self.value else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Error> = key.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|mut error| {
            error.span = Some(key.span.clone());
            error
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(At(node))
            .map_err(|error| error.below(node, Step::Key(key.name.clone())))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::format::Format;
    use crate::config::problem::Place;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        word: Option<Word>,
        #[serde(default)]
        list: Vec<Tagged>,
        number: Option<u16>,
        choice: Option<Choice>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        First,
        Second,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
    enum Tagged {
        Plain {},
        Rich { level: Word, names: Vec<String> },
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Choice {
        All(Vec<Word>),
    }

    fn read(text: &str) -> Result<Sample, (String, Option<String>, String)> {
        let tree = Format::Toml.parse(text).unwrap();
        from_node(&tree).map_err(|problem| {
            let Place::Span(span) = problem.place else {
                panic!("{problem:?}");
            };
            (problem.message, problem.mend, text[span].to_owned())
        })
    }

    #[test]
    fn everything_serde_can_ask_for_is_answered() {
        let sample = read(
            "word = \"second\"\nnumber = 7\nchoice = { all = [\"first\"] }\n[[list]]\ntype = \"plain\"\n[[list]]\ntype = \"rich\"\nlevel = \"first\"\nnames = [\"a\"]\n",
        )
        .unwrap();
        let expected = Sample {
            word: Some(Word::Second),
            number: Some(7),
            choice: Some(Choice::All(vec![Word::First])),
            list: vec![
                Tagged::Plain {},
                Tagged::Rich {
                    level: Word::First,
                    names: vec!["a".to_owned()],
                },
            ],
        };
        assert_eq!(sample, expected);
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_path_and_place() {
        for (text, message, mend, place) in [
            (
                "wrod = 1",
                "unknown key `wrod`",
                Some("did you mean `word`?"),
                "wrod",
            ),
            (
                "word = \"frist\"",
                "word: `frist` is not known here",
                Some("did you mean `first`?"),
                "\"frist\"",
            ),
            (
                "number = \"x\"",
                "number: expected a whole number, found a string",
                Some("write the number without quotes"),
                "\"x\"",
            ),
            (
                "number = 70000",
                "number: expected a whole number, found the number 70000",
                None,
                "70000",
            ),
            (
                "[[list]]\ntype = \"plain\"\nlevle = 1",
                "list[0]: unknown key `levle`",
                Some("nothing may stand here"),
                "levle",
            ),
            (
                "[[list]]\ntype = \"rich\"\nlevel = \"thrid\"\nnames = []",
                "list[0]: `thrid` is not known here",
                Some("known here: first, second"),
                "\"thrid\"",
            ),
            (
                "[[list]]\ntype = \"ritch\"",
                "list[0].type: `ritch` is not known here",
                Some("did you mean `rich`?"),
                "\"ritch\"",
            ),
            (
                "choice = { all = [\"x\"] }",
                "choice.all[0]: `x` is not known here",
                Some("known here: first, second"),
                "\"x\"",
            ),
        ] {
            let (found, help, at) = read(text).unwrap_err();
            assert_eq!(found, message, "{text}");
            assert_eq!(help.as_deref(), mend, "{text}");
            assert_eq!(at, place, "{text}");
        }
        let (found, _, at) = read("[[list]]\ntype = \"rich\"\nlevel = \"first\"").unwrap_err();
        assert_eq!(found, "list[0]: `names` is missing");
        assert!(at.starts_with("[[list]]"), "{at}");
    }
}
