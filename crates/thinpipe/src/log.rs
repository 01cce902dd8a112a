//! Logs go to standard error, as text for people or as JSON for programs.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::{LogConfig, LogFormat};

/// Sets up logging for the whole process. Only the first call does anything.
pub(crate) fn init(config: &LogConfig) {
    // The configuration was checked; a level that does not parse cannot come here.
    let levels: Targets = config.level.parse().unwrap_or_default();
    let layer = match config.format {
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(colours())
            .with_target(false)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    // A subscriber that is there already stays: tests share one process.
    let _ = registry().with(layer.with_filter(levels)).try_init();
}

fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
