//! Editing by splicing: what nobody changed keeps its bytes.

use std::sync::Arc;

use bytes::Bytes;

use crate::rpc::outline::{Member, Members};
use crate::rpc::scan::Span;
use crate::rpc::{Kind, Message, RequestId, text};

impl Message {
    /// The message with another id; no other byte changes. A notification has none and stays as it
    /// is; an error response without an id gets one.
    #[must_use]
    pub fn with_id(&self, id: &RequestId) -> Bytes {
        let outline = self.outline();
        match outline.id_at {
            Some(at) => self.replaced(at, &[id.as_json()]),
            None if outline.kind == Kind::Notification => self.source().clone(),
            None => self.replaced(before_end(outline.object), &[b",\"id\":", id.as_json()]),
        }
    }

    /// As [`Self::with_id`], and with another value (JSON text) of a member of `params._meta`. A member
    /// that is not there stays away.
    #[must_use]
    pub fn with_id_and_meta(&self, id: &RequestId, name: &str, value: &[u8]) -> Bytes {
        let (Some(id_at), Some(meta_at)) = (self.outline().id_at, self.meta_at(name)) else {
            return self.with_id(id);
        };
        // The later part first, so that the place of the other one stays right.
        let (first, second) = if id_at.start < meta_at.start {
            ((id_at, id.as_json()), (meta_at, value))
        } else {
            ((meta_at, value), (id_at, id.as_json()))
        };
        let half = self.replaced(second.0, &[second.1]);
        replace(&half, first.0, &[first.1])
    }

    /// The message with other `params` (JSON text; must be an object); no other byte changes.
    #[must_use]
    pub fn with_params(&self, params: &[u8]) -> Bytes {
        let outline = self.outline();
        match outline.params {
            Some(at) => self.replaced(at, &[params]),
            None => self.replaced(before_end(outline.object), &[b",\"params\":", params]),
        }
    }

    /// The message with another value (JSON text) of a member of `params`; no other byte changes. `None`: there is no
    /// such member, or it is `_meta`, or the message would be longer than 4 GiB.
    #[must_use]
    pub fn with_param(&self, name: &str, value: &[u8]) -> Option<Self> {
        let at = self.param_at(name).filter(|_| name != "_meta")?;
        let source = self.replaced(at, &[value]);
        // Then all places in it are right, too.
        u32::try_from(source.len()).ok()?;
        let length = u32::try_from(value.len()).ok()?;
        let outline = if source.len() == self.source().len() {
            // Ids and tokens are numbers of a few digits, mostly: then nothing has moved.
            Arc::clone(&self.outline)
        } else {
            Arc::new(self.outline().with_param(at, length))
        };
        Some(Self { source, outline })
    }

    /// The message with one member of `params._meta` set (`value` is JSON text) or removed; no other
    /// byte changes. `params` and `_meta` are made where they are missing, and a `_meta` that is not
    /// an object is replaced by one. A removed member takes a comma next to it along.
    #[must_use]
    pub fn with_meta(&self, name: &str, value: Option<&[u8]>) -> Bytes {
        let outline = self.outline();
        let source = self.source();
        let members = &outline.meta_members;
        let index = members.index_of(source, name.as_bytes());
        let Some(value) = value else {
            return match index {
                Some(index) => self.replaced(removal(members, index), &[]),
                None => source.clone(),
            };
        };
        if let Some(member) = index.and_then(|index| members.iter().nth(index)) {
            return self.replaced(member.value, &[value]);
        }
        let mut quoted = Vec::with_capacity(name.len() + 2);
        text::write_quoted(&mut quoted, name);
        let meta = outline
            .param_members
            .find(source, b"_meta")
            .map(|member| member.value);
        match (outline.params, meta) {
            (_, Some(meta)) if meta.of(source).first() == Some(&b'{') => {
                self.replaced(before_end(meta), &[comma(members), &quoted, b":", value])
            }
            (_, Some(meta)) => self.replaced(meta, &[b"{", &quoted, b":", value, b"}"]),
            (Some(params), None) => {
                let comma = comma(&outline.param_members);
                let parts = [comma, b"\"_meta\":{", &quoted, b":", value, b"}"];
                self.replaced(before_end(params), &parts)
            }
            (None, None) => {
                let parts = [
                    b",\"params\":{\"_meta\":{",
                    quoted.as_slice(),
                    b":",
                    value,
                    b"}}",
                ];
                self.replaced(before_end(outline.object), &parts)
            }
        }
    }

    /// A response with another `result` (JSON text); no other byte changes. What has no result stays
    /// as it is.
    #[must_use]
    pub fn with_result(&self, result: &[u8]) -> Bytes {
        match self.outline().result {
            Some(at) => self.replaced(at, &[result]),
            None => self.source().clone(),
        }
    }

    fn replaced(&self, at: Span, parts: &[&[u8]]) -> Bytes {
        replace(self.source(), at, parts)
    }
}

/// The empty place before the closing brace of an object.
fn before_end(object: Span) -> Span {
    let end = object.end.saturating_sub(1);
    Span { start: end, end }
}

fn comma(members: &Members) -> &'static [u8] {
    if members.len() == 0 { b"" } else { b"," }
}

/// What to cut for one member to go: the member, and the comma before or behind it.
fn removal(members: &Members, index: usize) -> Span {
    let nth = |index| members.iter().nth(index).copied().unwrap_or_default();
    let start = |member: Member| member.name.start.saturating_sub(1);
    let member = nth(index);
    if index > 0 {
        Span {
            start: nth(index - 1).value.end,
            end: member.value.end,
        }
    } else if members.len() > 1 {
        Span {
            start: start(member),
            end: start(nth(1)),
        }
    } else {
        Span {
            start: start(member),
            end: member.value.end,
        }
    }
}

pub(super) fn replace(source: &[u8], at: Span, parts: &[&[u8]]) -> Bytes {
    let (before, after) = (&source[..at.start as usize], &source[at.end as usize..]);
    let length = before.len() + parts.iter().map(|part| part.len()).sum::<usize>() + after.len();
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(before);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(after);
    Bytes::from(out)
}
