//! One pass over a message: validates it, finds its parts, refuses duplicate members.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::rpc::scan::{Fault, Refused, Scan, Scanner, Span, Text};
use crate::rpc::{Kind, MessageError, RequestId, code, text};

/// The most members that the message object, `params` and `_meta` may have, each. It bounds the
/// memory an outline takes.
pub(super) const MAX_MEMBERS: usize = 65_536;

/// Members kept without an allocation of their own; more than known methods have.
const INLINE: usize = 6;

const TWICE_IN_MESSAGE: &str = "a member of the message is there twice";

/// Where the parts of a message lie in its text.
#[derive(Debug, Clone, Default)]
pub(super) struct Outline {
    pub(super) kind: Kind,
    pub(super) id: Option<RequestId>,
    /// Also set if the id is `null`.
    pub(super) id_at: Option<Span>,
    /// The string, quotes included.
    pub(super) method: Option<Span>,
    /// The method as text, if it is a well-known one or was written with escapes.
    pub(super) method_text: Option<Cow<'static, str>>,
    pub(super) params: Option<Span>,
    pub(super) param_members: Members,
    pub(super) meta_members: Members,
    pub(super) result: Option<Span>,
    pub(super) error: Option<Span>,
    /// The whole message, white space around it excluded.
    pub(super) object: Span,
}

/// A member of an object.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Member {
    /// Content of the name, quotes excluded.
    pub(super) name: Span,
    pub(super) value: Span,
}

/// The members of one object, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    first: [Member; INLINE],
    rest: Vec<Member>,
    count: usize,
    /// Some name was written with escapes.
    escaped: bool,
}

impl Outline {
    /// That of the same message with another value of this length at `at`, which is that of a member of `params`
    /// other than `_meta`.
    pub(super) fn with_param(&self, at: Span, length: u32) -> Self {
        let mut outline = self.clone();
        let members = outline.param_members.iter_mut();
        let members = members.chain(outline.meta_members.iter_mut());
        let parts = [
            &mut outline.id_at,
            &mut outline.method,
            &mut outline.params,
            &mut outline.result,
            &mut outline.error,
        ];
        let parts = parts.into_iter().flatten();
        let parts = parts.chain(members.flat_map(|member| [&mut member.name, &mut member.value]));
        for part in parts.chain([&mut outline.object]) {
            *part = part.moved(at, length);
        }
        outline
    }
}

impl Members {
    /// Adds the members of the object under the cursor, which must be a brace; `depth` counts it.
    pub(super) fn scan(&mut self, scanner: &mut Scanner<'_>, depth: u32) -> Scan<()> {
        scanner.object(|scanner, name| {
            let value = scanner.value(depth)?;
            self.push(scanner, name, value)
        })
    }

    #[inline]
    fn push(&mut self, scanner: &mut Scanner<'_>, name: Text, value: Span) -> Scan<()> {
        let member = Member {
            name: name.span,
            value,
        };
        self.escaped |= name.escaped;
        match self.first.get_mut(self.count) {
            Some(slot) => *slot = member,
            None if self.count < MAX_MEMBERS => self.rest.push(member),
            None => return Err(scanner.refuse_over_limit("an object of more than 65536 members")),
        }
        self.count += 1;
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.first.iter().take(self.count).chain(&self.rest)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.first.iter_mut().take(self.count).chain(&mut self.rest)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn find(&self, source: &[u8], name: &[u8]) -> Option<&Member> {
        self.iter()
            .find(|member| self.is_named(member.name.of(source), name))
    }

    pub(super) fn index_of(&self, source: &[u8], name: &[u8]) -> Option<usize> {
        self.iter()
            .position(|member| self.is_named(member.name.of(source), name))
    }

    pub(super) fn is_named(&self, written: &[u8], name: &[u8]) -> bool {
        written == name
            || self.escaped
                && memchr::memchr(b'\\', written).is_some()
                && text::decoded(written).eq(name.iter().copied())
    }

    /// Whether two members have the same name, escapes resolved.
    pub(super) fn has_duplicates(&self, source: &[u8]) -> bool {
        let name = |member: &Member| member.name.of(source);
        // Each pair of a few, the sorted names of many: no number of members makes it slow.
        if let Some(few) = self.first.get(..self.count) {
            let same = |a: &Member, b: &Member| {
                name(a) == name(b)
                    || self.escaped && text::compare(name(a), name(b)) == Ordering::Equal
            };
            return (1..few.len()).any(|n| few[..n].iter().any(|other| same(&few[n], other)));
        }
        let mut names: Vec<Span> = self.iter().map(|member| member.name).collect();
        let compare = |a: &Span, b: &Span| text::compare(a.of(source), b.of(source));
        names.sort_unstable_by(compare);
        names
            .windows(2)
            .any(|pair| compare(&pair[0], &pair[1]) == Ordering::Equal)
    }
}

/// The method in this string, quotes included, if it is one that clients and servers use all the time:
/// then its text need not be checked each time somebody asks for it.
fn method_known(written: &[u8]) -> Option<&'static str> {
    let [b'"', name @ .., b'"'] = written else {
        return None;
    };
    let known = match name {
        b"ping" => "ping",
        b"initialize" => "initialize",
        b"tools/list" => "tools/list",
        b"tools/call" => "tools/call",
        b"prompts/get" => "prompts/get",
        b"prompts/list" => "prompts/list",
        b"resources/list" => "resources/list",
        b"resources/read" => "resources/read",
        b"server/discover" => "server/discover",
        b"completion/complete" => "completion/complete",
        b"elicitation/create" => "elicitation/create",
        b"sampling/createMessage" => "sampling/createMessage",
        b"subscriptions/listen" => "subscriptions/listen",
        b"notifications/message" => "notifications/message",
        b"notifications/progress" => "notifications/progress",
        b"notifications/initialized" => "notifications/initialized",
        _ => return None,
    };
    Some(known)
}

