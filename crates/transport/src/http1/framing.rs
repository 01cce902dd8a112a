//! Where a body ends, and its bytes without the framing.

use crate::body::BodyError;

/// How a body is delimited, with the state of reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunked coding.
    Chunked(Chunked),
    /// Everything until the connection closes (responses only).
    UntilClose,
}

/// State of the chunked coding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Chunked {}

impl Framing {
    /// Decodes `input`, appends the body's bytes to `out`, and returns how many bytes of `input`
    /// belonged to this body; what follows belongs to the next message.
    ///
    /// # Errors
    /// [`BodyError::Framing`].
    pub(crate) fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let _ = (input, out);
        unimplemented!()
    }

    /// Whether the body is complete.
    pub(crate) fn is_done(&self) -> bool {
        unimplemented!()
    }

    /// Bytes still to come, if that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        unimplemented!()
    }
}
