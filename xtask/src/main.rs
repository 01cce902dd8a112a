//! Chores of the workspace: `cargo xtask <chore>`.
//!
//! Nothing here is needed to build or to use Thinpipe. What a chore needs from outside it installs
//! itself, into the target folder where that is possible.

mod arrows;
mod bench;
mod fuzz;
mod install;
mod lint;
mod matrix;
mod rows;
mod simulate;
mod test;
mod workspace;

use std::error::Error;
use std::process::ExitCode;

/// What every chore returns; the message is for the person who typed the command.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Outcome {
    let (chore, rest) = match arguments.split_first() {
        Some((chore, rest)) => (chore.as_str(), rest),
        None => ("help", arguments),
    };
    match chore {
        "test" => test::run(rest),
        "install" => install::all_that_tests_need(),
        "fuzz" => {
            let (seconds, target) = number_and_name(rest, FUZZ_SECONDS)?;
            fuzz::run(seconds, target)
        }
        "simulate" => {
            let (seeds, world) = number_and_name(rest, SEEDS)?;
            simulate::run(seeds, world)
        }
        "bench" => bench::run(rest),
        "arrows" => arrows::run(),
        "lint" => lint::run(),
        "api" => lint::write_api(),
        "rows" => rows::run(rest),
        "matrix" => matrix::run(),
        "deny" => install::deny().and_then(|deny| lint::deny(&deny)),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("no chore is called {other:?}\n\n{HELP}").into()),
    }
}

/// `[SECONDS] [TARGET]` or the like, in either order.
fn number_and_name(arguments: &[String], usual: u64) -> Outcome<(u64, Option<&str>)> {
    let (mut number, mut name) = (usual, None);
    for argument in arguments {
        match argument.parse() {
            Ok(given) => number = given,
            Err(_) if name.is_none() => name = Some(argument.as_str()),
            Err(_) => return Err(format!("one at a time, not also {argument:?}").into()),
        }
    }
    Ok((number, name))
}

/// How long each fuzz target runs when nobody says.
const FUZZ_SECONDS: u64 = 30;

/// How many seeds of each world run when nobody says.
const SEEDS: u64 = 1_000;

const HELP: &str = "\
cargo xtask <chore>

  test [ARGS]              install what the tests need, then run every test
                           (ARGS go to `cargo nextest run`)
  install                  only install what the tests need
  fuzz [SECONDS] [TARGET]  run the fuzz targets
  simulate [SEEDS] [TEST]  run so many seeds (1000) of the worlds of the simulation, or of one of its tests
  bench [ARGS]             measure the gateway beside its rivals (`--sets gateway|servers|bridges|nodes`;
                           `--record` keeps the pages, `--against FILE` fails if a run is worse than a kept one)
  arrows                   check which crate depends on which
  lint                     check what clippy cannot: file lengths, leftovers, lock files, errors, clocks
                           in proto, dependencies of the workspace that no crate uses, how modules
                           use each other, the public surface, whether the matrix of bridging has the tests' rows
  api                      write down the public surface of the libraries (crates/*/api.txt)
  rows [ROW|FROM-TO ...]   which requirement rows the tests name; fails if one asked for is missing
                           (`--shown`: one of those that are met)
  matrix                   run the tests of all pairs of clients and servers, and write what works into
                           the chapter on bridging
  deny                     licences, sources, duplicate versions, and known vulnerabilities
                           where the advisory database can be reached";

#[cfg(test)]
mod tests {
    use super::number_and_name;

    #[test]
    fn a_number_and_a_name_come_in_either_order() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        for text in ["5 sse", "sse 5"] {
            assert_eq!(number_and_name(&words(text), 7).unwrap(), (5, Some("sse")));
        }
        assert_eq!(number_and_name(&words("sse"), 7).unwrap(), (7, Some("sse")));
        assert!(number_and_name(&words("sse rpc"), 7).is_err());
    }
}
