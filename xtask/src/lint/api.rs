//! The public surface of the libraries (D9): all of it documented, and listed in a file of each, so
//! that a change of it shows in a change of that file.

use std::path::{Path, PathBuf};

use super::source;

/// The libraries whose surface is listed, by their folders.
pub(crate) const LIBRARIES: [&str; 2] = ["crates/proto", "crates/transport"];

/// The list, in the library's folder.
pub(crate) const LIST: &str = "api.txt";

/// Public items of a library, file by file, in the order they are written; and which of them have no
/// documentation.
pub(crate) fn listing(library: &Path, files: &[(PathBuf, String)]) -> (String, Vec<String>) {
    let mut list = String::new();
    let mut offences = Vec::new();
    for (path, text) in files {
        let Ok(inner) = path.strip_prefix(library.join("src")) else {
            continue;
        };
        let code = source::parts(path, text).code;
        let lines: Vec<_> = code.lines().collect();
        let items = items(&lines);
        if items.is_empty() {
            continue;
        }
        list.push_str(&format!("{}\n", inner.display()));
        for item in &items {
            list.push_str(&format!(
                "    {:indent$}{}\n",
                "",
                item.text,
                indent = item.indent
            ));
            if !item.is_documented {
                let line = item.line + 1;
                offences.push(format!(
                    "{}:{line}: `{}` is not documented",
                    path.display(),
                    item.text
                ));
            }
        }
    }
    (list, offences)
}

struct Item {
    line: usize,
    indent: usize,
    text: String,
    is_documented: bool,
}

fn items(lines: &[&str]) -> Vec<Item> {
    let mut found = Vec::new();
    // The indentation of the public enum or trait that is being read.
    let mut inside: Option<usize> = None;
    // Whose methods come, until the first public one has.
    let mut owner: Option<(usize, &str)> = None;
    let mut line = 0;
    while line < lines.len() {
        let text = lines[line];
        let indent = text.len() - text.trim_start().len();
        let word = text.trim_start();
        if word.starts_with("impl") && !word.contains(" for ") {
            owner = Some((line, word.trim_end_matches(" {")));
        }
        if inside.is_some_and(|open| indent <= open && word.starts_with('}')) {
            inside = None;
        }
        let is_member = inside.is_some_and(|open| indent == open + 4) && begins_member(word);
        if !word.starts_with("pub ") && !is_member {
            line += 1;
            continue;
        }
        let (whole, end) = whole(lines, line);
        if (word.starts_with("pub enum ") || word.starts_with("pub trait ")) && whole.ends_with('{')
        {
            inside = Some(indent);
        }
        if indent == 0 {
            owner = None;
        } else if let Some((line, text)) = owner.take() {
            found.push(Item {
                line,
                indent: 0,
                text: text.to_owned(),
                is_documented: true,
            });
        }
        let shown = whole
            .trim_end_matches(['{', ';', ','])
            .trim_end()
            .to_owned();
        // What a module or a re-export is about stands where it is.
        let exempt = ["pub use ", "pub mod "]
            .iter()
            .any(|kind| word.starts_with(kind));
        found.push(Item {
            line,
            indent,
            text: shown,
            is_documented: exempt || is_documented(lines, line),
        });
        line = end + 1;
    }
    found
}

/// A variant, or what a trait asks for.
fn begins_member(word: &str) -> bool {
    let first = word.chars().next();
    let is_variant = first.is_some_and(char::is_uppercase);
    is_variant
        || ["fn ", "async fn ", "type ", "const "]
            .iter()
            .any(|kind| word.starts_with(kind))
}

/// An item up to where its body begins, on one line; and the line it ends on.
fn whole(lines: &[&str], begin: usize) -> (String, usize) {
    let mut text = String::new();
    let mut depth = 0_i32;
    let is_use = lines[begin].trim_start().starts_with("pub use ");
    for (at, line) in lines.iter().enumerate().skip(begin) {
        let line = line.trim();
        let joined = line.split(" // ").next().unwrap_or(line);
        if !text.is_empty() && !text.ends_with('(') && !joined.starts_with(')') {
            text.push(' ');
        }
        text.push_str(joined);
        for character in joined.chars() {
            match character {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                _ => {}
            }
        }
        let ends = match is_use {
            true => joined.ends_with(';'),
            false => depth == 0 && joined.ends_with(['{', ';', ',', '}']),
        };
        if ends {
            return (text.replace(",)", ")"), at);
        }
    }
    (text, lines.len())
}

/// Whether there is documentation before an item and its attributes.
fn is_documented(lines: &[&str], item: usize) -> bool {
    let mut above = lines[..item].iter().rev().map(|line| line.trim());
    while let Some(line) = above.next() {
        if line.starts_with("#[") {
            continue;
        }
        // An attribute over several lines.
        if line.ends_with(")]") {
            if above.by_ref().any(|line| line.starts_with("#[")) {
                continue;
            }
            return false;
        }
        return line.starts_with("///") || line.starts_with("$(#[");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = r#"//! A.

pub mod b;
pub use c::{
    D, E,
};

/// F.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "x"
)]
pub struct F {
    /// G.
    pub g: u32,
    pub(crate) h: u32,
}

impl F {
    /// I.
    pub fn i(
        &self,
        a: (u8, u8),
    ) -> Result<(), Error>
    where
        Self: Sized,
    {
        pub_like();
        Ok(())
    }

    pub fn j() {}
}

/// K.
pub enum K {
    /// L.
    L,
    M(u8),
}

/// N.
pub trait N {
    /// O.
    fn o(&self) {
        let x = Other::P;
    }
}
"#;

    /// D9
    #[test]
    fn d9_public_items_are_listed_with_what_they_take() {
        let files = [
            ("a/src/lib.rs".into(), CODE.to_owned()),
            ("a/tests/b.rs".into(), "pub fn no() {}".to_owned()),
        ];
        let (list, offences) = listing(Path::new("a"), &files);
        let expected = [
            "lib.rs",
            "pub mod b",
            "pub use c::{ D, E, }",
            "pub struct F",
            "pub g: u32",
            "impl F",
            "pub fn i(&self, a: (u8, u8)) -> Result<(), Error> where Self: Sized",
            "pub fn j() {}",
            "pub enum K",
            "L",
            "M(u8)",
            "pub trait N",
            "fn o(&self)",
        ];
        let lines: Vec<_> = list.lines().map(str::trim).collect();
        assert_eq!(lines, expected);
        assert_eq!(
            offences,
            [
                "a/src/lib.rs:33: `pub fn j() {}` is not documented",
                "a/src/lib.rs:40: `M(u8)` is not documented"
            ]
        );
    }
}
