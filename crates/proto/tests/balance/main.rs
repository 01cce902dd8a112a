//! Which replica of a server is asked: distributions, breakers, slow starts, repetitions.

use std::time::Instant;

mod breaker;
mod budget;
mod group;

/// Any instant: only differences count.
fn start() -> Instant {
    Instant::now()
}
