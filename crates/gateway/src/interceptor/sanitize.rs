//! Control and escape characters kept away from people's terminals and from models.

mod characters;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::{Kind, Message, code};
use thinpipe_proto::shown::Shown;

use super::config::Wrong;
use super::json::{self, Edit, Member, Value};
use super::redact::payload_of;
use super::{Action, Interceptor, Interest, MAX_NAME_SHOWN, MessageContext, Methods, Rejection};
use characters::Forbidden;

/// Refuses or strips control characters (C0 except tab, line feed and carriage return; DEL; C1) and
/// the terminal escape sequences that begin with them, in what servers send: definitions in lists,
/// results, requests and notifications. Names of members are looked at like strings.
///
/// In lists, a definition is left out; other messages are refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SanitizeConfig {
    /// What becomes of a text that has such characters. Default: refuse.
    pub mode: SanitizeMode,
    /// Also characters that cannot be seen: bidirectional overrides and marks, zero-width
    /// characters, tags. Some languages and emoji need a few of them. Default: false.
    pub hidden: bool,
    /// Looks at lists of tools, prompts, resources and templates, and at what a server says about
    /// itself (`initialize`, `server/discover`). Default: true.
    pub definitions: bool,
    /// Looks at results of other requests. Default: true.
    pub results: bool,
    /// Looks at errors, and at requests and notifications of the server. Default: true.
    pub messages: bool,
}

/// What becomes of a text with characters that are not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SanitizeMode {
    /// It is refused.
    #[default]
    Refuse,
    /// They are taken out, escape sequences as a whole. Names of members, and everything in
    /// definitions but titles, descriptions and instructions, are refused all the same: changed, they
    /// would mean something else to the server.
    Strip,
}

impl Default for SanitizeConfig {
    fn default() -> Self {
        Self {
            mode: SanitizeMode::Refuse,
            hidden: false,
            definitions: true,
            results: true,
            messages: true,
        }
    }
}

pub(super) struct Sanitize {
    config: SanitizeConfig,
    forbidden: Forbidden,
}

/// Cannot be stripped, or must not.
struct Unclean;

/// What strings of a part of a message may be stripped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strip {
    /// None: they name something.
    Nothing,
    /// Those that describe: a changed name or default would mean something else to the server.
    Descriptions,
    All,
}

impl Sanitize {
    pub(super) fn new(config: &SanitizeConfig) -> Result<Self, Wrong> {
        if !config.definitions && !config.results && !config.messages {
            let reason = "there is nothing to look at: set definitions, results or messages";
            return Err(Wrong::new("definitions", reason));
        }
        Ok(Self {
            forbidden: Forbidden {
                hidden: config.hidden,
            },
            config: config.clone(),
        })
    }

    /// The changes that make a message clean.
    fn clean<'a>(&self, cx: &MessageContext, message: &Message) -> Result<Vec<Edit<'a>>, Unclean> {
        let part = Part::of(cx, message.kind());
        let strip = match part {
            Part::Definition => Strip::Descriptions,
            // What may define something must not come to mean something else.
            Part::Unknown if self.config.definitions => Strip::Descriptions,
            Part::Unknown | Part::Result | Part::Message => Strip::All,
        };
        let mut edits = Vec::new();
        for member in Value::root(message.source()).members() {
            if !member.is_named(payload_of(message.kind())) {
                self.walk(member.value, Strip::Nothing, &mut edits)?;
                continue;
            }
            for member in member.value.members() {
                if strip == Strip::Descriptions && is_list(member, cx.method.as_deref()) {
                    self.list(cx, member.value, &mut edits);
                } else {
                    self.member(member, strip, &mut edits)?;
                }
            }
        }
        Ok(edits)
    }

    /// Strips the definitions in a list, and takes out those where that is not possible.
    fn list(&self, cx: &MessageContext, list: Value<'_>, edits: &mut Vec<Edit<'_>>) {
        let mut inside = Vec::new();
        let mut kept = Vec::new();
        let mut refused = 0;
        for entry in list.elements() {
            if self.walk(entry, Strip::Descriptions, &mut inside).is_ok() {
                kept.push(entry);
                continue;
            }
            refused += 1;
            let name = entry.all("name").next().and_then(Value::string);
            tracing::warn!(
                upstream = ?cx.upstream,
                method = ?cx.method,
                name = ?Shown::new(&*name.unwrap_or_default(), MAX_NAME_SHOWN),
                "a definition with control or escape characters was left out"
            );
        }
        if refused == 0 {
            edits.append(&mut inside);
        } else {
            edits.push(json::keep_edited(list, &kept, &inside));
        }
    }

