//! Chores of the workspace.

use std::error::Error;

mod bench;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((chore, rest)) if chore == "bench" => bench::run(rest),
        _ => Err("cargo xtask bench".into()),
    }
}
