//! Tool definitions pinned by hash.

mod definition;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::{Kind, Message, code};
use thinpipe_proto::shown::Shown;

use super::config::Wrong;
use super::json::{self, Edit, Value};
use super::{
    Action, Direction, Interceptor, Interest, MAX_NAME_SHOWN, MessageContext, Methods, Rejection,
};
use crate::sync::lock;
use definition::Hash;

pub use definition::definition_hash;

/// Notices when a server changes the definition of a tool after it was looked at ("rug pull"), and
/// when a list names a tool twice (the second shadows the first in some clients).
///
/// A tool that is not pinned here is pinned as it is first seen, for the life of the process. A tool
/// that is refused is left out of lists, and calls to it are answered with `-32602`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PinConfig {
    /// Hashes of definitions by tool name, as [`definition_hash`] computes them: `sha256:` and 64
    /// hexadecimal digits (the prefix may be left out). Default: none.
    pub tools: BTreeMap<String, String>,
    /// What becomes of a tool whose definition is not the pinned one, and of one that a list names a
    /// second time. Default: refuse.
    pub on_change: OnChange,
    /// What becomes of a tool that `tools` does not name. Default: allow.
    pub on_unknown: OnUnknown,
}

/// What becomes of a tool whose definition changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// A warning is logged, and it passes.
    Warn,
    /// A warning is logged, and it is refused until it is again what was pinned.
    #[default]
    Refuse,
}

/// What becomes of a tool that the configuration does not pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// It is pinned as it is first seen.
    #[default]
    Allow,
    /// The same, and a warning is logged.
    Warn,
    /// It is refused. Needs at least one tool in `tools`.
    Refuse,
}

/// Tools pinned at first sight, for one chain. A server with more is refused those beyond (or, with
/// `on_change: warn`, has them pass with a warning), so that it cannot fill the memory.
const MAX_PINS: usize = 10_000;

pub(super) struct Pin {
    configured: HashMap<Hash, Hash>,
    on_change: OnChange,
    on_unknown: OnUnknown,
    /// By the hash of the name: names are as long as a server likes.
    seen: Mutex<HashMap<Hash, Seen>>,
}

/// What is known of a tool.
#[derive(Clone, Copy)]
struct Seen {
    pinned: Hash,
    /// What it was when it was last listed; `None` if that could not be hashed.
    last: Option<Hash>,
}

/// What is to be said about a tool in a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finding {
    AsPinned,
    First,
    Unknown,
    Changed,
    /// Changed, and reported when it was listed before.
    StillChanged,
    Duplicate,
    Unnamed,
    TooMany,
}

impl Pin {
    pub(super) fn new(config: &PinConfig) -> Result<Self, Wrong> {
        if config.on_unknown == OnUnknown::Refuse && config.tools.is_empty() {
            let reason = "it refuses every tool, since `tools` is empty";
            return Err(Wrong::new("on_unknown", reason));
        }
        let pin = |(name, hash): (&String, &String)| {
            let wrong = || {
                Wrong::new(
                    format!("tools.{name}"),
                    "not sha256: and 64 hexadecimal digits",
                )
            };
            Ok((
                Hash::of(name.as_bytes()),
                Hash::parse(hash).ok_or_else(wrong)?,
            ))
        };
        Ok(Self {
            configured: config.tools.iter().map(pin).collect::<Result<_, _>>()?,
            on_change: config.on_change,
            on_unknown: config.on_unknown,
            seen: Mutex::default(),
        })
    }

