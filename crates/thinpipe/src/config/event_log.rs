//! How much is kept of streams, so that clients can resume them.

use thinpipe_gateway::EventLogLimits;
use thinpipe_transport::server::SessionLimits;

use super::Config;
use super::build::Build;
use super::problem::Problem;
use super::quantity::{Period, Size};
use super::tables::{RawEventLog, RawLimits};
use super::tree::Path;

/// `[limits.event_log]`, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventLog {
    pub(super) limits: EventLogLimits,
    /// Of all sessions together.
    pub(super) total_bytes: usize,
}

impl Build {
    /// What the streams of every upstream keep, and all of them together.
    pub(super) fn event_log(&mut self, raw: &RawEventLog) -> EventLog {
        let at = Path::default().key("limits").key("event_log");
        let mut log = EventLog {
            limits: EventLogLimits::default(),
            total_bytes: SessionLimits::default().max_history,
        };
        raw.apply(self, &at, &mut log);
        let EventLog {
            limits,
            total_bytes,
        } = log;
        if limits.finished_for > limits.age {
            let (finished, age) = (Period(limits.finished_for), Period(limits.age));
            let message = format!("{finished} is longer than events are kept ({age})");
            let mend = "make `limits.event_log.age` longer, or `finished_for` shorter";
            self.add(Problem::at(at.key("finished_for"), message).mend(mend));
        }
        for (key, bytes) in [
            ("max_bytes", limits.max_bytes),
            ("session_bytes", limits.session_bytes),
        ] {
            if bytes > total_bytes {
                let (size, all) = (Size(bytes as u64), Size(total_bytes as u64));
                let message = format!("{size} is more than all streams may keep, which is {all}");
                let mend = "raise `limits.event_log.total_bytes`, or lower this";
                self.add(Problem::at(at.key(key), message).mend(mend));
            }
        }
        log
    }
}

/// The table of limits with what is kept of streams.
pub(super) fn shown(config: &Config, limits: RawLimits) -> RawLimits {
    let upstream = config.gateway.upstreams.first();
    let log = EventLog {
        limits: upstream.map_or_else(EventLogLimits::default, |spec| spec.event_log),
        total_bytes: config.server.sessions.max_history,
    };
    RawLimits {
        event_log: RawEventLog::shown(&log),
        ..limits
    }
}
