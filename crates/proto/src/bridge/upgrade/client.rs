//! What the client says.

use std::time::Instant;

use bytes::Bytes;

use super::Upgrading;
use super::exchange::{Exchange, Input, Leg, Spent};
use crate::bridge::client::check_length;
use crate::bridge::clock::{Clock, after};
use crate::bridge::envelope::LogLevel;
use crate::bridge::limits::MAX_KEPT;
use crate::bridge::notice::cancelled_of;
use crate::bridge::progress::{Progress, token_of};
use crate::bridge::refused::{Refused, gateway_error};
use crate::bridge::upstream::EMPTY;
use crate::rpc::{Message, RequestId, code, response};

impl Upgrading {
    pub(super) fn client_request(
        &mut self,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let (Some(id), Some(method)) = (message.id(), message.method()) else {
            return Ok(()); // Unreachable: a request has both.
        };
        check_length(id.as_json().len())?;
        if self.exchanges.of(id).is_some() || self.resources.is_waiting(id) {
            return Err(Refused::IdInUse);
        }
        if self.early.take(id, now) {
            self.finish(id.clone());
            return Ok(());
        }
        if method != "ping" {
            self.initialized(now);
        }
        match method {
            "ping" => self.answer_here(id, EMPTY),
            "initialize" => return Err(Refused::Initialized),
            "logging/setLevel" => self.set_level(id, message)?,
            "resources/subscribe" => self.subscribe(id, message, now)?,
            "resources/unsubscribe" => self.unsubscribe(id, message, now)?,
            // The client's own revision has none of them, or they are not translated (5.6).
            "server/discover" | "subscriptions/listen" => self.unknown_method(id, method),
            _ if method.starts_with("tasks/") => self.unknown_method(id, method),
            _ => self.open(id, message, now)?,
        }
        Ok(())
    }

    /// Takes a request into the table, and sends it.
    fn open(&mut self, id: &RequestId, message: &Message, now: Instant) -> Result<(), Refused> {
        self.check_room()?;
        let progress = Progress::asked(message)?;
        let clock = Clock::start(now, &self.config.limits);
        self.wake_at(clock.due());
        let exchange = self.exchanges.insert(Exchange {
            request: id.clone(),
            message: message.clone(),
            progress,
            clock,
            leg: Leg::Schema(Input::default()),
            rounds: 0,
            paced: None,
            spent: Spent::default(),
            elicitations: Vec::new(),
        });
        self.begin(exchange, now);
        Ok(())
    }

    pub(super) fn check_room(&self) -> Result<(), Refused> {
        let limit = self.config.limits.in_flight;
        if self.in_flight() >= limit {
            return Err(Refused::TooManyInFlight { limit });
        }
        Ok(())
    }

    fn set_level(&mut self, id: &RequestId, message: &Message) -> Result<(), Refused> {
        if !self.session.offered.logging {
            self.unknown_method(id, "logging/setLevel");
            return Ok(());
        }
        let level = message.param_text("level");
        let level = level.and_then(|level| LogLevel::from_name(&level));
        let parameter = "level";
        self.session
            .set_level(level.ok_or(Refused::UnknownLevel { parameter })?);
        self.answer_here(id, EMPTY);
        Ok(())
    }

    /// Answers what the server need not see.
    pub(super) fn answer_here(&mut self, id: &RequestId, result: &[u8]) {
        let answer = response(id, result);
        self.answer(id.clone(), answer);
    }

    pub(super) fn unknown_method(&mut self, id: &RequestId, method: &str) {
        let shown: String = method.chars().take(64).collect();
        let text = format!("{shown} is not served here");
        let (code, reason) = (code::METHOD_NOT_FOUND, "method_not_found");
        let answer = gateway_error(id, code, &text, reason, &self.config.upstream);
        self.answer(id.clone(), answer);
    }

    /// An error of the gateway's own.
    pub(super) fn own_error(&self, id: &RequestId, reason: &str, text: &str) -> Bytes {
        gateway_error(
            id,
            code::INTERNAL_ERROR,
            text,
            reason,
            &self.config.upstream,
        )
    }

    pub(super) fn client_notification(&mut self, message: &Message, now: Instant) {
        match message.method() {
            Some("notifications/initialized") => self.initialized(now),
            Some("notifications/cancelled") => self.client_cancels(message, now),
            Some("notifications/progress") => self.client_progress(message, now),
            // There is no word for the rest: roots are asked for anew in each call.
            _ => self.dropped.notifications += 1,
        }
    }

    fn client_cancels(&mut self, message: &Message, now: Instant) {
        let id = cancelled_of(message).filter(|id| id.as_json().len() <= MAX_KEPT);
        let Some(id) = id else {
            self.dropped.cancellations += 1;
            return;
        };
        if !self.give_up(&id, now) {
            self.early.remember(id, now);
        }
    }

    /// Who is working on an answer has more time for it; the server cannot be told.
    fn client_progress(&mut self, message: &Message, now: Instant) {
        let due = after(now, self.config.limits.answer);
        let prompt = token_of(message).and_then(|token| self.prompts.find(&token));
        match prompt {
            Some(prompt) => prompt.due = due,
            None => self.dropped.progress += 1,
        }
    }

    pub(super) fn client_response(&mut self, message: &Message, now: Instant) {
        let asked = message.id();
        let asked = asked.and_then(|id| self.prompts.take(|prompt| prompt.id == *id));
        match asked {
            Some(prompt) => self.prompt_answered(&prompt, message, now),
            None => self.dropped.client_responses += 1,
        }
    }
}
