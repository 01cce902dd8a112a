//! What the other checks see of a Rust file: its text without tests, and what it uses.

use std::path::Path;

/// The text without inline tests, and whether all of it is tests.
pub(crate) struct Parts<'a> {
    /// What is built into the library or program.
    pub(crate) code: &'a str,
    /// What is only built to test it.
    pub(crate) tests: &'a str,
}

/// Tells code and tests apart. Files of tests are named `tests.rs`, or lie in `tests`, `benches` or
/// `e2e`; an inline module of tests goes to the end of its file.
pub(crate) fn parts<'a>(path: &Path, text: &'a str) -> Parts<'a> {
    let folders = ["tests", "benches", "e2e"];
    let is_test = path.ends_with("tests.rs")
        || path
            .components()
            .any(|part| folders.iter().any(|folder| part.as_os_str() == *folder));
    if is_test {
        return Parts {
            code: "",
            tests: text,
        };
    }
    // `mod tests;` only says that there is such a file.
    let inline = "#[cfg(test)]\nmod tests {";
    let at = text.find(inline).unwrap_or(text.len());
    Parts {
        code: &text[..at],
        tests: &text[at..],
    }
}

/// Full paths of everything that `use` lines name, braces taken apart: `crate::a::{b, c::d}` is
/// `crate::a::b` and `crate::a::c::d`.
pub(crate) fn uses(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let is_statement = rest[..at]
            .rsplit('\n')
            .next()
            .is_some_and(|before| before.trim().is_empty() || before.trim().starts_with("pub"));
        rest = &rest[at + 4..];
        let Some(end) = rest.find(';').filter(|_| is_statement) else {
            continue;
        };
        expand("", rest[..end].trim(), &mut found);
        rest = &rest[end..];
    }
    found
}

/// Takes one tree of a `use` apart.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((path, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree).trim();
        let name = name.strip_suffix("::self").unwrap_or(name);
        if !name.is_empty() {
            found.push(match name {
                "self" => prefix.trim_end_matches("::").to_owned(),
                name => format!("{prefix}{name}"),
            });
        }
        return;
    };
    let prefix = format!("{prefix}{}", path.trim());
    let mut depth = 0;
    let mut start = 0;
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    for (at, character) in inner.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inner[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &inner[start..], found);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_taken_apart() {
        let code = "use std::fmt;\n\npub(crate) use crate::a::{self, b, c::{d as e, f}};\n// they use x;\nuse super::{\n    g,\n    h::*,\n};\n";
        assert_eq!(
            uses(code),
            [
                "std::fmt",
                "crate::a",
                "crate::a::b",
                "crate::a::c::d",
                "crate::a::c::f",
                "super::g",
                "super::h::*"
            ]
        );
    }

    #[test]
    fn tests_are_told_from_code() {
        let text = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
        assert_eq!(parts(Path::new("src/a.rs"), text).code, text);
        let inline = "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(parts(Path::new("src/a.rs"), inline).code, "fn a() {}\n");
        for path in [
            "src/a/tests.rs",
            "tests/a.rs",
            "benches/a/main.rs",
            "e2e/src/a.rs",
        ] {
            assert_eq!(parts(Path::new(path), text).tests, text, "{path}");
        }
    }
}
