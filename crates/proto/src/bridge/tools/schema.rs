//! Which properties of a schema headers repeat.

use bytes::Bytes;
use http::HeaderName;
use memchr::memmem;

use super::Param;
use crate::header::PARAM_PREFIX;
use crate::rpc::{Object, elements, string};

/// The most headers that one tool may have.
pub const MAX_PARAMS: usize = 64;

/// Schemas nest at most this deep where they are looked through; what lies deeper is repeated by no header.
const MAX_DEPTH: usize = 32;

/// The rule of `x-mcp-header` that a tool's schema breaks (protocol notes 2.3.4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Its value is no string, or empty.
    #[error("x-mcp-header is no text")]
    NoName,
    /// Its value is no token of RFC 9110, or longer than a header's name can be.
    #[error("x-mcp-header {0:?} is no name of a header")]
    NoToken(String),
    /// Two properties have the same, letter case aside.
    #[error("x-mcp-header {0:?} is there twice")]
    Twice(String),
    /// The property is not exactly a string, an integer or a boolean.
    #[error("x-mcp-header {0:?} is on no string, integer or boolean")]
    Type(String),
    /// It is not reached from the root through `properties` alone.
    #[error("x-mcp-header is on what is reached through {0:?}")]
    Unreachable(&'static str),
    /// There are more than [`MAX_PARAMS`].
    #[error("more than {MAX_PARAMS} arguments are repeated in headers")]
    TooMany,
    /// The schema is no JSON object, or an object in it names a member twice: two readers would disagree.
    #[error("the schema cannot be read")]
    Unreadable,
}

/// The properties that headers repeat.
pub(super) fn params(schema: &Bytes) -> Result<Vec<Param>, Violation> {
    // Nearly all schemas have none. An escape may hide the word.
    if memmem::find(schema, KEYWORD.as_bytes()).is_none() && memmem::find(schema, b"\\u").is_none()
    {
        return Ok(Vec::new());
    }
    let mut walk = Walk::default();
    walk.schema(schema, &mut Place::Root)?;
    Ok(walk.params)
}

#[derive(Default)]
struct Walk {
    params: Vec<Param>,
    depth: usize,
}

/// Where a schema stands.
enum Place {
    Root,
    /// Reached through `properties` alone.
    Property(Vec<String>),
    /// Reached through another keyword.
    Elsewhere(&'static str),
}

impl Walk {
    fn schema(&mut self, text: &Bytes, place: &mut Place) -> Result<(), Violation> {
        // `true` and `false` are schemas as well.
        if !crate::rpc::is_object(text) || self.depth == MAX_DEPTH {
            return Ok(());
        }
        self.depth += 1;
        let schema = Object::parse(text).map_err(|_| Violation::Unreadable)?;
        if let Some(name) = schema.get(KEYWORD) {
            self.param(&schema, name, place)?;
        }
        for (keyword, value) in schema.iter() {
            if keyword == "properties" {
                self.properties(value, place)?;
            } else if let Some((known, holds)) = SUBSCHEMAS.iter().find(|(k, _)| *k == keyword) {
                self.elsewhere(value, *holds, known)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn properties(&mut self, value: &Bytes, place: &mut Place) -> Result<(), Violation> {
        if !crate::rpc::is_object(value) {
            return Ok(());
        }
        let properties = Object::parse(value).map_err(|_| Violation::Unreadable)?;
        for (name, property) in properties.iter() {
            match place {
                Place::Root => {
                    self.schema(property, &mut Place::Property(vec![name.to_owned()]))?;
                }
                Place::Property(path) => {
                    let mut path = path.clone();
                    path.push(name.to_owned());
                    self.schema(property, &mut Place::Property(path))?;
                }
                Place::Elsewhere(_) => self.schema(property, place)?,
            }
        }
        Ok(())
    }

    fn elsewhere(
        &mut self,
        value: &Bytes,
        holds: Holds,
        keyword: &'static str,
    ) -> Result<(), Violation> {
        let mut place = Place::Elsewhere(keyword);
        let is_list = value.trim_ascii_start().starts_with(b"[");
        match holds {
            Holds::Schema if !is_list => self.schema(value, &mut place),
            Holds::Schema | Holds::List => {
                for schema in elements(value).unwrap_or_default() {
                    self.schema(&schema, &mut place)?;
                }
                Ok(())
            }
            Holds::Map => self.properties(value, &mut place),
        }
    }

    fn param(&mut self, schema: &Object, name: &Bytes, place: &Place) -> Result<(), Violation> {
        let path = match place {
            Place::Property(path) => path.clone(),
            Place::Root => return Err(Violation::Unreachable("the root")),
            Place::Elsewhere(keyword) => return Err(Violation::Unreachable(keyword)),
        };
        let name = string(name).filter(|name| !name.is_empty());
        let name = name.ok_or(Violation::NoName)?;
        let shown = || name.chars().take(64).collect::<String>();
        let kind = schema.get("type").and_then(|kind| string(kind));
        if !matches!(kind.as_deref(), Some("string" | "integer" | "boolean")) {
            return Err(Violation::Type(shown()));
        }
        // The type checks that it is a token, and is blind to letter case.
        let header = HeaderName::try_from(format!("{PARAM_PREFIX}{name}"));
        let header = header.map_err(|_| Violation::NoToken(shown()))?;
        if self.params.iter().any(|known| known.header == header) {
            return Err(Violation::Twice(shown()));
        }
        if self.params.len() == MAX_PARAMS {
            return Err(Violation::TooMany);
        }
        self.params.push(Param { header, path });
        Ok(())
    }
}

/// What a keyword of JSON Schema holds.
#[derive(Clone, Copy)]
enum Holds {
    /// A schema, or in older drafts a list of them.
    Schema,
    List,
    /// Schemas by name.
    Map,
}

const KEYWORD: &str = "x-mcp-header";

/// The keywords that lead to other schemas, `properties` aside.
const SUBSCHEMAS: [(&str, Holds); 22] = [
    ("items", Holds::Schema),
    ("prefixItems", Holds::List),
    ("additionalItems", Holds::Schema),
    ("unevaluatedItems", Holds::Schema),
    ("contains", Holds::Schema),
    ("additionalProperties", Holds::Schema),
    ("unevaluatedProperties", Holds::Schema),
    ("propertyNames", Holds::Schema),
    ("contentSchema", Holds::Schema),
    ("not", Holds::Schema),
    ("if", Holds::Schema),
    ("then", Holds::Schema),
    ("else", Holds::Schema),
    ("allOf", Holds::List),
    ("anyOf", Holds::List),
    ("oneOf", Holds::List),
    ("patternProperties", Holds::Map),
    ("dependentSchemas", Holds::Map),
    ("dependencies", Holds::Map),
    ("$defs", Holds::Map),
    ("definitions", Holds::Map),
    ("extends", Holds::Schema),
];
