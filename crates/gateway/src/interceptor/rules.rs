//! Rules: conditions, and what is done when they hold.

mod action;
mod condition;

use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::Message;

use super::config::Wrong;
use super::subject::Fit;
use super::{Action, ChainConfig, Direction, Interceptor, Interest, MessageContext, Methods};
use action::Plan;
use condition::{Checks, Subject};

pub use action::RuleAction;
pub use condition::{Condition, MessageKind, Test};

/// Decides by rules. The first rule that holds decides alone; if none does, the message goes on.
/// Where it is not known (any more) what a response answers, a rule that may hold does its part, and
/// the next one is asked, too.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RulesConfig {
    /// The rules. At least one.
    pub rules: Vec<RuleConfig>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Name, for logs and as the `data.reason` of a refusal. Default: none.
    #[serde(default)]
    pub name: String,
    /// Rules of higher priority are asked first; those of one priority in their order. Default: 0.
    #[serde(default)]
    pub priority: i64,
    /// When it holds. Default: always.
    #[serde(default)]
    pub when: Condition,
    /// What is done then, in order: any number of `set` and `delay`, and at the end `continue` (which
    /// may be left out) or `reject`.
    pub then: Vec<RuleAction>,
}

pub(super) struct Rules {
    rules: Box<[Rule]>,
    interest: Interest,
}

/// A rule, taken apart once.
struct Rule {
    when: Checks,
    then: Plan,
}

impl Rules {
    pub(super) fn new(config: &RulesConfig, settings: &ChainConfig) -> Result<Self, Wrong> {
        if config.rules.is_empty() {
            return Err(Wrong::new("rules", "there is no rule"));
        }
        let mut rules = Vec::with_capacity(config.rules.len());
        for (index, rule) in config.rules.iter().enumerate() {
            let field = format!("rules[{index}]");
            let compiled = Rule {
                when: Checks::compile(&format!("{field}.when"), &rule.when)?,
                then: Plan::compile(&format!("{field}.then"), rule, settings)?,
            };
            rules.push((rule.priority, compiled));
        }
        // The sort is stable: order decides between equal priorities.
        rules.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let interest = |direction| {
            let concerned = config
                .rules
                .iter()
                .filter(|rule| rule.when.admits(direction));
            Methods::of_patterns(concerned.map(|rule| &*rule.when.methods))
        };
        Ok(Self {
            rules: rules.into_iter().map(|(_, rule)| rule).collect(),
            interest: Interest {
                to_upstream: interest(Direction::ToUpstream),
                to_client: interest(Direction::ToClient),
                ..Interest::default()
            },
        })
    }
}

impl Interceptor for Rules {
    fn name(&self) -> &str {
        "rules"
    }

    fn interest(&self) -> Interest {
        self.interest.clone()
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        let subject = Subject::new(cx, message);
        let mut unsure = Vec::new();
        for rule in &self.rules {
            match rule.when.fit(&subject) {
                Fit::No => {}
                // Of a rule that may hold, what it forbids and changes is done, and nothing follows
                // from what it lets pass: the next one is asked, too.
                Fit::Maybe if !rule.then.rejects() => unsure.push(&rule.then),
                Fit::Maybe | Fit::Yes => {
                    return Plan::carry_out(unsure.into_iter().chain([&rule.then]), message);
                }
            }
        }
        Plan::carry_out(unsure.into_iter(), message)
    }
}
