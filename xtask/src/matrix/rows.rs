//! The rows that the tests of bridging declare.

use std::collections::BTreeMap;
use std::fs;

use crate::{Outcome, workspace};

/// All rows, in the order of the files and in them.
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
}

/// One line of a `rows!` table: a scenario, and the pairs that it is a test of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    module: String,
    name: String,
    /// What it shows, for people.
    pub(super) about: String,
    pub(super) pairs: Vec<String>,
}

impl Rows {
    /// Reads them from the sources of the tests.
    pub(super) fn read() -> Outcome<Self> {
        let folder = workspace::root().join(TESTS);
        let groups = groups(&fs::read_to_string(folder.join("pairs.rs"))?);
        let mut rows = Vec::new();
        for module in MODULES {
            let text = fs::read_to_string(folder.join(module).with_extension("rs"))?;
            rows.extend(declared(module, &text, &groups)?);
        }
        let known = |module: &str| MODULES.contains(&module);
        for path in workspace::files(&folder)? {
            let module = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !known(&module) && fs::read_to_string(&path)?.contains("\nrows! {") {
                return Err(
                    format!("{TESTS}/{module}.rs has rows, and no place in the matrix").into(),
                );
            }
        }
        Ok(Self { rows })
    }

    /// The tests of all rows, by the names that the test binary has for them.
    pub(super) fn tests(&self) -> impl Iterator<Item = String> {
        let tests = self
            .rows
            .iter()
            .flat_map(|row| row.pairs.iter().map(|pair| row.test(pair)));
        tests.collect::<Vec<_>>().into_iter()
    }
}

impl Row {
    /// Module and name of the scenario.
    pub(super) fn path(&self) -> String {
        format!("{}::{}", self.module, self.name)
    }

    /// Name of its test of a pair.
    pub(super) fn test(&self, pair: &str) -> String {
        format!("{}::{pair}", self.path())
    }

    pub(super) fn is_about(&self, pairs: &[&str]) -> bool {
        self.pairs.iter().any(|pair| pairs.contains(&pair.as_str()))
    }
}

/// What each group of the macro stands for: other groups, and pairs.
type Groups = BTreeMap<String, Vec<String>>;

/// Reads the macro: `(@b $name:ident) => {`, then a line for each group or pair of it.
fn groups(text: &str) -> Groups {
    let mut groups = Groups::new();
    let mut current = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("(@") {
            let (group, _) = rest.split_once(' ').unwrap_or((rest, ""));
            current = Some(group.to_owned());
        } else if let Some(rest) = line.strip_prefix("rows!(@")
            && let Some(current) = &current
        {
            let mut words = rest.split([' ', ')']);
            let of = match (words.next(), words.nth(1)) {
                (Some("test"), Some(pair)) => pair,
                (Some(group), _) => group,
                (None, _) => continue,
            };
            groups
                .entry(current.clone())
                .or_default()
                .push(of.to_owned());
        }
    }
    groups
}

fn pairs(groups: &Groups, group: &str) -> Vec<String> {
    match groups.get(group) {
        Some(of) => of.iter().flat_map(|part| pairs(groups, part)).collect(),
        None => vec![group.to_owned()],
    }
}

/// The lines of a file's `rows!` table.
fn declared(module: &str, text: &str, groups: &Groups) -> Outcome<Vec<Row>> {
    let table = text.split_once("\nrows! {\n").map(|(_, rest)| rest);
    let table = table.and_then(|rest| rest.split_once("\n}\n"));
    let Some((table, _)) = table else {
        return Err(format!("{TESTS}/{module}.rs has no table of rows").into());
    };
    let mut rows = Vec::new();
    let mut about = String::new();
    for line in table.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            about.push_str(comment);
            continue;
        }
        let words = line.strip_suffix(';').and_then(|line| line.split_once(' '));
        let Some((group, name)) = words else {
            return Err(format!("{TESTS}/{module}.rs: {line:?} is no row").into());
        };
        if !groups.contains_key(group) {
            return Err(format!("{TESTS}/{module}.rs: {group} is no group of pairs").into());
        }
        rows.push(Row {
            module: module.to_owned(),
            name: name.to_owned(),
            about: for_people(&std::mem::take(&mut about)),
            pairs: pairs(groups, group),
        });
    }
    Ok(rows)
}

/// What stands behind the numbers of the rows.
fn for_people(comment: &str) -> String {
    let comment = comment.trim();
    let about = comment.split_once(": ").map_or(comment, |(_, about)| about);
    let mut letters = about.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// Where the tests are.
const TESTS: &str = "crates/thinpipe/tests/bridging";

/// The files with rows, in the order in which a reader wants to see them.
const MODULES: [&str; 10] = [
    "opening",
    "calling",
    "asking",
    "prompting",
    "parking",
    "cancelling",
    "changing",
    "logging",
    "failing",
    "isolating",
];

#[cfg(test)]
mod tests {
    use super::*;

    const MACRO: &str = "
        (@all $name:ident) => {
            rows!(@a $name);
            rows!(@b $name);
        };
        (@a $name:ident) => {
            rows!(@test $name x_to_y X Y);
        };
        (@b $name:ident) => {
            rows!(@test $name x_to_z X Z);
        };
        (@test $name:ident $test:ident $client:ident $server:ident) => {
            let client = 1;
        };";

    #[test]
    fn groups_are_spelled_out() {
        let groups = groups(MACRO);
        assert_eq!(pairs(&groups, "all"), ["x_to_y", "x_to_z"]);
        assert_eq!(pairs(&groups, "b"), ["x_to_z"]);
    }

    #[test]
    fn rows_have_what_stands_above_them() {
        let text =
            "use x;\n\nrows! {\n    /// R1, R2: what is\n    /// said.\n    b r1_name;\n}\n\nfn";
        let rows = declared("module", text, &groups(MACRO)).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].about, "What is said.");
        assert_eq!(rows[0].test("x_to_z"), "module::r1_name::x_to_z");
        assert!(declared("module", "rows", &groups(MACRO)).is_err());
        let unknown = "\nrows! {\n    c r1_name;\n}\n";
        assert!(declared("module", unknown, &groups(MACRO)).is_err());
    }
}
