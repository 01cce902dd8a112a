//! Values replaced by JSON pointer.

use std::borrow::Cow;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::{Kind, Message};

use super::config::Wrong;
use super::glob::Glob;
use super::json::{self, Edit, Value};
use super::pointer::Pointer;
use super::subject::{Fit, method_fit, name_fit};
use super::{Action, Direction, Interceptor, Interest, MessageContext, Methods, Way};

/// Replaces values in requests, responses and events. Only the bytes of those values change; order,
/// white space and number text around them stay.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RedactConfig {
    /// What to replace, and where. At least one.
    pub rules: Vec<RedactRule>,
}

/// One value, or several, to replace.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RedactRule {
    /// JSON pointer (RFC 6901) from the root of the message, below `/params`, `/result` or `/error`:
    /// `/params/arguments/password`. A segment `*` stands for every member or element.
    pub pointer: String,
    /// What stands there instead, any JSON value. Default: the string `[redacted]`.
    #[serde(default = "redacted")]
    pub replace: serde_json::Value,
    /// Which way the messages go. Default: both.
    #[serde(default)]
    pub direction: Way,
    /// Methods of the messages (patterns with `*`); a response has the method of its request, and one
    /// whose request is not known any more has every method. Default: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Tools, prompts or resources that the message, or its request, names (patterns with `*`); a
    /// response whose request is not known any more has every name. Default: all, also messages that
    /// name none.
    #[serde(default)]
    pub names: Vec<String>,
}

fn redacted() -> serde_json::Value {
    "[redacted]".into()
}

pub(super) struct Redact {
    rules: Box<[Rule]>,
    interest: Interest,
}

struct Rule {
    pointer: Pointer,
    replace: Box<[u8]>,
    direction: Way,
    methods: Box<[Glob]>,
    names: Box<[Glob]>,
}

impl Redact {
    pub(super) fn new(config: &RedactConfig) -> Result<Self, Wrong> {
        if config.rules.is_empty() {
            return Err(Wrong::new("rules", "there is nothing to replace"));
        }
        let compile = |(index, rule)| Rule::new(&format!("rules[{index}]"), rule);
        let rules = config
            .rules
            .iter()
            .enumerate()
            .map(compile)
            .collect::<Result<_, _>>()?;
        let interest = |direction| {
            let rules = config
                .rules
                .iter()
                .filter(|rule| rule.direction.admits(direction));
            Methods::of_patterns(rules.map(|rule| &*rule.methods))
        };
        Ok(Self {
            rules,
            interest: Interest {
                to_upstream: interest(Direction::ToUpstream),
                to_client: interest(Direction::ToClient),
                ..Interest::default()
            },
        })
    }
}

impl Rule {
    fn new(field: &str, rule: &RedactRule) -> Result<Self, Wrong> {
        let wrong = |reason| Wrong::new(format!("{field}.pointer"), reason);
        let pointer = Pointer::parse(&rule.pointer).map_err(wrong)?;
        if !matches!(pointer.first(), "params" | "result" | "error") || pointer.len() < 2 {
            return Err(wrong(
                "it has to point below /params, /result or /error".into(),
            ));
        }
        Ok(Self {
            pointer,
            replace: rule.replace.to_string().into_bytes().into(),
            direction: rule.direction,
            methods: Glob::parse_all(&format!("{field}.methods"), &rule.methods)?,
            names: Glob::parse_all(&format!("{field}.names"), &rule.names)?,
        })
    }

    fn concerns(&self, cx: &MessageContext, kind: Kind) -> bool {
        // What may be meant is redacted: better once too often than once too few.
        self.direction.admits(cx.direction)
            && self.pointer.first() == payload_of(kind)
            && method_fit(&self.methods, cx, kind) != Fit::No
            && name_fit(&self.names, cx, kind) != Fit::No
    }
}

impl Interceptor for Redact {
    fn name(&self) -> &str {
        "redact"
    }

    fn interest(&self) -> Interest {
        self.interest.clone()
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        let root = Value::root(message.source());
        let mut edits: Vec<Edit<'_>> = Vec::new();
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.concerns(cx, message.kind()))
        {
            let _ = rule.pointer.visit(root, &mut |value| {
                if value.raw() != &*rule.replace {
                    edits.push((value.range(), Cow::Borrowed(&*rule.replace)));
                }
                ControlFlow::Continue(())
            });
        }
        if edits.is_empty() {
            return Action::Continue;
        }
        // Of two values one of which holds the other, the outer one is replaced; of two rules about
        // one value, the first (the sort is stable).
        edits.sort_by_key(|(range, _)| range.start);
        let mut end = 0;
        edits.retain(|(range, _)| {
            let outside = range.start >= end;
            if outside {
                end = range.end;
            }
            outside
        });
        Action::Replace(json::splice(message.source(), &edits))
    }
}

/// The member that holds what a message of this kind is about.
pub(super) fn payload_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Request | Kind::Notification => "params",
        Kind::Response => "result",
        Kind::ErrorResponse => "error",
    }
}
