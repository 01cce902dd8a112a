//! The last lines that a child wrote to its standard error.
//!
//! The transport logs them. The doctor has no log: it keeps the last ones, for its report.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, registry};

/// Where the transport logs them.
const TARGET: &str = "thinpipe::stderr";
/// Lines that are kept. Each is as long as the transport lets it be.
const MAX_LINES: usize = 8;

/// The last lines. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    /// Hears what is logged from now on, in the whole process.
    pub(super) fn hear() -> Self {
        let lines = Self::default();
        let only = Targets::new().with_target(TARGET, LevelFilter::INFO);
        // Whoever listens already stays: then there are no lines to show.
        let _ = registry().with(lines.clone().with_filter(only)).try_init();
        lines
    }

    /// The lines so far, the oldest first.
    pub(super) fn take(&self) -> Vec<String> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.drain(..).collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A program that is started twice says the same twice.
        lines.retain(|other| *other != line);
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl<S: Subscriber> Layer<S> for LastLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(None);
        event.record(&mut message);
        if let Some(line) = message.0 {
            self.push(line);
        }
    }
}

struct Message(Option<String>);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_once() {
        let lines = LastLines::default();
        for line in (0..MAX_LINES + 2).chain([4]) {
            lines.push(line.to_string());
        }
        let kept = lines.take();
        assert_eq!((kept.len(), kept[0].as_str()), (MAX_LINES, "2"));
        let fours: Vec<_> = kept.iter().filter(|line| *line == "4").collect();
        assert_eq!((fours.len(), kept.last().unwrap().as_str()), (1, "4"));
    }
}
