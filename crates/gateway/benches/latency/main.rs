//! How long a chain of interceptors takes for one message (E7, E10), reading it included: time, and so
//! only as good as the machine is quiet. `chain` counts instructions.

#[path = "../chain/inputs.rs"]
mod inputs;

use std::time::{Duration, Instant};

use inputs::{
    ACCESS, COUNT, Input, LOG, PIN, REDACT, RULES, SANITIZE, calls, events, lists, results,
};

/// Times that each message is run; the first round does not count.
const ROUNDS: usize = 20;

fn main() {
    println!(
        "{:<34} {:>10} {:>10} {:>10}",
        "microseconds", "p50", "p95", "p99"
    );
    report("event, no interceptor", &events(0));
    report("event, 1 interceptor", &events(1));
    report("event, 5 interceptors", &events(5));
    report("event, 10 interceptors", &events(10));
    report("call, log", &calls(LOG));
    report("call, access", &calls(ACCESS));
    report("call, pin", &calls(PIN));
    report("call, rules", &calls(RULES));
    report("call, redact", &calls(REDACT));
    report("result of 4 KiB, sanitize", &results(SANITIZE));
    report("result of 4 KiB, redact", &results(REDACT));
    report("list of 50 tools, access", &lists(ACCESS));
    report("list of 50 tools, sanitize", &lists(SANITIZE));
    report("list of 50 tools, pin", &lists(PIN));
}

fn report(what: &str, input: &Input) {
    let mut times = Vec::with_capacity(ROUNDS * COUNT);
    for round in 0..=ROUNDS {
        for source in &input.messages {
            let start = Instant::now();
            input.relay(source);
            let time = start.elapsed();
            if round > 0 {
                times.push(time);
            }
        }
    }
    times.sort_unstable();
    let at = |percent: usize| {
        let time: Option<&Duration> = times.get(times.len() * percent / 100);
        time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    println!(
        "{what:<34} {:>10.2} {:>10.2} {:>10.2}",
        at(50),
        at(95),
        at(99)
    );
}
