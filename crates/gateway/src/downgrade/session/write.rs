//! What waits to be written to the server.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::downgrade::Written;

/// Answers of the gateway's own that the server has not taken. Beyond, it is not read.
pub(super) const MAX_OWED: usize = 64;

/// Bytes of them, one message more not counted.
const MAX_OWED_BYTES: usize = 1 << 20;

/// A message on its way up.
pub(in crate::downgrade) struct Write {
    pub(in crate::downgrade) message: Bytes,
    pub(in crate::downgrade) written: Written,
    /// Those of the client whose request or answer it is; `None`: the gateway's own.
    pub(in crate::downgrade) headers: Option<HeaderMap>,
}

impl Write {
    /// Whether it is the gateway's own answer to something that the server said.
    pub(super) fn is_owed(&self) -> bool {
        self.written == Written::Other
    }
}

/// What of a message is needed to write it again.
pub(in crate::downgrade) struct Unwritten {
    pub(in crate::downgrade) message: Bytes,
    pub(in crate::downgrade) headers: Option<HeaderMap>,
}

/// Whether the server has not taken so many answers that it is not to say more.
pub(super) fn is_too_much_owed(writes: &VecDeque<Write>) -> bool {
    let owed = writes.iter().filter(|write| write.is_owed());
    let (count, bytes) = owed.fold((0, 0), |(count, bytes), write| {
        (count + 1, bytes + write.message.len())
    });
    count >= MAX_OWED || bytes >= MAX_OWED_BYTES
}
