//! What must be true at the end of a run.

use std::time::Duration;

use super::steps::leave_post;
use super::upstream_steps::{answer_to, open};
use super::world::{Carries, Life, State, World};

/// Once everybody has had his answer, left, or waited long enough, nothing is left.
pub(super) fn finish(world: &mut World) {
    world.step = Default::default();
    open(world);
    settle(world);
    let listens = world
        .posts
        .iter()
        .filter(|(_, post)| !post.over && matches!(post.carries, Carries::Listen { .. }));
    let listens: Vec<u64> = listens.map(|(number, _)| *number).collect();
    for number in &listens {
        assert!(
            matches!(
                &world.posts[number].carries,
                Carries::Listen {
                    acknowledged: Some(_),
                    ..
                }
            ) || world.stream,
            "invariant 18: acknowledged"
        );
    }
    world.pass(Duration::from_secs(1));
    settle(world);
    for number in listens {
        if !world.posts[&number].over {
            leave_post(world, number);
        }
    }
    settle(world);
    let held: Vec<_> = world.held.difference(&world.murky).collect();
    assert!(world.over || held.is_empty(), "invariant 20: {held:?}");
    world.pass(Duration::from_secs(31 * 60));
    let open = world
        .exchanges
        .iter()
        .find(|exchange| exchange.life != Life::Over);
    assert!(open.is_none(), "invariants 1, 15 and 22: {open:?}");
    let open = world.posts.values().find(|post| !post.over);
    assert!(open.is_none(), "invariant 1: {open:?}");
    let open = world.questions.iter().find(|question| question.open);
    assert!(open.is_none(), "invariant 5: {open:?}");
    assert_eq!(
        world.machine.exchanges() + world.machine.listens(),
        0,
        "invariant 24"
    );
    assert_eq!(world.parked, 0, "invariant 24");
    assert!(
        world.machine.is_idle() || world.machine.is_finished(),
        "invariant 24"
    );
    assert_eq!(world.machine.poll_timeout(), None, "invariant 24");
}

/// The upstream answers everything.
fn settle(world: &mut World) {
    for _ in 0..1000 {
        let running = world.received.iter().find(|(_, r)| r.state != State::Over);
        let Some(number) = running.map(|(number, _)| *number).filter(|_| !world.over) else {
            return;
        };
        answer_to(world, number, 0);
    }
    panic!("the upstream is asked without end");
}
