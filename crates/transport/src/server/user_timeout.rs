//! How long a client may leave what it is sent without acknowledgement until the kernel takes it for gone: the user
//! timeout of TCP (RFC 9293 3.8.3).
//!
//! On a silent stream a comment is written every 15 s, and who has gone without a word should be found within half a minute
//! (F12), so the time is short. But the kernel counts in the same way for a client that is there and does not read, as
//! soon as its receive buffer is full, and that one has [`Limits::write_stall`]. The two are told apart by what was
//! written lately: with less than any receive buffer holds, it is full only if the client has not read for that long
//! already.

use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use {crate::io::tcp, std::io, tokio::net::TcpStream};

use super::Limits;
use crate::io::Io;

/// Bytes that a client's receive buffer holds at least.
const BUFFERED: usize = 16 << 10;

/// What the kernel is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UserTimeout(Duration);

impl UserTimeout {
    /// With the 15 s of silence before a comment, and for a timer of the kernel's that is late, less than 30 s.
    pub(super) const SHORT: Self = Self(Duration::from_secs(12));

    /// For a client that may not have read all that it was sent lately.
    pub(super) fn long(limits: &Limits) -> Self {
        Self(limits.write_stall.max(Duration::from_secs(30)))
    }

    /// # Errors
    /// What the system says.
    #[cfg(target_os = "linux")]
    pub(super) fn set(self, stream: &TcpStream) -> io::Result<()> {
        socket2::SockRef::from(stream).set_tcp_user_timeout(Some(self.0))
    }

    /// The same, if the connection is one of TCP.
    pub(super) fn apply(self, io: &dyn Io) {
        #[cfg(target_os = "linux")]
        if let Some(Err(error)) = tcp(io).map(|stream| self.set(stream)) {
            tracing::debug!(%error, "a TCP option cannot be set");
        }
    }
}

/// What was written to a connection in the last [`Limits::write_stall`].
#[derive(Debug)]
pub(super) struct Written {
    /// Bytes in the half of that time that runs, and in those before.
    halves: [usize; 3],
    since: Instant,
    is_much: bool,
}

impl Written {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            halves: [0; 3],
            since: now,
            is_much: false,
        }
    }

    /// So many bytes are about to be written. What the kernel has to be told before, if that is something new.
    pub(super) fn add(
        &mut self,
        bytes: usize,
        now: Instant,
        limits: &Limits,
    ) -> Option<UserTimeout> {
        let half = limits.write_stall / 2;
        let since = now.saturating_duration_since(self.since);
        // Most writes come in the half that runs, and dividing takes its time.
        if since >= half {
            let passed = since.as_nanos() / half.as_nanos().max(1);
            let passed = usize::try_from(passed).map_or(3, |passed| passed.min(3));
            self.halves.rotate_right(passed % 3);
            self.halves[..passed].fill(0);
            self.since = now;
        }
        self.halves[0] = self.halves[0].saturating_add(bytes);
        let all = self.halves.iter().copied().fold(0, usize::saturating_add);
        let is_much = all > BUFFERED;
        if is_much == self.is_much {
            return None;
        }
        self.is_much = is_much;
        Some(match is_much {
            true => UserTimeout::long(limits),
            false => UserTimeout::SHORT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// F12, C26: the time is short while a client that is there cannot have left its buffer full.
    #[test]
    fn f12_who_was_sent_much_lately_has_the_time_of_one_that_does_not_read() {
        let limits = Limits::default();
        let start = Instant::now();
        let at = |seconds: u32| start + SECOND * seconds;
        let mut written = Written::new(start);
        let long = Some(UserTimeout(limits.write_stall));
        assert_eq!(written.add(100, at(0), &limits), None, "it begins short");
        assert_eq!(written.add(BUFFERED, at(14), &limits), long);
        assert_eq!(written.add(7, at(29), &limits), None);
        assert_eq!(written.add(7, at(43), &limits), None, "29 s ago");
        let short = Some(UserTimeout::SHORT);
        assert_eq!(written.add(7, at(60), &limits), short);
        assert_eq!(written.add(BUFFERED, at(61), &limits), long);
        assert_eq!(written.add(7, at(200), &limits), short, "long ago");
    }

    /// Many small events are as much as a large one.
    #[test]
    fn f12_what_was_written_is_added_up() {
        let limits = Limits::default();
        let start = Instant::now();
        let mut written = Written::new(start);
        let told: Vec<_> = (0..BUFFERED / 100 + 2)
            .filter_map(|_| written.add(100, start, &limits))
            .collect();
        assert_eq!(told, [UserTimeout::long(&limits)]);
    }

    /// F12: no longer than half a minute, with the comment before it.
    #[test]
    fn f12_a_silent_client_is_found_in_half_a_minute() {
        let limits = Limits::default();
        assert!(limits.keep_alive + UserTimeout::SHORT.0 < 30 * SECOND);
        let patient = Limits {
            write_stall: 60 * SECOND,
            ..limits
        };
        assert_eq!(UserTimeout::long(&patient).0, 60 * SECOND);
    }
}
