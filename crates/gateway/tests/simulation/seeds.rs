//! Worlds by their seeds. A seed that fails is printed with what happened before, and runs again alone with
//! `THINPIPE_SEED=n`; `THINPIPE_SEEDS=n` runs more of them.
//!
//! From the seed come the network, the weather and all that peers decide. What a gateway draws itself (session ids,
//! jitter) and the order in which `select!` polls do not, so a rare failure may need [`AGAIN`] attempts.

use std::cell::Cell;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use crate::ledger::Figures;
use crate::log;
use crate::world::{Report, Setting, World};

/// How often a single seed is tried.
const AGAIN: u64 = 20;

/// Lines of the trace that are shown.
const SHOWN: usize = 1_000;

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
    let told = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = told("THINPIPE_SEED") {
        let mut all = Figures::default();
        for _ in 0..AGAIN {
            all += examined(setting, seed);
        }
        return all;
    }
    let count = told("THINPIPE_SEEDS").unwrap_or(count);
    if std::env::var("THINPIPE_TWICE").is_ok() {
        let mut differ = 0;
        for seed in 0..count {
            let traces = [(); 2].map(|()| world(setting, seed).trace);
            let [one, other] = &traces;
            if one != other {
                differ += 1;
                let at = one.iter().zip(other).position(|(a, b)| a != b);
                let at = at.unwrap_or(one.len().min(other.len()));
                eprintln!(
                    "seed {seed} differs at {at} of {} {}",
                    one.len(),
                    other.len()
                );
                for trace in &traces {
                    for line in &trace[at.saturating_sub(3)..(at + 3).min(trace.len())] {
                        eprintln!("    {}", line.chars().take(230).collect::<String>());
                    }
                    eprintln!("    --");
                }
            }
        }
        eprintln!("{differ} of {count} seeds differ");
        return Figures::default();
    }
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
