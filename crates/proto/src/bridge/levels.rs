//! Levels of log lines where several client sessions use one upstream session: it has the most verbose one that
//! anybody asked for, and each client gets what it asked for (protocol notes 5.2.1, "log level").

use std::time::Instant;

use crate::bridge::action::{CallId, MemberId};
use crate::bridge::call::{Purpose, Stage};
use crate::bridge::envelope::LogLevel;
use crate::bridge::shared::{Outcome, Turns};
use crate::bridge::{Reframing, Refused};
use crate::rpc::{Message, quoted, splice};

/// The level of an upstream session.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// The one that the upstream has. `None`: it decides by itself, or nobody can say.
    held: Option<LogLevel>,
    /// The one that it was asked for last.
    asked: Option<LogLevel>,
    /// It was asked for one, whatever became of that.
    is_set: bool,
    /// One request at a time changes it.
    pub(super) turns: Turns,
}

impl Levels {
    /// Notes how a request to the upstream came out.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.held = self.asked,
            Outcome::NotDone => {}
            // Whoever asks next has it set again.
            Outcome::Unknown => self.held = None,
        }
    }
}

impl Reframing {
    /// `logging/setLevel` of a client.
    pub(super) fn shared_level(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let level = message.param_text("level");
        let level = level.and_then(|level| LogLevel::from_name(&level));
        let level = level.ok_or(Refused::UnknownLevel { parameter: "level" })?;
        if self.config.declares_nothing() {
            // Lines can be tied to none of them and reach nobody, whatever the level.
            self.answer_here(member, message, super::upstream::EMPTY);
            return Ok(());
        }
        let call = self.open(member, message, Purpose::Level(level), now)?;
        if let Some(shared) = &mut self.shared {
            shared.levels.turns.waiting.push_back(call);
        }
        self.run_levels();
        Ok(())
    }

    /// Lets the next request have its turn.
    pub(super) fn run_levels(&mut self) {
        while let Some(shared) = self.shared.as_mut() {
            if shared.levels.turns.running.is_some() {
                return;
            }
            let Some(id) = shared.levels.turns.next() else {
                return;
            };
            if !self.run_level(id) {
                return;
            }
        }
    }

    /// Whether it is over, so that the next one may run.
    fn run_level(&mut self, id: CallId) -> bool {
        let call = self.calls.get(id);
        let wanted = call.and_then(|call| match (&call.purpose, &call.owner) {
            (Purpose::Level(level), Some(owner)) => Some((owner.member, *level)),
            _ => None,
        });
        let Some(shared) = &mut self.shared else {
            return true;
        };
        let Some((member, level)) = wanted else {
            shared.levels.turns.over(id);
            return true;
        };
        let others = self.members.iter().filter(|(other, _)| **other != member);
        let others = others.filter_map(|(_, known)| known.level);
        let most = others.fold(level, LogLevel::min);
        if shared.levels.held == Some(most) {
            shared.levels.turns.over(id);
            self.note_level(member, level);
            self.answer_empty(id);
            return true;
        }
        shared.levels.asked = Some(most);
        shared.levels.is_set = true;
        if let Some(call) = self.calls.get_mut(id)
            && let Stage::Waiting(message) = &mut call.stage
            && let Some(edited) = with_level(message, most)
        {
            *message = edited;
        }
        self.write(id);
        false
    }

    /// What this client wants to hear from now on.
    pub(super) fn note_level(&mut self, member: MemberId, level: LogLevel) {
        if let Some(known) = self.members.get_mut(&member) {
            known.level = Some(level);
        }
    }

    /// Whether a client gets this line. One that has set no level gets what servers say unasked, once others
    /// have set one.
    pub(super) fn admits(&self, member: MemberId, line: &Message) -> bool {
        let Some(line) = LogLevel::of_line(line) else {
            return true;
        };
        let own = self.members.get(&member).and_then(|known| known.level);
        let is_set = || {
            self.shared
                .as_ref()
                .is_some_and(|shared| shared.levels.is_set)
        };
        match own {
            Some(level) => level.admits(line),
            None => !is_set() || UNASKED.admits(line),
        }
    }
}

/// The same request for another level.
fn with_level(message: &Message, level: LogLevel) -> Option<Message> {
    let named = message.param("level")?;
    let edited = splice(message.source(), &named, quoted(level.as_str()).as_bytes())?;
    Message::parse(edited).ok()
}

/// What servers usually say to those who asked for nothing.
const UNASKED: LogLevel = LogLevel::Info;
