//! The exchange log: one line for each exchange, formatted by hand, because a log framework costs more
//! than relaying a small request does.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thinpipe_gateway::{ExchangeLog, ExchangeRecord};

use super::spool::Spool;
use crate::config::LogFormat;

/// Target of the lines, for the log level: `info,thinpipe::exchange=off` silences them.
pub(super) const TARGET: &str = "thinpipe::exchange";

/// Writes records to the spool.
pub(super) struct ExchangeLines {
    pub(super) format: LogFormat,
    pub(super) spool: Spool,
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SECOND: RefCell<Second> = const { RefCell::new(Second::none()) };
}

impl ExchangeLog for ExchangeLines {
    fn record(&self, record: &ExchangeRecord<'_>) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            // Writing to a vector does not fail.
            let _ = match self.format {
                LogFormat::Text => text(line, record),
                LogFormat::Json => json(line, record),
            };
            self.spool.add(line);
        });
    }
}

/// By hand: `write!` costs several times as much, and this runs for every exchange.
fn text(line: &mut Vec<u8>, record: &ExchangeRecord<'_>) -> io::Result<()> {
    timestamp(line, record.at)?;
    line.extend_from_slice(b"  INFO ");
    line.extend_from_slice(record.upstream.as_bytes());
    line.push(b' ');
    visible(line, record.message);
    if let Some(name) = record.name {
        line.push(b' ');
        visible(line, name);
    }
    line.extend_from_slice(b" status=");
    number(line, u64::from(record.status), 0);
    line.extend_from_slice(b" took_us=");
    number(line, record.took.as_micros() as u64, 0);
    if record.is_stream {
        line.extend_from_slice(b" stream");
    }
    line.extend_from_slice(b" revision=");
    line.extend_from_slice(record.revision.as_str().as_bytes());
    if let Some(session) = record.session {
        line.extend_from_slice(b" session=");
        line.extend_from_slice(session.as_bytes());
        line.extend_from_slice("…".as_bytes());
    }
    if let Some(client) = record.client {
        line.extend_from_slice(b" client=");
        address(line, client)?;
    }
    if let Some(peer) = record.peer {
        line.extend_from_slice(b" peer=");
        socket(line, peer)?;
    }
    line.push(b'\n');
    Ok(())
}

/// The client's own text. Control characters must not reach a terminal, and what holds blanks or quotes
/// is put in quotes, so that nobody can write fields of the line in it.
fn visible(line: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    if !text.is_empty() && text.bytes().all(is_plain) {
        line.extend_from_slice(text.as_bytes());
    } else {
        // Writing to a vector does not fail.
        let _ = write!(line, "\"{}\"", text.escape_debug());
    }
}

fn socket(line: &mut Vec<u8>, peer: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(v4) = peer else {
        return write!(line, "{peer}");
    };
    address(line, peer.ip())?;
    line.push(b':');
    number(line, u64::from(v4.port()), 0);
    Ok(())
}

fn address(line: &mut Vec<u8>, address: IpAddr) -> io::Result<()> {
    let IpAddr::V4(v4) = address else {
        return write!(line, "{address}");
    };
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            line.push(b'.');
        }
        number(line, u64::from(octet), 0);
    }
    Ok(())
}

