//! Conditions on a message and its context.

use serde::{Deserialize, Serialize};
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Kind, Message};
use thinpipe_proto::session::Principal;

use crate::interceptor::config::Wrong;
use crate::interceptor::glob::{self, Glob};
use crate::interceptor::json::Value;
use crate::interceptor::pointer::Pointer;
use crate::interceptor::subject::{Fit, method_fit, name_fit};
use crate::interceptor::{Direction, MessageContext, Way};

/// A condition: everything that is given must hold. Without anything it always holds.
///
/// In patterns, `*` stands for any run of characters. A list holds if one of its patterns fits.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// Which way the message goes.
    pub direction: Way,
    /// What kind of message it is. Default: any.
    pub kinds: Vec<MessageKind>,
    /// Its method (patterns); a response has the method of its request. Default: any.
    pub methods: Vec<String>,
    /// The tool, prompt or resource that it, or its request, names (patterns). Default: any or none.
    pub names: Vec<String>,
    /// The name of the client (patterns). Default: any or none.
    pub principals: Vec<String>,
    /// Whether the client is authenticated. Default: does not matter.
    pub authenticated: Option<bool>,
    /// Whether it belongs to a session. Default: does not matter.
    pub session: Option<bool>,
    /// Protocol revisions: `2025-11-25`. Default: any.
    pub revisions: Vec<String>,
    /// Values in `params`; all must hold. Messages without `params` do not fit.
    pub params: Vec<Test>,
    /// Values in `result`; all must hold. Messages without `result` do not fit.
    pub result: Vec<Test>,
    /// Conditions that must all hold.
    pub all: Vec<Self>,
    /// Conditions of which one must hold.
    pub any: Vec<Self>,
    /// A condition that must not hold.
    pub not: Option<Box<Self>>,
}

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// A request.
    Request,
    /// A notification.
    Notification,
    /// A response with a result.
    Response,
    /// A response with an error.
    Error,
}

/// A test of the values at one place; it holds if it holds for one of them. Exactly one of `exists`,
/// `equals` and `matches` is given.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// JSON pointer, from `params` or `result`: `/arguments/path`. A segment `*` stands for every
    /// member or element.
    pub pointer: String,
    /// Whether there is such a value.
    #[serde(default)]
    pub exists: Option<bool>,
    /// The value; numbers are compared as numbers.
    #[serde(default)]
    pub equals: Option<serde_json::Value>,
    /// A pattern for a string's text, or for the JSON text of anything else.
    #[serde(default)]
    pub matches: Option<String>,
}

impl Condition {
    /// Whether it can hold for messages that go this way.
    pub(super) fn admits(&self, direction: Direction) -> bool {
        self.direction.admits(direction)
    }
}

/// What conditions are asked about.
pub(super) struct Subject<'a> {
    cx: &'a MessageContext,
    kind: Kind,
    root: Value<'a>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(cx: &'a MessageContext, message: &'a Message) -> Self {
        Self {
            cx,
            kind: message.kind(),
            root: Value::root(message.source()),
        }
    }
}

/// A condition, taken apart once: all of these must hold. Asking allocates nothing, unless a test
/// compares whole objects or arrays, or meets strings with escapes.
pub(super) struct Checks(Box<[Check]>);

enum Check {
    Direction(Way),
    Kinds(Box<[MessageKind]>),
    Methods(Box<[Glob]>),
    Names(Box<[Glob]>),
    Principals(Box<[Glob]>),
    Authenticated(bool),
    Session(bool),
    Revisions(Box<[Revision]>),
    Payload {
        member: &'static str,
        pointer: Pointer,
        expected: Expected,
    },
    All(Box<[Checks]>),
    Any(Box<[Checks]>),
    Not(Checks),
}

enum Expected {
    Exists,
    Absent,
    Equals(serde_json::Value),
    Matches(Glob),
}