    fn walk(
        &self,
        value: Value<'_>,
        strip: Strip,
        edits: &mut Vec<Edit<'_>>,
    ) -> Result<(), Unclean> {
        if !self.forbidden.possible_in(value.raw()) {
            return Ok(());
        }
        for member in value.members() {
            self.member(member, strip, edits)?;
        }
        for element in value.elements() {
            self.walk(element, strip, edits)?;
        }
        match value.string() {
            Some(text) if self.forbidden.are_in(&text) => {
                if strip != Strip::All || self.config.mode == SanitizeMode::Refuse {
                    return Err(Unclean);
                }
                let clean = self.forbidden.strip(&text);
                edits.push((value.range(), Cow::Owned(json::quoted(&clean))));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn member(
        &self,
        member: Member<'_>,
        strip: Strip,
        edits: &mut Vec<Edit<'_>>,
    ) -> Result<(), Unclean> {
        self.walk(member.name, Strip::Nothing, edits)?;
        let describes = || DESCRIPTIONS.iter().any(|name| member.is_named(name));
        let is_text = member.value.raw().first() == Some(&b'"');
        let strip = match strip {
            Strip::Descriptions if is_text && describes() => Strip::All,
            strip => strip,
        };
        self.walk(member.value, strip, edits)
    }
}

impl Interceptor for Sanitize {
    fn name(&self) -> &str {
        "sanitize"
    }

    fn interest(&self) -> Interest {
        Interest {
            to_client: if self.config.results || self.config.messages {
                Methods::All
            } else {
                Methods::Only(
                    DEFINITIONS
                        .iter()
                        .map(|(method, _)| method.to_string())
                        .collect(),
                )
            },
            ..Interest::default()
        }
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        let wanted = match Part::of(cx, message.kind()) {
            Part::Definition => self.config.definitions,
            Part::Result => self.config.results,
            Part::Unknown => self.config.definitions || self.config.results,
            Part::Message => self.config.messages,
        };
        if !wanted || !self.forbidden.possible_in(message.source()) {
            return Action::Continue;
        }
        match self.clean(cx, message) {
            Ok(edits) if edits.is_empty() => Action::Continue,
            Ok(edits) => Action::Replace(json::splice(message.source(), &edits)),
            Err(Unclean) => Action::Reject(Rejection {
                code: code::INTERNAL_ERROR,
                message: "The server's message has control or escape characters".into(),
                reason: "control_characters".into(),
            }),
        }
    }
}

/// What the settings tell apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Definition,
    Result,
    /// Either of them: what it answers is not known (any more).
    Unknown,
    Message,
}

impl Part {
    fn of(cx: &MessageContext, kind: Kind) -> Self {
        match (kind, cx.method.as_deref()) {
            (Kind::Response, Some(method)) if is_definition(method) => Self::Definition,
            (Kind::Response, Some(_)) => Self::Result,
            (Kind::Response, None) => Self::Unknown,
            _ => Self::Message,
        }
    }
}

/// The requests whose results define something, and the member of the result that is a list of
/// definitions.
const DEFINITIONS: [(&str, Option<&str>); 6] = [
    ("initialize", None),
    ("server/discover", None),
    ("tools/list", Some("tools")),
    ("prompts/list", Some("prompts")),
    ("resources/list", Some("resources")),
    ("resources/templates/list", Some("resourceTemplates")),
];

/// Members of definitions that are there to be read.
const DESCRIPTIONS: [&str; 3] = ["description", "title", "instructions"];

fn is_definition(method: &str) -> bool {
    DEFINITIONS.iter().any(|(name, _)| *name == method)
}

/// Whether a member of a result is the list of definitions that this method gives, or any such list if
/// the method is not known.
fn is_list(member: Member<'_>, method: Option<&str>) -> bool {
    let of_method = |name: &str| method.is_none_or(|method| method == name);
    let mut lists = DEFINITIONS.iter().filter(|(name, _)| of_method(name));
    lists.any(|(_, list)| list.is_some_and(|list| member.is_named(list)))
}
