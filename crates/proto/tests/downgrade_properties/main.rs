//! Properties of group C's machine over random interleavings of what clients, upstream, transport and
//! clock do (protocol notes 5.9). The model knows what it said and judges what comes out; its messages
//! name the invariants.

mod finish;
mod judge;
mod judge_client;
mod losses;
mod steps;
mod upstream_steps;
mod world;

use proptest::prelude::*;
use thinpipe_proto::bridge::downgrade::{Channel, Lifetime};

use world::World;

/// What a script does, four bytes a step.
fn script(steps: usize) -> impl Strategy<Value = Vec<[u8; 4]>> {
    prop::collection::vec(any::<[u8; 4]>(), 0..steps)
}

fn check(channel: Channel, lifetime: Lifetime, script: &[[u8; 4]]) {
    let mut world = World::new(channel, lifetime);
    for [kind, a, b, c] in script {
        steps::step(&mut world, *kind, *a, *b, *c);
        world.within_bounds();
    }
    finish::finish(&mut world);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Invariants 1-7, 9-14, 16-18, 20-24 of a pooled session whose messages come in one row: HTTP+SSE,
    /// stdio; R233, R234, R249, R250.
    #[test]
    fn r233_invariants_hold_on_a_pipe(script in script(100)) {
        check(Channel::Pipe, Lifetime::Pooled, &script);
    }

    /// The same over Streamable HTTP; R233, R239, R241.
    #[test]
    fn r233_invariants_hold_on_streams(script in script(100)) {
        check(Channel::Streams, Lifetime::Pooled, &script);
    }

    /// The same for several principals, and invariants 8 and 9.
    #[test]
    fn r231_invariants_hold_on_a_shared_pipe(script in script(100)) {
        check(Channel::Pipe, Lifetime::Shared, &script);
    }

    /// The same for several principals over Streamable HTTP.
    #[test]
    fn r231_invariants_hold_on_shared_streams(script in script(100)) {
        check(Channel::Streams, Lifetime::Shared, &script);
    }

    /// The same for a session that lives for one request.
    #[test]
    fn r231_invariants_hold_for_one_request(script in script(60)) {
        check(Channel::Streams, Lifetime::PerRequest, &script);
    }
}

/// An answer that is written a second time does not take back an outcome that came before it.
#[test]
fn r233_an_outcome_stays_where_an_answer_is_repeated() {
    let script = [
        [84, 96, 0, 52],
        [0, 0, 0, 0],
        [72, 0, 0, 0],
        [131, 6, 7, 0],
        [0, 0, 0, 0],
        [23, 3, 0, 0],
        [0, 0, 0, 0],
        [206, 0, 0, 0],
        [9, 0, 0, 0],
        [75, 0, 3, 0],
        [7, 0, 0, 0],
        [4, 0, 0, 2],
        [38, 0, 0, 0],
        [73, 6, 0, 0],
        [154, 0, 167, 0],
        [140, 66, 0, 0],
    ];
    check(Channel::Pipe, Lifetime::Pooled, &script);
}