impl Checks {
    pub(super) fn compile(field: &str, condition: &Condition) -> Result<Self, Wrong> {
        fit_together(field, condition)?;
        let mut checks = Vec::new();
        if condition.direction != Way::Both {
            checks.push(Check::Direction(condition.direction));
        }
        if !condition.kinds.is_empty() {
            checks.push(Check::Kinds(condition.kinds.clone().into()));
        }
        for (name, patterns, check) in [
            ("methods", &condition.methods, Check::Methods as fn(_) -> _),
            ("names", &condition.names, Check::Names),
            ("principals", &condition.principals, Check::Principals),
        ] {
            if !patterns.is_empty() {
                checks.push(check(Glob::parse_all(
                    &format!("{field}.{name}"),
                    patterns,
                )?));
            }
        }
        checks.extend(condition.authenticated.map(Check::Authenticated));
        checks.extend(condition.session.map(Check::Session));
        if !condition.revisions.is_empty() {
            checks.push(Check::Revisions(revisions(field, condition)?));
        }
        for (member, tests) in [("params", &condition.params), ("result", &condition.result)] {
            for (index, test) in tests.iter().enumerate() {
                checks.push(test.compile(&format!("{field}.{member}[{index}]"), member)?);
            }
        }
        for (name, conditions, check) in [
            ("all", &condition.all, Check::All as fn(_) -> _),
            ("any", &condition.any, Check::Any),
        ] {
            let each =
                |(index, condition)| Self::compile(&format!("{field}.{name}[{index}]"), condition);
            if !conditions.is_empty() {
                checks.push(check(
                    conditions
                        .iter()
                        .enumerate()
                        .map(each)
                        .collect::<Result<_, _>>()?,
                ));
            }
        }
        if let Some(not) = &condition.not {
            checks.push(Check::Not(Self::compile(&format!("{field}.not"), not)?));
        }
        Ok(Self(checks.into()))
    }

    /// Whether all hold; `Maybe` if that hangs on a request that is not known (any more).
    pub(super) fn fit(&self, subject: &Subject<'_>) -> Fit {
        all(self.0.iter().map(|check| check.fit(subject)))
    }
}

impl Check {
    fn fit(&self, subject: &Subject<'_>) -> Fit {
        let cx = subject.cx;
        match self {
            Self::Direction(way) => way.admits(cx.direction).into(),
            Self::Kinds(kinds) => kinds.iter().any(|kind| kind.is(subject.kind)).into(),
            Self::Methods(globs) => method_fit(globs, cx, subject.kind),
            Self::Names(globs) => name_fit(globs, cx, subject.kind),
            Self::Principals(globs) => match &cx.principal {
                Principal::Anonymous => Fit::No,
                Principal::Named(name) => glob::any(globs, name).into(),
            },
            Self::Authenticated(wanted) => {
                ((cx.principal != Principal::Anonymous) == *wanted).into()
            }
            Self::Session(wanted) => (cx.session.is_some() == *wanted).into(),
            Self::Revisions(revisions) => revisions.contains(&cx.revision).into(),
            Self::Payload {
                member,
                pointer,
                expected,
            } => {
                let mut payloads = subject.root.all(member);
                payloads
                    .any(|payload| expected.holds(pointer, payload))
                    .into()
            }
            Self::All(checks) => all(checks.iter().map(|checks| checks.fit(subject))),
            Self::Any(checks) => {
                let fits = checks.iter().map(|checks| checks.fit(subject));
                fits.max().unwrap_or(Fit::No)
            }
            Self::Not(checks) => checks.fit(subject).not(),
        }
    }
}

/// The least of all, as far as it has to be asked for.
fn all(mut fits: impl Iterator<Item = Fit>) -> Fit {
    let mut least = Fit::Yes;
    while least != Fit::No
        && let Some(fit) = fits.next()
    {
        least = least.min(fit);
    }
    least
}

impl Expected {
    fn holds(&self, pointer: &Pointer, payload: Value<'_>) -> bool {
        match self {
            Self::Exists => pointer.any(payload, |_| true),
            Self::Absent => !pointer.any(payload, |_| true),
            Self::Equals(expected) => pointer.any(payload, |value| equals(value, expected)),
            Self::Matches(glob) => pointer.any(payload, |value| glob.matches_value(value)),
        }
    }
}

