//! Instructions that the parts of the server side and the client side take (H4, J3), a thousand of each
//! small one. Counted by valgrind, so that runs can be compared whatever else the machine does.

#![expect(missing_docs, reason = "in code that the benchmark macros write")]

#[path = "../parts/inputs.rs"]
mod inputs;

use gungraun::{library_benchmark, library_benchmark_group, main};

use inputs::{Kept, Pool, Requests, Sessions, Stream, io, read_through_buffer};
// The modules of the library look for it here, as for `io`.
use thinpipe_transport::body;

const COUNT: usize = 1_000;

#[library_benchmark]
#[bench::of_10_000(Sessions::new())]
fn session_looked_up(sessions: Sessions) -> (Sessions, usize) {
    let found = sessions.look_up(0, COUNT);
    (sessions, found)
}

#[library_benchmark]
#[bench::one_waits(Pool::new(1))]
#[bench::sixty_four_wait(Pool::new(64))]
fn connection_out_and_back(pool: Pool) -> (Pool, usize) {
    let cycles = pool.cycle(COUNT);
    (pool, cycles)
}

#[library_benchmark]
#[bench::of_200_bytes(COUNT)]
fn read_through_the_buffer(count: usize) -> usize {
    read_through_buffer(count)
}

#[library_benchmark]
#[bench::kept_nowhere(Stream::new(Kept::Nothing))]
#[bench::kept_here(Stream::new(Kept::Here))]
#[bench::stored_in_a_log(Stream::new(Kept::InLog))]
fn event_said_and_read(mut stream: Stream) -> (Stream, usize) {
    let sent = stream.send(COUNT);
    (stream, sent)
}

#[library_benchmark]
#[bench::without_token(Requests::new(false))]
#[bench::with_the_last_of_100_tokens(Requests::new(true))]
fn whole_request(mut requests: Requests) -> (Requests, usize) {
    let answered = requests.send(COUNT);
    (requests, answered)
}

library_benchmark_group!(
    name = counts;
    benchmarks = session_looked_up, connection_out_and_back, read_through_the_buffer,
        event_said_and_read, whole_request
);

main!(library_benchmark_groups = counts);
