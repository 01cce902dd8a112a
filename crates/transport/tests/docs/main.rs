//! The guides in `docs/` say what the library does: every limit, every default, every exchange.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chapters;
mod exchanges;
mod limits;

/// The guide to building a server.
const SERVER: &str = include_str!("../../../../docs/src/server-library.md");

/// The guide to leaving HTTP+SSE.
const MIGRATION: &str = include_str!("../../../../docs/src/migration.md");

/// Fenced blocks with their language.
fn fenced(chapter: &str) -> Vec<(&str, &str)> {
    let inside = chapter.split("```").skip(1).step_by(2);
    inside.filter_map(|block| block.split_once('\n')).collect()
}

/// A29: the program that the guide to leaving begins with is the example that the tests run.
#[test]
fn a29_the_guide_begins_with_the_example() {
    let example = include_str!("../../examples/migrating.rs");
    let (_, program) = example.split_once("\n\n").unwrap();
    let (_, first) = fenced(MIGRATION)
        .into_iter()
        .find(|(language, _)| *language == "rust,no_run")
        .unwrap();
    assert_eq!(first, program);
}
