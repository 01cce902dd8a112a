//! Properties of the bridges' state machines over random interleavings of what clients, upstream,
//! transport and clock do (protocol notes 5.9). The model that judges them is the fuzz target's.

use proptest::prelude::*;
use thinpipe_fuzz_checks::bridge_ops;

fn script(shared: bool, steps: usize) -> impl Strategy<Value = Vec<u8>> {
    let steps = prop::collection::vec(any::<[u8; 4]>(), 0..steps);
    (any::<u8>(), steps).prop_map(move |(head, steps)| {
        let head = head & !1 | u8::from(shared);
        [vec![head], steps.concat()].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Invariants 1, 2, 3, 5, 6, 7, 9, 10, 14, 17, 21, 22, 23 and 24 of one client session on one upstream
    /// session; R210, R214, R249, R250.
    #[test]
    fn r249_invariants_hold_for_one_client(script in script(false, 80)) {
        bridge_ops::check(&script);
    }

    /// The same for several client sessions on one upstream session, and invariants 8 and 20; R249, R250.
    #[test]
    fn r249_invariants_hold_for_several_clients(script in script(true, 120)) {
        bridge_ops::check(&script);
    }
}