/// What the pass notes beside the outline.
#[derive(Debug, Default)]
struct Notes {
    version: Option<Span>,
    /// Members with other names.
    others: Members,
    id_named_twice: bool,
    refused: Option<&'static str>,
}

impl Outline {
    /// Outlines the message under the cursor, which must be on a value inside `depth` open
    /// containers, and moves behind it.
    ///
    /// Filled in from a scanner, as an outline is too large to be handed about for every message.
    pub(super) fn scan(
        &mut self,
        scanner: &mut Scanner<'_>,
        depth: u32,
    ) -> Result<(), MessageError> {
        let start = scanner.position();
        if scanner.peek() != Some(b'{') {
            return match scanner.value(depth) {
                Ok(_) => Err(MessageError::invalid("a message is a JSON object", None)),
                Err(Refused) => Err(MessageError::from_fault(scanner.fault(), None)),
            };
        }
        let mut notes = Notes::default();
        let walked =
            scanner.object(|scanner, name| self.member(&mut notes, scanner, name, depth + 1));
        let source = scanner.text();
        if walked.is_err() {
            let id = self.answerable_id(&notes, source);
            return Err(MessageError::from_fault(scanner.fault(), id));
        }
        self.object = Span::new(start, scanner.position());
        self.finish(&mut notes, source)
            .map_err(|reason| MessageError::invalid(reason, self.answerable_id(&notes, source)))
    }

    /// The id to answer with, should the message be refused after all.
    pub(super) fn request_id(&self) -> Option<RequestId> {
        if self.kind.is_response() {
            None
        } else {
            self.id.clone()
        }
    }

    #[inline]
    fn member(
        &mut self,
        notes: &mut Notes,
        scanner: &mut Scanner<'_>,
        name: Text,
        depth: u32,
    ) -> Scan<()> {
        let written = name.span.of(scanner.text());
        let decoded: Vec<u8>;
        let plain = if name.escaped {
            decoded = text::decoded(written).collect();
            decoded.as_slice()
        } else {
            written
        };
        if plain == b"params" {
            let value = self.params_value(notes, scanner, depth)?;
            if self.params.replace(value).is_some() {
                notes.refuse(TWICE_IN_MESSAGE);
            }
            return Ok(());
        }
        let value = scanner.value(depth)?;
        let slot = match plain {
            b"jsonrpc" => &mut notes.version,
            b"id" => &mut self.id_at,
            b"method" => &mut self.method,
            b"result" => &mut self.result,
            b"error" => &mut self.error,
            _ => return notes.others.push(scanner, name, value),
        };
        if slot.replace(value).is_some() {
            notes.id_named_twice |= plain == b"id";
            notes.refuse(TWICE_IN_MESSAGE);
        }
        Ok(())
    }

