//! The exchange log: one line for each exchange, formatted by hand, because a log framework costs more
//! than relaying a small request does.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

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
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    /// The second that was formatted last, and its text.
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

impl ExchangeLog for ExchangeLines {
    fn record(&self, record: &ExchangeRecord<'_>) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            // Writing to a string does not fail.
            let _ = match self.format {
                LogFormat::Text => text(line, record),
                LogFormat::Json => json(line, record),
            };
            self.spool.add(line.as_bytes());
        });
    }
}

/// By hand: `write!` costs several times as much, and this runs for every exchange.
fn text(line: &mut String, record: &ExchangeRecord<'_>) -> std::fmt::Result {
    timestamp(line)?;
    line.push_str("  INFO ");
    line.push_str(record.upstream);
    line.push(' ');
    visible(line, record.message);
    if let Some(name) = record.name {
        line.push(' ');
        visible(line, name);
    }
    line.push_str(" status=");
    number(line, u64::from(record.status), 0);
    line.push_str(" took_us=");
    number(line, record.took.as_micros() as u64, 0);
    if record.is_stream {
        line.push_str(" stream");
    }
    line.push_str(" revision=");
    line.push_str(record.revision.as_str());
    if let Some(session) = record.session {
        line.push_str(" session=");
        line.push_str(session);
        line.push('…');
    }
    if let Some(client) = record.client {
        line.push_str(" client=");
        address(line, client)?;
    }
    if let Some(peer) = record.peer {
        line.push_str(" peer=");
        socket(line, peer)?;
    }
    line.push('\n');
    Ok(())
}

/// The client's own text: control characters must not reach a terminal.
fn visible(line: &mut String, text: &str) {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        line.push_str(text);
    } else {
        line.extend(text.escape_debug());
    }
}

fn socket(line: &mut String, peer: SocketAddr) -> std::fmt::Result {
    let SocketAddr::V4(v4) = peer else {
        return write!(line, "{peer}");
    };
    address(line, peer.ip())?;
    line.push(':');
    number(line, u64::from(v4.port()), 0);
    Ok(())
}

fn address(line: &mut String, address: IpAddr) -> std::fmt::Result {
    let IpAddr::V4(v4) = address else {
        return write!(line, "{address}");
    };
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            line.push('.');
        }
        number(line, u64::from(octet), 0);
    }
    Ok(())
}

/// Decimal digits, with leading zeros up to `width`.
fn number(line: &mut String, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 || at == digits.len() || digits.len() - at < width {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    line.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}

fn json(line: &mut String, record: &ExchangeRecord<'_>) -> std::fmt::Result {
    line.push_str("{\"timestamp\":\"");
    timestamp(line)?;
    write!(
        line,
        "\",\"level\":\"INFO\",\"target\":\"{TARGET}\",\"upstream\":"
    )?;
    quoted(line, record.upstream)?;
    line.push_str(",\"message\":");
    quoted(line, record.message)?;
    if let Some(name) = record.name {
        line.push_str(",\"name\":");
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
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            text.clear();
            date_and_time(text, since.as_secs())?;
        }
        line.push_str(text);
        line.push('.');
        number(line, u64::from(since.subsec_micros()), 6);
        line.push('Z');
        Ok(())
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers() {
        let mut line = String::new();
        for (value, width) in [(0, 0), (7, 0), (42, 6), (u64::MAX, 0)] {
            number(&mut line, value, width);
            line.push(' ');
        }
        assert_eq!(line, "0 7 000042 18446744073709551615 ");
    }

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
            client: "203.0.113.7".parse().ok(),
            peer: "127.0.0.1:80".parse().ok(),
            took: Duration::from_micros(1842),
        };
        let mut line = String::new();
        text(&mut line, &record).unwrap();
        let shown = "everything tools/call add\\u{1b}[2J status=200 took_us=1842 stream";
        assert!(line.contains(shown), "{line}");
        let shown = "session=fea575… client=203.0.113.7 peer=127.0.0.1:80\n";
        assert!(line.ends_with(shown), "{line}");
        let mut line = String::new();
        json(&mut line, &record).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["name"], &value["status"], &value["client"]),
            (&"add\u{1b}[2J".into(), &200.into(), &"203.0.113.7".into())
        );
    }
}
