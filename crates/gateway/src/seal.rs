//! What clients keep for the gateway and give back: sealed, so that nobody can read or change it, or use
//! what another one was given (protocol notes 5.4.2).
//!
//! AES-256-GCM with a random nonce. Which kind it is, for which server and for whom is authenticated with
//! it, not written into it.

use std::fmt;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use thinpipe_proto::session::Principal;
use thinpipe_store::StoreError;
use thinpipe_transport::server::Nodes;
use thinpipe_transport::{NoRandom, Random};

use crate::config::StateKey;

/// The first byte of everything sealed: how it is written.
const VERSION: u8 = 1;

/// Bytes that name a key.
const KEY_ID: usize = 4;

/// What stands before the sealed text.
const HEAD: usize = 1 + KEY_ID + NONCE_LEN;

/// The longest content that is sealed, in bytes.
pub(crate) const MAX_CONTENT: usize = 1 << 20;

/// The longest text that is looked at: there is no longer one.
const MAX_SEALED: usize = (HEAD + MAX_CONTENT + TAG).div_ceil(3) * 4;

/// Name of the key that nodes share.
const SECRET: &str = "state-key";

/// What stands after the sealed text: AES-GCM's tag, in bytes.
const TAG: usize = 16;

/// Seals with one key, opens with all of them.
pub(crate) struct Seals {
    /// Never empty.
    keys: Vec<Key>,
    /// The first of them, if it was drawn.
    drawn: Option<[u8; StateKey::BYTES]>,
    /// What all nodes seal with, if they were given no keys.
    common: OnceLock<Key>,
    random: Random,
}

struct Key {
    id: [u8; KEY_ID],
    key: LessSafeKey,
}

/// What is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A `requestState`.
    State,
    /// A cursor of a list.
    Cursor,
    /// A `requestState` of a server of 2026-07-28.
    ServerState,
}

/// For which server, and whom, something is sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) kind: Kind,
    pub(crate) upstream: &'a str,
    pub(crate) principal: &'a Principal,
}

/// There are no random numbers, or it is longer than [`MAX_CONTENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this cannot be sealed: it is too long, or the system gives no random numbers")]
pub(crate) struct NotSealed;

impl From<NoRandom> for NotSealed {
    fn from(NoRandom: NoRandom) -> Self {
        Self
    }
}

impl Seals {
    /// With these keys, of which the first seals. Without any, one is drawn.
    ///
    /// # Errors
    /// [`NotSealed`].
    pub(crate) fn new(keys: &[StateKey], random: Random) -> Result<Self, NotSealed> {
        let mut keys: Vec<_> = keys.iter().map(|key| Key::new(key.as_bytes())).collect();
        let mut drawn = None;
        if keys.is_empty() {
            let key = random.bytes()?;
            keys.push(Key::new(&key));
            drawn = Some(key);
        }
        let keys = keys.into_iter().collect::<Result<_, _>>()?;
        Ok(Self {
            keys,
            drawn,
            common: OnceLock::new(),
            random,
        })
    }

    /// Where the gateway's random numbers come from.
    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    /// Seals with the key of all nodes from now on, unless keys were configured: those are common to all nodes as they
    /// are. What was sealed before opens here only.
    ///
    /// # Errors
    /// [`StoreError`]: nothing has changed.
    pub(crate) async fn share(&self, nodes: &Nodes) -> Result<(), StoreError> {
        let Some(drawn) = self.drawn else {
            return Ok(());
        };
        let proposed = Bytes::copy_from_slice(&drawn);
        let kept = nodes.secret(SECRET, proposed).await?;
        let key = <&[u8; StateKey::BYTES]>::try_from(&*kept).map_err(|_| NotSealed);
        match key.and_then(Key::new) {
            // The first one stays.
            Ok(key) => drop(self.common.set(key)),
            Err(NotSealed) => tracing::warn!("what the store keeps as the nodes' key is none"),
        }
        Ok(())
    }

