//! Objects given as JSON text, edited member by member.

use bytes::Bytes;

use crate::rpc::{MessageError, members, text};

/// An object given as JSON text, whose members are taken out, put in and replaced. What nobody touched
/// keeps its text, numbers beyond 2^53 among it (protocol notes 4.6); an object that nobody changed keeps
/// all of it.
///
/// ```
/// use thinpipe_proto::rpc::Object;
///
/// let mut result = Object::parse(&r#"{"ttlMs": 5, "n": 1e400}"#.into())?;
/// result.remove("ttlMs");
/// result.set("done", "true");
/// assert_eq!(result.into_bytes(), r#"{"n":1e400,"done":true}"#);
/// # Ok::<_, thinpipe_proto::rpc::MessageError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Object {
    source: Bytes,
    members: Vec<(String, Bytes)>,
    changed: bool,
}

impl Object {
    /// The object in a text. Its members are slices of the text.
    ///
    /// # Errors
    /// As [`members`].
    pub fn parse(text: &Bytes) -> Result<Self, MessageError> {
        Ok(Self {
            source: text.clone(),
            members: members(text)?,
            changed: false,
        })
    }

    /// An object without members.
    #[must_use]
    pub fn new() -> Self {
        Self {
            source: Bytes::from_static(b"{}"),
            members: Vec::new(),
            changed: false,
        }
    }

    /// A member, as JSON text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        let member = self.members.iter().find(|(member, _)| member == name)?;
        Some(&member.1)
    }

    /// A member that is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Self> {
        // What is none is told by its first byte, and not read.
        let value = self.get(name).filter(|value| is_object(value))?;
        Self::parse(value).ok()
    }

    /// Whether it has this member.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Its members, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.members
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) -> Option<Bytes> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        self.changed = true;
        Some(self.members.remove(at).1)
    }

    /// Keeps the members that `keeps` says so of.
    pub fn retain(&mut self, mut keeps: impl FnMut(&str, &Bytes) -> bool) {
        let before = self.members.len();
        self.members.retain(|(name, value)| keeps(name, value));
        self.changed |= self.members.len() != before;
    }

    /// Puts a member in (`value` is JSON text), in the place of one of its name if there is one.
    pub fn set(&mut self, name: &str, value: impl Into<Bytes>) {
        let value = value.into();
        let known = self.members.iter_mut().find(|(member, _)| member == name);
        match known {
            Some((_, old)) if *old == value => return,
            Some((_, old)) => *old = value,
            None => self.members.push((name.to_owned(), value)),
        }
        self.changed = true;
    }

    /// Puts a member in, unless there is one of its name.
    pub fn set_default(&mut self, name: &str, value: impl Into<Bytes>) {
        if !self.has(name) {
            self.set(name, value);
        }
    }

    /// Whether anything was changed.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// As JSON text: the one it was parsed from, if nothing was changed.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if !self.changed {
            return self.source;
        }
        let length = self.members.iter().map(|(n, v)| n.len() + v.len() + 4);
        let mut out = Vec::with_capacity(2 + length.sum::<usize>());
        out.push(b'{');
        for (index, (name, value)) in self.members.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            text::write_quoted(&mut out, name);
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
        out.into()
    }
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a value, given as valid JSON text, is an object.
pub(crate) fn is_object(value: &[u8]) -> bool {
    value.trim_ascii_start().first() == Some(&b'{')
}
