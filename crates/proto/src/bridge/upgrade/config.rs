//! What a session is made from, and its bounds.

use std::time::Duration;

use bytes::Bytes;

use crate::bridge::action::MemberId;
use crate::bridge::envelope::LogLevel;
use crate::bridge::limits::Limits;
use crate::revision::Revision;

/// The most rounds of questions that one request of a client may lead to (protocol notes 5.3.1): after so many
/// the server has its answer, or there is none.
pub const MAX_ROUNDS: u32 = 10;
/// The longest `requestState` that is kept, in bytes of JSON text.
pub const MAX_STATE: usize = 1 << 20;
/// The pause before a round without questions; each further one in a row doubles it.
pub const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest such pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The most listens for resources; the next one takes their place.
pub const MAX_RESOURCE_LISTENS: usize = 4;
/// How long a listen may go without its acknowledgement, once it has said something else.
pub const ACKNOWLEDGEMENT: Duration = Duration::from_secs(10);
/// The most pages of `tools/list` that are read for the sake of a call.
pub const MAX_TOOL_PAGES: usize = 16;
/// How often a task is asked for, unless its server says so.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The least and the most of what a server may say about it.
pub const POLL_BOUNDS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];
/// How long the server may take to hear that a task is not wanted any more.
pub const ASIDE: Duration = Duration::from_secs(30);
/// The most calls of this kind at one time; beyond, servers are left to notice it themselves.
pub const MAX_ASIDE: usize = 32;
/// [`Config::retention`] unless configured: as long as streams of clients are kept.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(300);

/// What an [`Upgrading`](super::Upgrading) is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// The upstream's name, for `data.upstream` in errors of the gateway.
    pub upstream: String,
    /// The client session.
    pub member: MemberId,
    /// Bounds of what it may ask for at one time.
    pub limits: Limits,
    /// Whether calls have headers, and so need to know the schemas of tools.
    pub headers: bool,
    /// How long listens are kept for a client without a stream to be told on.
    pub retention: Duration,
    /// The log level of a client that has not set one. `None`: nothing is logged to it.
    pub log_level: Option<LogLevel>,
    /// Ids of questions begin after this number. A session that goes on elsewhere must not use those that its client
    /// was asked under before, and may answer yet. Below 2^52, as clients may hold numbers to be floating point.
    pub questions_after: u64,
    /// Chance, drawn for this session alone.
    pub seed: u128,
}

impl Config {
    /// The defaults for a client session in front of this upstream.
    #[must_use]
    pub fn new(upstream: impl Into<String>, member: MemberId, seed: u128) -> Self {
        Self {
            upstream: upstream.into(),
            member,
            limits: Limits::default(),
            headers: true,
            retention: DEFAULT_RETENTION,
            log_level: None,
            questions_after: 0,
            seed,
        }
    }
}

/// What both sides have said of themselves.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The revision of the client.
    pub revision: Revision,
    /// What the client has declared in `initialize`, a JSON object.
    pub declared: Bytes,
    /// What it calls itself, a JSON object.
    pub client_info: Option<Bytes>,
    /// The capabilities of the server, as `server/discover` says them, a JSON object.
    pub offered: Bytes,
}
