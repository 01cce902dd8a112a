//! Tools whose arguments are repeated in headers, `x-mcp-header` (protocol notes 2.3.4): which tools break the
//! rules, which headers a call has, and whether those it came with are right.

mod arguments;
mod directory;
mod known;
mod schema;
mod value;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::bridge::shape::{InvalidResult, array};
use crate::rpc::{Object, elements, string};

use arguments::{Ambiguous, Arguments};
pub use directory::{Directory, MAX_DIRECTORY};
pub use known::{Known, Learned, MAX_SCHEMA_BYTES, MAX_SCHEMA_TOOLS, Schemas};
pub use schema::{MAX_PARAMS, Violation};
pub use value::NotCarried;

/// The arguments of one tool that headers repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolHeaders {
    params: Vec<Param>,
}

/// One argument that a header repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Param {
    header: HeaderName,
    /// The names that lead to it through objects.
    path: Vec<String>,
}

/// A header of a call that does not say what the arguments say: `-32020` (R124, R125).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header} {what}")]
pub struct HeaderMismatch {
    /// The header.
    pub header: HeaderName,
    what: &'static str,
}

impl ToolHeaders {
    /// What a tool's `inputSchema`, as JSON text, says.
    ///
    /// # Errors
    /// The rule that the schema breaks: clients leave such a tool out of the lists they show.
    pub fn of(schema: &Bytes) -> Result<Self, Violation> {
        schema::params(schema).map(|params| Self { params })
    }

    /// Whether no header repeats anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// The headers that a call may have.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.params.iter().map(|param| &param.header)
    }

    /// The headers of a call with these arguments, as JSON text (R140). An argument that is `null`, not there,
    /// or no value that a header repeats has none.
    ///
    /// # Errors
    /// [`NotCarried`] for a number that a header must not carry.
    pub fn build(
        &self,
        arguments: Option<&Bytes>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, NotCarried> {
        let mut headers = Vec::with_capacity(self.params.len());
        let mut arguments = Arguments::new(arguments);
        for param in &self.params {
            // What two readers may read differently, no header can repeat.
            if let Ok(Some(value)) = arguments.get(&param.path)
                && let Some(value) = value::header(&value).map_err(|_| param.not_carried())?
            {
                headers.push((param.header.clone(), value));
            }
        }
        Ok(headers)
    }

    /// Compares the headers of a call with its arguments (R124, R125). Headers that this tool does not have are
    /// nobody's affair (R126).
    ///
    /// # Errors
    /// The first header that differs.
    pub fn check(
        &self,
        headers: &HeaderMap,
        arguments: Option<&Bytes>,
    ) -> Result<(), HeaderMismatch> {
        let mut arguments = Arguments::new(arguments);
        self.params.iter().try_for_each(|param| {
            let compared = match arguments.get(&param.path) {
                Ok(value) => value::compare(headers, &param.header, value.as_ref()),
                Err(Ambiguous) => Err("repeats what is there twice"),
            };
            compared.map_err(|what| HeaderMismatch {
                header: param.header.clone(),
                what,
            })
        })
    }

    fn bytes(&self) -> usize {
        let param = |param: &Param| {
            let names: usize = param.path.iter().map(|name| name.len() + 24).sum();
            param.header.as_str().len() + names + 64
        };
        self.params.iter().map(param).sum()
    }
}

impl Param {
    fn not_carried(&self) -> NotCarried {
        NotCarried {
            header: self.header.clone(),
            argument: self.path.join("/").chars().take(64).collect(),
        }
    }
}

/// A list without the tools that break the rules (R141), and which those are, with the rule. The others stay as
/// they came.
///
/// # Errors
/// [`InvalidResult`] if the result is no JSON object, or its `tools` no array.
pub fn without_violating(
    result: &Bytes,
) -> Result<(Bytes, Vec<(String, Violation)>), InvalidResult> {
    let mut result = Object::parse(result)?;
    let tools = listed(&result)?;
    let count = tools.len();
    let mut violating = Vec::new();
    let mut kept = Vec::with_capacity(count);
    for text in tools {
        match headers_of(&text) {
            Some((name, Err(violation))) => violating.push((name, violation)),
            Some((_, Ok(_))) | None => kept.push(text),
        }
    }
    if kept.len() != count {
        result.set("tools", array(&kept));
    }
    Ok((result.into_bytes(), violating))
}

/// The tools of a list.
fn listed(result: &Object) -> Result<Vec<Bytes>, InvalidResult> {
    let tools = result.get("tools").ok_or(InvalidResult::Lacks("tools"))?;
    elements(tools).map_err(|_| InvalidResult::Lacks("tools"))
}

/// Name and headers of a tool; `None` for what has no name: nobody can call it.
fn headers_of(tool: &Bytes) -> Option<(String, Result<ToolHeaders, Violation>)> {
    let tool = Object::parse(tool).ok()?;
    let name = string(tool.get("name")?)?.into_owned();
    let headers = match tool.get("inputSchema") {
        Some(schema) => ToolHeaders::of(schema),
        None => Ok(ToolHeaders::default()),
    };
    Some((name, headers))
}
