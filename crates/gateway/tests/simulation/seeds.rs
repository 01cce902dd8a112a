//! Worlds by their seeds. A seed that fails is printed with what happened before, and runs again alone with
//! `THINPIPE_SEED=n`; `THINPIPE_SEEDS=n` runs more of them.
//!
//! From the seed come the network, the weather, all that peers decide and all that gateways draw (ids, keys, jitter).
//! Nothing on the way of a message in a world polls or goes through anything in an order of its own, so that a seed gives
//! the same trace each time, but for the wall clock: the second in which a `requestState` was sealed is in that
//! state, on which nothing depends here. [`repeat`] keeps it so.

use std::cell::Cell;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use crate::ledger::Figures;
use crate::log;
use crate::world::{Report, Setting, World};

/// Lines of the trace that are shown.
const SHOWN: usize = 1_000;

/// Lines of two traces that are shown before, and from, where they differ.
const SHOWN_BEFORE: usize = 10;

thread_local! {
    /// Panics since the world on this thread began: those in tasks are not seen otherwise.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Runs so many worlds, or as many as the environment says, on all processors.
///
/// # Panics
/// If one of them is not as it should be.
pub(crate) fn run(setting: Setting, count: u64) -> Figures {
    count_panics();
    if let Some(seed) = told("THINPIPE_SEED") {
        return examined(setting, seed);
    }
    let count = told("THINPIPE_SEEDS").unwrap_or(count);
    let (next, all) = (AtomicU64::new(0), Mutex::new(Figures::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        return;
                    }
                    let figures = examined(setting, seed);
                    *all.lock().unwrap() += figures;
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    eprintln!("{count} worlds: {all:?}");
    all
}

/// Runs as many worlds as the environment says, or so many, twice each.
///
/// # Panics
/// If what happens is not the same.
pub(crate) fn repeat(name: &str, setting: Setting, count: u64) {
    count_panics();
    for seed in 0..told("THINPIPE_SEEDS").unwrap_or(count) {
        let [one, other] = [(); 2].map(|()| trace(setting, seed));
        let Some(at) = parting(&one, &other) else {
            continue;
        };
        for trace in [&one, &other] {
            let from = at.saturating_sub(SHOWN_BEFORE);
            for line in trace.iter().skip(from).take(2 * SHOWN_BEFORE) {
                eprintln!("{line}");
            }
            eprintln!("--");
        }
        panic!("seed {seed} of {name} is not the same each time: see line {at}");
    }
}

/// The first line in which they differ.
fn parting(one: &[String], other: &[String]) -> Option<usize> {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    at.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))
}

/// What happens, without what has the wall clock in it.
fn trace(setting: Setting, seed: u64) -> Vec<String> {
    const SEALED: &str = r#""requestState":""#;
    let lines = world(setting, seed).trace.into_iter();
    let unsealed = |line: String| {
        let mut parts = line.split(SEALED);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| {
            let rest = part.split_once('"').map_or("", |(_, rest)| rest);
            text + SEALED + rest
        })
    };
    lines.map(unsealed).collect()
}

fn told(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn examined(setting: Setting, seed: u64) -> Figures {
    let report = world(setting, seed);
    if report.violations.is_empty() {
        return report.figures;
    }
    // One trace is enough to read, and those of other threads would stand between its lines.
    static SHOWING: Mutex<()> = Mutex::new(());
    let _showing = SHOWING.lock();
    // Who wants to know what gateways log wants to know all.
    let shown = if log::is_wanted() { usize::MAX } else { SHOWN };
    let from = report.trace.len().saturating_sub(shown);
    for line in &report.trace[from..] {
        eprintln!("{line}");
    }
    let violations = report.violations.join("\n  ");
    panic!("THINPIPE_SEED={seed} of {setting:?} violates:\n  {violations}");
}

/// One world, on a clock that waits for nobody.
pub(crate) fn world(setting: Setting, seed: u64) -> Report {
    PANICS.set(0);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let mut report = runtime.block_on(async {
        let world = World::new(setting, seed);
        let _logging = log::into_trace(world.network());
        world.run().await
    });
    drop(runtime);
    let panics = PANICS.get();
    if panics > 0 {
        report.violations.push(format!("{panics} panics"));
    }
    report
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}