    /// Looks at all tools of a list; gives the list without those that are refused.
    fn list<'a>(&self, cx: &MessageContext, list: Value<'_>) -> Option<Edit<'a>> {
        let mut names = HashSet::new();
        let mut kept = Vec::new();
        let mut refused = false;
        for tool in list.elements() {
            let mut named = tool.all("name");
            let (name, again) = (named.next().and_then(Value::string), named.next());
            let hash = Hash::of_definition(tool);
            let finding = match (&name, again) {
                (Some(name), None) => {
                    let key = Hash::of(name.as_bytes());
                    match names.insert(key) {
                        true => self.judge(key, hash),
                        false => Finding::Duplicate,
                    }
                }
                _ => Finding::Unnamed,
            };
            self.report(cx, name.as_deref().unwrap_or_default(), hash, finding);
            if self.refuses(finding) {
                refused = true;
            } else {
                kept.push(tool);
            }
        }
        refused.then(|| json::keep(list, &kept))
    }

    /// Compares a definition with its pin; pins it if it has none.
    fn judge(&self, name: Hash, hash: Option<Hash>) -> Finding {
        let mut seen = lock(&self.seen);
        let room = seen.len() < MAX_PINS + self.configured.len();
        let configured = self.configured.get(&name).copied();
        if configured.is_none() && self.on_unknown == OnUnknown::Refuse {
            return Finding::Unknown;
        }
        let Some(known) = seen.get_mut(&name) else {
            // What cannot be hashed cannot be pinned either.
            let Some(pinned) = configured.or(hash) else {
                return Finding::Changed;
            };
            if !room {
                return Finding::TooMany;
            }
            seen.insert(name, Seen { pinned, last: hash });
            return match configured {
                None => Finding::First,
                Some(_) if hash == Some(pinned) => Finding::AsPinned,
                Some(_) => Finding::Changed,
            };
        };
        let before = std::mem::replace(&mut known.last, hash);
        if hash == Some(known.pinned) {
            Finding::AsPinned
        } else if hash == before {
            Finding::StillChanged
        } else {
            Finding::Changed
        }
    }

    fn refuses(&self, finding: Finding) -> bool {
        match finding {
            Finding::AsPinned | Finding::First => false,
            Finding::Unknown => true,
            _ => self.on_change == OnChange::Refuse,
        }
    }

    fn report(&self, cx: &MessageContext, tool: &str, hash: Option<Hash>, finding: Finding) {
        let hash = hash.map_or_else(String::new, |hash| hash.to_string());
        let refused = self.refuses(finding);
        let tool = Shown::new(tool, MAX_NAME_SHOWN);
        let what = match finding {
            Finding::AsPinned | Finding::StillChanged | Finding::Unknown => return,
            Finding::First if self.on_unknown == OnUnknown::Warn => "a tool that is not pinned",
            Finding::First => {
                tracing::debug!(upstream = ?cx.upstream, ?tool, hash, "a tool was pinned as first seen");
                return;
            }
            Finding::Changed => "the definition of a tool is not the pinned one",
            Finding::Duplicate => "a list names a tool twice",
            Finding::Unnamed => "a list has a tool without a name, or with two",
            Finding::TooMany => "a server has more tools than can be pinned",
        };
        tracing::warn!(upstream = ?cx.upstream, ?tool, hash, refused, "{what}");
    }

    /// Why a call to a tool is refused; `None` if it is not.
    fn refuses_call(&self, name: &str) -> Option<&'static str> {
        let name = Hash::of(name.as_bytes());
        if self.on_unknown == OnUnknown::Refuse && !self.configured.contains_key(&name) {
            return Some("tool_unknown");
        }
        let seen = lock(&self.seen);
        let known = seen.get(&name)?;
        let changed = known.last != Some(known.pinned);
        (changed && self.on_change == OnChange::Refuse).then_some("tool_changed")
    }
}

impl Interceptor for Pin {
    fn name(&self) -> &str {
        "pin"
    }

    fn interest(&self) -> Interest {
        let refuses = self.on_change == OnChange::Refuse || self.on_unknown == OnUnknown::Refuse;
        Interest {
            to_upstream: match refuses {
                true => Methods::Only(vec!["tools/call".into()]),
                false => Methods::None,
            },
            to_client: Methods::Only(vec!["tools/list".into()]),
            ..Interest::default()
        }
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        match (cx.direction, message.kind()) {
            (Direction::ToUpstream, Kind::Request) => {
                let from_body;
                let name = match &cx.name {
                    Some(name) => &**name,
                    None => {
                        from_body = message.param_str("name").unwrap_or_default();
                        &from_body
                    }
                };
                match self.refuses_call(name) {
                    None => Action::Continue,
                    Some(reason) => Action::Reject(Rejection {
                        code: code::INVALID_PARAMS,
                        message: format!("Unknown tool: {name}"),
                        reason: reason.into(),
                    }),
                }
            }
            (Direction::ToClient, Kind::Response) => {
                let mut edits = Vec::new();
                for result in Value::root(message.source()).all("result") {
                    edits.extend(result.all("tools").filter_map(|tools| self.list(cx, tools)));
                }
                if edits.is_empty() {
                    Action::Continue
                } else {
                    Action::Replace(json::splice(message.source(), &edits))
                }
            }
            _ => Action::Continue,
        }
    }
}
