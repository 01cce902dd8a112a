//! What many sessions have in common is kept once: the clients of a deployment are a few programs, and each program
//! says the same in `initialize` every time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Texts that are known. One more takes the place of the one that has been known for longest.
const MAX_KNOWN: usize = 64;

/// Bytes of a text that is shared. Longer ones, of which there are few, are kept by each session.
const MAX_TEXT: usize = 4096;

/// The texts that sessions share.
#[derive(Debug, Default)]
pub(super) struct Alike {
    known: Mutex<VecDeque<Bytes>>,
}

impl Alike {
    /// The same bytes, shared with other sessions that said the same lately. They are never a part of the buffer in
    /// which `text` came, or a session would keep all of that.
    pub(super) fn share(&self, text: &[u8]) -> Bytes {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Bytes::copy_from_slice(text);
        }
        // Nothing panics while it is held.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.iter().find(|same| **same == text) {
            return same.clone();
        }
        if known.len() >= MAX_KNOWN {
            known.pop_front();
        }
        let text = Bytes::copy_from_slice(text);
        known.push_back(text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F16: what is the same is there once, however many say it.
    #[test]
    fn f16_the_same_text_is_kept_once() {
        let alike = Alike::default();
        let first = alike.share(b"one");
        assert_eq!(first, "one");
        assert_eq!(alike.share(b"one").as_ptr(), first.as_ptr());
        let other = alike.share(b"two");
        assert_eq!(other, "two");
        assert_eq!(alike.share(b"two").as_ptr(), other.as_ptr());
    }

    /// C2: whoever says something else each time, or something long, fills nothing up.
    #[test]
    fn c2_what_is_shared_is_bounded() {
        let alike = Alike::default();
        for n in 0..10 * MAX_KNOWN {
            assert_eq!(alike.share(n.to_string().as_bytes()), n.to_string());
        }
        let long = vec![b'x'; MAX_TEXT + 1];
        assert_eq!(alike.share(&long), long);
        let known = alike.known.lock().unwrap();
        assert_eq!(known.len(), MAX_KNOWN);
        assert!(known.iter().all(|text| text.len() <= MAX_TEXT));
    }
}
