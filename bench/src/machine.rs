//! What the kernel counts: processor time and memory of processes, and of the machine.

use std::fs;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory of a process and its children.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Memory {
    /// Resident set, KiB.
    pub(crate) resident: u64,
    /// The part of it that is no file, KiB.
    pub(crate) anonymous: u64,
}

/// User and system time of a process and its living children, in clock ticks.
///
/// # Errors
/// The process is gone.
pub(crate) fn ticks(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for pid in family(pid) {
        sum += ticks_alone(pid)?;
    }
    Ok(sum)
}

/// User and system time of a process without its children, in clock ticks.
///
/// # Errors
/// The process is gone.
pub(crate) fn ticks_alone(pid: u32) -> Result<u64> {
    ticks_of(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// User and system time of this process alone, in clock ticks.
pub(crate) fn own_ticks() -> Result<u64> {
    ticks_of(&fs::read_to_string("/proc/self/stat")?)
}

/// Memory of a process and its living children. Read from `smaps_rollup`: the counter in `status`
/// is kept per processor and may be off by more than the limits that are judged here.
///
/// # Errors
/// The process is gone.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let mut sum = Memory::default();
    for pid in family(pid) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        sum.resident += kib(&text, "Rss:")?;
        sum.anonymous += kib(&text, "Anonymous:")?;
    }
    Ok(sum)
}

/// Open descriptors of a process and its living children.
pub(crate) fn descriptors(pid: u32) -> usize {
    let count = |pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    family(pid).into_iter().map(count).sum()
}

/// Clock ticks in which any processor of the machine was busy.
pub(crate) fn busy_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    // user nice system idle iowait irq softirq steal; guest time is already within user.
    Ok(fields.iter().take(8).sum::<u64>() - fields[3] - fields[4])
}

/// Seconds in `ticks`.
pub(crate) fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Raises the soft limit of descriptors to the hard one, for this process and its children.
pub(crate) fn raise_descriptor_limit() -> Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// One line about the processor, the kernel and its limits; no names of hosts.
pub(crate) fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}, loopback", kernel.trim())
}

fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        // A child is listed with the thread that started it.
        let threads = fs::read_dir(format!("/proc/{}/task", all[next]));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            all.extend(children.split_whitespace().flat_map(str::parse::<u32>));
        }
        next += 1;
    }
    all
}

/// The name of the program stands in brackets and may contain anything, so count from its end.
fn ticks_of(stat: &str) -> Result<u64> {
    let (_, rest) = stat.rsplit_once(") ").context("no program name in stat")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next().context("no user time")?.parse()?;
    let system: u64 = fields.next().context("no system time")?.parse()?;
    Ok(user + system)
}

fn kib(text: &str, key: &str) -> Result<u64> {
    text.lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .trim()
                .strip_suffix(" kB")?
                .parse()
                .ok()
        })
        .ok_or_else(|| anyhow!("no {key} in smaps_rollup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_program_name() {
        let stat = "12 (a) b (c) S 1 1 1 0 -1 4194560 9 8 7 6 150 25 3 4 20 0 1 0 5";
        assert_eq!(ticks_of(stat).unwrap(), 175);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = std::process::id();
        assert!(memory(own).unwrap().resident > 0);
        assert!(descriptors(own) > 2);
        assert!(busy_ticks().unwrap() >= ticks(own).unwrap());
    }
}
