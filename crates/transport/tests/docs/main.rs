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
