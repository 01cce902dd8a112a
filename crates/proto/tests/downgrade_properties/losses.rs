//! Writes, streams and sessions that are lost.

use thinpipe_proto::bridge::downgrade::{Action, Lifetime, WriteFailure, Written};

use super::judge::judge;
use super::steps::pick;
use super::world::{Life, State, World};

/// A write or a stream fails.
pub(super) fn lose(world: &mut World, a: u8, b: u8) {
    if world.over || !world.open {
        return;
    }
    let running = world
        .received
        .iter()
        .filter(|(_, r)| r.state == State::Running);
    let running: Vec<u64> = running.map(|(number, _)| *number).collect();
    if running.is_empty() || b % 8 == 7 {
        return lose_answer(world, b);
    }
    let number = pick(&running, a);
    let (call, mark) = (world.received[&number].call, world.received[&number].mark);
    if let Some(uri) = &world.received[&number].uri {
        world.murky.insert(uri.clone());
    }
    let asked = mark.is_some_and(|mark| world.questions.iter().any(|q| q.whose == Some(mark)));
    let repeats = mark.is_some_and(|mark| {
        matches!(
            world.exchanges[mark].method,
            "tools/list" | "completion/complete" | "resources/read"
        )
    });
    let (failure, again) = match b % 8 {
        0 => (None, repeats),
        _ if asked => return,
        1 => (Some(WriteFailure::Undelivered), true),
        2 => (Some(WriteFailure::Unknown), repeats),
        3 => (Some(WriteFailure::Refused), false),
        4 if world.lifetime != Lifetime::PerRequest => (Some(WriteFailure::SessionGone), true),
        _ => return,
    };
    if let Some(mark) = mark {
        let exchange = &mut world.exchanges[mark];
        if again && exchange.allowed == 1 {
            exchange.allowed = 2;
        }
        exchange.outcome |= matches!(exchange.life, Life::Parked(_));
    }
    match failure {
        None => world.machine.stream_lost(call, "lost", world.now),
        Some(failure) => {
            world.received.get_mut(&number).expect("received").state = State::Over;
            if failure == WriteFailure::SessionGone {
                world.session_is_lost();
            }
            world
                .machine
                .write_failed(call, failure, "failed", world.now);
        }
    }
    judge(world);
    if failure.is_none() {
        let received = world.received.get_mut(&number).expect("received");
        if received.mark.is_none() {
            received.state = State::Over;
        }
        assert_ne!(received.state, State::Running, "it is cancelled");
    }
}

fn lose_answer(world: &mut World, b: u8) {
    let Some((answer, bytes, mark)) = world.answers.pop() else {
        return;
    };
    // It counts as open until it is there.
    let undelivered = b % 16 == 7;
    let number = world.questions.iter().position(|q| {
        q.whose == Some(mark) && bytes.windows(q.id.len()).any(|w| w == q.id.as_bytes())
    });
    let Some(number) = number else { return };
    if world
        .question(&world.questions[number].id.clone())
        .is_some()
    {
        return;
    }
    let before = world.exchanges[mark].outcome;
    world.exchanges[mark].outcome |= matches!(world.exchanges[mark].life, Life::Parked(_));
    world
        .machine
        .answer_failed(answer, bytes, undelivered, world.now);
    // Written once more, it is no other answer.
    if undelivered {
        let again = world.machine.poll_action();
        if let Some(Action::Write { written, .. }) = &again
            && matches!(written, Written::Answer(_))
        {
            world.exchanges[mark].outcome = before;
            judge(world);
            return;
        }
        assert!(again.is_none(), "{again:?}");
    }
    judge(world);
}

pub(super) fn lose_session(world: &mut World) {
    if world.over || !world.open {
        return;
    }
    world.session_is_lost();
    world.machine.upstream_lost("gone", world.now);
    judge(world);
    assert!(world.over);
}

impl World {
    /// Everybody knows that nothing can be asked or written on it.
    pub(super) fn session_is_lost(&mut self) {
        for exchange in &mut self.exchanges {
            exchange.outcome |= matches!(exchange.life, Life::Parked(_));
            if exchange.allowed == 1 {
                exchange.allowed = 2;
            }
        }
        self.questions
            .iter_mut()
            .for_each(|question| question.open = false);
    }
}
