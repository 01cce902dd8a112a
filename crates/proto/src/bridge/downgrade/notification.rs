//! The server's notifications.

use std::time::Instant;

use crate::bridge::CallId;
use crate::bridge::downgrade::listen::Notice;
use crate::bridge::downgrade::{Content, Downgrading, ExchangeId, Lifetime};
use crate::bridge::envelope::LogLevel;
use crate::bridge::notice::cancelled_of;
use crate::bridge::progress::call_named;
use crate::bridge::shape::without_related_task;
use crate::rpc::Message;

impl Downgrading {
    pub(super) fn upstream_notification(
        &mut self,
        message: &Message,
        via: Option<CallId>,
        now: Instant,
    ) {
        let method = message.method().unwrap_or_default();
        if let Some(notice) = Notice::of(message) {
            if notice == Notice::Tools {
                self.task_tools.forget();
            }
            return self.notify(&notice);
        }
        match method {
            "notifications/progress" => self.progressed(message, now),
            "notifications/message" => self.logged(message, via),
            "notifications/cancelled" => match cancelled_of(message) {
                Some(question) => self.withdrawn(&question, now),
                None => self.dropped.cancellations += 1,
            },
            "notifications/elicitation/complete" => {
                if let Some(id) = message.param_text("elicitationId") {
                    self.completions.complete(&id);
                }
            }
            "notifications/tasks/status" => self.task_status(message, now),
            _ => self.dropped.notifications += 1,
        }
    }

    fn progressed(&mut self, message: &Message, now: Instant) {
        if self.progress_to(message, now).is_none() {
            self.dropped.progress += 1;
        }
    }

    /// Gives progress to the client that has the exchange now, if it wants it.
    fn progress_to(&mut self, message: &Message, now: Instant) -> Option<()> {
        let call = call_named(message)?;
        let id = self.calls.of_token(call)?;
        let exchange = self.exchanges.get_mut(&id)?;
        exchange.clock.progress(now, &self.config.limits);
        let client = exchange.state.client_mut()?;
        let attachment = client.attachment;
        let edited = client.progress.as_mut()?.relayed(message)?;
        // A progress notification of a task names it, which the client knows nothing of.
        let edited = match message.meta_json(crate::bridge::shape::RELATED_TASK) {
            Some(_) => without_related_task(&edited),
            None => edited.source().clone(),
        };
        self.deliver(attachment, Content::Notification(edited));
        Some(())
    }

    /// A log message goes to the request it belongs to, if that asked for its level; else nowhere.
    fn logged(&mut self, message: &Message, via: Option<CallId>) {
        let client = self.speaks_for(message, via).and_then(|id| {
            let client = self.exchanges.get(&id)?.state.client()?;
            let admits = client.level?.admits(LogLevel::of_line(message)?);
            admits.then_some(client.attachment)
        });
        match client {
            Some(attachment) => {
                let message = without_related_task(message);
                self.deliver(attachment, Content::Notification(message));
            }
            None => self.dropped.logs += 1,
        }
    }

    /// The exchange that a notification without an id belongs to (protocol notes 5.1, "Association").
    fn speaks_for(&self, message: &Message, via: Option<CallId>) -> Option<ExchangeId> {
        if self.names_task(message) {
            return self.of_task(message);
        }
        match via {
            Some(via) => self.calls.exchange_of(via),
            None if self.config.lifetime == Lifetime::Shared => None,
            None => self.calls.only(),
        }
    }
}
