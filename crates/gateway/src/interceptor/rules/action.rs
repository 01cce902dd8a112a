//! What a rule does when it holds.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::{Message, code};
use tokio::time;

use super::RuleConfig;
use crate::interceptor::config::Wrong;
use crate::interceptor::json::{self, Edit, Value};
use crate::interceptor::pointer::Pointer;
use crate::interceptor::{Action, ChainConfig, Rejection};

/// One thing a rule does.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RuleAction {
    /// The message goes on.
    Continue,
    /// It goes no further.
    Reject {
        /// JSON-RPC error code. Default: -32600.
        #[serde(default = "invalid_request")]
        code: i32,
        /// Text of the error. Default: `Refused by a rule`.
        #[serde(default = "refused")]
        message: String,
    },
    /// It is held.
    Delay {
        /// For how long, in milliseconds; all delays of a rule together have to be less than the
        /// chain's `timeout_ms`.
        ms: u64,
    },
    /// A value in it is replaced or added; every other byte stays.
    Set {
        /// JSON pointer from the root of the message, below `/params` or `/result`, without `*`. A
        /// member that is not there is added, if the object that would hold it is there; where
        /// nothing can be set, the message goes on as it is.
        pointer: String,
        /// The value, any JSON.
        value: serde_json::Value,
    },
}

fn invalid_request() -> i32 {
    code::INVALID_REQUEST
}

fn refused() -> String {
    "Refused by a rule".into()
}

/// The actions of a rule, taken apart once.
pub(super) struct Plan {
    sets: Box<[Set]>,
    delay: Duration,
    reject: Option<Rejection>,
}

struct Set {
    pointer: Pointer,
    value: Box<[u8]>,
}

impl Plan {
    pub(super) fn compile(
        field: &str,
        rule: &RuleConfig,
        settings: &ChainConfig,
    ) -> Result<Self, Wrong> {
        let Some(last) = rule.then.len().checked_sub(1) else {
            return Err(Wrong::new(
                field,
                "nothing is done; give at least [\"continue\"]",
            ));
        };
        let mut sets = Vec::new();
        let mut delay = 0u64;
        let mut reject = None;
        for (index, action) in rule.then.iter().enumerate() {
            let field = format!("{field}[{index}]");
            match action {
                RuleAction::Continue | RuleAction::Reject { .. } if index < last => {
                    return Err(Wrong::new(field, "what comes after it is never done"));
                }
                RuleAction::Continue => {}
                RuleAction::Reject { code, message } => {
                    reject = Some(Rejection {
                        code: *code,
                        message: message.clone(),
                        reason: match &*rule.name {
                            "" => "rule".into(),
                            name => name.into(),
                        },
                    });
                }
                RuleAction::Delay { ms } => {
                    delay = delay.saturating_add(*ms);
                    if delay >= settings.timeout_ms {
                        let reason = format!(
                            "the rule's delays have to be less than the chain's timeout_ms, which is {}",
                            settings.timeout_ms
                        );
                        return Err(Wrong::new(format!("{field}.delay.ms"), reason));
                    }
                }
                RuleAction::Set { pointer, value } => {
                    sets.push(Set::compile(
                        &format!("{field}.set.pointer"),
                        pointer,
                        value,
                    )?);
                }
            }
        }
        if reject.is_some() && !sets.is_empty() {
            return Err(Wrong::new(field, "a message that is rejected needs no set"));
        }
        Ok(Self {
            sets: sets.into(),
            delay: Duration::from_millis(delay),
            reject,
        })
    }

    pub(super) fn rejects(&self) -> bool {
        self.reject.is_some()
    }

    /// Does what one plan says, or several in order; of these, the longest delay counts.
    pub(super) fn carry_out<'a>(
        plans: impl Iterator<Item = &'a Self>,
        message: &Message,
    ) -> Action {
        let mut changed: Option<Bytes> = None;
        let mut rejection = None;
        let mut delay = Duration::ZERO;
        for plan in plans {
            for set in &plan.sets {
                let next = set.apply(changed.as_ref().unwrap_or_else(|| message.source()));
                changed = next.or(changed);
            }
            rejection = plan.reject.as_ref();
            delay = delay.max(plan.delay);
        }
        let action = match rejection {
            Some(rejection) => Action::Reject(rejection.clone()),
            None => changed.map_or(Action::Continue, Action::Replace),
        };
        if delay.is_zero() {
            return action;
        }
        Action::Later(Box::pin(async move {
            time::sleep(delay).await;
            action
        }))
    }
}

impl Set {
    fn compile(field: &str, pointer: &str, value: &serde_json::Value) -> Result<Self, Wrong> {
        let wrong = |reason: &str| Wrong::new(field, reason);
        let pointer = Pointer::parse(pointer).map_err(|reason| wrong(&reason))?;
        if !matches!(pointer.first(), "params" | "result") || pointer.len() < 2 {
            return Err(wrong("it has to point below /params or /result"));
        }
        if pointer.has_wildcard() {
            return Err(wrong("a * has no one place"));
        }
        Ok(Self {
            pointer,
            value: value.to_string().into_bytes().into(),
        })
    }

    /// The text with the value in its place; `None` if that changes nothing.
    fn apply(&self, text: &[u8]) -> Option<Bytes> {
        let root = Value::root(text);
        let mut edits: Vec<Edit<'_>> = Vec::new();
        let mut found = false;
        let _ = self.pointer.visit(root, &mut |value| {
            found = true;
            if value.raw() != &*self.value {
                edits.push((value.range(), Cow::Borrowed(&*self.value)));
            }
            ControlFlow::Continue(())
        });
        if !found {
            let (holder, name) = self.pointer.parent()?;
            let _ = holder.visit(root, &mut |object| {
                edits.extend(self.added(object, name));
                ControlFlow::Break(())
            });
        }
        (!edits.is_empty()).then(|| json::splice(text, &edits))
    }

    /// The member as the last one of an object.
    fn added<'a>(&self, object: Value<'_>, name: &str) -> Option<Edit<'a>> {
        let end = object.range().end.checked_sub(1)?;
        if !object.is_object() {
            return None;
        }
        let mut member = Vec::new();
        if object.members().next().is_some() {
            member.push(b',');
        }
        member.extend_from_slice(&json::quoted(name));
        member.push(b':');
        member.extend_from_slice(&self.value);
        Some((end..end, Cow::Owned(member)))
    }
}
