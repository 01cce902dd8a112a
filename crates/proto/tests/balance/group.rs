//! Replicas that are chosen from.

use std::time::{Duration, Instant};

use thinpipe_proto::balance::{
    Change, Condition, Config, Group, MAX_REPLICAS, Outcome, Strategy, Tried,
};

use crate::start;

/// Numbers that look drawn, the same ones in each run (splitmix64).
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn group(strategy: Strategy, weights: &[u32]) -> Group {
    let config = Config {
        strategy,
        ..Config::default()
    };
    Group::new(config, weights)
}

fn pass(group: &mut Group, now: Instant, chance: &mut Chance) -> usize {
    let permit = group.choose(now, chance.draw(), Tried::default(), |_| 0);
    let permit = permit.expect("one may be asked");
    let replica = permit.replica();
    assert_eq!(group.end(permit, Outcome::Success, now), None);
    replica
}

/// How many of `count` requests go to each replica, one after another.
fn shares(group: &mut Group, count: usize, now: Instant) -> Vec<usize> {
    let mut shares = vec![0; group.size()];
    let mut chance = Chance(7);
    for _ in 0..count {
        shares[pass(group, now, &mut chance)] += 1;
    }
    shares
}

/// Within three percent of all.
fn is_about(shares: &[usize], expected: &[usize]) -> bool {
    let all: usize = expected.iter().sum();
    shares
        .iter()
        .zip(expected)
        .all(|(share, expected)| share.abs_diff(*expected) * 100 <= all * 3)
}

fn fail(group: &mut Group, replica: usize, times: usize, now: Instant) -> Option<Change> {
    let mut change = None;
    for _ in 0..times {
        let permit = group.enter(replica, now).expect("it may be asked");
        change = group.end(permit, Outcome::Failure, now);
    }
    change
}