/// Decimal digits, with leading zeros up to `width`.
fn number(line: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 || at == digits.len() || digits.len() - at < width {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    line.extend_from_slice(&digits[at..]);
}

fn json(line: &mut Vec<u8>, record: &ExchangeRecord<'_>) -> io::Result<()> {
    line.extend_from_slice(b"{\"timestamp\":\"");
    timestamp(line, record.at)?;
    write!(
        line,
        "\",\"level\":\"INFO\",\"target\":\"{TARGET}\",\"upstream\":"
    )?;
    quoted(line, record.upstream)?;
    line.extend_from_slice(b",\"message\":");
    quoted(line, record.message)?;
    if let Some(name) = record.name {
        line.extend_from_slice(b",\"name\":");
        quoted(line, name)?;
    }
    let (status, took) = (record.status, record.took.as_micros());
    write!(
        line,
        ",\"status\":{status},\"took_us\":{took},\"stream\":{}",
        record.is_stream
    )?;
    write!(line, ",\"revision\":\"{}\"", record.revision.as_str())?;
    if let Some(session) = record.session {
        write!(line, ",\"session\":\"{session}…\"")?;
    }
    if let Some(client) = record.client {
        write!(line, ",\"client\":\"{client}\"")?;
    }
    if let Some(peer) = record.peer {
        write!(line, ",\"peer\":\"{peer}\"")?;
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

fn quoted(line: &mut Vec<u8>, value: &str) -> io::Result<()> {
    serde_json::to_writer(line, value).map_err(io::Error::from)
}

/// A second of the wall clock, as text, and when it began by the clock that measures. It spares asking
/// the time twice for each line.
struct Second {
    began: Option<Instant>,
    text: Vec<u8>,
}

impl Second {
    const fn none() -> Self {
        Self {
            began: None,
            text: Vec::new(),
        }
    }

    /// Microseconds into this second at `at`; `None` if it is over, or has not begun.
    fn micros(&self, at: Instant) -> Option<u32> {
        let since = at.checked_duration_since(self.began?)?;
        (since.as_secs() == 0).then(|| since.subsec_micros())
    }

    fn begin(&mut self, at: Instant) -> io::Result<u32> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.began = at.checked_sub(Duration::from_nanos(since.subsec_nanos().into()));
        self.text.clear();
        date_and_time(&mut self.text, since.as_secs())?;
        Ok(since.subsec_micros())
    }
}

/// RFC 3339 in UTC, with microseconds, as the other log lines have it.
fn timestamp(line: &mut Vec<u8>, at: Instant) -> io::Result<()> {
    SECOND.with_borrow_mut(|second| {
        let micros = match second.micros(at) {
            Some(micros) => micros,
            None => second.begin(at)?,
        };
        line.extend_from_slice(&second.text);
        line.push(b'.');
        number(line, u64::from(micros), 6);
        line.push(b'Z');
        Ok(())
    })
}

/// Civil date of a day count, after Howard Hinnant's `civil_from_days`.
fn date_and_time(text: &mut Vec<u8>, seconds: u64) -> io::Result<()> {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_formatted_once() {
        let mut second = Second::none();
        let at = Instant::now();
        assert_eq!(second.micros(at), None);
        let micros = second.begin(at).unwrap();
        assert_eq!(second.micros(at), Some(micros));
        let over = at + Duration::from_micros(1_000_000 - u64::from(micros));
        assert_eq!(second.micros(over), None);
    }

    #[test]
    fn numbers() {
        let mut line = Vec::new();
        for (value, width) in [(0, 0), (7, 0), (42, 6), (u64::MAX, 0)] {
            number(&mut line, value, width);
            line.push(b' ');
        }
        assert_eq!(line, b"0 7 000042 18446744073709551615 ");
    }

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (4_102_444_799, "2099-12-31T23:59:59"),
        ] {
            let mut text = Vec::new();
            date_and_time(&mut text, seconds).unwrap();
            assert_eq!(text, expected.as_bytes());
        }
    }

    /// E11: no method and no name looks like another field of its line.
    #[test]
    fn e11_fields_cannot_be_forged_within_a_line() {
        for (text, shown) in [
            ("tools/call", "tools/call"),
            ("a=b", "a=b"),
            (
                "x status=200 peer=1.2.3.4:5",
                "\"x status=200 peer=1.2.3.4:5\"",
            ),
            ("x\" status=200", "\"x\\\" status=200\""),
            ("\"", "\"\\\"\""),
            ("grüße", "\"grüße\""),
            ("a\nb\u{202e}\u{a0}", "\"a\\nb\\u{202e}\\u{a0}\""),
            ("", "\"\""),
        ] {
            let mut line = Vec::new();
            visible(&mut line, text);
            assert_eq!(String::from_utf8(line).unwrap(), shown);
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
            client: "203.0.113.7".parse().ok(),
            peer: "127.0.0.1:80".parse().ok(),
            at: Instant::now(),
            took: Duration::from_micros(1842),
        };
        let mut line = Vec::new();
        text(&mut line, &record).unwrap();
        let shown = "everything tools/call \"add\\u{1b}[2J\" status=200 took_us=1842 stream";
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains(shown), "{line}");
        let shown = "session=fea575… client=203.0.113.7 peer=127.0.0.1:80\n";
        assert!(line.ends_with(shown), "{line}");
        let mut line = Vec::new();
        json(&mut line, &record).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&value["name"], &value["status"], &value["client"]),
            (&"add\u{1b}[2J".into(), &200.into(), &"203.0.113.7".into())
        );
    }
}
