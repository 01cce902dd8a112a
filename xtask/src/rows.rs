//! Which rows of the requirements the tests name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::lint::source;
use crate::{Outcome, workspace};

/// Rows of the requirements that are met, each shown by a test, a benchmark or a lint that names it.
/// What is added here stays shown: a test holds it.
const SHOWN: [&str; 17] = [
    "A1-A33", "B1", "B2", "B4-B20", "C1-C24", "C25", "C26", "D1-D12", "E1-E11", "F1-F23", "G1-G10",
    "H1-H6", "I1-I5", "J3-J10", "K1-K8", "T1-T13", "T15",
];

/// Prints every row that a test names, with how often; fails for rows asked for that none names.
///
/// Rows are asked for as `B14` or `B14-B17`; `--shown` asks for all that are met.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let asked = match arguments {
        [only] if only == "--shown" => asked(&SHOWN)?,
        rows => asked(rows)?,
    };
    let named = named()?;
    let missing = missing(&named, &asked);
    if !missing.is_empty() {
        return Err(format!("no test names {}", missing.join(" ")).into());
    }
    if asked.is_empty() {
        for (row, times) in &named {
            println!("{:6}{times}", show(row));
        }
    } else {
        println!("rows: all {} asked for are named by a test", asked.len());
    }
    Ok(())
}

/// The rows that tests name, and how often.
fn named() -> Outcome<BTreeMap<Row, u32>> {
    let root = workspace::root();
    let mut named = BTreeMap::new();
    for path in workspace::files(&root)? {
        let inner = path.strip_prefix(&root)?;
        // What is said of rows here shows none.
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        if is_rust && !inner.ends_with("xtask/src/rows.rs") {
            let text = fs::read_to_string(&path)?;
            for row in rows_in(showing(inner, &text)) {
                *named.entry(row).or_insert(0) += 1;
            }
        }
    }
    Ok(named)
}

/// What of a file shows rows: its tests, and all of the benchmark.
fn showing<'a>(path: &Path, text: &'a str) -> &'a str {
    if path.starts_with("bench") {
        return text;
    }
    source::parts(path, text).tests
}

fn missing(named: &BTreeMap<Row, u32>, asked: &[Row]) -> Vec<String> {
    let missing = asked.iter().filter(|row| !named.contains_key(*row));
    missing.map(show).collect()
}

/// A row: its letter and its number.
type Row = (char, u16);

fn show((letter, number): &Row) -> String {
    // The rows of the wire have three digits, those of the product as many as they need.
    if *letter == 'R' {
        format!("R{number:03}")
    } else {
        format!("{letter}{number}")
    }
}

/// `B14`, `R160` anywhere; `r160_` and `b14_` in the name of a function.
fn rows_in(text: &str) -> impl Iterator<Item = Row> {
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|piece| {
            let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            // `i32` and `f32` are types; `f18_` begins the name of a test.
            let is_name =
                word.starts_with(|c: char| c.is_ascii_uppercase()) || piece.ends_with('_');
            parse(word).filter(|row| is_name && (row.0 != 'R' || word.len() == 4))
        })
}

fn parse(word: &str) -> Option<Row> {
    let letter = word.chars().next()?.to_ascii_uppercase();
    if !matches!(letter, 'A'..='K' | 'R' | 'T') {
        return None;
    }
    // There are 15 traps.
    let last = if letter == 'T' { 15 } else { 250 };
    let number: u16 = word[1..]
        .parse()
        .ok()
        .filter(|number| (1..=last).contains(number))?;
    Some((letter, number))
}

fn asked(arguments: &[impl AsRef<str>]) -> Outcome<Vec<Row>> {
    let mut asked = Vec::new();
    for argument in arguments {
        let argument = argument.as_ref();
        let (from, to) = argument.split_once('-').unwrap_or((argument, argument));
        match (parse(from), parse(to)) {
            (Some(from), Some(to)) if from.0 == to.0 => {
                asked.extend((from.1..=to.1).map(|number| (from.0, number)));
            }
            _ => return Err(format!("{argument:?} is neither a row nor a range of rows").into()),
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_in_names_and_comments() {
        let text = "/// D1, R161\nfn r160_lines_end_in_three_ways() {}";
        assert_eq!(
            rows_in(text).collect::<Vec<_>>(),
            [('D', 1), ('R', 161), ('R', 160)]
        );
    }

    #[test]
    fn tests_and_the_benchmark_show_rows() {
        let text = "//! A32\n#[cfg(test)]\nmod tests {\n    /// A33\n}";
        let shown = |path: &str| rows_in(showing(Path::new(path), text)).collect::<Vec<_>>();
        assert_eq!(shown("bench/src/figures.rs"), [('A', 32), ('A', 33)]);
        assert_eq!(shown("crates/proto/src/sse.rs"), [('A', 33)]);
    }

    #[test]
    fn traps_are_rows() {
        let text = "/// A9, T3\nfn t15_limits_are_kept() {}";
        assert_eq!(
            rows_in(text).collect::<Vec<_>>(),
            [('A', 9), ('T', 3), ('T', 15)]
        );
        assert_eq!(asked(&["T1-T15"]).unwrap().len(), 15);
    }

    #[test]
    fn words_that_merely_look_alike_are_none() {
        assert_eq!(rows_in("r1_ R16 R999 B64x Z3 T16 i32 f32;").count(), 0);
    }

    /// Every row that is met stays shown.
    #[test]
    fn every_row_that_is_met_is_named() {
        let named = named().unwrap();
        assert_eq!(
            missing(&named, &asked(&SHOWN).unwrap()),
            Vec::<String>::new()
        );
    }

    #[test]
    fn ranges_are_spelled_out() {
        let asked = asked(&["C1-C3", "E7"]).unwrap();
        assert_eq!(asked, [('C', 1), ('C', 2), ('C', 3), ('E', 7)]);
        assert!(super::asked(&["C1-D3"]).is_err());
    }
}
