//! Logs go to standard error, as text for people or as JSON for programs.

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

use thinpipe_gateway::ExchangeLog;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::{LogConfig, LogFormat};

mod exchange;
mod spool;

use spool::Spool;

static SPOOL: OnceLock<Spool> = OnceLock::new();

/// Sets up logging for the whole process. Only the first call does anything.
///
/// # Errors
/// If the system gives no thread to write with.
pub(crate) fn init(config: &LogConfig) -> std::io::Result<()> {
    let spool = Spool::start(std::io::stderr())?;
    // The configuration was checked; a level that does not parse cannot come here.
    let levels: Targets = config.level.parse().unwrap_or_default();
    let layer = match config.format {
        LogFormat::Text => fmt::layer()
            .with_writer(spool.clone())
            .with_ansi(colours())
            .with_target(false)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(spool.clone())
            .boxed(),
    };
    // A subscriber that is there already stays, and so does its spool: tests share one process.
    if registry()
        .with(layer.with_filter(levels))
        .try_init()
        .is_ok()
    {
        let _ = SPOOL.set(spool);
    }
    Ok(())
}

/// Where the gateway's records of exchanges go; `None` if the log level leaves them out.
pub(crate) fn exchanges(config: &LogConfig) -> Option<Arc<dyn ExchangeLog>> {
    let levels: Targets = config.level.parse().unwrap_or_default();
    if !levels.would_enable(exchange::TARGET, &tracing::Level::INFO) {
        return None;
    }
    let spool = SPOOL.get()?.clone();
    Some(Arc::new(exchange::ExchangeLines {
        format: config.format,
        spool,
    }))
}

/// Waits until what was logged has been written, but not for long. For the end of the process.
pub(crate) fn flush() {
    if let Some(spool) = SPOOL.get() {
        spool.flush();
    }
}

fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
