//! What gateways log, in the trace of their world: with `THINPIPE_LOG=debug`, or any other level.

use std::io;

use thinpipe_testkit::network::Network;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Whether it is to be there.
pub(crate) fn is_wanted() -> bool {
    level().is_some()
}

fn level() -> Option<LevelFilter> {
    std::env::var("THINPIPE_LOG").ok()?.parse().ok()
}

/// Until the guard is dropped, what is logged on this thread is noted there.
pub(crate) fn into_trace(network: &Network) -> Option<DefaultGuard> {
    let level = level()?;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .without_time()
        .with_writer(Trace(network.clone()))
        .finish();
    Some(tracing::subscriber::set_default(subscriber))
}

/// Each line is one note.
#[derive(Clone)]
struct Trace(Network);

impl io::Write for Trace {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.note(String::from_utf8_lossy(line).trim_end());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Trace {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
