//! `${NAME}` in the strings of a configuration: values from the environment.

use super::problem::Problem;
use super::tree::{Node, Text, Value};

/// The variable that stands for secrets that are not shown. It never has a value, so that what
/// `thinpipe check` prints cannot be sent to a server by mistake.
pub(crate) const REDACTED: &str = "REDACTED";

/// Puts back what was written: `text`, with every value that came from the environment replaced by
/// its `${NAME}`. `taken` are names and values of variables.
pub(crate) fn conceal(text: &str, tree: &Node, taken: &[(String, String)]) -> String {
    let mut pairs = Vec::new();
    templates(tree, &mut pairs);
    let variables = taken
        .iter()
        .map(|(name, value)| (value.clone(), format!("${{{name}}}")));
    pairs.extend(variables);
    // The longest first: one value may be a part of another.
    pairs.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
    let mut text = text.to_owned();
    for (value, written) in pairs.iter().filter(|(value, _)| !value.is_empty()) {
        let escaped = value.escape_debug().to_string();
        for (quote, value) in [("`", value), ("\"", value), ("\"", &escaped)] {
            let (from, to) = (
                format!("{quote}{value}{quote}"),
                format!("{quote}{written}{quote}"),
            );
            text = text.replace(&from, &to);
        }
        // Shorter ones would be found in words that have nothing to do with them.
        if value.len() >= 4 {
            text = text.replace(value.as_str(), written);
        }
    }
    text
}

/// Values of strings in which something was replaced, and what stands in the file.
fn templates(node: &Node, pairs: &mut Vec<(String, String)>) {
    match &node.value {
        Value::Text(Text {
            value,
            template: Some(template),
        }) => pairs.push((value.clone(), template.clone())),
        Value::List(items) => items.iter().for_each(|item| templates(item, pairs)),
        Value::Table(entries) => entries
            .iter()
            .for_each(|(_, value)| templates(value, pairs)),
        _ => {}
    }
}

/// Replaces `${NAME}`, `${env:NAME}` and `${NAME:-default}` in every string below a node; `$${` is a plain `${`.
/// Keys are left alone.
pub(crate) fn substitute(
    node: &mut Node,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) {
    match &mut node.value {
        Value::Text(text) if text.value.contains("${") => match expand(&text.value, environment) {
            Ok(value) => {
                let template = std::mem::take(&mut text.value);
                *text = Text {
                    value,
                    template: Some(template),
                };
            }
            Err(wrong) => {
                let problem = Problem::within(node.span.clone(), wrong.message);
                problems.push(problem.mend(wrong.mend));
            }
        },
        Value::List(items) => {
            for item in items {
                substitute(item, environment, problems);
            }
        }
        Value::Table(entries) => {
            for (_, value) in entries {
                substitute(value, environment, problems);
            }
        }
        _ => {}
    }
}

/// What stands in the file, as it may be shown: `${NAME}` for `${NAME:-default}` where the default
/// is a secret, because `all` of this value is one or by the variable's name.
pub(crate) fn without_secrets(
    template: &str,
    all: bool,
    is_secret: impl Fn(&str) -> bool,
) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("${") {
        let escaped = rest[..at].ends_with('$');
        let (before, inside) = rest.split_at(at + 2);
        out.push_str(before);
        rest = inside;
        let Some(end) = inside.find('}').filter(|_| !escaped) else {
            continue;
        };
        let written = &inside[..end];
        out.push_str(match written.split_once(":-") {
            // An empty default gives nothing away.
            Some((name, default)) if !default.is_empty() && (all || is_secret(name)) => name,
            _ => written,
        });
        rest = &inside[end..];
    }
    out.push_str(rest);
    out
}

#[derive(Debug)]
struct Wrong {
    message: String,
    mend: String,
}

fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = inside.find('}').ok_or_else(|| Wrong {
            message: "`${` without its `}`".to_owned(),
            mend: "write `${NAME}`, or `$${` for a plain `${`".to_owned(),
        })?;
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        // As VS Code writes it.
        let name = name.strip_prefix("env:").unwrap_or(name);
        if name == REDACTED {
            return Err(Wrong {
                message: format!(
                    "`${{{REDACTED}}}` stands where `thinpipe check` showed no secret"
                ),
                mend:
                    "put the secret here, or the name of a variable that holds it: `${API_TOKEN}`"
                        .to_owned(),
            });
        }
        if let Some(input) = name.strip_prefix("input:") {
            return Err(Wrong {
                message: format!(
                    "`${{input:{input}}}` is asked of a client's user, and the gateway has none to ask"
                ),
                mend: "write the name of an environment variable, as in `${API_TOKEN}`, and set it"
                    .to_owned(),
            });
        }
        if !is_name(name) {
            return Err(Wrong {
                message: format!("`{name}` is not the name of an environment variable"),
                mend: "names are letters, digits and `_`, as in `${API_TOKEN}`".to_owned(),
            });
        }
        match (environment(name).filter(|value| !value.is_empty()), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(Wrong {
                    message: format!("the environment variable `{name}` is not set"),
                    mend: format!("set it, or give a default: `${{{name}:-default}}`"),
                });
            }
        }
        rest = &inside[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn names_defaults_and_escapes() {
        for (text, expected) in [
            ("Bearer ${A}", "Bearer alpha"),
            ("${A}${A}", "alphaalpha"),
            ("${B:-beta}", "beta"),
            ("${EMPTY:-beta}", "beta"),
            ("${B:-}", ""),
            ("$${A}", "${A}"),
            ("$${A} ${A}", "${A} alpha"),
            ("cost: 5$", "cost: 5$"),
            ("${env:A} ${env:B:-beta}", "alpha beta"),
        ] {
            assert_eq!(expand(text, &environment).unwrap(), expected, "{text}");
        }
        for text in [
            "${B}", "${EMPTY}", "${", "${}", "${A-B}", "${1A}", "${A", "${env:}", "${env:B}",
        ] {
            assert!(expand(text, &environment).is_err(), "{text}");
        }
    }

    /// I5: a secret may be the default of a variable.
    #[test]
    fn i5_defaults_are_shown_unless_they_are_secrets() {
        let secret = |name: &str| name.contains("TOKEN");
        for (template, alone, within_a_secret) in [
            (
                "Bearer ${X:-hunter2}",
                "Bearer ${X:-hunter2}",
                "Bearer ${X}",
            ),
            ("${TOKEN:-hunter2} ${A}", "${TOKEN} ${A}", "${TOKEN} ${A}"),
            ("${X:-}${Y:-z}", "${X:-}${Y:-z}", "${X:-}${Y}"),
            ("$${X:-a} ${X:-b", "$${X:-a} ${X:-b", "$${X:-a} ${X:-b"),
        ] {
            assert_eq!(without_secrets(template, false, secret), alone);
            assert_eq!(without_secrets(template, true, secret), within_a_secret);
        }
    }
}
