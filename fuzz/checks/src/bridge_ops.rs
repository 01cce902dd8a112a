//! The machine between legacy clients and a pipe of messages, against a model of both sides.
//!
//! An input is a script: what clients, upstream, transport and clock do, four bytes a step. The model
//! knows what it said and judges what comes out by the invariants of the protocol notes (5.9), whose
//! numbers its messages name.

mod judge;
mod model;
mod quiet;
mod script;
mod server;

use model::World;

/// Checks a run: the first byte chooses how the upstream session is used, and whether an only client has
/// declared all it can be asked for when the run begins.
pub fn check(input: &[u8]) {
    let Some((&head, script)) = input.split_first() else {
        return;
    };
    let mut world = World::new(head % 2 == 1);
    if head % 4 == 0 {
        script::introduce(&mut world);
    }
    for step in script.chunks_exact(4) {
        if world.over {
            break;
        }
        script::step(&mut world, step[0], step[1], step[2], step[3]);
        world.within_bounds();
    }
    quiet::finish(&mut world);
}
