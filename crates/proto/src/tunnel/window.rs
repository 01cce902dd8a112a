//! How much of an answer may be on its way: a reader that does not read stops the writer.

use super::Progress;

/// Pieces that may be sent and not yet acknowledged.
pub const WINDOW_PIECES: u64 = 64;

/// Bytes that may be sent and not yet acknowledged; the last piece may exceed it.
pub const WINDOW_BYTES: u64 = 1 << 20;

/// A peer says something that cannot be: a piece is missing, or more is acknowledged than was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a piece of the exchange is missing, or was never sent")]
pub struct OutOfOrder;

/// The sender's account.
#[derive(Debug, Clone, Copy, Default)]
pub struct SendWindow {
    sent: Progress,
    acknowledged: Progress,
}

/// The receiver's account.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiveWindow {
    received: Progress,
    consumed: Progress,
    told: Progress,
}

/// What a piece is to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The next one.
    Next,
    /// One that was there already.
    Again,
}

impl SendWindow {
    /// Whether another piece may be sent.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.sent.pieces - self.acknowledged.pieces < WINDOW_PIECES
            && self.sent.bytes - self.acknowledged.bytes < WINDOW_BYTES
    }

    /// What has been sent.
    #[must_use]
    pub fn sent(&self) -> Progress {
        self.sent
    }

    /// A piece of so many bytes has been sent.
    pub fn on_sent(&mut self, bytes: usize) {
        self.sent.pieces += 1;
        self.sent.bytes += bytes as u64;
    }

    /// The receiver has passed on so much. What it has said before may come again.
    ///
    /// # Errors
    /// [`OutOfOrder`] if that is more than was sent.
    pub fn on_acknowledged(&mut self, progress: Progress) -> Result<(), OutOfOrder> {
        if progress.pieces > self.sent.pieces || progress.bytes > self.sent.bytes {
            return Err(OutOfOrder);
        }
        self.acknowledged.pieces = self.acknowledged.pieces.max(progress.pieces);
        self.acknowledged.bytes = self.acknowledged.bytes.max(progress.bytes);
        Ok(())
    }
}

impl ReceiveWindow {
    /// A piece has come.
    ///
    /// # Errors
    /// [`OutOfOrder`] if one before it is missing, or if it is more than the sender may send.
    pub fn on_piece(&mut self, number: u64, bytes: usize) -> Result<Received, OutOfOrder> {
        if number < self.received.pieces {
            return Ok(Received::Again);
        }
        let waiting = self.received.pieces - self.consumed.pieces;
        let waiting_bytes = self.received.bytes - self.consumed.bytes;
        let fits = waiting < WINDOW_PIECES && waiting_bytes < WINDOW_BYTES;
        if number > self.received.pieces || !fits {
            return Err(OutOfOrder);
        }
        self.received.pieces += 1;
        self.received.bytes += bytes as u64;
        Ok(Received::Next)
    }

    /// The sender says how many pieces it has sent.
    ///
    /// # Errors
    /// [`OutOfOrder`] if one of them has not come.
    pub fn on_sent(&self, pieces: u64) -> Result<(), OutOfOrder> {
        if pieces > self.received.pieces {
            return Err(OutOfOrder);
        }
        Ok(())
    }

    /// A piece of so many bytes has been passed on.
    pub fn on_consumed(&mut self, bytes: usize) {
        self.consumed.pieces += 1;
        self.consumed.bytes += bytes as u64;
    }

    /// What has been passed on.
    #[must_use]
    pub fn consumed(&self) -> Progress {
        self.consumed
    }

    /// What to acknowledge, if it is time for that: a quarter of the window has been passed on since.
    #[must_use]
    pub fn poll_acknowledge(&mut self) -> Option<Progress> {
        let pieces = self.consumed.pieces - self.told.pieces;
        let bytes = self.consumed.bytes - self.told.bytes;
        if pieces < WINDOW_PIECES / 4 && bytes < WINDOW_BYTES / 4 {
            return None;
        }
        self.told = self.consumed;
        Some(self.told)
    }
}