/// C18: in turn, evenly mixed.
#[test]
fn c18_round_robin_is_exact_and_mixed() {
    let now = start();
    assert_eq!(
        shares(&mut group(Strategy::RoundRobin, &[1, 1, 1]), 300, now),
        [100; 3]
    );
    assert_eq!(
        shares(&mut group(Strategy::RoundRobin, &[5, 1, 1]), 700, now),
        [500, 100, 100]
    );
    let mut weighted = group(Strategy::RoundRobin, &[5, 1, 1]);
    let mut chance = Chance(1);
    let order: Vec<_> = (0..7)
        .map(|_| pass(&mut weighted, now, &mut chance))
        .collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

/// C18: where least is running for its weight. Requests that never end fill all evenly.
#[test]
fn c18_least_connections_counts_what_runs() {
    let now = start();
    let mut least = group(Strategy::LeastConnections, &[1, 1, 2]);
    let mut running = [0_usize; 3];
    for _ in 0..400 {
        let permit = least
            .choose(now, 0, Tried::default(), |it| running[it])
            .unwrap();
        running[permit.replica()] += 1;
    }
    assert_eq!(running, [100, 100, 200]);
    // One that is slow to answer gets nothing more until the others are as busy.
    let busy = |it: usize| if it == 0 { 10 } else { 0 };
    for _ in 0..100 {
        let permit = least.choose(now, 0, Tried::default(), busy).unwrap();
        assert_ne!(permit.replica(), 0);
    }
    // Where nothing runs, weights count.
    assert_eq!(
        shares(&mut group(Strategy::LeastConnections, &[3, 1]), 400, now),
        [300, 100]
    );
}

/// C18: of two by chance the less busy one.
#[test]
fn c18_power_of_two_avoids_the_busy_one() {
    let now = start();
    let mut chance = Chance(3);
    let mut two = group(Strategy::PowerOfTwo, &[1, 1, 1, 1]);
    let busy = |it: usize| if it == 2 { 10 } else { 1 };
    let mut shares = [0; 4];
    for _ in 0..3000 {
        let permit = two
            .choose(now, chance.draw(), Tried::default(), busy)
            .unwrap();
        shares[permit.replica()] += 1;
    }
    assert_eq!(shares[2], 0, "whoever is drawn beside it is less busy");
    assert!(
        is_about(&[shares[0], shares[1], shares[3]], &[1000; 3]),
        "{shares:?}"
    );
    // Filling them, the busiest is never far ahead.
    let mut running = [0_usize; 4];
    for _ in 0..4000 {
        let permit = two
            .choose(now, chance.draw(), Tried::default(), |it| running[it])
            .unwrap();
        running[permit.replica()] += 1;
    }
    let spread = running.iter().max().unwrap() - running.iter().min().unwrap();
    assert!(spread <= 10, "{running:?}");
    assert_eq!(
        self::shares(&mut group(Strategy::PowerOfTwo, &[1]), 10, now),
        [10]
    );
}

/// C18: by chance, and by weight.
#[test]
fn c18_random_follows_the_weights() {
    let now = start();
    let even = shares(&mut group(Strategy::Random, &[1, 1, 1]), 3000, now);
    assert!(is_about(&even, &[1000; 3]), "{even:?}");
    let weighted = shares(&mut group(Strategy::Random, &[6, 3, 1]), 10_000, now);
    assert!(is_about(&weighted, &[6000, 3000, 1000]), "{weighted:?}");
}

/// C18, C19: in every strategy only those are chosen that are healthy, and were not tried.
#[test]
fn c19_who_does_not_answer_is_out_of_every_rotation() {
    let now = start();
    for strategy in [
        Strategy::RoundRobin,
        Strategy::LeastConnections,
        Strategy::PowerOfTwo,
        Strategy::Random,
    ] {
        let mut group = group(strategy, &[1, 1, 1]);
        group.checked(1, false, now);
        let without = shares(&mut group, 300, now);
        assert_eq!(without[1], 0, "{strategy:?}");
        assert!(
            without[0] > 100 && without[2] > 100,
            "{strategy:?}: {without:?}"
        );
        let mut tried = Tried::default();
        tried.add(0);
        let last = group.choose(now, 0, tried, |_| 0).unwrap();
        assert_eq!(last.replica(), 2, "{strategy:?}");
        tried.add(2);
        assert_eq!(group.choose(now, 0, tried, |_| 0), None, "{strategy:?}");
        assert_eq!(group.enter(1, now), None, "{strategy:?}");
    }
}

/// C20: nobody is asked in secret when all are out, and it is known when one may be tried.
#[test]
fn c20_all_may_be_out_at_once() {
    let now = start();
    let mut group = group(Strategy::RoundRobin, &[1, 1]);
    let open = Duration::from_secs(60);
    assert_eq!(fail(&mut group, 0, 3, now), Some(Change::Opened(open)));
    let later = now + Duration::from_secs(20);
    assert_eq!(fail(&mut group, 1, 3, later), Some(Change::Opened(open)));
    assert_eq!(group.choose(later, 0, Tried::default(), |_| 0), None);
    assert_eq!(group.retry_after(later), Duration::from_secs(40));
    assert_eq!(
        group.condition(0, later),
        Condition::Open(Duration::from_secs(40))
    );
    // The first one may be tried, by two at a time.
    let then = now + open;
    assert_eq!(group.condition(0, then), Condition::Trial);
    let permits: Vec<_> = (0..2)
        .map(|_| group.choose(then, 0, Tried::default(), |_| 0).unwrap())
        .collect();
    assert!(permits.iter().all(|permit| permit.replica() == 0));
    assert_eq!(group.choose(then, 0, Tried::default(), |_| 0), None);
    for permit in permits {
        let _ = group.end(permit, Outcome::Success, then);
    }
    assert_eq!(group.condition(0, then), Condition::Recovering(10));
}

/// Slow start: evenly from a tenth, over its time, and only for who has come back.
#[test]
fn c19_who_comes_back_gets_its_share_slowly() {
    let now = start();
    let mut group = group(Strategy::RoundRobin, &[1, 1]);
    assert_eq!(
        shares(&mut group, 200, now),
        [100, 100],
        "all is well at the start"
    );
    group.checked(1, false, now);
    assert_eq!(group.condition(1, now), Condition::Down);
    assert_eq!(shares(&mut group, 100, now), [100, 0]);
    group.checked(1, true, now);
    let at = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(shares(&mut group, 1100, now)[1], 100);
    assert_eq!(group.condition(1, at(15)), Condition::Recovering(50));
    let half = shares(&mut group, 1500, at(15));
    assert!(is_about(&half, &[1000, 500]), "{half:?}");
    assert_eq!(group.condition(1, at(30)), Condition::Serving);
    let all = shares(&mut group, 1000, at(30));
    assert!(is_about(&all, &[500, 500]), "{all:?}");
    // Checks that go on finding it well change nothing.
    group.checked(1, true, at(40));
    assert_eq!(group.condition(1, at(40)), Condition::Serving);
}

/// A check that is answered after an outage ends the wait of the breaker that the outage has opened.
#[test]
fn c19_the_end_of_an_outage_is_the_end_of_the_wait() {
    let now = start();
    let mut group = group(Strategy::RoundRobin, &[1, 1]);
    let _ = fail(&mut group, 0, 3, now);
    group.checked(0, false, now);
    assert_eq!(group.condition(0, now), Condition::Down);
    assert_eq!(group.retry_after(now), Duration::ZERO);
    group.checked(0, true, now);
    assert_eq!(group.condition(0, now), Condition::Trial);
    // Without an outage a check says nothing about what requests meet.
    let _ = fail(&mut group, 1, 3, now);
    group.checked(1, true, now);
    assert!(matches!(group.condition(1, now), Condition::Open(_)));
}

/// Without a breaker no failure takes a replica out.
#[test]
fn c20_without_a_breaker_failures_change_nothing() {
    let now = start();
    let config = Config {
        breaker: None,
        ..Config::default()
    };
    let mut group = Group::new(config, &[1]);
    assert_eq!(fail(&mut group, 0, 100, now), None);
    assert_eq!(group.condition(0, now), Condition::Serving);
}

/// What is configured out of range is not, here.
#[test]
fn sizes_are_bounded() {
    let mut group = Group::new(Config::default(), &[0; 100]);
    assert_eq!(group.size(), MAX_REPLICAS);
    let now = start();
    assert_eq!(shares(&mut group, 64, now), [1; 64]);
    assert_eq!(group.condition(64, now), Condition::Down);
    assert_eq!(group.enter(64, now), None);
    group.checked(64, true, now);
    let heavy = [u32::MAX; MAX_REPLICAS];
    for strategy in [Strategy::Random, Strategy::PowerOfTwo, Strategy::RoundRobin] {
        let mut group = self::group(strategy, &heavy);
        for random in [0, u64::MAX, u64::MAX << 32, u64::from(u32::MAX)] {
            let permit = group.choose(now, random, Tried::default(), |_| usize::MAX);
            assert!(permit.is_some(), "{strategy:?} {random:x}");
        }
    }
}
