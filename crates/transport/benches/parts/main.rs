//! How long the parts of the server side and the client side take (J3; for authentication, E10):
//! time, and so only as good as the machine is quiet. `counts` counts instructions. The chapter on
//! figures of parts has the command and what came of it.

mod inputs;

use std::time::Instant;

use inputs::{Kept, Pool, Requests, SESSIONS, Sessions, Stream, io, read_through_buffer};
// The modules of the library look for it here, as for `io`.
use thinpipe_transport::body;

/// Samples of each part; a first tenth does not count.
const SAMPLES: usize = 2_000;

/// Small parts are timed together, so many at once: a clock costs as much as one of them.
const TOGETHER: usize = 100;

fn main() {
    println!(
        "{:<44} {:>9} {:>9} {:>9}",
        "nanoseconds", "p50", "p95", "p99"
    );
    let sessions = Sessions::new();
    let name = format!("session looked up among {SESSIONS}");
    report(&name, TOGETHER, |sample| {
        sessions.look_up(sample * 7919, TOGETHER)
    });
    for waiting in [1, 64] {
        let pool = Pool::new(waiting);
        let name = format!("connection out of the pool and back, {waiting} wait");
        report(&name, TOGETHER, |_| pool.cycle(TOGETHER));
    }
    report(
        "200 bytes read through the thread's buffer",
        TOGETHER,
        |_| read_through_buffer(TOGETHER) / 200,
    );
    for (name, kept) in [
        ("event from handler to reader", Kept::Nothing),
        ("the same, kept for its client", Kept::Here),
        ("the same, stored in a log before", Kept::InLog),
    ] {
        let mut stream = Stream::new(kept);
        report(name, TOGETHER, |_| stream.send(TOGETHER));
    }
    for (name, tokens) in [
        ("a whole request, without sockets", false),
        ("the same with the last of 100 tokens", true),
    ] {
        let mut requests = Requests::new(tokens);
        report(name, 1, |_| requests.send(1));
    }
}

fn report(what: &str, together: usize, mut run: impl FnMut(usize) -> usize) {
    let mut times = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES + SAMPLES / 10 {
        let start = Instant::now();
        let done = run(sample);
        let time = start.elapsed();
        assert_eq!(done, together, "{what}: not all of it was done");
        if sample >= SAMPLES / 10 {
            times.push(time);
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times[SAMPLES * percent / 100].as_secs_f64() * 1e9 / together as f64;
    println!("{what:<44} {:>9.0} {:>9.0} {:>9.0}", at(50), at(95), at(99));
}