impl Test {
    fn compile(&self, field: &str, member: &'static str) -> Result<Check, Wrong> {
        let wrong = |name: &str| {
            let field = format!("{field}.{name}");
            move |reason| Wrong::new(field, reason)
        };
        let expected = match (self.exists, &self.equals, &self.matches) {
            (Some(true), None, None) => Expected::Exists,
            (Some(false), None, None) => Expected::Absent,
            (None, Some(value), None) => Expected::Equals(value.clone()),
            (None, None, Some(pattern)) => {
                Expected::Matches(Glob::parse(pattern).map_err(wrong("matches"))?)
            }
            _ => return Err(Wrong::new(field, "give one of exists, equals and matches")),
        };
        Ok(Check::Payload {
            member,
            pointer: Pointer::parse(&self.pointer).map_err(wrong("pointer"))?,
            expected,
        })
    }
}

impl MessageKind {
    fn is(self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Request, Kind::Request)
                | (Self::Notification, Kind::Notification)
                | (Self::Response, Kind::Response)
                | (Self::Error, Kind::ErrorResponse)
        )
    }
}

/// Refuses conditions that can never hold.
fn fit_together(field: &str, condition: &Condition) -> Result<(), Wrong> {
    let kinds = &condition.kinds;
    let lacks = |wanted: &[MessageKind]| {
        !kinds.is_empty() && !kinds.iter().any(|kind| wanted.contains(kind))
    };
    if !condition.result.is_empty() && lacks(&[MessageKind::Response]) {
        return Err(Wrong::new(
            format!("{field}.result"),
            "only responses have a result",
        ));
    }
    if !condition.params.is_empty() && lacks(&[MessageKind::Request, MessageKind::Notification]) {
        let reason = "only requests and notifications have params";
        return Err(Wrong::new(format!("{field}.params"), reason));
    }
    if !condition.params.is_empty() && !condition.result.is_empty() {
        let reason = "no message has both params and a result";
        return Err(Wrong::new(format!("{field}.result"), reason));
    }
    if condition.authenticated == Some(false) && !condition.principals.is_empty() {
        let reason = "a client that is not authenticated has no name";
        return Err(Wrong::new(format!("{field}.principals"), reason));
    }
    if condition.session == Some(true)
        && !condition.revisions.is_empty()
        && revisions(field, condition)?
            .iter()
            .all(|revision| revision.is_modern())
    {
        let reason = "there are no sessions in these revisions";
        return Err(Wrong::new(format!("{field}.session"), reason));
    }
    Ok(())
}

fn revisions(field: &str, condition: &Condition) -> Result<Box<[Revision]>, Wrong> {
    let parse = |(index, text): (usize, &String)| {
        Revision::from_bytes(text.as_bytes()).ok_or_else(|| {
            let known: Vec<_> = Revision::ALL
                .iter()
                .map(|revision| revision.as_str())
                .collect();
            let reason = format!("unknown revision; known are {}", known.join(", "));
            Wrong::new(format!("{field}.revisions[{index}]"), reason)
        })
    };
    condition.revisions.iter().enumerate().map(parse).collect()
}

fn equals(value: Value<'_>, expected: &serde_json::Value) -> bool {
    use serde_json::Value as Json;
    match expected {
        Json::String(expected) => value.string().is_some_and(|text| text == **expected),
        Json::Bool(true) => value.raw() == b"true",
        Json::Bool(false) => value.raw() == b"false",
        Json::Null => value.raw() == b"null",
        Json::Number(expected) => match serde_json::from_slice::<serde_json::Number>(value.raw()) {
            Ok(number) if number == *expected => true,
            // 42 and 42.0 are the same number; beyond 2^53 only equal integers are.
            Ok(number) if number.is_f64() || expected.is_f64() => {
                number.as_f64() == expected.as_f64()
            }
            _ => false,
        },
        Json::Array(_) | Json::Object(_) => {
            serde_json::from_slice::<Json>(value.raw()).is_ok_and(|value| value == *expected)
        }
    }
}
