//! What nodes say to each other: whatever arrives is read or refused, and what is read is written the same way.

use bytes::Bytes;
use thinpipe_proto::tunnel::{Frame, MAX_PIECE, Part, decode, encode};

/// Bytes of a request's body.
const MAX_BODY: usize = 1024;

/// Checks one input: a frame, or none.
pub fn check(input: &[u8]) {
    let Ok(frame) = decode(Bytes::copy_from_slice(input), MAX_BODY) else {
        return;
    };
    if let Frame::Exchange(_, part) = &frame {
        match part {
            Part::Ask(request) => assert!(request.body.len() <= MAX_BODY),
            Part::Head(head) => assert!(head.piece.bytes.len() <= MAX_PIECE),
            Part::Piece { piece, .. } => assert!(piece.bytes.len() <= MAX_PIECE),
            _ => {}
        }
    }
    let again = decode(encode(&frame), MAX_BODY);
    assert_eq!(
        again.as_ref(),
        Ok(&frame),
        "what was read is written the same"
    );
}
