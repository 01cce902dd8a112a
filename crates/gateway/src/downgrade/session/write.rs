//! What waits to be written to the server.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use thinpipe_proto::bridge::downgrade::Written;

use crate::pipe::owed::is_too_much_owed;

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

/// Whether the server takes the answers to what it said, so that it may say more.
pub(super) fn may_say_more(writes: &VecDeque<Write>) -> bool {
    let owed = writes.iter().filter(|write| write.is_owed());
    !is_too_much_owed(owed.map(|write| write.message.len()))
}