    /// Seals content for a scope.
    ///
    /// # Errors
    /// [`NotSealed`].
    pub(crate) fn seal(&self, scope: Scope<'_>, content: &[u8]) -> Result<String, NotSealed> {
        let own = self.keys.first();
        let key = self.common.get().or(own).ok_or(NotSealed)?;
        if content.len() > MAX_CONTENT {
            return Err(NotSealed);
        }
        let nonce: [u8; NONCE_LEN] = self.random.bytes()?;
        let mut sealed = Vec::with_capacity(HEAD + content.len() + TAG);
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        let mut text = content.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from(scope.bytes());
        let done = key.key.seal_in_place_append_tag(nonce, aad, &mut text);
        done.map_err(|_| NotSealed)?;
        sealed.append(&mut text);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The content of what was sealed for this scope; `None` for everything else.
    pub(crate) fn open(&self, scope: Scope<'_>, sealed: &str) -> Option<Vec<u8>> {
        if sealed.len() > MAX_SEALED {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (head, text) = sealed.split_at_checked(HEAD)?;
        let (&version, head) = head.split_first()?;
        let (id, nonce) = head.split_at_checked(KEY_ID)?;
        if version != VERSION {
            return None;
        }
        let mut keys = self.common.get().into_iter().chain(&self.keys);
        let key = keys.find(|key| key.id == *id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let aad = Aad::from(scope.bytes());
        let length = key.key.open_in_place(nonce, aad, &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

impl Key {
    fn new(bytes: &[u8; StateKey::BYTES]) -> Result<Self, NotSealed> {
        // Says nothing about the key but whether it is another one.
        let digest = Sha256::new()
            .chain_update(b"thinpipe state key")
            .chain_update(bytes)
            .finalize();
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest[..KEY_ID]);
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| NotSealed)?;
        Ok(Self {
            id,
            key: LessSafeKey::new(key),
        })
    }
}

impl Scope<'_> {
    /// No two scopes have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![match self.kind {
            Kind::State => b's',
            Kind::Cursor => b'c',
            Kind::ServerState => b'm',
        }];
        bytes.extend_from_slice(&(self.upstream.len() as u64).to_be_bytes());
        bytes.extend_from_slice(self.upstream.as_bytes());
        match self.principal {
            Principal::Anonymous => bytes.push(b'a'),
            Principal::Named(name) => {
                bytes.push(b'n');
                bytes.extend_from_slice(name.as_bytes());
            }
        }
        bytes
    }
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seals")
            .field("keys", &self.keys.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seals(keys: &[u8]) -> Seals {
        let keys: Vec<_> = keys.iter().map(|n| StateKey::new([*n; 32])).collect();
        Seals::new(&keys, Random::default()).unwrap()
    }

    fn scope<'a>(upstream: &'a str, principal: &'a Principal) -> Scope<'a> {
        Scope {
            kind: Kind::State,
            upstream,
            principal,
        }
    }

    /// R234: what was changed in any bit, or is not ours, does not open.
    #[test]
    fn r234_what_was_tampered_with_does_not_open() {
        let seals = seals(&[1]);
        let anyone = scope("files", &Principal::Anonymous);
        let sealed = seals.seal(anyone, b"content").unwrap();
        assert_eq!(seals.open(anyone, &sealed).unwrap(), b"content");
        let bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(seals.open(anyone, &changed), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(seals.open(anyone, &sealed[..length]), None, "{length}");
        }
        let long = "A".repeat(MAX_SEALED + 1);
        for other in ["", "v1.k3", "ä", &format!("{sealed}="), &long] {
            assert_eq!(seals.open(anyone, other), None);
        }
    }

    /// R234, 5.9.12: it is good for the principal, the server and the use that it was sealed for.
    #[test]
    fn r234_it_opens_in_its_own_scope_only() {
        let seals = seals(&[1]);
        let named = |name: &str| Principal::Named(name.into());
        let (one, other) = (named("one"), named("other"));
        let own = scope("files", &one);
        let sealed = seals.seal(own, b"x").unwrap();
        assert!(seals.open(own, &sealed).is_some());
        let empty = named("");
        for foreign in [
            scope("files", &other),
            scope("files", &Principal::Anonymous),
            scope("files", &empty),
            scope("file", &named("sone")),
            scope("mail", &one),
            Scope {
                kind: Kind::Cursor,
                ..own
            },
        ] {
            assert_eq!(seals.open(foreign, &sealed), None, "{foreign:?}");
        }
    }

    /// The first key seals, all of them open; what an earlier process drew does not.
    #[test]
    fn keys_can_be_rotated() {
        let anyone = scope("files", &Principal::Anonymous);
        let before = seals(&[1]).seal(anyone, b"x").unwrap();
        let after = seals(&[2, 1]);
        assert!(after.open(anyone, &before).is_some());
        let new = after.seal(anyone, b"x").unwrap();
        assert!(seals(&[2]).open(anyone, &new).is_some());
        assert_eq!(seals(&[1]).open(anyone, &new), None);
        let [drawn, again] = [(); 2].map(|()| Seals::new(&[], Random::default()).unwrap());
        let sealed = drawn.seal(anyone, b"x").unwrap();
        assert!(drawn.open(anyone, &sealed).is_some());
        assert_eq!(again.open(anyone, &sealed), None);
    }

    /// R234: nothing is given out that would not be taken back.
    #[test]
    fn r234_what_is_sealed_opens_however_long() {
        assert_eq!(AES_256_GCM.tag_len(), TAG);
        let seals = seals(&[1]);
        let anyone = scope("files", &Principal::Anonymous);
        for length in [48 << 10, 64 << 10, MAX_CONTENT] {
            let content = vec![b'x'; length];
            let sealed = seals.seal(anyone, &content).unwrap();
            assert_eq!(seals.open(anyone, &sealed).unwrap(), content, "{length}");
        }
        let too_long = vec![b'x'; MAX_CONTENT + 1];
        assert_eq!(seals.seal(anyone, &too_long), Err(NotSealed));
    }

    /// Equal contents are not recognised.
    #[test]
    fn nothing_is_sealed_the_same_way_twice() {
        let seals = seals(&[1]);
        let anyone = scope("files", &Principal::Anonymous);
        let sealed: std::collections::HashSet<_> = (0..100)
            .map(|_| seals.seal(anyone, b"x").unwrap())
            .collect();
        assert_eq!(sealed.len(), 100);
    }
}
