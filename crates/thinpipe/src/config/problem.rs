//! What is wrong with a configuration, where, and how to mend it.

use std::fmt;
use std::ops::Range;

use thinpipe_proto::shown::{Shown, is_plain};

use super::suggest::closest;
use super::tree::{Node, Path};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What is wrong, without the place.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) mend: Option<String>,
    /// Where.
    pub(crate) place: Place,
}

/// Where a problem lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A value of the file.
    Path(Path),
    /// A part of the file's text.
    Span(Range<usize>),
    /// A command line option or an environment variable, by its name.
    Setting(String),
}

/// A file's name and text.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// All that is wrong with a configuration. Printed, it shows each place with its line.
#[derive(Debug)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    file: Option<Box<File>>,
}

/// The file that is wrong, for excerpts.
#[derive(Debug)]
struct File {
    source: Source,
    tree: Node,
}

impl Problem {
    /// A problem at a value of the file.
    pub(crate) fn at(path: Path, message: impl Into<String>) -> Self {
        Self::new(Place::Path(path), message)
    }

    /// A problem at a part of the file's text.
    pub(crate) fn within(span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Place::Span(span), message)
    }

    /// A problem at any place.
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            mend: None,
            place,
        }
    }

    /// The same, with what to do about it.
    pub(crate) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// The same, with the expected name that looks most like `found`, or all of them.
    pub(crate) fn suggest(self, found: &str, expected: &[&str]) -> Self {
        match closest(found, expected) {
            Some(name) => self.mend(format!("did you mean `{name}`?")),
            None if expected.is_empty() => self.mend("nothing may stand here"),
            None => self.mend(format!("known here: {}", expected.join(", "))),
        }
    }
}

impl Problems {
    /// Problems of a file.
    pub(crate) fn of_file(list: Vec<Problem>, source: Source, tree: Node) -> Self {
        let file = Some(Box::new(File { source, tree }));
        Self { list, file }
    }

    /// Problems of settings that stand in no file.
    pub(crate) fn of_settings(list: Vec<Problem>) -> Self {
        Self { list, file: None }
    }

    /// The same, with other words: `say` is given each message and each mend.
    pub(crate) fn rewritten(mut self, say: impl Fn(&str) -> String) -> Self {
        for problem in &mut self.list {
            problem.message = say(&problem.message);
            problem.mend = problem.mend.as_deref().map(&say);
        }
        self
    }

    /// The same, at other places.
    pub(crate) fn moved(mut self, place: impl Fn(Place) -> Place) -> Self {
        for problem in &mut self.list {
            problem.place = place(problem.place.clone());
        }
        self
    }

