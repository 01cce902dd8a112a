//! Objects given as JSON text, edited member by member.

use bytes::Bytes;

use crate::rpc::outline::Members;
use crate::rpc::parts::unique_members;
use crate::rpc::scan::Span;
use crate::rpc::{MessageError, text};

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
    /// The object as it came.
    text: Bytes,
    /// What the places of names are in.
    source: Bytes,
    members: Vec<Member>,
    changed: bool,
}

#[derive(Debug, Clone)]
struct Member {
    name: Name,
    value: Bytes,
}

/// What a member is called. Every bridged call passes here, and most names stay as they came.
#[derive(Debug, Clone)]
enum Name {
    /// It stands there in the source, without escapes.
    Written(Span),
    Said(String),
}

impl Name {
    fn text<'a>(&'a self, source: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Written(at) => at.of(source),
            Self::Said(name) => name.as_bytes(),
        }
    }
}

impl Object {
    /// The object in a text. Its members are slices of the text.
    ///
    /// # Errors
    /// As [`members`](crate::rpc::members).
    pub fn parse(text: &Bytes) -> Result<Self, MessageError> {
        let found = unique_members(text)?;
        Ok(Self::with_members(text.clone(), text, &found))
    }

    /// The object in `text` with the members that were found in `source`, of which it is a part.
    pub(super) fn with_members(text: Bytes, source: &Bytes, found: &Members) -> Self {
        let members = found.iter().map(|member| Member {
            name: match member.name.of(source) {
                written if memchr::memchr(b'\\', written).is_some() => {
                    Name::Said(text::unescape(written).into_owned())
                }
                _ => Name::Written(member.name),
            },
            value: source.slice(member.value.range()),
        });
        Self {
            members: members.collect(),
            source: source.clone(),
            text,
            changed: false,
        }
    }

    /// An object without members.
    #[must_use]
    pub fn new() -> Self {
        Self {
            text: Bytes::from_static(b"{}"),
            source: Bytes::new(),
            members: Vec::new(),
            changed: false,
        }
    }

    /// A member, as JSON text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        Some(&self.members.get(self.place_of(name)?)?.value)
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
        let members = self.members.iter();
        members.map(|member| (self.name_of(member), &member.value))
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        let is_it = |member: &Member| member.name.text(&self.source) == name.as_bytes();
        self.members.iter().position(is_it)
    }

    fn name_of<'a>(&'a self, member: &'a Member) -> &'a str {
        // The scanner has seen that it is UTF-8.
        std::str::from_utf8(member.name.text(&self.source)).unwrap_or_default()
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) -> Option<Bytes> {
        let at = self.place_of(name)?;
        self.changed = true;
        Some(self.members.remove(at).value)
    }

    /// Keeps the members that `keeps` says so of.
    pub fn retain(&mut self, mut keeps: impl FnMut(&str, &Bytes) -> bool) {
        let before = self.members.len();
        let source = &self.source;
        self.members.retain(|member| {
            let name = std::str::from_utf8(member.name.text(source)).unwrap_or_default();
            keeps(name, &member.value)
        });
        self.changed |= self.members.len() != before;
    }

    /// Puts a member in (`value` is JSON text), in the place of one of its name if there is one.
    pub fn set(&mut self, name: &str, value: impl Into<Bytes>) {
        let value = value.into();
        match self.place_of(name).and_then(|at| self.members.get_mut(at)) {
            Some(member) if member.value == value => return,
            Some(member) => member.value = value,
            None => self.members.push(Member {
                name: Name::Said(name.to_owned()),
                value,
            }),
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
            return self.text;
        }
        let length = |member: &Member| member.name.text(&self.source).len() + member.value.len();
        let length = self.members.iter().map(|member| length(member) + 4);
        let mut out = Vec::with_capacity(2 + length.sum::<usize>());
        out.push(b'{');
        for (index, Member { name, value }) in self.members.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            match name {
                Name::Written(at) => {
                    out.push(b'"');
                    out.extend_from_slice(at.of(&self.source));
                    out.push(b'"');
                }
                Name::Said(name) => text::write_quoted(&mut out, name),
            }
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
