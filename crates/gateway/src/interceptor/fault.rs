//! Delays and failures on purpose.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thinpipe_proto::rpc::{Kind, Message, code};
use tokio::time;

use super::config::Wrong;
use super::glob::Glob;
use super::subject::{Fit, method_fit, name_fit};
use super::{Action, ChainConfig, Direction, Interceptor, Interest, MessageContext};
use super::{Methods, Rejection, Way};

/// Delays messages and fails requests on purpose, for testing clients. Give `delay_ms`, `fail`, or
/// both (then the failure comes after the delay).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultConfig {
    /// Which way the messages go. Default: to_upstream.
    pub direction: Way,
    /// Methods (patterns with `*`); a response has the method of its request, and one whose request
    /// is not known any more has every method. Default: `["tools/call"]`.
    pub methods: Vec<String>,
    /// Tools, prompts or resources (patterns with `*`). Default: all, also messages that name none.
    pub names: Vec<String>,
    /// Of the messages above, every how many-th is meant: 1 is each, 3 is the third, sixth and so
    /// on; at least 1. Default: 1.
    pub every: u64,
    /// How probable it is that such a message is hit, 0 to 1. Default: 1.
    pub probability: f64,
    /// Seed of the dice, for runs that can be repeated. Default: another one at each start.
    pub seed: Option<u64>,
    /// How long the message is held, in milliseconds; less than the chain's `timeout_ms`. Default: 0.
    pub delay_ms: u64,
    /// If given: between `delay_ms` and this, evenly distributed, in milliseconds.
    pub delay_max_ms: Option<u64>,
    /// The error that answers the request or replaces the response; a notification is dropped.
    /// Default: none.
    pub fail: Option<FailConfig>,
}

/// The error of a failure on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailConfig {
    /// JSON-RPC error code. Default: -32603.
    pub code: i32,
    /// Text of the error. Default: `Failed on purpose`.
    pub message: String,
}

impl Default for FaultConfig {
    fn default() -> Self {
        Self {
            direction: Way::ToUpstream,
            methods: vec!["tools/call".into()],
            names: Vec::new(),
            every: 1,
            probability: 1.0,
            seed: None,
            delay_ms: 0,
            delay_max_ms: None,
            fail: None,
        }
    }
}

impl Default for FailConfig {
    fn default() -> Self {
        Self {
            code: code::INTERNAL_ERROR,
            message: "Failed on purpose".into(),
        }
    }
}

pub(super) struct Fault {
    config: FaultConfig,
    methods: Box<[Glob]>,
    names: Box<[Glob]>,
    matched: AtomicU64,
    dice: Dice,
}

impl Fault {
    pub(super) fn new(config: &FaultConfig, settings: &ChainConfig) -> Result<Self, Wrong> {
        if config.every == 0 {
            return Err(Wrong::new("every", "it has to be at least 1"));
        }
        if !(0.0..=1.0).contains(&config.probability) {
            return Err(Wrong::new("probability", "it has to be between 0 and 1"));
        }
        let longest = config.delay_max_ms.unwrap_or(config.delay_ms);
        if longest < config.delay_ms {
            return Err(Wrong::new("delay_max_ms", "it has to be at least delay_ms"));
        }
        if longest >= settings.timeout_ms {
            let field = if config.delay_max_ms.is_some() {
                "delay_max_ms"
            } else {
                "delay_ms"
            };
            let reason = format!(
                "it has to be less than the chain's timeout_ms, which is {}",
                settings.timeout_ms
            );
            return Err(Wrong::new(field, reason));
        }
        if longest == 0 && config.fail.is_none() {
            return Err(Wrong::new(
                "delay_ms",
                "there is neither a delay nor a failure",
            ));
        }
        let seed = config
            .seed
            .unwrap_or_else(|| RandomState::new().hash_one(0));
        Ok(Self {
            methods: Glob::parse_all("methods", &config.methods)?,
            names: Glob::parse_all("names", &config.names)?,
            config: config.clone(),
            matched: AtomicU64::new(0),
            dice: Dice(AtomicU64::new(seed)),
        })
    }

    fn hits(&self, cx: &MessageContext, kind: Kind) -> bool {
        if !self.config.direction.admits(cx.direction)
            || method_fit(&self.methods, cx, kind) == Fit::No
            || name_fit(&self.names, cx, kind) == Fit::No
        {
            return false;
        }
        let number = self.matched.fetch_add(1, Relaxed) + 1;
        number.is_multiple_of(self.config.every) && self.dice.fraction() < self.config.probability
    }

    fn delay(&self) -> Duration {
        let least = self.config.delay_ms;
        let spread = self.config.delay_max_ms.map_or(0, |most| most - least);
        let extra = match spread.checked_add(1) {
            Some(sides) => self.dice.roll() % sides,
            None => self.dice.roll(),
        };
        Duration::from_millis(least + extra)
    }
}

impl Interceptor for Fault {
    fn name(&self) -> &str {
        "fault"
    }

    fn interest(&self) -> Interest {
        let methods = |direction| match self.config.direction.admits(direction) {
            true => Methods::of_patterns([&*self.config.methods].into_iter()),
            false => Methods::None,
        };
        Interest {
            to_upstream: methods(Direction::ToUpstream),
            to_client: methods(Direction::ToClient),
            ..Interest::default()
        }
    }

    fn intercept(&self, cx: &MessageContext, message: &Message) -> Action {
        if message.kind() == Kind::ErrorResponse || !self.hits(cx, message.kind()) {
            return Action::Continue;
        }
        let outcome = match &self.config.fail {
            None => Action::Continue,
            Some(fail) => Action::Reject(Rejection {
                code: fail.code,
                message: fail.message.clone(),
                reason: "fault_injected".into(),
            }),
        };
        let delay = self.delay();
        if delay.is_zero() {
            return outcome;
        }
        Action::Later(Box::pin(async move {
            time::sleep(delay).await;
            outcome
        }))
    }
}

/// SplitMix64: a counter that is scrambled, so that tasks can share it without a lock.
struct Dice(AtomicU64);

impl Dice {
    fn roll(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0, less than 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
    fn fraction(&self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }
}