    fn write_one(&self, f: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
        // Keys and values are quoted in all of these, and whoever wrote them need not be who reads this.
        let message = Shown::new(&problem.message, MAX_SHOWN);
        let at = match &problem.place {
            Place::Setting(name) => {
                write!(f, "error: {name}: {message}")?;
                None
            }
            Place::Path(path) if *path == Path::default() => {
                // The whole file: no line of it is wrong, something is missing.
                write!(f, "error: {message}")?;
                self.file.as_ref().map(|_| 0..0)
            }
            Place::Path(path) => {
                let shown = path.to_string();
                write!(f, "error: {}: {message}", Shown::new(&shown, MAX_SHOWN))?;
                self.file.as_ref().map(|file| file.tree.nearest(path))
            }
            Place::Span(span) => {
                write!(f, "error: {message}")?;
                Some(span.clone())
            }
        };
        if let (Some(span), Some(file)) = (at, &self.file) {
            let source = &file.source;
            let mut secrets = Vec::new();
            file.tree.secrets(None, &mut secrets);
            write!(
                f,
                "\n{}",
                Excerpt {
                    source,
                    span,
                    secrets
                }
            )?;
        }
        if let Some(mend) = &problem.mend {
            write!(f, "\n  = help: {}", Shown::new(mend, MAX_SHOWN))?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.list.iter().enumerate() {
            if at > 0 {
                f.write_str("\n\n")?;
            }
            self.write_one(f, problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The line a span begins on, with a caret under it.
struct Excerpt<'a> {
    source: &'a Source,
    span: Range<usize>,
    /// Where the text holds secrets.
    secrets: Vec<Range<usize>>,
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.source.text;
        let start = floor_boundary(text, self.span.start);
        let end = floor_boundary(text, self.span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let number = text[..start].matches('\n').count() + 1;
        let before = text[line_start..start].chars().count();
        let marked = text[start..end.clamp(start, line_end)].chars().count();
        let line = text[line_start..line_end].trim_end_matches('\r');
        let here = |secret: &&Range<usize>| secret.start < line_end && secret.end > line_start;
        let first = self.secrets.iter().filter(here).map(|secret| secret.start);
        let secret = first.min().map(|at| at.saturating_sub(line_start));
        let line = hide_secret(line, secret);
        let gutter = number.to_string().len();

        writeln!(
            f,
            "{:gutter$}--> {}:{number}:{}",
            "",
            self.source.name,
            before + 1
        )?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(
            f,
            "{number} | {}",
            line.chars().map(symbol).collect::<String>()
        )?;
        // A masked line may be shorter than the place it stood for.
        let before = before.min(line.chars().count());
        let marked = marked.clamp(1, (line.chars().count() - before).max(1));
        write!(f, "{:gutter$} | {:before$}{}", "", "", "^".repeat(marked))
    }
}

/// Of a message with what it quotes, so many bytes are printed.
const MAX_SHOWN: usize = 2000;

/// What stands in an excerpt for a character that does not show: one character, so that the mark below
/// stays where it belongs.
fn symbol(character: char) -> char {
    match character {
        '\t' => ' ',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(' '),
        '\u{7f}' => '\u{2421}',
        character if is_plain(character) => character,
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Error messages are pasted into chats and tickets: values of lines that look as if they held a
/// secret are not shown.
///
/// `known` is where one begins that the file has at its place.
fn hide_secret(line: &str, known: Option<usize>) -> String {
    let mut lower = line.to_ascii_lowercase();
    for name in WITHOUT_SECRET {
        lower = lower.replace(name, "");
    }
    let secret = [
        "token",
        "authorization",
        "secret",
        "password",
        "key",
        "cookie",
    ]
    .iter()
    .any(|word| lower.contains(word));
    let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let secret = secret || words.any(|word| matches!(word, "env" | "headers"));
    // A URL with a user name, and most likely a password.
    let secret = secret || {
        let names_one = ["url", "store", "://"].iter().any(|it| lower.contains(it));
        line.contains('@') && names_one
    };
    let sign = line.find(['=', ':']);
    if let Some(at) = known {
        // Before the secret stands at most its key.
        let at = floor_boundary(line, sign.map_or(at, |sign| at.min(sign + 1)));
        return format!("{} ***", line[..at].trim_end());
    }
    if names_headers(&lower) {
        return line.to_owned();
    }
    match sign {
        Some(at) if secret && !line[at + 1..].trim().is_empty() => {
            format!("{} ***", &line[..=at])
        }
        _ => line.to_owned(),
    }
}

/// Whether a line has nothing but names of headers, in small letters. Their values are not there, though `x-api-key` looks so.
fn names_headers(line: &str) -> bool {
    let Some(list) = line.trim_start().strip_prefix("carried_headers") else {
        return false;
    };
    let list = list.trim_start();
    let list = list.strip_prefix('=').or_else(|| list.strip_prefix(':'));
    list.is_some_and(|list| !list.contains(['=', ':', '{', '#']))
}

/// Keys that hold none, though their names look as if they did.
const WITHOUT_SECRET: [&str; 2] = ["rate_key", "password_file"];

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str, span: Range<usize>) -> String {
        let source = Source {
            name: "a.toml".to_owned(),
            text: text.to_owned(),
        };
        Excerpt {
            source: &source,
            span,
            secrets: Vec::new(),
        }
        .to_string()
    }

    #[test]
    fn the_excerpt_points_at_the_place_in_characters() {
        let text = "a = 1\nü = [oops]\n";
        let at = text.find("oops").unwrap();
        let shown = show(text, at..at + 4);
        assert_eq!(shown, " --> a.toml:2:6\n  |\n2 | ü = [oops]\n  |      ^^^^");
    }

    #[test]
    fn a_span_over_several_lines_marks_the_first() {
        let shown = show("[a]\nb = 1\n", 0..9);
        assert!(shown.ends_with("1 | [a]\n  | ^^^"), "{shown}");
    }

    #[test]
    fn places_outside_of_the_text_do_not_panic() {
        assert!(show("", 5..9).contains("a.toml:1:1"));
        assert!(show("ü", 1..1).contains("a.toml:1:1"));
    }

    /// I5: what a file holds is named, and does nothing to the terminal.
    #[test]
    fn i5_what_does_not_show_is_escaped() {
        let key = "a\u{1b}[31m\u{202e}\nerror: b";
        let text = "x\u{1b}[2J\u{9b}\t\u{7f} = oops".to_owned();
        let at = text.find("oops").unwrap();
        let path = Path::default().key(key);
        let list = vec![
            Problem::at(path, format!("`{key}` is wrong")).mend(format!("remove `{key}`")),
            Problem::within(at..at + 4, "no"),
        ];
        let source = Source {
            name: "a.toml".to_owned(),
            text,
        };
        let shown = Problems::of_file(list, source, Node::empty()).to_string();
        let escaped = r"a\u{1b}[31m\u{202e}\nerror: b";
        let line = format!("error: {escaped}: `{escaped}` is wrong\n");
        assert!(shown.starts_with(&line), "{shown:?}");
        assert!(shown.contains(&format!("= help: remove `{escaped}`\n")));
        let excerpt = "1 | x\u{241b}[2J\u{fffd} \u{2421} = oops\n  |            ^^^^";
        assert!(shown.contains(excerpt), "{shown:?}");
        assert!(shown.chars().all(|c| c == '\n' || is_plain(c)), "{shown:?}");
    }

    #[test]
    fn lines_that_only_look_like_secrets_are_shown() {
        for text in [
            "rate_key = \"adress\"",
            "sentinel_password_file = \"/no/such\"",
            "carried_headers = [\"X-Api-Key\"]",
        ] {
            assert!(show(text, 0..text.len()).contains(text), "{text}");
        }
        let both = "store = { password_file = \"a\", password = \"hunter2\" }";
        assert!(!show(both, 0..both.len()).contains("hunter2"));
    }

    #[test]
    fn lines_with_secrets_are_masked() {
        for (text, masked) in [
            ("token = \"hunter2\"", "token = ***"),
            ("url = \"http://u:hunter2@h/\"", "url = ***"),
            ("url: u:hunter2@h", "url: ***"),
            (
                "carried_headers = { token = \"hunter2\" }",
                "carried_headers = ***",
            ),
        ] {
            let shown = show(text, 8..text.len());
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains(masked), "{shown}");
        }
    }
}
