//! Chores of the workspace: `cargo xtask fuzz [SECONDS] [TARGET]`.

mod fuzz;

use std::env;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fuzz"] => fuzz::run(60, None),
        ["fuzz", seconds] => fuzz::run(seconds.parse()?, None),
        ["fuzz", seconds, target] => fuzz::run(seconds.parse()?, Some(target)),
        _ => Err("usage: cargo xtask fuzz [SECONDS] [TARGET]".into()),
    }
}
