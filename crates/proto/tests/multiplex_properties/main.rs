//! Properties of the machine between clients of 2026-07-28 and one program, over random interleavings of
//! what clients, program, writer and clock do (protocol notes 5.9). The [model](model) knows what it said and
//! judges what comes out by the invariants, whose numbers its messages name.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod judge;
mod model;

use proptest::prelude::*;

use model::World;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Invariants 1, 2, 3, 5, 7, 8, 9, 11, 14, 17, 18, 21, 22, 23 and 24, as far as they are about group D; R242, R243,
    /// R244, R249, R250.
    #[test]
    fn r249_invariants_hold_for_calls_on_one_program(
        steps in prop::collection::vec(any::<[u8; 4]>(), 0..150)
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}
