//! Instructions that a chain of interceptors takes (E7, E10), for a thousand messages each. Counted
//! by valgrind, so that runs can be compared whatever else the machine does. The interceptors chapter
//! of the documentation has the command and the figures.

#![expect(missing_docs, reason = "in code that the benchmark macros write")]

mod inputs;

use gungraun::{library_benchmark, library_benchmark_group, main};

use inputs::{ACCESS, Input, LOG, PIN, REDACT, RULES, SANITIZE, calls, events, lists, results};

/// Runs all messages. The input goes back, so that dropping it does not count.
fn relay(input: Input) -> (Input, usize) {
    let sent = input
        .messages
        .iter()
        .map(|source| input.relay(source))
        .sum();
    (input, sent)
}

#[library_benchmark]
#[bench::none(events(0))]
#[bench::one(events(1))]
#[bench::five(events(5))]
#[bench::ten(events(10))]
fn small_event(input: Input) -> (Input, usize) {
    relay(input)
}

#[library_benchmark]
#[bench::no_interceptor(calls("interceptors = []"))]
#[bench::access(calls(ACCESS))]
#[bench::rules(calls(RULES))]
#[bench::redact(calls(REDACT))]
#[bench::pin(calls(PIN))]
#[bench::log_without_reader(calls(LOG))]
fn small_call(input: Input) -> (Input, usize) {
    relay(input)
}

#[library_benchmark]
#[bench::sanitize(results(SANITIZE))]
#[bench::redact(results(REDACT))]
#[bench::log_without_reader(results(LOG))]
fn result_of_4_kib(input: Input) -> (Input, usize) {
    relay(input)
}

#[library_benchmark]
#[bench::access(lists(ACCESS))]
#[bench::sanitize(lists(SANITIZE))]
#[bench::pin(lists(PIN))]
#[bench::log_without_reader(lists(LOG))]
fn list_of_50_tools(input: Input) -> (Input, usize) {
    relay(input)
}

library_benchmark_group!(
    name = chain;
    benchmarks = small_event, small_call, result_of_4_kib, list_of_50_tools
);

main!(library_benchmark_groups = chain);
