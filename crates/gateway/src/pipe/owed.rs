//! What the gateway itself answers a server, a `ping` or what nobody can be asked. A server that asks on and takes
//! no answers is not read any more, or they would pile up.

/// Answers that a server has not taken. Beyond, it is not read.
pub(crate) const MAX_OWED: usize = 64;

/// Bytes of them, one message more not counted: an answer has the id of what it answers, which is as long as the
/// server likes.
pub(crate) const MAX_OWED_BYTES: usize = 1 << 20;

/// Whether answers of these lengths are so much that the server is not to say more.
pub(crate) fn is_too_much_owed(mut lengths: impl Iterator<Item = usize>) -> bool {
    let (mut count, mut bytes) = (0, 0);
    lengths.any(|length| {
        count += 1;
        bytes += length;
        count >= MAX_OWED || bytes >= MAX_OWED_BYTES
    })
}
