//! What the kernel says about a process, and whether it gives back what it took.

use std::fs;
use std::time::Duration;

use crate::deadline::LOOK;

/// What a process holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Usage {
    /// Of the process with this id.
    ///
    /// # Panics
    /// If there is no such process, or no `/proc`.
    #[must_use]
    #[track_caller]
    pub fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status"));
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"));
        let (Ok(status), Ok(descriptors)) = (status, descriptors) else {
            panic!("/proc does not know process {process}");
        };
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok())
        };
        let threads = figure("Threads:").unwrap_or_default();
        Self {
            rss_bytes: figure("VmRSS:").unwrap_or_default() << 10,
            descriptors: descriptors.count(),
            threads: usize::try_from(threads).expect("a count of threads fits"),
        }
    }

    /// Of this process. The one open descriptor that looking takes is counted too.
    #[must_use]
    pub fn of_this() -> Self {
        Self::of(std::process::id())
    }
}

/// What a process held before some work, and how much more it may hold after it.
///
/// Tests of one binary share a process: measure this process only where no other test runs beside.
#[derive(Debug, Clone, Copy)]
pub struct Baseline {
    process: u32,
    before: Usage,
    slack: Usage,
}

impl Baseline {
    /// What this process holds now. Afterwards it may hold 8 MiB more memory, which the allocator may have
    /// kept, but no descriptor or thread more.
    #[must_use]
    #[track_caller]
    pub fn of(process: u32) -> Self {
        Self {
            process,
            before: Usage::of(process),
            slack: Usage {
                rss_bytes: 8 << 20,
                descriptors: 0,
                threads: 0,
            },
        }
    }

    /// It may hold so many bytes more.
    #[must_use]
    pub fn rss_slack(mut self, bytes: u64) -> Self {
        self.slack.rss_bytes = bytes;
        self
    }

    /// It may hold so many descriptors more: connections that are kept on purpose.
    #[must_use]
    pub fn descriptor_slack(mut self, count: usize) -> Self {
        self.slack.descriptors = count;
        self
    }

    /// It may hold so many threads more.
    #[must_use]
    pub fn thread_slack(mut self, count: usize) -> Self {
        self.slack.threads = count;
        self
    }

    /// What was held before.
    #[must_use]
    pub fn before(&self) -> Usage {
        self.before
    }

    fn holds(&self, now: Usage) -> bool {
        now.rss_bytes <= self.before.rss_bytes + self.slack.rss_bytes
            && now.descriptors <= self.before.descriptors + self.slack.descriptors
            && now.threads <= self.before.threads + self.slack.threads
    }
}

/// Does some work and looks at the process until it holds no more than before and the slack.
///
/// # Panics
/// If that is not so within 30 s, with the figures: some things are given back by a sweep.
pub async fn assert_returns_to_baseline(baseline: Baseline, work: impl AsyncFnOnce()) {
    work().await;
    let start = tokio::time::Instant::now();
    loop {
        let now = Usage::of(baseline.process);
        if baseline.holds(now) {
            return;
        }
        assert!(
            start.elapsed() < GIVE_BACK,
            "not given back within {GIVE_BACK:?}: {:?} before, {now:?} after, slack {:?}",
            baseline.before,
            baseline.slack
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// How long a process may take to give back what it took.
const GIVE_BACK: Duration = Duration::from_secs(30);
