//! Measures the gateway beside its rivals.

use std::error::Error;

/// Runs the benchmark.
pub(crate) fn run(_args: &[String]) -> Result<(), Box<dyn Error>> {
    Err("there is no benchmark yet".into())
}
