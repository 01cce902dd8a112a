//! Runs many seeds of the simulation: gateways, peers and a network in one process (`crates/gateway/tests/simulation`).

use crate::{Outcome, workspace};

/// The test that runs every world twice. It is left out: what it shows, a few seeds show.
const TWICE: &str = "g10_a_seed_has_its_world";

/// Builds it optimised, as a world is over in a tenth of the time then, and runs so many seeds of all worlds, one after
/// the other, or of those whose tests have this in their name.
///
/// # Errors
/// A failed build, or a seed that fails: it was printed with what happened.
pub(crate) fn run(seeds: u64, world: Option<&str>) -> Outcome {
    let mut cargo = workspace::cargo();
    cargo.env("THINPIPE_SEEDS", seeds.to_string()).args([
        "test",
        "--package",
        "thinpipe-gateway",
        "--test",
        "simulation",
        "--profile",
        "simulation",
        "--",
        "--nocapture",
        "--test-threads=1",
    ]);
    match world {
        Some(world) => cargo.arg(world),
        None => cargo.args(["--skip", TWICE]),
    };
    workspace::run(&mut cargo)
}