    /// Walks `params` and the `_meta` in it, whose members are looked up and must be unique.
    #[inline]
    fn params_value(
        &mut self,
        notes: &mut Notes,
        scanner: &mut Scanner<'_>,
        depth: u32,
    ) -> Scan<Span> {
        let start = scanner.position();
        if scanner.peek() != Some(b'{') {
            notes.refuse("\"params\" is not an object");
            return scanner.value(depth);
        }
        let (params, meta) = (&mut self.param_members, &mut self.meta_members);
        scanner.object(|scanner, name| {
            let written = name.span.of(scanner.text());
            let is_meta = written == b"_meta" || name.escaped && text::unescape(written) == "_meta";
            let value = if is_meta && scanner.peek() == Some(b'{') {
                let start = scanner.position();
                meta.scan(scanner, depth + 2)?;
                Span::new(start, scanner.position())
            } else {
                scanner.value(depth + 1)?
            };
            params.push(scanner, name, value)
        })?;
        let source = scanner.text();
        if params.has_duplicates(source) {
            notes.refuse("a member of \"params\" is there twice");
        } else if meta.has_duplicates(source) {
            notes.refuse("a member of \"_meta\" is there twice");
        }
        Ok(Span::new(start, scanner.position()))
    }

    fn finish(&mut self, notes: &mut Notes, source: &[u8]) -> Result<(), &'static str> {
        if notes.others.has_duplicates(source) {
            notes.refuse(TWICE_IN_MESSAGE);
        }
        self.id = self
            .id_at
            .and_then(|at| RequestId::from_valid(at.of(source)));
        self.kind = self.shape(notes, source)?;
        let method = self.method.map(|at| at.of(source)).unwrap_or_default();
        self.method_text = match method_known(method) {
            Some(known) => Some(Cow::Borrowed(known)),
            None if memchr::memchr(b'\\', method).is_some() => {
                text::string_of(method).map(|decoded| Cow::Owned(decoded.into()))
            }
            None => None,
        };
        Ok(())
    }

    fn shape(&self, notes: &Notes, source: &[u8]) -> Result<Kind, &'static str> {
        if let Some(reason) = notes.refused {
            return Err(reason);
        }
        let version = notes.version.map(|at| at.of(source)).unwrap_or_default();
        if version != b"\"2.0\"" && text::string_of(version).as_deref() != Some("2.0") {
            return Err("\"jsonrpc\" must be \"2.0\"");
        }
        if let Some(at) = self.id_at
            && self.id.is_none()
            && !(self.error.is_some() && at.of(source) == b"null")
        {
            return Err("an id is a string or an integer");
        }
        match (self.method, self.result, self.error) {
            (Some(method), None, None) => {
                if method.of(source).first() != Some(&b'"') {
                    return Err("\"method\" is not a string");
                }
                if self.id.is_some() {
                    Ok(Kind::Request)
                } else {
                    Ok(Kind::Notification)
                }
            }
            (None, Some(_), None) if self.id.is_none() => Err("a response without an id"),
            (None, Some(_), None) => Ok(Kind::Response),
            (None, None, Some(error)) if error.of(source).first() != Some(&b'{') => {
                Err("\"error\" is not an object")
            }
            (None, None, Some(_)) => Ok(Kind::ErrorResponse),
            (None, None, None) => Err("none of \"method\", \"result\" and \"error\" is there"),
            (Some(_), _, _) => Err("a request that carries an answer"),
            (None, _, _) => Err("both \"result\" and \"error\" are there"),
        }
    }

    /// The id to answer a refused message with. A response's id names a request of the other side,
    /// and an error that carried it back would be taken for the answer to something else.
    fn answerable_id(&self, notes: &Notes, source: &[u8]) -> Option<RequestId> {
        let answers = self.method.is_none() && (self.result.is_some() || self.error.is_some());
        if answers || notes.id_named_twice {
            return None;
        }
        RequestId::from_valid(self.id_at?.of(source))
    }
}

impl Notes {
    /// Notes what is wrong, and lets the pass go on: text that is not JSON at all is the graver
    /// fault, and the id may still come. The first finding is reported.
    fn refuse(&mut self, what: &'static str) {
        self.refused.get_or_insert(what);
    }
}

impl MessageError {
    pub(super) fn invalid(reason: &str, id: Option<RequestId>) -> Self {
        Self {
            code: code::INVALID_REQUEST,
            reason: reason.to_owned(),
            id,
        }
    }

    pub(super) fn from_fault(fault: Fault, id: Option<RequestId>) -> Self {
        let Fault { at, what, limit } = fault;
        if limit {
            let reason = format!("{what} (byte {at})");
            return Self {
                code: code::INVALID_REQUEST,
                reason,
                id,
            };
        }
        Self {
            code: code::PARSE_ERROR,
            reason: format!("not JSON: {what} (byte {at})"),
            id,
        }
    }
}
