//! Properties of the machine between a legacy client and a server of 2026-07-28, over random interleavings of
//! what both sides, the transport and the clock do (protocol notes 5.9), against a model of both sides.
#![expect(clippy::unwrap_used, reason = "a model that is surprised fails")]

mod judge;
mod model;
mod script;
mod server;

use std::time::Duration;

use proptest::prelude::*;

use model::{State, World};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// Invariants 1, 2, 3, 5, 6, 7, 10, 11, 17, 19, 21, 22, 23 and 24; R217, R220 to R227, R249, R250.
    #[test]
    fn r249_invariants_hold(script in prop::collection::vec(any::<[u8; 4]>(), 0..120)) {
        run(World::new(false), &script, script::step);
    }

    /// The same in front of a server over HTTP, whose tools have to be known before they are called; R140.
    #[test]
    fn r249_invariants_hold_over_http(script in prop::collection::vec(any::<[u8; 4]>(), 0..80)) {
        run(World::new(true), &script, script::step);
    }

    /// Invariants 18, 19 and 24 of subscriptions, which need more of the same kind of steps; R220, R221.
    #[test]
    fn r221_subscriptions_lose_and_double_nothing(
        script in prop::collection::vec(any::<[u8; 4]>(), 0..80),
    ) {
        run(World::new(false), &script, script::subscription_step);
    }
}

fn run(mut world: World, script: &[[u8; 4]], step: fn(&mut World, [u8; 4])) {
    for next in script {
        if world.over {
            break;
        }
        step(&mut world, *next);
        world.within_bounds();
    }
    finish(&mut world);
}

/// What must be true once things are quiet.
fn finish(world: &mut World) {
    settle(world);
    no_gap_stays(world);
    world.pass(Duration::from_secs(31 * 60));
    let open = world.asked.iter().find(|asked| asked.open);
    assert!(open.is_none(), "invariants 1 and 22: {open:?}");
    assert!(
        world.prompts.iter().all(|prompt| !prompt.open),
        "invariant 5"
    );
    settle(world);
    world.within_bounds();
    if !world.over {
        world.machine.detach();
        judge::judge(world);
    }
    let running = world
        .calls
        .values()
        .find(|call| call.state == State::Running && !call.aside);
    assert!(running.is_none(), "invariant 24: {running:?}");
    let left = [
        world.machine.in_flight(),
        world.machine.calls(),
        world.machine.server_requests(),
    ];
    assert_eq!(left, [0, 0, 0], "invariant 24");
    assert_eq!(world.machine.poll_timeout(), None, "invariant 24");
}

/// Invariant 18: a client that is there hears of what was missed.
fn no_gap_stays(world: &mut World) {
    if world.over {
        return;
    }
    script::come(world);
    for _ in 0..3 {
        world.pass(Duration::from_secs(31));
        settle(world);
    }
    let gap = world.gaps.first();
    assert!(gap.is_none(), "invariant 18: nobody was told of {gap:?}");
}

/// The server answers all there is, and honours what it is asked for.
fn settle(world: &mut World) {
    for _ in 0..200 {
        let waits = |call: &model::Call| call.state == State::Running && !call.is_settled();
        let Some(id) = world
            .calls
            .iter()
            .find(|(_, call)| waits(call))
            .map(|(id, _)| *id)
        else {
            return;
        };
        server::settle(world, id);
    }
    panic!("it never comes to rest");
}
