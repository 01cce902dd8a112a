//! What must be true at the end of a run.

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::{State, World};
use super::script::leave;
use super::server::answer_to;

/// What must be true once things are quiet.
pub(super) fn finish(world: &mut World) {
    world.out_of_reach = false;
    settle(world);
    let wanted = world
        .clients
        .values()
        .flat_map(|client| client.wants.clone());
    let wanted: BTreeSet<String> = wanted.collect();
    let clear = |uri: &&String| !world.murky.contains(*uri);
    if world.shared && !world.over {
        assert!(
            world
                .held
                .iter()
                .filter(clear)
                .eq(wanted.iter().filter(clear)),
            "invariant 20: {:?} are held, {wanted:?} wanted",
            world.held
        );
    }
    world.pass(Duration::from_secs(31 * 60));
    let open = world.asked.iter().find(|asked| asked.open);
    assert!(open.is_none(), "invariants 1 and 22: {open:?}");
    let open = world.questions.iter().find(|question| question.open);
    assert!(open.is_none(), "invariant 5: {open:?}");
    nothing_left(world);
    for member in world.clients.keys().copied().collect::<Vec<_>>() {
        leave(world, member);
    }
    settle(world);
    let held: Vec<_> = world.held.difference(&world.murky).collect();
    assert!(
        !world.shared || world.over || held.is_empty(),
        "invariant 20: {held:?}"
    );
    nothing_left(world);
}

fn nothing_left(world: &World) {
    let left = [world.machine.in_flight(), world.machine.server_requests()];
    assert_eq!(left, [0, 0], "invariant 24");
    assert_eq!(world.machine.poll_timeout(), None, "invariant 24");
    assert_eq!(world.machine.is_over(), world.over);
}

/// The upstream answers everything.
fn settle(world: &mut World) {
    while !world.over {
        let running = world.received.iter().find(|(_, r)| r.state != State::Over);
        let Some(id) = running.map(|(id, _)| *id) else {
            return;
        };
        answer_to(world, id, true);
    }
}
