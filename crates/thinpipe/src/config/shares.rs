//! How many sessions and calls that wait there may be, of one principal and of all.

use thinpipe_gateway::{BridgeConfig, PoolConfig};

use super::build::Build;
use super::problem::Problem;
use super::raw::RawUpstream;
use super::tree::Path;

impl Build {
    /// Each session of a program is a process, of which `limit` may run; where nothing is said of sessions, there
    /// are as many.
    pub(super) fn processes_suffice(
        &mut self,
        raw: &RawUpstream,
        pool: &mut PoolConfig,
        limit: usize,
        path: &Path,
    ) {
        let (max, total) = (
            raw.session_pool.max.is_some(),
            raw.session_pool.total.is_some(),
        );
        for (key, sessions, is_written) in [
            ("max", &mut pool.max, max),
            ("total", &mut pool.total, total),
        ] {
            if *sessions > limit && is_written {
                let message = format!(
                    "{sessions} sessions are more than the {limit} processes that may run, and each is one"
                );
                let problem = Problem::at(path.key("session_pool").key(key), message);
                self.add(problem.mend("raise `process.max_children`, or lower this"));
            }
            *sessions = limit.min(*sessions);
        }
    }

    /// No principal can have more than there are for all; where nothing is said of one, it has as many.
    pub(super) fn shares_fit(&mut self, raw: &RawUpstream, bridge: &mut BridgeConfig, path: &Path) {
        let (pool, parked) = (&mut bridge.pool, &mut bridge.parked);
        let is_written = raw.session_pool.max.is_some();
        let at = path.key("session_pool").key("max");
        self.share_fits(
            &mut pool.max,
            pool.total,
            is_written,
            at,
            "session_pool.total",
        );
        let is_written = raw.parked.per_principal.is_some();
        let at = path.key("parked").key("per_principal");
        self.share_fits(
            &mut parked.per_principal,
            parked.total,
            is_written,
            at,
            "parked.max",
        );
    }

    fn share_fits(&mut self, one: &mut usize, all: usize, is_written: bool, at: Path, key: &str) {
        if *one <= all {
            return;
        }
        let message = format!("{one} of one principal is more than the {all} of all clients");
        *one = all;
        if is_written {
            self.add(Problem::at(at, message).mend(format!("raise `{key}`, or lower this")));
        }
    }
}
