//! The log level of the session: the most verbose that anyone in flight asked for (protocol notes 5.2.1).

use std::time::Instant;

use crate::bridge::CallId;
use crate::bridge::downgrade::calls::Purpose;
use crate::bridge::downgrade::exchange::State;
use crate::bridge::downgrade::{Downgrading, Refused, SETTING_AGE};
use crate::bridge::envelope::LogLevel;
use crate::rpc::{Message, meta_key, quoted};

/// What the server was told.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// The level that it has; `None`: its own choice.
    current: Option<LogLevel>,
    /// A change that is not answered.
    running: Option<Change>,
}

#[derive(Debug)]
struct Change {
    call: CallId,
    to: LogLevel,
}

impl Levels {
    /// Whether log messages of this level come, as far as the server was asked.
    fn admits(&self, level: LogLevel) -> bool {
        let lowered = self
            .running
            .as_ref()
            .is_some_and(|change| change.to > level);
        !lowered && self.current.is_some_and(|current| current <= level)
    }

    /// The server has the level, or does not take it; asking again helps nobody.
    pub(super) fn settled(&mut self, call: CallId) {
        if let Some(change) = self.running.take_if(|change| change.call == call) {
            self.current = Some(change.to);
        }
    }
}

impl Downgrading {
    /// Whether a request that wants log messages of this level may be written. If not, the server is told
    /// first.
    pub(super) fn level_is_set(&mut self, level: Option<LogLevel>, now: Instant) -> bool {
        let Some(level) = level.filter(|_| self.features().logging) else {
            return true;
        };
        if self.levels.running.is_none() {
            self.change_level(now);
        }
        self.levels.admits(level)
    }

    /// Tells the server the most verbose level that anyone wants, if that is another one.
    pub(super) fn change_level(&mut self, now: Instant) {
        if self.levels.running.is_some() || !self.features().logging {
            return;
        }
        let wanted = self
            .exchanges
            .values()
            .filter_map(|exchange| match &exchange.state {
                State::Waiting(waiting) => waiting.client.level,
                state => state.client()?.level,
            });
        let Some(to) = wanted.min().filter(|to| Some(*to) != self.levels.current) else {
            return;
        };
        let params = format!("{{\"level\":{}}}", quoted(to.as_str()));
        let (purpose, method) = (Purpose::Level, "logging/setLevel");
        let call = self.ask_upstream(purpose, method, params.as_bytes(), SETTING_AGE, now);
        self.levels.running = Some(Change { call, to });
    }
}

/// The log level that a request asks for.
pub(super) fn asked(request: &Message) -> Result<Option<LogLevel>, Refused> {
    if request.meta(meta_key::LOG_LEVEL).is_none() {
        return Ok(None);
    }
    let named = request.meta_text(meta_key::LOG_LEVEL);
    let level = named.and_then(|named| LogLevel::from_name(&named));
    let parameter = meta_key::LOG_LEVEL;
    level.map(Some).ok_or(Refused::UnknownLevel { parameter })
}
