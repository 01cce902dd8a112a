//! How much of what a child writes is logged: a server that is chatty must not fill the disk.

use std::time::Duration;

use tokio::time::Instant;

/// Lines on standard error that are logged in a second.
const MAX_LINES: usize = 200;

/// Lines on standard output that are no messages and are logged in a second. Each is a warning, and the
/// first ones tell what is wrong.
const MAX_NOISE: usize = 10;

/// Bytes of lines that are logged in a second.
const MAX_BYTES: usize = 64 << 10;

const SECOND: Duration = Duration::from_secs(1);

/// Lines and bytes of one child in the current second, and what did not fit.
#[derive(Debug)]
pub(super) struct Rate {
    max_lines: usize,
    ends: Option<Instant>,
    lines: usize,
    bytes: usize,
    left_out: u64,
}

impl Rate {
    /// Of its standard error.
    pub(super) fn of_log() -> Self {
        Self::new(MAX_LINES)
    }

    /// Of what is no message on its standard output.
    pub(super) fn of_noise() -> Self {
        Self::new(MAX_NOISE)
    }

    fn new(max_lines: usize) -> Self {
        Self {
            max_lines,
            ends: None,
            lines: 0,
            bytes: 0,
            left_out: 0,
        }
    }

    /// Whether a line of so many bytes is logged.
    pub(super) fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        if self.ends.is_none_or(|ends| ends <= now) {
            (self.ends, self.lines, self.bytes) = (Some(now + SECOND), 0, 0);
        }
        let fits = self.lines < self.max_lines && self.bytes + bytes <= MAX_BYTES;
        if fits {
            self.lines += 1;
            self.bytes += bytes;
        } else {
            self.left_out += 1;
        }
        fits
    }

    /// When what was left out is to be told, if anything was.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ends.filter(|_| self.left_out > 0)
    }

    /// How many lines were left out since this was asked last.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_room_for_so_many_lines_and_bytes() {
        let (mut rate, start) = (Rate::of_log(), Instant::now());
        let admitted = |rate: &mut Rate, lines, bytes, at| {
            (0..lines).filter(|_| rate.admit(bytes, at)).count()
        };
        assert_eq!(admitted(&mut rate, 1000, 10, start), MAX_LINES);
        assert_eq!(rate.due(), Some(start + SECOND));
        assert_eq!(rate.take_left_out(), 800);
        assert_eq!((rate.due(), rate.take_left_out()), (None, 0));
        let next = start + SECOND;
        assert_eq!(
            admitted(&mut rate, 100, 4 << 10, next),
            MAX_BYTES / (4 << 10)
        );
        assert_eq!(rate.take_left_out(), 84);
    }
}
