//! The exchange log on standard error: formatted by hand and written in batches, because a log line
//! for each exchange is worth having and a system call for each is not.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thinpipe_gateway::{ExchangeLog, ExchangeRecord};

use crate::config::LogFormat;

/// Target of the lines, for the log level: `info,thinpipe::exchange=off` silences them.
pub(crate) const TARGET: &str = "thinpipe::exchange";

/// Lines are at most so old when they are written.
const DELAY: Duration = Duration::from_millis(100);

/// Bytes that wait at most; lines beyond are dropped and counted, since serving goes before logging.
const MAX_WAITING: usize = 4 << 20;

/// The log, and the thread that writes it.
pub(crate) struct ExchangeWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    format: LogFormat,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    dropped: u64,
    over: bool,
}

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    /// The second that was formatted last, and its text up to the seconds.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

impl ExchangeWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub(crate) fn start(format: LogFormat) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            format,
            state: Mutex::default(),
            filled: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("exchange-log".to_owned())
            .stack_size(64 << 10)
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Where the gateway puts its records.
    pub(crate) fn log(&self) -> Arc<dyn ExchangeLog> {
        Arc::clone(&self.shared) as _
    }
}

/// What was recorded is written before the process ends.
impl Drop for ExchangeWriter {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.filled.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the exchange log has panicked");
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.state();
            while state.waiting.is_empty() && !state.over {
                state = self
                    .filled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if !state.over {
                // Let a batch gather: the first line of it woke us.
                let waited = self.filled.wait_timeout_while(state, DELAY, |s| !s.over);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            let (dropped, over) = (std::mem::take(&mut state.dropped), state.over);
            drop(state);
            // Nobody can be told that standard error is closed.
            let _ = std::io::stderr().lock().write_all(&batch);
            if dropped > 0 {
                tracing::warn!(dropped, "the exchange log could not keep up");
            }
            batch.clear();
            batch.shrink_to(256 << 10);
            if over {
                return;
            }
        }
    }

    fn put(&self, line: &str) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > MAX_WAITING {
            state.dropped += 1;
            return;
        }
        let wakes = state.waiting.is_empty();
        state.waiting.extend_from_slice(line.as_bytes());
        drop(state);
        if wakes {
            self.filled.notify_one();
        }
    }
}

impl ExchangeLog for Shared {
    fn record(&self, record: &ExchangeRecord<'_>) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            // Writing to a string does not fail.
            let _ = match self.format {
                LogFormat::Text => text(line, record),
                LogFormat::Json => json(line, record),
            };
            self.put(line);
        });
    }
}

fn text(line: &mut String, record: &ExchangeRecord<'_>) -> std::fmt::Result {
    timestamp(line)?;
    write!(line, "  INFO {} {}", record.upstream, record.message)?;
    if let Some(name) = record.name {
        // The client's own text: control characters must not reach a terminal.
        write!(line, " {}", name.escape_debug())?;
    }
    write!(line, " status={} took_us={}", record.status, record.took.as_micros())?;
    if record.is_stream {
        line.push_str(" stream");
    }
    write!(line, " revision={}", record.revision.as_str())?;
    if let Some(session) = record.session {
        write!(line, " session={session}…")?;
    }
    if let Some(peer) = record.peer {
        write!(line, " peer={peer}")?;
    }
    line.push('\n');
    Ok(())
}

fn json(line: &mut String, record: &ExchangeRecord<'_>) -> std::fmt::Result {
    line.push_str("{\"timestamp\":\"");
    timestamp(line)?;
    write!(line, "\",\"level\":\"INFO\",\"target\":\"{TARGET}\",\"upstream\":")?;
    quoted(line, record.upstream)?;
    line.push_str(",\"message\":");
    quoted(line, record.message)?;
    if let Some(name) = record.name {
        line.push_str(",\"name\":");
        quoted(line, name)?;
    }
    let (status, took) = (record.status, record.took.as_micros());
    write!(line, ",\"status\":{status},\"took_us\":{took},\"stream\":{}", record.is_stream)?;
    write!(line, ",\"revision\":\"{}\"", record.revision.as_str())?;
    if let Some(session) = record.session {
        write!(line, ",\"session\":\"{session}…\"")?;
    }
    if let Some(peer) = record.peer {
        write!(line, ",\"peer\":\"{peer}\"")?;
    }
    line.push_str("}\n");
    Ok(())
}

fn quoted(line: &mut String, value: &str) -> std::fmt::Result {
    let text = serde_json::to_string(value).map_err(|_| std::fmt::Error)?;
    line.push_str(&text);
    Ok(())
}

/// RFC 3339 in UTC, with microseconds, as the other log lines have it.
fn timestamp(line: &mut String) -> std::fmt::Result {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            text.clear();
            date_and_time(text, since.as_secs())?;
        }
        write!(line, "{text}.{:06}Z", since.subsec_micros())
    })
}

/// Civil date of a day count, after Howard Hinnant's `civil_from_days`.
fn date_and_time(text: &mut String, seconds: u64) -> std::fmt::Result {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (4_102_444_799, "2099-12-31T23:59:59"),
        ] {
            let mut text = String::new();
            date_and_time(&mut text, seconds).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn lines_show_what_happened_and_no_secret() {
        let record = ExchangeRecord {
            upstream: "everything",
            message: "tools/call",
            name: Some("add\u{1b}[2J"),
            status: 200,
            is_stream: true,
            revision: thinpipe_proto::revision::Revision::V2025_11_25,
            session: Some("fea575"),
            peer: "127.0.0.1:80".parse().ok(),
            took: Duration::from_micros(1842),
        };
        let mut line = String::new();
        text(&mut line, &record).unwrap();
        let shown = "everything tools/call add\\u{1b}[2J status=200 took_us=1842 stream";
        assert!(line.contains(shown), "{line}");
        let mut line = String::new();
        json(&mut line, &record).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["name"], &value["status"]), (&"add\u{1b}[2J".into(), &200.into()));
    }
}
