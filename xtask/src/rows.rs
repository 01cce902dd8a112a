//! Which rows of the requirements the tests name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::{Outcome, workspace};

/// Prints every row that a test names, with how often; fails for rows asked for that none names.
///
/// Rows are asked for as `B14` or `B14-B17`.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let root = workspace::root();
    let mut named = BTreeMap::new();
    for path in workspace::files(&root)? {
        // Our own tests speak of rows without showing any.
        let is_ours = path.starts_with(root.join("xtask"));
        if !is_ours && path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            for row in rows_in(test_part(&path, &text)) {
                *named.entry(row).or_insert(0_u32) += 1;
            }
        }
    }
    let asked = asked(arguments)?;
    let missing: Vec<String> = asked
        .iter()
        .filter(|row| !named.contains_key(*row))
        .map(show)
        .collect();
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

/// The part of a file that is tests: all of it, or what follows the first `cfg(test)`.
fn test_part<'a>(path: &Path, text: &'a str) -> &'a str {
    let is_test = path.ends_with("tests.rs")
        || path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "e2e");
    if is_test {
        return text;
    }
    text.find("#[cfg(test)]").map_or("", |start| &text[start..])
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
    if !matches!(letter, 'A'..='K' | 'R') {
        return None;
    }
    let number: u16 = word[1..]
        .parse()
        .ok()
        .filter(|number| (1..=250).contains(number))?;
    Some((letter, number))
}

fn asked(arguments: &[String]) -> Outcome<Vec<Row>> {
    let mut asked = Vec::new();
    for argument in arguments {
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
    fn words_that_merely_look_alike_are_none() {
        assert_eq!(rows_in("r1_ R16 R999 B64x Z3 i32 f32;").count(), 0);
    }

    #[test]
    fn code_before_the_tests_does_not_count() {
        let text = "// D1\n#[cfg(test)]\nmod tests { /* D2 */ }";
        assert_eq!(
            rows_in(test_part(Path::new("a.rs"), text)).collect::<Vec<_>>(),
            [('D', 2)]
        );
    }

    #[test]
    fn ranges_are_spelled_out() {
        let asked = asked(&["C1-C3".into(), "E7".into()]).unwrap();
        assert_eq!(asked, [('C', 1), ('C', 2), ('C', 3), ('E', 7)]);
        assert!(super::asked(&["C1-D3".into()]).is_err());
    }
}
